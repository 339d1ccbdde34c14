"""What a row's own process does beside training: its progress, pruning, several devices, want of memory."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial
from tiny_task import TinyData, TinyModule

from gammer_lightning import cli, training
from gammer_lightning.run_folder import RunFolder
from gammer_lightning.sweep import child
from gammer_lightning.sweep.spec import Search, Sweep
from gammer_lightning.sweep.storage import open_storage
from gammer_lightning.sweep.study import join_study, open_study

TINY = Path(__file__).with_name("tiny_gammer.py")
COMMON = {
    "trainer.max_epochs": 12,
    "trainer.accelerator": "cpu",
    "trainer.enable_model_summary": False,
    "wandb": "disabled",
}


@pytest.fixture(autouse=True)
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "magnify", lambda: training.Task("magnify", TinyModule, TinyData))
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
    assert RunFolder(row.run).last.is_file() and RunFolder(row.run).facts["finished"]


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
                user_attrs={"row": f"trial {number}", "attempt": 1, "values": {"val_loss": 0.1}},
            ),
        )
    study._enqueue("trial 5", {"attempt": 1, "fixed_params": {"model.lr": 1e-6}})
    assert run(search=search) == 0
    row = study.rows()[5]
    assert row.state == "pruned" and row.settings == {"model.lr": 1e-6}
    assert sorted(study.optuna().trials[5].intermediate_values) == list(range(11))  # ten epochs of grace
    assert not RunFolder(row.run).facts["finished"]


def test_two_devices_train_one_row_and_only_the_first_reports():
    assert run(devices_per_trial=2, search={"trials": 1, "space": {"model.lr": [0.1]}}) == 0
    (row,) = open_study("s").rows()
    assert "distributed_backend=gloo" in (row.run / "log.txt").read_text()
    assert len(open_study("s").optuna().trials) == 1
