"""microfaces, the embedded benchmark: synthetic micro-expression clips in CASME II's layout.

A data set is a folder:
    Cropped/subXX/EPYY_ZZ/reg_imgN.jpg   frames, as in CASME II
    CASME2-coding-microfaces.xlsx        annotation, as in CASME II
    truth/subXX/face.png, face.json      neutral face at three times the frame's size, landmarks, origin
    truth/subXX/EPYY_ZZ.npz              the motion of every frame, from which any frame can be rendered again
    microfaces.json                      what made it

Its faces are made up of two photographs unless a folder of portraits is given: numbers measured on it say
how the parts work together, not how well micro-expressions of real people are recognized.
"""

import itertools
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from openpyxl import Workbook
from PIL import Image, ImageDraw

from gammer_lightning.data.clips.casme2 import read_casme2
from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.data.microfaces import portraits
from gammer_lightning.data.microfaces.facial_actions import EYES, PROTOTYPES, Performance, perform
from gammer_lightning.data.microfaces.portraits import Framing, Photo
from gammer_lightning.data.microfaces.truth import Subject, load_performance, load_subject, read_face, render_pair
from gammer_lightning.data.resumable import JPEG_END, claimed, ends_with, finish, process_map
from gammer_lightning.errors import GammerError
from gammer_lightning.files import content_hash, disk_errors, replacing

VERSION = 1  # of the bytes: raise it when the same spec gives other files
CLASSES = tuple(PROTOTYPES)
WORKBOOK = "CASME2-coding-microfaces.xlsx"
MANIFEST = "microfaces.json"
CONTACT_SHEET = "contact_sheet.png"
CONTENTS = ("Cropped", "truth", WORKBOOK, CONTACT_SHEET)
NUMBERS = ("OnsetFrame", "ApexFrame", "OffsetFrame")
HEADER = ("Subject", "Filename", "", *NUMBERS, "", "Action Units", "Estimated Emotion")
LARGEST_ALPHA = 20  # up to which the field is kept one-to-one outside the eyes
JPEG_QUALITY = 90
RANGES = {
    "subjects": (1, 1000),
    "clips_per_class": (1, 1000),
    "width": (80, 1920),
    "height": (80, 1920),
    "fps": (20, 2000),
    "seed": (0, 2**32 - 1),
}
# Streams of random numbers, each seeded by (seed, stream, subject, ...).
CAST, ORDER, SCRIPT, NOISE = 1, 2, 3, 4


@dataclass(frozen=True)
class MicrofacesSpec:
    """What to synthesize.

    Args:
        subjects: Number of subjects.
        clips_per_class: Clips per subject and class.
        width: Width of a frame in px.
        height: Height of a frame in px.
        fps: Frames a second.
        seed: Everything random follows from it.
        portraits: Folder of frontal photographs, one subject each; None makes pseudo-subjects of the two
            embedded portraits.

    Raises:
        GammerError: If a value is out of range.
    """

    subjects: int = 12
    clips_per_class: int = 3
    width: int = 280
    height: int = 340
    fps: int = 200
    seed: int = 0
    portraits: Path | None = None

    def __post_init__(self):
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise GammerError(
                    f"{name.replace('_', ' ')} is {getattr(self, name)}",
                    f"it is a whole number from {least} to {most}",
                    "give another one; gammer data synthesize --help lists the options",
                )

    @property
    def framing(self) -> Framing:
        """Where the face sits in a frame."""
        return Framing(self.width, self.height)


@dataclass(frozen=True)
class Script:
    """One clip to act: subject and take count from 1 and 0, names are as in CASME II."""

    subject: int
    take: int
    emotion: str

    @property
    def place(self) -> str:
        """Folder of the clip below ``Cropped/`` and ``truth/``."""
        return f"sub{self.subject:02d}/{self.name}"

    @property
    def name(self) -> str:
        """Name of the clip: episode and take."""
        return f"EP{self.take // 2 + 1:02d}_{self.take % 2 + 1:02d}"


def synthesize(out: Path, spec: MicrofacesSpec, workers: int = 0) -> list[Clip]:
    """Write the benchmark; a run that was stopped goes on where it stopped, to the same bytes.

    Args:
        out: Folder to write; new, empty, or of the same spec.
        spec: What to synthesize.
        workers: Processes; 0 or 1 works in this one. The bytes do not depend on it.

    Returns:
        The clips, read back from disk.

    Raises:
        GammerError: If the folder holds something else, the portraits do not suffice, or the disk is full.
    """
    photos = _photos(spec)
    with (
        disk_errors(out),
        claimed(out / MANIFEST, _manifest(spec, photos), CONTENTS) as is_ours,
        process_map(workers, partial(cv2.setNumThreads, 1)) as run,
    ):
        subjects = range(1, spec.subjects + 1)
        uncast = [subject for subject in subjects if not is_ours or not _is_cast(out, spec, subject)]
        finish(run(partial(_cast, out, spec, photos), uncast), len(uncast), "subjects")
        load_subject.cache_clear()
        scripts = _scripts(spec)
        unfilmed = [script for script in scripts if not is_ours or not _is_filmed(out, spec, script)]
        finish(run(partial(_film, out, spec), unfilmed), len(unfilmed), "clips")
        _write_workbook(out, scripts)
    return read_casme2(out, "microfaces")


def _photos(spec: MicrofacesSpec) -> list[Photo]:
    if spec.portraits is None:
        return portraits.embedded_photos()
    return portraits.folder_photos(Path(spec.portraits), spec.subjects, spec.seed, spec.framing)


def _manifest(spec: MicrofacesSpec, photos: list[Photo]) -> dict:
    settings = {name: value for name, value in asdict(spec).items() if name != "portraits"}
    pseudo = "pseudo-subjects morphed from two photographs"
    faces = pseudo if spec.portraits is None else "one photograph per subject"
    photographs = {photo.name: content_hash(photo.pixels) for photo in photos}
    return {"microfaces": VERSION, **settings, "faces": faces, "photographs": photographs}


def _truth(out: Path, subject: int) -> Path:
    return out / "truth" / f"sub{subject:02d}"


def _is_cast(out: Path, spec: MicrofacesSpec, subject: int) -> bool:
    try:
        framing, _, _ = read_face(out, f"{subject:02d}")
    except GammerError:
        return False
    return framing == spec.framing


def _cast(out: Path, spec: MicrofacesSpec, photos: list[Photo], subject: int) -> None:
    """Make a subject's neutral face and write it to ``truth/``."""
    face, landmarks = _own_face(spec, photos[subject - 1]) if spec.portraits else _made_up(spec, photos, subject)
    names = [photos[subject - 1].name] if spec.portraits else [photo.name for photo in photos]
    record = {"photographs": names, "size": [spec.width, spec.height], "landmarks": landmarks.tolist()}
    with replacing(_truth(out, subject) / "face.png") as temporary:
        Image.fromarray(face).save(temporary)
    with replacing(_truth(out, subject) / "face.json") as temporary:
        temporary.write_text(json.dumps(record) + "\n")


def _own_face(spec: MicrofacesSpec, photo: Photo) -> tuple[np.ndarray, np.ndarray]:
    face = portraits.neutral_face(photo, spec.framing)
    return face, portraits.detect(portraits.visible(face, spec.framing))[0]


def _made_up(spec: MicrofacesSpec, photos: list[Photo], subject: int) -> tuple[np.ndarray, np.ndarray]:
    for attempt in range(10):
        rng = np.random.default_rng((spec.seed, CAST, subject, attempt))
        face = portraits.pseudo_face(photos, spec.framing, rng)
        found = portraits.detect(portraits.visible(face, spec.framing))
        if len(found) == 1:
            return face, found[0]
    raise GammerError(
        f"no face found in frames of {spec.width}x{spec.height} px",
        "dlib must detect every subject; it needs faces of about 80 px",
        "choose larger frames: --size 280x340",
    )


def _scripts(spec: MicrofacesSpec) -> list[Script]:
    """Every clip of every subject, its classes in random order."""
    scripts = []
    for subject in range(1, spec.subjects + 1):
        rng = np.random.default_rng((spec.seed, ORDER, subject))
        emotions = rng.permutation(CLASSES * spec.clips_per_class).tolist()
        scripts += [Script(subject, take, emotion) for take, emotion in enumerate(emotions)]
    return scripts


def _is_filmed(out: Path, spec: MicrofacesSpec, script: Script) -> bool:
    """Return whether a clip's truth is that of its script, and its frames are whole files."""
    try:
        stored = load_performance(out, script.place)
    except GammerError:
        return False
    # The coefficients alone depend on more than the script: on what folds in the subject's face.
    acted = replace(_acted(spec, script), coefficients=stored.coefficients)
    names = {_frame_name(stored.first + index) for index in range(len(stored.coefficients))}
    frames = out / "Cropped" / script.place
    return (
        vars(acted) == vars(stored)
        and frames.is_dir()
        and set(os.listdir(frames)) == names
        and all(ends_with(frames / name, JPEG_END) for name in names)
    )


def _acted(spec: MicrofacesSpec, script: Script) -> Performance:
    rng = np.random.default_rng((spec.seed, SCRIPT, script.subject, script.take))
    return perform(script.emotion, spec.fps, rng)


def _frame_name(number: int) -> str:
    return f"reg_img{number}.jpg"


def _film(out: Path, spec: MicrofacesSpec, script: Script) -> None:
    """Act a clip, keep its truth, and write its frames as one folder that appears when it is complete."""
    subject = load_subject(out, f"{script.subject:02d}")
    performance = keep_one_to_one(_acted(spec, script), subject)
    _save_performance(out / "truth" / f"{script.place}.npz", performance)
    folder = out / "Cropped" / script.place
    shutil.rmtree(folder, ignore_errors=True)
    with replacing(folder, sync=False) as temporary:  # taken up again, cut files are seen by their ends
        temporary.mkdir()
        rng = np.random.default_rng((spec.seed, NOISE, script.subject, script.take))
        for index, frame in enumerate(_recorded(performance, subject, spec.fps, rng)):
            encoded = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
            (temporary / _frame_name(performance.first + index)).write_bytes(encoded.tobytes())


def keep_one_to_one(performance: Performance, subject: Subject) -> Performance:
    """Make all motion but blinks and gaze smaller until nothing folds at `LARGEST_ALPHA`."""
    while subject.stretch(_without_eyes(performance.magnified(LARGEST_ALPHA))).min() < 0.05:
        performance = performance.scaled(0.9)
    return performance


def _without_eyes(coefficients: np.ndarray) -> np.ndarray:
    coefficients[EYES] = 0
    return coefficients


def _recorded(performance: Performance, subject: Subject, fps: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the frames as a camera sees them, uint8: flicker of the lamps, noise of the sensor."""
    height, width = subject.framing.height, subject.framing.width
    # One tile of noise per clip, shifted and negated for each frame: drawing takes longer than rendering.
    noise = rng.uniform(0.7, 1.6) * rng.standard_normal((height + 64, width + 64, 3), np.float32)
    phases, depths = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0, [0.006, 0.01])
    for index, coefficients in enumerate(performance.coefficients):
        turns = np.sin(2 * np.pi * np.array([100.3, 0.7]) * index / fps + phases)
        top, left = rng.integers(0, 64, 2)
        window = noise[top : top + height, left : left + width]
        sign, gain = int(rng.choice((-1, 1))), float(1 + depths @ turns)
        image = cv2.addWeighted(subject.render(coefficients), gain, window, sign, 0)
        yield cv2.convertScaleAbs(np.maximum(image, 0))


def _save_performance(path: Path, performance: Performance) -> None:
    with replacing(path, sync=False) as temporary:  # the archive has a checksum
        np.savez_compressed(temporary, **vars(performance))


def _write_workbook(out: Path, scripts: list[Script]) -> None:
    book = Workbook()
    book.active.append(HEADER)
    for script in scripts:
        acted = load_performance(out, script.place)
        numbers = (acted.onset, acted.apex, acted.offset)
        row = (f"{script.subject:02d}", script.name, "", *numbers, "", acted.action_units, acted.emotion)
        book.active.append(row)
    content = BytesIO()
    book.save(content)
    with replacing(out / WORKBOOK) as temporary:
        _copy_without_time(content, temporary)


def _copy_without_time(workbook: BytesIO, target: Path) -> None:
    """Copy an .xlsx file with every time stamp set to 1980, so that equal contents are equal bytes."""
    with zipfile.ZipFile(workbook) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "docProps/core.xml":
                data = re.sub(rb"\d{4}-\d\d-\d\dT[\d:.]+Z", b"1980-01-01T00:00:00Z", data)
            new.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


def contact_sheet(root: Path, path: Path) -> None:
    """Draw one clip per class: onset, apex, and the true apex magnified 5, 10 and 20 times.

    Args:
        root: A microfaces folder.
        path: The PNG to write.
    """
    clips = read_casme2(Path(root), "microfaces")
    subjects = sorted({clip.subject for clip in clips})
    chosen = zip(CLASSES, itertools.cycle(subjects), strict=False)
    rows = [_strip(root, _pick(clips, emotion, subject)) for emotion, subject in chosen]
    with replacing(path) as temporary:
        Image.fromarray(np.vstack(rows)).save(temporary)


def _pick(clips: list[Clip], emotion: str, subject: str) -> Clip:
    return next(clip for clip in clips if clip.emotion == emotion and clip.subject == subject)


def _strip(root: Path, clip: Clip) -> np.ndarray:
    onset, apex, magnified, _ = render_pair(root, clip.key, (5, 10, 20))
    images = np.concatenate([[onset, apex], magnified]).transpose(2, 0, 3, 1)
    row = Image.fromarray(np.rint(255 * images.reshape(len(images), -1, 3)).astype(np.uint8))
    draw, width = ImageDraw.Draw(row), row.width // 5
    for column, label in enumerate(("onset", "apex", "alpha 5", "alpha 10", "alpha 20")):
        place = (column * width + 4, row.height - 16)
        text = f"{clip.subject} {clip.emotion} AU {clip.action_units}" if column == 0 else label
        draw.text(place, text, "white", stroke_width=1, stroke_fill="black")
    return np.asarray(row)
