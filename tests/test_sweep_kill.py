"""Exactly once: 24 rows in 4 slots, whose processes and supervisors are killed at random moments."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState

from gammer_lightning.sweep.queue.lease import FENCE, WATCH
from gammer_lightning.sweep.queue.storage import GRACE, HEARTBEAT, TIMEOUT, open_storage
from gammer_lightning.sweep.queue.study import MAX_ATTEMPTS, join_study, open_study
from gammer_lightning.sweep.queue.supervisor import LOOK
from gammer_lightning.sweep.spec import Sweep

ROWS, SUPERVISORS, SLOTS, KILLS = 24, 2, 2, 14
WORKER = Path(__file__).parent.joinpath("helpers", "sweep_worker.py")


def start(tmp_path, number):
    log = (tmp_path / f"supervisor{number}.txt").open("ab")
    command = [sys.executable, str(WORKER), "resume", "killed", "--workers", str(SLOTS)]
    return subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)


def rows_of(supervisor):
    """Processes of the rows that a supervisor started."""
    try:
        return [p for p in psutil.Process(supervisor.pid).children() if "fake_fit.py" in " ".join(p.cmdline())]
    except psutil.NoSuchProcess:
        return []


def test_rows_pause_well_before_others_may_take_them_up_but_not_for_one_query_that_hangs():
    assert FENCE + WATCH + 10 < GRACE
    hang = 2 * TIMEOUT  # until the connection is known to be dead, and until there is another
    assert HEARTBEAT + LOOK + hang < FENCE


@pytest.mark.timeout(300)
def test_every_row_completes_once_whatever_is_killed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = Sweep("killed", "magnify_x.yaml", rows={f"row {n}": {"model.sleep": 0.08} for n in range(ROWS)})
    join_study(open_storage(None, "killed"), sweep, "")
    chance, killed = random.Random(0), Counter()
    supervisors = [start(tmp_path, number) for number in range(SUPERVISORS)]
    deadline = time.monotonic() + 240
    while sum(killed.values()) < KILLS and time.monotonic() < deadline:
        time.sleep(chance.uniform(0.05, 0.4))
        number = chance.randrange(SUPERVISORS)
        running = rows_of(supervisors[number])
        if not running:
            continue
        kind = chance.choice(["row", "row", "supervisor"])
        victim = chance.choice(running).pid if kind == "row" else supervisors[number].pid
        os.kill(victim, signal.SIGKILL)
        killed[kind] += 1
        if kind == "supervisor":
            supervisors[number].wait()
            supervisors[number] = start(tmp_path, number)
    for supervisor in supervisors:
        supervisor.wait(240)
    subprocess.run([sys.executable, str(WORKER), "resume", "killed", "--workers", "4"], cwd=tmp_path, timeout=240)

    assert min(killed["row"], killed["supervisor"]) > 1
    study = open_study("killed")
    trials = study.storage.get_all_trials(study.id)
    complete = Counter(t.user_attrs["row"] for t in trials if t.state == TrialState.COMPLETE)
    assert complete == dict.fromkeys(sweep.rows, 1)
    folders = [study.folder(row) for row in sweep.rows]
    assert not list(Path("runs/sweeps/killed").glob("*VIOLATION*"))
    repeated = sum(len((f / "epochs.txt").read_text().split()) - 5 for f in folders)
    assert repeated <= sum(killed.values()) * SLOTS  # a killed row goes on from its last checkpoint
    retried = [t for t in trials if "retry_of" in t.user_attrs and not t.user_attrs.get("dropped")]
    assert retried and all(trials[t.user_attrs["retry_of"]].state == TrialState.FAIL for t in retried)
    assert max(t.user_attrs["attempt"] for t in trials) <= MAX_ATTEMPTS
