"""Sweeps run: rows become processes, failures are tried again, whatever stops is gone on with."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from rich.console import Console
from tiny_task import SweptModule, TinyData

from gammer_lightning import cli
from gammer_lightning.errors import GammerError
from gammer_lightning.sweep import live
from gammer_lightning.sweep import summary_run as tracking
from gammer_lightning.sweep.queue import child, lease, slots, storage, supervisor
from gammer_lightning.sweep.queue import study as studies
from gammer_lightning.sweep.queue.storage import open_storage
from gammer_lightning.sweep.queue.study import join_study, open_study, text_of_files
from gammer_lightning.sweep.spec import Sweep
from gammer_lightning.training import settings

HELPERS = Path(__file__).parent / "helpers"


@pytest.fixture(autouse=True)
def fake(tmp_path, monkeypatch):
    """Put a task of a few settings behind both verbs, and fake_fit.py behind every row, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "magnify", lambda: settings.Task("magnify", SweptModule, TinyData))
    monkeypatch.setattr(settings, "recognize", lambda: settings.Task("recognize", SweptModule, TinyData))
    monkeypatch.setattr(child, "ENTRY", (sys.executable, str(HELPERS / "fake_fit.py")))
    monkeypatch.setattr(supervisor, "LOOK", 0.1)
    monkeypatch.setattr(tracking, "log_summary", lambda *arguments: None)  # test_wandb.py has it
    monkeypatch.delenv(storage.STORAGE_VARIABLE, raising=False)
    for task in ("magnify", "recognize"):
        (tmp_path / f"{task}_x.yaml").write_text("model:\n  sleep: 0.01\n")


def write(**content):
    """Write a sweep and return its path."""
    sweep = {"study": "s", "base": "magnify_x.yaml", "rows": {"a": {}, "b b": {"model.score": 0.5}}} | content
    Path("sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    return "sweep.yaml"


def run(*flags, **content):
    return cli.main(["sweep", "run", write(**content), *(flags or ("--workers", "2"))])


def planned(rows):
    """Return a study of these rows that nobody runs yet."""
    sweep = Sweep("s", "magnify_x.yaml", rows=rows)
    return join_study(open_storage(None, "s"), sweep, text_of_files(sweep))


def states(study="s"):
    return {row.name: row.state for row in open_study(study).rows()}


def trials(study="s"):
    found = open_study(study)
    return found.storage.get_all_trials(found.id)


def epochs(folder):
    return Path("runs/sweeps/s", folder, "epochs.txt").read_text().split()


def test_all_rows_run_each_in_its_folder_with_its_log(capsys):
    assert run(metric="val_loss", mode="min") == 0
    assert states() == {"a": "complete", "b b": "complete"}
    for folder in ("1-a", "2-b_b"):
        assert epochs(folder) == list("12345")
        assert "gammer magnify fit -c magnify_x.yaml --name s" in Path("runs/sweeps/s", folder, "log.txt").read_text()
    row = open_study("s").rows()[1]
    assert row.values == {"epoch": 5, "train_loss": 0.5, "val_loss": 0.5}
    assert row.settings == {"model.score": 0.5} and row.run == Path("runs/sweeps/s/2-b_b").absolute()
    capsys.readouterr()
    assert cli.main(["sweep", "best", "s"]) == 0
    assert capsys.readouterr().out.strip() == str(Path("runs/sweeps/s/1-a").absolute())
    assert cli.main(["sweep", "status", "s"]) == 0
    assert "2 complete; best a, val_loss 0.2500" in capsys.readouterr().out


def test_a_finished_sweep_runs_nothing_again():
    assert run() == 0 and run() == 0
    assert len(trials()) == 2


def test_a_dry_run_prints_each_command_and_starts_nothing(capsys):
    assert run("--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        "# a",
        "gammer magnify fit -c magnify_x.yaml --name s",
        "# b b",
        "gammer magnify fit -c magnify_x.yaml --name s --model.score=0.5",
    ]
    assert not Path("runs").exists()


def test_another_base_is_a_study_of_its_own():
    Path("magnify_other.yaml").write_text("{}")
    assert run("--base", "magnify_other.yaml", "--workers", "2") == 0
    assert states("s-other") == {"a": "complete", "b b": "complete"}


def test_a_process_that_dies_is_tried_again_from_its_last_checkpoint(capsys):
    assert run(rows={"a": {"model.fail": 3}}) == 0
    assert epochs("1-a") == list("12345")
    first, second = trials()
    assert first.state == TrialState.FAIL and first.user_attrs["error"] == "exit code 1: trouble"
    assert second.user_attrs["retry_of"] == first.number and second.user_attrs["attempt"] == 2
    assert "a: attempt 1 failed, exit code 1: trouble" in capsys.readouterr().out
    assert open_study("s").rows()[0].attempts == 2


def test_a_row_that_always_dies_is_given_up_and_resume_tries_it_again(capsys):
    rows = {"a": {"model.fail": 2, "model.times": studies.MAX_ATTEMPTS}, "b": {}}
    assert run(rows=rows) == 1
    assert states() == {"a": "failed", "b": "complete"} and len(trials()) == studies.MAX_ATTEMPTS + 1
    assert "a: exit code 1: trouble (log: " in capsys.readouterr().out
    assert run(rows=rows) == 1  # nothing has changed, so the same command does not try again
    assert cli.main(["sweep", "resume", "s", "--workers", "1"]) == 0
    assert states() == {"a": "complete", "b": "complete"}


def test_a_mistake_is_not_tried_again():
    assert run(rows={"a": {"model.fail": 2, "model.exit": 2}}) == 1
    assert len(trials()) == 1


def test_want_of_memory_is_met_once_with_the_smaller_chunks_that_the_run_advises():
    short = {"model.fail": 2, "model.exit": 3}
    rows = {"a": short, "b": short | {"model.member_chunk": 3}, "c": short | {"model.member_chunk": 1}}
    assert run(base="recognize_x.yaml", rows=rows) == 1
    chunks = {t.user_attrs["row"]: t.user_attrs.get("extra") for t in trials() if t.number > 2}
    assert chunks == {"a": {"model.member_chunk": 8}, "b": {"model.member_chunk": 1}}
    assert states() == {"a": "complete", "b": "complete", "c": "failed"}
    assert (Path("runs/sweeps/s/1-a-member_chunk_8") / "ended").exists()


@pytest.mark.parametrize("epoch", [1, 2])
def test_smaller_chunks_are_smaller_than_those_of_the_run(epoch, monkeypatch):
    monkeypatch.setattr(studies, "MAX_ATTEMPTS", 1)  # the smaller chunks come on top
    rows, common = {"a": {"model.fail": epoch, "model.exit": 3}}, {"model.member_chunk": 4}
    assert run(base="recognize_x.yaml", common=common, rows=rows) == 0
    assert [t.user_attrs.get("extra") for t in trials()][1:] == [{"model.member_chunk": 2}]


@pytest.mark.parametrize(("task", "times"), [("recognize", 2), ("magnify", 1)])
def test_want_of_memory_that_smaller_chunks_do_not_cure_is_a_failure(task, times):
    short = {"model.fail": 2, "model.exit": 3, "model.times": 9}
    assert run(base=f"{task}_x.yaml", rows={"a": short}) == 1
    assert len(trials()) == times


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rows": {"a": {}, "odd": {"model.slep": 1}}}, "row 'odd' of s: .*model.slep"),
        ({"rows": {"a": {}, "odd": {"model.sleep": -1}}}, "row 'odd' of s: sleep -1"),
        ({"metric": "test_loss"}, "the metric test_loss.*leak"),
        ({"metric": "val_los"}, "the metric val_los.*train_loss, val_loss"),
        ({"devices_per_trial": 2, "base": "recognize_x.yaml"}, "devices_per_trial 2.*on one device"),
        ({"base": "magnify_gone.yaml"}, "magnify_gone.yaml"),
    ],
)
def test_what_cannot_run_is_named_before_anything_starts(content, message, capsys):
    assert run(**content) == 2
    assert re_search(message, capsys.readouterr().err)
    assert not Path("runs").exists()


def re_search(pattern, text):
    return re.search(pattern, " ".join(text.split()))


def test_a_metric_that_the_run_does_not_log_fails_its_row(monkeypatch):
    monkeypatch.setattr(SweptModule, "metrics", ("train_loss", "val_psnr"))
    assert run(metric="val_psnr") == 1
    assert "did not log a finite val_psnr; it logged epoch, train_loss, val_loss" in open_study("s").rows()[0].error


def test_a_study_of_another_sweep_is_refused_with_what_differs(capsys):
    assert run() == 0
    assert run(metric="val_loss", rows={"a": {"model.score": 1}, "c": {}}) == 2
    said = " ".join(capsys.readouterr().err.split())
    for part in (
        "metric was , is val_loss",
        "rows 'a' was {}, is {'model.score': 1}",
        "rows 'c' was absent, is {}",
        "rows 'b b' was {'model.score': 0.5}, is absent",
        "gammer sweep resume s; or start a new one",
    ):
        assert part in said


@pytest.mark.parametrize("change", [lambda base: base.write_text("model:\n  sleep: 0.02\n"), Path.unlink])
def test_a_base_that_was_changed_is_refused_whoever_goes_on(change, capsys):
    assert run() == 0
    base = Path("magnify_x.yaml")
    before = base.read_text()
    change(base)
    assert cli.main(["sweep", "resume", "s", "--again", "a"]) == 2
    assert "magnify_x.yaml was changed since the study s began" in capsys.readouterr().err and len(trials()) == 2
    if base.exists():
        assert run() == 2
        assert "magnify_x.yaml was changed since" in capsys.readouterr().err
    base.write_text(before)
    assert cli.main(["sweep", "resume", "s", "--workers", "1"]) == 0


def test_a_row_on_a_yaml_of_its_own_runs_and_a_change_of_it_is_noticed(capsys):
    Path("top.yaml").write_text("model:\n  score: 0.125\n")
    Path("magnify_other.yaml").write_text("{}")
    rows = {"a": {"config": "top.yaml", "model.sleep": 0.01}}
    assert run("--base", "magnify_other.yaml", rows=rows) == 0
    command = Path("runs/sweeps/s-other/1-a/command.txt").read_text()
    assert "-c magnify_other.yaml --name s-other --config=top.yaml --model.sleep=0.01" in command
    Path("top.yaml").write_text("model:\n  score: 0.25\n")
    assert run("--base", "magnify_other.yaml", rows=rows) == 2
    assert "magnify_other.yaml or top.yaml was changed" in capsys.readouterr().err


def test_published_figures_may_be_added_later():
    assert run() == 0
    assert run(published={"a": {"casme2_3": [0.9, 0.8]}}) == 0
    assert open_study("s").sweep.published == {"a": {"casme2_3": [0.9, 0.8]}}


@pytest.mark.parametrize("verb", ["status", "resume", "best"])
def test_a_study_that_is_not_there_is_named(verb, capsys):
    assert cli.main(["sweep", verb, "gone"]) == 2
    assert "no study 'gone'" in capsys.readouterr().err
    assert run() == 0
    assert cli.main(["sweep", verb, "gone", "--storage", "runs/sweeps/s/journal.log"]) == 2
    assert "its studies: s" in capsys.readouterr().err


def test_the_best_row_is_named_where_the_sweep_has_no_metric(capsys):
    assert run() == 0
    assert cli.main(["sweep", "best", "s"]) == 2
    assert "--row a" in capsys.readouterr().err
    assert cli.main(["sweep", "best", "s", "--row", "b b"]) == 0
    assert capsys.readouterr().out.strip().endswith("2-b_b")
    assert cli.main(["sweep", "best", "s", "--row", "c"]) == 2
    assert "complete rows are a, b b" in capsys.readouterr().err


def test_a_deleted_run_folder_is_noticed_and_the_row_can_run_again(capsys):
    assert run() == 0
    shutil.rmtree("runs/sweeps/s/1-a")
    capsys.readouterr()
    assert cli.main(["sweep", "status", "s"]) == 0
    said = capsys.readouterr().out
    assert "run folder gone" in said and "gammer sweep resume s --again a" in said
    assert cli.main(["sweep", "best", "s", "--row", "a"]) == 2
    assert cli.main(["sweep", "resume", "s", "--again", "a", "--workers", "1"]) == 0
    assert epochs("1-a") == list("12345") and len(trials()) == 3
    assert cli.main(["sweep", "resume", "s", "--again", "a", "--workers", "1"]) == 0  # with its folder there, too
    assert epochs("1-a.before-3") == epochs("1-a") == list("12345")
    assert cli.main(["sweep", "resume", "s", "--again", "c"]) == 2
    assert "no row 'c'" in capsys.readouterr().err


def test_a_row_of_another_host_runs_again_on_a_shared_disk(monkeypatch):
    monkeypatch.setenv("GAMMER_HOST", "ada")
    assert run() == 0
    monkeypatch.setenv("GAMMER_HOST", "bela")
    assert cli.main(["sweep", "resume", "s", "--again", "a", "--workers", "1"]) == 0
    assert epochs("1-a.before-1") == epochs("1-a") == list("12345")
    assert open_study("s").rows()[0].host == "bela"


def test_a_row_runs_again_only_where_no_trial_of_it_runs():
    study = planned({"a": {}})
    for _ in range(2):
        study._enqueue("a", studies.NextAttempt(1))
    study.claim()
    study.storage.set_trial_state_values(trials()[1]._trial_id, TrialState.FAIL)
    with pytest.raises(GammerError, match="'a' runs or waits"):
        study.run_again("a")


def test_a_run_folder_of_another_command_is_left_alone(capsys):
    folder = Path("runs/sweeps/s/1-a")
    folder.mkdir(parents=True)
    (folder / "command.txt").write_text("gammer magnify fit --mine\n")
    assert run() == 1
    assert "holds a run of another command: gammer magnify fit --mine" in " ".join(capsys.readouterr().out.split())
    assert [path.name for path in folder.iterdir()] == ["command.txt"] and states()["b b"] == "complete"


def test_other_rows_run_where_one_cannot_start():
    Path("runs/sweeps/s/1-a").mkdir(parents=True)
    Path("runs/sweeps/s/1-a/command.txt").write_text("gammer magnify fit --mine\n")
    assert run("--workers", "1") == 1
    assert states() == {"a": "failed", "b b": "complete"}


def test_what_a_power_cut_leaves_of_a_run_folder_is_begun_anew():
    folder = Path("runs/sweeps/s/1-a")
    folder.mkdir(parents=True)
    for name in ("command.txt", "env.json", "config.yaml"):
        (folder / name).touch()
    assert run() == 0 and epochs("1-a") == list("12345")


def test_the_order_of_rows_and_of_a_grid_may_change():
    grid = {"model.score": [0.1, 0.2], "model.sleep": [0.0, 0.01]}
    assert run(rows={}, grid=grid) == 0
    assert run(rows={}, grid=dict(reversed(grid.items()))) == 0
    assert len(trials()) == 4 and set(states().values()) == {"complete"}


def test_a_retry_that_follows_another_attempt_is_dropped():
    study = planned({"a": {}})
    for _ in range(2):
        study._enqueue("a", studies.NextAttempt(1))
    study.fail(study.claim().trial_id, "trouble")
    assert study.claim() is None and not study.is_over()
    study.enqueue_missing()
    again = study.claim()
    assert again.attempt == 2 and study.storage.get_trial(again.trial_id).user_attrs["retry_of"] == 0


def test_a_step_of_the_clock_kills_nobody(monkeypatch):
    stamp = studies.process_stamp()
    monkeypatch.setattr("psutil.boot_time", lambda: 0.0)
    monkeypatch.setattr("psutil.Process.create_time", lambda self: 0.0)
    assert studies.is_alive(stamp)


class Troubled(supervisor.Supervisor):
    """A supervisor whose storage, once two rows run, ``fails`` or ``hangs`` until both are paused."""

    def __init__(self, study, kind, say):
        super().__init__(study, slots.make_slots(None, 2, 1, 2), None, say)
        self.kind, self.owns, self.saw_them_paused, self.until = kind, study.owns, False, time.monotonic() + 30
        study.owns = self.ask

    def are_paused(self):
        pids = [child.process.pid for _, child in self.children.values()]
        return {psutil.Process(pid).status() for pid in pids} == {psutil.STATUS_STOPPED}

    def ask(self, trial_id):
        while len(self.children) == 2 and not self.saw_them_paused and time.monotonic() < self.until:
            self.saw_them_paused = self.are_paused()
            if self.kind == "fails":
                raise StorageInternalError
            time.sleep(0.05)
        return self.owns(trial_id)


@pytest.mark.parametrize("kind", ["fails", "hangs"])
def test_rows_pause_while_the_storage_is_out_of_reach_and_go_on_after_it(kind, monkeypatch):
    for name, seconds in {"HEARTBEAT": 0.1, "FENCE": 0.5, "WATCH": 0.05}.items():
        monkeypatch.setattr(lease, name, seconds)
    study, said = planned({name: {"model.sleep": 0.4} for name in "ab"}), []
    study.enqueue_missing()
    troubled = Troubled(study, kind, said.append)
    assert troubled.run() and troubled.saw_them_paused
    assert states() == {"a": "complete", "b": "complete"}
    assert "no word to the storage for 0.5 s; rows pause until it answers" in said
    assert {t.user_attrs["attempt"] for t in trials()} == {1}


def test_a_row_that_others_took_up_is_ended_and_does_not_count(monkeypatch):
    """What happens to rows that ran on while their supervisor was stopped for longer than its lease."""
    study, said = planned({"a": {"model.sleep": 0.3}}), []
    study.enqueue_missing()
    lost = []

    def show(watched):
        if watched.children and not lost:
            lost.append(watched.children["worker 1"][1])
            study.fail(trials()[0]._trial_id, "its supervisor died")

    assert supervisor.Supervisor(study, slots.make_slots(None, 1, 1, 1), None, said.append).run(show)
    assert lost[0].exit_code == -signal.SIGKILL and "a: taken up by another supervisor; stopped here" in said
    assert [t.state for t in trials()] == [TrialState.FAIL, TrialState.COMPLETE]
    assert epochs("1-a") == list("12345") and not list(Path("runs/sweeps/s").glob("*VIOLATION*"))


def test_a_row_that_is_done_after_others_took_it_up_is_not_counted_twice():
    study, said = planned({"a": {}}), []
    study.enqueue_missing()

    def show(watched):
        for claim, started in watched.children.values():
            started.process.wait()
            study.fail(claim.trial_id, "its supervisor died")

    watched = supervisor.Supervisor(study, slots.make_slots(None, 1, 1, 1), None, said.append)
    watched.run(lambda supervisor: show(supervisor) if len(trials()) == 1 else None)
    assert any(line.startswith("a: done here, but taken up by others") for line in said)
    assert [t.state for t in trials()] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_pruned_row_whose_supervisor_died_is_pruned():
    study, said = planned({"a": {}}), []
    study.enqueue_missing()
    study.note(study.claim().trial_id, pruned_at=3)  # a claim of this process that it does not run
    assert supervisor.Supervisor(study, slots.make_slots(None, 1, 1, 1), None, said.append).run()
    assert states() == {"a": "pruned"} and len(trials()) == 1
    assert not Path("runs/sweeps/s/1-a").exists()


class Server:
    """A journal that answers like a server on which the trials ``silent`` lack a heartbeat."""

    def __init__(self, storage):
        self.storage, self.silent = storage, []

    def __getattr__(self, name):
        return getattr(self.storage, name)

    def record_heartbeat(self, trial_id):
        pass

    def _get_stale_trial_ids(self, study_id):
        return self.silent


def test_rows_of_a_host_that_was_silent_are_left_to_it_while_it_may_come_back(monkeypatch):
    study, clock = planned({"a": {}}), [1000.0]
    study.storage = Server(study.storage)
    study.enqueue_missing()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("GAMMER_HOST", "ada")
        claim = study.claim()
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for silent, seconds, abandoned in (
        ([claim.trial_id], 0, 0),  # the storage is back after an outage, and ada has not yet said that it lives
        ([], 600, 0),
        ([claim.trial_id], 600, 0),
        ([claim.trial_id], studies.SUSPECT_SECONDS + 1, 1),
    ):
        study.storage.silent = silent
        clock[0] += seconds
        assert len(study.abandoned()) == abandoned


def test_a_full_disk_stops_the_sweep_and_nothing_is_lost(monkeypatch, capsys):
    monkeypatch.setattr(supervisor, "MIN_FREE_BYTES", 2**70)
    assert run() == 2
    assert "MB are free on the disk" in capsys.readouterr().err and states() == {"a": "waiting", "b b": "waiting"}
    monkeypatch.undo()


def test_a_folder_that_cannot_be_written_is_named(capsys):
    Path("runs").touch()
    assert run() == 2
    assert "cannot write to runs/sweeps/s" in capsys.readouterr().err


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(slots, "visible_devices", lambda: ["0", "1", "2", "3"])


def test_rows_are_pinned_to_groups_of_devices(two_gpus):
    found = slots.make_slots(None, None, 2, 9)
    assert [slot.environment for slot in found] == [{"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"}]
    assert [slot.name for slot in slots.make_slots("3,1", None, 1, 9)] == ["GPU 3", "GPU 1"]
    (one, two) = slots.make_slots(None, 2, 1, 9)
    assert one.environment["CUDA_VISIBLE_DEVICES"] == "" and one.environment == two.environment
    assert one.environment["OMP_NUM_THREADS"] == str(max(1, len(os.sched_getaffinity(0)) // 2))


@pytest.mark.parametrize(
    ("devices", "message"), [("0,4", "device 4"), ("0,0", "devices 0,0"), ("0,1,2", "groups of 2"), ("", "device ")]
)
def test_devices_that_are_not_there_are_refused(two_gpus, devices, message):
    with pytest.raises(GammerError, match=message):
        slots.make_slots(devices, None, 2, 9)


def test_without_gpus_there_are_no_more_workers_than_cores_rows_and_memory(monkeypatch):
    monkeypatch.setattr(slots, "visible_devices", list)
    monkeypatch.setattr(slots, "cores", lambda: 8)
    monkeypatch.setattr(slots, "ROW_BYTES", 1)
    assert len(slots.make_slots(None, None, 1, 99)) == 8 and len(slots.make_slots(None, None, 1, 3)) == 3
    monkeypatch.setattr(slots, "ROW_BYTES", 2**60)
    (only,) = slots.make_slots(None, None, 1, 99)
    assert only.environment["OMP_NUM_THREADS"] == "8"


def test_a_device_on_a_machine_without_one_is_refused(capsys):
    assert run("--devices", "0") == 2
    assert "the devices here are none" in capsys.readouterr().err
    assert run("--workers", "0") == 2


def test_visible_devices_are_those_of_the_environment(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert slots.visible_devices() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 7")
    assert slots.visible_devices() == ["5", "7"]


def test_attributes_of_trials_are_plain_values_as_ever():
    study = planned({"a": {}})
    study.enqueue_missing()
    study.fail(study.claim().trial_id, "trouble", retry_with={"model.member_chunk": 2})
    study.enqueue_missing()
    first, second = (trial.user_attrs for trial in trials())
    assert set(first) == {"row", "attempt", "stamp", "run", "error", "retry_with"} and first["attempt"] == 1
    assert first["stamp"] == {"host": studies.host(), "pid": os.getpid(), "born": studies.process_stamp().born}
    assert second == {"row": "a", "attempt": 1, "retry_of": 0, "extra": {"model.member_chunk": 2}}
    assert study.claim().extra == {"model.member_chunk": 2}


def test_a_row_enqueued_twice_runs_once():
    study = planned({"a": {}})
    for _ in range(2):
        study._enqueue("a", studies.NextAttempt(1))
    assert study.claim().row == "a" and study.claim() is None
    assert [t.state for t in study.storage.get_all_trials(study.id)] == [TrialState.RUNNING, TrialState.FAIL]
    assert [row.state for row in study.rows()] == ["running"]


def test_a_claim_without_a_stamp_is_taken_up_after_a_while(monkeypatch):
    study = planned({"a": {}})
    study.enqueue_missing()
    study.storage.set_trial_state_values(study.attempts()[0].trial_id, TrialState.RUNNING)
    assert not study.abandoned()
    monkeypatch.setattr(studies, "SUSPECT_SECONDS", -1)
    assert len(study.abandoned()) == 1


def test_a_living_process_is_told_from_a_later_one_of_its_number():
    stamp = studies.process_stamp()
    assert studies.is_alive(stamp) and not studies.is_alive(replace(stamp, born="another boot 7"))
    other = subprocess.Popen(["sleep", "60"])
    stamp = studies.process_stamp(other.pid)
    assert studies.is_alive(stamp)
    other.kill()
    wait_for(lambda: not studies.is_alive(stamp))  # a zombie, as long as nobody asks for its exit code
    other.wait()
    assert not studies.is_alive(stamp)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///s.db", "SQLite lets two workers claim one row"),
        ("postgresql:/u:s3cret@h/db", "is no URL and no path"),
        ("Postgresql:/u:s3cret@h/db", "is no URL and no path"),
        ("postgresql+psycopg2:/u:s3cret@h/db", "is no URL and no path"),
        ("me1:s3cret@h/db", "is no URL and no path"),
        ("me@s3cret/db", "is no URL and no path"),
        ("s3cret@h://db", "is no URL and no path"),
        ("postgresql://u:p@s3cret@h/db", "is no URL"),
        ("postgresql://u@s3cret@h/db", "is no URL"),
        ("postgresql:///u:s3cret@h/db", "is no URL"),
        ("postgresql://u@h/db?password=s3cret", "is no URL"),
        ("postgres://u:s3cret@h/db", "the storage begins with postgres://"),
        ("Postgresql://u:s3cret@h/db", "write postgresql://"),
    ],
)
def test_storages_that_cannot_be_are_refused_and_show_no_password(url, message, capsys):
    for command in (run, lambda *flags: cli.main(["sweep", "resume", "s", *flags])):
        assert command("--workers", "1", "--storage", url) == 2
        said = capsys.readouterr().err
        assert message in said and "s3cret" not in said
    assert not [path for path in Path().rglob("*") if "s3cret" in path.name]


def test_a_driver_that_is_not_installed_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert run("--workers", "1", "--storage", "postgresql+psycopg2://u:s3cret@h/db") == 2
    said = capsys.readouterr().err
    assert "pip install 'gammer-lightning[postgresql]'" in said and "s3cret" not in said


@pytest.mark.parametrize("name", ["a@b/s.log", "a:b/s.log"])
def test_a_journal_that_is_there_may_have_any_path(name):
    Path(name).parent.mkdir()
    Path(name).touch()
    assert run("--workers", "1", "--storage", name) == 0


def test_a_study_may_have_any_name():
    assert run(study="me@lab: 1") == 0


def test_half_a_line_of_a_full_disk_is_dropped():
    study = planned({"a": {}})
    with Path("runs/sweeps/s/journal.log").open("a") as lines:
        lines.write('{"op_code": 4, "wor')
    study.enqueue_missing()
    assert states() == {"a": "waiting"}


def test_a_journal_that_is_none_is_named(capsys):
    Path("runs/sweeps/s").mkdir(parents=True)
    Path("runs/sweeps/s/journal.log").write_text("what\nis this\n")
    assert cli.main(["sweep", "status", "s"]) == 2
    assert "journal.log is no journal of a sweep" in capsys.readouterr().err


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def slow_sweep():
    """Start a supervisor with two workers over three rows of 5 s, and wait until two run."""
    rows = {name: {"model.sleep": 1.0} for name in "abc"}
    planned(rows)
    command = [sys.executable, str(HELPERS / "sweep_worker.py"), "resume", "s", "--workers", "2"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: len(list(Path("runs/sweeps/s").glob("*/progress.json"))) == 2)
    yield started
    started.kill()
    started.communicate()


def test_ctrl_c_once_lets_running_rows_end(slow_sweep):
    slow_sweep.send_signal(signal.SIGINT)
    said, _ = slow_sweep.communicate(timeout=60)
    assert slow_sweep.returncode == 130
    assert "running rows will end" in said and "to go on: gammer sweep resume s" in said
    assert states() == {"a": "complete", "b": "complete", "c": "waiting"}


@pytest.mark.parametrize("signals", [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM]])
def test_ctrl_c_twice_and_sigterm_stop_at_once_and_count_as_no_attempt(slow_sweep, signals):
    for number in signals:
        slow_sweep.send_signal(number)
        time.sleep(0.3)
    slow_sweep.communicate(timeout=30)
    assert slow_sweep.returncode == (143 if signal.SIGTERM in signals else 130)
    assert states() == {"a": "stopped", "b": "stopped", "c": "waiting"}
    assert cli.main(["sweep", "resume", "s", "--workers", "2"]) == 0
    assert {t.user_attrs["attempt"] for t in trials()} == {1}
    assert epochs("1-a") == list("12345")


def rows_pids():
    return [t.user_attrs["child"]["pid"] for t in trials() if t.state == TrialState.RUNNING]


def test_ctrl_z_stops_the_rows_too_and_fg_goes_on_with_them(slow_sweep):
    processes = [psutil.Process(pid) for pid in (slow_sweep.pid, *rows_pids())]
    slow_sweep.send_signal(signal.SIGTSTP)
    wait_for(lambda: {process.status() for process in processes} == {psutil.STATUS_STOPPED})
    slow_sweep.send_signal(signal.SIGCONT)
    at_once = 5  # not with the next heartbeat
    wait_for(lambda: psutil.STATUS_STOPPED not in {process.status() for process in processes}, at_once)
    slow_sweep.communicate(timeout=60)
    assert slow_sweep.returncode == 0
    assert set(states().values()) == {"complete"} and {t.user_attrs["attempt"] for t in trials()} == {1}


def test_a_killed_supervisor_takes_its_rows_with_it(slow_sweep):
    pids = rows_pids()
    slow_sweep.kill()
    slow_sweep.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids))


def test_what_people_see_in_a_terminal(tmp_path):
    console = Console(file=(tmp_path / "screen").open("w"), force_terminal=True, width=120)
    sweep = Sweep("s", "magnify_x.yaml", metric="val_loss", mode="min", rows={n: {} for n in "abc"})
    rows = [
        studies.Row("a", state="complete", values={"val_loss": 0.5}, seconds=90, run=tmp_path, attempts=2),
        studies.Row("b", state="running", attempts=1),
        studies.Row("c"),
    ]
    left = live.time_left(rows, {"b": (1, 4)}, 2)
    assert left == pytest.approx(90 * 1.75 / 2)
    console.print(live.rows_table(sweep, rows, {"b": (1, 4)}, left))
    console.file.close()
    shown = (tmp_path / "screen").read_text()
    for part in ("1 complete, 1 running, 1 waiting", "best a, val_loss 0.5000", "about 1 min 19 s left", "(attempt 2)"):
        assert part in shown


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (200, "3 min 20 s"), (7300, "2 h 1 min")])
def test_durations(seconds, text):
    assert live.duration(seconds) == text


def search(**changes):
    space = {
        "model.score": {"low": 0.1, "high": 0.9},
        "model.member_chunk": {"low": 1, "high": 4},
        "model.areas": {"subset": ["brows", "mouth"]},
        "model.sleep": [0.0, 0.01],
    }
    return {"rows": {}, "metric": "val_loss", "mode": "min", "search": {"trials": 6, "space": space} | changes}


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_draws_its_rows_and_finds_the_best(sampler, capsys):
    assert run(**search(sampler=sampler)) == 0
    rows = open_study("s").rows()
    scores = [row.settings["model.score"] for row in rows]
    assert len(set(scores)) == 6 and all(0.1 <= score <= 0.9 for score in scores)
    assert all(row.values["val_loss"] == pytest.approx(row.settings["model.score"]) for row in rows)
    assert {row.settings["model.member_chunk"] for row in rows} <= {1, 2, 3, 4}
    assert all(row.settings["model.areas"] and row.settings["model.sleep"] in (0.0, 0.01) for row in rows)
    capsys.readouterr()
    assert cli.main(["sweep", "best", "s"]) == 0
    best = scores.index(min(scores)) + 1
    assert capsys.readouterr().out.strip().endswith(f"{best}-trial_{best - 1}")
    found = open_study("s").optuna()
    assert found.best_value == pytest.approx(min(scores)) and found.best_params["model.score"] == min(scores)


def test_a_search_is_drawn_alike_each_time_and_a_row_tried_again_keeps_its_settings():
    assert run("--workers", "1", **search(sampler="random")) == 0
    assert run("--workers", "1", study="again", **search(sampler="random")) == 0
    assert [r.settings for r in open_study("s").rows()] == [r.settings for r in open_study("again").rows()]
    before = trials()[2]
    assert cli.main(["sweep", "resume", "s", "--again", "trial 2", "--workers", "1"]) == 0
    assert trials()[-1].params == before.params and states()["trial 2"] == "complete"
    assert len(list(Path("runs/sweeps/s").glob("3-trial_2.before-3"))) == 1


def test_a_search_for_two_objectives():
    assert run(**search() | {"metric": ["val_loss", "train_loss"], "mode": ["min", "min"]}) == 0
    assert open_study("s").optuna().best_trials


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": {"model.scor": [1]}}, "row 'model.scor 1' of s: .*model.scor"),
        ({"space": {"model.sleep": {"low": -1, "high": 1}}}, "row 'model.sleep -1' of s: sleep -1"),
        ({"space": {"model.sleep": {"low": 2, "high": 1}}}, "search.space.model.sleep"),
        ({"space": {"model.sleep": 3}}, "search.space.model.sleep 3"),
        ({"space": {}}, "search.space"),
        ({"space": {"model.sleep": {"low": 0, "high": 1, "log": True}}}, "search.space.model.sleep"),
        ({"space": {"model.outer_fold": [1, 2]}}, "model.outer_fold varies"),
        ({"trials": 0}, "search.trials 0"),
        ({"sampler": "grid"}, "search.sampler 'grid'"),
        ({"tials": 3}, "search has the keys"),
    ],
)
def test_a_search_that_is_none_is_refused(change, message, capsys):
    assert run(**search(**change)) == 2
    assert re_search(message, capsys.readouterr().err)


def test_a_search_without_a_metric_is_refused(capsys):
    assert run(**search() | {"metric": ""}) == 2
    assert "a search without a metric" in capsys.readouterr().err


def test_the_environment_of_a_row_says_which_trial_it_is(monkeypatch, tmp_path):
    seen = tmp_path / "seen"
    script = tmp_path / "fit.py"
    script.write_text(f"import os; open({str(seen)!r}, 'w').write(os.environ['GAMMER_SWEEP_TRIAL'])")
    monkeypatch.setattr(child, "ENTRY", (sys.executable, str(script)))
    monkeypatch.setattr(studies, "MAX_ATTEMPTS", 1)
    run(rows={"a": {}})
    assert json.loads(seen.read_text()) == {"study": "s", "trial_id": 0, "prunes": False}
