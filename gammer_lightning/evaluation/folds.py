"""The evaluation protocols: folds, weights per fold, and scores of pooled counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from gammer_lightning.errors import GammerError

NOBODY = "nobody"
"""Name of the fold that holds out nobody; its model is the one to deploy."""
MULTI_LABEL_PROTOCOLS = ("lodo", "loso")
"""Those whose folds are not stratified by class."""
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
    protocol: ProtocolName, subjects: Sequence[str], labels: Sequence, num_folds: int = 5, outer_fold: int = 1
) -> list[tuple[str, np.ndarray]]:
    """Return the folds of a protocol: the name of each with the indices of its test clips.

    Args:
        protocol: One of `PROTOCOLS`.
        subjects: Subject of each clip, as ``"dataset/subject"``.
        labels: Class index of each clip, or 1 or 0 for each unit of each clip ``(n, K)``.
        num_folds: Folds of ``"kfold"``; ``"paper_holdout"`` takes the first of as many; outer and inner ones alike.
        outer_fold: Which outer fold ``"inner"`` leaves out and ``"outer"`` holds out, from 1 on.

    Raises:
        GammerError: If the protocol is unknown or needs one class of each clip, or there are too few subjects, data
            sets or clips for it.
    """
    if protocol not in PROTOCOLS:
        raise GammerError(f"protocol {protocol!r}", f"it is one of {', '.join(PROTOCOLS)}", "set model.protocol to one")
    if is_multi_label(labels) and protocol not in MULTI_LABEL_PROTOCOLS:
        raise GammerError(
            f"model.protocol {protocol} with data.class_set units",
            "its folds are stratified by the one class of each clip",
            f"set model.protocol to {' or '.join(MULTI_LABEL_PROTOCOLS)}",
        )
    if protocol == "loso":
        return loso_folds(subjects)
    if protocol == "lodo":
        datasets = [subject.split("/")[0] for subject in subjects]
        next_step = "add one to data.roots (a cast of microfaces as microfaces-NAME), or set model.protocol to loso"
        return _each_held_out(datasets, "data set", next_step)
    if protocol == "outer":
        return [(f"outer fold {outer_fold}", outer_clips(subjects, labels, num_folds, outer_fold))]
    if protocol == INNER:
        left_out = outer_clips(subjects, labels, num_folds, outer_fold)
        training = np.setdiff1d(np.arange(len(labels)), left_out)
        training_subjects = np.asarray(subjects)[training]
        training_labels = np.asarray(labels)[training]
        folds = _stratified_folds(protocol, training_subjects, training_labels, num_folds)
        return [(name, training[test]) for name, test in folds]
    return _stratified_folds(protocol, subjects, labels, num_folds)


def outer_clips(subjects: Sequence[str], labels: Sequence, num_folds: int, outer_fold: int) -> np.ndarray:
    """Return the clips of one outer fold, of whole subjects; settings chosen without them are judged on them.

    Raises:
        GammerError: If there is no such fold.
    """
    if not 1 <= outer_fold <= num_folds:
        raise GammerError(f"outer fold {outer_fold}", f"1 to model.num_folds ({num_folds})", "change model.outer_fold")
    folds = _stratified_folds("outer", subjects, labels, num_folds)
    _, clips = folds[outer_fold - 1]
    return clips


def _stratified_folds(
    protocol: ProtocolName, subjects: Sequence[str], labels: Sequence, num_folds: int
) -> list[tuple[str, np.ndarray]]:
    """Return folds in which classes are as frequent as in all clips: of whole subjects, or the first one of clips."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    has_whole_subjects = protocol != LEAKY
    if has_whole_subjects:
        units = "subjects"
        num_units = len(set(subjects))
    else:
        units = "clips of the rarest class"
        num_units = min(np.unique(labels, return_counts=True)[1])
    if not 2 <= num_folds <= num_units:
        raise GammerError(
            f"{num_folds} folds of {num_units} {units}",
            "at least 2, and no more than there are",
            "change model.num_folds",
        )
    if has_whole_subjects:
        splits = StratifiedGroupKFold(num_folds, shuffle=True, random_state=0).split(labels, labels, subjects)
        tests = [test for _, test in splits]
    else:
        _, test = next(StratifiedKFold(num_folds, shuffle=True, random_state=0).split(labels, labels))
        tests = [test]
    return [(f"fold {number}", test) for number, test in enumerate(tests, 1)]


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
    """Return for each fold, and last for `NOBODY`, which clips train it: bool ``(n,)``; never those in ``left_out``."""
    clips = np.arange(num_clips)
    is_available = ~np.isin(clips, left_out)
    masks = {}
    for name, test in folds:
        masks[name] = is_available & ~np.isin(clips, test)
    masks[NOBODY] = is_available
    return masks


def is_multi_label(labels: Sequence) -> bool:
    """Return whether labels are 1 or 0 for each unit of each clip ``(n, K)``, not a class index of each ``(n,)``."""
    return np.ndim(labels) == 2


def positive_weights(training: np.ndarray, labels: Sequence) -> np.ndarray:
    """Return for each unit how many of the fold's own training clips lack it for each that has it ``(K,)``.

    The loss of a unit that is on is weighed by it, so that on and off count the same. It is 1 for a unit that is on in
    none or in all of them.

    Args:
        training: Which clips train the fold, bool ``(n,)``.
        labels: 1 or 0 for each unit of each clip ``(n, K)``.
    """
    on = np.asarray(labels)[training].sum(0)
    off = training.sum() - on
    return np.where((on > 0) & (off > 0), off / np.maximum(on, 1), 1.0)


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
            "every class needs clips of two subjects or more (lodo: of two data sets), so that one can be held out",
            "add clips, or choose a coarser data.class_set (three)",
        )
    return counts.sum() / (len(counts) * counts)


@dataclass(frozen=True)
class Split:
    """The folds of a protocol, and the training clips of each; the last trains on all of them and holds out nobody.

    Attributes:
        folds: Name of each fold but the last, and the indices of its test clips.
        masks: Training clips of each fold by its name, bool ``(n,)``; `NOBODY` comes last.
        class_weights: Class weights of each fold ``(K,)``, in the same order; of units their `positive_weights`.
    """

    folds: list[tuple[str, np.ndarray]]
    masks: dict[str, np.ndarray]
    class_weights: list[np.ndarray]


def make_split(
    protocol: ProtocolName,
    subjects: Sequence[str],
    labels: Sequence,
    class_names: Sequence[str],
    num_folds: int = 5,
    outer_fold: int = 1,
) -> Split:
    """Return the folds of a protocol, the training clips of each, and its class weights.

    Args:
        protocol: One of `PROTOCOLS`; of ``"inner"`` no fold trains on the clips of the outer fold.
        subjects: Subject of each of the n clips, as ``"dataset/subject"``.
        labels: As in `make_folds`.
        class_names: Names of the K classes or units.
        num_folds: As in `make_folds`.
        outer_fold: As in `make_folds`.

    Raises:
        GammerError: If there are too few subjects, data sets or clips, or a class has no training clip in a fold.
    """
    folds = make_folds(protocol, subjects, labels, num_folds, outer_fold)
    left_out = outer_clips(subjects, labels, num_folds, outer_fold) if protocol == INNER else ()
    masks = training_masks(folds, len(labels), left_out)
    if is_multi_label(labels):
        weights = [positive_weights(mask, labels) for mask in masks.values()]
    else:
        weights = [class_weights(mask, labels, class_names, fold) for fold, mask in masks.items()]
    return Split(folds, masks, weights)
