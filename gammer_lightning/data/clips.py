"""The record of one micro-expression clip and its frames on disk, the same for every data set."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gammer_lightning.errors import GammerError

FRAME_NAME = re.compile(r"(\d+)\.(?:jpe?g|png|bmp)$", re.IGNORECASE)


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
        apex: Absolute number of the apex frame, ``onset < apex <= offset``; None where none is annotated that is
            not the onset itself, until `apex.with_apexes` has found it.
        offset: Absolute number of the offset frame.
        action_units: FACS action units as annotated, e.g. ``"4+L10"`` (see `parse_action_units`).
        emotion: Emotion as annotated, in lower case.
        apex_origin: ``"annotated"``, ``"spotted"`` or ``"middle"``; ``"none"`` where the apex is None.
        cropped: Whether the frames are tight crops of a face, in which a detector may find none.
        notes: What was corrected or taken otherwise than annotated, a sentence each.
    """

    dataset: str
    subject: str
    name: str
    frames: tuple[Path, ...]
    numbers: tuple[int, ...]
    onset: int
    apex: int | None
    offset: int
    action_units: str
    emotion: str
    apex_origin: str = "annotated"
    cropped: bool = False
    notes: tuple[str, ...] = ()

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
        if not self.onset <= (self.onset if self.apex is None else self.apex) <= self.offset:
            raise GammerError(
                f"clip {self.key}: apex {self.apex} lies outside onset {self.onset} .. offset {self.offset}",
                "onset <= apex <= offset",
                "correct its row in the coding workbook",
            )
        for number in (self.onset, self.apex):
            if number is not None:
                self.frame(number)
        return self


def wrong_root(root: Path, expected: str, get: str) -> GammerError:
    """Say what was expected below a data set's folder, and what is there."""
    there = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    shown = ", ".join(there[:8]) + (f" and {len(there) - 8} more" if len(there) > 8 else "")
    return GammerError(
        f"no clips in {root}, " + (f"which holds {shown or 'nothing'}" if root.is_dir() else "which is no folder"),
        f"it holds {expected}",
        get,
    )


def collect(clips: Iterable[Callable[[], Clip]], problems: list[GammerError] | None) -> list[Clip]:
    """Build clips one after the other.

    Args:
        clips: A function for each clip.
        problems: Takes the errors of clips that cannot be built; None raises the first.

    Raises:
        GammerError: If a clip cannot be built, or two have one name.
    """
    built: dict[str, Clip] = {}
    for build in clips:
        try:
            clip = build()
            if clip.key in built:
                raise GammerError(
                    f"clip {clip.key} is annotated twice",
                    "a clip's name is unique within its subject",
                    "delete one of its rows from the coding workbook",
                )
            built[clip.key] = clip
        except GammerError as error:
            if problems is None:
                raise
            problems.append(error)
    return list(built.values())


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
