"""Text from elsewhere (names, messages) made harmless for what reads it: a terminal, a spreadsheet, Markdown, LaTeX."""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

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

    What only looks like one is masked, too, such as the port of an address before an ``@`` in the same line.
    """
    for pattern, replacement in PASSWORDS:
        text = pattern.sub(replacement, text)
    return text


def mask_tracebacks() -> None:
    """Mask passwords in what Python itself prints of errors in this process, as `without_passwords` does.

    That is the tracebacks of threads and finalizers, of errors that nothing catches, and all log records. Hooks that
    somebody else has set are left alone.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _print_uncaught
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _print_unraisable
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _print_of_thread
    if logging.getLogRecordFactory() is logging.LogRecord:
        logging.setLogRecordFactory(_MaskedRecord)


class _MaskedRecord(logging.LogRecord):
    """A log record without passwords, neither in its message nor in its traceback."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.exc_info and self.exc_info[1]:
            lines = traceback.format_exception(self.exc_info[1])
            self.exc_text = without_passwords("".join(lines).rstrip("\n"))  # formatters take it before exc_info

    def getMessage(self) -> str:
        """Return the message."""
        return without_passwords(super().getMessage())


def _print_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _print_masked("", error)


def _print_of_thread(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_type is SystemExit:
        return
    name = failed.thread.name if failed.thread else threading.get_ident()
    _print_masked(f"Exception in thread {name}:\n", failed.exc_value)


def _print_unraisable(ignored: sys.UnraisableHookArgs) -> None:
    _print_masked(f"{ignored.err_msg or 'Exception ignored in'}: {ignored.object!r}\n", ignored.exc_value)


def _print_masked(heading: str, error: BaseException | None) -> None:
    lines = traceback.format_exception(error) if error else []
    if sys.stderr:
        print(printable(without_passwords(heading + "".join(lines))), end="", file=sys.stderr, flush=True)


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
