"""A sweep's study: what is planned, what ran where, what came out, in Optuna's storage.

Every attempt at a row is a trial. A trial is enqueued WAITING; who turns it RUNNING owns it, and the storage lets one
process do that. Of several trials of a row the lowest number that has not failed counts, so that two processes which
enqueue the same row do no harm: the later trial is dropped when its turn comes. What a process leaves undone when it
dies, `enqueue_missing` and `abandoned` find.
"""

import os
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from gammer_lightning.errors import GammerError
from gammer_lightning.escapes import without_passwords
from gammer_lightning.files import MAX_YAML_BYTES, check_name, read_text
from gammer_lightning.shipped import look_up_yaml
from gammer_lightning.sweep.queue.storage import open_storage, storage_name, study_folder
from gammer_lightning.sweep.spec import Sweep, listed, sweep_of_plan

optuna.logging.set_verbosity(optuna.logging.WARNING)

MAX_ATTEMPTS = 3
"""A row is tried three times before it counts as failed; `sweep resume` begins to count anew."""
SUSPECT_SECONDS = 30
"""A running trial that has no stamp, or whose host says nothing, is taken up when it was seen like that for so long.

Clocks of several machines differ, and after an outage of the storage all hosts were silent: those that live have time
to say so."""
STATES = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}

OPTIONAL = type(None)
ATTRIBUTES = {
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
}
"""What the attributes of a trial are, by name."""
STAMP = ("host", "pid", "born")
"""What a stamp has, see `process_stamp`."""


@dataclass(frozen=True)
class Row:
    """A row of a sweep as the study knows it.

    Attributes:
        name: Its name in the sweep.
        settings: The settings in which it differs from the base; of a search, those that were drawn.
        state: ``waiting``, ``running``, ``complete``, ``failed``, ``stopped`` (by the user) or ``pruned``.
        run: Its run folder on ``host``, absolute; None before it ran. It may have been deleted.
        host: The machine that runs or ran it.
        values: The last value of every metric that a complete run logged, e.g. ``train_loss``, ``test_uf1``.
        results: What a complete recognition run's results.json says; None otherwise.
        seconds: Time from the start of its last attempt to its end, s.
        attempts: How often it was started.
        error: Why it failed.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    state: str = "waiting"
    run: Path | None = None
    host: str = ""
    values: dict[str, float] = field(default_factory=dict)
    results: dict[str, Any] | None = None
    seconds: float | None = None
    attempts: int = 0
    error: str = ""

    @property
    def is_gone(self) -> bool:
        """Whether its run folder was on this machine and is not there any more."""
        return self.state == "complete" and self.host == host() and not self.run.is_dir()


@dataclass(frozen=True)
class Claim:
    """A row that this process may run: its trial, and what an earlier attempt learnt."""

    trial_id: int
    number: int
    row: str
    attempt: int
    extra: dict[str, Any]


def host() -> str:
    """Return the name of this machine; GAMMER_HOST names it where host names are not unique."""
    return os.environ.get("GAMMER_HOST") or socket.gethostname()


def process_stamp(pid: int | None = None) -> dict[str, Any]:
    """Return what tells a process from a later one of the same number."""
    pid = pid or os.getpid()
    return {"host": host(), "pid": pid, "born": _born(pid)}


def is_alive(stamp: dict[str, Any]) -> bool:
    """Return whether the process of a stamp of this machine still lives."""
    try:
        return _born(stamp["pid"]) == stamp["born"] and psutil.Process(stamp["pid"]).status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return False


def _born(pid: int) -> str:
    """Return when a process started, on Linux in ticks since the boot, which no change of the clock can shift."""
    if not Path("/proc/sys/kernel/random/boot_id").exists():
        return str(psutil.Process(pid).create_time())
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {ticks}"


class Study:
    """The rows of one sweep in a storage; made by `join_study`, found again by `open_study`."""

    def __init__(self, storage: BaseStorage, study_id: int, sweep: Sweep):
        self.storage, self.id, self.sweep = storage, study_id, sweep
        self.planned = sweep.settings()
        self._suspected: dict[int, float] = {}

    @property
    def name(self) -> str:
        """The name of the study."""
        return self.sweep.study

    def folder(self, row: str, extra: Mapping[str, Any] | None = None) -> Path:
        """Return the run folder of a row: its number and its name, where letters may stand.

        Args:
            row: Its name.
            extra: Settings beside those that are planned, which make it another run.
        """
        letters = "".join(letter if letter.isalnum() or letter in "+-." else "_" for letter in row)
        letters = letters.encode()[:80].decode(errors="ignore")
        letters += "".join(f"-{name.rpartition('.')[2]}_{value}" for name, value in (extra or {}).items())
        number = list(self.planned).index(row) + 1
        return study_folder(self.name) / f"{number:0{len(str(len(self.planned)))}d}-{letters}"

    def refuse_other_files(self) -> None:
        """See that the YAMLs that rows are made of are what they were when the study began.

        Raises:
            GammerError: If they are not.
        """
        _refuse_other_files(_plan(self.storage, self.id), text_of_files(self.sweep), self.name)

    def optuna(self, sampler: BaseSampler | None = None) -> optuna.Study:
        """Return the study as Optuna's own object."""
        return optuna.load_study(study_name=self.name, storage=self.storage, sampler=sampler)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials of some states, or all, by number, but those of runs that were asked for again."""
        again = self._again()
        trials = self.storage.get_all_trials(self.id, deepcopy=False, states=states or None)
        for trial in trials:
            self._check(trial)
        counting = (t for t in trials if t.number > again.get(t.user_attrs["row"], -1) and not _was_dropped(t))
        return sorted(counting, key=lambda trial: trial.number)

    def _check(self, trial: FrozenTrial) -> None:
        """Refuse a trial that no sweep has written.

        Raises:
            GammerError: If it names no row, or what it says of the row is of another kind.
        """
        known = trial.user_attrs
        wrong = [name for name, kinds in ATTRIBUTES.items() if not isinstance(known.get(name), kinds)]
        wrong += [name for name in ("stamp", "child") if not set(STAMP) <= set(known.get(name) or STAMP)]
        if not all(type(value) in (int, float) for value in (known.get("values") or {}).values()):
            wrong.append("values")
        if not wrong and known["row"] not in self.planned:
            wrong = [f"row {known['row']!r}"]
        if not wrong and trial.state == TrialState.COMPLETE and "run" not in known:
            wrong = ["run"]
        if wrong:
            raise GammerError(
                f"trial {trial.number} of the study {self.name} is damaged: {', '.join(wrong)}",
                "sweeps alone write the trials of a study",
                "restore the storage, or start a new study: change `study` in the sweep's YAML",
            )

    def _again(self) -> dict[str, int]:
        return self.storage.get_study_user_attrs(self.id).get("again", {})

    def by_row(self) -> dict[str, list[FrozenTrial]]:
        """Return the trials of every planned row, in planned order."""
        found: dict[str, list[FrozenTrial]] = {row: [] for row in self.planned}
        for trial in self.trials():
            found[trial.user_attrs["row"]].append(trial)
        return found

    def rows(self) -> list[Row]:
        """Return what is known of every planned row, in planned order."""
        return [self._row(name, trials) for name, trials in self.by_row().items()]

    def _row(self, name: str, trials: list[FrozenTrial]) -> Row:
        if not trials:
            return Row(name, self.planned[name])
        trial = _that_counts(trials)
        known, done = trial.user_attrs, trial.datetime_complete or datetime.now()
        started = [t for t in trials if "stamp" in t.user_attrs]
        return Row(
            name,
            known.get("settings", self.planned[name]),
            STATES[trial.state] if known.get("counts", True) else "stopped",
            Path(known["run"]) if "run" in known else None,
            known.get("stamp", {}).get("host", ""),
            known.get("values", {}),
            known.get("results"),
            (done - trial.datetime_start).total_seconds() if started and trial.datetime_start else None,
            len(started),
            without_passwords(known.get("error", "")),
        )

    def enqueue_missing(self, failed_too: bool = False) -> int:
        """Enqueue every row that neither waits, runs nor is done, as long as it has attempts left.

        May be called at any time by any process: that is how rows get planned, tried again, and found again where
        a process died between two steps.

        Args:
            failed_too: Also rows that have no attempt left; counting begins anew.

        Returns:
            How many rows have none left.
        """
        failed = 0
        for row, trials in self.by_row().items():
            if not _all_failed(trials):
                continue
            following = _following(trials, failed_too)
            failed += following is None
            if following is not None:
                self._enqueue(row, following)
        return failed

    def _enqueue(self, row: str, attributes: dict[str, Any]) -> None:
        fixed = attributes.pop("fixed_params", {})
        trial = create_trial(
            state=TrialState.WAITING, user_attrs={"row": row, **attributes}, system_attrs={"fixed_params": fixed}
        )
        self.storage.create_new_trial(self.id, template_trial=trial)

    def is_over(self) -> bool:
        """Return whether every row is done or has no attempt left."""
        return all(
            any(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
            or (_all_failed(trials) and bool(trials) and _following(trials, False) is None)
            for trials in self.by_row().values()
        )

    def run_again(self, row: str) -> None:
        """Plan a row anew, as it was drawn; what came out of it moves aside.

        Raises:
            GammerError: If there is no such row, or it runs or waits.
        """
        if row not in self.planned:
            raise GammerError(f"no row {row!r} in {self.name}", f"rows are {listed(self.planned)}", "name one")
        trials = self.by_row()[row]
        if not trials or any(trial.state in (TrialState.RUNNING, TrialState.WAITING) for trial in trials):
            raise GammerError(f"the row {row!r} runs or waits", "only one that ended can run again", "wait, or stop it")
        old, newest = _that_counts(trials), trials[-1].number
        extra = old.user_attrs.get("extra", {})
        self.storage.set_study_user_attr(self.id, "again", self._again() | {row: newest})
        run = self.folder(row, extra)
        if run.is_dir():  # whichever host ran it: the disk may be shared
            run.rename(run.with_name(f"{run.name}.before-{newest + 1}"))
        self._enqueue(row, {"attempt": 1, "fixed_params": old.params, "extra": extra})

    def claim(self) -> Claim | None:
        """Take the next waiting row for this process, or None if none waits."""
        rows = self.by_row()
        waiting = [trial for trials in rows.values() for trial in trials if trial.state == TrialState.WAITING]
        for trial in sorted(waiting, key=lambda trial: trial.number):
            row, trial_id = trial.user_attrs["row"], trial._trial_id
            try:
                if not self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                    continue
                self.heartbeat(trial_id)
                self.note(trial_id, stamp=process_stamp(), run=str(self.folder(row).absolute()))
            except UpdateFinishedTrialError:
                continue
            if _is_superfluous(trial, rows[row]):
                self._end(trial_id, TrialState.FAIL, dropped=True)
                continue
            return Claim(trial_id, trial.number, row, trial.user_attrs["attempt"], trial.user_attrs.get("extra", {}))
        return None

    def note(self, trial_id: int, **attributes: Any) -> None:
        """Write attributes of a trial."""
        for name, value in attributes.items():
            self.storage.set_trial_user_attr(trial_id, name, value)

    def heartbeat(self, trial_id: int) -> None:
        """Tell a server that this process lives; a journal's readers look for the process itself."""
        if hasattr(self.storage, "record_heartbeat"):
            self.storage.record_heartbeat(trial_id)

    def owns(self, trial_id: int) -> bool:
        """Return whether a claimed trial is still ours to run, which it is not once others took us for dead."""
        return self.storage.get_trial(trial_id).state == TrialState.RUNNING

    def complete(self, trial_id: int, objective: Sequence[float], **attributes: Any) -> bool:
        """Say that a row is done; False if others had taken it up meanwhile."""
        return self._end(trial_id, TrialState.COMPLETE, objective, **attributes)

    def prune(self, trial_id: int, **attributes: Any) -> bool:
        """Say that a row of a search was stopped early."""
        return self._end(trial_id, TrialState.PRUNED, **attributes)

    def fail(self, trial_id: int, error: str, **attributes: Any) -> bool:
        """Say that an attempt failed, and why."""
        return self._end(trial_id, TrialState.FAIL, error=without_passwords(error), **attributes)

    def _end(self, trial_id: int, state: TrialState, objective: Sequence[float] = (), **attributes: Any) -> bool:
        try:
            self.note(trial_id, **attributes)
            return self.storage.set_trial_state_values(trial_id, state, objective or None)
        except UpdateFinishedTrialError:  # by others, or by us, where the answer was lost
            return self.storage.get_trial(trial_id).state == state

    def abandoned(self, mine: Collection[int] = ()) -> list[FrozenTrial]:
        """Return the running trials whose supervisor died.

        Args:
            mine: Those that this process runs, which it does not ask about.
        """
        on_server, now = hasattr(self.storage, "record_heartbeat"), time.monotonic()
        stale = set(self.storage._get_stale_trial_ids(self.id) if on_server else ())
        running = {t._trial_id: t for t in self.trials(TrialState.RUNNING) if t._trial_id not in mine}
        suspects = [number for number, t in running.items() if number in stale or "stamp" not in t.user_attrs]
        self._suspected = {number: self._suspected.get(number, now) for number in suspects}
        due = {number for number, since in self._suspected.items() if now - since > SUSPECT_SECONDS}
        return [trial for number, trial in running.items() if number in due or _is_dead(trial)]


def _is_dead(trial: FrozenTrial) -> bool:
    """Return whether a process of this machine claimed it, and died or lost it."""
    stamp = trial.user_attrs.get("stamp", {})
    return stamp.get("host") == host() and (stamp["pid"] == os.getpid() or not is_alive(stamp))


def _is_superfluous(trial: FrozenTrial, trials: list[FrozenTrial]) -> bool:
    """Return whether another trial stands for the row, or the trial follows one that is not its last."""
    earlier = [other for other in trials if other.number < trial.number]
    return bool(earlier) and (not _all_failed(earlier) or trial.user_attrs.get("retry_of") != earlier[-1].number)


def _all_failed(trials: list[FrozenTrial]) -> bool:
    return all(trial.state == TrialState.FAIL for trial in trials)


def _was_dropped(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get("dropped", False)


def _that_counts(trials: list[FrozenTrial]) -> FrozenTrial:
    return next((trial for trial in trials if trial.state != TrialState.FAIL), trials[-1])


def _following(trials: list[FrozenTrial], failed_too: bool) -> dict[str, Any] | None:
    """Return the attributes of a row's next attempt after failed ones; None if it has none left."""
    if not trials:
        return {"attempt": 1}
    last = trials[-1]
    known, attempt = last.user_attrs, last.user_attrs["attempt"]
    follows: dict[str, Any] = {"retry_of": last.number, "extra": known.get("retry_with", known.get("extra", {}))}
    if "fixed_params" in last.system_attrs:
        follows["fixed_params"] = last.params or last.system_attrs["fixed_params"]
    if not known.get("counts", True):
        return follows | {"attempt": attempt}
    if "retry_with" in known:
        return follows | {"attempt": attempt}
    if failed_too and (attempt >= MAX_ATTEMPTS or known.get("final")):
        return follows | {"attempt": 1}
    return None if attempt >= MAX_ATTEMPTS or known.get("final") else follows | {"attempt": attempt + 1}


def text_of_files(sweep: Sweep) -> str:
    """Return the YAMLs that a sweep's rows are made of as one text; of one that is gone, nothing."""
    paths = (look_up_yaml(file, "experiments") for file in sweep.files)
    return "\n".join(read_text(path, MAX_YAML_BYTES) if path else "" for path in paths)


def join_study(storage: BaseStorage, sweep: Sweep, base_text: str) -> Study:
    """Make the study of a sweep, or join it where it is already there.

    Args:
        storage: From `open_storage`.
        sweep: The sweep.
        base_text: The YAMLs that its rows are made of (`text_of_files`), which are part of what is swept.

    Raises:
        GammerError: If the study is there with another sweep or base, and in what they differ.
    """
    directions = [optuna.study.StudyDirection["MINIMIZE" if mode == "min" else "MAXIMIZE"] for mode in sweep.modes]
    plan = {"sweep": sweep.plain(), "base_text": base_text}
    try:
        study_id = storage.create_new_study(directions, sweep.study)
    except DuplicatedStudyError:
        study_id = storage.get_study_id_from_name(sweep.study)
        if old := _plan(storage, study_id):
            sweep_of_plan(old, sweep.study)
            _refuse_another(old, plan, sweep.study)
            plan["sweep"] |= {key: old["sweep"][key] for key in ("rows", "grid")}  # their order names rows and folders
            sweep = sweep_of_plan(plan, sweep.study)
    storage.set_study_user_attr(study_id, "plan", plan)
    return Study(storage, study_id, sweep)


def open_study(name: str, url: str | None = None) -> Study:
    """Open the study of a sweep that was run before.

    Raises:
        GammerError: If there is none, or its storage cannot be opened.
    """
    check_name(name, "the name of the study")
    place = storage_name(url, name)
    if "://" not in place and not Path(place).is_file():
        raise _no_study(name, f"no file {place}")
    storage = open_storage(url, name)
    try:
        study_id = storage.get_study_id_from_name(name)
    except KeyError:
        known = ", ".join(study.study_name for study in storage.get_all_studies()) or "none"
        raise _no_study(name, f"its studies: {known}") from None
    if plan := _plan(storage, study_id):
        return Study(storage, study_id, sweep_of_plan(plan, name))
    raise _no_study(name, "its maker died before it wrote the plan")


def _no_study(name: str, found: str) -> GammerError:
    return GammerError(
        f"no study {name!r} in the storage ({found})",
        "a study is made by `gammer sweep run`, and looked for in this folder's runs/sweeps or in --storage",
        f"gammer sweep run sweeps/{name}.yaml, or change to the folder it was started in, or add --storage",
    )


def _plan(storage: BaseStorage, study_id: int) -> Any:
    for _ in range(50):  # who made the study writes its plan right after
        if plan := storage.get_study_user_attrs(study_id).get("plan"):
            return plan
        time.sleep(0.1)
    return None


def _refuse_another(old: dict[str, Any], new: dict[str, Any], name: str) -> None:
    differences = [
        f"{key} was {_short(old['sweep'].get(key))}, is {_short(new['sweep'][key])}"
        for key in new["sweep"]
        if old["sweep"].get(key) != new["sweep"][key] and key not in ("published", "reference", "rows", "grid")
    ]
    for key in ("rows", "grid"):
        differences += _entries_that_differ(old["sweep"][key], new["sweep"][key], key)
    if differences:
        raise GammerError(
            f"the study {name} is there with another sweep: {'; '.join(differences)}",
            "all rows of a study are of one sweep",
            f"go on with the old one: gammer sweep resume {name}; or start a new one: change `study` in the YAML",
        )
    _refuse_other_files(old, new["base_text"], name)


def _refuse_other_files(old: dict[str, Any], text: str, name: str) -> None:
    if old["base_text"] != text:
        raise GammerError(
            f"{' or '.join(Sweep(**old['sweep']).files)} was changed since the study {name} began",
            "all rows of a study are of one sweep, and its YAMLs are part of it",
            "restore it, or start a new study: change `study` in the sweep's YAML, then gammer sweep run",
        )


def _entries_that_differ(old: dict[str, Any], new: dict[str, Any], key: str) -> Iterator[str]:
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            before, after = (_short(entries[name]) if name in entries else "absent" for entries in (old, new))
            yield f"{key} {name!r} was {before}, is {after}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else text[:57] + "..."
