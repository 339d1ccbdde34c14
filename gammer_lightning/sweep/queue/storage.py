"""Where a study is kept: a journal file on one machine, a database server for several."""

import argparse
import os
import re
import shlex
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from filelock import FileLock

from gammer_lightning.errors import GammerError
from gammer_lightning.files import check_is_file, check_name, disk_errors

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, JournalStorage
    from sqlalchemy import URL

SWEEPS = Path("runs", "sweeps")
STORAGE_VARIABLE = "GAMMER_SWEEP_STORAGE"
"""Names the storage where --storage is not given, so that a password need not be on a command line."""
HEARTBEAT, GRACE = 15, 60
"""On a server: a supervisor says every 15 s that it lives; after 60 s without a word, its rows may be taken up."""
JOURNAL_START = b'{"op_code":'
"""How every journal begins."""
TIMEOUT = 10
"""How long a server may take to answer, s, be it to a connection, a packet or a statement."""


@runtime_checkable
class ServerStorage(Protocol):
    """A storage on a server. Other than a journal, it keeps when each supervisor last sent a heartbeat.

    Optuna has such a base class, but only as a private one.
    """

    def record_heartbeat(self, trial_id: int) -> None:
        """Keep that the supervisor of a trial lives."""

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """Return the running trials of whose supervisors nothing was heard for `GRACE`."""


def study_folder(study: str) -> Path:
    """Return the folder of a study: its journal, the run folder of each row, its tables.

    Raises:
        GammerError: If the study's name is no name of a folder.
    """
    return SWEEPS / check_name(study, "the name of the study")


def add_storage_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--storage``."""
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="postgresql://user@host/database for several machines, or a journal file's path (default: "
        "$GAMMER_SWEEP_STORAGE, else runs/sweeps/STUDY/journal.log)",
    )


def open_storage(url: str | None, study: str) -> "BaseStorage":
    """Open the storage of a study.

    Args:
        url: ``postgresql://user@host/database``; a path is that of a journal file; None is the variable
            GAMMER_SWEEP_STORAGE, else the journal in the study's folder.
        study: Name of the study.

    Raises:
        GammerError: If it cannot be reached or written, its driver is missing, or it is SQLite.
    """
    url = storage_name(url, study)
    if "://" not in url:
        return _open_journal(Path(url))
    from optuna.storages import get_storage

    address = _parse(url)
    printable_address = address.set(query={}).render_as_string(hide_password=True)
    return get_storage(_connect(address, printable_address))


def storage_name(url: str | None, study: str) -> str:
    """Return the address or path of a study's storage.

    Raises:
        GammerError: If it looks like an address that lacks a part, which must not become a file's name.
    """
    name = url or os.environ.get(STORAGE_VARIABLE)
    if not name:
        return str(study_folder(study) / "journal.log")
    looks_like_address = re.match(r"(?i)[a-z][\w+.-]*:|.*(@|%40|%3a%2f%2f)", name) and not os.path.exists(name)
    if "://" in name or looks_like_address:
        _parse(name)
    return name


@contextmanager
def storage_errors(study: str) -> Iterator[None]:
    """Say what to do where a study's storage fails.

    Raises:
        GammerError: In place of the storage's own errors.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    with disk_errors(study_folder(study)):
        try:
            yield
        except (StorageInternalError, SQLAlchemyError, NotImplementedError) as error:
            raise GammerError(
                f"the storage of {study} fails: {type(error).__name__}",
                "its server answers, or its file lies on a disk with file locks",
                "see to it, then run the same command again: nothing is lost",
            ) from None  # the cause could show a password


def _open_journal(path: Path) -> "BaseStorage":
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _check_journal(path)
        return _journal_class()(path)


def _check_journal(path: Path) -> None:
    """Refuse a file that is no journal: its end would be cut off, and lines written behind it.

    Raises:
        GammerError: If it is no regular file, or begins otherwise.
    """
    check_is_file(path)
    with path.open("rb") as lines:
        start = lines.read(len(JOURNAL_START))
    if not JOURNAL_START.startswith(start):  # a full disk can leave less
        raise GammerError(
            f"{path} is no journal of a sweep",
            f"it begins with {JOURNAL_START.decode()}, or is empty",
            "restore it; or correct --storage, or GAMMER_SWEEP_STORAGE",
        )


@cache
def _journal_class() -> "Callable[[Path], JournalStorage]":
    from optuna.exceptions import DuplicatedStudyError, OptunaError
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    class Journal(JournalStorage):
        """A journal that says which of its lines cannot be read."""

        damage: GammerError | None = None

        def __init__(self, path: Path):
            self._path = path
            lock = _JournalLock(path)
            super().__init__(
                JournalFileBackend(str(path), lock_obj=lock)  # type: ignore[arg-type]  # optuna's base class is private
            )

        def _sync_with_backend(self) -> None:
            if self.damage:
                raise self.damage
            try:
                super()._sync_with_backend()
            except (DuplicatedStudyError, OptunaError):
                raise
            except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError) as error:
                self.damage = _damaged(str(self._path), self._replay_result.log_number_read, error)
                raise self.damage from error

    return Journal


def _damaged(journal: str, line: int, error: Exception) -> GammerError:
    path = shlex.quote(journal)
    return GammerError(
        f"the journal {journal} cannot be read, near its line {line}: {type(error).__name__} {str(error)[:200]}",
        "it holds one operation of a study a line, as JSON, which only sweeps write",
        "restore it; or take the study up without it, whose finished rows are not run again: "
        f"mv {path} {path}.damaged, then gammer sweep run SPEC",
    )


class _JournalLock:
    """A lock that the kernel frees when its holder is killed, where Optuna's own makes all others wait 30 s."""

    def __init__(self, journal: Path):
        self._journal = journal
        self._lock = FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        _cut_half_line(self._journal)
        return True

    def release(self) -> None:
        self._lock.release()


def _cut_half_line(journal: Path) -> None:
    """Drop what a full disk left of a last line, or the next one would be joined to it."""
    with journal.open("r+b") as lines:
        if lines.seek(0, os.SEEK_END) == 0:
            return
        lines.seek(-1, os.SEEK_END)
        if lines.read(1) != b"\n":
            lines.seek(0)
            end_of_last_whole_line = lines.read().rfind(b"\n") + 1
            lines.truncate(end_of_last_whole_line)


def _parse(url: str) -> "URL":
    import sqlalchemy

    try:
        address = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise _no_url() from None
    without_query, _, _ = url.partition("?")
    if without_query.count("@") > 1 or "@" in (address.database or "") or "password" in address.query:
        raise _no_url()
    if address.get_backend_name() == "sqlite":
        raise GammerError(
            "the storage is SQLite",
            "SQLite lets two workers claim one row, and whether a second comes cannot be known",
            "leave --storage out for a journal file, or use postgresql://",
        )
    if address.get_backend_name() != "postgresql":
        raise GammerError(
            f"the storage begins with {address.drivername}://",
            "several machines share a PostgreSQL server, and one machine's study is a file",
            "write postgresql://, or give a path",
        )
    return address.set(drivername="postgresql+psycopg")


def _no_url() -> GammerError:
    """Return an error without any part of the address, since each could be the password."""
    return GammerError(
        "the storage is no URL and no path",
        "it is postgresql://user:password@host:port/database, where a password's special characters are escaped (%40 "
        "for @), or a journal's path without : and @",
        "correct --storage, or GAMMER_SWEEP_STORAGE",
    )


def _connect(address: "URL", printable_address: str) -> "BaseStorage":
    import sqlalchemy
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import RDBStorage

    for attempt in (1, 2, 3):
        try:
            with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
                return RDBStorage(
                    address.render_as_string(hide_password=False),
                    {"pool_pre_ping": True, "connect_args": _limits(address)},
                    heartbeat_interval=HEARTBEAT,
                    grace_period=GRACE,
                )
        except ImportError as error:
            raise GammerError(
                f"the storage {printable_address} needs a driver that is not installed",
                "PostgreSQL is reached through psycopg",
                "pip install 'gammer-lightning[postgresql]'",
            ) from error
        except sqlalchemy.exc.OperationalError as error:
            raise GammerError(
                f"the storage {printable_address} cannot be reached: {_reason(error, address)}",
                "the server runs, and the user may log in and owns the database",
                "start it, or correct --storage; a password can also lie in ~/.pgpass",
            ) from None  # the cause could show the password
        except sqlalchemy.exc.DBAPIError as error:
            if attempt == 3:
                raise GammerError(f"the storage {printable_address} refuses: {_reason(error, address)}") from None
            time.sleep(1)  # another supervisor was creating the same tables
    raise AssertionError("unreachable")


def _limits(address: "URL") -> dict[str, Any]:
    """Return connection settings that end a query whose server or network is gone, and the locks of a hung process.

    Heartbeats are stored without a time zone, so all sessions have one zone without summer time.
    """
    settings = {
        "statement_timeout": f"{TIMEOUT}s",
        "idle_in_transaction_session_timeout": f"{GRACE}s",  # the locks of a supervisor that is stopped or cut off
        "timezone": "UTC",
    }
    options = list(address.normalized_query.get("options", ()))
    options += [f"-c {name}={value}" for name, value in settings.items()]
    return {
        "connect_timeout": TIMEOUT,
        "tcp_user_timeout": 1000 * TIMEOUT,
        "keepalives_idle": TIMEOUT // 2,
        "keepalives_interval": 1,
        "keepalives_count": TIMEOUT // 2,
        "options": " ".join(options),
    }


def _reason(error: Exception, address: "URL") -> str:
    """Return an error's message in one line, without the password."""
    message = str(getattr(error, "orig", error))
    line = " ".join(message.split())
    return line.replace(str(address.password), "***") if address.password else line
