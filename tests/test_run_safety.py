"""Run folders that are damaged, held by another process or a stranger's, and what a kill leaves of metrics.csv."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_run_folder import FLAGS, fit, rows, tiny  # noqa: F401
from tiny_task import TinyData, TinyModule

from gammer_lightning import cli
from gammer_lightning.errors import GammerError
from gammer_lightning.locks import HOLDER, LOCK
from gammer_lightning.runs.checkpoints import load_checkpoint, read_weights
from gammer_lightning.runs.folder import RunFolder, open_run
from gammer_lightning.tasks.members import seeded
from gammer_lightning.tasks.recognize import deployed_model
from gammer_lightning.training import settings

TESTS = Path(__file__).parent
MODULE = """
import os
from pytorch_lightning import Callback
open("ran-code", "w").close()
class Own(Callback):
    pass
"""


@pytest.fixture
def run():
    """A finished run."""
    assert fit("--out=run", "--trainer.max_epochs=2") == 0
    return RunFolder(Path("run"))


def refused(capsys, *argv):
    assert cli.main(list(argv)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error and "rule: " in error and "next: " in error
    return error


def spoil(path):
    checkpoint = load_checkpoint(path)
    checkpoint["state_dict"]["layers.1.weight"][0] = torch.nan
    torch.save(checkpoint, path)


def test_weights_that_are_not_finite_are_refused_by_file_and_tensor(run, capsys):
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    for path in (run.best, run.last):
        spoil(path)
        before[path] = path.read_bytes()
    assert f"{run.best}: 1 of the 1 values of layers.1.weight are NaN" in refused(capsys, "magnify", "test", "run")
    run.save_facts(finished=False)
    before[run.path / "env.json"] = (run.path / "env.json").read_bytes()
    assert f"{run.last}: 1 of" in refused(capsys, "magnify", "fit", "--resume", "run")
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    save_file({"w": torch.tensor([1.0, torch.inf])}, "w.safetensors")
    torch.save({"w": torch.tensor([-torch.inf])}, "w.pth")
    for name in ("w.safetensors", "w.pth"):
        with pytest.raises(GammerError, match=rf"{name}: 1 of .* of w are NaN or infinite"):
            read_weights(name)


def hold(path, ready):
    with RunFolder(Path(path)).locked():
        ready.set()
        time.sleep(300)


def test_a_run_folder_has_one_writer_which_the_message_names(run, capsys):
    run.save_facts(finished=False)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=hold, args=("run", ready), daemon=True)
    holder.start()
    assert ready.wait(100)
    for argv in (["fit", "--resume", "run"], ["test", "run"]):
        error = refused(capsys, "magnify", *argv)
        assert f"run folder run: process {holder.pid} on " in error
    Path("new").mkdir()
    ready.clear()
    second = context.Process(target=hold, args=("new", ready), daemon=True)
    second.start()
    assert ready.wait(100)
    assert f"process {second.pid} on " in refused(capsys, "magnify", "fit", *FLAGS, "--out=new")
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert (run.path / LOCK).exists() and (run.path / HOLDER).exists()  # it had no time to remove them
    assert cli.main(["magnify", "fit", "--resume", "run", "--trainer.max_epochs=3"]) == 0
    assert not (run.path / LOCK).exists() and not (run.path / HOLDER).exists()
    second.kill()


class Killed(TinyModule):
    """Is killed after the checkpoint of epoch 1 is saved and before Lightning logs the epoch."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("train_mean", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        adam = super().configure_optimizers()

        def factor(epoch):
            if epoch == 2 and "KILL_RUN" in os.environ:
                os.kill(os.getpid(), signal.SIGKILL)
            return 1.0

        return [adam], [torch.optim.lr_scheduler.LambdaLR(adam, factor)]


def test_a_kill_after_the_checkpoint_loses_no_row_of_its_epoch(monkeypatch):
    monkeypatch.setattr(settings, "magnify", lambda: settings.Task("magnify", Killed, TinyData))
    assert fit("--out=whole") == 0

    folders = [str(TESTS), str(TESTS / "helpers")]
    code = (
        f"import sys; sys.path += {folders}; from test_run_safety import *\n"
        "settings.magnify = lambda: settings.Task('magnify', Killed, TinyData)\n"
        "fit('--out=broken')"
    )
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, "KILL_RUN": "1"}, timeout=250)
    assert killed.returncode == -signal.SIGKILL
    with Path("broken/metrics.csv").open("a") as lines:
        lines.write("1,0.")  # a row that was cut off
    assert cli.main(["magnify", "fit", "--resume", "broken"]) == 0
    assert rows("broken") == rows("whole")
    assert [row["epoch"] for row in rows("whole") if row["train_mean"]] == ["0", "1", "2", "3"]


def write(path, text):
    Path(path).write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("env.json", "", "env.json is damaged"),
        ("env.json", "[" * 100_000, "env.json is damaged"),
        ("env.json", "[]", "it holds no names"),
        ("env.json", '{"finished": true}', "it has no `task`"),
        ("env.json", '{"task": ["x"], "finished": true}', "`task` is"),
        ("env.json", '{"task": "../x", "finished": true}', "`task` is '../x'"),
        ("env.json", '{"task": "magnify", "finished": "no"}', "`finished` is 'no'"),
        ("env.json", '{"task": "magnify", "finished": true, "wandb_id": 3}', "`wandb_id` is '3'"),
        ("env.json", '{"task": "magnify", "finished": true, "wandb_path": ["team"]}', "not entity and project"),
        ("config.yaml", "- 1", "it holds no settings"),
        ("config.yaml", "a: [", "config.yaml is damaged"),
        ("config.yaml", "{a: " * 5000, "config.yaml is damaged"),
    ],
)
def test_a_damaged_record_of_a_run_is_one_error(run, name, text, message, capsys):
    write(f"run/{name}", text)
    assert message in refused(capsys, "magnify", "test", "run")


def test_a_checkpoint_that_no_run_can_go_on_with_is_refused_before_data_are_read(run, capsys):
    run.save_facts(finished=False)
    whole = load_checkpoint(run.last)
    for name, value in (("loops", {}), ("epoch", "x"), ("optimizer_states", None)):
        torch.save(whole | {name: value}, run.last)
        assert f"checkpoint {run.last} cannot be read" in refused(capsys, "magnify", "fit", "--resume", "run")
    torch.save(whole, run.last)
    write("run/metrics.csv", "epoch,step\n0,none\n")
    assert "metrics.csv is damaged" in refused(capsys, "magnify", "fit", "--resume", "run")


def test_what_a_checkpoint_says_of_its_networks_is_checked():
    settings = {"num_classes": 3, "regions": ["nose_tip"], "depth": 1, "heads": 1, "width": 4, "patch_size": 8}
    state = {f"members.{name}": w[None] for name, w in seeded(0, settings).state_dict().items()}
    facts = {"network": settings, "folds": ["nobody"], "class_names": ["a", "b", "c"], "clip_hash": "", "split": ""}
    torch.save({"state_dict": state, "recognition": facts}, "good.ckpt")
    deployed_model("good.ckpt")
    for wrong in (
        [],
        {},
        facts | {"folds": "nobody"},
        facts | {"folds": ["01"]},
        facts | {"class_names": [1]},
        facts | {"more": 1},
        facts | {"network": settings | {"speed": 1}},
        facts | {"network": settings | {"width": "wide"}},
        facts | {"name": 7},
    ):
        torch.save({"state_dict": state, "recognition": wrong}, "bad.ckpt")
        with pytest.raises(GammerError, match=r"what bad\.ckpt says of its networks is damaged"):
            deployed_model("bad.ckpt")


@pytest.mark.parametrize("text", ["[]", "{}", "[" * 100_000, '{"mean": NaN}', '{"datasets": [1], "classes": {}}'])
def test_recognize_table_refuses_damaged_results(run, text, capsys):
    run.save_facts(task="recognize")
    write("run/results.json", text)
    assert "results.json is damaged" in refused(capsys, "recognize", "table", "run")


@pytest.mark.parametrize(
    "setting",
    [
        "callbacks: [{class_path: strangers.Own}]",
        "callbacks: [strangers.Own]",
        "strategy: {class_path: strangers.Own}",
        "plugins: strangers.Own",
        "callbacks: [{class_path: pytorch_lightning.callbacks.LambdaCallback, init_args: {on_fit_start: os.getcwd}}]",
    ],
)
def test_a_strangers_run_runs_no_code(run, setting, tmp_path, monkeypatch, capsys):
    write("strangers.py", MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    text = run.config.read_text()
    name = setting.partition(":")[0]
    lines = [line for line in text.splitlines() if not line.startswith(f"  {name}:")]
    lines.insert(lines.index("trainer:") + 1, f"  {setting}")
    write(run.config, "\n".join(lines))
    run.save_facts(finished=False)
    for argv in (["test", "run"], ["fit", "--resume", "run"]):
        error = refused(capsys, "magnify", *argv)
        assert f"as trainer.{name}" in error and "GAMMER_TRUSTED_PACKAGES=" in error
    with pytest.raises(GammerError, match="could run any code"):
        open_run("run")
    assert not Path("ran-code").exists()


def test_a_class_of_its_own_is_taken_from_the_users_yaml_and_of_a_trusted_package(tmp_path, monkeypatch):
    write("mine.py", MODULE)
    write("mine.yaml", "trainer:\n  callbacks:\n  - class_path: mine.Own\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert fit("-c", "mine.yaml", "--out=run") == 0
    with pytest.raises(GammerError, match=r"names mine\.Own as trainer\.callbacks\.0\.class_path"):
        open_run("run")
    monkeypatch.setenv("GAMMER_TRUSTED_PACKAGES", "other,mine")
    assert cli.main(["magnify", "test", "run"]) == 0


def test_options_that_a_test_would_ignore_are_refused(run, capsys):
    for word in ("--out=x", "--name=y", "--wandb=offline", "--resume=z"):
        assert f"{word} of a test" in refused(capsys, "magnify", "test", "run", word)


def test_data_that_leave_no_batch_are_no_run(monkeypatch, capsys):
    class NoData(TinyData):
        def train_dataloader(self):
            return []

    monkeypatch.setattr(settings, "magnify", lambda: settings.Task("magnify", TinyModule, NoData))
    assert "no batch was trained" in refused(capsys, "magnify", "fit", *FLAGS, "--out=run")
    assert not Path("run").exists()


def test_what_lightning_refuses_while_it_runs_is_one_error(capsys):
    for flag in ("--trainer.limit_train_batches=0.001", "--trainer.val_check_interval=100"):
        refused(capsys, "magnify", "fit", *FLAGS, "--out=run", flag)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting takes root")
def test_a_full_disk_is_one_error(capsys):
    Path("disk").mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", "disk"]).returncode
    ):
        pytest.skip("mounting is not permitted here")
    try:
        write("disk/fill", "x" * 40_000)
        assert "No space left" in refused(capsys, "magnify", "fit", *FLAGS, "--out=disk/run")
    finally:
        subprocess.run(["umount", "-l", "disk"], check=True)
