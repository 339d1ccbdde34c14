"""A support vector machine with a Gaussian kernel (RBF), on the flow itself or on a descriptor of it."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gammer_lightning.models.baselines.linear_svm import NEVER, choose_penalty
from gammer_lightning.models.recognizer import Recognizer


class RbfSvm(Recognizer):
    """One sum of Gaussian kernels around the training clips for each class, which is told from all others.

    The hinge loss is not squared, and classes are balanced. gamma is scikit-learn's ``"scale"``, 1 / (D * variance of
    all values of the fold's own training clips), and C is chosen as by
    `gammer_lightning.models.baselines.linear_svm.choose_penalty`. The logits are decision values; their softmax, which
    results give as probabilities, orders classes as they do but is not calibrated. Of action units each has an SVM of
    its own, "on" against "off", with one C and gamma for all.

    Its trainable values are a coefficient for each clip and class, and the biases. Its first rows
    are the clips that it trains on; the rows that are left over are 0, and so are their coefficients.

    Args:
        num_classes: Number of classes K.
        input_shape: Shape of one clip's input, of D values.
        num_clips: Number of clips N that it has rows for.

    Attributes:
        clips: The training clips, without gradient ``(N, D)``.
        gamma: The factor of the squared distance in the kernel, without gradient.
        penalty: The C that was chosen, without gradient.

    Source: Cortes and Vapnik, Support-vector networks, Machine Learning 20, 1995; Chang and Lin, LIBSVM, ACM TIST 2,
    2011.
    """

    inputs = ("flow", "two_phase_flow", "mdmo")
    is_fitted = True
    keeps_clips = True

    def __init__(self, num_classes: int, input_shape: Sequence[int], num_clips: int = 0):
        super().__init__()
        self.clips = nn.Parameter(torch.zeros(num_clips, math.prod(input_shape)), requires_grad=False)
        self.coefficients = nn.Parameter(torch.zeros(num_classes, num_clips))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.gamma = nn.Parameter(torch.ones(()), requires_grad=False)
        self.penalty = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the decision values ``(B, K)`` of clips ``(B, ...)``."""
        kernel = rbf_kernel(inputs.flatten(1), self.clips, self.gamma)
        return kernel @ self.coefficients.T + self.bias

    def fit(self, inputs: Tensor, labels: np.ndarray, subjects: np.ndarray, seed: int) -> None:
        """Choose C on inner folds of whole subjects, then fit all clips.

        Where the clips cannot be divided so that every inner fold is trained with two classes or more, C is 1, with a
        warning.

        Args:
            inputs: Inputs of a fold's own training clips ``(n, ...)``, n at most ``num_clips``.
            labels: Class of each, int ``(n,)``, or 1 or 0 for each unit of each ``(n, K)``.
            subjects: Subject of each ``(n,)``.
            seed: Decides which subjects make an inner fold.
        """
        clips = inputs.flatten(1).double().numpy()
        num_classes = len(self.bias)
        count = len(clips)
        penalty = choose_penalty(clips, labels, subjects, seed, num_classes, decide_by_rbf)
        coefficients, bias, gamma = fit_rbf_svm(clips, labels, penalty, num_classes)
        with torch.no_grad():
            self.clips.zero_()
            self.clips[:count] = torch.from_numpy(clips)
            self.coefficients.zero_()
            self.coefficients[:, :count] = torch.from_numpy(coefficients)
            self.bias.copy_(torch.from_numpy(bias))
            self.gamma.fill_(gamma)
            self.penalty.fill_(penalty)


def rbf_kernel(clips: Tensor, others: Tensor, gamma: Tensor | float) -> Tensor:
    """Return exp(-gamma * squared distance) of clips ``(n, D)`` and others ``(m, D)``: ``(n, m)``."""
    squares = clips.square().sum(1)[:, None] + others.square().sum(1)
    distances = (squares - 2 * clips @ others.T).clamp_min(0)  # rounding may give less
    return torch.exp(-gamma * distances)


def fit_rbf_svm(
    clips: np.ndarray, labels: np.ndarray, penalty: float, num_classes: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Fit one SVM for each class or unit; one without clips is never predicted.

    Args:
        clips: Training clips ``(n, D)``, of two classes or more.
        labels: Class of each ``(n,)``, or 1 or 0 for each unit of each ``(n, K)``.
        penalty: C, of each clip times the weight of its class, or of "on" or "off".
        num_classes: K.

    Returns:
        Coefficients of the clips ``(K, n)``, biases ``(K,)``, and gamma.
    """
    from sklearn.svm import SVC

    variance = clips.var()
    gamma = 1 / (clips.shape[1] * variance) if variance else 1.0
    values = torch.from_numpy(clips)
    kernel = rbf_kernel(values, values, gamma).numpy()
    coefficients = np.zeros((num_classes, len(clips)))
    on = labels == 1 if labels.ndim == 2 else labels[:, None] == np.arange(num_classes)
    bias = np.where(on.all(0), -NEVER, NEVER)
    for index in np.flatnonzero(on.any(0) & ~on.all(0)):
        svm = SVC(C=penalty, kernel="precomputed", class_weight="balanced").fit(kernel, on[:, index])
        coefficients[index, svm.support_] = svm.dual_coef_[0]
        bias[index] = svm.intercept_[0]
    return coefficients, bias, gamma


def decide_by_rbf(
    clips: np.ndarray, labels: np.ndarray, others: np.ndarray, penalty: float, num_classes: int
) -> np.ndarray:
    """Return the decision values ``(m, K)`` of other clips ``(m, D)``; the rest as in `fit_rbf_svm`."""
    coefficients, bias, gamma = fit_rbf_svm(clips, labels, penalty, num_classes)
    kernel = rbf_kernel(torch.from_numpy(others), torch.from_numpy(clips), gamma).numpy()
    return kernel @ coefficients.T + bias
