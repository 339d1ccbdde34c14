"""The record of one micro-expression clip, its frames on disk, and the class sets it is labelled in."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gammer_lightning.errors import GammerError

FRAME_NAME = re.compile(r"(\d+)\.(?:jpe?g|png|bmp)$", re.IGNORECASE)

FIVE = {name: name for name in ("happiness", "surprise", "disgust", "repression", "others")}
NEGATIVE = ("repression", "anger", "contempt", "disgust", "fear", "sadness")
THREE = dict.fromkeys(NEGATIVE, "negative") | {"happiness": "positive", "surprise": "surprise"}

CLASS_SETS = {"five": FIVE, "three": THREE}
"""Class sets by name: annotated emotion -> class. "three" is the rule of MEGC 2019."""


@dataclass(frozen=True)
class Clip:
    """One annotated clip.

    Attributes:
        dataset: Name of the data set, e.g. ``"casme2"``.
        subject: Subject as text, e.g. ``"01"``; unique together with ``dataset``.
        name: Name of the clip, unique within its subject.
        frames: Frame files in numeric order.
        numbers: Absolute frame number of each file.
        onset: Absolute number of the onset frame.
        apex: Absolute number of the apex frame, ``onset <= apex <= offset``.
        offset: Absolute number of the offset frame.
        action_units: FACS action units as annotated, e.g. ``"4+L10"``.
        emotion: Emotion as annotated, in lower case.
        apex_origin: Where the apex comes from.
    """

    dataset: str
    subject: str
    name: str
    frames: tuple[Path, ...]
    numbers: tuple[int, ...]
    onset: int
    apex: int
    offset: int
    action_units: str
    emotion: str
    apex_origin: str = "annotated"

    @property
    def key(self) -> str:
        """Unique name over all data sets: ``dataset/subject/name``."""
        return f"{self.dataset}/{self.subject}/{self.name}"

    def frame(self, number: int) -> Path:
        """Return the file of an absolute frame number.

        Raises:
            GammerError: If the clip has no such frame.
        """
        if number not in self.numbers:
            raise GammerError(
                f"clip {self.key} has no frame {number}, only {self.numbers[0]} to {self.numbers[-1]}",
                "frame numbers are those in the file names",
                f"copy the missing frame into {self.frames[0].parent}",
            )
        return self.frames[self.numbers.index(number)]

    def check(self) -> "Clip":
        """Return the clip itself if onset, apex and offset are in order and their frames exist.

        Raises:
            GammerError: If they are not.
        """
        if not self.onset <= self.apex <= self.offset:
            raise GammerError(
                f"clip {self.key}: apex {self.apex} lies outside onset {self.onset} .. offset {self.offset}",
                "onset <= apex <= offset",
                "correct its row in the coding workbook",
            )
        self.frame(self.onset)
        self.frame(self.apex)
        return self


def list_frames(folder: Path) -> tuple[tuple[Path, ...], tuple[int, ...]]:
    """Return the image files of a clip folder and their frame numbers, in numeric order.

    Raises:
        GammerError: If the folder is missing or holds fewer than two frames.
    """
    found = [(int(match[1]), path) for path in _files(folder) if (match := FRAME_NAME.search(path.name))]
    if len(found) < 2:
        raise GammerError(
            f"clip folder {folder} holds {len(found)} frame(s)",
            "a clip needs an onset and an apex, so two frames or more (.jpg, .png, .bmp)",
            "copy its frames again, or delete its row from the coding workbook",
        )
    numbers, paths = zip(*sorted(found), strict=True)
    return paths, numbers


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise GammerError(
            f"no clip folder {folder}",
            "every row of the coding workbook has a folder of frames",
            "copy the folder, or delete its row from the coding workbook",
        )
    return list(folder.iterdir())


def class_labels(clips: Sequence[Clip], class_set: str) -> tuple[list[Clip], list[int], tuple[str, ...]]:
    """Keep the clips whose emotion the class set covers, and label them.

    Args:
        clips: Clips of any emotion.
        class_set: ``"five"`` (CASME II's classes) or ``"three"`` (negative, positive, surprise).

    Returns:
        The kept clips in their order, their labels, and the class names that the labels index.

    Raises:
        GammerError: If the class set is unknown or covers none of the clips.

    Source: See et al., MEGC 2019, for the three classes.
    """
    if class_set not in CLASS_SETS:
        raise GammerError(
            f"unknown class set {class_set!r}",
            f"class sets are {', '.join(CLASS_SETS)}",
            f"set data.class_set to {next(iter(CLASS_SETS))}",
        )
    classes = CLASS_SETS[class_set]
    names = tuple(dict.fromkeys(classes.values()))
    kept = [clip for clip in clips if clip.emotion in classes]
    if not kept:
        raise GammerError(
            f"none of the {len(clips)} clips has an emotion of class set {class_set!r}",
            f"it covers {', '.join(classes)}",
            "check the emotion column of the coding workbook",
        )
    return kept, [names.index(classes[clip.emotion]) for clip in kept], names
