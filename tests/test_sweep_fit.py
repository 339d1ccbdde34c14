"""What a row's own process does beside training: its progress, pruning, several devices, want of memory."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fake_clips import FakeClips
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial
from tiny_task import TinyData, TinyModule

from gammer_lightning import cli
from gammer_lightning.errors import OutOfMemoryError
from gammer_lightning.runs.folder import RunFolder
from gammer_lightning.sweep.queue import child
from gammer_lightning.sweep.queue.attempt import NextAttempt
from gammer_lightning.sweep.queue.storage import open_storage
from gammer_lightning.sweep.queue.study import join_study, open_study
from gammer_lightning.sweep.spec import Search, Sweep
from gammer_lightning.tasks.recognize import RecognizeTask
from gammer_lightning.training import settings
from gammer_lightning.training.fit import fit

TINY = Path(__file__).parent.joinpath("helpers", "tiny_gammer.py")
COMMON = {
    "trainer.max_epochs": 12,
    "trainer.accelerator": "cpu",
    "trainer.enable_model_summary": False,
    "wandb": "disabled",
}


@pytest.fixture(autouse=True)
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "magnify", lambda: settings.Task("magnify", TinyModule, TinyData))
    monkeypatch.setattr(child, "ENTRY", (sys.executable, str(TINY)))
    (tmp_path / "magnify_x.yaml").write_text("model:\n  lr: 0.1\n")


def run(*flags, **content):
    sweep = {"study": "s", "base": "magnify_x.yaml", "common": COMMON, "metric": "val_loss", "mode": "min"} | content
    Path("sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    return cli.main(["sweep", "run", "sweep.yaml", "--workers", "1", *flags])


def test_rows_are_ordinary_runs_that_say_how_far_they_are():
    assert run(rows={"quick": {"model.lr": 0.1}}) == 0
    (row,) = open_study("s").rows()
    assert row.state == "complete" and "val_loss" in row.values
    assert json.loads((row.run / "progress.json").read_text()) == {"epoch": 12, "of": 12}
    first = (row.run / "command.txt").read_text().splitlines()[0]
    assert first.startswith("gammer magnify fit -c magnify_x.yaml --name s --trainer.max_epochs=12")
    assert RunFolder(row.run).last.is_file() and RunFolder(row.run).facts.finished


def test_an_unpromising_row_of_a_search_is_pruned():
    search = {"trials": 6, "space": {"model.lr": [0.1, 1e-6]}}
    sweep = Sweep("s", "magnify_x.yaml", "val_loss", "min", common=COMMON, search=Search(**search))
    study = join_study(open_storage(None, "s"), sweep, Path("magnify_x.yaml").read_text())
    for number in range(5):
        study.storage.create_new_trial(
            study.id,
            create_trial(
                params={"model.lr": 0.1},
                distributions={"model.lr": CategoricalDistribution([0.1, 1e-6])},
                value=0.1,
                intermediate_values=dict.fromkeys(range(12), 0.1),
                user_attrs={"row": f"trial {number}", "attempt": 1, "run": f"{number}", "values": {"val_loss": 0.1}},
            ),
        )
    study._enqueue("trial 5", NextAttempt(1, fixed_parameters={"model.lr": 1e-6}))
    assert run(search=search) == 0
    row = study.rows()[5]
    assert row.state == "pruned" and row.settings == {"model.lr": 1e-6}
    assert sorted(study.optuna().trials[5].intermediate_values) == list(range(11))  # ten epochs of grace
    assert not RunFolder(row.run).facts.finished


FULL = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    RuntimeError("Cannot allocate memory"),
    MemoryError(),
]


def fit_that_raises(monkeypatch, error, *flags):
    def training_step(task, batch, batch_idx):
        raise error

    monkeypatch.setattr(RecognizeTask, "training_step", training_step)
    small = ["--model.regions=[nose_tip]", "--model.width=4", "--trainer.accelerator=cpu", "--wandb=disabled"]
    fit(settings.Task("recognize", RecognizeTask, FakeClips), [*small, *flags])


@pytest.mark.parametrize("error", FULL, ids=["GPU", "CPU", "system", "Python"])
def test_want_of_memory_is_told_from_other_errors_on_every_device(error, monkeypatch):
    with pytest.raises(OutOfMemoryError, match=r"out of memory|llocat"):
        fit_that_raises(monkeypatch, error)


def test_what_the_allocator_of_the_cpu_says_is_want_of_memory(monkeypatch):
    with pytest.raises(RuntimeError) as full:
        torch.empty(2**50)
    with pytest.raises(OutOfMemoryError):
        fit_that_raises(monkeypatch, full.value)
    with pytest.raises(RuntimeError, match="another"):
        fit_that_raises(monkeypatch, RuntimeError("another"))


@pytest.mark.parametrize(
    ("flags", "advice"),
    [
        (["--model.seeds=[0]"], "=2"),  # three subjects and the network that holds out nobody
        (["--model.seeds=[0, 1, 2]", "--model.member_chunk=50"], "=6"),
        (["--model.seeds=[0, 1, 2, 3, 4]", "--model.member_chunk=19"], "=8"),
        (["--model.member_chunk=3"], "=1"),
        (["--model.member_chunk=1"], ""),
    ],
)
def test_fewer_members_are_advised_than_ran_at_once(flags, advice, monkeypatch):
    with pytest.raises(OutOfMemoryError) as error:
        fit_that_raises(monkeypatch, MemoryError(), *flags)
    assert error.value.next_step.partition("member_chunk (")[2].partition("e.g. --model.member_chunk")[2] == advice


def test_two_devices_train_one_row_and_only_the_first_reports():
    assert run(devices_per_trial=2, search={"trials": 1, "space": {"model.lr": [0.1]}}) == 0
    (row,) = open_study("s").rows()
    assert "distributed_backend=gloo" in (row.run / "log.txt").read_text()
    assert len(open_study("s").optuna().trials) == 1
