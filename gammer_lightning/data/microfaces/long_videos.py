"""Long videos of microfaces, in CAS(ME)2's layout, with the truth of every interval.

Layout of the folder::

    rawpic/s01/01_0101long1/img1.jpg, ...     frames, as in CAS(ME)2; a subject's second video shows no expression
    CAS(ME)^2code_final-microfaces.xlsx       annotation, as in CAS(ME)2: what coders say
    truth/sub01/face.png, face.json           neutral face, as in `generate`
    truth/s01/01_0101long1.json               the true intervals, of speech as well
    truth/s01/01_0101long1.npz                the motion of every frame
    microfaces-long.json                      what made it
"""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from gammer_lightning.data.clips.long_datasets import GENERATED
from gammer_lightning.data.microfaces import streams
from gammer_lightning.data.microfaces.acting import draw_person
from gammer_lightning.data.microfaces.annotation import CODER_ERRORS
from gammer_lightning.data.microfaces.camera import encoded_real, recorded_motion
from gammer_lightning.data.microfaces.facial_actions import REAL_COLUMNS
from gammer_lightning.data.microfaces.generate import FORMATS, cast, is_cast, made_of, photos_of
from gammer_lightning.data.microfaces.long_acting import Event, LongPerformance, perform_long
from gammer_lightning.data.microfaces.portraits import Photo
from gammer_lightning.data.microfaces.spec import MicrofacesSpec
from gammer_lightning.data.microfaces.truth import load_subject
from gammer_lightning.data.microfaces.workbook import write_sheets
from gammer_lightning.data.resumable import JPEG_END, claimed, ends_with, finish, process_map
from gammer_lightning.errors import GammerError
from gammer_lightning.files import disk_errors, read_cached_json, read_npz, replacing, write_json

MANIFEST = f"{GENERATED}.json"
WORKBOOK = "CAS(ME)^2code_final-microfaces.xlsx"
CONTENTS = ("rawpic", "truth", WORKBOOK)
FORMAT = 1
MAX_FRAMES = 200_000
"""Most frames of one video: their motion is drawn at once."""
MAX_TRUTH_BYTES = 2**26
"""Size of the motion of so many frames, and some more."""
MINUTES = (0.1, 60)
# CAS(ME)2's words, by classes of microfaces.
EMOTIONS = {"happiness": "positive", "surprise": "surprise", "disgust": "negative"}
SELF_REPORTS = {"happiness": "happiness", "surprise": "surprise", "disgust": "disgust"}
OTHERS = "others"


@dataclass(frozen=True)
class LongSpec:
    """What long videos to synthesize.

    Args:
        faces: Subjects, size, frames a second, seed, portraits and strengths of nuisances; of microfaces 2.
        minutes: Length of each subject's video with expressions.
        still_minutes: Length of each subject's video without any; 0 makes none.

    Raises:
        GammerError: If a value is out of range, or the faces are of microfaces 1.
    """

    faces: MicrofacesSpec
    minutes: float = 2.0
    still_minutes: float = 1.0

    def __post_init__(self):
        if self.faces.benchmark != 2:
            raise GammerError("long videos of microfaces 1", "they are acted as microfaces 2 is", "add --benchmark 2")
        rule = f"a video lasts from {MINUTES[0]:g} to {MINUTES[1]:g} minutes; --still-minutes 0 makes none"
        for name, minutes in (("--minutes", self.minutes), ("--still-minutes", self.still_minutes)):
            is_none = name == "--still-minutes" and minutes == 0
            if not (is_none or MINUTES[0] <= minutes <= MINUTES[1]):
                raise GammerError(
                    f"{name} {minutes:g}",
                    rule,
                    f"e.g. {name} 2",
                )
            if minutes * 60 * self.faces.fps > MAX_FRAMES:
                raise GammerError(
                    f"{name} {minutes:g} at {self.faces.fps} frames a second are {minutes * 60 * self.faces.fps:,.0f}",
                    f"a video has at most {MAX_FRAMES:,} frames",
                    "make it shorter, or take fewer frames a second: --fps 30",
                )


@dataclass(frozen=True)
class _Video:
    """One video to make: subject and number count from 1."""

    subject: int
    number: int
    minutes: float
    is_still: bool

    @property
    def title(self) -> str:
        return f"long{self.number}"

    @property
    def code(self) -> str:
        return f"01{self.number:02d}"

    @property
    def place(self) -> str:
        """Folder below ``rawpic/`` and ``truth/``."""
        return f"s{self.subject:02d}/{self.subject:02d}_{self.code}{self.title}"


def synthesize_long(out: Path, spec: LongSpec, workers: int = 0) -> int:
    """Write long videos; a run that was stopped goes on at the frame where it stopped, to the same bytes.

    Args:
        out: Folder to write; new, empty, or of the same spec.
        spec: What to synthesize.
        workers: Processes; 0 or 1 works in this one. The bytes do not depend on it.

    Returns:
        How many frames were rendered by this run.

    Raises:
        GammerError: If the folder holds something else, the portraits do not suffice, or the disk is full.
    """
    photos = photos_of(spec.faces)
    with (
        disk_errors(out),
        claimed(out / MANIFEST, _manifest(spec, photos), CONTENTS) as is_ours,
        process_map(workers, partial(cv2.setNumThreads, 1)) as run,
    ):
        if not is_ours:
            shutil.rmtree(out / "rawpic", ignore_errors=True)  # whose frames they are is not known
        subjects = range(1, spec.faces.subjects + 1)
        uncast = [subject for subject in subjects if not is_ours or not is_cast(out, spec.faces, subject)]
        finish(run(partial(cast, out, spec.faces, photos), uncast), len(uncast), "subjects")
        load_subject.cache_clear()
        videos = _videos(spec)
        with_bar = workers <= 1
        films = run(partial(_film, out, spec, with_bar), videos)
        rendered = sum(tqdm(films, "videos", len(videos), disable=with_bar))
        write_sheets(out / WORKBOOK, _sheets(out, spec, videos))
    return rendered


def _manifest(spec: LongSpec, photos: list[Photo]) -> dict:
    faces = spec.faces
    settings = {name: getattr(faces, name) for name in ("subjects", "width", "height", "fps", "seed")}
    return {
        GENERATED: FORMAT,
        "microfaces": FORMATS[2],
        **settings,
        "minutes": spec.minutes,
        "still_minutes": spec.still_minutes,
        "strengths": asdict(faces.realism),
        **made_of(faces, photos),
    }


def _videos(spec: LongSpec) -> list[_Video]:
    videos = []
    for subject in range(1, spec.faces.subjects + 1):
        videos.append(_Video(subject, 1, spec.minutes, False))
        if spec.still_minutes:
            videos.append(_Video(subject, 2, spec.still_minutes, True))
    return videos


def _film(out: Path, spec: LongSpec, with_bar: bool, video: _Video) -> int:
    """Act a video, keep its truth, write its frames, and return how many were not there yet."""
    faces = spec.faces
    count = round(video.minutes * 60 * faces.fps)
    folder = out / "rawpic" / video.place
    truth = out / "truth" / f"{video.place}.json"
    start = _whole_frames(folder, count)
    if start == count and _is_kept(truth, count):
        return 0
    subject = load_subject(out, f"{video.subject:02d}")
    person = draw_person(faces.realism, np.random.default_rng((faces.seed, streams.PERSON, video.subject)))
    rng_of = partial(_stream, faces.seed, video)
    seconds = video.minutes * 60
    acted = perform_long(seconds, video.is_still, person, subject, faces.fps, faces.realism, rng_of)
    _save(truth, acted)
    folder.mkdir(parents=True, exist_ok=True)
    light, noise = rng_of(streams.LIGHT), rng_of(streams.NOISE)
    frames = recorded_motion(acted.coefficients, subject, faces.fps, faces.realism, light, noise, start)
    numbers = range(start + 1, count + 1)
    written = _write_frames(folder, numbers, frames, faces.realism.jpeg)
    finish(written, len(numbers) if with_bar else 0, video.place)
    return count - start


def _write_frames(folder: Path, numbers: range, frames: Iterator[np.ndarray], jpeg: float) -> Iterator[int]:
    """Write frames and yield each number; cut files are seen by their ends when the run is taken up again."""
    for number, frame in zip(numbers, frames, strict=True):
        (folder / f"img{number}.jpg").write_bytes(encoded_real(frame, jpeg))
        yield number


def _stream(seed: int, video: _Video, stream: int, *further: int) -> np.random.Generator:
    return np.random.default_rng((seed, stream, video.subject, video.number, *further))


def _whole_frames(folder: Path, count: int) -> int:
    """Return how many frames are there from the first on, without a gap or a file that was cut off."""
    for number in range(1, count + 1):
        if not ends_with(folder / f"img{number}.jpg", JPEG_END):
            return number - 1
    return count


def _save(path: Path, acted: LongPerformance) -> None:
    with replacing(path.with_suffix(".npz")) as temporary:
        np.savez_compressed(temporary, coefficients=acted.coefficients)
    write_json(path, {"intervals": [asdict(event) for event in acted.events]})


def _is_kept(path: Path, count: int) -> bool:
    """Return whether the truth of a video of so many frames is there and whole."""
    motion = path.with_suffix(".npz")
    if not motion.is_file() or _read_events(path) is None:
        return False
    try:
        coefficients = read_npz(motion, MAX_TRUTH_BYTES).get("coefficients")
    except GammerError:
        return False
    return coefficients is not None and coefficients.shape == (count, len(REAL_COLUMNS))


def _read_events(path: Path) -> list[Event] | None:
    """Return the true intervals of a video, or None where there is no whole file."""
    record = read_cached_json(path)
    try:
        return [Event(**fields) for fields in record["intervals"]]
    except (KeyError, TypeError):
        return None


def true_intervals(root: Path, place: str) -> list[Event]:
    """Return the true intervals of a long video of microfaces, of speech as well.

    Args:
        root: The folder.
        place: Of the video, e.g. ``"s01/01_0101long1"``.

    Raises:
        GammerError: If the folder has no such video, or its truth is damaged.
    """
    path = Path(root) / "truth" / f"{place}.json"
    events = _read_events(path)
    if events is None:
        raise GammerError(
            f"no whole {path}",
            "the truth of a long video is as `gammer data synthesize --long` wrote it",
            "run the command again that made the folder: it makes again what is damaged",
        )
    return events


def _sheets(out: Path, spec: LongSpec, videos: list[_Video]) -> list[list[tuple]]:
    """Return the three sheets of CAS(ME)2's workbook: intervals, subjects, names of videos; none has a header."""
    intervals = []
    for video in videos:
        count = round(video.minutes * 60 * spec.faces.fps)
        expressions = [event for event in true_intervals(out, video.place) if event.is_expression]
        for number, event in enumerate(expressions, 1):
            rng = _stream(spec.faces.seed, video, streams.CODERS, number)
            onset, apex, offset = _coded(event, count, spec, rng)
            emotion = EMOTIONS.get(event.emotion, OTHERS)
            report = SELF_REPORTS.get(event.emotion, OTHERS)
            kind = f"{event.kind}-expression"
            name = f"{video.title}_{number}"
            intervals.append((video.subject, name, onset, apex, offset, event.action_units, emotion, kind, report))
    subjects = [(number, f"{number:02d}", number) for number in range(1, spec.faces.subjects + 1)]
    titles = {video.code: video.title for video in videos}
    return [intervals, subjects, list(titles.items())]


def _coded(event: Event, count: int, spec: LongSpec, rng: np.random.Generator) -> tuple[int, int, int]:
    """Return onset, apex and offset as the mean of two coders, in order and within the video."""
    deviations = spec.faces.realism.coders * spec.faces.fps * np.array(CODER_ERRORS) / np.sqrt(2)
    errors = np.rint(deviations * rng.standard_normal(3)).astype(int).tolist()
    onset = int(np.clip(event.onset + errors[0], 1, count - 2))
    apex = int(np.clip(event.apex + errors[1], onset + 1, count - 1))
    return onset, apex, int(np.clip(event.offset + errors[2], apex + 1, count))
