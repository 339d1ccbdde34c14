"""A linear support vector machine, the usual classifier of hand-made descriptors."""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gammer_lightning.models.recognizer import Recognizer, check_shape

if TYPE_CHECKING:
    from sklearn.svm import LinearSVC

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Values of C to choose from, for clips whose mean squared distance from their mean is 1."""
INNER_FOLDS = 5
NEVER = -1e9
"""Bias of a class or unit that no training clip has; that of a unit that all have is `-NEVER`."""


class LinearSvm(Recognizer):
    """One weight vector for each class, which is told from all others (squared hinge loss, classes balanced).

    The descriptors are centred and divided by one number, their root mean squared distance from the mean, both of the
    fold's own training clips; so the bins of a histogram keep their published proportions, and C means the same for
    every descriptor. Both are folded into the weights.

    The logits are decision values, i.e. signed distances in units of the margin. Their softmax, which results give as
    probabilities, orders classes as they do but is not calibrated. Of action units each has an SVM of its own, "on"
    against "off"; the sigmoid of its decision value is no more calibrated.

    Attributes:
        penalty: The C that was chosen, without gradient.

    Source: Cortes and Vapnik, Support-vector networks, Machine Learning 20, 1995; Fan et al., LIBLINEAR, JMLR 9, 2008.
    """

    inputs = ("lbp_top", "lbp_sip", "stlbp_ip", "bi_woof")
    cpu_chunk = 64
    is_fitted = True

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        check_shape(self, input_shape, (None,), f"data.input to one of {', '.join(self.inputs)}")
        self.weight = nn.Parameter(torch.zeros(num_classes, input_shape[0]))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.penalty = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, descriptors: Tensor) -> Tensor:
        """Return the decision values ``(B, K)`` of descriptors ``(B, D)``."""
        return F.linear(descriptors, self.weight, self.bias)

    def fit(self, inputs: Tensor, labels: np.ndarray, subjects: np.ndarray, seed: int) -> None:
        """Choose C on inner folds of whole subjects, then fit all clips.

        Where the clips cannot be divided so that every inner fold is trained with two classes or more, C is 1, with a
        warning.

        Args:
            inputs: Descriptors of a fold's own training clips ``(n, D)``.
            labels: Class of each, int ``(n,)``, or 1 or 0 for each unit of each ``(n, K)``.
            subjects: Subject of each ``(n,)``.
            seed: Decides which subjects make an inner fold.
        """
        descriptors = inputs.double().numpy()
        mean = descriptors.mean(0)
        scale = np.sqrt(((descriptors - mean) ** 2).sum(1).mean()) or 1.0
        # Weights are sums of training clips, so in an orthonormal basis of those the problem is the same, and small.
        basis, clips = np.linalg.qr(((descriptors - mean) / scale).T)
        penalty = choose_penalty(clips.T, labels, subjects, seed, len(self.bias))
        weight, bias = fit_svm(clips.T, labels, penalty, len(self.bias))
        weight = weight @ basis.T / scale
        with torch.no_grad():
            self.weight.copy_(torch.from_numpy(weight))
            self.bias.copy_(torch.from_numpy(bias - weight @ mean))
            self.penalty.fill_(penalty)


def decide_linearly(
    clips: np.ndarray, labels: np.ndarray, others: np.ndarray, penalty: float, num_classes: int
) -> np.ndarray:
    """Return the decision values ``(m, K)`` of other clips ``(m, D)`` by a linear SVM; the rest as in `fit_svm`."""
    weight, bias = fit_svm(clips, labels, penalty, num_classes)
    return others @ weight.T + bias


def choose_penalty(
    clips: np.ndarray,
    labels: np.ndarray,
    subjects: np.ndarray,
    seed: int,
    num_classes: int,
    decide: Callable[..., np.ndarray] = decide_linearly,
) -> float:
    """Return the smallest of `PENALTIES` with the best UF1, pooled over inner folds of whole subjects.

    Of action units it is the best mean over the units of the mean of the F1 of "on" and of "off"; all have the same C.

    Args:
        clips: Training clips ``(n, D)``.
        labels: Class of each ``(n,)``, or 1 or 0 for each unit of each ``(n, K)``.
        subjects: Subject of each ``(n,)``.
        seed: Decides which subjects make a fold.
        num_classes: Number of classes or units.
        decide: Fits an SVM and returns decision values, as `decide_linearly` does.
    """
    names = np.random.default_rng(seed).permutation(np.unique(subjects))
    tests = [np.isin(subjects, part) for part in np.array_split(names, min(INNER_FOLDS, len(names)))]
    if len(tests) < 2 or any(len(np.unique(labels[~test])) < 2 for test in tests):
        warnings.warn(f"C is 1, since {len(names)} training subjects make no inner folds to choose it by", stacklevel=3)
        return 1.0
    uf1 = [_inner_uf1(clips, labels, tests, penalty, num_classes, decide) for penalty in PENALTIES]
    return PENALTIES[int(np.argmax(uf1))]


def _inner_uf1(
    clips: np.ndarray,
    labels: np.ndarray,
    tests: Sequence[np.ndarray],
    penalty: float,
    num_classes: int,
    decide: Callable[..., np.ndarray],
) -> float:
    from sklearn.metrics import f1_score

    predictions = np.empty_like(labels)
    for test in tests:
        decisions = decide(clips[~test], labels[~test], clips[test], penalty, num_classes)
        predictions[test] = decisions.argmax(1) if labels.ndim == 1 else decisions > 0
    # without the classes or units that no clip has, as in evaluation.scores
    if labels.ndim == 2:
        units = np.flatnonzero(labels.any(0))
        f1 = [f1_score(labels[:, k], predictions[:, k], labels=(0, 1), average=None, zero_division=0) for k in units]
        return float(np.mean(f1))
    return f1_score(labels, predictions, labels=np.unique(labels), average="macro", zero_division=0)


def fit_svm(clips: np.ndarray, labels: np.ndarray, penalty: float, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights ``(K, D)`` and biases ``(K,)`` of a linear SVM; a class without clips is never predicted.

    Args:
        clips: Training clips ``(n, D)``, of two classes or more.
        labels: Class of each ``(n,)``, or 1 or 0 for each unit of each ``(n, K)``.
        penalty: C, of each clip times the weight of its class.
        num_classes: K.
    """
    if labels.ndim == 2:
        return _fit_unit_svms(clips, labels, penalty)
    svm = _make_svm(penalty).fit(clips, labels)
    weight = np.zeros((num_classes, clips.shape[1]))
    bias = np.full(num_classes, NEVER)
    if len(svm.classes_) == 2:  # scikit-learn gives the second class alone
        weight[svm.classes_] = [-svm.coef_[0], svm.coef_[0]]
        bias[svm.classes_] = [-svm.intercept_[0], svm.intercept_[0]]
    else:
        weight[svm.classes_] = svm.coef_
        bias[svm.classes_] = svm.intercept_
    return weight, bias


def _make_svm(penalty: float) -> "LinearSVC":
    from sklearn.svm import LinearSVC

    return LinearSVC(C=penalty, dual=False, class_weight="balanced", max_iter=10_000)


def _fit_unit_svms(clips: np.ndarray, labels: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights ``(K, D)`` and biases ``(K,)`` of an SVM for each unit; ``labels`` ``(n, K)``."""
    weight = np.zeros((labels.shape[1], clips.shape[1]))
    bias = np.where(labels.any(0), -NEVER, NEVER)
    for unit in np.flatnonzero(labels.any(0) & ~labels.all(0)):
        svm = _make_svm(penalty).fit(clips, labels[:, unit])
        weight[unit] = svm.coef_[0]
        bias[unit] = svm.intercept_[0]
    return weight, bias
