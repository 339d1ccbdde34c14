"""The SVM with a Gaussian kernel: against scikit-learn, how C is chosen, its clips, its place among the networks."""

import numpy as np
import pytest
import torch
from fake_clips import FakeClips
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC
from test_linear_svm import clips
from test_recognize import trainer

from gammer_lightning.models.baselines.linear_svm import PENALTIES
from gammer_lightning.models.baselines.rbf_svm import RbfSvm, decide_by_rbf
from gammer_lightning.models.recognizer import count_parameters
from gammer_lightning.tasks.members import stack, stacked_logits, unstack
from gammer_lightning.tasks.recognize import RecognizeTask, deployed_model

SHAPE = (3, 4, 4)


def flows(n=60, **settings):
    """Flow with a pattern for each class, labels, subjects."""
    values, labels, subjects = clips(n, length=48, **settings)
    return values.reshape(n, *SHAPE), labels, subjects


def fitted(inputs, labels, subjects, classes=3, num_clips=80, seed=0):
    network = RbfSvm(classes, SHAPE, num_clips)
    network.fit(inputs, labels, subjects, seed)
    return network


def scikit_decisions(train, labels, test, penalty):
    """Decision values of scikit-learn's own kernel, gamma and one-against-the-rest."""
    svm = OneVsRestClassifier(SVC(C=penalty, gamma="scale", class_weight="balanced", tol=1e-6))
    values = svm.fit(train, labels).decision_function(test)
    return np.stack([-values, values], 1) if values.ndim == 1 else values


@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_scikit_learns(classes):
    inputs, labels, subjects = flows(classes=classes, noise=2.0)
    others = flows(classes=classes, noise=2.0, seed=1)[0]
    network = fitted(inputs, labels, subjects, classes)
    plain, test = inputs.flatten(1).double().numpy(), others.flatten(1).double().numpy()
    expected = scikit_decisions(plain, labels, test, float(network.penalty))
    assert np.allclose(network(others).detach(), expected, atol=5e-3)
    assert float(network.gamma) == pytest.approx(1 / (48 * plain.var()))


def test_it_learns_what_no_plane_divides():
    """The class is whether two halves of the flow go the same way; each half alone tells nothing."""
    rng = np.random.default_rng(0)
    signs = rng.choice([-1, 1], size=(80, 2))
    inputs = torch.tensor(np.repeat(signs, 24, 1) + 0.3 * rng.normal(size=(80, 48))).float().reshape(80, *SHAPE)
    labels = (signs[:, 0] == signs[:, 1]).astype(int)
    train = np.arange(80) < 60
    network = fitted(inputs[train], labels[train], np.arange(60) % 6, 2)
    assert (network(inputs[~train]).argmax(1).numpy() == labels[~train]).all()


def test_c_is_the_best_of_folds_of_whole_subjects():
    inputs, labels, subjects = flows(120, noise=4.0)
    subject_pattern = np.random.default_rng(1).normal(size=(6, *SHAPE))
    inputs = inputs + torch.tensor(4 * subject_pattern[subjects]).float()
    plain = inputs.flatten(1).double().numpy()
    folds = np.array_split(np.random.default_rng(3).permutation(6), 5)
    uf1 = []
    for penalty in PENALTIES:
        found = np.empty(len(labels), int)
        for part in folds:
            test = np.isin(subjects, part)
            found[test] = scikit_decisions(plain[~test], labels[~test], plain[test], penalty).argmax(1)
        hits = [np.sum((found == k) & (labels == k)) for k in range(3)]
        uf1.append(np.mean([2 * h / (np.sum(found == k) + np.sum(labels == k)) for k, h in enumerate(hits)]))
    assert fitted(inputs, labels, subjects, num_clips=120, seed=3).penalty == PENALTIES[int(np.argmax(uf1))]


def test_a_class_without_clips_is_never_predicted():
    inputs, labels, _ = flows(classes=2)
    decisions = decide_by_rbf(inputs.flatten(1).double().numpy(), labels, np.ones((4, 48)), 1.0, 3)
    assert (decisions.argmax(1) < 2).all()


def test_equal_clips_give_finite_weights():
    network = fitted(torch.ones(12, *SHAPE), np.arange(12) % 3, np.arange(12) // 4)
    assert all(weight.isfinite().all() for weight in network.parameters())


def test_room_for_more_clips_changes_nothing():
    inputs, labels, subjects = flows(noise=2.0)
    one, other = (fitted(inputs, labels, subjects, num_clips=count) for count in (60, 200))
    assert torch.allclose(one(inputs), other(inputs), atol=1e-5)
    assert (other.clips[60:] == 0).all() and (other.coefficients[:, 60:] == 0).all()


def test_alone_and_stacked_it_says_the_same():
    inputs, labels, subjects = flows(noise=3.0)
    networks = [fitted(inputs, labels, subjects, seed=seed) for seed in (0, 1)]
    together = stacked_logits(stack(networks), inputs)
    assert torch.allclose(torch.stack([network(inputs) for network in networks]), together, atol=1e-5)


def fit(run, data):
    task = RecognizeTask("rbf_svm", seeds=[0])
    runner = trainer(run, 1)
    runner.fit(task, datamodule=data)
    return task, runner


def test_members_hold_their_own_clips_alone_and_predict_the_others(tmp_path):
    data = FakeClips(subjects=3, input="flow", shape=SHAPE)
    task, runner = fit(tmp_path, data)
    for index, fold in enumerate(task.facts.folds):
        held = unstack(task.members, index).clips
        is_own = torch.tensor([subject != fold for subject in data.subjects])
        own = data.patches[is_own].flatten(1)
        assert torch.equal(held[: len(own)], own) and (held[len(own) :] == 0).all()
    figures = runner.test(task, datamodule=data, verbose=False)[0]
    assert figures["test_uf1"] == 1 and figures["parameters"] == 3 * len(data.clips) + 3
    deployed = deployed_model(tmp_path / "checkpoints" / "last.ckpt")
    assert torch.equal(deployed(data.patches).argmax(1), torch.tensor(data.labels))
    assert count_parameters(deployed) == figures["parameters"]
