"""The supervisor: gives waiting rows to free slots, looks after their processes, and tells the study how they ended.

On a server it holds its rows on a lease (`gammer_lightning.sweep.queue.lease`). Rows that paused when it lapsed go on
once a heartbeat has arrived and they are found not to be taken up. What comes out of a row that others took up does not
count, and its supervisor ends it.
"""

import json
import math
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from sqlalchemy.exc import SQLAlchemyError

from gammer_lightning.errors import GammerError
from gammer_lightning.files import disk_errors
from gammer_lightning.runs.progress import TRIAL_VARIABLE
from gammer_lightning.sweep.queue import lease
from gammer_lightning.sweep.queue.attempt import Attempt, host, is_alive, process_stamp
from gammer_lightning.sweep.queue.child import Child, kill_group, stop_all
from gammer_lightning.sweep.queue.search import row_settings
from gammer_lightning.sweep.queue.slots import Slot
from gammer_lightning.sweep.queue.storage import STORAGE_VARIABLE, ServerStorage, study_folder
from gammer_lightning.sweep.queue.study import Claim, Study
from gammer_lightning.sweep.spec import TEST_SCORES
from gammer_lightning.sweep.summary_run import wandb_environment

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C; a batch system's time limit; a closed terminal."""
POLL = 0.05
"""Time between two looks at the processes, s."""
LOOK = 2.0
"""Time between two looks at what other supervisors do, s."""
STORAGE_PATIENCE = 600
"""How long a storage may be out of reach before the supervisor gives up, s."""
MIN_FREE_BYTES = 500 * 2**20
"""Less free disk than this, and no further row is started: checkpoints would be cut off."""


class Supervisor:
    """Runs the rows of a study in this machine's slots until none is left.

    Args:
        study: The study.
        slots: Where rows run.
        storage: The storage as the user named it, for the rows' own processes.
        say: Takes a line for people.
    """

    def __init__(self, study: Study, slots: Sequence[Slot], storage: str | None, say: Callable[[str], None]):
        self.study = study
        self.slots = list(slots)
        self.storage = storage
        self.say = say
        self.children: dict[str, tuple[Claim, Child]] = {}
        self.stops = 0
        self.is_terminated = False
        self.problem: str | None = None
        self._is_over = False
        self._is_stopping = False
        self._last_look = 0.0
        self._lease = lease.Lease()
        self._printed_lines: set[str] = set()

    def run(self, show: Callable[["Supervisor"], None] = lambda supervisor: None) -> bool:
        """Run rows until all are done, or the user stops them (once: running rows end; twice: at once).

        Args:
            show: Called many times a second, to draw.

        Returns:
            Whether it went on to the end.

        Raises:
            GammerError: If the disk is full or the storage stays out of reach.
        """
        with disk_errors(study_folder(self.study.name)):
            study_folder(self.study.name).mkdir(parents=True, exist_ok=True)
        self._last_look = time.monotonic() - LOOK
        with self._signals():
            try:
                with self._lease.watched(self._pause):
                    while self._step_or_wait(show):
                        time.sleep(POLL)
            finally:
                self._stop_children()
        if self.problem:
            raise GammerError(self.problem, "nothing is lost", f"then: gammer sweep resume {self.study.name}")
        return not self.stops

    @contextmanager
    def _signals(self) -> Iterator[None]:
        handlers = dict.fromkeys(SIGNALS, self._on_signal)
        handlers[signal.SIGTSTP] = self._on_suspend
        old_handlers = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in old_handlers.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        self.stops += 1 if number == signal.SIGINT else 2  # printing here could meet printing that it interrupts
        self.is_terminated |= number == signal.SIGTERM

    def _on_suspend(self, number: int, frame: object) -> None:
        """Stop the rows with this process (Ctrl-Z), since they have sessions of their own; both go on with `fg`."""
        self._signal_children(signal.SIGSTOP)
        signal.raise_signal(signal.SIGSTOP)  # returns when this process is continued
        if not self._lease.has_lapsed:
            self._signal_children(signal.SIGCONT)

    def _pause(self, is_new: bool) -> None:
        self._signal_children(signal.SIGSTOP)
        if is_new and self.children:
            self.say(f"no word to the storage for {lease.FENCE} s; rows pause until it answers")

    def _signal_children(self, number: int) -> None:
        for _, child in list(self.children.values()):
            child.signal(number)

    def _step_or_wait(self, show: Callable[["Supervisor"], None]) -> bool:
        """Do one round; wait where the storage is out of reach, which may pass. Return whether to go on."""
        try:
            goes_on = self._step()
            show(self)
        except (StorageInternalError, SQLAlchemyError):
            if time.monotonic() - self._last_look > STORAGE_PATIENCE:
                self.problem = f"the storage was out of reach for {STORAGE_PATIENCE} s; start its server"
                return False
            time.sleep(1)
            return self.stops < 2
        except OSError as error:
            self.problem = f"cannot write below {study_folder(self.study.name)}: {error.strerror or error}"
            return False
        return goes_on

    def _step(self) -> bool:
        if self.stops == 1:
            self._say_once("running rows will end, no other starts; Ctrl-C again stops them now")
        ended = [name for name, (_, child) in self.children.items() if child.exit_code is not None]
        for name in ended:
            self._settle(*self.children[name])
            del self.children[name]
        if self.stops >= 2:
            return False
        if ended or time.monotonic() - self._last_look > LOOK:
            self._look_around()
            self._fill_slots()
            self._is_over = self.study.is_over()
            if not self.children and not self._is_over:
                self._say_who_runs()
        return bool(self.children) or not (self._is_over or self.stops or self.problem)

    def _look_around(self) -> None:
        """Keep the rows that run here, take up those of dead supervisors, enqueue what is missing."""
        self._keep_rows()
        mine = {claim.trial_id for claim, _ in self.children.values()}
        for attempt in self.study.abandoned(mine):
            self._take_up(attempt)
        self.study.enqueue_missing()
        self._last_look = time.monotonic()

    def _keep_rows(self) -> None:
        """Say that this supervisor lives, drop rows that others took up, let the others go on if they paused."""
        now = time.monotonic()
        is_due = self._lease.is_due
        for claim, child in self.children.values():
            if is_due:
                self.study.heartbeat(claim.trial_id)
            if not self.study.owns(claim.trial_id):
                self.say(f"{claim.row}: taken up by another supervisor; stopped here")
                child.kill()
        if is_due:
            self._lease.renew(now)
        if is_due and not self._lease.has_lapsed:
            self._signal_children(signal.SIGCONT)

    def _take_up(self, attempt: Attempt) -> None:
        study = self.study
        child = attempt.child
        if child and child.host == host() and is_alive(child):
            kill_group(child.pid)
        if attempt.pruned_at is not None:
            if study.prune(attempt.trial_id):
                self.say(f"{attempt.row}: pruned, though its supervisor died")
            return
        is_own = attempt.stamp == process_stamp()  # the storage failed us between claim and start
        if study.fail(attempt.trial_id, "its supervisor died", counts=not is_own):
            self.say(f"{attempt.row}: taken up from a supervisor that died")

    def _fill_slots(self) -> None:
        """Start waiting rows in free slots."""
        for slot in self.slots:
            while slot.name not in self.children and not self.stops and self._has_disk():
                claim = self.study.claim()
                if claim is None:
                    return
                self._start(slot, claim)

    def _has_disk(self) -> bool:
        free = shutil.disk_usage(study_folder(self.study.name)).free
        if free < MIN_FREE_BYTES:
            self.problem = f"{free / 2**20:.0f} MB are free on the disk of {study_folder(self.study.name)}; free some"
        return not self.problem

    def _say_who_runs(self) -> None:
        hosts = sorted({row.host for row in self.study.rows() if row.state == "running"})
        if not hosts:
            return
        self._say_once(f"no row waits; others run on {', '.join(hosts)}, and are taken up if those die (Ctrl-C leaves)")
        other_hosts = [name for name in hosts if name != host()]
        if other_hosts and not isinstance(self.study.storage, ServerStorage):
            self._say_once(
                f"a journal cannot tell whether {other_hosts[0]} lives; if it does not, or was renamed: "
                f"GAMMER_HOST={shlex.quote(other_hosts[0])} gammer sweep resume {self.study.name}"
            )

    def _say_once(self, line: str) -> None:
        if line not in self._printed_lines:
            self._printed_lines.add(line)
            self.say(line)

    def _start(self, slot: Slot, claim: Claim) -> None:
        study = self.study
        sweep = study.sweep
        try:
            settings = row_settings(study, claim)
            study.note(claim.trial_id, settings=settings)
            command = sweep.command(settings | claim.extra)
            folder = study.folder(claim.row, claim.extra)
            child = Child(sweep.task, command, folder, self._environment(slot, claim))
        except UpdateFinishedTrialError:
            return  # others took us for dead
        except (GammerError, ValueError) as error:
            study.fail(claim.trial_id, str(error).partition("\n")[0], final=True)
            self.say(f"{claim.row}: {error}")
            return
        self.children[slot.name] = claim, child
        if child.process and study.owns(claim.trial_id):
            stamp = process_stamp(child.process.pid)
            study.note(claim.trial_id, run=str(child.run.path), child=stamp.as_dict())

    def _environment(self, slot: Slot, claim: Claim) -> dict[str, str]:
        sweep = self.study.sweep
        prunes = bool(sweep.search and sweep.search.prune and len(sweep.metrics) == 1)
        trial = {"study": sweep.study, "trial_id": claim.trial_id, "prunes": prunes}
        environment = dict(slot.environment)
        environment[TRIAL_VARIABLE] = json.dumps(trial)
        if self.storage:
            environment[STORAGE_VARIABLE] = self.storage
        seeds = sweep.seeds_of(claim.row)
        return environment | wandb_environment(sweep, claim.row, seeds)

    def _settle(self, claim: Claim, child: Child) -> None:
        """Tell the study how a process ended, and end what it started."""
        study = self.study
        row = claim.row
        child.kill()
        try:
            self._tell(claim, child)
        except GammerError as error:  # what the run left is damaged
            study.fail(claim.trial_id, error.what, final=True)
            command = f"gammer sweep resume {study.name} --again {shlex.quote(row)}"
            self.say(f"{row}: {error.what}; to run it anew: {command}")

    def _tell(self, claim: Claim, child: Child) -> None:
        study = self.study
        row = claim.row
        if child.exit_code == 0:
            self._complete(claim, child)
        elif study.attempt(claim.trial_id).pruned_at is not None:
            study.prune(claim.trial_id, values=child.values())
            self.say(f"{row}: pruned")
        else:
            error = child.error()
            study.fail(claim.trial_id, error, **self._consequence(claim, child))
            outcome = "stopped" if self._is_stopping else f"attempt {claim.attempt} failed, {error}"
            self.say(f"{row}: {outcome} (log: {child.run.path}/log.txt)")

    def _consequence(self, claim: Claim, child: Child) -> dict:
        """Return attributes that say what follows a failure: another attempt, one with smaller chunks, or none."""
        if self._is_stopping:
            return {"counts": False}
        if not child.is_short_of_memory:
            return {"final": True} if child.is_a_mistake else {}
        chunk = None if claim.extra else child.smaller_chunk()  # chunks are made smaller once
        if not chunk:
            return {"final": True}
        return {"retry_with": {"model.member_chunk": chunk}}

    def _complete(self, claim: Claim, child: Child) -> None:
        values = child.values()
        metrics = self.study.sweep.metrics
        missing = [metric for metric in metrics if not math.isfinite(values.get(metric, math.nan))]
        if missing:
            error = f"the run did not log a finite {', '.join(missing)}; it logged {', '.join(sorted(values))}"
            self.study.fail(claim.trial_id, error, final=True)
            self.say(f"{claim.row}: {error}")
            return
        seconds = time.monotonic() - child.started
        objective = [values[metric] for metric in metrics] or [seconds]  # where nothing is chosen, Optuna needs a value
        is_ours = self.study.complete(claim.trial_id, objective, values=values, results=child.results())
        outcome = "done" if is_ours else "done here, but taken up by others"
        scores = [f"{name} {values[name]:.4g}" for name in metrics or TEST_SCORES if name in values]
        message = ", ".join([outcome, *scores, f"{seconds:.0f} s"])
        self.say(f"{claim.row}: {message}")

    def _stop_children(self) -> None:
        self._is_stopping = True
        if self.children:
            rows = ", ".join(claim.row for claim, _ in self.children.values())
            self.say(f"stopping {rows}")
        if self._lease.has_lapsed:  # others may run them by now
            self._signal_children(signal.SIGKILL)
        self._signal_children(signal.SIGCONT)
        stop_all([child for _, child in self.children.values()])
        for claim, child in self.children.values():
            try:
                self._settle(claim, child)
            except (StorageInternalError, SQLAlchemyError, OSError, GammerError):
                self.say(f"{claim.row}: the study could not be told; `gammer sweep resume` takes it up")
        self.children.clear()
