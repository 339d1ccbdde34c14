"""Action units as a class set of their own: labels, folds, losses, SVMs, scores; a fit by the real command."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from casme2_sample import write_sample, write_workbook
from fake_clips import FakeClips
from made_runs import sweep
from pytorch_lightning.loggers import WandbLogger
from scipy.stats import wilcoxon
from sklearn.metrics import f1_score
from sklearn.svm import SVC, LinearSVC

from gammer_lightning.cli import main
from gammer_lightning.data.clips.action_units import MEB_UNITS
from gammer_lightning.data.clips.class_sets import UNIT_NAMES, class_labels, class_set_notes
from gammer_lightning.data.clips.datasets import find_root, read_datasets
from gammer_lightning.data.datamodule import MagnifiedClips
from gammer_lightning.deploy.rules import RESULT_RULES
from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation import comparison
from gammer_lightning.evaluation.comparison import differences
from gammer_lightning.evaluation.folds import NOBODY, make_folds, make_split, positive_weights
from gammer_lightning.evaluation.predictions import UnitPredictions, text_of_units, units_of_text
from gammer_lightning.evaluation.results import log_results, write_figures, write_results
from gammer_lightning.evaluation.run_results import RunResults, are_results
from gammer_lightning.evaluation.scores import UNIT_SCORING, unit_confusion, unit_scores
from gammer_lightning.models.baselines.linear_svm import NEVER, PENALTIES, choose_penalty, fit_svm
from gammer_lightning.models.baselines.rbf_svm import RbfSvm, fit_rbf_svm
from gammer_lightning.models.networks import network_class
from gammer_lightning.sweep.live import rows_table
from gammer_lightning.sweep.queue.study import Row
from gammer_lightning.sweep.table.table import write_table
from gammer_lightning.tasks.audit import Audit
from gammer_lightning.tasks.label_kinds import MULTI_LABEL
from gammer_lightning.tasks.recognize import RecognizeTask

ROOT = Path(__file__).parents[1]
OVERLAYS = sorted((ROOT / "experiments/baselines").glob("*.yaml"))


def write_units(root, units, **sample):
    """Write a sample whose clips have these action units; return its rows."""
    rows = write_sample(root, **sample)
    for row, text in zip(rows, itertools.cycle(units), strict=False):
        row["Action Units"] = text
    write_workbook(root, rows)
    return rows


def on(*units):
    return tuple(int(unit in units) for unit in MEB_UNITS)


def test_a_label_has_the_twelve_units_of_meb_of_either_side(tmp_path):
    write_units(tmp_path, ["1+2", "L14+12?", "R4 or 7", "24+26", "5/what"], subjects=1, clips=5)
    read = read_datasets({"casme2": tmp_path})
    clips, labels, names = class_labels(read, "units")
    assert MEB_UNITS == (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17) and names[:3] == ("AU1", "AU2", "AU4")
    assert labels == [on(1, 2), on(12, 14), on(4, 7), on()]  # the last but one has none of the twelve, and stays
    assert [clip.name for clip in clips] == [f"EP0{number}_01" for number in (1, 2, 3, 4)]
    (note,) = class_set_notes(read, "units")
    assert note.startswith("casme2/01/EP05_01 is left out: action unit 'WHAT'")


def test_a_data_set_without_the_units_is_refused_by_name(tmp_path):
    write_units(tmp_path, ["12"])
    clips = read_datasets({"casme2": tmp_path})
    smic = [replace(clip, dataset="smic", action_units="") for clip in clips]
    with pytest.raises(GammerError, match="class set units for smic") as refusal:
        class_labels([*clips, *smic], "units")
    assert "SMIC has no action units" in refusal.value.rule
    with pytest.raises(GammerError, match="class set units for no clips"):
        class_labels([], "units")
    with pytest.raises(GammerError, match=r"data\.clip_list with class set 'units'"):
        class_labels(clips, "units", tmp_path / "list.csv")


def test_a_further_cast_of_microfaces_is_a_data_set_of_its_own(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_units(tmp_path / name, ["12", "4"])
    clips = read_datasets({"microfaces": tmp_path / "a", "microfaces-b": tmp_path / "b"})
    keys = [clip.key for clip in clips]
    assert keys[0] == "microfaces/01/EP01_01" and keys[4] == "microfaces-b/01/EP01_01" and len(set(keys)) == 8
    assert class_labels(clips, "five")[2] == class_labels(clips[:4], "five")[2]
    for class_set in ("three", "objective"):
        kept, labels, _ = class_labels(clips, class_set)
        folds = make_folds("lodo", [f"{clip.dataset}/{clip.subject}" for clip in kept], labels)
        held_out = {name: {kept[index].dataset for index in test} for name, test in folds}
        assert held_out == {"microfaces": {"microfaces"}, "microfaces-b": {"microfaces-b"}}
    monkeypatch.setenv("GAMMER_MICROFACES_B", str(tmp_path / "b"))
    assert find_root("microfaces-b") == tmp_path / "b"
    with pytest.raises(GammerError, match="unknown data set 'microface-b'"):
        find_root("microface-b", tmp_path)
    assert RESULT_RULES["datasets"].holds(["microfaces", "microfaces-b"])
    assert not RESULT_RULES["datasets"].holds(["microfaces", "microface-b"])


class TestFolds:
    subjects = ("a/1", "a/2", "b/1", "b/2", "b/3", "c/1")
    units = ((1, 0, 1), (0, 0, 1), (1, 0, 1), (0, 1, 1), (0, 0, 1), (0, 0, 1))

    @pytest.mark.parametrize("labels", [units, [0, 1, 0, 1, 1, 0]], ids=["units", "classes"])
    def test_lodo_leaves_a_whole_data_set_out(self, labels):
        split = make_split("lodo", self.subjects, labels, ("x", "y", "z")[: 3 if labels is self.units else 2])
        assert [(name, test.tolist()) for name, test in split.folds] == [("a", [0, 1]), ("b", [2, 3, 4]), ("c", [5])]
        assert split.masks["b"].tolist() == [True, True, False, False, False, True] and split.masks[NOBODY].all()
        assert len(split.class_weights) == 4

    def test_it_needs_two_data_sets(self):
        with pytest.raises(GammerError, match=r"1 data set\(s\): a") as refusal:
            make_folds("lodo", self.subjects[:2], self.units[:2])
        assert "two data sets or more" in refusal.value.rule and "data.roots" in refusal.value.next_step

    @pytest.mark.parametrize("protocol", ["kfold", "inner", "outer", "paper_holdout"])
    def test_what_is_stratified_by_class_is_refused(self, protocol):
        with pytest.raises(GammerError, match=f"model.protocol {protocol} with data.class_set units") as refusal:
            make_folds(protocol, self.subjects, self.units)
        assert "lodo or loso" in refusal.value.next_step

    def test_on_and_off_weigh_the_same_among_the_training_clips(self):
        training = np.array([True, True, False, True, True, True])
        assert positive_weights(training, self.units).tolist() == [4.0, 4.0, 1.0]  # the last is on in all of them
        assert positive_weights(training[:3], self.units[:3]).tolist() == [1.0, 1.0, 1.0]  # the second in none


def test_the_loss_is_torchs_over_the_clips_that_a_member_trains_on():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, generator=generator)
    labels = torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 0]])
    weights = torch.tensor([[1.0, 3, 5, 2], [2, 2, 2, 2]])
    clip_weights = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    losses = MULTI_LABEL.losses(logits, labels, clip_weights, weights)
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=weights[0])(logits[0, [0, 2]], labels[[0, 2]].float())
    torch.testing.assert_close(losses, torch.stack([expected, torch.tensor(0.0)]))
    correct = MULTI_LABEL.correct(logits, labels)
    assert correct[0, 1] == ((logits[0, 1].sigmoid() > 0.5) == labels[1].bool()).float().mean()


def random_units(seed=0, shape=(60, 5)):
    rng = np.random.default_rng(seed)
    return (rng.random(shape) < 0.3).astype(int), (rng.random(shape) < 0.4).astype(int)


def scores_by_scikit_learn(labels, predictions):
    """Macro and binary F1 without the units that never occur."""
    units = [k for k in range(labels.shape[1]) if labels[:, k].any()]
    macro = [f1_score(labels[:, k], predictions[:, k], average="macro", labels=[0, 1], zero_division=0) for k in units]
    binary = [f1_score(labels[:, k], predictions[:, k], zero_division=0) for k in units]
    return np.mean(macro), np.mean(binary)


class TestScores:
    def test_they_are_scikit_learns(self):
        labels, predictions = random_units()
        found = unit_scores(unit_confusion(labels, predictions))
        assert (found["macro_f1"], found["binary_f1"]) == pytest.approx(scores_by_scikit_learn(labels, predictions))
        stacked = unit_scores(unit_confusion(labels, np.stack([predictions, labels])))
        assert stacked["macro_f1"] == pytest.approx([found["macro_f1"], 1.0])

    def test_a_unit_that_never_occurs_is_left_out(self):
        labels, predictions = random_units()
        labels[:, 2] = 0
        others = [0, 1, 3, 4]
        found = unit_scores(unit_confusion(labels, predictions))
        assert found == pytest.approx(unit_scores(unit_confusion(labels[:, others], predictions[:, others])))

    def test_all_on_has_half_of_its_binary_f1_as_macro_f1(self):
        labels, _ = random_units()
        found = unit_scores(unit_confusion(labels, np.ones_like(labels)))
        assert found["macro_f1"] == pytest.approx(found["binary_f1"] / 2) and found["binary_f1"] > 0.3
        never = unit_scores(unit_confusion(labels, np.zeros_like(labels)))
        assert never["binary_f1"] == 0 and never["macro_f1"] > 0.3

    def test_texts_of_units_are_read_back(self):
        labels, _ = random_units()
        names = [f"AU{k}" for k in range(5)]
        texts = [text_of_units(row, names) for row in labels]
        assert (units_of_text(texts, names) == labels).all() and "none" in texts and "AU1+AU2" in texts
        with pytest.raises(KeyError):
            units_of_text(["AU9"], names)


class TestSvms:
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(40, 6))
    labels = np.stack([clips[:, 0] > 0, clips[:, 1] + clips[:, 2] > 0.8, np.zeros(40), np.ones(40)], 1).astype(int)

    def test_a_linear_one_for_each_unit(self):
        weight, bias = fit_svm(self.clips, self.labels, 1.0, 4)
        for unit in range(2):
            svm = LinearSVC(C=1, dual=False, class_weight="balanced", max_iter=10_000)
            svm.fit(self.clips, self.labels[:, unit])
            decisions = self.clips @ weight[unit] + bias[unit]
            np.testing.assert_allclose(decisions, svm.decision_function(self.clips), atol=1e-6)
        assert bias[2:].tolist() == [NEVER, -NEVER] and not weight[2:].any()

    def test_one_with_a_gaussian_kernel_for_each_unit(self):
        coefficients, bias, gamma = fit_rbf_svm(self.clips, self.labels, 10.0, 4)
        svm = SVC(C=10, gamma=gamma, class_weight="balanced").fit(self.clips, self.labels[:, 1])
        np.testing.assert_allclose(coefficients[1, svm.support_], svm.dual_coef_[0], atol=1e-4)
        assert bias[2:].tolist() == [NEVER, -NEVER] and not coefficients[2:].any()

    def test_c_is_the_one_with_the_best_macro_f1_on_inner_subjects(self):
        subjects = np.repeat([f"a/{number}" for number in range(8)], 5)
        chosen = choose_penalty(self.clips, self.labels, subjects, 0, 4)
        names = np.random.default_rng(0).permutation(np.unique(subjects))
        scores = []
        for penalty in PENALTIES:
            predictions = np.empty_like(self.labels)
            for part in np.array_split(names, 5):
                test = np.isin(subjects, part)
                weight, bias = fit_svm(self.clips[~test], self.labels[~test], penalty, 4)
                predictions[test] = self.clips[test] @ weight.T + bias > 0
            scores.append(scores_by_scikit_learn(self.labels, predictions)[0])
        assert chosen == PENALTIES[int(np.argmax(scores))] and len(set(scores)) > 1

    def test_a_fitted_network_decides_as_its_svms(self):
        network = RbfSvm(4, (6,), num_clips=50)
        inputs = torch.from_numpy(self.clips).float()
        network.fit(inputs, self.labels, np.repeat([f"a/{number}" for number in range(8)], 5), 0)
        decided = (network(inputs) > 0).numpy()
        assert (decided == self.labels)[:, 2:].all() and (decided == self.labels).mean() > 0.9


@pytest.mark.parametrize("overlay", [None, *OVERLAYS], ids=lambda path: path.stem if path else "gam_mer")
def test_every_network_has_a_logit_for_each_unit(overlay):
    settings = yaml.safe_load(overlay.read_text()) if overlay else {"model": {"network": "gam_mer"}, "data": {}}
    name = settings["model"]["network"]
    shape = MagnifiedClips({}, class_set="units", **settings["data"]).input_shape
    kind = network_class(name)
    network = kind(12, patch_size=16) if name == "gam_mer" else kind(12, shape)
    with torch.no_grad():
        logits = network.eval()(torch.zeros(1, *shape))
    assert logits.shape == (1, 12) and logits.isfinite().all()


class FakeUnits(FakeClips):
    """Three data sets of six clips each with any of three units, whose patterns add up."""

    def __init__(self, shift=0.0):
        super().__init__(subjects=3, patch_size=8)
        names = ("microfaces", "microfaces-b", "microfaces-c")
        sets = {"01": names[0], "02": names[1], "03": names[2]}
        self.clips = [replace(clip, dataset=sets[clip.subject]) for clip in self.clips]
        self.subjects = [f"{clip.dataset}/{clip.subject}" for clip in self.clips]
        self.class_names = UNIT_NAMES[:3]
        single = self.labels
        self.labels = [(int(k == 0), int(k in (0, 1)), int(k == 1)) for k in single]
        held_out = torch.tensor([clip.dataset == "microfaces-b" for clip in self.clips])
        self.patches[held_out] += shift

    def items(self):
        return [item | {"label": torch.tensor(self.labels[item["clip"]])} for item in super().items()]

    def annotated(self):
        return self.subjects, self.labels, self.class_names


def fit_fake(folder, data, epochs=2, callbacks=()):
    task = RecognizeTask(seeds=[0], protocol="lodo", width=8, lr=1e-2)
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    trainer = pl.Trainer(max_epochs=epochs, default_root_dir=folder, accelerator="cpu", callbacks=[*callbacks], **quiet)
    trainer.fit(task, datamodule=data)
    return task, trainer


def test_members_learn_units_and_do_not_see_the_data_set_they_hold_out(tmp_path):
    (task, trainer), (other, _) = (fit_fake(tmp_path / str(i), FakeUnits(shift), 12) for i, shift in enumerate((0, 3)))
    assert task.facts.folds == ["microfaces", "microfaces-b", "microfaces-c", NOBODY]
    weights = zip(task.members.classifier.weight, other.members.classifier.weight, strict=True)
    assert [torch.equal(one, two) for one, two in weights] == [False, True, False, False]
    trainer.test(task, datamodule=FakeUnits(), verbose=False)
    results = RunResults.from_file(tmp_path / "0/results.json", "next")
    assert results.mean["macro_f1"] > 0.85 > results.constants["never on"]["macro_f1"]


def test_an_audit_is_refused(tmp_path):
    with pytest.raises(GammerError, match=r"an audit of data\.class_set units"):
        fit_fake(tmp_path, FakeUnits(), callbacks=[Audit()])


def made_predictions(labels, probabilities, class_names=UNIT_NAMES[:3]):
    data = FakeUnits()
    folds = [clip.dataset for clip in data.clips]
    seeds = range(len(probabilities))
    return UnitPredictions(data.clips, labels, class_names, seeds, probabilities, folds, "leave one data set out")


@pytest.fixture(scope="module")
def predictions():
    """Predictions of two seeds; AU4 never occurs, AU2 not in the first data set."""
    rng = np.random.default_rng(3)
    labels = (rng.random((18, 3)) < 0.5).astype(int)
    labels[:, 2] = labels[:6, 1] = 0
    return made_predictions([tuple(row) for row in labels.tolist()], rng.random((2, 18, 3)))


class TestResults:
    def test_seeds_data_sets_and_units_are_scored_as_by_scikit_learn(self, tmp_path, predictions):
        written = write_results(tmp_path, predictions)
        results = RunResults.from_file(tmp_path / "results.json", "next")
        assert results == written and are_results(results.as_dict())
        for damage in ({"constants": None}, {"confusion": {"0": [[1, 2], [3, 4]]}}, {"mean": {"macro_f1": 0.5}}):
            assert not are_results(results.as_dict() | damage)
        labels = np.array(predictions.labels)
        for seed, predicted in zip("01", predictions.probabilities > 0.5, strict=True):
            macro, binary = scores_by_scikit_learn(labels, predicted)
            parts = [slice(0, 6), slice(6, 12), slice(12, 18)]
            by_dataset = [scores_by_scikit_learn(labels[part], predicted[part])[0] for part in parts]
            expected = {"macro_f1": macro, "binary_f1": binary, "dataset_macro_f1": np.mean(by_dataset)}
            assert results.seeds[seed] == pytest.approx(expected)
        for score, mean in results.mean.items():
            values = [results.seeds[seed][score] for seed in "01"]
            assert (mean, results.std[score]) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
        both = (predictions.probabilities > 0.5).reshape(-1, 3)[:, 0]
        assert results.classes["AU1"]["f1"] == pytest.approx(f1_score([*labels[:, 0]] * 2, both))
        assert results.classes["AU1"]["support"] == labels[:, 0].sum()

    def test_absent_units_and_constants_are_said(self, tmp_path, predictions):
        results = write_results(tmp_path, predictions)
        assert results.absent_units == ["AU4"]
        absent = {name: scores["absent_units"] for name, scores in results.by_dataset.items()}
        assert absent == {"microfaces": ["AU2", "AU4"], "microfaces-b": ["AU4"], "microfaces-c": ["AU4"]}
        assert results.constants["all on"]["macro_f1"] == pytest.approx(results.constants["all on"]["binary_f1"] / 2)
        assert results.constants["never on"]["binary_f1"] == 0
        text = (tmp_path / "results.md").read_text()
        for part in (
            "No held-out clip has AU4",
            "| constant: all on |",
            "| microfaces-b |",
            "| AU1 |",
            "pseudo-subjects",
        ):
            assert part in text
        assert not list(tmp_path.glob("megc_log*"))

    def test_predictions_have_the_probability_of_each_unit(self, tmp_path, predictions):
        write_results(tmp_path, predictions)
        table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
        assert len(table) == 36
        for name, k in (("AU1", 0), ("AU4", 2)):
            np.testing.assert_allclose(table[f"p_{name}"], predictions.probabilities[..., k].ravel(), atol=1e-6)
            is_on = table["prediction"].str.contains(f"{name}(?:[+]|$)", regex=True)
            assert (is_on == (table[f"p_{name}"] > 0.5)).all()

    def test_figures_and_wandb_show_units(self, tmp_path, predictions):
        write_figures(tmp_path, predictions, FakeUnits(), None)
        assert {path.name for path in (tmp_path / "figures").iterdir()} == {"units.png", "alphas.png"}
        logger = mock.create_autospec(WandbLogger, instance=True)
        log_results([logger], tmp_path, predictions, FakeUnits())
        tables = {call.args[0]: call.kwargs for call in logger.log_table.call_args_list}
        assert tables["units"]["dataframe"]["unit"].tolist() == ["AU1", "AU2", "AU4"]
        assert "macro_f1" in tables["units"]["dataframe"] and len(tables["predictions"]["data"]) == 18


def unit_row(folder, name, predictions):
    run = folder / name
    run.mkdir()
    write_results(run, predictions)
    results = json.loads((run / "results.json").read_text())
    values = {"test_macro_f1": results["mean"]["macro_f1"]}
    return Row(name, {}, "complete", run, "", values, results, 1.0, 1)


def test_a_sweeps_table_compares_macro_f1(tmp_path, predictions):
    labels = np.array(predictions.labels)
    perfect = made_predictions(predictions.labels, labels[None].astype(float))
    rows = [unit_row(tmp_path, "random", predictions), unit_row(tmp_path, "perfect", perfect)]
    waiting = Row("waiting", {}, "waiting", None, "", {}, None, None, 0)
    text = write_table([(sweep(rows, reference="random"), [*rows, waiting])], tmp_path / "out")
    read = pd.read_csv(tmp_path / "out/table.csv").set_index("row")
    random = rows[0].results["mean"]
    assert read.loc["perfect", "macro_f1_mean"] == 1 and read.loc["random", "binary_f1_mean"] == random["binary_f1"]
    assert read.loc["perfect", "macro_f1_difference"] == pytest.approx(1 - random["macro_f1"])
    assert (
        "uf1_mean" not in read
        and "Δmacro F1" in text
        and "composite, action units" in (tmp_path / "out/index.html").read_text()
    )
    assert "18 clips of 3 subjects (microfaces, microfaces-b, microfaces-c), 3 action units" in text
    all_on = rows[0].results["constants"]["all on"]
    assert f"Predicting every unit of every clip has macro F1 {all_on['macro_f1']:.3f}" in text
    drawn = {path.name for path in (tmp_path / "out/figures").iterdir()}
    assert {"scores.png", "classes.png"} <= drawn and not any(name.startswith("confusion") for name in drawn)
    _, live = rows_table(sweep([*rows, waiting]), [*rows, waiting], {}).renderables
    assert [str(column.header) for column in live.columns][3] == "test_macro_f1"


def test_the_interval_of_macro_f1_is_that_of_a_loop_over_resamples(predictions):
    labels, predicted = np.array(predictions.labels), predictions.probabilities > 0.5
    subjects = [slice(0, 6), slice(6, 12), slice(12, 18)]
    counts = {
        "a": np.stack([unit_confusion(labels[part], predicted[:, part]) for part in subjects], 1),
        "b": np.stack([unit_confusion(labels[part], ~predicted[:, part]) for part in subjects], 1),
    }
    drawn = []
    for times in np.random.default_rng(0).multinomial(3, np.full(3, 1 / 3), 15):
        clips = np.repeat(np.arange(18), np.repeat(times, 6))
        by_row = []
        for row in (predicted, ~predicted):
            by_row.append(np.mean([scores_by_scikit_learn(labels[clips], seed[clips])[0] for seed in row]))
        drawn.append(by_row[1] - by_row[0])
    with mock.patch.object(comparison, "RESAMPLES", 15):
        found = differences(counts, "a", UNIT_SCORING)["b"]
    assert [found.low, found.high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]))
    right = (predicted == labels).reshape(2, 3, 6, 3).mean((0, 2, 3))
    assert found.p == pytest.approx(wilcoxon((1 - right) - right).pvalue)


def fit_by_command(root, overlay, *flags):
    roots = f"{{microfaces: {root}/a, microfaces-b: {root}/b}}"
    arguments = [
        "-c",
        str(ROOT / f"experiments/baselines/{overlay}.yaml"),
        "--model.protocol=lodo",
        "--model.seeds=[0]",
    ]
    arguments += [f"--data.roots={roots}", "--data.class_set=units", f"--data.cache={root}/cache", "--wandb=disabled"]
    return main(["recognize", "fit", *arguments, "--trainer.max_epochs=1", "--data.flow_estimator=dis", *flags])


@pytest.fixture(scope="module")
def casts(tmp_path_factory):
    """Two casts of four clips each, of two subjects."""
    root = tmp_path_factory.mktemp("casts")
    for name in ("a", "b"):
        write_units(root / name, ["12", "4+L14", "1+2", "26"])
    return root


@pytest.mark.parametrize("overlay", ["ststnet", "flow_svm"])
def test_from_two_casts_to_scores_by_the_command(overlay, casts, tmp_path, capsys):
    run = tmp_path / "run"
    assert fit_by_command(casts, overlay, f"--out={run}") == 0
    assert "test_macro_f1" in capsys.readouterr().out
    results = json.loads((run / "results.json").read_text())
    assert results["protocol"].startswith("leave one data set out") and results["folds"] == 2
    assert results["datasets"] == ["microfaces", "microfaces-b"] and (results["clips"], results["subjects"]) == (8, 4)
    assert results["absent_units"] == ["AU5", "AU6", "AU7", "AU9", "AU10", "AU15", "AU17"]
    table = pd.read_csv(run / "predictions.csv")
    assert (table["fold"] == table["dataset"]).all()
    assert table["label"].tolist() == ["AU12", "AU4+AU14", "AU1+AU2", "none"] * 2
    truth = units_of_text(table["label"], UNIT_NAMES)
    macro, binary = scores_by_scikit_learn(truth, table[[f"p_{name}" for name in UNIT_NAMES]].to_numpy() > 0.5)
    assert (results["mean"]["macro_f1"], results["mean"]["binary_f1"]) == pytest.approx((macro, binary))
    (run / "results.json").unlink()
    assert main(["recognize", "test", str(run)]) == 0
    assert json.loads((run / "results.json").read_text()) == results
    capsys.readouterr()
    assert main(["recognize", "table", str(run)]) == 0
    shown = capsys.readouterr().out
    assert f"{run}: macro F1 {macro:.3f}" in shown and "on microfaces, microfaces-b, 12 action units" in shown


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--model.protocol=kfold"], "model.protocol kfold with data.class_set units"),
        (["--data.roots={microfaces: ROOT/a}"], "1 data set(s): microfaces"),
        (["--data.clip_list=list.csv"], "data.clip_list with class set 'units'"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_computed(flags, what, casts, tmp_path, capsys):
    flags = [flag.replace("ROOT", str(casts)) for flag in flags]
    assert fit_by_command(casts, "ststnet", *flags, f"--data.cache={tmp_path}/cache", f"--out={tmp_path}/run") == 2
    assert what in capsys.readouterr().err
    assert not list(tmp_path.rglob("*"))


def test_a_run_of_gam_mer_is_neither_exported_nor_does_it_predict(casts, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = ["-c", str(ROOT / "experiments/recognize_units.yaml"), "--model.seeds=[0]", "--trainer.max_epochs=1"]
    arguments += [f"--data.roots={{microfaces: {casts}/a, microfaces-b: {casts}/b}}", f"--data.cache={casts}/cache"]
    arguments += ["--data.magnifier=eulerian", "--data.alphas=[5]", "--data.train_alphas=[5]", "--wandb=disabled"]
    assert main(["recognize", "fit", *arguments, f"--out={run}"]) == 0
    capsys.readouterr()
    frames = casts / "a/Cropped/sub01/EP01_01"
    for command in (["export", str(run)], ["predict", str(run), str(frames)]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert "is a run of action units (data.class_set units)" in error and "gammer recognize test" in error
