"""Scores over pooled counts: confusion, UF1, UAR, accuracy, F1 of action units, and MEGC's log."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


def confusion(
    labels: Sequence[int] | np.ndarray, predictions: Sequence[int] | np.ndarray, num_classes: int
) -> np.ndarray:
    """Count clips by true class (row) and predicted class (column), int ``(K, K)``."""
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (np.asarray(labels), np.asarray(predictions)), 1)
    return counts


def scores(counts: np.ndarray) -> dict[str, float]:
    """Score a confusion matrix whose counts are pooled over all folds.

    UF1 and UAR are means over the classes that have a clip: a class with none, which no prediction can get
    right, is left out of both.

    Returns:
        ``uf1``, ``uar`` and ``accuracy`` in [0, 1].

    Source: paper Sec. 3.2, Eqs. 10 to 12; Eq. 12 lacks its sum: UF1 is the mean of the per-class F1.
    """
    per_class = class_scores(counts)
    has_clips = counts.sum(1) > 0
    uf1 = per_class["f1"][has_clips].mean()
    uar = per_class["recall"][has_clips].mean()
    accuracy = np.trace(counts) / counts.sum()
    return {"uf1": float(uf1), "uar": float(uar), "accuracy": float(accuracy)}


def class_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return ``f1``, ``recall``, ``precision``, ``support`` per class; 0 where the denominator is 0.

    Args:
        counts: Confusion matrices ``(..., K, K)``; each score has shape ``(..., K)``.
    """
    hits = np.diagonal(counts, 0, -2, -1)
    support = counts.sum(-1)
    predicted = counts.sum(-2)
    return {
        "f1": 2 * hits / np.maximum(support + predicted, 1),
        "recall": hits / np.maximum(support, 1),
        "precision": hits / np.maximum(predicted, 1),
        "support": support,
    }


def pooled_uf1(counts: np.ndarray) -> np.ndarray:
    """Return UF1 ``(...)`` of counts ``(..., K, K)``, as in `scores`."""
    return class_scores(counts)["f1"].mean(-1, where=counts.sum(-1) > 0)


def unit_confusion(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Count clips by whether a unit is on (row) and predicted on (column), int ``(..., K, 2, 2)``.

    Args:
        labels: 1 where a unit is on, else 0, ``(n, K)``.
        predictions: 1 where it is predicted on, else 0, ``(..., n, K)``.
    """
    on = np.asarray(labels, bool)
    predicted = np.asarray(predictions, bool)
    cells = [(~on & ~predicted), (~on & predicted), (on & ~predicted), (on & predicted)]
    counts = np.stack([cell.sum(-2) for cell in cells], -1)
    return counts.reshape(*counts.shape[:-1], 2, 2)


def unit_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Score action units by counts that are pooled over all folds.

    Both are means over the units that are on in a clip: one that never is, which no prediction can get right, is left
    out. F1 is 0 where its denominator is.

    Args:
        counts: From `unit_confusion`, ``(..., K, 2, 2)``.

    Returns:
        ``macro_f1``, the mean of the F1 of "on" and of "off", and ``binary_f1``, the F1 of "on", each ``(...)`` in
        [0, 1]; 0 where no unit is ever on.

    Source: Varanka et al., arXiv 2211.11425, and github.com/tvaranka/meb, commit f731b0a.
    """
    f1 = class_scores(counts)["f1"]
    occurs = counts[..., 1, :].sum(-1) > 0
    num_units = np.maximum(occurs.sum(-1), 1)
    return {
        "macro_f1": (f1.mean(-1) * occurs).sum(-1) / num_units,
        "binary_f1": (f1[..., 1] * occurs).sum(-1) / num_units,
    }


@dataclass(frozen=True)
class Scoring:
    """What results have of a kind of labels: one class a clip, or any number of action units.

    Attributes:
        noun: What the labels are, e.g. ``"classes"``.
        headings: Heading of each score in ``mean``, ``std`` and ``seeds`` of results.json, by its name.
        main: Name of the score that rows are compared by.
        main_score: Computes it from counts: ``(..., K, K)`` of classes, ``(..., K, 2, 2)`` of units.
    """

    noun: str
    headings: Mapping[str, str]
    main: str
    main_score: Callable[[np.ndarray], np.ndarray]

    @property
    def main_heading(self) -> str:
        """Heading of the main score."""
        return self.headings[self.main]


CLASS_SCORING = Scoring("classes", {"accuracy": "accuracy", "uf1": "UF1", "uar": "UAR"}, "uf1", pooled_uf1)
UNIT_SCORING = Scoring(
    "action units",
    {"macro_f1": "macro F1", "binary_f1": "binary F1", "dataset_macro_f1": "macro F1, mean of data sets"},
    "macro_f1",
    lambda counts: unit_scores(counts)["macro_f1"],
)


def scoring_of(mean: Mapping[str, object]) -> Scoring:
    """Return the scoring of a results.json by its ``mean``, scores by name."""
    return UNIT_SCORING if UNIT_SCORING.main in mean else CLASS_SCORING


def megc_log(subjects: Sequence[str], clips: Sequence[str], labels: Sequence[int], predictions: Sequence[int]) -> str:
    """Return a log as in MEGC 2019: for each fold ``database subject``, then lines ``clip truth prediction``.

    Args:
        subjects: Subject of each clip, as ``"dataset/subject"``.
        clips: Name of each clip.
        labels: True class index of each clip.
        predictions: Predicted class index of each clip.

    Source: See et al., MEGC 2019, evaluation protocol.
    """
    lines = []
    for subject in sorted(set(subjects)):
        lines.append(subject.replace("/", " ", 1))
        for index, clip in enumerate(clips):
            if subjects[index] == subject:
                lines.append(f"{clip} {labels[index]} {predictions[index]}")
    return "\n".join(lines) + "\n"
