"""Coding workbooks: the annotation tables of the data sets, their header row and columns found by name."""

import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from openpyxl import load_workbook
from openpyxl.utils.cell import column_index_from_string
from openpyxl.worksheet._read_only import ReadOnlyWorksheet

from gammer_lightning.errors import GammerError
from gammer_lightning.files import check_is_file, check_name

ROW = "row"
"""Key under which a record has its row number in the workbook, from 1."""
DEEPEST_HEADER = 40
MAX_ROWS = 10_000
"""Rows of a table that are read; those of the data sets have 164 to 257."""
MAX_COLUMNS = 200
MAX_SHEET_BYTES = 64 * 2**20
"""Size of the largest sheet that is read, unpacked: half a million empty rows."""
MAX_OTHER_BYTES = 16 * 2**20
"""Size of all other parts of a workbook (texts, styles) but pictures, unpacked."""
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
OBJECTIVE = {"objective": "Objective Class"}
"""Header of the objective class, where it is published; SAMM writes ``Objective Classes``, which is the same."""
MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s[^>]*?ref="([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})"')


def find_workbook(root: Path, pattern: str) -> Path:
    """Return the one workbook of a data set's folder.

    Raises:
        GammerError: If there is none, or more than one.
    """
    books = workbooks(root, pattern)
    if len(books) != 1:
        raise GammerError(
            f"{len(books)} coding workbooks in {root}: {', '.join(path.name for path in books) or 'none'}",
            f"exactly one file matches {pattern}; two would be two releases in one folder",
            "copy it from the data set, or move the older ones away",
        )
    return books[0]


def workbooks(root: Path, pattern: str) -> list[Path]:
    """Return the workbooks of a folder, without the lock files of those that are open in Excel (``~$``)."""
    return sorted(path for path in root.glob(pattern) if not path.name.startswith(("~$", ".")))


def read_workbook(
    path: Path, columns: Mapping[str, str] = COLUMNS, optional: Mapping[str, str] = OBJECTIVE
) -> list[dict[str, str]]:
    """Read a table wherever it is in a workbook.

    The first row of any sheet that names all of ``columns`` is the header; upper and lower case, spaces and punctuation
    do not count. Merged cells count for each of their rows; rows that name no clip are left out. Of a
    sheet, the first `MAX_COLUMNS` columns and the first `MAX_ROWS` rows are read, which take seconds whatever the
    sheet holds elsewhere.

    Args:
        path: The .xlsx file.
        columns: Header of each field.
        optional: Header of each field that may be missing, and is then empty.

    Returns:
        A record of texts for each row; whole numbers have no ``.0``.

    Raises:
        GammerError: If the file cannot be read, is too large, no row names all columns, or no row follows.
    """
    with _opened(path) as sheets:
        records, columns_at, place = _read_table(sheets, columns, optional)
    if not records:
        missing = ", ".join(name for field, name in columns.items() if field not in columns_at)
        raise GammerError(
            f"{path} has no {missing or 'rows'}{place if missing else ''}",
            f"its header row names {', '.join(columns.values())}; then a row for each clip",
            "copy the workbook again from the data set",
        )
    if int(records[-1][ROW]) == MAX_ROWS:
        raise GammerError(
            f"{path} names clips down to row {MAX_ROWS:,}{place}",
            f"fewer than {MAX_ROWS:,} rows are read",
            "copy the workbook again from the data set",
        )
    return records


def read_rows(path: Path) -> list[list[tuple[str, int, list[str]]]]:
    """Read all sheets of a workbook whose tables have no header, or one of their own.

    Args:
        path: The .xlsx file.

    Returns:
        For each sheet its rows that are not empty: title of the sheet, number of the row from 1, texts of the cells
        without empty ones at the end; whole numbers have no ``.0``.

    Raises:
        GammerError: If the file cannot be read or is too large, or its first sheet is empty.
    """
    with _opened(path) as sheets:
        rows = [_rows(sheet) for sheet in sheets]
    if not rows or not rows[0]:
        raise GammerError(f"{path} has no rows", "its first sheet has a row for each expression", "copy it again")
    return rows


@contextmanager
def _opened(path: Path) -> Iterator[list[ReadOnlyWorksheet]]:
    """Open a workbook and yield its sheets; what fails while they are read is an error about the file."""
    check_is_file(path)
    try:
        _check_size(path)
        book = load_workbook(path, read_only=True, data_only=True)
        try:
            yield book.worksheets
        finally:
            book.close()
    except GammerError:
        raise
    except Exception as error:  # a damaged workbook raises whatever its zip or XML layer does
        raise GammerError(f"{path} cannot be read: {error}", "it is an .xlsx file", "copy it again") from error


def _rows(sheet: ReadOnlyWorksheet) -> list[tuple[str, int, list[str]]]:
    rows = []
    for number, cells in enumerate(sheet.iter_rows(1, MAX_ROWS, 1, MAX_COLUMNS, values_only=True), 1):
        texts = [_text(cell) for cell in cells]
        while texts and not texts[-1]:
            texts.pop()
        if texts:
            rows.append((sheet.title, number, texts))
    return rows


def _check_size(path: Path) -> None:
    """Refuse a workbook whose unpacked XML would take minutes or the memory."""
    with zipfile.ZipFile(path) as archive:
        parts = [part for part in archive.infolist() if not part.filename.startswith("xl/media/")]
    sheets = [part.file_size for part in parts if part.filename.startswith("xl/worksheets/")]
    other_bytes = sum(part.file_size for part in parts) - sum(sheets)
    largest = max(sheets, default=0)
    if largest > MAX_SHEET_BYTES or other_bytes > MAX_OTHER_BYTES:
        raise GammerError(
            f"{path} unpacks to a sheet of {largest:,} bytes and {other_bytes:,} beside the sheets",
            f"at most {MAX_SHEET_BYTES:,} and {MAX_OTHER_BYTES:,} are read; an annotation table has some 50,000",
            "copy its rows into a new workbook",
        )


def _read_table(
    sheets: list[ReadOnlyWorksheet], columns: Mapping[str, str], optional: Mapping[str, str]
) -> tuple[list[dict[str, str]], dict[str, int], str]:
    """Return the records of the sheet that names the most columns, where those are, and the place of its header."""
    if not sheets:
        raise ValueError("it has no worksheet")
    headers = [_find_header(sheet, {**columns, **optional}) for sheet in sheets]
    counts = [len(columns.keys() & columns_at.keys()) for _, columns_at in headers]
    best = counts.index(max(counts))
    sheet = sheets[best]
    row, columns_at = headers[best]
    records = []
    if columns.keys() <= columns_at.keys():
        records = [record for record in _records(sheet, row, columns_at, optional) if record["name"]]
    return records, columns_at, f" in row {row} of {sheet.title}"


def _find_header(sheet: ReadOnlyWorksheet, columns: Mapping[str, str]) -> tuple[int, dict[str, int]]:
    """Return the row that names the most fields, and the column of each of those."""
    header = 1
    columns_at: dict[str, int] = {}
    plain_names = {field: _plain(name) for field, name in columns.items()}
    for number, cells in enumerate(sheet.iter_rows(1, DEEPEST_HEADER, 1, MAX_COLUMNS, values_only=True), 1):
        titles = [_plain(cell) for cell in cells]
        places = {field: titles.index(name) for field, name in plain_names.items() if name in titles}
        if len(places) > len(columns_at):
            header = number
            columns_at = places
    return header, columns_at


def _plain(title: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(title or "").lower()).replace("classes", "class")


def _records(
    sheet: ReadOnlyWorksheet, header: int, columns_at: dict[str, int], optional: Mapping[str, str]
) -> Iterator[dict[str, str]]:
    """Yield a record for each row below the header; a merged cell counts for each of its rows."""
    areas = _merged_areas(sheet, columns_at.values())
    merged: dict[int, tuple[int, object]] = {}
    for number, cells in enumerate(sheet.iter_rows(1, MAX_ROWS, 1, MAX_COLUMNS, values_only=True), 1):
        values = {field: cells[column] for field, column in columns_at.items()}
        for field, column in columns_at.items():
            if (number, column) in areas:
                bottom, left = areas[number, column]
                merged[column] = bottom, cells[left]
            bottom, value = merged.get(column, (0, None))
            if number <= bottom:
                values[field] = value
        if number > header:
            record = dict.fromkeys(optional, "")
            record |= {field: _text(value) for field, value in values.items()}
            record[ROW] = str(number)
            yield record


def _merged_areas(sheet: ReadOnlyWorksheet, columns: Collection[int]) -> dict[tuple[int, int], tuple[int, int]]:
    """Return last row and first column of each merged area, by its first row and each of ``columns`` it covers.

    Rows count from 1, columns from 0. openpyxl gives no merged areas of a sheet that it reads row by row, and makes
    every cell of them otherwise.
    """
    areas: dict[tuple[int, int], tuple[int, int]] = {}
    with sheet._get_source() as source:
        remainder = b""
        while block := source.read(2**20):
            text = remainder + block
            complete = text.rfind(b"<")
            remainder = text[complete:]
            for match in MERGED.finditer(text, 0, complete):
                left, right = (column_index_from_string(letters.decode()) - 1 for letters in match.group(1, 3))
                top, bottom = (int(number) for number in match.group(2, 4))
                if top <= MAX_ROWS and left < MAX_COLUMNS:
                    for column in columns:
                        if left <= column <= right:
                            areas[top, column] = (bottom, left)
    return areas


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def frame_number(record: Mapping[str, str], field: str, clip: str) -> int:
    """Return a frame number of a record.

    Raises:
        GammerError: If it is no whole number.
    """
    if not re.fullmatch(r"[0-9]{1,9}", record[field]):
        raise GammerError(
            f"{field} of {clip} is {record[field]!r} (row {record[ROW]} of the coding workbook)",
            "onset and offset are whole frame numbers of at most 9 digits, and so is an apex unless it is /",
            "write the frame's number there, or delete the row",
        )
    return int(record[field])


def names_of(record: Mapping[str, str], digits: int) -> tuple[str, str]:
    """Return subject, ``digits`` wide, and clip of a record; both are names of folders.

    Raises:
        GammerError: If one is no single path component.
    """
    subject = re.sub("^sub", "", record["subject"], flags=re.IGNORECASE).zfill(digits)
    row = f"in row {record[ROW]} of the coding workbook"
    return check_name(subject, f"Subject {row}"), check_name(record["name"], f"Filename {row}")


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
