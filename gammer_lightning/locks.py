"""The lock of a folder that one process at a time writes into, such as a run's or a synthetic data set's."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from gammer_lightning.errors import GammerError
from gammer_lightning.files import disk_errors, write_error

LOCK, HOLDER = ".lock", ".lock.holder"
"""Files of a folder while a process writes into it: the lock, and which process that is."""
ORPHAN_PATIENCE = 15.0
"""How long the workers of a killed process may hold its lock, s; DataLoader's look for their parent every 5 s."""


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold a folder: one process at a time writes into it.

    The lock is the operating system's, so that of a killed process is gone with it.

    Args:
        folder: The folder, which exists.
        name: What kind of folder it is, for the message, e.g. ``"run folder"``.

    Raises:
        GammerError: If another process holds it, with its id and host; or if the folder cannot be written.
    """
    lock = FileLock(folder / LOCK)
    holder = folder / HOLDER
    try:
        lock.acquire(timeout=ORPHAN_PATIENCE if _has_died(holder) else 0)
    except Timeout:
        raise GammerError(
            f"another process writes into the {name} {folder}: {_line_of(holder) or 'it has just started'}",
            f"one process at a time writes into a {name}",
            "wait until it ends, or stop it",
        ) from None
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        with disk_errors(folder):
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def _line_of(holder: Path) -> str:
    try:
        return holder.read_text().strip()
    except (OSError, UnicodeDecodeError):  # it is just being written, or removed
        return ""


def _has_died(holder: Path) -> bool:
    """Return whether the last process that held the lock was of this machine and is gone.

    Workers that it forked hold the lock with it, and need some seconds to notice that it was killed.
    """
    process, _, host = _line_of(holder).removeprefix("process ").partition(" on ")
    return process.isdecimal() and host == socket.gethostname() and not psutil.pid_exists(int(process))
