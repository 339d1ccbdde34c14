"""W&B: what a run logs, what a sweep adds to it, and what is uploaded later; read back from the offline files.

W&B's server was not reached: uploads go to a small imitation of it (`fake_wandb`).
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import wandb
import yaml
from fake_clips import FakeClips
from fake_wandb import fake_wandb
from PIL import Image
from test_run_folder import FLAGS
from tiny_task import TinyData, TinyModule

from gammer_lightning import cli
from gammer_lightning.commands import sweep_sync as sync
from gammer_lightning.errors import GammerError
from gammer_lightning.machine import git_state
from gammer_lightning.runs import wandb_uploads
from gammer_lightning.runs.folder import open_run
from gammer_lightning.runs.loggers import finish_wandb
from gammer_lightning.sweep.queue.study import Row
from gammer_lightning.sweep.spec import Sweep
from gammer_lightning.sweep.summary_run import log_summary, summary_id, wandb_environment
from gammer_lightning.tasks.recognize import RecognizeTask
from gammer_lightning.training import settings

SWEEP = Sweep("table, 4", "experiments/recognize_microfaces.yaml", rows={"alpha 5": {}, "β 8": {}})
PASSWORD = "not-for-wandb"


@pytest.fixture(autouse=True)
def tasks(tmp_path, monkeypatch):
    """Put a tiny task and fake clips behind the commands, and give back what W&B's logger sets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(settings, "magnify", lambda: settings.Task("magnify", TinyModule, TinyData))
    task = settings.Task("recognize", RecognizeTask, FakeClips, test_after_fit=True)
    monkeypatch.setattr(settings, "recognize", lambda: task)


def records(folder, kind):
    """Return the records of one kind that an offline run holds."""
    (run,) = Path(folder).glob("wandb/offline-run-*")
    inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    lines = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.splitlines()
    return [record[kind] for record in map(json.loads, lines) if record["type"] == kind]


def artifact_files(folder, name):
    """Return the files of an artifact that waits to be uploaded, by their names in it."""
    (found,) = [record for record in records(folder, "artifact") if record["name"].endswith(f"-{name}")]
    return {entry["path"]: Path(entry["local_path"]) for entry in found["manifest"]["contents"]}


def fit(out="run", *flags):
    return cli.main(["magnify", "fit", *FLAGS, "--wandb=offline", f"--out={out}", *flags])


def recognize(out="run"):
    small = ["--model.depth=1", "--model.heads=1", "--model.width=4", "--model.seeds=[0, 4]"]
    return cli.main(["recognize", "fit", *FLAGS, "--trainer.max_epochs=1", "--wandb=offline", f"--out={out}", *small])


def test_a_run_of_its_own_is_filed_under_its_task_with_all_settings_and_the_commit():
    assert fit("run", "--model.lr=0.03") == 0
    (run,) = records("run", "run")
    assert run["run_group"] == "magnify" and run["job_type"] == "fit" and run["display_name"] == "magnify/run"
    config = run["config"]["update"]
    settings = yaml.safe_load(Path("run/config.yaml").read_text())
    assert {key: config[key] for key in settings} == settings and config["model"]["lr"] == 0.03
    assert config["git"] == git_state() and config["task"] == "magnify" and config["seed"] == 0
    assert "lr" not in config  # no setting twice, once without its prefix


def test_a_row_is_filed_under_its_study(monkeypatch):
    for name, value in wandb_environment(SWEEP, "alpha 5", [0, 1, 2]).items():
        monkeypatch.setenv(name, value)
    assert fit() == 0
    (run,) = records("run", "run")
    assert run["run_group"] == "table, 4" and run["job_type"] == "row"
    assert run["display_name"] == "alpha 5, seeds 0-2"
    assert run["tags"] == ["recognize", "recognize_microfaces", "table  4"]


def test_names_seeds_and_tags_of_a_sweep():
    def name(*seeds):
        return wandb_environment(SWEEP, "a", seeds)["WANDB_NAME"]

    assert [name(), name(3), name(1, 0), name(2, 0, 1), name(0, 2, 5)] == [
        "a",
        "a, seed 3",
        "a, seeds 0, 1",
        "a, seeds 0-2",
        "a, seeds 0, 2, 5",
    ]
    search = Sweep("s" * 90, "recognize_x.yaml", "train_loss", search={"trials": 2, "space": {"model.lr": [1, 2]}})
    found = wandb_environment(search, "trial 0", [])
    assert found["WANDB_JOB_TYPE"] == "search" and found["WANDB_RUN_GROUP"] == "s" * 90
    tags = wandb.Settings(run_tags=found["WANDB_TAGS"].split(",")).run_tags  # W&B refuses longer ones here
    assert tags == ("recognize", "recognize_x", "s" * 64)


HANGING = """
import os, signal, sys
sys.path.insert(0, sys.argv.pop(1))
import psutil
from tiny_task import TinyData, TinyModule
from gammer_lightning import cli
from gammer_lightning.runs import loggers
from gammer_lightning.training import settings
class Hanging(TinyModule):
    def on_train_end(self):
        services = [child for child in psutil.Process().children() if child.name().startswith("wandb")]
        assert services
        for service in services:
            service.suspend()
settings.magnify = lambda: settings.Task("magnify", Hanging, TinyData)
loggers.WANDB_PATIENCE = 1
sys.exit(cli.main(["magnify", "fit", *sys.argv[1:], "--wandb=offline", "--out=run"]))
"""


def test_a_service_of_wandb_that_hangs_does_not_hang_the_fit():
    environment = {name: value for name, value in os.environ.items() if name != wandb_uploads.SERVICE_VARIABLE}
    command = [sys.executable, "-c", HANGING, str(Path(__file__).parent / "helpers"), *FLAGS]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stderr
    said = "W&B's own copy of the run is not whole: its service did not end within 1 s; metrics.csv is\n"
    assert said in ended.stderr and "Traceback" not in ended.stderr, ended.stderr
    assert open_run("run").facts.finished is True
    assert len(Path("run/metrics.csv").read_text().splitlines()) > 4


def test_an_end_that_wandb_refuses_is_said_in_one_line_without_passwords(monkeypatch, capsys):
    def refuse():
        raise wandb.errors.CommError(f"no answer of http://user:{PASSWORD}@host")

    monkeypatch.setattr(wandb, "run", MagicMock(offline=True))
    monkeypatch.setattr(wandb, "finish", refuse)
    finish_wandb()
    said = "W&B's own copy of the run is not whole: no answer of http://user:***@host; metrics.csv is\n"
    assert capsys.readouterr().err == said


def test_recognition_logs_matrices_and_a_table_with_a_picture_of_each_clip():
    assert recognize() == 0
    (folder,) = Path("run/wandb").glob("offline-run-*")
    keys = {key.split(".")[0] for record in records("run", "history") for key in record["item"]}
    assert {"confusion", "alphas", "graph", "classes", "predictions", "confusion_matrix_table", "test_uf1"} <= keys
    assert len(list(folder.glob("files/media/images/graph_*.png"))) == 1  # the attention on the face
    files = artifact_files("run", "predictions")
    table = json.loads(files.pop("predictions.table.json").read_text())
    clips = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert len(clips) == 18
    with Path("run/predictions.csv").open(newline="") as lines:
        expected = {(row["subject"], row["clip"], row["seed"]): row for row in csv.DictReader(lines)}
    for clip in clips:
        of_seed = [expected[clip["subject"], clip["clip"], str(seed)] for seed in (0, 4)]
        assert [clip["seed 0"], clip["seed 4"]] == [row["prediction"] for row in of_seed]
        assert clip["correct"] == sum(row["prediction"] == row["label"] for row in of_seed) / 2
        with Image.open(files[clip["apex"]["path"]]) as picture:
            assert picture.size == (128, 128) and picture.format == "JPEG"
    counts = json.loads(
        artifact_files("run", "confusion_matrix_table")["confusion_matrix_table.table.json"].read_text()
    )
    assert sum(row[2] for row in counts["data"]) == 36


def test_what_waits_to_be_uploaded_waits_in_the_run_folder():
    assert recognize() == 0
    for path in artifact_files("run", "predictions").values():
        assert Path("run").resolve() in path.parents


@pytest.fixture
def table():
    """Write a sweep's table as `gammer sweep table` does."""
    folder = Path("runs/sweeps") / SWEEP.study / "table"
    (folder / "figures").mkdir(parents=True)
    (folder / "table.csv").write_text("row,uf1,note\nalpha 5,0.5,\nβ 8,,best\n")
    (folder / "index.html").write_text("<h1>Table 4</h1>")
    Image.new("RGB", (8, 8)).save(folder / "figures" / "uf1.png")
    return folder


def test_the_summary_is_one_run_of_the_study(table):
    rows = [Row("alpha 5", state="complete"), Row("β 8", state="failed")]
    before = dict(os.environ)
    log_summary(SWEEP, rows, table, "offline")
    log_summary(SWEEP, rows, table, "offline")  # replaces the first
    assert os.environ == before  # the sweep's children inherit it
    (run,) = records(table.parent, "run")
    assert (
        run["run_group"] == SWEEP.study and run["job_type"] == "summary" and run["display_name"] == "table, 4 summary"
    )
    assert run["run_id"] == summary_id(SWEEP.study) != summary_id("other")
    assert run["config"]["update"]["sweep"] == SWEEP.plain()
    (history,) = records(table.parent, "history")
    assert {"table", "page", "uf1"} <= {key.split(".")[0] for key in history["item"]}
    stored = json.loads(artifact_files(table.parent, "table")["table.table.json"].read_text())
    assert stored["columns"] == ["row", "uf1", "note"]
    assert stored["data"] == [["alpha 5", 0.5, None], ["β 8", None, "best"]]
    summary = {key: value for record in records(table.parent, "summary") for key, value in record["update"].items()}
    assert (summary["rows"], summary["complete"], summary["failed"]) == (2, 1, 1)


def test_summaries_of_two_supervisors_follow_each_other(table, monkeypatch):
    begun, undisturbed = threading.Event(), []

    @contextmanager
    def slow_init(**settings):
        run = settings["dir"] / "wandb" / f"offline-run-{threading.get_ident()}"
        run.mkdir(parents=True)
        begun.set()
        time.sleep(0.3)
        undisturbed.append(run.is_dir())
        yield MagicMock()

    monkeypatch.setattr("wandb.init", slow_init)
    first = threading.Thread(target=log_summary, args=(SWEEP, [], table, "offline"))
    first.start()
    begun.wait(10)
    log_summary(SWEEP, [], table, "offline")
    first.join()
    assert undisturbed == [True, True]


def test_a_password_on_the_command_line_is_nowhere_in_the_summary(table):
    code = (
        "import sys; from pathlib import Path; from gammer_lightning.sweep.spec import Sweep;"
        "from gammer_lightning.sweep.summary_run import log_summary, private_settings;"
        "import wandb, gammer_lightning.sweep.summary_run as tracking;"
        "tracking.private_settings = private_settings if sys.argv[1] == 'private' else wandb.Settings;"
        f"sweep = Sweep({SWEEP.study!r}, {SWEEP.base!r}, rows={{'alpha 5': {{}}}});"
        f"print('storage', sys.argv[-1]); log_summary(sweep, [], Path({str(table)!r}), 'offline')"
    )
    for variant, leaks in (("wandb's own", True), ("private", False)):
        url = f"postgresql://user:{PASSWORD}@host/db"
        subprocess.run([sys.executable, "-c", code, variant, "--storage", url], check=True, capture_output=True)
        files = [path for path in (table.parent / "wandb").rglob("*") if path.is_file()]
        assert any(path.suffix == ".wandb" for path in files)
        assert any(PASSWORD.encode() in path.read_bytes() for path in files) == leaks


def test_a_summary_needs_its_table_and_disabled_writes_none(table):
    log_summary(SWEEP, [], table, "disabled")
    assert not (table.parent / "wandb").exists()
    (table / "index.html").unlink()
    with pytest.raises(GammerError, match=r"no .*index\.html"):
        log_summary(SWEEP, [], table, "offline")


@pytest.mark.parametrize("error", [OSError("No space left on device"), wandb.errors.CommError("unreachable")])
def test_a_summary_that_wandb_cannot_write_is_an_error_that_says_so(table, monkeypatch, error):
    def fail(**settings):
        raise error

    monkeypatch.setattr(wandb, "init", fail)
    with pytest.raises(GammerError, match=f"did not reach W&B: {error}"):
        log_summary(SWEEP, [], table, "offline")


class FakeStudy:
    """What `open_study` returns."""

    def __init__(self, rows):
        self.sweep, self._rows = SWEEP, rows

    def rows(self):
        return self._rows


def run_sync(rows, monkeypatch, *flags):
    monkeypatch.setattr(sync, "open_study", lambda name, storage: FakeStudy(rows))
    parser = argparse.ArgumentParser()
    sync.add_arguments(parser)
    return sync.main(parser.parse_args([SWEEP.study, *flags]))


@pytest.fixture
def recorder(monkeypatch):
    """Note what would be uploaded; a folder named ``broken`` fails."""
    calls = []

    def upload_runs(folders, target):
        if "broken" in folders[0].parts:
            raise RuntimeError("connection reset")
        for folder in folders:
            (folder / "run.wandb.synced").touch()
        calls.append((folders[0].parts[-3], target.entity, target.project))

    monkeypatch.setattr(wandb_uploads, "upload_runs", upload_runs)
    monkeypatch.setattr(wandb_uploads, "log_model", lambda upload, target: calls.append(upload.model))
    monkeypatch.setattr(sync, "check_login", lambda: calls.append("login"))
    return calls


def tracked(name, checkpoint="last"):
    """Make a run folder that was tracked offline, without training."""
    run = Path(name).resolve()
    (run / "wandb" / f"offline-run-1-{name}").mkdir(parents=True)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / f"{checkpoint}.ckpt").write_text("weights")
    (run / "config.yaml").touch()
    (run / "results.json").write_text("{}")
    return run


def test_sync_chooses_what_ended_here_and_says_what_it_leaves_out(monkeypatch, recorder, capsys):
    rows = [
        Row("alpha 5", state="complete", run=tracked("done")),
        Row("β 8", state="failed", run=tracked("failed")),
        Row("late", state="running", run=tracked("running")),
        Row("far", state="complete", run=Path("/gone"), host="elsewhere"),
        Row("off", state="complete", run=Path.cwd()),
        Row("next"),
    ]
    assert run_sync(rows, monkeypatch, "--entity=us", "--project=p") == 0
    assert recorder == ["login", ("done", "us", "p"), "table-4-alpha-5", ("failed", "us", "p")]
    output = capsys.readouterr().out
    assert "late is running" in output and "far ran on elsewhere" in output and "next is waiting" in output
    assert "off ran without W&B" in output


def test_a_second_sync_uploads_nothing_but_what_changed(monkeypatch, recorder, capsys):
    rows = [Row("alpha 5", state="complete", run=tracked("done"))]
    assert run_sync(rows, monkeypatch) == 0
    del recorder[:]
    assert run_sync(rows, monkeypatch) == 0
    assert recorder == [] and "nothing to upload" in capsys.readouterr().out
    (rows[0].run / "checkpoints" / "last.ckpt").write_text("trained longer")
    assert run_sync(rows, monkeypatch) == 0
    assert recorder == ["login", "table-4-alpha-5"]


def test_one_failure_does_not_stop_the_others_and_is_tried_again(monkeypatch, recorder, capsys):
    rows = [Row(name, state="complete", run=tracked(name)) for name in ("broken", "whole")]
    assert run_sync(rows, monkeypatch) == 1
    assert [call for call in recorder if isinstance(call, tuple)] == [("whole", "", "gammer-lightning")]
    assert "not uploaded: broken: connection reset" in capsys.readouterr().err
    assert not (rows[0].run / "wandb" / wandb_uploads.MARKER).exists()
    (rows[0].run / "wandb" / "offline-run-1-broken" / "run.wandb.synced").touch()
    assert run_sync(rows, monkeypatch) == 0
    assert recorder[-1] == "table-4-broken"


def test_names_of_artifacts_are_of_signs_that_wandb_takes():
    name = sync.model_name(SWEEP, Row("depth 1, graph raw/β" + "x" * 200))
    assert name.startswith("table-4-depth-1-graph-raw-x")
    assert len(wandb.Artifact(name, "model").name) == 128


SYNC = """
import sys
sys.path += [sys.argv[1], f"{sys.argv[1]}/helpers"]
from test_wandb import *
rows = [Row(run, state="complete", run=Path(run).resolve()) for run in sys.argv[3:]]
sync.open_study = lambda name, storage: FakeStudy(rows)
parser = argparse.ArgumentParser()
sync.add_arguments(parser)
try:
    sys.exit(sync.main(parser.parse_args([SWEEP.study])))
except GammerError as error:
    sys.exit(f"error: {error}")
"""


def sync_process(runs, url="http://127.0.0.1:1", key="a" * 40):
    """Run the command in a process of its own, as W&B settles mode and key once a process."""
    storage = f"--storage=postgresql://user:{PASSWORD}@host/db"
    command = [sys.executable, "-c", SYNC, str(Path(__file__).parent), storage, *runs]
    environment = {**os.environ, "WANDB_BASE_URL": url} | ({"WANDB_API_KEY": key} if key else {})
    environment.pop("WANDB_SERVICE", None)  # that of the tests' own process
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_without_a_key_nothing_is_uploaded_and_nothing_is_lost():
    before = sorted(tracked("done").rglob("*"))
    result = sync_process(["done"], key="")
    assert result.returncode == 1 and "there is no W&B key" in result.stderr
    assert "`wandb login`, or set WANDB_API_KEY" in result.stderr and "stay whole" in result.stderr
    assert sorted(Path("done").resolve().rglob("*")) == before


@pytest.mark.slow
def test_without_a_connection_the_reason_is_said():
    tracked("done")
    result = sync_process(["done"])
    assert result.returncode == 1 and "W&B cannot be reached" in result.stderr and "wandb login" in result.stderr


@pytest.mark.slow
def test_sync_sends_runs_tables_models_and_summary_once(table, monkeypatch):
    for name, value in wandb_environment(SWEEP, "alpha 5", [0, 4]).items():
        monkeypatch.setenv(name, value)
    assert recognize("one") == 0 and fit("two") == 0
    log_summary(SWEEP, [], table, "offline")
    ids = {name: open_run(name).facts.wandb_id for name in ("one", "two")}
    with fake_wandb() as server:
        server.refused.add(ids["two"])
        failed = sync_process(ids, server.url)
        assert failed.returncode == 1 and "not uploaded: two: `wandb sync` did not finish" in failed.stderr
        assert failed.stderr.count("not uploaded") == 1, failed.stderr
        assert set(server.runs) == {ids["one"], summary_id(SWEEP.study)}
        server.refused.clear()
        again = sync_process(ids, server.url)
        assert again.returncode == 0, again.stderr
        sent = len(server.bodies)
        assert "nothing to upload" in sync_process(ids, server.url).stdout and len(server.bodies) == sent
    check_server(server, ids)


def check_server(server, ids):
    """See that everything arrived, under its study, and nothing of the syncing process."""
    assert set(server.runs) == {*ids.values(), summary_id(SWEEP.study)}
    assert {run["groupName"] for run in server.runs.values()} == {SWEEP.study}
    kinds = {name: run["jobType"] for name, run in server.runs.items()}
    assert kinds == {ids["one"]: "row", ids["two"]: "row", summary_id(SWEEP.study): "summary"}
    models = {a["artifactCollectionName"]: a for a in server.artifacts.values() if a["artifactTypeName"] == "model"}
    assert {name: model["runName"] for name, model in models.items()} == {f"table-4-{n}": ids[n] for n in ids}
    assert {model["state"] for model in models.values()} == {"COMMITTED"}
    names = {Path(path).name for path in server.files if path.startswith(f"artifacts/{models['table-4-one']['id']}")}
    assert names == {"last.ckpt", "config.yaml", "results.json"}
    best = server.files[f"artifacts/{models['table-4-two']['id']}/best.ckpt"]
    assert best == Path("two/checkpoints/best.ckpt").read_bytes()
    assert any(Path(path).name == "predictions.table.json" for path in server.files)
    history = [line for line in server.history[ids["one"]] if "test_uf1" in line]
    assert len(history) == 1
    assert not any(PASSWORD.encode() in body for body in server.bodies)
