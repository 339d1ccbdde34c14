"""The linear SVM: what it learns, how C is chosen, its place among the networks, and a run from command to results."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from casme2_sample import write_sample, write_workbook
from fake_clips import FakeClips
from sklearn.svm import LinearSVC
from test_recognize import trainer

from gammer_lightning import cli
from gammer_lightning.errors import GammerError
from gammer_lightning.models.baselines import linear_svm
from gammer_lightning.models.baselines.linear_svm import PENALTIES, LinearSvm, choose_penalty
from gammer_lightning.models.recognizer import count_parameters
from gammer_lightning.tasks.members import stack, stacked_logits, unstack
from gammer_lightning.tasks.recognize import RecognizeTask, deployed_model

ROOT = Path(__file__).parents[1]


def clips(n=60, length=30, classes=3, subjects=6, noise=0.5, seed=0):
    """Descriptors with a pattern for each class, labels, subjects."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    descriptors = rng.normal(size=(classes, length))[labels] + noise * rng.normal(size=(n, length))
    return torch.tensor(descriptors).float(), labels, np.arange(n) * subjects // n


def fitted(descriptors, labels, subjects, classes=3, seed=0):
    network = LinearSvm(classes, (descriptors.shape[1],))
    network.fit(descriptors, labels, subjects, seed)
    return network


def fit(run, data, **settings):
    task = RecognizeTask("linear_svm", **settings)
    runner = trainer(run, 1)
    runner.fit(task, datamodule=data)
    return task, runner


def fake(**settings):
    return FakeClips(**({"input": "lbp_sip", "shape": (40,), "subjects": 4} | settings))


def test_its_shape_parameters_and_gradient():
    network = LinearSvm(5, (500,))
    assert count_parameters(network) == 5 * 501
    network(torch.randn(2, 500)).square().sum().backward()
    assert network(torch.randn(2, 500)).shape == (2, 5)
    assert all(w.grad is not None for w in network.parameters() if w.requires_grad)
    assert not network.penalty.requires_grad


@pytest.mark.parametrize("classes", [2, 3])
def test_it_learns_separable_clips(classes):
    descriptors, labels, subjects = clips(classes=classes)
    assert (fitted(descriptors, labels, subjects, classes)(descriptors).argmax(1).numpy() == labels).all()


@pytest.mark.parametrize("length", [30, 400])
@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_scikit_learns_fitted_to_the_descriptors_themselves(length, classes):
    """Fewer features than clips, and more, where it is solved in the clips' own subspace."""
    descriptors, labels, subjects = clips(length=length, classes=classes, noise=2.0)
    network = fitted(descriptors, labels, subjects, classes)
    plain = descriptors.double().numpy()
    plain = plain - plain.mean(0)
    plain /= np.sqrt((plain**2).sum(1).mean())
    svm = LinearSVC(C=float(network.penalty), class_weight="balanced", dual=False, tol=1e-8, max_iter=10_000)
    expected = svm.fit(plain, labels).decision_function(plain)
    expected = np.stack([-expected, expected], 1) if classes == 2 else expected
    assert np.allclose(network(descriptors).detach(), expected, atol=2e-3)


def test_neither_shift_nor_scale_of_the_descriptors_matters():
    descriptors, labels, subjects = clips(noise=2.0)
    one, two = (fitted(d, labels, subjects)(d) for d in (descriptors, 1000 * descriptors + 50))
    assert torch.allclose(one, two, atol=1e-3)


def test_c_is_the_best_of_folds_of_whole_subjects():
    """Each subject's own pattern is as loud as that of the class; C is what predicts other subjects best."""
    descriptors, labels, subjects = clips(120, noise=4.0)
    descriptors = descriptors.numpy() + 4 * np.random.default_rng(1).normal(size=(6, 30))[subjects]
    descriptors /= np.sqrt((descriptors**2).sum(1).mean())
    names = np.random.default_rng(3).permutation(6)
    right = []
    for penalty in PENALTIES:
        found = np.empty(len(labels), int)
        for part in np.array_split(names, 5):
            test = np.isin(subjects, part)
            svm = LinearSVC(C=penalty, class_weight="balanced", dual=False).fit(descriptors[~test], labels[~test])
            found[test] = svm.predict(descriptors[test])
        hits = [np.sum((found == k) & (labels == k)) for k in range(3)]
        right.append(np.mean([2 * h / (np.sum(found == k) + np.sum(labels == k)) for k, h in enumerate(hits)]))
    assert choose_penalty(descriptors, labels, subjects, 3, 3) == PENALTIES[int(np.argmax(right))]


def test_the_seed_decides_the_inner_folds(monkeypatch):
    seen = []
    monkeypatch.setattr(linear_svm, "_inner_uf1", lambda c, labels, tests, *_: seen.append(np.stack(tests)) or 0.0)
    for seed in (0, 0, 1):
        assert choose_penalty(*clips(), seed, 3) == PENALTIES[0]  # all are as good: the smallest
    first, again, other = seen[0], seen[len(PENALTIES)], seen[-1]
    assert (first == again).all() and (first != other).any()


@pytest.mark.parametrize("subjects", [[0] * 8, [0] * 4 + [1] * 4])
def test_without_inner_folds_c_is_1_with_a_warning(subjects):
    """One subject; two, each of which shows one class only."""
    labels = np.repeat([0, 1], 4)
    descriptors = torch.eye(8)[:, :5] + torch.tensor(labels)[:, None]
    with pytest.warns(UserWarning, match="C is 1, since [12] training subjects make no inner folds"):
        network = fitted(descriptors, labels, np.array(subjects), 2)
    assert network.penalty == 1 and (network(descriptors).argmax(1).numpy() == labels).all()


def test_a_class_of_one_subject_is_absent_from_an_inner_fold():
    descriptors, labels, subjects = clips(subjects=2)
    subjects[labels == 2] = 1
    network = fitted(descriptors, labels, subjects)
    assert (network(descriptors).argmax(1).numpy() == labels).all()


def test_equal_clips_give_finite_weights():
    network = fitted(torch.ones(12, 5), np.arange(12) % 3, np.arange(12) // 4)
    assert all(weight.isfinite().all() for weight in network.parameters())


def test_alone_and_stacked_it_says_the_same():
    descriptors, labels, subjects = clips(noise=3.0)
    networks = [fitted(descriptors, labels, subjects, seed=seed) for seed in (0, 1)]
    together = stacked_logits(stack(networks), descriptors)
    assert torch.allclose(torch.stack([network(descriptors) for network in networks]), together, atol=1e-5)


def test_a_member_is_fitted_without_the_clips_it_holds_out(tmp_path):
    """Tampering with them changes neither its weights nor its C, and the weights of all others."""
    data, tampered = fake(noise=2.0), fake(noise=2.0)
    out = [subject == "microfaces/02" for subject in data.subjects]
    tampered.patches[out] = -5 * tampered.patches[out]
    (one, _), (two, _) = (fit(tmp_path / str(i), d, seeds=[0]) for i, d in enumerate((data, tampered)))
    assert [torch.equal(one.members.weight[m], two.members.weight[m]) for m in range(5)] == [m == 1 for m in range(5)]
    assert one.members.penalty[1] == two.members.penalty[1]
    shuffled, _ = fit(tmp_path / "2", fake(noise=2.0, seed=0, batch_size=5), seeds=[0])
    assert torch.equal(shuffled.members.weight, one.members.weight)  # neither batches nor their order matter


def test_members_learn_and_predict_what_they_held_out(tmp_path):
    data = fake()
    task, runner = fit(tmp_path, data, seeds=[0, 1])
    assert runner.callback_metrics["train_accuracy"] == 1
    figures = runner.test(task, datamodule=data, verbose=False)[0]
    assert figures["test_uf1"] == 1 and figures["parameters"] == 3 * 41
    deployed = deployed_model(tmp_path / "checkpoints" / "last.ckpt")
    assert torch.equal(deployed.weight, unstack(task.members, 4).weight)


def test_inner_validation_sees_fitted_members(tmp_path):
    _, runner = fit(tmp_path, fake(), seeds=[0], protocol="inner", num_folds=2)
    assert runner.callback_metrics["val_uf1"] == 1


def test_what_it_is_not_made_for_is_refused(tmp_path):
    with pytest.raises(GammerError, match=r"shown 3x28x28\n.*takes any\n.*data.input to one of lbp_top"):
        LinearSvm(3, (3, 28, 28))
    with pytest.raises(GammerError, match=r"data.input flow with model.network linear_svm\n.*lbp_top or lbp_sip"):
        fit(tmp_path, fake(input="flow"))
    with pytest.raises(GammerError, match=r"trainer.max_epochs 2 with model.network linear_svm"):
        trainer(tmp_path, 2).fit(RecognizeTask("linear_svm"), datamodule=fake())


OVERLAYS = ("lbp_top", "lbp_sip", "stlbp_ip", "mdmo", "bi_woof", "ststnet", "gacnn", "cnn_lstm", "c3dbed")
"""Systems that are shown what was recorded from onset to offset, or flow."""


def fit_sample(name, *flags):
    """The exit code of a system's fit on the sample in ``casme2``."""
    overlay = str(ROOT / "experiments" / "baselines" / f"{name}.yaml")
    settings = ("--data.roots={casme2: casme2}", "--data.cache=cache", "--out=run", "--wandb=disabled")
    return cli.main(["recognize", "fit", "-c", overlay, *settings, *flags])


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_a_system_cannot_be_shown_is_refused_before_anything_is_computed(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = write_sample(Path("casme2"), subjects=2, clips=5)
    rows[3]["OffsetFrame"] = 10
    write_workbook(Path("casme2"), rows)
    if by_flow := name in ("bi_woof", "ststnet", "gacnn"):
        monkeypatch.delattr(cv2, "optflow")
    assert fit_sample(name, "--data.flow_estimator=tv-l1") == 2
    error = capsys.readouterr().err
    what = "pip install --force-reinstall --no-deps opencv-contrib-python-headless"
    assert (what if by_flow else "clip casme2/01/EP04_01 has 2 frames from onset to offset") in error
    assert not Path("cache").exists() and not Path("run").exists()


def test_from_clips_to_results_through_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_sample(Path("casme2"), subjects=2, clips=5)
    assert fit_sample("lbp_sip", "--data.size=48", "--model.seeds=[0]") == 0
    assert "10/10" in capsys.readouterr().err  # clips, with their number per second
    results = Path("run/results.json")
    found = json.loads(results.read_text())
    results.unlink()
    assert cli.main(["recognize", "test", "run"]) == 0
    assert json.loads(results.read_text()) == found and found["clips"] == 10
    assert cli.main(["recognize", "fit", "--resume", "run"]) == 2
    assert "is finished" in capsys.readouterr().err
