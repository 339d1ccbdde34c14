"""Class sets: which clips an evaluation keeps, and the class or the action units of each."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

from gammer_lightning.data.clips.action_units import MEB_UNITS, objective_class, unit_faults, unit_matrix
from gammer_lightning.data.clips.clip import MICROFACES, Clip, is_microfaces
from gammer_lightning.errors import GammerError
from gammer_lightning.files import read_text, read_yaml

NEGATIVE = ("repression", "anger", "contempt", "disgust", "fear", "sadness", "negative")
THREE = {"negative": NEGATIVE, "positive": ("happiness", "positive"), "surprise": ("surprise",)}
FIVE = {
    "casme2": ("happiness", "surprise", "disgust", "repression", "others"),
    "samm": ("anger", "happiness", "surprise", "contempt", "others"),
}
FIVE[MICROFACES] = FIVE["casme2"]
OBJECTIVE = ("I", "II", "III", "IV", "V")
NOT_IN_MEGC = ("casme2/04/EP12_01f", "casme2/05/EP09_05f")
"""CASME II's two clips without an annotated apex, which MEGC 2019 leaves out..."""
NOT_IN_MEGC_EMOTIONS = {"casme2": ("sadness", "fear")}
"""... as it does CASME II's 9 clips of these emotions: 145 of its 255 clips are left."""

UNITS = "units"
"""The multi-label class set: a clip has any number of the twelve action units of `MEB_UNITS`."""
UNIT_NAMES = tuple(f"AU{unit}" for unit in MEB_UNITS)
NAMES = ("three", "five", "objective", UNITS)
Rule = Callable[[Clip], str | None]
LISTED = ("casme2", "samm", "smic", MICROFACES)
"""Databases that a clip list may name."""
Labels = list[int] | list[tuple[int, ...]]
"""Class index of each clip; of the class set ``"units"``, 1 or 0 for each unit of each clip."""


def class_labels(
    clips: Sequence[Clip], class_set: str, clip_list: str | Path | None = None
) -> tuple[list[Clip], Labels, tuple[str, ...]]:
    """Keep the clips that the class set covers, and label them.

    Args:
        clips: Clips of any data sets and emotions.
        class_set: ``"three"`` (negative, positive, surprise, by the rule of MEGC 2019), ``"five"`` (those of the
            paper, which differ between CASME II and SAMM), ``"objective"`` (classes I to V of Davison et al. 2018, as
            published with the data set, else derived from action units; a clip without the one whose units cannot
            be read is left out), ``"units"`` (the twelve action units of MEB; a clip whose units cannot be read is left
            out, one with none of the twelve stays), or a YAML file of your own: ``class: [emotion, ...]``.
        clip_list: Official list of MEGC 2019 (CSV: database, subject, clip, label 0 to 2; perhaps a header row), where
            the class set is ``"three"``: its clips are kept instead.

    Returns:
        The kept clips in their order, their labels, and the class names that the labels index. Of ``"units"`` a label
        is a tuple of twelve, 1 where the unit of that name is annotated, of whichever side, else 0.

    Raises:
        GammerError: If the class set is unknown or does not fit the data sets, a class of the mapping is empty, or
            the list and the clips disagree.

    Source: See et al., MEGC 2019, for the three classes; paper Sec. 3.2 for the five; for the units MEB, whose protocol
    has all 159 clips of SAMM, so those with none of the twelve, too.
    """
    check_class_set(class_set)
    if clip_list is not None and class_set != "three":
        raise GammerError(f"data.clip_list with class set {class_set!r}", "it is a list of MEGC 2019", "leave it unset")
    if class_set == UNITS:
        return _unit_labels(clips)
    names, rule = _rule(clips, class_set)
    if clip_list is not None:
        clips = _listed(clips, Path(clip_list), names, rule)
    labelled = []
    for clip in clips:
        label = rule(clip)
        if label is not None:
            labelled.append((clip, label))
    classes_with_clips = {label for _, label in labelled}
    absent = [name for name in names if name not in classes_with_clips]
    if not labelled or (absent and class_set not in NAMES):
        raise GammerError(
            f"class set {class_set!r} leaves {', '.join(absent)} without any of the {len(clips)} clips",
            "each class of a mapping needs clips",
            "check the emotion column of the coding workbook, or choose another data.class_set",
        )
    labelled_clips = [clip for clip, _ in labelled]
    labels = [names.index(label) for _, label in labelled]
    return labelled_clips, labels, names


def _unit_labels(clips: Sequence[Clip]) -> tuple[list[Clip], list[tuple[int, ...]], tuple[str, ...]]:
    faults = unit_faults(clips)
    readable = [clip for clip in clips if clip.key not in faults]
    matrix = unit_matrix(readable, MEB_UNITS).astype(int)
    with_units = {clip.dataset for clip, units in zip(readable, matrix, strict=True) if units.any()}
    without_units = {clip.dataset for clip in clips} - with_units
    if without_units or not clips:
        raise GammerError(
            f"class set {UNITS} for {', '.join(sorted(without_units)) or 'no clips'}",
            f"a data set needs clips with one of {', '.join(UNIT_NAMES)}; SMIC has no action units",
            "leave the data set out of data.roots, or set data.class_set to three",
        )
    return readable, [tuple(row) for row in matrix.tolist()], UNIT_NAMES


def _rule(clips: Sequence[Clip], class_set: str) -> tuple[tuple[str, ...], Rule]:
    """Return the names of the classes, and the function from a clip to one of them, or to None."""
    if class_set == "three":
        return tuple(THREE), _three
    if class_set == "five":
        names = _five_names({clip.dataset for clip in clips})

        def five(clip: Clip) -> str | None:
            name = canonical(clip.emotion)
            return name if name in names else None

        return names, five
    if class_set == "objective":
        return OBJECTIVE, _objective_rule(clips)
    mapping = _read_mapping(Path(class_set))
    class_of_emotion: dict[str, str] = {}
    for name, emotions in mapping.items():
        class_of_emotion |= dict.fromkeys(emotions, name)
    return tuple(mapping), lambda clip: class_of_emotion.get(canonical(clip.emotion))


def check_class_set(class_set: str) -> None:
    """Refuse a class set that is neither known nor a YAML file.

    Raises:
        GammerError: Naming those that are known.
    """
    if class_set not in NAMES and Path(class_set).suffix not in (".yaml", ".yml"):
        raise GammerError(
            f"data.class_set is {class_set!r}",
            f"it is one of {', '.join(NAMES)}, or a YAML file that maps classes to emotions",
            "set data.class_set to one of them",
        )


def _three(clip: Clip) -> str | None:
    if clip.key in NOT_IN_MEGC or clip.emotion in NOT_IN_MEGC_EMOTIONS.get(clip.dataset, ()):
        return None
    for name, emotions in THREE.items():
        if clip.emotion in emotions:
            return name
    return None


def canonical(emotion: str) -> str:
    """Return one spelling of an emotion; SAMM's table has both ``other`` and ``others``."""
    return "others" if emotion == "other" else emotion


def _five_names(datasets: set[str]) -> tuple[str, ...]:
    readers = {MICROFACES if is_microfaces(dataset) else dataset for dataset in datasets}
    sets = {FIVE[reader] for reader in readers if reader in FIVE}
    if len(sets) != 1 or not readers <= FIVE.keys():
        raise GammerError(
            f"class set five for {', '.join(sorted(datasets)) or 'no clips'}",
            f"it is that of one of {', '.join(FIVE)}; CASME II and SAMM have different ones, SMIC has none",
            "set data.class_set to three",
        )
    return sets.pop()


def _objective_rule(clips: Sequence[Clip]) -> Rule:
    datasets = {clip.dataset for clip in clips}
    unannotated = datasets - {clip.dataset for clip in clips if clip.action_units or clip.objective_class}
    if unannotated or not clips:
        raise GammerError(
            f"class set objective for {', '.join(sorted(unannotated)) or 'no clips'}",
            "it needs objective classes or action units, of which SMIC has none",
            "set data.class_set to three",
        )
    faults = unit_faults(clips)

    def objective(clip: Clip) -> str | None:
        if not clip.objective_class and clip.key in faults:
            return None
        name = clip.objective_class or objective_class(clip.action_units)
        return name if name in OBJECTIVE else None

    return objective


def clips_without_class(clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips without a published objective class, which is derived from their action units."""
    return [clip for clip in clips if not clip.objective_class and clip.action_units]


def class_set_notes(clips: Sequence[Clip], class_set: str) -> list[str]:
    """Say how many objective classes of each data set are derived, and which clips are left out as unreadable.

    Args:
        clips: All clips of the data sets.
        class_set: As in `class_labels`; others than ``"objective"`` and ``"units"`` have nothing to say.
    """
    if class_set == UNITS:
        return [f"{key} is left out: {fault}" for key, fault in unit_faults(clips).items()]
    if class_set != "objective":
        return []
    without_class = clips_without_class(clips)
    faults = unit_faults(without_class)
    all_counts = Counter(clip.dataset for clip in clips)
    derived_counts = Counter(clip.dataset for clip in without_class if clip.key not in faults)
    notes = []
    for dataset, count in derived_counts.items():
        notes.append(
            f"{dataset}: of {all_counts[dataset]} objective classes, {count} are not published with the data but "
            "derived from action units"
        )
    for key, fault in faults.items():
        notes.append(f"{key} is left out: {fault}")
    return notes


def class_set_sizes(clips: Sequence[Clip], dataset: str) -> dict[str, tuple[int, int]]:
    """Return how many clips and subjects each class set keeps that the data set can have.

    Args:
        clips: Clips of one data set.
        dataset: Its name.
    """
    has_units = any(clip.action_units or clip.objective_class for clip in clips)
    names = ["three"]
    if dataset in FIVE or is_microfaces(dataset):
        names.append("five")
    if has_units:
        names.append("objective")
    sizes = {}
    for name in names if clips else ():
        _, rule = _rule(clips, name)
        labelled = [clip for clip in clips if rule(clip) is not None]
        sizes[name] = len(labelled), len({clip.subject for clip in labelled})
    return sizes


def _read_mapping(path: Path) -> dict[str, list[str]]:
    """Return the emotions of each class of a YAML file; an emotion that a class lists twice counts once.

    Raises:
        GammerError: The file is no such mapping.
    """
    mapping = read_yaml(path)
    classes: dict[str, list[str]] = {}
    if isinstance(mapping, dict) and all(isinstance(value, list) and value for value in mapping.values()):
        for name, value in mapping.items():
            emotions = [canonical(str(emotion).lower()) for emotion in value]
            classes[str(name)] = list(dict.fromkeys(emotions))
    counts = Counter(chain.from_iterable(classes.values()))
    if len(classes) < 2 or max(counts.values()) > 1:
        raise GammerError(
            f"class set {path} holds {str(mapping)[:200]}",
            "it maps two classes or more to lists of emotions, each emotion once, e.g. positive: [happiness]",
            "mend the file",
        )
    return classes


def _listed(clips: Sequence[Clip], path: Path, names: tuple[str, ...], rule: Rule) -> list[Clip]:
    """Return the clips on the list, and see that its labels are ours."""
    labels = _read_list(path)
    datasets = {clip.dataset for clip in clips}
    clip_of_key = {_list_key(clip.dataset, clip.subject, clip.name): clip for clip in clips}
    absent = [key for key in labels if key not in clip_of_key and key[0] in datasets]
    different = []
    for key, label in labels.items():
        if key in clip_of_key and rule(clip_of_key[key]) != names[label]:
            different.append(key)
    if absent or different:
        examples = ["/".join(key) for key in (absent + different)[:5]]
        raise GammerError(
            f"{path}: {len(absent)} clips are not in the data sets, {len(different)} are of another class there: "
            + ", ".join(examples),
            "the official list and the data sets agree",
            "gammer data check tells what is missing",
        )
    return [clip for key, clip in clip_of_key.items() if key in labels]


def _read_list(path: Path) -> dict[tuple[str, str, str], int]:
    """Return the label of each clip of a list, with or without a header row, byte order mark and carriage returns."""
    labels: dict[tuple[str, str, str], str] = {}
    lines = read_text(path).splitlines()
    for number, cells in enumerate(csv.reader(lines), 1):
        row = [cell.strip() for cell in cells]
        is_header = number == 1 and len(row) > 3 and not re.search(r"\d", row[1] + row[3])
        if is_header or not any(row):
            continue
        database = re.sub(r"[^a-z0-9]", "", row[0].lower()).replace("casmeii", "casme2").removesuffix("hs")
        key = _list_key(database, *row[1:3]) if len(row) > 3 else ("", "", "")
        is_complete = database in LISTED and all(key) and row[3] in ("0", "1", "2")
        if not is_complete or labels.get(key, row[3]) != row[3]:
            raise GammerError(
                f"row {number} of the clip list {path} is {','.join(row)[:80]!r}",
                f"database ({', '.join(LISTED)}), subject, clip, and label 0, 1 or 2; no clip twice with other labels",
                "copy the official file of MEGC 2019 again",
            )
        labels[key] = row[3]
    if not labels:
        raise GammerError(f"the clip list {path} names no clip", "a clip in each row", "copy the official file again")
    return {key: int(label) for key, label in labels.items()}


def _list_key(dataset: str, subject: str, name: str) -> tuple[str, str, str]:
    """Make names comparable, which lists and folders write with or without prefix and zeros."""
    subject_number = re.sub(r"\D", "", subject).lstrip("0")
    parts = [part.lower().lstrip("s").lstrip("0") for part in name.split("_")]
    return dataset.lower(), subject_number, "_".join(parts)
