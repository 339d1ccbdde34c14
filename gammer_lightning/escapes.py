"""Text from elsewhere (names, messages) made harmless for what reads it: a terminal, a spreadsheet, Markdown, LaTeX."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes a cell for a formula by."""
PASSWORDS = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        # scheme://user:password@host, up to the line's last @ before a host or path: the password may hold any sign
        (r"(\w[\w+.-]*://?[^\s:/]*:)(?:.*@(?=[\w.\[/?-])|\S*@)", r"\1***@"),
        # scheme://user:password where the host is forgotten, or cut off; a number is a host's port
        (r"(\w[\w+.-]*://?[^\s:/@]*:)(?!\d+(?:[/?#\s\"'`,.)]|$))(?!\*\*\*@)[^\s'\"`]+", r"\1***"),
        # user:password@host, with or without a mistyped scheme
        (r"([^\s:/'\"`=]+:)(?!//)(?!\*\*\*@)\S+@(?=[\w.\[/?-])", r"\1***@"),
        # the same, percent-encoded as a whole
        (r"(%3A%2F%2F\S*?%3A)\S*%40", r"\1***%40"),
        # password=..., as in a query, a connection string of libpq or a variable; "password": "..." as in JSON
        (r"(\w*(?:password|passwd|passphrase|pwd|secret|token|api_?key)\w*[\"']?(?:=|: ?(?=[\"'])))"
         r"(?:'[^']*'?|\"[^\"]*\"?|[^\s&'\"]+)", r"\1***"),
        (r"([?&]key=)[^&\s]*", r"\1***"),
        # --password ...
        (r"(--?(?:password|passwd|pwd|secret|token|api[_-]?key) )\S+", r"\1***"),
    )
)  # fmt: skip


def without_passwords(text: str) -> str:
    """Return a text in which passwords are ``***``: ``scheme://user:password@host``, ``password=...`` and the like.

    What only looks like one is masked, too.
    """
    for pattern, replacement in PASSWORDS:
        text = pattern.sub(replacement, text)
    return text


def printable(text: str) -> str:
    """Return a text for a terminal: control characters, but line ends, as escapes of Python."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def spreadsheet_cell(value: object) -> object:
    """Return a cell of a table that a spreadsheet opens: a text that it would take for a formula begins with ``'``."""
    if not isinstance(value, str):
        return value
    return f"'{printable(value)}" if value.startswith(FORMULA) else printable(value)


def csv_table(table: pd.DataFrame) -> str:
    """Return a table as CSV in which no text is a formula or holds a control character."""
    return table.map(spreadsheet_cell).rename(columns=spreadsheet_cell).to_csv(index=False)


def markdown_cell(text: str) -> str:
    """Return a text as a cell of a Markdown table: one line; ``|``, HTML, links and pictures as they are written."""
    line = printable(" ".join(text.split()))
    return (
        line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("](", "]\\(").replace("|", "\\|")
    )
