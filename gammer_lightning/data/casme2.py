"""Reader of CASME II's folder layout and coding workbook, which `microfaces` shares.

Source: Yan et al., CASME II, PLoS ONE 2014.
"""

from pathlib import Path

import pandas as pd

from gammer_lightning.data.clips import Clip, list_frames
from gammer_lightning.errors import GammerError

FRAME_FOLDERS = ("Cropped", "CASME2_RAW_selected")
"""Where the frames are, best first."""
WORKBOOKS = "CASME2-coding*.xlsx"
KEY_FRAMES = ("OnsetFrame", "ApexFrame", "OffsetFrame")
COLUMNS = ("Subject", "Filename", *KEY_FRAMES, "Action Units", "Estimated Emotion")


def read_casme2(root: str | Path, dataset: str = "casme2") -> list[Clip]:
    """Read every annotated clip, in the order of the workbook.

    Args:
        root: Folder with ``Cropped/`` (preferred) or ``CASME2_RAW_selected/`` and the coding workbook.
        dataset: Name the clips carry, e.g. ``"microfaces"``.

    Raises:
        GammerError: If the folder, workbook, a column, a clip folder or a key frame is missing, a frame
            number is not a whole number, or an apex lies outside onset .. offset.
    """
    root = Path(root)
    frames = _frame_folder(root)
    rows = _read_workbook(_workbook(root))
    return [_read_clip(frames, dataset, number, row) for number, row in enumerate(rows, start=2)]


def _frame_folder(root: Path) -> Path:
    for name in FRAME_FOLDERS:
        if (root / name).is_dir():
            return root / name
    raise GammerError(
        f"no clips in {root}: it is missing, empty or laid out otherwise",
        f"a data set is a folder with {' or '.join(FRAME_FOLDERS)} and {WORKBOOKS}",
        f"point data.root at CASME II, or make the embedded set: gammer data synthesize --out {root}",
    )


def _workbook(root: Path) -> Path:
    found = sorted(root.glob(WORKBOOKS))
    if len(found) != 1:
        raise GammerError(
            f"{len(found)} coding workbooks in {root}: {', '.join(path.name for path in found) or 'none'}",
            f"exactly one file matches {WORKBOOKS}",
            "copy it from the data set, or move the older ones away",
        )
    return found[0]


def _read_workbook(path: Path) -> list[dict[str, str]]:
    try:
        table = pd.read_excel(path, dtype=str, keep_default_na=False)
    except Exception as error:  # a damaged workbook raises whatever its zip or XML layer does
        raise GammerError(f"{path} cannot be read: {error}", "it is an .xlsx file", "copy it again") from error
    table.columns = [str(column).strip() for column in table.columns]
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing or table.empty:
        raise GammerError(
            f"{path} has no {', '.join(missing) or 'rows'}",
            f"its header row names {', '.join(COLUMNS)}, and a row follows for each clip",
            "copy the workbook again from the data set",
        )
    rows = table[list(COLUMNS)].to_dict("records")
    return [{column: str(value).strip() for column, value in row.items()} for row in rows if row["Filename"]]


def _read_clip(folder: Path, dataset: str, row_number: int, row: dict[str, str]) -> Clip:
    subject = row["Subject"].removesuffix(".0").zfill(2)
    onset, apex, offset = (_frame_number(row, name, row_number) for name in KEY_FRAMES)
    frames, numbers = list_frames(folder / f"sub{subject}" / row["Filename"])
    emotion = row["Estimated Emotion"].lower()
    return Clip(
        dataset, subject, row["Filename"], frames, numbers, onset, apex, offset, row["Action Units"], emotion
    ).check()


def _frame_number(row: dict[str, str], column: str, row_number: int) -> int:
    text = row[column].removesuffix(".0")
    if not text.isdecimal():
        clip = f"sub{row['Subject']}/{row['Filename']}"
        raise GammerError(
            f"{column} of {clip} is {row[column]!r} (row {row_number} of the coding workbook)",
            "onset, apex and offset are whole frame numbers",
            "write the frame's number there, or delete the row",
        )
    return int(text)
