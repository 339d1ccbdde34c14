"""Reader of CAS(ME)2's long videos, whose layout generated long videos share.

Source: Qu et al., CAS(ME)2, IEEE Transactions on Affective Computing 2018; public code that reads it, for the sheets.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from gammer_lightning.data.clips.clip import wrong_root
from gammer_lightning.data.clips.long_video import LongVideo, Row, collect_videos, frame_numbers, read_intervals
from gammer_lightning.data.clips.workbooks import find_workbook, read_rows
from gammer_lightning.errors import GammerError

FRAMES = "rawpic"
WORKBOOK = "*code_final*.xlsx"
FPS = 30.0
FIELDS = ("subject", "video", "onset", "apex", "offset", "units", "emotion", "type")
"""Columns of the first sheet, which has no header."""
FOLDER = re.compile(r"(\d+)_(\d{4})")
"""Subject and code of a video at the beginning of its folder's name."""


def read_casme_squared(
    root: str | Path,
    dataset: str = "casme_squared",
    fps: float = FPS,
    problems: list[GammerError] | None = None,
) -> list[LongVideo]:
    """Read every long video, also those without an expression.

    The workbook has three sheets without a header: expressions (subject, video, onset, apex, offset, action units,
    emotion, type), subjects (second column: number in the folders, third: as in the first sheet), videos (code, name).

    Args:
        root: Folder with ``rawpic/s15/15_0101disgustingteeth/img1.jpg`` and so on, and the workbook.
        dataset: Name that the videos carry.
        fps: Frames a second.
        problems: Takes the errors of rows and videos that cannot be used; None raises the first.

    Raises:
        GammerError: If the folder or the workbook is missing, there is no video, a row is wrong (it names row and
            column), or it names a video that is not there.
    """
    root = Path(root)
    found = sorted((root / FRAMES).glob("s*/*/"))
    folders = [folder for folder in found if FOLDER.match(folder.name)]
    if not folders:
        raise wrong_root(
            root,
            f"{FRAMES}/s15/15_0101disgustingteeth and so on, and {WORKBOOK}",
            f"point it at CAS(ME)2, or make long videos: gammer data synthesize --long --out {root}",
        )
    rows = _rows_by_video(find_workbook(root, WORKBOOK), {_place(folder) for folder in folders}, problems)
    return collect_videos(folders, partial(_read_video, dataset, fps, rows, problems), problems)


def _place(folder: Path) -> tuple[int, str]:
    """Return subject and code of a folder's video."""
    match = FOLDER.match(folder.name)
    assert match is not None
    return int(match[1]), match[2]


def _rows_by_video(
    workbook: Path, places: set[tuple[int, str]], problems: list[GammerError] | None
) -> Mapping[tuple[int, str], list[Row]]:
    """Return the rows of each video, by subject and code."""
    sheets = read_rows(workbook)
    if len(sheets) < 3:
        raise GammerError(
            f"{workbook} has {len(sheets)} sheet(s)",
            "the first has expressions, the second subjects, the third names of videos",
            "copy the workbook again from the data set",
        )
    subjects = {cells[2]: cells[1] for _, _, cells in sheets[1] if len(cells) > 2}
    codes = {cells[1]: cells[0].zfill(4) for _, _, cells in sheets[2] if len(cells) > 1}
    rows = defaultdict(list)
    for sheet, number, cells in sheets[0]:
        padded = [*cells, *[""] * len(FIELDS)]
        row = Row(number, sheet, dict(zip(FIELDS, padded, strict=False)))
        try:
            rows[_place_of(row, subjects, codes, places)].append(row)
        except GammerError as error:
            if problems is None:
                raise
            problems.append(error)
    return rows


def _place_of(
    row: Row, subjects: Mapping[str, str], codes: Mapping[str, str], places: set[tuple[int, str]]
) -> tuple[int, str]:
    subject = subjects.get(row.fields["subject"], "")
    if not subject.isdecimal():
        raise row.error("subject", "the third column of the second sheet names it, the second gives its number")
    title = row.fields["video"].split("_")[0]
    if title not in codes:
        raise row.error("video", "the second column of the third sheet names it, the first gives its code")
    place = int(subject), codes[title]
    if place not in places:
        raise row.error("video", f"it has a folder {FRAMES}/s{place[0]:02d}/{place[0]:02d}_{place[1]}...")
    return place


def _read_video(
    dataset: str,
    fps: float,
    rows: Mapping[tuple[int, str], Sequence[Row]],
    problems: list[GammerError] | None,
    folder: Path,
) -> LongVideo:
    place = _place(folder)
    numbers = frame_numbers(folder)
    intervals, notes = read_intervals(rows.get(place, ()), numbers, problems)
    return LongVideo(dataset, f"{place[0]:02d}", folder.name, folder, numbers, fps, intervals, notes)
