"""Predictions of held-out clips."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import pandas as pd

from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.evaluation.scores import confusion, unit_confusion

NO_UNITS = "none"
"""The label of a clip with none of the units, as a text."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of each clip by the members that held it out.

    Attributes:
        clips: The n clips.
        labels: True class index of each clip.
        class_names: Names of the K classes.
        seeds: The S seeds.
        probabilities: ``(S, n, K)`` in [0, 1].
        folds: Name of the fold that held each clip out.
        protocol: What the folds are, for people.
    """

    clips: Sequence[Clip]
    labels: Sequence
    class_names: Sequence[str]
    seeds: Sequence[int]
    probabilities: np.ndarray
    folds: Sequence[str]
    protocol: str

    @property
    def subjects(self) -> list[str]:
        """Subject of each clip as ``"dataset/subject"``."""
        return [f"{clip.dataset}/{clip.subject}" for clip in self.clips]

    @property
    def predicted(self) -> np.ndarray:
        """Predicted class index ``(S, n)``."""
        return self.probabilities.argmax(-1)

    @property
    def confusions(self) -> np.ndarray:
        """Counts pooled over folds, for each seed ``(S, K, K)``: true class by predicted class."""
        return np.stack([confusion(self.labels, seed, len(self.class_names)) for seed in self.predicted])

    def table(self) -> pd.DataFrame:
        """Return one row for each seed and clip."""
        return pd.concat([self._seed_table(index) for index in range(len(self.seeds))], ignore_index=True)

    def _texts(self, labels: Iterable) -> list[str]:
        """Return labels or predictions of clips as texts."""
        return [self.class_names[label] for label in labels]

    def _seed_table(self, index: int) -> pd.DataFrame:
        rows = [(clip.dataset, clip.subject, clip.name) for clip in self.clips]
        table = pd.DataFrame(rows, columns=["dataset", "subject", "clip"])
        table["label"] = self._texts(self.labels)
        table["prediction"] = self._texts(self.predicted[index])
        for k, name in enumerate(self.class_names):
            table[f"p_{name}"] = self.probabilities[index, :, k].round(6)
        return table.assign(fold=self.folds, seed=self.seeds[index])

    def by_clip(self) -> pd.DataFrame:
        """Return one row for each clip: the share of seeds that are right, each seed's class and its probability."""
        table = self._seed_table(0)[["dataset", "subject", "clip", "label", "fold"]]
        table["correct"] = (self.predicted == np.asarray(self.labels)).mean(0)
        for index, seed in enumerate(self.seeds):
            probabilities = self.probabilities[index].max(-1)
            table[f"seed {seed}"] = self._texts(self.predicted[index])
            table[f"seed {seed} p"] = probabilities.astype(float).round(4)
        return table

    def clip_table(self) -> pd.DataFrame:
        """Return one row for each clip: what was evaluated."""
        columns = ["dataset", "subject", "name", "onset", "apex", "offset", "action_units", "emotion"]
        row_of = attrgetter(*columns)
        table = pd.DataFrame([row_of(clip) for clip in self.clips], columns=columns)
        table["label"] = self._texts(self.labels)
        return table.rename(columns={"name": "clip"})


@dataclass(frozen=True)
class UnitPredictions(Predictions):
    """Predictions of the action units of each clip by the members that held it out.

    Attributes:
        labels: 1 or 0 for each of the K units of each clip, ``(n, K)``.
        class_names: Names of the K units.
        probabilities: Of each unit by itself, ``(S, n, K)`` in [0, 1]; above .5 it is predicted on.
    """

    @property
    def predicted(self) -> np.ndarray:
        """Whether a unit is predicted on, bool ``(S, n, K)``."""
        return self.probabilities > 0.5

    @property
    def confusions(self) -> np.ndarray:
        """Counts pooled over folds, for each seed ``(S, K, 2, 2)``: whether a unit is on by whether it is predicted."""
        return unit_confusion(np.asarray(self.labels), self.predicted)

    def _texts(self, labels: Iterable) -> list[str]:
        return [text_of_units(units, self.class_names) for units in labels]

    def by_clip(self) -> pd.DataFrame:
        """Return one row for each clip: the share of right decisions over units and seeds, and each seed's units."""
        table = self._seed_table(0)[["dataset", "subject", "clip", "label", "fold"]]
        table["correct"] = (self.predicted == np.asarray(self.labels)).mean((0, 2))
        for index, seed in enumerate(self.seeds):
            table[f"seed {seed}"] = self._texts(self.predicted[index])
        return table


def text_of_units(units: Iterable, names: Sequence[str]) -> str:
    """Return the names of the units that are on, e.g. ``AU1+AU4``; `NO_UNITS` where none is."""
    return "+".join(name for name, on in zip(names, units, strict=True) if on) or NO_UNITS


def units_of_text(texts: Iterable[str], names: Sequence[str]) -> np.ndarray:
    """Return which units texts of `text_of_units` name, 1 or 0, int ``(n, K)``.

    Raises:
        KeyError: If a text names another unit.
    """
    rows = []
    for text in texts:
        units = set() if text == NO_UNITS else set(text.split("+"))
        if not units <= set(names):
            raise KeyError(text)
        rows.append([name in units for name in names])
    return np.array(rows, int).reshape(len(rows), len(names))
