"""MEGC's table of spotted intervals: a CSV with the columns subject, video, onset, offset, emotion.

Source: github.com/genbing99/STRS-Metric.
"""

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path

from gammer_lightning.data.clips.long_video import KINDS
from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.spotting_scores import Span
from gammer_lightning.files import read_text

COLUMNS = ("subject", "video", "onset", "offset", "emotion")
FURTHER = ("kind", "score")
"""Columns that are read where they are there."""
MAX_FRAME = 10**9


def megc_csv(spans: Iterable[Span]) -> str:
    """Return intervals as MEGC's CSV, in the given order."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for span in spans:
        writer.writerow([getattr(span, column) for column in COLUMNS])
    return text.getvalue()


def read_megc_csv(path: str | Path) -> list[Span]:
    """Read MEGC's CSV; columns may stand in any order, and ``kind`` and ``score`` may be there.

    Args:
        path: The file.

    Returns:
        Intervals in its order; of kind ``"micro"`` and score 1 where the file does not say otherwise.

    Raises:
        GammerError: If a column is missing, or a value is wrong; names row and column.
    """
    reader = csv.DictReader(io.StringIO(read_text(path).removeprefix("\ufeff")))
    header = [name.strip().lower() for name in reader.fieldnames or []]
    reader.fieldnames = header
    missing = [column for column in COLUMNS if column not in header and column != "emotion"]
    if missing:
        raise GammerError(
            f"{path} has no column {', '.join(missing)}",
            f"its first row names {', '.join(COLUMNS)}",
            "add the column",
        )
    spans = []
    for number, row in enumerate(reader, 2):
        values = {name: (row.get(name) or "").strip() for name in (*COLUMNS, *FURTHER)}
        onset = _frame(path, number, "onset", values["onset"])
        offset = _frame(path, number, "offset", values["offset"])
        if offset < onset:
            raise _wrong(path, number, "offset", values["offset"], f"it is not before the onset, {onset}")
        kind = values["kind"] or "micro"
        if kind not in KINDS:
            raise _wrong(path, number, "kind", kind, f"it is one of {', '.join(KINDS)}")
        score = _score(path, number, values["score"] or "1")
        spans.append(Span(values["subject"], values["video"], onset, offset, kind, score, values["emotion"]))
    return spans


def _frame(path: str | Path, number: int, column: str, text: str) -> int:
    """Return a frame number; tables written by pandas have 12.0 for 12."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MAX_FRAME or value != int(value):
        raise _wrong(path, number, column, text, "it is a whole frame number")
    return int(value)


def _score(path: str | Path, number: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _wrong(path, number, "score", text, "it is a finite number")
    return value


def _wrong(path: str | Path, number: int, column: str, text: str, rule: str) -> GammerError:
    return GammerError(f"{column} in row {number} of {path} is {text[:60]!r}", rule, "correct it, or delete the row")
