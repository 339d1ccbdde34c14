"""`gammer recognize audit`: the training and its results are those of fit, and what leaks is told apart and says so."""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_clips import FakeClips
from made_runs import LABELS, predictions

from gammer_lightning import cli
from gammer_lightning.evaluation.audit import (
    CHOSEN,
    CHOSEN_OF_FOLDS,
    HONEST,
    OF_FOLDS,
    audit_text,
    chosen_epochs,
    fold_counts,
    score_all_ways,
    summarise,
)
from gammer_lightning.evaluation.scores import confusion, scores
from gammer_lightning.tasks.audit import Audit
from gammer_lightning.tasks.recognize import RecognizeTask
from gammer_lightning.training import settings

SETTINGS = (
    *("--wandb", "disabled", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
    *("--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1", "--model.regions=[nose_tip]"),
    *("--model.width=4", "--model.heads=1", "--model.depth=1", "--model.lr=0.01", "--model.dropout=0.3"),
    *("--model.seeds=[0, 1]", "--data.subjects=4", "--data.noise=6"),
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = settings.Task("recognize", RecognizeTask, FakeClips, test_after_fit=True)
    monkeypatch.setattr(settings, "recognize", lambda: task)


def gammer(verb, out, *more, epochs=3):
    return cli.main(["recognize", verb, *SETTINGS, f"--trainer.max_epochs={epochs}", f"--out={out}", *more])


def test_training_and_results_are_those_of_fit_to_the_bit(capsys):
    assert gammer("fit", "fit") == 0 and gammer("audit", "audit") == 0
    states = [torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True) for run in ("fit", "audit")]
    assert all(torch.equal(states[0]["state_dict"][name], weight) for name, weight in states[1]["state_dict"].items())
    for name in ("results.json", "predictions.csv"):
        assert Path("fit", name).read_text() == Path("audit", name).read_text()

    honest, found = (json.loads(Path("audit", f"{name}.json").read_text()) for name in ("results", "audit"))
    assert found["ways"][HONEST]["mean"] == pytest.approx(honest["mean"])
    assert found["ways"][HONEST]["std"] == pytest.approx(honest["std"])
    assert (found["epochs"], found["folds"], found["clips"]) == (3, 4, 24)
    assert found["ways"][CHOSEN]["mean"]["accuracy"] >= found["ways"][HONEST]["mean"]["accuracy"]
    printed = capsys.readouterr().out
    assert Path("audit/audit.md").read_text() in printed and Path("audit/figures/audit.png").stat().st_size > 1000


def test_nothing_that_leaks_is_a_metric_and_the_run_is_marked():
    assert gammer("audit", "audit", epochs=2) == 0
    with Path("audit/metrics.csv").open() as lines:
        logged = [next(csv.reader(lines))]
    assert not any("leak" in name.lower() or "audit" in name.lower() for name in logged[0])
    assert json.loads(Path("audit/env.json").read_text())["name"].endswith("-audit")
    assert Path("audit/command.txt").read_text().startswith("gammer recognize audit ")


def test_a_stopped_audit_is_resumed_with_all_its_epochs(monkeypatch):
    note = Audit.on_train_epoch_start

    def note_and_stop(self, trainer, task):
        note(self, trainer, task)
        if trainer.current_epoch == 2:
            raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Audit, "on_train_epoch_start", note_and_stop)
        assert gammer("audit", "stopped") == 130
    assert cli.main(["recognize", "audit", "--resume", "stopped"]) == 0
    assert json.loads(Path("stopped/audit.json").read_text())["epochs"] == 3
    assert json.loads(Path("stopped/env.json").read_text())["name"] == "recognize-audit"


def test_a_run_that_fit_began_cannot_become_an_audit(capsys):
    class Trainer(argparse.Namespace):
        current_epoch = 2
        datamodule = FakeClips()

    with pytest.raises(Exception, match=r"2 epochs were trained, of which 1 were audited"):
        one = Audit()
        one.setup(Trainer(), RecognizeTask(), "fit")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gammer_lightning.tasks.audit._held_out_classes", lambda *_: np.zeros((1, 3)))
            one.on_train_epoch_start(Trainer(), None)


def test_the_protocol_that_leaks_by_itself_is_refused(capsys):
    assert gammer("audit", "audit", "--model.protocol=paper_holdout") == 2
    assert "trains on its test clips" in capsys.readouterr().err and not Path("audit").exists()


def random_predictions(epochs=5, seeds=2):
    rng = np.random.default_rng(0)
    return rng.integers(0, 3, (seeds, epochs, len(LABELS))), [f"fold {n}" for n in np.arange(len(LABELS)) % 4]


def test_scores_are_those_of_a_loop():
    predicted, folds = random_predictions()
    found = score_all_ways(fold_counts(predicted, LABELS, folds, 3))
    labels, folds = np.asarray(LABELS), np.asarray(folds)
    for seed, epochs in enumerate(predicted):
        best, taken = [], epochs[-1].copy()
        for fold in np.unique(folds):
            mine = folds == fold
            accuracies = [(epoch == labels)[mine].mean() for epoch in epochs]
            taken[mine] = epochs[int(np.argmax(accuracies))][mine]
            best.append(scores(confusion(labels[mine], taken[mine], 3))["uf1"])
        assert found[HONEST][seed] == scores(confusion(labels, epochs[-1], 3))
        assert found[CHOSEN][seed] == scores(confusion(labels, taken, 3))
        assert found[CHOSEN_OF_FOLDS][seed]["uf1"] == pytest.approx(np.mean(best))
        last = [scores(confusion(labels[folds == f], epochs[-1][folds == f], 3))["uf1"] for f in np.unique(folds)]
        assert found[OF_FOLDS][seed]["uf1"] == pytest.approx(np.mean(last))


def test_of_equally_good_epochs_the_first_is_chosen():
    predicted = np.array([[[1, 1], [0, 1], [0, 2]]])
    counts = fold_counts(predicted, [0, 0], ["a", "b"], 3)
    assert chosen_epochs(counts).tolist() == [[1, 0]]


def test_no_skill_is_lifted_by_leaks_and_every_line_of_them_says_so():
    predicted, _ = random_predictions(epochs=40)
    made = predictions(predicted[:, -1])
    summary = summarise(made, predicted)
    assert summary["ways"][HONEST]["no_skill"]["mean"]["uf1"] == pytest.approx(1 / 3, abs=0.03)
    assert summary["ways"][CHOSEN]["no_skill"]["mean"]["uf1"] > 0.6
    assert [found["leaky"] for found in summary["ways"].values()] == [False, True, True, True]
    assert set(summary["LEAKY_chosen_epochs"]) == {0, 1} and min(summary["LEAKY_chosen_epochs"][0].values()) >= 1
    lines = [line for line in audit_text(summary).splitlines() if line.startswith("| ") and "0." in line]
    assert [("LEAKY" in line, "honest" in line) for line in lines] == [(False, True), *[(True, False)] * 3]
