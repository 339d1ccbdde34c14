"""How rows of a sweep differ from a reference row, by subject, where all judged the same clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from gammer_lightning.evaluation.scores import class_scores

RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """A row minus the reference.

    Attributes:
        uf1: Difference in UF1, each a mean over seeds, in [-1, 1].
        low: Lower end of its 95 % bootstrap interval over subjects.
        high: Upper end.
        p: Wilcoxon signed-rank p over per-subject accuracies, each a mean over seeds; None where no subject differs.
    """

    uf1: float
    low: float
    high: float
    p: float | None


def subject_counts(path: Path, class_names: Sequence[str]) -> np.ndarray:
    """Read predictions.csv and count its clips by true and predicted class, for each seed and subject.

    Args:
        path: The file.
        class_names: Names of the K classes, in the order of the counts.

    Returns:
        Counts ``(S, N, K, K)`` of S seeds, in the order of the file, and N subjects in alphabetical order.

    Raises:
        ValueError: If the file is no such table.
        KeyError: If it has another class.
    """
    columns = ["dataset", "subject", "label", "prediction", "seed"]
    table = pd.read_csv(path, usecols=columns, dtype=str, keep_default_na=False)
    seed, seeds = pd.factorize(table["seed"])
    subject, subjects = pd.factorize(table["dataset"] + "/" + table["subject"], sort=True)
    index = {name: k for k, name in enumerate(class_names)}
    label = [index[name] for name in table["label"]]
    prediction = [index[name] for name in table["prediction"]]
    counts = np.zeros((len(seeds), len(subjects), len(index), len(index)), int)
    np.add.at(counts, (seed, subject, label, prediction), 1)
    return counts


def differences(counts: Mapping[str, np.ndarray], reference: str) -> dict[str, Difference]:
    """Compare each row with the reference.

    Every row and seed is resampled by the same draws of subjects, so what they share cancels out.

    Args:
        counts: ``(S, N, K, K)`` of each row by its name, of the same N subjects and clips; S may differ.
        reference: Name of the row that the others are compared with.

    Returns:
        The difference of each row but the reference.
    """
    uf1 = {name: _pooled_uf1(row_counts.sum(1)).mean(0) for name, row_counts in counts.items()}
    resampled_uf1 = {name: _resampled_uf1(row_counts) for name, row_counts in counts.items()}
    accuracies = {name: _subject_accuracies(row_counts) for name, row_counts in counts.items()}
    row_differences = {}
    for name in counts:
        if name == reference:
            continue
        low, high = np.quantile(resampled_uf1[name] - resampled_uf1[reference], (0.025, 0.975))
        row_differences[name] = Difference(
            uf1=float(uf1[name] - uf1[reference]),
            low=float(low),
            high=float(high),
            p=_wilcoxon(accuracies[name], accuracies[reference]),
        )
    return row_differences


def _pooled_uf1(counts: np.ndarray) -> np.ndarray:
    """Return UF1 of counts ``(..., K, K)`` over all subjects, as in `gammer_lightning.evaluation.scores.scores`."""
    return class_scores(counts)["f1"].mean(-1, where=counts.sum(-1) > 0)


def _resampled_uf1(counts: np.ndarray) -> np.ndarray:
    """Return UF1, mean over seeds, for each resample of the subjects ``(RESAMPLES,)``."""
    seeds, subjects, classes, _ = counts.shape
    equal_shares = np.full(subjects, 1 / subjects)
    draws = np.random.default_rng(0).multinomial(subjects, equal_shares, RESAMPLES)  # (RESAMPLES, N)
    # floats, since numpy multiplies whole numbers without BLAS; these are small enough to stay exact
    flat_counts = counts.reshape(seeds, subjects, -1).astype(float)
    pooled = draws.astype(float) @ flat_counts
    pooled = pooled.reshape(seeds, RESAMPLES, classes, classes)
    return _pooled_uf1(pooled).mean(0)


def _subject_accuracies(counts: np.ndarray) -> np.ndarray:
    clips = counts.sum((0, 2, 3))
    return np.trace(counts, axis1=2, axis2=3).sum(0) / clips


def _wilcoxon(accuracies: np.ndarray, reference: np.ndarray) -> float | None:
    # rounded, so that equal differences of fractions rank as equal
    difference = np.round(accuracies - reference, 12)
    return float(wilcoxon(difference).pvalue) if difference.any() else None


def holm(p: Mapping[str, float | None]) -> dict[str, float | None]:
    """Correct p of several tests after Holm; a None stays one and is not counted as a test."""
    ascending = sorted((value, name) for name, value in p.items() if value is not None)
    corrected: dict[str, float | None] = dict.fromkeys(p)
    largest = 0.0
    for rank, (value, name) in enumerate(ascending):
        adjusted = min(1.0, value * (len(ascending) - rank))
        largest = max(largest, adjusted)
        corrected[name] = largest
    return corrected


def pareto(values: np.ndarray, modes: Sequence[str]) -> np.ndarray:
    """Return which points no other point beats: none is as good in every metric and better in one.

    Args:
        values: ``(n, M)``, finite.
        modes: ``max`` or ``min`` for each metric.

    Returns:
        bool ``(n,)``.
    """
    gains = values * np.where(np.asarray(modes) == "max", 1, -1)
    as_good = np.all(gains[None] >= gains[:, None], -1)
    better = np.any(gains[None] > gains[:, None], -1)
    return ~np.any(as_good & better, 1)
