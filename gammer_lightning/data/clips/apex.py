"""Apex spotting, for clips in which no apex is annotated."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from tqdm import tqdm

from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.errors import GammerError
from gammer_lightning.faces.alignment import CROP, Face, crop, find_face
from gammer_lightning.faces.graph import PAPER_REGIONS, nodes_of
from gammer_lightning.files import content_hash, read_cached_json, read_image, write_json

ApexMethod = Literal["spotted", "middle"]
METHODS = get_args(ApexMethod)
VERSION = "apex 1"
"""Raise it when a change of this file spots other frames."""
RADIUS = 14
"""Radius of the disc around a landmark that counts, px of the 256 px crop."""
BLUR = 2.0
"""Standard deviation of the blur against noise, px of the crop."""
SMOOTHING = 5
"""Frames over which the course is averaged."""


def with_apexes(clips: Sequence[Clip], method: ApexMethod, cache: str | Path) -> list[Clip]:
    """Give every clip an apex; annotated ones stay.

    Args:
        clips: Clips of any data sets.
        method: ``"spotted"`` (see `spot_apex`) or ``"middle"`` (halfway between onset and offset).
        cache: Root of the pre-magnification cache, which keeps what was spotted.

    Raises:
        GammerError: If the onset of a clip shows no face, or no frame follows it.
    """
    without_apex = [clip for clip in clips if clip.apex is None]
    bar = tqdm(without_apex, "spot apexes", unit="clip", disable=method == "middle" or not without_apex)
    apexes = {clip.key: middle(clip) if method == "middle" else _cached(clip, Path(cache)) for clip in bar}
    return [replace(clip, apex=apexes[clip.key], apex_origin=method) if clip.apex is None else clip for clip in clips]


def apex_errors(clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    """Return how many frames each method is off the annotated apex of each clip, ``(n,)``."""
    spotted = [abs(spot_apex(clip) - clip.known_apex) for clip in tqdm(clips, "spot apexes", unit="clip")]
    halfway = [abs(middle(clip) - clip.known_apex) for clip in clips]
    return {"spotted": np.array(spotted), "middle": np.array(halfway)}


def middle(clip: Clip) -> int:
    """Return the frame halfway between onset and offset, by position among the frames there are."""
    numbers = _between(clip)
    return numbers[(len(numbers) - 1) // 2]


def _between(clip: Clip) -> list[int]:
    """Return the frame numbers after the onset, up to the offset."""
    numbers = [number for number in clip.numbers if clip.onset < number <= clip.offset]
    if not numbers:
        raise GammerError(
            f"clip {clip.key} has no frame after its onset {clip.onset}, up to its offset {clip.offset}",
            "an apex is looked for there",
            "correct its row in the coding workbook, or copy its frames",
        )
    return numbers


def spot_apex(clip: Clip) -> int:
    """Find the frame that differs most from onset and offset together, where brows, nose tip and mouth are.

    The two mean absolute differences are added, so that a steady drift of the head, which takes from the one what it
    gives to the other, counts the same in all frames. Their sum is divided by the difference from the frame before,
    which is large where light or sensor change and small where a motion turns, and averaged over `SMOOTHING` frames.

    Source: the quotient after Quang, Chun and Tokuyama, CapsuleNet for micro-expression recognition, IEEE FG 2019.
    """
    numbers = _between(clip)
    first, last = (read_image(clip.frame(number)) for number in (clip.onset, numbers[-1]))
    face = find_face(first, str(clip.frame(clip.onset)), clip.cropped)
    mask = expression_mask(face.landmarks)
    onset = seen(first, face)[mask]
    offset = seen(last, face)[mask]
    frames = (seen(read_image(clip.frame(number)), face)[mask] for number in numbers)
    course = smoothed(apex_course(onset, offset, frames), SMOOTHING)
    return numbers[int(course.argmax())]


def apex_course(onset: np.ndarray, offset: np.ndarray, frames: Iterable[np.ndarray]) -> list[float]:
    """Return how much like an apex each frame is, as `spot_apex` says.

    Args:
        onset: What is seen of the onset, ``(n,)`` in grey levels.
        offset: The same of the offset.
        frames: The same of the frames after the onset, in order.
    """
    previous = onset
    course = []
    for frame in frames:
        from_onset = np.abs(frame - onset).mean()
        from_offset = np.abs(frame - offset).mean()
        from_previous = np.abs(frame - previous).mean()
        course.append((from_onset + from_offset + 1) / (from_previous + 1))
        previous = frame
    return course


def smoothed(course: Sequence[float] | np.ndarray, frames: int) -> np.ndarray:
    """Return the running mean over an odd number of frames, the ends repeated."""
    padded = np.pad(course, frames // 2, mode="edge")
    return np.convolve(padded, np.full(frames, 1 / frames), "valid")


def expression_mask(landmarks: np.ndarray) -> np.ndarray:
    """Return where brows, nose tip and mouth are in the crop, bool ``(256, 256)``."""
    mask = np.zeros((CROP, CROP), np.uint8)
    points = landmarks[list(nodes_of(PAPER_REGIONS))]
    for x, y in points.round().astype(int).tolist():
        cv2.circle(mask, (x, y), RADIUS, 1, -1)
    return mask.astype(bool)


def seen(frame: np.ndarray, face: Face) -> np.ndarray:
    """Return the crop's grey levels ``(256, 256)``, blurred, at mean 0: a lamp's flicker is no motion."""
    grey = cv2.cvtColor(crop(frame, face), cv2.COLOR_RGB2GRAY).astype(np.float32)
    blurred = cv2.GaussianBlur(grey, (0, 0), BLUR)
    return blurred - blurred.mean()


def _cached(clip: Clip, cache: Path) -> int:
    """Return the spotted apex of an earlier run if the clip's frames are the same, and it is one of them."""
    path = cache / clip.dataset / clip.subject / clip.name / "apex.json"
    frames = []
    for file in clip.frames:
        status = file.stat()
        frames.append((file.name, status.st_size, status.st_mtime_ns))
    key = content_hash(VERSION, str(frames), str((clip.onset, clip.offset)))
    record = read_cached_json(path)
    apex = record.get("apex")
    if record.get("key") == key and type(apex) is int and apex in _between(clip):
        return apex
    apex = spot_apex(clip)
    write_json(path, {"apex": apex, "key": key})
    return apex
