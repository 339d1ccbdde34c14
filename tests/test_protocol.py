"""Folds, weights and scores, held against scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score
from torchmetrics.functional import recall
from torchmetrics.functional.classification import multiclass_f1_score

from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.folds import NOBODY, class_weights, loso_folds, make_folds, training_masks
from gammer_lightning.evaluation.scores import class_scores, confusion, megc_log, scores

SUBJECTS = ["a/2", "a/1", "b/1", "a/1", "a/2"]


def test_folds_hold_out_each_subject_once_and_datasets_apart():
    folds = dict(loso_folds(SUBJECTS))
    assert {name: clips.tolist() for name, clips in folds.items()} == {
        "a/1": [1, 3],
        "a/2": [0, 4],
        "b/1": [2],
    }


def test_no_subject_crosses_a_fold():
    masks = training_masks(loso_folds(SUBJECTS), 5)
    for fold, mask in masks.items():
        training = {subject for subject, trains in zip(SUBJECTS, mask, strict=True) if trains}
        assert training == set(SUBJECTS) - {fold}
    assert list(masks)[-1] == NOBODY and masks[NOBODY].all()


def test_one_subject_is_refused():
    with pytest.raises(GammerError, match=r"1 subject.*a/1"):
        loso_folds(["a/1", "a/1"])


def test_protocols_other_than_loso():
    subjects = [f"{dataset}/{number}" for dataset in "ab" for number in range(6) for _ in range(4)]
    labels = [0, 1, 0, 1] * 12
    lodo = make_folds("lodo", subjects, labels)
    assert [(name, test.tolist()) for name, test in lodo] == [("a", list(range(24))), ("b", list(range(24, 48)))]
    kfold = make_folds("kfold", subjects, labels, 3)
    assert sorted(np.concatenate([test for _, test in kfold])) == list(range(48))
    held_out = [{subjects[index] for index in test} for _, test in kfold]
    assert not set.intersection(*held_out) and [len(names) for names in held_out] == [4, 4, 4]
    ((name, test),) = make_folds("paper_holdout", subjects, labels)
    assert name == "fold 1" and 9 <= len(test) <= 10 and abs(sum(labels[index] for index in test) - len(test) / 2) <= 1
    assert [f[1].tolist() for f in make_folds("kfold", subjects, labels, 3)] == [f[1].tolist() for f in kfold]


@pytest.mark.parametrize(
    ("protocol", "folds", "message"),
    [("best", 5, "loso, lodo, kfold"), ("lodo", 5, r"1 data set\(s\): a"), ("kfold", 3, "3 folds of 2 subjects"),
     ("kfold", 1, "1 folds"), ("paper_holdout", 5, "5 folds of 1 clips of the rarest class")],
)  # fmt: skip
def test_protocols_that_do_not_fit_are_refused(protocol, folds, message):
    with pytest.raises(GammerError, match=message):
        make_folds(protocol, ["a/1", "a/1", "a/2"], [0, 1, 1], folds)


def test_class_weights_count_only_training_clips():
    training = np.array([1, 1, 1, 1, 0, 0], bool)
    weights = class_weights(training, [0, 0, 0, 1, 1, 1], ["x", "y"], "a/1")
    assert np.allclose(weights, [4 / 6, 4 / 2])
    assert np.isclose(weights[[0, 0, 0, 1]].mean(), 1)


def test_a_class_without_training_clip_names_fold_and_class():
    with pytest.raises(GammerError, match="fold a/1: no training clip of class surprise"):
        class_weights(np.array([1, 0], bool), [0, 1], ["others", "surprise"], "a/1")


@pytest.mark.parametrize("seed", range(3))
def test_scores_agree_with_scikit_learn_and_torchmetrics(seed):
    truth, guess = np.random.default_rng(seed).integers(4, size=(2, 60))
    counts = confusion(truth, guess, 4)
    assert np.array_equal(counts, confusion_matrix(truth, guess))
    ours = scores(counts)
    assert np.isclose(ours["uf1"], f1_score(truth, guess, average="macro"))
    assert np.isclose(ours["uar"], balanced_accuracy_score(truth, guess))
    assert np.isclose(ours["accuracy"], accuracy_score(truth, guess))
    tensors = torch.tensor(guess), torch.tensor(truth)
    assert np.isclose(ours["uf1"], multiclass_f1_score(*tensors, 4, average="macro"))
    assert np.isclose(ours["uar"], recall(*tensors, task="multiclass", num_classes=4, average="macro"))


def test_a_class_without_clips_is_left_out_of_the_means():
    truth, guess = [0, 0, 1, 1], [0, 2, 1, 1]
    ours = scores(confusion(truth, guess, 4))
    assert np.isclose(ours["uf1"], f1_score(truth, guess, labels=[0, 1], average="macro"))
    assert np.isclose(ours["uar"], 0.75)
    assert class_scores(confusion(truth, guess, 4))["f1"].tolist() == [2 / 3, 1, 0, 0]


def test_megc_log_has_a_line_for_each_subject_and_clip():
    log = megc_log(["samm/2", "samm/1", "samm/2"], ["c1", "c2", "c3"], [0, 1, 2], [2, 1, 0])
    assert log == "samm 1\nc2 1 1\nsamm 2\nc1 0 2\nc3 2 0\n"
    assert megc_log(["samm/1"], ["c2"], [1], [1]) == "samm 1\nc2 1 1\n"  # as an outer fold may hold out
