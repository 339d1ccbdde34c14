"""``gammer recognize table``: the paper's Tables 1 and 2, its published rows beside runs of ours.

`gammer_lightning.evaluation.published` says where the published rows come from, and that they are no targets.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gammer_lightning.data.clips.class_sets import FIVE, THREE
from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.published import DATASETS, MEGC, NOTES, REMARKS, TABLES
from gammer_lightning.reports.tables import markdown_table, mean_and_std

if TYPE_CHECKING:
    from gammer_lightning.evaluation.run_results import RunResults

OURS = (
    "Ours: accuracy and UF1, or macro and binary F1 of action units, of pooled counts, mean ± standard deviation over "
    "seeds, each run's protocol in brackets."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer recognize table``."""
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run folders of `gammer recognize fit`")


def main(arguments: argparse.Namespace) -> None:
    """Print both tables; runs of other data sets, or of several, come after them.

    Raises:
        GammerError: A folder is no recognition run, or has no results.
    """
    results = {run: _results(run) for run in arguments.runs}
    for number, (classes, published) in enumerate(TABLES.items(), 1):
        print(f"Table {number}, {classes} classes\n\n{table(classes, published, results)}\n\n{_notes(classes)}\n")
    lines = []
    for run, result in results.items():
        if _column(result) is None:
            datasets = ", ".join(result.datasets)
            lines.append(f"- {run}: {_text(result)} on {datasets}, {len(result.classes)} {result.scoring.noun}")
    print(OURS)
    if lines:
        print("\n".join(["", "Other runs:", *lines]))


def _notes(classes: int) -> str:
    lines = [NOTES[classes]] if NOTES[classes] else []
    lines += REMARKS[classes].values()
    return "\n".join(lines)


def _results(run: str) -> "RunResults":
    from gammer_lightning.evaluation.run_results import RESULTS, RunResults
    from gammer_lightning.runs.folder import open_run

    path = open_run(run, "recognize").path / RESULTS
    if not path.is_file():
        raise GammerError(f"{run} has no results.json", "a fit that ended writes it", f"gammer recognize test {run}")
    return RunResults.from_file(path, f"write it again: gammer recognize test {path.parent}")


def table(classes: int, published: dict[str, Sequence[float | None]], results: "dict[str, RunResults]") -> str:
    """Return a Markdown table: a row for each published system, then a row for each run of that table.

    Args:
        classes: Number of classes, 3 or 5.
        published: The published rows.
        results: The results of each run, by its path.
    """
    columns = [name for name in DATASETS if classes == 3 or name != "smic"]
    head = ["system"]
    for name in columns:
        head += [f"{DATASETS[name]} accuracy", f"{DATASETS[name]} F1"]
    rows = []
    for system, figures in published.items():
        star = "*" if classes == 3 and system in MEGC else ""
        rows.append([f"{system}{star} (published)", *map(_figure, figures)])
    for run, result in results.items():
        name = result.datasets[0]
        if _column(result) == (classes, name):
            cells = ["-"] * (2 * len(columns))
            index = 2 * columns.index(name)
            cells[index] = _spread(result, "accuracy")
            cells[index + 1] = _spread(result, "uf1")
            rows.append([f"{run} ({_protocol(result)})", *cells])
    return "\n".join(markdown_table(head, rows))


def _column(result: "RunResults") -> tuple[int, str] | None:
    """Return the table (by its number of classes) and the data set of a run; None if it is in neither."""
    name, *other_datasets = result.datasets
    if other_datasets or name not in DATASETS:
        return None
    classes = set(result.classes)
    if classes not in (set(THREE), set(FIVE.get(name, ()))):
        return None
    return len(classes), name


def _protocol(result: "RunResults") -> str:
    name, _, _ = result.protocol.partition(";")
    return f"{name}, LEAKY" if "LEAKY" in result.protocol else name


def _figure(value: float | None) -> str:
    return "N/A" if value is None else f"{value:.4f}"


def _spread(result: "RunResults", metric: str) -> str:
    return mean_and_std(result.mean[metric], result.std[metric])


def _text(result: "RunResults") -> str:
    scores = list(result.scoring.headings.items())[:2]
    texts = [f"{heading} {_spread(result, name)}" for name, heading in scores]
    return f"{', '.join(texts)} ({_protocol(result)})"
