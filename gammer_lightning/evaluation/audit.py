"""``gammer recognize audit``: a run scored honestly, and as much public code scores, side by side.

It trains as ``gammer recognize fit`` does, to the same weights and results. Beside that it notes after every epoch
which class is predicted for each held-out clip. From these notes it shows how far two habits lift the score of the very
same training: to take for each fold the epoch that does best on its test clips, and to average scores over folds
instead of scoring all clips at once. None of it is logged as a metric, so nothing can be chosen by it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gammer_lightning.data.clips.clip import is_microfaces
from gammer_lightning.escapes import markdown_cell
from gammer_lightning.evaluation.predictions import Predictions
from gammer_lightning.evaluation.results import MICROFACES_NOTE
from gammer_lightning.evaluation.scores import scores
from gammer_lightning.files import replacing, write_text
from gammer_lightning.reports.tables import markdown_table, mean_and_std

HONEST = "honest: last epoch, all clips scored at once"
OF_FOLDS = "LEAKY: last epoch, mean of each fold's own scores"
CHOSEN = "LEAKY: each fold's epoch chosen on its test clips, all clips scored at once"
CHOSEN_OF_FOLDS = "LEAKY: each fold's epoch chosen on its test clips, mean of each fold's own scores"
SHUFFLES = 100
NOTES = (
    "No skill: the same predictions, scored against labels that are shuffled over all clips (mean ± standard deviation "
    f"over {SHUFFLES} shuffles). What it gains from one line to the next is no skill either.",
    "The epoch is the first one at which most of the fold's test clips are right, as public code has it. A fold's own "
    "UF1 and UAR are means over the classes that its test clips have.",
    "Only the first line is a result. A mean over folds chooses nothing by test clips, but scores no clips.",
)


def fold_counts(
    predicted: np.ndarray, labels: Sequence[int] | np.ndarray, folds: Sequence[str], num_classes: int
) -> np.ndarray:
    """Count clips by true and predicted class, for each seed, epoch and fold.

    Args:
        predicted: Class index ``(S, E, n)``.
        labels: True class index of the n clips.
        folds: Name of the fold that held each clip out.
        num_classes: K.

    Returns:
        ``(S, E, F, K, K)``, folds in the order of their names.
    """
    names, fold = np.unique(folds, return_inverse=True)
    seeds, epochs, _ = predicted.shape
    counts = np.zeros((seeds, epochs, len(names), num_classes, num_classes), int)
    seed = np.arange(seeds)[:, None, None]
    epoch = np.arange(epochs)[:, None]
    np.add.at(counts, (seed, epoch, fold, np.asarray(labels), predicted), 1)
    return counts


def chosen_epochs(counts: np.ndarray) -> np.ndarray:
    """Return for each seed and fold the first epoch at which most of its test clips are right, ``(S, F)`` from 0."""
    return np.trace(counts, axis1=-2, axis2=-1).argmax(1)


def score_all_ways(counts: np.ndarray) -> dict[str, list[dict[str, float]]]:
    """Return for each way of scoring ``uf1``, ``uar`` and ``accuracy`` of each seed.

    Args:
        counts: From `fold_counts`.
    """
    last_counts = counts[:, -1]
    epochs = chosen_epochs(counts)[:, None, :, None, None]
    chosen_counts = np.take_along_axis(counts, epochs, 1)[:, 0]
    return {
        HONEST: list(map(_at_once, last_counts)),
        OF_FOLDS: list(map(_mean_of_folds, last_counts)),
        CHOSEN: list(map(_at_once, chosen_counts)),
        CHOSEN_OF_FOLDS: list(map(_mean_of_folds, chosen_counts)),
    }


def _at_once(folds: np.ndarray) -> dict[str, float]:
    return scores(folds.sum(0))


def _mean_of_folds(folds: np.ndarray) -> dict[str, float]:
    table = pd.DataFrame([scores(counts) for counts in folds])
    return table.mean().to_dict()


def summarise(predictions: Predictions, predicted: np.ndarray) -> dict[str, Any]:
    """Return the values of audit.json: mean, spread, every seed and the score without skill, for each way of scoring.

    Args:
        predictions: Those of the last epoch.
        predicted: Class index of each clip after each epoch, ``(S, E, n)``.
    """
    folds = predictions.folds

    def counts(labels: Sequence[int] | np.ndarray) -> np.ndarray:
        return fold_counts(predicted, labels, folds, len(predictions.class_names))

    confusion = counts(predictions.labels)
    no_skill = _no_skill(counts, predictions.labels)
    ways = {}
    for way, seed_scores in score_all_ways(confusion).items():
        ways[way] = {
            "leaky": way != HONEST,
            **_spread(seed_scores),
            "seeds": dict(zip(predictions.seeds, seed_scores, strict=True)),
            "no_skill": no_skill[way],
        }
    fold_names = sorted(set(folds))
    epochs_by_seed = {}
    for seed, epochs in zip(predictions.seeds, chosen_epochs(confusion), strict=True):
        numbers = (1 + epochs).tolist()
        epochs_by_seed[seed] = dict(zip(fold_names, numbers, strict=True))
    return {
        "protocol": predictions.protocol,
        "datasets": sorted({clip.dataset for clip in predictions.clips}),
        "clips": len(predictions.clips),
        "folds": len(fold_names),
        "epochs": predicted.shape[1],
        "ways": ways,
        "LEAKY_chosen_epochs": epochs_by_seed,
    }


def _no_skill(
    counts: Callable[[Sequence[int] | np.ndarray], np.ndarray], labels: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Return mean and spread over shuffles of the labels, of the mean over seeds, for each way of scoring."""
    rng = np.random.default_rng(0)
    means: dict[str, list[dict[str, float | None]]] = {}
    for _ in range(SHUFFLES):
        shuffled = rng.permutation(labels)
        for way, seed_scores in score_all_ways(counts(shuffled)).items():
            means.setdefault(way, []).append(_spread(seed_scores)["mean"])
    return {way: _spread(way_means) for way, way_means in means.items()}


def _spread(rows: Sequence[Mapping[str, float | None]]) -> dict[str, dict[str, float | None]]:
    """Return mean and sample standard deviation of each score; the latter None where there is one value."""
    table = pd.DataFrame(rows)
    std = table.std().to_dict() if len(rows) > 1 else dict.fromkeys(table)
    return {"mean": table.mean().to_dict(), "std": std}


def write_audit(run: Path, summary: dict[str, Any]) -> str:
    """Write audit.json, audit.md and figures/audit.png.

    Args:
        run: The run folder.
        summary: From `summarise`.

    Returns:
        The text of audit.md.
    """
    text = audit_text(summary)
    write_text(run / "audit.json", json.dumps(summary, indent=2) + "\n")
    write_text(run / "audit.md", text)
    with replacing(run / "figures/audit.png") as temporary:
        draw_audit(summary["ways"]).savefig(temporary, dpi=150)
    return text


def audit_text(summary: dict[str, Any]) -> str:
    """Return a summary as Markdown; every line of a score that leaks says LEAKY."""
    rows = []
    for way, figures in summary["ways"].items():
        cells = [_figure(figures, score) for score in ("uf1", "uar", "accuracy")]
        rows.append([way, *cells, _figure(figures["no_skill"], "uf1")])
    datasets = markdown_cell(", ".join(summary["datasets"]))
    head = f"{summary['clips']} clips in {summary['folds']} folds ({datasets}), {summary['epochs']} epochs"
    notes = list(NOTES)
    if any(map(is_microfaces, summary["datasets"])):
        notes.append(MICROFACES_NOTE)
    lines = [
        "# Audit: one training, scored in four ways",
        "",
        f"{head}; {summary['protocol']}. ±: standard deviation over seeds.",
        "",
        *markdown_table(["", "UF1", "UAR", "accuracy", "UF1 without skill"], rows),
        "",
        *(f"- {note}" for note in notes),
        "",
    ]
    return "\n".join(lines)


def _figure(figures: dict[str, Any], score: str) -> str:
    return mean_and_std(figures["mean"][score], figures["std"][score])


def draw_audit(ways: dict[str, dict[str, Any]]) -> Figure:
    """Draw UF1 of each way of scoring, of the run and of no skill, with their spreads."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    for index, figures in enumerate(ways.values()):
        colour = "#b3261e" if figures["leaky"] else "#22578f"
        _draw_bar(axes, index - 0.2, figures, colour)
        _draw_bar(axes, index + 0.2, figures["no_skill"], "0.75")
    labels = [way.replace(", ", ",\n").replace(": ", ":\n", 1) for way in ways]
    axes.set_yticks(range(len(ways)), labels, fontsize=8)
    axes.set(xlim=(0, 1.08), xlabel="UF1 (grey: no skill, labels shuffled)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    return figure


def _draw_bar(axes: Axes, y: float, figures: dict[str, Any], colour: str) -> None:
    mean = figures["mean"]["uf1"]
    std = figures["std"]["uf1"] or 0
    axes.barh(y, mean, 0.38, xerr=std, color=colour, ecolor="0.35", capsize=2)
    axes.text(mean + std + 0.01, y, f"{mean:.2f}", va="center", fontsize=8)
