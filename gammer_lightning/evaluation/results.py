"""What a recognition run leaves in its folder: predictions, scores, MEGC logs, the clip list and figures."""

import json
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning.loggers import Logger, WandbLogger

from gammer_lightning.data.clips.clip import is_microfaces
from gammer_lightning.escapes import csv_table, markdown_cell
from gammer_lightning.evaluation.predictions import Predictions, UnitPredictions
from gammer_lightning.evaluation.run_results import RESULTS, RunResults
from gammer_lightning.evaluation.scores import UNIT_SCORING, class_scores, megc_log, scores
from gammer_lightning.evaluation.unit_results import draw_units, unit_lines, unit_table, unit_values
from gammer_lightning.faces.graph import GraphName, draw_graph
from gammer_lightning.files import replacing, write_text
from gammer_lightning.reports.tables import markdown_table, three_decimals

if TYPE_CHECKING:
    from gammer_lightning.data.recognition_data import RecognitionData

MICROFACES_NOTE = (
    "microfaces are generated clips of pseudo-subjects, made by default from two public-domain portraits: "
    "these figures test the pipeline and say nothing about real faces."
)
THUMBNAIL = 128
"""Side of a clip's picture in W&B's table, px: some 5 KB."""


def write_results(run: Path, predictions: Predictions) -> RunResults:
    """Write predictions.csv, clips.csv and its SHA-256, results.json, results.md and, of classes, a MEGC log a seed.

    Args:
        run: The run folder; files of an earlier test are replaced.
        predictions: Predictions of every clip.

    Returns:
        The content of results.json.
    """
    clip_list = csv_table(predictions.clip_table())
    clip_hash = sha256(clip_list.encode()).hexdigest()
    results = summarise(predictions, clip_hash)
    texts = {
        "predictions.csv": csv_table(predictions.table()),
        "clips.csv": clip_list,
        "clips.csv.sha256": f"{clip_hash}  clips.csv\n",
        RESULTS: json.dumps(results.as_dict(), indent=2) + "\n",
        "results.md": results_text(results),
    }
    if not isinstance(predictions, UnitPredictions):
        texts |= _megc_logs(predictions)
    for name, text in texts.items():
        write_text(run / name, text)
    return results


def _megc_logs(predictions: Predictions) -> dict[str, str]:
    names = [clip.name for clip in predictions.clips]
    logs = {}
    for seed, predicted in zip(predictions.seeds, predictions.predicted, strict=True):
        log = megc_log(predictions.subjects, names, predictions.labels, predicted)
        logs[f"megc_log_seed{seed}.txt"] = log
    return logs


def summarise(predictions: Predictions, clip_hash: str) -> RunResults:
    """Score predictions: by seed, their mean and sample standard deviation (None for one seed), and by class or unit.

    Args:
        predictions: Predictions of every clip.
        clip_hash: SHA-256 of clips.csv.
    """
    seeds = [str(seed) for seed in predictions.seeds]
    confusions = predictions.confusions
    if isinstance(predictions, UnitPredictions):
        seed_scores, values_of_units = unit_values(predictions)
    else:
        seed_scores, values_of_units = [scores(counts) for counts in confusions], {}
    per_seed = pd.DataFrame(seed_scores, index=seeds)
    std = per_seed.std().to_dict() if len(seeds) > 1 else dict.fromkeys(per_seed)
    by_class = _class_table(predictions)
    by_class["support"] //= len(seeds)
    apexes = Counter(clip.apex_origin for clip in predictions.clips)
    return RunResults(
        protocol=predictions.protocol,
        datasets=sorted({clip.dataset for clip in predictions.clips}),
        clips=len(predictions.clips),
        subjects=len(set(predictions.subjects)),
        folds=len(set(predictions.folds)),
        apexes=dict(apexes),
        clips_sha256=clip_hash,
        mean=per_seed.mean().to_dict(),
        std=std,
        seeds=per_seed.to_dict("index"),
        classes=by_class.to_dict("index"),
        confusion=dict(zip(seeds, confusions.tolist(), strict=True)),
        **values_of_units,
    )


def _class_table(predictions: Predictions) -> pd.DataFrame:
    """Return the scores of each class or unit over all seeds, a row for each."""
    counts = predictions.confusions.sum(0)
    if isinstance(predictions, UnitPredictions):
        return unit_table(counts, predictions.class_names)
    return pd.DataFrame(class_scores(counts), index=list(predictions.class_names))


def results_text(results: RunResults) -> str:
    """Return the tables of a run's results as Markdown."""
    notes = []
    if any(map(is_microfaces, results.datasets)):
        notes += [MICROFACES_NOTE, ""]
    if results.apexes and results.apexes.keys() != {"annotated"}:
        counts = ", ".join(f"{count} {origin}" for origin, count in results.apexes.items())
        notes += [f"Apexes: {counts}.", ""]
    datasets = markdown_cell(", ".join(results.datasets))
    head = f"{results.clips} clips of {results.subjects} subjects ({datasets})"
    lines = [
        "# Recognition results",
        "",
        f"{head}; {results.protocol}. Clip list: SHA-256 {results.clips_sha256}.",
        "",
        *notes,
        *(unit_lines(results) if results.scoring is UNIT_SCORING else _class_lines(results)),
        "",
    ]
    return "\n".join(lines)


def _class_lines(results: RunResults) -> list[str]:
    rows = [[f"seed {seed}", *three_decimals(values.values())] for seed, values in results.seeds.items()]
    rows.append(["mean", *three_decimals(results.mean.values())])
    rows.append(["std", *three_decimals(results.std.values())])
    class_rows = []
    for name, values in results.classes.items():
        decimals = three_decimals([values["f1"], values["recall"], values["precision"]])
        class_rows.append([name, *decimals, str(values["support"])])
    return [
        *markdown_table(["", "UF1", "UAR", "accuracy"], rows),
        "",
        "Per class, over all seeds:",
        "",
        *markdown_table(["class", "F1", "recall", "precision", "clips"], class_rows),
    ]


def write_figures(
    run: Path,
    predictions: Predictions,
    data: "RecognitionData",
    graph: tuple[Sequence[str], GraphName, np.ndarray | None] | None,
) -> None:
    """Write RUN/figures: confusion.png, or of units units.png, alphas.png (one apex at rising alpha), and graph.png.

    Args:
        run: The run folder.
        predictions: Predictions of every clip.
        data: The DataModule after its setup; its first clip is shown.
        graph: Facial regions of the graph, ``raw`` or ``optimised``, and the weight of each edge ``(N, N)``, None where
            the network has no attention; None where the network has no such graph.
    """
    alphas = [1.0, *sorted(set(data.alphas) - {1.0})]
    onset, *apexes = data.images(0, alphas)
    title = f"{data.clips[0].key}, {data.clips[0].emotion}"
    strip = {"onset": onset}
    for alpha, apex in zip(alphas, apexes, strict=True):
        strip["raw apex" if alpha == 1 else f"α = {alpha:g}"] = apex
    counts = predictions.confusions.sum(0)
    if isinstance(predictions, UnitPredictions):
        figures = {"units": draw_units(unit_table(counts, predictions.class_names))}
    else:
        figures = {"confusion": draw_confusion(counts, predictions.class_names, len(predictions.seeds))}
    figures["alphas"] = draw_strip(strip, title)
    if graph:
        figures["graph"] = draw_graph(onset, data.landmarks[0], *graph)
    for name, figure in figures.items():
        with replacing(run / "figures" / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=150)


def draw_confusion(counts: np.ndarray, class_names: Sequence[str], num_seeds: int) -> Figure:
    """Draw pooled counts ``(K, K)`` and the same as shares of each true class."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    panels = (
        (counts, "d", f"clips, summed over {num_seeds} seed(s)"),
        (shares, ".2f", "share of the true class"),
    )
    for axes, (values, style, title) in zip(figure.subplots(1, 2), panels, strict=True):
        draw_shares(axes, shares, values, style, class_names)
        axes.set(xlabel="predicted", ylabel="true", title=title)
    return figure


def draw_shares(axes: Axes, shares: np.ndarray, values: np.ndarray, style: str, class_names: Sequence[str]) -> None:
    """Draw a confusion matrix ``(K, K)`` coloured by shares of each true class, with values written in its cells."""
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, format(value, style), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(class_names)), class_names, rotation=30, parse_math=False)
    axes.set_yticks(range(len(class_names)), class_names, parse_math=False)


def draw_strip(images: dict[str, np.ndarray], title: str) -> Figure:
    """Draw images ``(H, W, 3)`` uint8 in a row, each under its name (the paper's Fig. 9)."""
    figure = Figure(figsize=(2 * len(images), 2.5), layout="constrained")
    for axes, (name, image) in zip(figure.subplots(1, len(images)), images.items(), strict=True):
        axes.imshow(image)
        axes.set_axis_off()
        axes.set_title(name, fontsize=10, parse_math=False)
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def log_results(loggers: Sequence[Logger], run: Path, predictions: Predictions, data: "RecognitionData") -> None:
    """Log figures and tables to W&B, if it is among the loggers; metrics.csv takes none.

    Args:
        loggers: Loggers of the run.
        run: The run folder, with its figures.
        predictions: Predictions of every clip.
        data: The DataModule after its setup, for a picture of each clip.
    """
    for logger in loggers:
        if not isinstance(logger, WandbLogger):
            continue
        for picture in sorted((run / "figures").glob("*.png")):
            logger.log_image(picture.stem, [str(picture)])
        by_class = _class_table(predictions)
        if isinstance(predictions, UnitPredictions):
            logger.log_table("units", dataframe=by_class.rename_axis("unit").reset_index())
        else:
            logger.log_table("classes", dataframe=by_class.rename_axis("class").reset_index())
            logger.log_metrics({"confusion_matrix": _confusion_chart(predictions)})
        columns, rows = _clip_pictures(predictions, data)
        logger.log_table("predictions", columns=columns, data=rows)


def _confusion_chart(predictions: Predictions) -> Any:
    from wandb.plot import confusion_matrix

    seeds = len(predictions.seeds)
    return confusion_matrix(
        y_true=[*predictions.labels] * seeds,
        preds=predictions.predicted.flatten().tolist(),
        class_names=list(predictions.class_names),
        title=f"Clips, summed over {seeds} seed(s)",
    )


def _clip_pictures(predictions: Predictions, data: "RecognitionData") -> tuple[list[str], list[list]]:
    """Return columns and rows of the clips, each with its apex as the networks were shown it."""
    from wandb import Image as Picture

    indices = {clip.key: index for index, clip in enumerate(data.clips)}
    table = predictions.by_clip()
    rows = []
    for clip, values in zip(predictions.clips, table.to_numpy(object).tolist(), strict=True):
        _, apex = data.images(indices[clip.key], [data.eval_alpha])
        picture = Picture(_thumbnail(apex), file_type="jpg")
        rows.append([picture, *values])
    return ["apex", *table], rows


def _thumbnail(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
