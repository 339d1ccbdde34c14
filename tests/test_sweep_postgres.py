"""Sweeps over several machines: a real PostgreSQL server, two supervisors that call themselves two hosts."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import postgres
import psutil
import pytest
from optuna.trial import TrialState

from gammer_lightning.errors import GammerError
from gammer_lightning.sweep.queue.storage import open_storage
from gammer_lightning.sweep.queue.study import join_study, open_study
from gammer_lightning.sweep.spec import Sweep

pytestmark = pytest.mark.skipif(
    postgres.binaries() is None, reason="no PostgreSQL server is installed; on Debian: apt install postgresql"
)
WORKER = Path(__file__).parent.joinpath("helpers", "sweep_worker.py")
ROWS = {f"row {n}": {"model.sleep": 0.1} for n in range(8)}


@pytest.fixture(scope="module")
def server():
    with postgres.server() as running:
        yield running


def start(tmp_path, host, study, url):
    environment = {**os.environ, "GAMMER_HOST": host, "GAMMER_SWEEP_STORAGE": url}
    log = (tmp_path / f"{host}.txt").open("ab")
    command = [sys.executable, str(WORKER), "resume", study, "--workers", "2"]
    return subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, env=environment)


def assert_ends_well(supervisor, tmp_path):
    code = supervisor.wait(120)
    assert code == 0, "\n".join(log.read_text() for log in tmp_path.glob("*.txt"))


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_for_an_epoch(tmp_path):
    wait_for(lambda: list(tmp_path.glob("runs/sweeps/*/*/epochs.txt")))


def completions(study):
    trials = study.storage.get_all_trials(study.id)
    return Counter(t.user_attrs["row"] for t in trials if t.state == TrialState.COMPLETE)


def test_two_hosts_share_the_rows_of_a_study(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    join_study(open_storage(server.url, "shared"), Sweep("shared", "magnify_x.yaml", rows=ROWS), "")
    for supervisor in [start(tmp_path, host, "shared", server.url) for host in ("ada", "bela")]:
        assert_ends_well(supervisor, tmp_path)
    study = open_study("shared", server.url)
    assert completions(study) == dict.fromkeys(ROWS, 1)
    assert {row.host for row in study.rows()} == {"ada", "bela"}
    assert not list(tmp_path.glob("runs/sweeps/shared/*VIOLATION*"))
    for log in tmp_path.rglob("*.txt"):
        assert postgres.PASSWORD not in log.read_text() and quote(postgres.PASSWORD, safe="") not in log.read_text()


def test_rows_of_a_host_that_died_are_taken_up_by_another(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAMMER_TEST_GRACE", "3")
    sweep = Sweep("orphans", "magnify_x.yaml", rows={name: {"model.sleep": 2} for name in ("a", "b")})
    study = join_study(open_storage(server.url, "orphans"), sweep, "")
    first = start(tmp_path, "ada", "orphans", server.url)
    wait_for_an_epoch(tmp_path)
    second = start(tmp_path, "bela", "orphans", server.url)
    time.sleep(5)  # longer than the grace: a host that says it lives keeps its rows
    assert {row.host for row in study.rows() if row.state == "running"} == {"ada"}
    first.kill()
    first.wait()
    assert_ends_well(second, tmp_path)
    assert completions(study) == {"a": 1, "b": 1}
    assert {row.host for row in study.rows()} == {"bela"}
    assert {row.attempts for row in study.rows()} == {2}
    assert not list(tmp_path.glob("runs/sweeps/orphans/*VIOLATION*"))


def test_a_restart_of_the_server_is_waited_out(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {f"row {n}": {"model.sleep": 0.3} for n in range(4)}
    join_study(open_storage(server.url, "restart"), Sweep("restart", "magnify_x.yaml", rows=rows), "")
    supervisor = start(tmp_path, "ada", "restart", server.url)
    wait_for_an_epoch(tmp_path)
    server.stop()
    time.sleep(2)
    assert supervisor.poll() is None
    server.start()
    assert_ends_well(supervisor, tmp_path)
    assert completions(open_study("restart", server.url)) == dict.fromkeys(rows, 1)


def rows_of(*supervisors):
    """Processes of the rows that supervisors started."""
    running = (child for one in supervisors for child in psutil.Process(one.pid).children())
    return [child for child in running if "fake_fit.py" in " ".join(child.cmdline())]


def test_while_the_server_hangs_rows_pause_and_after_it_each_host_keeps_its_own(server, tmp_path, monkeypatch):
    """It hangs for longer than the grace, and when it is back all hosts were silent."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAMMER_TEST_GRACE", "5")
    rows = {f"row {n}": {"model.sleep": 3} for n in range(4)}
    join_study(open_storage(server.url, "hangs"), Sweep("hangs", "magnify_x.yaml", rows=rows), "")
    hosts = [start(tmp_path, host, "hangs", server.url) for host in ("ada", "bela")]
    wait_for(lambda: len(list(tmp_path.glob("runs/sweeps/*/*/epochs.txt"))) == 4)
    server.signal(signal.SIGSTOP)
    try:
        wait_for(lambda: [row.status() for row in rows_of(*hosts)] == [psutil.STATUS_STOPPED] * 4)
        time.sleep(4)
    finally:
        server.signal(signal.SIGCONT)
    for supervisor in hosts:
        assert_ends_well(supervisor, tmp_path)
    study = open_study("hangs", server.url)
    assert completions(study) == dict.fromkeys(rows, 1)
    assert {row.attempts for row in study.rows()} == {1}
    assert not list(tmp_path.glob("runs/sweeps/hangs/*VIOLATION*"))


def test_what_one_process_can_block_is_bounded_and_options_of_the_url_stay(server):
    storage = open_storage(f"{server.url}?options=-csearch_path%3Dpublic,mine", "x")
    with storage._backend.engine.connect() as connection:
        shown = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("statement_timeout", "idle_in_transaction_session_timeout", "timezone", "search_path")
        }
    assert list(shown.values()) == ["10s", "1min", "UTC", "public,mine"]


def wrong_password(url):
    return url.replace(quote(postgres.PASSWORD, safe=""), "wr0ng")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wrong_password, "cannot be reached: .*password authentication failed"),
        (lambda url: re.sub(r":\d+/", ":1/", url), "cannot be reached: .*port 1 failed"),
        (lambda url: url.replace("/postgres", "/none"), "database .none. does not exist"),
        (lambda url: re.sub(r":\d+/", ":port/", url), "is no URL"),
    ],
    ids=["password", "port", "database", "URL"],
)
def test_a_server_that_refuses_is_named_without_the_password(server, change, message):
    with pytest.raises(GammerError, match=message) as error:
        open_storage(change(server.url), "x")
    for secret in (postgres.PASSWORD, quote(postgres.PASSWORD, safe=""), "wr0ng"):
        assert secret not in str(error.value)
