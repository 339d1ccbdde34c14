"""The evaluation protocol: leave-one-subject-out folds, weights per fold, and scores of pooled counts."""

from collections.abc import Sequence

import numpy as np

from gammer_lightning.errors import GammerError

NOBODY = "nobody"
"""Name of the fold that holds out nobody; its model is the one to deploy."""


def loso_folds(subjects: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """Return leave-one-subject-out folds: each subject with the indices of its clips, the fold's test set.

    Args:
        subjects: Subject of each clip, as ``"dataset/subject"``.

    Raises:
        GammerError: If there are fewer than two subjects.
    """
    names = sorted(set(subjects))
    if len(names) < 2:
        raise GammerError(
            f"{len(names)} subject(s): {', '.join(names)}",
            "leave-one-subject-out needs two subjects or more",
            "add clips of other subjects, or generate some: gammer data synthesize --out DIR",
        )
    return [(name, np.flatnonzero(np.asarray(subjects) == name)) for name in names]


def training_masks(folds: Sequence[tuple[str, np.ndarray]], num_clips: int) -> dict[str, np.ndarray]:
    """Return for each fold, and last for `NOBODY`, which clips train it: bool ``(n,)``."""
    masks = {name: ~np.isin(np.arange(num_clips), test) for name, test in folds}
    return {**masks, NOBODY: np.ones(num_clips, bool)}


def class_weights(training: np.ndarray, labels: Sequence[int], class_names: Sequence[str], fold: str) -> np.ndarray:
    """Return the weight of each class ``(K,)``, inverse to its frequency among the fold's own training clips.

    The mean weight of a training clip is 1.

    Args:
        training: Which clips train the fold, bool ``(n,)``.
        labels: Class index of each clip.
        class_names: Names of the K classes.
        fold: Name of the fold, for the error.

    Raises:
        GammerError: If a class has no training clip.
    """
    counts = np.bincount(np.asarray(labels)[training], minlength=len(class_names))
    if not counts.all():
        missing = ", ".join(name for name, count in zip(class_names, counts, strict=True) if not count)
        raise GammerError(
            f"fold {fold}: no training clip of class {missing}",
            "every class needs clips of two subjects or more, so that one can be held out",
            "add clips, or choose a coarser data.class_set (three)",
        )
    return counts.sum() / (len(counts) * counts)


def confusion(labels: Sequence[int], predictions: Sequence[int], num_classes: int) -> np.ndarray:
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
    per_class, present = class_scores(counts), counts.sum(1) > 0
    return {
        "uf1": float(per_class["f1"][present].mean()),
        "uar": float(per_class["recall"][present].mean()),
        "accuracy": float(np.trace(counts) / counts.sum()),
    }


def class_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return ``f1``, ``recall``, ``precision``, ``support`` per class ``(K,)``; 0 where nothing counts."""
    hits, support, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
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
    for subject, test in loso_folds(subjects):
        lines.append(subject.replace("/", " ", 1))
        lines += [f"{clips[i]} {labels[i]} {predictions[i]}" for i in test]
    return "\n".join(lines) + "\n"
