"""Run folders: fit, stop, resume and test through the real command, with a task of one linear layer."""

import csv
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from tiny_task import TinyData, TinyModule

from gammer_lightning import cli
from gammer_lightning.errors import GammerError
from gammer_lightning.runs.checkpoints import WholeCheckpoints, load_checkpoint, load_weights
from gammer_lightning.runs.folder import RunFolder, RunRecord, new_run_folder, open_run, wandb_default
from gammer_lightning.training import settings

FLAGS = [
    "--trainer.max_epochs=4",
    "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--wandb=disabled",
]


class NoMonitor(TinyModule):
    monitor = None


@pytest.fixture(autouse=True)
def tiny(tmp_path, monkeypatch):
    """Put the tiny task behind ``gammer magnify`` and ``gammer recognize``, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "magnify", lambda: settings.Task("magnify", TinyModule, TinyData))
    monkeypatch.setattr(
        settings, "recognize", lambda: settings.Task("recognize", NoMonitor, TinyData, test_after_fit=True)
    )
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)  # Lightning ignores it after an interrupted fit


def fit(*flags, task="magnify"):
    return cli.main([task, "fit", *FLAGS, *flags])


def rows(run):
    with (Path(run) / "metrics.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_fit_leaves_a_whole_run_folder_and_the_next_command(tmp_path, capsys):
    (tmp_path / "quick.yaml").write_text("model:\n  lr: 0.05\n")
    assert fit("-c", "quick.yaml") == 0
    (run,) = tmp_path.glob("runs/magnify/quick/*")
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    checkpoints = {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    assert names == checkpoints | {"config.yaml", "command.txt", "env.json", "metrics.csv"}
    assert (run / "figures").is_dir()
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["lr"] == 0.05
    assert (run / "command.txt").read_text().startswith("gammer magnify fit --trainer.max_epochs=4")
    facts = json.loads((run / "env.json").read_text())
    assert facts["finished"] and facts["seed"] == 0 and facts["packages"]["torch"] in torch.__version__
    assert {"python", "platform", "cpu", "gpus", "git"} <= set(facts)
    assert f"next: gammer magnify test {run.relative_to(tmp_path)}" in capsys.readouterr().out


def test_env_json_keeps_what_a_run_record_does_not_hold(tmp_path):
    run = RunFolder(tmp_path)
    text = json.dumps({"task": "magnify", "name": "x", "seed": None, "git": {"commit": "a"}, "packages": {"b": "1"}})
    run.env.write_text(text)
    assert run.facts == RunRecord("magnify", "x", git={"commit": "a"})
    run.save_facts(finished=True)
    assert json.loads(run.env.read_text()) == json.loads(text) | {"finished": True}


def test_the_saved_config_is_an_experiment_again(capsys):
    assert fit("--out=first", "--model.lr=0.02") == 0
    assert cli.main(["magnify", "fit", "-c", "first/config.yaml", "--out=second"]) == 0
    assert rows("first") == rows("second")


def test_test_takes_just_the_run_folder_and_overrides(capsys):
    fit("--out=run")
    assert cli.main(["magnify", "test", "run", "--data.batch_size=8"]) == 0
    output = capsys.readouterr().out
    assert "checkpoint: run/checkpoints/best.ckpt" in output and "test_loss" in output


def test_a_task_without_monitor_keeps_the_last_and_tests_it_after_the_fit(capsys):
    assert fit("--out=run", task="recognize") == 0
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["last.ckpt"]
    assert RunFolder(Path("run")).best == RunFolder(Path("run")).last
    assert rows("run")[-1]["test_loss"]


def test_best_is_chosen_by_the_monitor():
    fit("--out=run", "--model.lr=30", "--trainer.max_epochs=6")
    losses = [float(row["val_loss"]) for row in rows("run") if row["val_loss"]]
    best = load_checkpoint("run/checkpoints/best.ckpt")["epoch"]
    assert best == losses.index(min(losses)) != 5


def test_an_interrupted_run_says_how_to_resume_and_ends_like_an_unbroken_one(capsys):
    fit("--out=whole")
    assert fit("--out=broken", "--model.trouble=user") == 130
    assert "resume: gammer magnify fit --resume broken" in capsys.readouterr().out
    mend(Path("broken/config.yaml"))
    assert cli.main(["magnify", "fit", "--resume", "broken"]) == 0
    assert rows("broken") == rows("whole")
    for name in ("best", "last"):
        ends = [load_checkpoint(f"{run}/checkpoints/{name}.ckpt") for run in ("whole", "broken")]
        assert ends[0]["epoch"] == ends[1]["epoch"]
        assert all(torch.equal(ends[0]["state_dict"][key], ends[1]["state_dict"][key]) for key in ends[0]["state_dict"])
    assert len(Path("broken/command.txt").read_text().splitlines()) == 2


def test_a_moved_run_keeps_its_best(recwarn):
    fit("--out=old", "--model.lr=30", "--trainer.max_epochs=2")
    Path("old").rename("new")
    best = load_checkpoint("new/checkpoints/best.ckpt")
    RunFolder(Path("new")).save_facts(finished=False)
    assert cli.main(["magnify", "fit", "--resume", "new", "--trainer.max_epochs=4"]) == 0
    assert rows("new")[-1]["val_loss"] > rows("new")[0]["val_loss"]  # it diverges: nothing better was seen
    assert load_checkpoint("new/checkpoints/best.ckpt")["epoch"] == best["epoch"]
    assert not Path("old").exists() and not any("dirpath" in str(w.message) for w in recwarn)


def mend(config):
    config.write_text(config.read_text().replace("trouble: user", "trouble: ''"))


def test_rows_after_the_last_checkpoint_are_written_once():
    fit("--out=whole")
    fit("--out=broken", "--model.trouble=user")
    last = rows("broken")[-1]
    with Path("broken/metrics.csv").open("a") as lines:
        lines.write(",".join({"step": "8", "epoch": "2"}.get(name, "9") for name in last) + "\n")
    mend(Path("broken/config.yaml"))
    cli.main(["magnify", "fit", "--resume", "broken"])
    assert rows("broken") == rows("whole")


def test_a_mistake_and_a_bug_in_the_middle_keep_the_last_checkpoint(capsys):
    assert fit("--out=mistake", "--model.trouble=mistake") == 2
    assert capsys.readouterr().err.endswith("error: trouble\n")
    assert load_checkpoint("mistake/checkpoints/last.ckpt")["epoch"] == 1
    assert fit("--out=bug", "--model.trouble=bug") == 1
    error = capsys.readouterr().err
    assert "ZeroDivisionError" in error and "fault of gammer-lightning" in error
    assert not RunFolder(Path("bug")).facts.finished


def test_a_mistake_before_the_first_batch_leaves_no_run_behind(tmp_path):
    assert fit("--model.trouble=mistake", "--model.trouble_at=0", "--wandb=offline") == 2
    assert not list(tmp_path.glob("runs/*/*/*"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--resume=gone"], "gone is not a run folder"),
        (["--resume=done"], "is finished"),
        (["--resume=young"], r"no checkpoints/last.ckpt"),
        (["--resume=young", "--model.lr=3"], "--model.lr=3 beside --resume"),
        (["--resume=foreign"], "a run of `recognize`"),
    ],
)
def test_what_cannot_be_resumed_says_why(flags, message, capsys):
    for name, task in (("done", "magnify"), ("young", "magnify"), ("foreign", "recognize")):
        RunFolder(new_run_folder(task, name, Path(name))).save_start("{}", [], task=task)
    RunFolder(Path("done")).save_facts(finished=True)
    assert cli.main(["magnify", "fit", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and "next: " in error


def test_a_folder_that_is_not_empty_is_refused_with_both_ways_out(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep me")
    assert fit("--out=mine") == 2
    error = capsys.readouterr().err
    assert "choose another --out" in error and "--resume mine" in error
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.lr=fast"], "model.lr"),
        (["--model.speed=3"], "model.speed"),
        (["-c", "gone.yaml"], "gone.yaml"),
        (["--model.width=0"], "width 0"),
        (["--trainer.accelerator=abacus"], "abacus"),
        (["--trainer.logger=true"], "trainer.logger is True"),
        (["--wandb=sometimes"], "wandb"),
        (["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=test_loss"], "test metric"),
        (["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.monitor=test/uf1"], "test metric"),
    ],
)
def test_a_bad_setting_is_an_error_that_leaves_no_run_behind(flags, message, tmp_path, capsys):
    assert fit(*flags, "--name=bad") == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and "usage:" not in error
    assert not list(tmp_path.glob("runs/*/*/*"))


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_help_shows_every_setting(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["magnify", verb, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(flag in text for flag in ("--config", "--model.lr", "--data.batch_size", "--trainer.max_epochs"))


def test_two_runs_in_the_same_second_get_folders_of_their_own():
    folders = {new_run_folder("magnify", "small") for _ in range(5)}
    assert len(folders) == 5


class Payload:
    def __reduce__(self):
        return os.system, ("touch ran-code",)


def test_a_checkpoint_with_code_is_refused_and_not_run(tmp_path):
    torch.save({"state_dict": {}, "extra": Payload()}, "evil.ckpt")
    Path("evil.pkl").write_bytes(pickle.dumps(Payload(), protocol=2))
    for name in ("evil.ckpt", "evil.pkl"):
        with pytest.raises(GammerError, match="would run their code"):
            load_checkpoint(name)
    assert not Path("ran-code").exists()


def test_corrupt_missing_and_foreign_checkpoints_are_refused():
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, "whole.ckpt")
    content = Path("whole.ckpt").read_bytes()
    for name, data in {"cut": content[:-500], "empty": b"", "text": b"hello there"}.items():
        Path(f"{name}.ckpt").write_bytes(data)
        with pytest.raises(GammerError, match=f"checkpoint {name}.ckpt cannot be read"):
            load_checkpoint(f"{name}.ckpt")
    torch.save([1, 2], "list.ckpt")
    with pytest.raises(GammerError, match="holds no state_dict"):
        load_checkpoint("list.ckpt")
    with pytest.raises(GammerError, match="no checkpoint at"):
        load_checkpoint("gone.ckpt")


def test_weights_of_another_model_are_refused_by_name():
    with pytest.raises(GammerError, match=r"magnifier\.ckpt does not fit this model: Missing key"):
        load_weights(torch.nn.Linear(2, 2), {"other": torch.zeros(1)}, "magnifier.ckpt")


def test_test_refuses_a_corrupt_checkpoint_and_one_of_another_shape(capsys):
    fit("--out=run")
    assert cli.main(["magnify", "test", "run", "--model.width=3"]) == 2
    assert "does not fit this model: size mismatch" in capsys.readouterr().err
    Path("run/checkpoints/best.ckpt").write_bytes(b"PK torn")
    assert cli.main(["magnify", "test", "run"]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert cli.main(["recognize", "test", "run"]) == 2
    assert "a run of `magnify`" in capsys.readouterr().err
    assert cli.main(["magnify", "test"]) == 2
    assert "no run folder given" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(monkeypatch):
    path = Path("last.ckpt")
    io = WholeCheckpoints()
    io.save_checkpoint({"state_dict": {}}, path)

    def full(checkpoint, target):
        target.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        io.save_checkpoint({"state_dict": {"new": 1}}, path)
    assert io.load_checkpoint(path) == {"state_dict": {}}
    assert list(Path().iterdir()) == [path]


def test_wandb_is_online_only_with_a_key(tmp_path, monkeypatch):
    assert wandb_default() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_default() == "online"
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for host in ("api.wandb.ai", "api.forge.coreweave.com", "wandb.example.org"):
        (tmp_path / "netrc").write_text(f"machine {host} login user password key\n")
        assert wandb_default() == ("offline" if host == "wandb.example.org" else "online")
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert wandb_default() == "online"


def test_an_offline_wandb_run_reads_back_like_metrics_csv():
    assert fit("--out=run", "--wandb=offline", "--model.lr=0.03") == 0
    (folder,) = Path("run/wandb").glob("offline-run-*")
    assert folder.name.endswith(open_run("run").facts.wandb_id)
    inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", str(folder)]
    summary = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout
    values = dict(line.split() for line in summary.splitlines() if len(line.split()) == 2)
    logged = [row["val_loss"] for row in rows("run") if row["val_loss"]]
    assert float(values["val_loss"]) == pytest.approx(float(logged[-1]))
    assert float(values["model.lr"]) == 0.03 and values["project"] == "gammer-lightning"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_can_be_resumed(number):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent / 'helpers')!r}); from tiny_task import *;"
        "from gammer_lightning import cli; from gammer_lightning.training import settings;"
        "settings.magnify = lambda: settings.Task('magnify', TinyModule, TinyData);"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "magnify", "fit"]
    process = subprocess.Popen([*command, *FLAGS, "--trainer.max_epochs=100000", "--out=run"])
    last = Path("run/checkpoints/last.ckpt")
    while not last.exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(200) == (143 if number == signal.SIGTERM else -number)
    done = load_checkpoint(last)["epoch"]
    assert cli.main(["magnify", "fit", "--resume=run", f"--trainer.max_epochs={done + 3}"]) == 0
    steps = [int(row["step"]) for row in rows("run") if row["train_loss"]]
    assert steps == list(range((done + 3) * 4))


def test_want_of_memory_has_an_exit_code_of_its_own_and_says_what_to_lower(capsys):
    assert fit("--model.trouble=memory") == 3
    said = capsys.readouterr().err
    assert "error: trouble" in said and "model.member_chunk" in said and "data.batch_size" in said


def test_the_log_of_a_sweep_may_lie_in_a_new_run_folder_and_stays(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.txt").write_text("started\n")
    assert fit("--out=run", "--trainer.max_epochs=nine") == 2
    assert fit("--out=run", "--model.trouble=mistake", "--model.trouble_at=0") == 2
    assert [path.name for path in run.iterdir()] == ["log.txt"]
    assert fit("--out=run") == 0
    (run / "other").touch()
    assert fit("--out=run") == 2
