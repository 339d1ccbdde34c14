"""An attempt at a row of a sweep: what its trial in the storage says, and which processes it belongs to."""

import os
import socket
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from optuna.trial import FrozenTrial, TrialState

OPTIONAL = type(None)
ATTRIBUTES: dict[str, type | tuple[type, ...]] = {
    "row": str,
    "attempt": (int, OPTIONAL),
    "settings": (dict, OPTIONAL),
    "extra": (dict, OPTIONAL),
    "run": (str, OPTIONAL),
    "stamp": (dict, OPTIONAL),
    "child": (dict, OPTIONAL),
    "values": (dict, OPTIONAL),
    "results": (dict, OPTIONAL),
    "error": (str, OPTIONAL),
    "retry_of": (int, OPTIONAL),
    "retry_with": (dict, OPTIONAL),
    "counts": (bool, OPTIONAL),
    "final": (bool, OPTIONAL),
    "dropped": (bool, OPTIONAL),
    "pruned_at": (int, OPTIONAL),
}
"""Types of the attributes of a trial, by name."""
STAMP = ("host", "pid", "born")
"""Keys of a stored stamp."""


@dataclass(frozen=True)
class Stamp:
    """What tells a process from a later one of the same number.

    Attributes:
        host: Its machine.
        pid: Its number.
        born: When it started.
    """

    host: str
    pid: int
    born: str

    def as_dict(self) -> dict[str, Any]:
        """Return the plain values that a trial has as ``stamp`` or ``child``."""
        return asdict(self)


@dataclass(frozen=True)
class Attempt:
    """One start of a row: a trial of the study, and what its attributes say.

    Attributes:
        trial_id: The trial in the storage.
        number: Its number in the study.
        state: Its state.
        row: Name of the row.
        attempt: Which attempt at the row it is, from 1; counting begins anew with `sweep resume`.
        settings: The settings in which it differs from the base; None until it started.
        extra: Settings beside those that are planned, from an earlier attempt.
        run: Its run folder on the machine of ``stamp``; None before it was claimed.
        stamp: The supervisor that claimed it.
        child: The process that trains it.
        values: The last value of every metric that the run logged.
        results: What a recognition run's results.json says.
        error: Why it failed.
        retry_of: Number of the attempt that it follows; None of a row's first.
        retry_with: Settings that the next attempt has beside those that are planned.
        counts: False where it did not fail, but was stopped.
        final: Whether another attempt would fail, too.
        dropped: Whether another attempt stood for the row when it was claimed.
        pruned_at: Epoch at which the search gave it up.
        parameters: What a search drew.
        fixed_parameters: What a search is to draw again; None where nothing was drawn before.
        started: When it was claimed.
        ended: When it ended.
    """

    trial_id: int
    number: int
    state: TrialState
    row: str
    attempt: int
    settings: dict[str, Any] | None
    extra: dict[str, Any]
    run: Path | None
    stamp: Stamp | None
    child: Stamp | None
    values: dict[str, float]
    results: dict[str, Any] | None
    error: str
    retry_of: int | None
    retry_with: dict[str, Any] | None
    counts: bool
    final: bool
    dropped: bool
    pruned_at: int | None
    parameters: dict[str, Any]
    fixed_parameters: dict[str, Any] | None
    started: datetime | None
    ended: datetime | None

    @classmethod
    def of_trial(cls, trial: FrozenTrial) -> "Attempt":
        """Return what a trial says, whose attributes `damaged_attributes` has passed."""
        stored = trial.user_attrs
        return cls(
            trial_id=trial._trial_id,
            number=trial.number,
            state=trial.state,
            row=stored["row"],
            attempt=stored.get("attempt") or 1,
            settings=stored.get("settings"),
            extra=stored.get("extra") or {},
            run=Path(stored["run"]) if stored.get("run") else None,
            stamp=_stamp(stored.get("stamp")),
            child=_stamp(stored.get("child")),
            values=stored.get("values") or {},
            results=stored.get("results"),
            error=stored.get("error") or "",
            retry_of=stored.get("retry_of"),
            retry_with=stored.get("retry_with"),
            counts=stored.get("counts", True),
            final=stored.get("final", False),
            dropped=stored.get("dropped", False),
            pruned_at=stored.get("pruned_at"),
            parameters=trial.params,
            fixed_parameters=trial.system_attrs.get("fixed_params"),
            started=trial.datetime_start,
            ended=trial.datetime_complete,
        )

    @property
    def failed(self) -> bool:
        """Whether it failed, or was stopped."""
        return self.state == TrialState.FAIL


def _stamp(stored: dict[str, Any] | None) -> Stamp | None:
    return Stamp(stored["host"], stored["pid"], stored["born"]) if stored else None


def damaged_attributes(trial: FrozenTrial) -> list[str]:
    """Return the names of the attributes whose values are none that a sweep writes."""
    stored = trial.user_attrs
    damaged = [name for name, types in ATTRIBUTES.items() if not isinstance(stored.get(name), types)]
    for name in ("stamp", "child"):
        stamp = stored.get(name)
        if stamp and isinstance(stamp, dict) and not set(STAMP) <= set(stamp):
            damaged.append(name)
    values = stored.get("values")
    if isinstance(values, dict) and not all(type(value) in (int, float) for value in values.values()):
        damaged.append("values")
    return damaged


@dataclass(frozen=True)
class NextAttempt:
    """An attempt that is to be enqueued; its attributes are those of `Attempt`, None where it has none."""

    attempt: int
    retry_of: int | None = None
    extra: dict[str, Any] | None = None
    fixed_parameters: dict[str, Any] | None = None

    def attributes(self, row: str) -> dict[str, Any]:
        """Return the attributes of its trial."""
        stored: dict[str, Any] = {"row": row, "attempt": self.attempt}
        if self.retry_of is not None:
            stored["retry_of"] = self.retry_of
        if self.extra is not None:
            stored["extra"] = self.extra
        return stored


def host() -> str:
    """Return the name of this machine; GAMMER_HOST names it where host names are not unique."""
    return os.environ.get("GAMMER_HOST") or socket.gethostname()


def process_stamp(pid: int | None = None) -> Stamp:
    """Return the stamp of a process of this machine, by default of this process."""
    pid = pid or os.getpid()
    return Stamp(host(), pid, _born(pid))


def is_alive(stamp: Stamp) -> bool:
    """Return whether the process of a stamp of this machine still lives."""
    try:
        return _born(stamp.pid) == stamp.born and psutil.Process(stamp.pid).status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return False


def _born(pid: int) -> str:
    """Return when a process started, on Linux in ticks since the boot, which no change of the clock can shift."""
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    if not boot_id.exists():
        return str(psutil.Process(pid).create_time())
    _, _, fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")  # the name before may have spaces
    ticks = fields.split()[19]
    return f"{boot_id.read_text().strip()} {ticks}"
