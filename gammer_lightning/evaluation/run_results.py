"""results.json of a recognition run: what is written into it, and how it is read."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.scores import UNIT_SCORING, Scoring, scoring_of
from gammer_lightning.files import read_json

RESULTS = "results.json"


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """The scores of a recognition run: of all held-out clips at once, for each seed.

    A run of classes has UF1, UAR and accuracy, one of action units macro F1 and binary F1 (`Scoring`); the last three
    attributes are of units only.

    Attributes:
        protocol: What the folds are, for people: a value of `gammer_lightning.evaluation.folds.PROTOCOLS`.
        datasets: Names of the data sets, sorted.
        clips: Number of clips.
        subjects: Number of subjects.
        folds: Number of folds; None in files of older versions.
        apexes: Number of clips by origin of the apex (`Clip.apex_origin`); None in files of older versions.
        clips_sha256: SHA-256 of clips.csv.
        mean: ``uf1``, ``uar`` and ``accuracy`` in [0, 1], mean over seeds; of units ``macro_f1``, ``binary_f1`` and
            ``dataset_macro_f1``, the mean of the data sets' own macro F1.
        std: Their sample standard deviation over seeds; each None for one seed.
        seeds: The same three by seed.
        classes: ``f1``, ``recall`` and ``precision`` in [0, 1], and ``support``, the number of clips, by name of class
            or unit; over all seeds. Of a unit all but ``macro_f1`` are of "on".
        confusion: Counts ``(K, K)`` by seed: true class by predicted class; of units ``(K, 2, 2)``: whether a unit is
            on by whether it is predicted on.
        absent_units: Units that no held-out clip has; they are left out of the means.
        by_dataset: ``macro_f1`` and ``binary_f1`` of each held-out data set by itself, mean over seeds, and
            ``absent_units``, those that none of its clips has.
        constants: The scores in ``mean`` of predicting every unit of every clip (``"all on"``), or none
            (``"never on"``).
    """

    protocol: str
    datasets: list[str]
    clips: int
    subjects: int
    folds: int | None = None
    apexes: dict[str, int] | None = None
    clips_sha256: str
    mean: dict[str, float]
    std: dict[str, float | None]
    seeds: dict[str, dict[str, float]]
    classes: dict[str, dict[str, float]]
    confusion: dict[str, list]
    absent_units: list[str] | None = None
    by_dataset: dict[str, dict[str, Any]] | None = None
    constants: dict[str, dict[str, float]] | None = None

    @property
    def scoring(self) -> Scoring:
        """What is scored: classes or action units."""
        return scoring_of(self.mean)

    @classmethod
    def from_file(cls, path: Path, next_step: str) -> "RunResults":
        """Read a results.json.

        Args:
            path: The file.
            next_step: What to do where it is damaged, for the message.

        Raises:
            GammerError: If it cannot be read, or is damaged.
        """
        return cls.from_record(read_json(path), path, next_step)

    @classmethod
    def from_record(cls, record: Any, where: object, next_step: str) -> "RunResults":
        """Take the content of a results.json.

        Args:
            record: The value of the whole file.
            where: The file, for the message.
            next_step: As in `from_file`.

        Raises:
            GammerError: If it is damaged.
        """
        if not are_results(record):
            raise GammerError(f"{where} is damaged", "it has the scores of a recognition run", next_step)
        names = [field.name for field in fields(cls)]
        values = {name: record[name] for name in names if name in record}
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Return the values of results.json, in its order."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def are_results(record: Any) -> bool:
    """Return whether a value has what tables and figures read of a results.json, each of its type."""
    if not isinstance(record, dict):
        return False
    for name in ("classes", "confusion", "mean", "std", "seeds"):
        if not isinstance(record.get(name), dict):
            return False
    return (
        isinstance(record.get("protocol"), str)
        and isinstance(record.get("clips_sha256"), str)
        and type(record.get("clips")) is int
        and type(record.get("subjects")) is int
        and _are_texts(record.get("datasets"))
        and _are_classes(record["classes"])
        and _are_confusions(record["confusion"], len(record["classes"]), scoring_of(record["mean"]))
        and _are_means_and_stds(record["mean"], record["std"])
        and (scoring_of(record["mean"]) is not UNIT_SCORING or _are_constants(record.get("constants")))
    )


def _are_classes(classes: dict[str, Any]) -> bool:
    for class_scores in classes.values():
        if not isinstance(class_scores, dict) or not _is_number(class_scores.get("f1")):
            return False
    return bool(classes)


def _are_confusions(confusions: dict[str, Any], num_classes: int, scoring: Scoring) -> bool:
    if scoring is UNIT_SCORING:
        for counts in confusions.values():
            are_units = isinstance(counts, list) and len(counts) == num_classes
            if not are_units or not all(_is_square(unit_counts, 2) for unit_counts in counts):
                return False
        return bool(confusions)
    return bool(confusions) and all(_is_square(counts, num_classes) for counts in confusions.values())


def _are_constants(constants: object) -> bool:
    if not isinstance(constants, dict):
        return False
    for name in ("all on", "never on"):
        scores = constants.get(name)
        if not isinstance(scores, dict) or not all(_is_number(scores.get(score)) for score in UNIT_SCORING.headings):
            return False
    return True


def _are_means_and_stds(mean: dict[str, Any], std: dict[str, Any]) -> bool:
    for name in scoring_of(mean).headings:
        std_is_valid = name in std and (std[name] is None or _is_number(std[name]))
        if not _is_number(mean.get(name)) or not std_is_valid:
            return False
    return True


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is_square(counts: object, size: int) -> bool:
    """Return whether a value is a list of ``size`` lists, each of ``size`` whole numbers."""
    if not isinstance(counts, list) or len(counts) != size:
        return False
    for row in counts:
        if not isinstance(row, list) or len(row) != size:
            return False
        if not all(type(count) is int for count in row):
            return False
    return True


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, str) for value in values)
