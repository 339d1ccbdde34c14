"""How rows of a sweep differ from a reference row, by subject, where all judged the same clips."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from gammer_lightning.evaluation.predictions import units_of_text
from gammer_lightning.evaluation.scores import CLASS_SCORING, UNIT_SCORING, Scoring

RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """A row minus the reference.

    Attributes:
        score: Difference in the main score (UF1, or macro F1 of units), each a mean over seeds, in [-1, 1].
        low: Lower end of its 95 % bootstrap interval over subjects.
        high: Upper end.
        p: Wilcoxon signed-rank p over per-subject accuracies (of units the share of right decisions), each a mean over
            seeds; None where no subject differs.
    """

    score: float
    low: float
    high: float
    p: float | None


def subject_counts(path: Path, class_names: Sequence[str], scoring: Scoring = CLASS_SCORING) -> np.ndarray:
    """Read predictions.csv and count its clips by true and predicted class, for each seed and subject.

    Args:
        path: The file.
        class_names: Names of the K classes or units, in the order of the counts.
        scoring: Whether they are classes or units.

    Returns:
        Counts ``(S, N, K, K)`` of S seeds, in the order of the file, and N subjects in alphabetical order; of units
        ``(S, N, K, 2, 2)``, as of `unit_confusion`.

    Raises:
        ValueError: If the file is no such table.
        KeyError: If it has another class.
    """
    columns = ["dataset", "subject", "label", "prediction", "seed"]
    table = pd.read_csv(path, usecols=columns, dtype=str, keep_default_na=False)
    seed, seeds = pd.factorize(table["seed"])
    subject, subjects = pd.factorize(table["dataset"] + "/" + table["subject"], sort=True)
    if scoring is UNIT_SCORING:
        units = np.arange(len(class_names))
        labels = units_of_text(table["label"], class_names)
        predictions = units_of_text(table["prediction"], class_names)
        unit_counts = np.zeros((len(seeds), len(subjects), len(units), 2, 2), int)
        np.add.at(unit_counts, (seed[:, None], subject[:, None], units, labels, predictions), 1)
        return unit_counts
    index = {name: k for k, name in enumerate(class_names)}
    label = [index[name] for name in table["label"]]
    prediction = [index[name] for name in table["prediction"]]
    counts = np.zeros((len(seeds), len(subjects), len(index), len(index)), int)
    np.add.at(counts, (seed, subject, label, prediction), 1)
    return counts


def differences(
    counts: Mapping[str, np.ndarray], reference: str, scoring: Scoring = CLASS_SCORING
) -> dict[str, Difference]:
    """Compare each row with the reference.

    Every row and seed is resampled by the same draws of subjects, so what they share cancels out.

    Args:
        counts: ``(S, N, K, K)`` of each row by its name, of the same N subjects and clips; S may differ. Of units
            ``(S, N, K, 2, 2)``.
        reference: Name of the row that the others are compared with.
        scoring: Its main score is compared.

    Returns:
        The difference of each row but the reference.
    """
    main_score = scoring.main_score
    score = {name: main_score(row_counts.sum(1)).mean(0) for name, row_counts in counts.items()}
    resampled = {name: _resampled_score(row_counts, main_score) for name, row_counts in counts.items()}
    accuracies = {name: _subject_accuracies(row_counts) for name, row_counts in counts.items()}
    row_differences = {}
    for name in counts:
        if name == reference:
            continue
        low, high = np.quantile(resampled[name] - resampled[reference], (0.025, 0.975))
        row_differences[name] = Difference(
            score=float(score[name] - score[reference]),
            low=float(low),
            high=float(high),
            p=_wilcoxon(accuracies[name], accuracies[reference]),
        )
    return row_differences


def _resampled_score(counts: np.ndarray, main_score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return a score, mean over seeds, for each resample of the subjects ``(RESAMPLES,)``."""
    seeds, subjects, *cells = counts.shape
    equal_shares = np.full(subjects, 1 / subjects)
    draws = np.random.default_rng(0).multinomial(subjects, equal_shares, RESAMPLES)  # (RESAMPLES, N)
    # floats, since numpy multiplies whole numbers without BLAS; these are small enough to stay exact
    flat_counts = counts.reshape(seeds, subjects, -1).astype(float)
    pooled = draws.astype(float) @ flat_counts
    pooled = pooled.reshape(seeds, RESAMPLES, *cells)
    return main_score(pooled).mean(0)


def _subject_accuracies(counts: np.ndarray) -> np.ndarray:
    hits = np.trace(counts, axis1=-2, axis2=-1)
    decisions = counts.sum((-2, -1))
    all_but_subjects = (0, *range(2, hits.ndim))
    return hits.sum(all_but_subjects) / decisions.sum(all_but_subjects)


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
