"""Reader of SAMM Long Videos.

Source: Yap, Kendrick and Yap, SAMM Long Videos, FG 2020; public code that reads it, for the columns.
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

FRAMES = ("SAMM_longvideos", "SAMM_LongVideos")
WORKBOOK = "SAMM_LongVideos*.xlsx"
FPS = 200.0
TITLES = {
    "subject": "subject",
    "video": "filename",
    "onset": "onset",
    "apex": "apex",
    "offset": "offset",
    "type": "type",
    "units": "actionunits",
}
"""What the header of each field begins with, in lower case and without spaces."""
FOLDER = re.compile(r"(\d{3})_(\d+)$")


def read_samm_long(root: str | Path, fps: float = FPS, problems: list[GammerError] | None = None) -> list[LongVideo]:
    """Read every long video, also those without an expression.

    Rows whose onset is 0 are left out, with a note: the expression begins before the video.

    Args:
        root: Folder with ``SAMM_longvideos/006_1/006_1_0001.jpg`` and so on, and the workbook in either.
        fps: Frames a second.
        problems: Takes the errors of rows and videos that cannot be used; None raises the first.

    Raises:
        GammerError: As `read_casme_squared`.
    """
    root = Path(root)
    places = [root / name for name in FRAMES] + [root]
    folders: list[Path] = []
    for place in places:
        folders = folders or sorted(folder for folder in place.glob("*_*/") if FOLDER.match(folder.name))
    if not folders:
        raise wrong_root(root, f"{FRAMES[0]}/006_1 and so on, and {WORKBOOK}", "point it at SAMM Long Videos")
    beside = root if list(root.glob(WORKBOOK)) else folders[0].parent
    names = {folder.name for folder in folders}
    rows = _rows_by_video(find_workbook(beside, WORKBOOK), names, problems)
    return collect_videos(folders, partial(_read_video, fps, rows, problems), problems)


def _rows_by_video(workbook: Path, names: set[str], problems: list[GammerError] | None) -> Mapping[str, list[Row]]:
    """Return the rows of each video, by its name."""
    columns: dict[str, int] = {}
    rows = defaultdict(list)
    for sheet, number, cells in read_rows(workbook)[0]:
        if not columns:
            columns = _columns(cells)
            continue
        fields = {field: cells[column] if column < len(cells) else "" for field, column in columns.items()}
        if not fields["video"]:
            continue
        row = Row(number, sheet, fields | {"emotion": ""})
        name = "_".join(fields["video"].split("_")[:2])
        if name in names:
            rows[name].append(row)
            continue
        error = row.error("video", f"it begins with the name of a folder of frames, and {name} is none")
        if problems is None:
            raise error
        problems.append(error)
    if not columns:
        raise GammerError(
            f"{workbook} has no header row",
            f"a row names {', '.join(TITLES.values())}",
            "copy the workbook again from the data set",
        )
    return rows


def _columns(cells: Sequence[str]) -> dict[str, int]:
    """Return the column of each field if a row is the header, else nothing."""
    titles = [re.sub(r"[^a-z]", "", cell.lower()) for cell in cells]
    columns: dict[str, int] = {}
    for field, begins in TITLES.items():
        for column, title in enumerate(titles):
            if title.startswith(begins):
                columns.setdefault(field, column)
    return columns if columns.keys() == TITLES.keys() else {}


def _read_video(
    fps: float, rows: Mapping[str, Sequence[Row]], problems: list[GammerError] | None, folder: Path
) -> LongVideo:
    numbers = frame_numbers(folder)
    usable = []
    notes: tuple[str, ...] = ()
    for row in rows.get(folder.name, ()):
        if row.fields["onset"] == "0":
            notes += (f"row {row.number}: the onset is 0, and the expression is left out",)
        else:
            usable.append(row)
    intervals, about = read_intervals(usable, numbers, problems)
    subject = folder.name.split("_")[0]
    return LongVideo("samm_long", subject, folder.name, folder, numbers, fps, intervals, notes + about)
