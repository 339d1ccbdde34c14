"""Damaged records of a sweep: journals, what rows leave in their folders, and variables of the environment."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gammer_lightning import cli
from gammer_lightning.errors import GammerError
from gammer_lightning.sweep import summary_run as tracking
from gammer_lightning.sweep.queue import child, storage, supervisor
from gammer_lightning.sweep.queue.report import row_callbacks
from gammer_lightning.sweep.queue.slots import make_slots
from gammer_lightning.sweep.queue.storage import open_storage
from gammer_lightning.sweep.queue.study import join_study
from gammer_lightning.sweep.spec import Sweep

JOURNAL = Path("runs/sweeps/s/journal.log")
ROW = """
import json, sys
from pathlib import Path
run = Path(sys.argv[sys.argv.index("--out") + 1])
(run / "env.json").write_text(json.dumps({"finished": True}))
(run / "metrics.csv").write_text("val_loss\\n0.5\\n")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(storage.STORAGE_VARIABLE, raising=False)
    monkeypatch.setattr(tracking, "log_summary", lambda *arguments: None)  # test_wandb.py has it


def plan(rows=("a",), url=None):
    sweep = Sweep("s", "magnify_x.yaml", rows={row: {} for row in rows})
    return join_study(open_storage(url, "s"), sweep, "")


def run(row, monkeypatch, rows=("a",)):
    """Run the rows of a study, each as the Python program ``row``; return what is said."""
    monkeypatch.setattr(child, "ENTRY", (sys.executable, "-c", row))
    monkeypatch.setattr(supervisor, "LOOK", 0.1)
    study, said = plan(rows), []
    supervisor.Supervisor(study, make_slots(None, 1, 1, len(rows)), None, said.append).run()
    return {row.name: row for row in study.rows()}, "\n".join(said)


@pytest.mark.parametrize(
    "line",
    [
        b'{"op_code": 4}',
        b"[1]",
        b"3",
        b"NaN",
        b'{"op_code": 99, "worker_id": "w"}',
        b'{"op_code": "create", "worker_id": "w"}',
        json.dumps({"op_code": 4, "worker_id": "w", "study_id": 0, "datetime_start": "yesterday"}).encode(),
        json.dumps({"op_code": 4, "worker_id": "w", "study_id": 0, "datetime_start": None, "state": 77}).encode(),
        json.dumps({"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": 5}).encode(),
        b'{"op_code": 4, "wor',
        b"[" * 100_000,
        b"\x00\xff\xfe" * 50,
    ],
)
@pytest.mark.parametrize("verb", ["status", "table"])
def test_a_journal_line_that_is_no_operation_is_one_error(line, verb, capsys):
    plan()
    lines = JOURNAL.read_bytes().splitlines(keepends=True)
    JOURNAL.write_bytes(b"".join([*lines[:-1], line + b"\n", lines[-1]]))
    assert cli.main(["sweep", verb, "s"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the journal runs/sweeps/s/journal.log cannot be read, near its line ")
    assert len(error) < 1000 and "rm -r" not in error


@pytest.mark.parametrize("content", [b"one line", b"\x89PNG\r\n", b"study: s\nrows: {}\n", b"{}\n", b"\0" * 4096])
def test_a_file_that_is_no_journal_is_not_touched(content, capsys):
    Path("notes").write_bytes(content)
    with pytest.raises(GammerError, match="notes is no journal of a sweep"):
        plan(url="notes")
    assert cli.main(["sweep", "status", "s", "--storage", "notes"]) == 2
    assert "is no journal" in capsys.readouterr().err and Path("notes").read_bytes() == content


def test_a_pipe_is_no_journal(capsys):
    os.mkfifo("pipe")
    with pytest.raises(GammerError, match="pipe is a pipe"):
        plan(url="pipe")


def test_an_empty_journal_has_no_study(capsys):
    JOURNAL.parent.mkdir(parents=True)
    JOURNAL.touch()
    assert cli.main(["sweep", "status", "s"]) == 2
    assert "no study 's' in the storage (its studies: none)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("row", 3),
        ("row", "another"),
        ("stamp", {"pid": 3}),
        ("stamp", 3),
        ("values", {"val_loss": "x"}),
        ("values", [1]),
        ("settings", [1]),
    ],
)
def test_a_trial_that_no_sweep_has_written_is_one_error(attribute, value, capsys):
    study = plan()
    study.enqueue_missing()
    study.storage.set_trial_user_attr(0, attribute, value)
    assert cli.main(["sweep", "status", "s"]) == 2
    assert f"trial 0 of the study s is damaged: {attribute}" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [3, {"sweep": 3, "base_text": ""}, {"sweep": {"study": "s"}, "base_text": ""}, {}])
def test_a_plan_that_is_none_is_one_error(damage, capsys):
    study = plan()
    study.storage.set_study_user_attr(study.id, "plan", damage or {"sweep": study.sweep.plain() | {"study": "t"}})
    assert cli.main(["sweep", "status", "s"]) == 2
    assert "the plan of the study s" in capsys.readouterr().err


@pytest.mark.parametrize(
    "progress",
    ["", "[1]", '{"epoch": 3}', '{"epoch": 3, "of": 0}', "[" * 100_000, '{"epoch": "x", "of": "y"}'],
)
def test_a_damaged_progress_is_no_progress(progress):
    started = child.Child("magnify", ["gammer", "magnify", "fit"], Path("run"), {})
    started.kill()
    Path("run/progress.json").write_text(progress)
    assert started.progress() is None


@pytest.mark.parametrize(
    ("record", "content"),
    [
        ("metrics.csv", "val_loss\nhigh\n"),
        ("metrics.csv", "val_loss\n0.5,0.7\n"),
        ("metrics.csv", "val_loss\n\0\n"),
        ("results.json", "{"),
        ("results.json", "[" * 100_000),
        ("results.json", '{"mean": {"uf1": NaN}}'),
        ("results.json", '{"mean": {}}'),
    ],
)
def test_a_damaged_record_fails_its_row_and_the_next_row_runs(record, content, monkeypatch):
    damaged = f"{ROW}\nif '1-a' in str(run): (run / {record!r}).write_text({content!r})"
    rows, said = run(damaged, monkeypatch, rows=("a", "b"))
    assert rows["a"].state == "failed" and f"{record} is damaged" in rows["a"].error
    assert rows["b"].state == "complete" and "to run it anew: gammer sweep resume s --again a" in said


@pytest.mark.parametrize("facts", ["[]", "{}", "", '{"finished": "yes"}', "[" * 100_000])
def test_a_run_whose_env_json_is_damaged_is_not_taken_for_finished(facts, monkeypatch):
    folder = plan().folder("a")
    folder.mkdir(parents=True)
    (folder / "env.json").write_text(facts)
    rows, _ = run(ROW, monkeypatch)
    assert rows["a"].state == "complete" and json.loads((folder / "env.json").read_text()) == {"finished": True}


def test_an_end_by_any_signal_and_without_a_word_has_a_name(monkeypatch):
    rows, _ = run("import os; os.kill(os.getpid(), 35)", monkeypatch)
    assert rows["a"].error == "killed by signal 35"


@pytest.mark.parametrize(
    "text", ["x", "[]", "{}", "[" * 100_000, '{"study": "s", "trial_id": "0", "prunes": false}', '{"study": "s"}']
)
def test_a_broken_trial_in_the_environment_is_one_error(text, monkeypatch):
    monkeypatch.setenv("GAMMER_SWEEP_TRIAL", text)
    with pytest.raises(GammerError, match=r"GAMMER_SWEEP_TRIAL=.* in the environment"):
        row_callbacks()
    monkeypatch.setenv("GAMMER_SWEEP_TRIAL", "")
    assert row_callbacks() == ()


@pytest.mark.parametrize("verb", ["run", "table", "resume", "status"])
def test_a_file_where_a_folder_is_meant_is_one_error(verb, capsys):
    plan()
    Path("magnify_x.yaml").write_text("{}")
    Path("file").write_text("")
    if verb == "table":
        arguments = ["table", "s", "--out", "file"]
    else:
        Path("sweep.yaml").write_text("study: s\nbase: magnify_x.yaml\nrows: {a: {}}")
        arguments = [verb, "sweep.yaml" if verb == "run" else "s", "--storage", "file/journal.log"]
    assert cli.main(["sweep", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "file" in error


@pytest.mark.parametrize("path", ["", os.pathsep])
def test_a_row_runs_no_module_of_the_working_folder(path, monkeypatch):
    for name in ("random", "json", "wandb", "torch"):
        Path(f"{name}.py").write_text("open('executed', 'a').close()\n")
    package = str(Path(cli.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", package + path)
    row = child.Child("magnify", ["gammer", "magnify", "fit", "-c", "gone.yaml"], Path("row"), {})
    while row.exit_code is None:
        time.sleep(0.05)
    assert row.exit_code == 2 and "gone.yaml" in row.error() and not Path("executed").exists()


def test_processes_that_a_row_starts_run_no_module_of_the_working_folder(monkeypatch):
    Path("colorsys.py").write_text("open('executed', 'a').close()\n")
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import colorsys'], check=True)"
    rows, _ = run(ROW + nested, monkeypatch)
    assert rows["a"].state == "complete" and not Path("executed").exists()


def test_sync_runs_no_module_of_the_working_folder(monkeypatch):
    from gammer_lightning.runs import wandb_uploads as sync

    Path("wandb.py").write_text("open('executed', 'a').close()\n")
    with pytest.raises(GammerError, match="did not finish"):
        sync.upload_runs([Path("offline-run-gone").absolute()], sync.Target("", "p"))
    assert not Path("executed").exists()


def test_children_of_the_benchmark_leave_the_working_folder_out(monkeypatch):
    from gammer_lightning.commands import bench

    Path("argparse.py").write_text("open('executed', 'a').close()\n")
    monkeypatch.setattr(bench, "interleaved", lambda run, repeats: [step() for step in run.values()])
    done = bench.startup(type("Arguments", (), {"repeats": 1}))
    assert all(isinstance(one, subprocess.CompletedProcess) for one in done) and not Path("executed").exists()
