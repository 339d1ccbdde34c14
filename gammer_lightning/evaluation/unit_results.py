"""What results have of action units: scores by seed, data set and unit, and those of constant predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gammer_lightning.evaluation.predictions import UnitPredictions
from gammer_lightning.evaluation.run_results import RunResults
from gammer_lightning.evaluation.scores import UNIT_SCORING, class_scores, unit_confusion, unit_scores
from gammer_lightning.reports.tables import markdown_table, three_decimals

CONSTANTS = {"all on": 1, "never on": 0}
"""What constant predictions say of every unit of every clip."""
MEANS = (
    "Macro F1: mean over the units of the mean of the F1 of on and of off. Binary F1: mean over the units of the F1 of "
    "on. All clips are scored at once, but for the mean of the data sets' own macro F1."
)


def unit_values(predictions: UnitPredictions) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Score predictions of action units.

    Returns:
        The scores of each seed, and the values of `RunResults` that are of units only, by name.
    """
    labels = np.asarray(predictions.labels)
    datasets = np.array([clip.dataset for clip in predictions.clips])
    seed_scores = [_scores(labels, predicted, datasets) for predicted in predictions.predicted]
    by_dataset: dict[str, dict[str, Any]] = {}
    for name in np.unique(datasets).tolist():
        clips = datasets == name
        seeds = unit_scores(unit_confusion(labels[clips], predictions.predicted[:, clips]))
        means = {score: float(values.mean()) for score, values in seeds.items()}
        by_dataset[name] = means | {"absent_units": _absent(labels[clips], predictions.class_names)}
    constants = {}
    for name, constant in CONSTANTS.items():
        constants[name] = _scores(labels, np.full_like(labels, constant), datasets)
    values = {
        "absent_units": _absent(labels, predictions.class_names),
        "by_dataset": by_dataset,
        "constants": constants,
    }
    return seed_scores, values


def _scores(labels: np.ndarray, predicted: np.ndarray, datasets: np.ndarray) -> dict[str, float]:
    """Return the scores of one seed, ``labels`` and ``predicted`` ``(n, K)``, by the names of `UNIT_SCORING`."""
    pooled = unit_scores(unit_confusion(labels, predicted))
    dataset_macro_f1 = []
    for name in np.unique(datasets):
        clips = datasets == name
        dataset_scores = unit_scores(unit_confusion(labels[clips], predicted[clips]))
        dataset_macro_f1.append(dataset_scores["macro_f1"])
    return {
        "macro_f1": float(pooled["macro_f1"]),
        "binary_f1": float(pooled["binary_f1"]),
        "dataset_macro_f1": float(np.mean(dataset_macro_f1)),
    }


def _absent(labels: np.ndarray, names: Sequence[str]) -> list[str]:
    counts = labels.sum(0).tolist()
    return [name for name, count in zip(names, counts, strict=True) if not count]


def unit_table(counts: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Return the scores of each unit, a row for each.

    Args:
        counts: Counts over all seeds ``(K, 2, 2)``.
        names: Names of the K units.
    """
    scores = class_scores(counts)
    on = {name: values[:, 1] for name, values in scores.items()}
    return pd.DataFrame({"macro_f1": scores["f1"].mean(1), **on}, index=list(names))


def unit_lines(results: RunResults) -> list[str]:
    """Return the tables of results.md: seeds and constants, data sets, units."""
    constants = results.constants or {}
    rows_of_scores: dict[str, Mapping[str, float | None]] = {}
    for seed, seed_scores in results.seeds.items():
        rows_of_scores[f"seed {seed}"] = seed_scores
    rows_of_scores |= {"mean": results.mean, "std": results.std}
    rows_of_scores |= {f"constant: {name}": values for name, values in constants.items()}
    rows = [[name, *three_decimals(values.values())] for name, values in rows_of_scores.items()]
    dataset_rows = []
    for name, scores in (results.by_dataset or {}).items():
        absent = ", ".join(scores["absent_units"])
        dataset_rows.append([name, *three_decimals([scores["macro_f1"], scores["binary_f1"]]), absent])
    unit_rows = []
    for name, scores in results.classes.items():
        decimals = three_decimals([scores[score] for score in ("macro_f1", "f1", "recall", "precision")])
        unit_rows.append([name, *decimals, str(scores["support"])])
    absent_note = []
    if results.absent_units:
        absent_note = ["", f"No held-out clip has {', '.join(results.absent_units)}: left out of the means."]
    return [
        *markdown_table(["", *UNIT_SCORING.headings.values()], rows),
        "",
        MEANS,
        *absent_note,
        "",
        "Per data set, mean over seeds, without the units that no clip of it has:",
        "",
        *markdown_table(["data set", "macro F1", "binary F1", "units left out"], dataset_rows),
        "",
        "Per unit, over all seeds; recall and precision are of on:",
        "",
        *markdown_table(["unit", "macro F1", "binary F1", "recall", "precision", "clips"], unit_rows),
    ]


def draw_units(table: pd.DataFrame) -> Figure:
    """Draw macro F1 and binary F1 of each unit of a `unit_table`."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(table))
    axes.bar(places - 0.2, table["macro_f1"], 0.38, color="#a9c7e8", label="macro F1")
    axes.bar(places + 0.2, table["f1"], 0.38, color="#22578f", label="binary F1")
    axes.set_xticks(places, [f"{name}\n{count}" for name, count in table["support"].items()])
    axes.set(ylim=(0, 1), ylabel="F1", title="Held-out clips over all seeds; below a unit: how many have it")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
