"""The record of one micro-expression clip and its frames on disk, the same for every data set."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gammer_lightning.errors import GammerError
from gammer_lightning.files import check_name, is_junk, read_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAME_NAME = re.compile(r"(\d+)\.(?:jpe?g|png|bmp)$", re.IGNORECASE)
MICROFACES = "microfaces"
LATEST_OFFSET = 1000
"""How many frames an offset may lie behind the last frame that is there: tables have a few too many, and some copies
of a data set hold key frames only; more is a slip of the keyboard."""


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
        apex_origin: ``"annotated"``, ``"spotted"``, ``"middle"``, or whose estimate stands where the table has none,
            e.g. ``"estimate of MEB"``; ``"none"`` where the apex is None.
        cropped: Whether the frames are tight crops of a face, in which a detector may find none.
        notes: What was corrected or taken otherwise than annotated, a sentence each.
        objective_class: ``"I"`` to ``"VII"`` as published with the data set; empty where none is.

    Raises:
        GammerError: If data set, subject or name is no single path component: files are written below them.
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
    objective_class: str = ""

    def __post_init__(self):
        for field in ("dataset", "subject", "name"):
            check_name(getattr(self, field), f"the {field} of a clip")

    @property
    def key(self) -> str:
        """Unique name over all data sets: ``dataset/subject/name``."""
        return f"{self.dataset}/{self.subject}/{self.name}"

    @property
    def known_apex(self) -> int:
        """The absolute number of the apex frame.

        Raises:
            GammerError: If there is none yet.
        """
        if self.apex is None:
            raise GammerError(
                f"clip {self.key} has no apex",
                "a clip is magnified from its onset to its apex",
                "give it one first: gammer_lightning.data.clips.apex.with_apexes",
            )
        return self.apex

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

    def image(self, number: int) -> np.ndarray:
        """Read a frame, uint8 RGB ``(H, W, 3)``.

        Args:
            number: Its absolute frame number, e.g. ``clip.apex``.

        Raises:
            GammerError: If the clip has no such frame, or its file cannot be read.
        """
        return read_image(self.frame(number))

    def plot(self) -> "Figure":
        """Draw onset, apex and offset side by side, with frame numbers, emotion, action units and subject.

        A clip without an apex has two pictures. Where no file has the number of the offset, the last frame before it is
        drawn, and its title says so.

        Returns:
            A matplotlib figure, which a notebook shows and ``figure.savefig`` writes.

        Raises:
            GammerError: If a frame cannot be read.
        """
        from matplotlib.figure import Figure

        phases = {"onset": self.onset, "apex": self.apex, "offset": self.offset}
        annotated = {phase: number for phase, number in phases.items() if number is not None}
        figure = Figure(figsize=(3 * len(annotated), 3.8), layout="constrained")
        for (phase, number), axes in zip(annotated.items(), figure.subplots(1, len(annotated)), strict=True):
            drawn_number = number
            if phase == "offset":
                drawn_number = max((earlier for earlier in self.numbers if earlier <= number), default=number)
            axes.imshow(self.image(drawn_number))
            title = f"{phase} {number}"
            if drawn_number != number:
                title += f" (frame {drawn_number})"
            axes.set_title(title)
            axes.set_axis_off()
        units = f", action units {self.action_units}" if self.action_units else ""
        title = f"{self.dataset}, subject {self.subject}, {self.name}\n{self.emotion}{units}"
        figure.suptitle(title, parse_math=False)
        return figure

    def check(self) -> "Clip":
        """Return the clip itself if onset, apex and offset are in order, and frames of onset and apex exist.

        The offset may lie up to `LATEST_OFFSET` frames behind the last frame.

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
        if self.offset > self.numbers[-1] + LATEST_OFFSET:
            raise GammerError(
                f"clip {self.key}: offset {self.offset:,}, but its frames end at {self.numbers[-1]}",
                f"an offset lies at most {LATEST_OFFSET} frames behind the last frame",
                "correct its row in the coding workbook, or copy its frames again",
            )
        return self


def is_microfaces(dataset: str) -> bool:
    """Return whether a data set is generated: ``microfaces``, or a further cast of it, ``microfaces-NAME``."""
    return dataset == MICROFACES or dataset.startswith(f"{MICROFACES}-")


class MissingFolder(GammerError):
    """A clip's row has no folder of frames.

    Args:
        folder: ``frames/subject/clip``.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        super().__init__(
            f"no clip folder {folder}",
            "every row of the coding workbook has a folder of frames",
            "copy the folder, or delete its row from the coding workbook",
        )


def wrong_root(root: Path, expected: str, get: str) -> GammerError:
    """Say what was expected below a data set's folder, and what is there."""
    contents = f"which {_holds(root)}" if root.is_dir() else "which is no folder"
    return GammerError(f"no clips in {root}, {contents}", f"it holds {expected}", get)


def _holds(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if not is_junk(path.name))
    if not names:
        return "holds nothing"
    further = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"holds {', '.join(names[:8])}{further}"


def collect(clips: Iterable[Callable[[], Clip]], problems: list[GammerError] | None) -> list[Clip]:
    """Build clips one after the other.

    Args:
        clips: A function for each clip.
        problems: Takes the errors of clips that cannot be built; None raises the first.

    Raises:
        GammerError: If a clip cannot be built, or two have one name; whatever ``problems`` is, if no clip has its
            folder, since then the layout is at fault.
    """
    built: dict[str, Clip] = {}
    errors: list[GammerError] = []
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
            errors.append(error)
    missing = [error for error in errors if isinstance(error, MissingFolder)]
    if not built and len(missing) > 1 and len(missing) == len(errors):
        raise _wrong_layout([error.folder for error in missing])
    if problems is None and errors:
        raise errors[0]
    if problems is not None:
        problems += errors
    return list(built.values())


def _wrong_layout(folders: Sequence[Path]) -> GammerError:
    """Say that no clip has its folder ``frames/subject/clip``, and where those are, if they are below ``frames``."""
    first = folders[0]
    frames = first.parents[1]
    clip = f"{first.parent.name}/{first.name}"
    pattern = glob.escape(clip)
    misplaced = [*frames.glob(f"*/{pattern}"), *frames.glob(f"*/*/{pattern}")]
    if misplaced:
        contents = f", but there is {misplaced[0]}"
        remedy = f"move what {misplaced[0].parents[1]} holds into {frames}"
    else:
        contents = f"; {_holds(frames)}"
        remedy = "point data.roots at the folder of the data set"
    return GammerError(
        f"none of the {len(folders)} clips has its folder: no {first}{contents}",
        f"{frames} holds {clip} and so on, as the coding workbook names them",
        remedy,
    )


def list_frames(folder: Path) -> tuple[tuple[Path, ...], tuple[int, ...]]:
    """Return the image files of a clip folder and their frame numbers, in numeric order; dot files are no frames.

    Raises:
        GammerError: If the folder is missing, cannot be read or holds fewer than two frames, or two files have the
            same frame number.
    """
    if not folder.is_dir():
        raise MissingFolder(folder)
    files: dict[int, Path] = {}
    for path in sorted(_files(folder)):
        match = FRAME_NAME.search(path.name)
        if not match:
            continue
        number = int(match[1])
        if number in files:
            raise GammerError(
                f"{files[number]} and {path.name} are both frame {number}",
                "each frame number stands once in a clip folder",
                "delete the one that is no frame of this clip",
            )
        files[number] = path
    if len(files) < 2:
        raise GammerError(
            f"clip folder {folder} holds {len(files)} frame(s)",
            "a clip needs an onset and an apex, so two frames or more (.jpg, .png, .bmp)",
            "copy its frames again, or delete its row from the coding workbook",
        )
    numbers, paths = zip(*sorted(files.items()), strict=True)
    return paths, numbers


def _files(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [folder / entry.name for entry in entries if not is_junk(entry.name) and entry.is_file()]
    except OSError as error:
        raise GammerError(
            f"clip folder {folder} cannot be read: {error.strerror}", "its frames are read", "mend its permissions"
        ) from error
