"""A sweep's study: what is planned, what ran where, what came out, in Optuna's storage.

Every attempt at a row is a trial. A trial is enqueued WAITING; who turns it RUNNING owns it, and the storage lets one
process do that. Of several trials of a row the lowest number that has not failed counts, so that two processes which
enqueue the same row do no harm: the later trial is dropped when its turn comes. What a process leaves undone when it
dies, `enqueue_missing` and `abandoned` find.
"""

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from gammer_lightning.errors import GammerError
from gammer_lightning.escapes import without_passwords
from gammer_lightning.files import MAX_YAML_BYTES, check_name, read_text
from gammer_lightning.shipped import look_up_yaml
from gammer_lightning.sweep.queue.attempt import (
    Attempt,
    NextAttempt,
    damaged_attributes,
    host,
    is_alive,
    process_stamp,
)
from gammer_lightning.sweep.queue.storage import ServerStorage, open_storage, storage_name, study_folder
from gammer_lightning.sweep.spec import Sweep, listed, sweep_of_plan

optuna.logging.set_verbosity(optuna.logging.WARNING)

MAX_ATTEMPTS = 3
"""A row is tried three times before it counts as failed; `sweep resume` begins to count anew."""
SUSPECT_SECONDS = 30
"""A running trial that has no stamp, or whose host says nothing, is taken up when it was seen like that for so long.

Clocks of several machines differ, and after an outage of the storage all hosts were silent: those that live have time
to say so."""
RowState = Literal["waiting", "running", "complete", "pruned", "failed", "stopped"]
STATES: dict[TrialState, RowState] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


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
    state: RowState = "waiting"
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
        if self.state != "complete" or self.host != host() or self.run is None:
            return False
        return not self.run.is_dir()


@dataclass(frozen=True)
class Claim:
    """A row that this process may run: its trial, and what an earlier attempt learnt."""

    trial_id: int
    number: int
    row: str
    attempt: int
    extra: dict[str, Any]


class Study:
    """The rows of one sweep in a storage; made by `join_study`, found again by `open_study`."""

    def __init__(self, storage: BaseStorage, study_id: int, sweep: Sweep):
        self.storage = storage
        self.id = study_id
        self.sweep = sweep
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
        for setting, value in (extra or {}).items():
            letters += f"-{setting.rpartition('.')[2]}_{value}"
        number = list(self.planned).index(row) + 1
        digits = len(str(len(self.planned)))
        return study_folder(self.name) / f"{number:0{digits}d}-{letters}"

    def refuse_other_files(self) -> None:
        """See that the YAMLs that rows are made of are what they were when the study began.

        Raises:
            GammerError: If they are not.
        """
        _refuse_other_files(_plan(self.storage, self.id), text_of_files(self.sweep), self.name)

    def optuna(self, sampler: BaseSampler | None = None) -> optuna.Study:
        """Return the study as Optuna's own object."""
        return optuna.load_study(study_name=self.name, storage=self.storage, sampler=sampler)

    def attempt(self, trial_id: int) -> Attempt:
        """Return the attempt of a trial."""
        trial = self.storage.get_trial(trial_id)
        self._check(trial)
        return Attempt.of_trial(trial)

    def attempts(self, *states: TrialState) -> list[Attempt]:
        """Return attempts of some states, or of all, by number, without those dropped or from before `run_again`."""
        last_before = self._last_before_again()
        trials = self.storage.get_all_trials(self.id, deepcopy=False, states=states or None)
        attempts = []
        for trial in sorted(trials, key=lambda trial: trial.number):
            self._check(trial)
            attempt = Attempt.of_trial(trial)
            if attempt.number > last_before.get(attempt.row, -1) and not attempt.dropped:
                attempts.append(attempt)
        return attempts

    def _check(self, trial: FrozenTrial) -> None:
        """Refuse a trial that no sweep has written.

        Raises:
            GammerError: If it names no row, or what it says of the row is of another kind.
        """
        attributes = trial.user_attrs
        damaged = damaged_attributes(trial)
        if not damaged and attributes["row"] not in self.planned:
            damaged = [f"row {attributes['row']!r}"]
        if not damaged and trial.state == TrialState.COMPLETE and "run" not in attributes:
            damaged = ["run"]
        if damaged:
            raise GammerError(
                f"trial {trial.number} of the study {self.name} is damaged: {', '.join(damaged)}",
                "sweeps alone write the trials of a study",
                "restore the storage, or start a new study: change `study` in the sweep's YAML",
            )

    def _last_before_again(self) -> dict[str, int]:
        """Return, for each row that `run_again` planned anew, the number of its last attempt before that."""
        return self.storage.get_study_user_attrs(self.id).get("again", {})

    def by_row(self) -> dict[str, list[Attempt]]:
        """Return the attempts at every planned row, in planned order."""
        attempts: dict[str, list[Attempt]] = {row: [] for row in self.planned}
        for attempt in self.attempts():
            attempts[attempt.row].append(attempt)
        return attempts

    def rows(self) -> list[Row]:
        """Return every planned row with its state, in planned order."""
        return [self._row(name, attempts) for name, attempts in self.by_row().items()]

    def _row(self, name: str, attempts: list[Attempt]) -> Row:
        if not attempts:
            return Row(name, self.planned[name])
        attempt = _current(attempts)
        num_started = sum(attempt.stamp is not None for attempt in attempts)
        seconds = None
        if num_started and attempt.started:
            end = attempt.ended or datetime.now()
            seconds = (end - attempt.started).total_seconds()
        return Row(
            name,
            settings=self.planned[name] if attempt.settings is None else attempt.settings,
            state=STATES[attempt.state] if attempt.counts else "stopped",
            run=attempt.run,
            host=attempt.stamp.host if attempt.stamp else "",
            values=attempt.values,
            results=attempt.results,
            seconds=seconds,
            attempts=num_started,
            error=without_passwords(attempt.error),
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
        for row, attempts in self.by_row().items():
            if not _all_failed(attempts):
                continue
            next_attempt = _next_attempt(attempts, failed_too)
            if next_attempt is None:
                failed += 1
            else:
                self._enqueue(row, next_attempt)
        return failed

    def _enqueue(self, row: str, attempt: NextAttempt) -> None:
        trial = create_trial(
            state=TrialState.WAITING,
            user_attrs=attempt.attributes(row),
            system_attrs={"fixed_params": attempt.fixed_parameters or {}},
        )
        self.storage.create_new_trial(self.id, template_trial=trial)

    def is_over(self) -> bool:
        """Return whether every row is done or has no attempt left."""
        for attempts in self.by_row().values():
            is_done = any(attempt.state in (TrialState.COMPLETE, TrialState.PRUNED) for attempt in attempts)
            if not is_done and not _all_failed(attempts):
                return False
            if not is_done and _next_attempt(attempts, failed_too=False) is not None:
                return False
        return True

    def run_again(self, row: str) -> None:
        """Plan a row anew, as it was drawn; what came out of it moves aside.

        Raises:
            GammerError: If there is no such row, or it runs or waits.
        """
        if row not in self.planned:
            raise GammerError(f"no row {row!r} in {self.name}", f"rows are {listed(self.planned)}", "name one")
        attempts = self.by_row()[row]
        if not attempts or any(attempt.state in (TrialState.RUNNING, TrialState.WAITING) for attempt in attempts):
            raise GammerError(f"the row {row!r} runs or waits", "only one that ended can run again", "wait, or stop it")
        old = _current(attempts)
        newest = attempts[-1].number
        self.storage.set_study_user_attr(self.id, "again", self._last_before_again() | {row: newest})
        run = self.folder(row, old.extra)
        if run.is_dir():  # whichever host ran it: the disk may be shared
            run.rename(run.with_name(f"{run.name}.before-{newest + 1}"))
        self._enqueue(row, NextAttempt(1, extra=old.extra, fixed_parameters=old.parameters))

    def claim(self) -> Claim | None:
        """Take the next waiting row for this process, or None if none waits."""
        rows = self.by_row()
        waiting = []
        for attempts in rows.values():
            waiting += [attempt for attempt in attempts if attempt.state == TrialState.WAITING]
        for attempt in sorted(waiting, key=lambda attempt: attempt.number):
            row = attempt.row
            trial_id = attempt.trial_id
            try:
                if not self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                    continue
                self.heartbeat(trial_id)
                self.note(trial_id, stamp=process_stamp().as_dict(), run=str(self.folder(row).absolute()))
            except UpdateFinishedTrialError:
                continue
            if _is_superfluous(attempt, rows[row]):
                self._end(trial_id, TrialState.FAIL, dropped=True)
                continue
            return Claim(trial_id, attempt.number, row, attempt.attempt, attempt.extra)
        return None

    def note(self, trial_id: int, **attributes: Any) -> None:
        """Write attributes of a trial."""
        for name, value in attributes.items():
            self.storage.set_trial_user_attr(trial_id, name, value)

    def heartbeat(self, trial_id: int) -> None:
        """Tell a server that this process lives; a journal's readers look for the process itself."""
        if isinstance(self.storage, ServerStorage):
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

    def abandoned(self, mine: Collection[int] = ()) -> list[Attempt]:
        """Return the running attempts whose supervisor died.

        Args:
            mine: Trials of those that this process runs, which it does not ask about.
        """
        now = time.monotonic()
        stale = set()
        if isinstance(self.storage, ServerStorage):
            stale = set(self.storage._get_stale_trial_ids(self.id))
        suspected = {}
        abandoned = []
        for attempt in self.attempts(TrialState.RUNNING):
            trial_id = attempt.trial_id
            if trial_id in mine:
                continue
            if trial_id in stale or attempt.stamp is None:
                suspected[trial_id] = self._suspected.get(trial_id, now)
            is_overdue = now - suspected.get(trial_id, now) > SUSPECT_SECONDS
            if is_overdue or _is_dead(attempt):
                abandoned.append(attempt)
        self._suspected = suspected
        return abandoned


def _is_dead(attempt: Attempt) -> bool:
    """Return whether a process of this machine claimed it, and died or lost it."""
    stamp = attempt.stamp
    if stamp is None or stamp.host != host():
        return False
    return stamp.pid == os.getpid() or not is_alive(stamp)


def _is_superfluous(attempt: Attempt, attempts: list[Attempt]) -> bool:
    """Return whether another attempt stands for the row, or this one follows one that is not its last."""
    earlier = [candidate for candidate in attempts if candidate.number < attempt.number]
    if not earlier:
        return False
    return not _all_failed(earlier) or attempt.retry_of != earlier[-1].number


def _all_failed(attempts: list[Attempt]) -> bool:
    return all(attempt.failed for attempt in attempts)


def _current(attempts: list[Attempt]) -> Attempt:
    """Return the attempt that stands for a row: the first that has not failed, or the last one."""
    return next((attempt for attempt in attempts if not attempt.failed), attempts[-1])


def _next_attempt(attempts: list[Attempt], failed_too: bool) -> NextAttempt | None:
    """Return a row's next attempt after failed ones; None if it has none left."""
    if not attempts:
        return NextAttempt(1)
    last = attempts[-1]
    is_last = last.attempt >= MAX_ATTEMPTS or last.final
    if not last.counts or last.retry_with is not None:
        attempt = last.attempt
    elif not is_last:
        attempt = last.attempt + 1
    elif failed_too:
        attempt = 1
    else:
        return None
    extra = last.extra if last.retry_with is None else last.retry_with
    return NextAttempt(attempt, last.number, extra, last.parameters or last.fixed_parameters)


def text_of_files(sweep: Sweep) -> str:
    """Return the YAMLs that a sweep's rows are made of as one text; one that is gone is empty."""
    texts = []
    for file in sweep.files:
        path = look_up_yaml(file, "experiments")
        texts.append(read_text(path, MAX_YAML_BYTES) if path else "")
    return "\n".join(texts)


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
    plan: dict[str, Any] = {"sweep": sweep.plain(), "base_text": base_text}
    try:
        study_id = storage.create_new_study(directions, sweep.study)
    except DuplicatedStudyError:
        study_id = storage.get_study_id_from_name(sweep.study)
        old_plan = _plan(storage, study_id)
        if old_plan:
            sweep_of_plan(old_plan, sweep.study)
            _refuse_another(old_plan, plan, sweep.study)
            for key in ("rows", "grid"):  # their order names rows and folders
                plan["sweep"][key] = old_plan["sweep"][key]
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
        studies = ", ".join(study.study_name for study in storage.get_all_studies()) or "none"
        raise _no_study(name, f"its studies: {studies}") from None
    plan = _plan(storage, study_id)
    if not plan:
        raise _no_study(name, "its maker died before it wrote the plan")
    return Study(storage, study_id, sweep_of_plan(plan, name))


def _no_study(name: str, studies: str) -> GammerError:
    return GammerError(
        f"no study {name!r} in the storage ({studies})",
        "a study is made by `gammer sweep run`, and looked for in this folder's runs/sweeps or in --storage",
        f"gammer sweep run sweeps/{name}.yaml, or change to the folder it was started in, or add --storage",
    )


def _plan(storage: BaseStorage, study_id: int) -> Any:
    """Return the plan of a study; None where its maker does not write it within 5 s of making the study."""
    for _ in range(50):
        plan = storage.get_study_user_attrs(study_id).get("plan")
        if plan:
            return plan
        time.sleep(0.1)
    return None


def _refuse_another(old: dict[str, Any], new: dict[str, Any], name: str) -> None:
    """Refuse to join a study with a sweep, or with YAMLs, that are not those it was made with."""
    old_sweep = old["sweep"]
    differences = []
    for key, value in new["sweep"].items():
        if key not in ("published", "reference", "rows", "grid") and old_sweep.get(key) != value:
            differences.append(f"{key} was {_short(old_sweep.get(key))}, is {_short(value)}")
    for key in ("rows", "grid"):
        old_entries = old_sweep[key]
        new_entries = new["sweep"][key]
        for entry in dict.fromkeys([*old_entries, *new_entries]):
            if old_entries.get(entry) != new_entries.get(entry):
                before = _short(old_entries[entry]) if entry in old_entries else "absent"
                after = _short(new_entries[entry]) if entry in new_entries else "absent"
                differences.append(f"{key} {entry!r} was {before}, is {after}")
    if differences:
        raise GammerError(
            f"the study {name} is there with another sweep: {'; '.join(differences)}",
            "all rows of a study are of one sweep",
            f"go on with the old one: gammer sweep resume {name}; or start a new one: change `study` in the YAML",
        )
    _refuse_other_files(old, new["base_text"], name)


def _refuse_other_files(old: dict[str, Any], text: str, name: str) -> None:
    if old["base_text"] != text:
        files = Sweep(**old["sweep"]).files
        raise GammerError(
            f"{' or '.join(files)} was changed since the study {name} began",
            "all rows of a study are of one sweep, and its YAMLs are part of it",
            "restore it, or start a new study: change `study` in the sweep's YAML, then gammer sweep run",
        )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else text[:57] + "..."
