"""The coding workbook of a microfaces folder, in CASME II's columns and without a time of writing."""

import re
import zipfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from openpyxl import Workbook

from gammer_lightning.files import replacing

WORKBOOK = "CASME2-coding-microfaces.xlsx"
HEADER = ("Subject", "Filename", "", "OnsetFrame", "ApexFrame", "OffsetFrame", "", "Action Units", "Estimated Emotion")


def write_workbook(path: Path, rows: Iterable[tuple]) -> None:
    """Write a workbook of `HEADER` and rows; equal rows give equal bytes."""
    write_sheets(path, [[HEADER, *rows]])


def write_sheets(path: Path, sheets: Iterable[Iterable[tuple]]) -> None:
    """Write a workbook of several sheets, each a list of rows; equal rows give equal bytes."""
    book = Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets, 1):
        sheet = book.create_sheet("Sheet" if number == 1 else f"Sheet{number}")
        for row in rows:
            sheet.append(row)
    content = BytesIO()
    book.save(content)
    with replacing(path) as temporary:
        _copy_without_time(content, temporary)


def _copy_without_time(workbook: BytesIO, target: Path) -> None:
    """Copy an .xlsx file with every time stamp set to 1980, so that equal contents are equal bytes."""
    with zipfile.ZipFile(workbook) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "docProps/core.xml":
                data = re.sub(rb"\d{4}-\d\d-\d\dT[\d:.]+Z", b"1980-01-01T00:00:00Z", data)
            new.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
