"""Text from elsewhere (names, messages) made harmless for what reads it: a terminal, a spreadsheet, Markdown, LaTeX."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes a cell for a formula by."""
PASSWORDS = (
    (re.compile(r"(\w[\w+.-]*://[^\s:/@]*:)\S*@"), r"\1***@"),
    (re.compile(r"([?&](?:password|passwd|pwd|token|key)=)[^&\s]*", re.IGNORECASE), r"\1***"),
)


def without_passwords(text: str) -> str:
    """Return a text in which the passwords of addresses (``scheme://user:password@host``) are ``***``."""
    for pattern, replacement in PASSWORDS:
        text = pattern.sub(replacement, text)
    return text


def printable(text: str) -> str:
    """Return a text for a terminal: control characters, but line ends, as escapes of Python."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def spreadsheet_cell(value: object) -> object:
    """Return a cell of a table that a spreadsheet opens: a text that it would take for a formula begins with ``'``."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def csv_table(table: pd.DataFrame) -> str:
    """Return a table as CSV in which no text is a formula."""
    return table.map(spreadsheet_cell).rename(columns=spreadsheet_cell).to_csv(index=False)


def markdown_cell(text: str) -> str:
    """Return a text as a cell of a Markdown table: one line, ``|`` and HTML shown as they are written."""
    line = printable(" ".join(text.split()))
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|")
