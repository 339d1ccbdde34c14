"""Scores over pooled counts: confusion, UF1, UAR, accuracy, and MEGC's log."""

from collections.abc import Sequence

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
