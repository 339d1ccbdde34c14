"""The record of one long video with its annotated expressions, the same for every data set."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gammer_lightning.data.clips.clip import list_frames
from gammer_lightning.errors import GammerError
from gammer_lightning.files import check_name

MICRO, MACRO = "micro", "macro"
KINDS = (MICRO, MACRO)


@dataclass(frozen=True)
class Interval:
    """One annotated expression; frames are numbered as the files are.

    Attributes:
        onset: Its first frame.
        apex: The frame in which it is strongest, ``onset <= apex <= offset``; None where none is annotated.
        offset: Its last frame.
        kind: ``"micro"`` or ``"macro"``, as annotated.
        action_units: As annotated; may be empty.
        emotion: As annotated, in lower case; may be empty.

    Raises:
        GammerError: If the frames are not in order, or there is no such kind.
    """

    onset: int
    apex: int | None
    offset: int
    kind: str
    action_units: str = ""
    emotion: str = ""

    def __post_init__(self):
        if self.kind not in KINDS:
            raise GammerError(f"an interval of kind {self.kind!r}", f"a kind is one of {', '.join(KINDS)}")
        apex = self.onset if self.apex is None else self.apex
        if not self.onset <= apex <= self.offset:
            raise GammerError(f"onset {self.onset}, apex {self.apex}, offset {self.offset}", "onset <= apex <= offset")

    @property
    def length(self) -> int:
        """Number of its frames, onset and offset included."""
        return self.offset - self.onset + 1


@dataclass(frozen=True)
class LongVideo:
    """One long video.

    Attributes:
        dataset: Name of the data set, e.g. ``"casme_squared"``.
        subject: Subject as text, e.g. ``"15"``.
        name: Name of the video, unique within its data set.
        source: Folder of its frames.
        numbers: Number of each frame, in order; a range where none is missing.
        fps: Frames a second.
        intervals: Annotated expressions by onset; none where it shows none.
        notes: What was corrected or left out, a sentence each.

    Raises:
        GammerError: If data set, subject or name is no single path component.
    """

    dataset: str
    subject: str
    name: str
    source: Path
    numbers: Sequence[int]
    fps: float
    intervals: tuple[Interval, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        for field in ("dataset", "subject", "name"):
            check_name(getattr(self, field), f"the {field} of a long video")

    @property
    def key(self) -> str:
        """Unique name over all data sets: ``dataset/subject/name``."""
        return f"{self.dataset}/{self.subject}/{self.name}"

    @property
    def seconds(self) -> float:
        """Its length in s."""
        return len(self.numbers) / self.fps


@dataclass(frozen=True)
class Row:
    """One row of a coding workbook: the texts of its fields.

    Attributes:
        number: Of the row, from 1.
        sheet: Title of its sheet.
        fields: Text of each field by its name.
    """

    number: int
    sheet: str
    fields: dict[str, str]

    def whole(self, field: str) -> int:
        """Return a field as a whole number.

        Raises:
            GammerError: If it is none; names row and column.
        """
        text = self.fields[field]
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise self.error(field, "it is a whole frame number of at most 9 digits")
        return int(text)

    def kind(self, field: str) -> str:
        """Return ``"micro"`` or ``"macro"`` of a field that begins so.

        Raises:
            GammerError: If it does not; names row and column.
        """
        begins = self.fields[field].lower()[:5]
        if begins not in KINDS:
            raise self.error(field, f"it begins with {' or '.join(KINDS)}")
        return begins

    def error(self, field: str, rule: str) -> GammerError:
        """Return the error that a field breaks a rule."""
        return GammerError(
            f"{field} in row {self.number} of sheet {self.sheet} of the coding workbook is {self.fields[field]!r}",
            rule,
            "correct the cell, or delete the row",
        )


def read_interval(row: Row, numbers: Sequence[int]) -> tuple[Interval, tuple[str, ...]]:
    """Return the expression of a row, and notes on what was taken otherwise than annotated.

    An offset of 0 stands for an unknown one, for which the apex is taken, as public code does; an apex that is empty,
    0 or ``/`` is not annotated.

    Args:
        row: With the fields onset, apex, offset, type, units and emotion.
        numbers: Of the frames of its video.

    Raises:
        GammerError: If a field is wrong, or the onset is no frame of the video; names row and column.
    """
    notes: tuple[str, ...] = ()
    onset = row.whole("onset")
    if not numbers[0] <= onset <= numbers[-1]:
        raise row.error("onset", f"the frames of the video are {numbers[0]} to {numbers[-1]}")
    apex = None if row.fields["apex"] in ("", "0", "/") else row.whole("apex")
    offset = row.whole("offset")
    if offset == 0 and apex is not None:
        notes += (f"row {row.number}: the offset is 0, and the apex {apex} is taken for it",)
        offset = apex
    if offset < onset:
        raise row.error("offset", f"it is not before the onset, {onset}")
    if apex is not None and not onset <= apex <= offset:
        raise row.error("apex", f"it lies between onset {onset} and offset {offset}")
    if offset > numbers[-1]:
        notes += (f"row {row.number}: the offset {offset} lies behind the last frame, {numbers[-1]}",)
    kind = row.kind("type")
    return Interval(onset, apex, offset, kind, row.fields["units"], row.fields["emotion"].lower()), notes


def read_intervals(
    rows: Iterable[Row], numbers: Sequence[int], problems: list[GammerError] | None
) -> tuple[tuple[Interval, ...], tuple[str, ...]]:
    """Return the expressions of a video's rows by onset, and notes on them.

    Args:
        rows: As of `read_interval`.
        numbers: Of the frames of the video.
        problems: Takes the errors of rows that cannot be used; None raises the first.
    """
    intervals = []
    notes: tuple[str, ...] = ()
    for row in rows:
        try:
            interval, about = read_interval(row, numbers)
        except GammerError as error:
            if problems is None:
                raise
            problems.append(error)
            continue
        intervals.append(interval)
        notes += about
    by_onset, about = ordered(intervals)
    return by_onset, notes + about


def ordered(intervals: Iterable[Interval]) -> tuple[tuple[Interval, ...], tuple[str, ...]]:
    """Return intervals by onset, each once, and notes on those that stand twice or overlap.

    Overlapping truths are kept: each can be hit.
    """
    kept: list[Interval] = []
    notes: list[str] = []
    for interval in sorted(intervals, key=lambda interval: (interval.onset, interval.offset, interval.kind)):
        place = f"{interval.kind} {interval.onset} to {interval.offset}"
        span = (interval.onset, interval.offset, interval.kind)
        if any(span == (other.onset, other.offset, other.kind) for other in kept):
            notes.append(f"{place} is annotated twice and counts once")
            continue
        overlapping = [other for other in kept if interval.onset <= other.offset]
        if overlapping:
            other = overlapping[0]
            notes.append(f"{place} overlaps {other.kind} {other.onset} to {other.offset}; both count")
        kept.append(interval)
    return tuple(kept), tuple(notes)


def frame_numbers(folder: Path) -> Sequence[int]:
    """Return the numbers of a folder's frames, a range where none is missing.

    Raises:
        GammerError: As `list_frames`.
    """
    _, numbers = list_frames(folder)
    whole = range(numbers[0], numbers[-1] + 1)
    return whole if len(whole) == len(numbers) else numbers


def collect_videos(
    folders: Sequence[Path],
    build: Callable[[Path], LongVideo],
    problems: list[GammerError] | None,
) -> list[LongVideo]:
    """Build a video of each folder.

    Args:
        folders: Of the frames.
        build: Makes the video of a folder.
        problems: Takes the errors of videos that cannot be built; None raises the first.
    """
    videos = []
    for folder in folders:
        try:
            videos.append(build(folder))
        except GammerError as error:
            if problems is None:
                raise
            problems.append(error)
    return videos
