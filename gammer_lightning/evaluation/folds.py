"""The evaluation protocols: folds, weights per fold, and scores of pooled counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from gammer_lightning.errors import GammerError

NOBODY = "nobody"
"""Name of the fold that holds out nobody; its model is the one to deploy."""
ProtocolName = Literal["loso", "lodo", "kfold", "inner", "outer", "paper_holdout"]
LEAKY: Final = "paper_holdout"
INNER: Final = "inner"
PROTOCOLS: dict[ProtocolName, str] = {
    "loso": "leave one subject out; counts pooled over folds",
    "lodo": "leave one data set out; counts pooled over folds",
    "kfold": "stratified folds of whole subjects; counts pooled over folds",
    INNER: "inner validation, to choose settings by: subjects of one outer fold are left out altogether, the others "
    "make stratified folds of whole subjects; counts pooled over folds",
    "outer": "subjects of one outer fold held out, which no choice by inner validation has seen",
    LEAKY: "one part of the clips held out at the evaluation alpha only, and trained on at the others; "
    "LEAKY: for comparison with the published figures only",
}


def make_folds(
    protocol: ProtocolName, subjects: Sequence[str], labels: Sequence[int], num_folds: int = 5, outer_fold: int = 1
) -> list[tuple[str, np.ndarray]]:
    """Return the folds of a protocol: the name of each with the indices of its test clips.

    Args:
        protocol: One of `PROTOCOLS`.
        subjects: Subject of each clip, as ``"dataset/subject"``.
        labels: Class index of each clip.
        num_folds: Folds of ``"kfold"``; ``"paper_holdout"`` takes the first of as many; outer and inner ones alike.
        outer_fold: Which outer fold ``"inner"`` leaves out and ``"outer"`` holds out, from 1 on.

    Raises:
        GammerError: If the protocol is unknown, or there are too few subjects, data sets or clips for it.
    """
    if protocol not in PROTOCOLS:
        raise GammerError(f"protocol {protocol!r}", f"it is one of {', '.join(PROTOCOLS)}", "set model.protocol to one")
    if protocol == "loso":
        return loso_folds(subjects)
    if protocol == "lodo":
        datasets = [subject.split("/")[0] for subject in subjects]
        return _each_held_out(datasets, "data set", "add one to data.roots, or set model.protocol to loso")
    if protocol == "outer":
        return [(f"outer fold {outer_fold}", outer_clips(subjects, labels, num_folds, outer_fold))]
    if protocol == INNER:
        left_out = outer_clips(subjects, labels, num_folds, outer_fold)
        training = np.setdiff1d(np.arange(len(labels)), left_out)
        folds = _stratified_folds(protocol, np.asarray(subjects)[training], np.asarray(labels)[training], num_folds)
        return [(name, training[test]) for name, test in folds]
    return _stratified_folds(protocol, subjects, labels, num_folds)


def outer_clips(subjects: Sequence[str], labels: Sequence[int], num_folds: int, outer_fold: int) -> np.ndarray:
    """Return the clips of one outer fold, of whole subjects; settings chosen without them are judged on them.

    Raises:
        GammerError: If there is no such fold.
    """
    if not 1 <= outer_fold <= num_folds:
        raise GammerError(f"outer fold {outer_fold}", f"1 to model.num_folds ({num_folds})", "change model.outer_fold")
    return _stratified_folds("outer", subjects, labels, num_folds)[outer_fold - 1][1]


def _stratified_folds(
    protocol: ProtocolName, subjects: Sequence[str], labels: Sequence[int], num_folds: int
) -> list[tuple[str, np.ndarray]]:
    """Return folds of whole subjects, or one of clips, whose classes are as frequent as in all."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    whole = protocol != LEAKY
    units = len(set(subjects)) if whole else min(np.bincount(labels)[np.unique(labels)])
    if not 2 <= num_folds <= units:
        raise GammerError(
            f"{num_folds} folds of {units} {'subjects' if whole else 'clips of the rarest class'}",
            "at least 2, and no more than there are",
            "change model.num_folds",
        )
    splitter = (StratifiedGroupKFold if whole else StratifiedKFold)(num_folds, shuffle=True, random_state=0)
    tests = [test for _, test in splitter.split(labels, labels, subjects if whole else None)]
    return [(f"fold {index}", test) for index, test in enumerate(tests if whole else tests[:1], 1)]


def loso_folds(subjects: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """Return leave-one-subject-out folds: each subject with the indices of its clips, the fold's test set.

    Args:
        subjects: Subject of each clip, as ``"dataset/subject"``.

    Raises:
        GammerError: If there are fewer than two subjects.
    """
    return _each_held_out(subjects, "subject", "add some, or generate them: gammer data synthesize --out DIR")


def _each_held_out(groups: Sequence[str], group_name: str, next_step: str) -> list[tuple[str, np.ndarray]]:
    names = sorted(set(groups))
    if len(names) < 2:
        raise GammerError(
            f"{len(names)} {group_name}(s): {', '.join(names)}",
            f"leave-one-{group_name}-out needs two {group_name}s or more",
            next_step,
        )
    return [(name, np.flatnonzero(np.asarray(groups) == name)) for name in names]


def training_masks(
    folds: Sequence[tuple[str, np.ndarray]], num_clips: int, left_out: Sequence[int] | np.ndarray = ()
) -> dict[str, np.ndarray]:
    """Return for each fold, and last for `NOBODY`, which clips train it: bool ``(n,)``; none those ``left_out``."""
    clips = np.arange(num_clips)
    nobody = ~np.isin(clips, left_out)
    masks = {name: nobody & ~np.isin(clips, test) for name, test in folds}
    return {**masks, NOBODY: nobody}


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


@dataclass(frozen=True)
class Split:
    """The folds of a protocol, and the training clips of each; the last trains on all of them and holds out nobody.

    Attributes:
        folds: Name of each fold but the last, and the indices of its test clips.
        masks: Training clips of each fold by its name, bool ``(n,)``; `NOBODY` comes last.
        class_weights: Class weights of each fold ``(K,)``, in the same order.
    """

    folds: list[tuple[str, np.ndarray]]
    masks: dict[str, np.ndarray]
    class_weights: list[np.ndarray]


def make_split(
    protocol: ProtocolName,
    subjects: Sequence[str],
    labels: Sequence[int],
    class_names: Sequence[str],
    num_folds: int = 5,
    outer_fold: int = 1,
) -> Split:
    """Return the folds of a protocol, the training clips of each, and its class weights.

    Args:
        protocol: One of `PROTOCOLS`; of ``"inner"`` no fold trains on the clips of the outer fold.
        subjects: Subject of each of the n clips, as ``"dataset/subject"``.
        labels: Class index of each clip.
        class_names: Names of the K classes.
        num_folds: As in `make_folds`.
        outer_fold: As in `make_folds`.

    Raises:
        GammerError: If there are too few subjects, data sets or clips, or a class has no training clip in a fold.
    """
    folds = make_folds(protocol, subjects, labels, num_folds, outer_fold)
    left_out = outer_clips(subjects, labels, num_folds, outer_fold) if protocol == INNER else ()
    masks = training_masks(folds, len(labels), left_out)
    weights = [class_weights(mask, labels, class_names, fold) for fold, mask in masks.items()]
    return Split(folds, masks, weights)
