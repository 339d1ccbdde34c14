"""Coding workbooks: the annotation tables of the data sets, their header row and columns found by name."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from openpyxl import load_workbook
from openpyxl.worksheet.worksheet import Worksheet

from gammer_lightning.errors import GammerError

ROW = "row"
"""Key under which a record has its row number in the workbook, from 1."""
DEEPEST_HEADER = 40
COLUMNS = {
    "subject": "Subject",
    "name": "Filename",
    "onset": "OnsetFrame",
    "apex": "ApexFrame",
    "offset": "OffsetFrame",
    "units": "Action Units",
    "emotion": "Estimated Emotion",
}
"""Header of each field of a record; SAMM writes ``Onset Frame``, which is the same (see `read_workbook`)."""


def find_workbook(root: Path, pattern: str) -> Path:
    """Return the one workbook of a data set's folder.

    Raises:
        GammerError: If there is none, or more than one.
    """
    found = sorted(path for path in root.glob(pattern) if not path.name.startswith("~$"))  # "~$": open in Excel
    if len(found) != 1:
        raise GammerError(
            f"{len(found)} coding workbooks in {root}: {', '.join(path.name for path in found) or 'none'}",
            f"exactly one file matches {pattern}; two would be two releases in one folder",
            "copy it from the data set, or move the older ones away",
        )
    return found[0]


def read_workbook(path: Path) -> list[dict[str, str]]:
    """Read a table wherever it is in a workbook.

    The first row of any sheet that names all of `COLUMNS` is the header; upper and lower case, spaces and punctuation
    do not count. Merged cells count for each of their rows; rows that name no clip are left out.

    Args:
        path: The .xlsx file.

    Returns:
        A record of texts for each row; whole numbers have no ``.0``.

    Raises:
        GammerError: If the file cannot be read, no row names all columns, or no row follows.
    """
    try:
        book = load_workbook(path, data_only=True)
    except Exception as error:  # a damaged workbook raises whatever its zip or XML layer does
        raise GammerError(f"{path} cannot be read: {error}", "it is an .xlsx file", "copy it again") from error
    places = [_find_header(sheet) for sheet in book.worksheets]
    sheet, (row, where) = max(zip(book.worksheets, places, strict=True), key=lambda found: len(found[1][1]))
    records = [r for r in _records(sheet, row, where) if r["name"]] if len(where) == len(COLUMNS) else []
    if not records:
        missing = ", ".join(name for field, name in COLUMNS.items() if field not in where)
        raise GammerError(
            f"{path} has no {missing or 'rows'}" + (f" in row {row} of {sheet.title}" if missing else ""),
            f"its header row names {', '.join(COLUMNS.values())}; then a row for each clip",
            "copy the workbook again from the data set",
        )
    return records


def _find_header(sheet: Worksheet) -> tuple[int, dict[str, int]]:
    """Return the row that names the most fields, and the column of each of those."""
    best = 1, {}
    for number, cells in enumerate(sheet.iter_rows(max_row=DEEPEST_HEADER, values_only=True), 1):
        titles = [_plain(cell) for cell in cells]
        where = {field: titles.index(_plain(name)) for field, name in COLUMNS.items() if _plain(name) in titles}
        best = max(best, (number, where), key=lambda found: len(found[1]))
    return best


def _plain(title: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(title or "").lower())


def _records(sheet: Worksheet, header: int, where: dict[str, int]) -> Iterator[dict[str, str]]:
    merged = _merged_values(sheet)
    for number, cells in enumerate(sheet.iter_rows(min_row=header + 1, values_only=True), header + 1):
        values = {field: merged.get((number, column), cells[column]) for field, column in where.items()}
        yield {field: _text(value) for field, value in values.items()} | {ROW: str(number)}


def _merged_values(sheet: Worksheet) -> dict[tuple[int, int], object]:
    """Return the value of every cell that is part of a merged one, by row from 1 and column from 0."""
    return {
        (row, column - 1): sheet.cell(area.min_row, area.min_col).value
        for area in sheet.merged_cells.ranges
        for row in range(area.min_row, area.max_row + 1)
        for column in range(area.min_col, area.max_col + 1)
    }


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def frame_number(record: Mapping[str, str], field: str, clip: str) -> int:
    """Return a frame number of a record.

    Raises:
        GammerError: If it is no whole number.
    """
    if not record[field].isdecimal():
        raise GammerError(
            f"{field} of {clip} is {record[field]!r} (row {record[ROW]} of the coding workbook)",
            "onset and offset are whole frame numbers, and so is an apex unless it is /",
            "write the frame's number there, or delete the row",
        )
    return int(record[field])


def annotated_apex(record: Mapping[str, str], onset: int, clip: str) -> tuple[int | None, tuple[str, ...]]:
    """Return the apex of a record, or None where it has ``/`` or the onset itself; and a note that says so.

    Raises:
        GammerError: If it is anything else than a whole number.
    """
    if record["apex"] == "/":
        return None, (f"{clip}: no apex is annotated (/)",)
    apex = frame_number(record, "apex", clip)
    if apex == onset:
        return None, (f"{clip}: the annotated apex is the onset itself, {onset}, and does not count",)
    return apex, ()
