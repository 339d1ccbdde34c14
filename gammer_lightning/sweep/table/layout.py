"""The table of studies, whatever it is written as: columns, cells, footnotes and notes."""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gammer_lightning.evaluation.comparison import RESAMPLES
from gammer_lightning.evaluation.results import MICROFACES_NOTE
from gammer_lightning.reports.tables import mean_and_std
from gammer_lightning.sweep.table.entries import (
    Entry,
    data_key,
    data_name,
    differ_in_cost,
    has_results,
    ranked,
    study_notes,
)

SPREAD = "±: sample standard deviation over seeds."
DIFFERENCE = (
    "ΔUF1: UF1 minus that of the reference, each a mean over seeds, with a 95 % bootstrap interval over subjects "
    f"({RESAMPLES:,} resamples, the same for both rows and all seeds). p: Wilcoxon signed-rank test of per-subject "
    "accuracies, in brackets corrected after Holm over the rows of the study. A dash: another protocol "
    "than the reference's, no predictions to compare, or none that differ."
)
PUBLISHED = (
    "Published: accuracy / F1 as the paper prints them, its own from a split that is not leave-one-subject-out, the "
    "others from as many protocols: to be looked at, no target."
)
ORIENTATION = "Published figures beside microfaces are of other data: for orientation only."
COST = (
    "ms per clip: to make the network's input (magnified where the row's is, its face found before) and the network, "
    "one clip at a time, as the row's own run measured it; rows that run at once share the machine."
)
NEGATIVE = re.compile(r"(?<![\w.])-(?=\.?\d)")
"""The sign of a number, where it is one: LaTeX and HTML have a better one than the hyphen."""
PARETO = "Pareto: no other row is as good in both metrics and better in one."


@dataclass(frozen=True)
class Cell:
    """A cell: its text, what its column sorts by (None: comes last), and its footnotes."""

    text: str = ""
    value: float | str | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Line:
    """A row of the table, with its entry in each study that has it."""

    name: str
    cells: Sequence[Cell]
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Table:
    """Studies side by side.

    Attributes:
        title: Names of the studies.
        groups: Heading of each study and its number of columns.
        headings: Heading of each column after the row's name.
        lines: The rows.
        notes: What stands below; footnotes first.
    """

    title: str
    groups: Sequence[tuple[str, int]]
    headings: Sequence[str]
    lines: Sequence[Line]
    notes: Sequence[str]


Column = tuple[str, Callable[[Entry], Cell]]


def make_table(studies: Sequence[Sequence[Entry]]) -> Table:
    """Put studies side by side: the rows of all of them, a group of columns for each.

    Args:
        studies: The entries of each study, at least one.
    """
    studies = [ranked(entries) for entries in studies]
    columns = [_columns(entries) for entries in studies]
    by_name = [{entry.row.name: entry for entry in entries} for entries in studies]
    lines = [
        _line(name, [entries.get(name) for entries in by_name], columns)
        for name in dict.fromkeys(name for entries in by_name for name in entries)
    ]
    footnotes = list(dict.fromkeys(note for line in lines for cell in line.cells for note in cell.notes))
    return Table(
        ", ".join(entries[0].sweep.study for entries in studies),
        [(heading, len(group)) for heading, group in zip(_groups(studies), columns, strict=True)],
        [heading for group in columns for heading, _ in group],
        [replace(line, cells=[_marked(cell, footnotes) for cell in line.cells]) for line in lines],
        [f"[{number}] {text}" for number, text in enumerate(footnotes, 1)] + _notes(studies),
    )


def _marked(cell: Cell, footnotes: Sequence[str]) -> Cell:
    return replace(cell, text=cell.text + "".join(f" [{footnotes.index(note) + 1}]" for note in cell.notes))


def _line(name: str, entries: Sequence[Entry | None], columns: Sequence[Sequence[Column]]) -> Line:
    groups = zip(entries, columns, strict=True)
    cells = [cell for entry, group in groups for cell in _cells(entry, group)]
    return Line(name, cells, [entry for entry in entries if entry])


def _cells(entry: Entry | None, columns: Sequence[Column]) -> list[Cell]:
    """Return the cells of a row in one study; its state, where it has no figures, and its footnotes in one of them."""
    if entry is None:
        return [Cell() for _ in columns]
    cells = [cell(entry) for _, cell in columns]
    at = -1 if entry.sweep.search else 0
    text = cells[at].text or ("-" if entry.row.state == "complete" else entry.row.state)
    cells[at] = replace(cells[at], text=text, notes=entry.notes)
    return cells


def _groups(studies: Sequence[Sequence[Entry]]) -> list[str]:
    """Return the heading of each study: its data, and its name where the data alone do not tell it from another."""
    names = [entries[0].sweep.study for entries in studies]
    data = [data_name(key) if (key := _own_key(entries)) else "" for entries in studies]
    if all(data) and len(set(data)) == len(data):
        return data
    return [f"{name}: {text}" if text else name for name, text in zip(names, data, strict=True)]


def _own_key(entries: Sequence[Entry]) -> str:
    return next((data_key(entry.results) for entry in entries if entry.results), "")


def _columns(entries: Sequence[Entry]) -> list[Column]:
    sweep = entries[0].sweep
    if has_results(sweep):
        published = list(entries[0].published)
        return [
            *(_score(*column) for column in (("accuracy", "accuracy"), ("UF1", "uf1"), ("UAR", "uar"))),
            ("ΔUF1 [95 %]", _difference),
            ("p (Holm)", _p),
            *([("parameters", _parameters), ("ms per clip", _milliseconds)] if differ_in_cost(entries) else []),
            *(_published(key, _own_key(entries)) for key in published),
        ]
    metrics = sweep.metrics or list(dict.fromkeys(name for entry in entries for name in entry.row.values))
    columns = [_value(name) for name in metrics]
    if not sweep.search:
        return columns or [("state", _state)]
    settings = dict.fromkeys(setting for entry in entries for setting in entry.row.settings)
    pareto = [("Pareto", _pareto)] * (len(metrics) == 2)
    return [*map(_setting, settings), *columns, *pareto, ("state", _state)]


def _score(heading: str, metric: str) -> Column:
    def cell(entry: Entry) -> Cell:
        if not entry.results:
            return Cell()
        mean, std = entry.results["mean"][metric], entry.results["std"][metric]
        return Cell(mean_and_std(mean, std), mean)

    return heading, cell


def _difference(entry: Entry) -> Cell:
    if entry.is_reference:
        return Cell("reference", 0.0)
    if (difference := entry.difference) is None:
        return Cell("-" if entry.results else "")
    return Cell(f"{difference.uf1:+.3f} [{difference.low:.3f}, {difference.high:.3f}]", difference.uf1)


def _p(entry: Entry) -> Cell:
    p = entry.difference.p if entry.difference else None
    if p is None or entry.p_holm is None:
        return Cell("-" if entry.results and not entry.is_reference else "")
    return Cell(f"{_probability(p)} ({_probability(entry.p_holm)})", p)


def _probability(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "<.001"


def _parameters(entry: Entry) -> Cell:
    if (count := entry.parameters) is None:
        return Cell()
    return Cell(f"{count:,.0f}" if count < 1e6 else f"{count / 1e6:.1f} M", count)


def _milliseconds(entry: Entry) -> Cell:
    if (time := entry.milliseconds) is None:
        return Cell()
    return Cell(f"{time:.0f}" if time >= 100 else f"{time:.1f}", time)


def _published(key: str, measured_key: str) -> Column:
    def cell(entry: Entry) -> Cell:
        figures = entry.published[key]
        if not any(figures):
            return Cell("N/A" if figures else "")
        metrics, remark = entry.published_metrics, entry.published_remark
        notes = [f"published figures that are {metrics}, whatever the paper's heading says"] if metrics else []
        notes += [remark] if remark else []
        text = " / ".join("N/A" if figure is None else f"{figure:.4f}" for figure in figures)
        return Cell(text, figures[0], notes)

    return "published" if key == measured_key else f"published: {data_name(key)}", cell


def _value(metric: str) -> Column:
    def cell(entry: Entry) -> Cell:
        value = entry.row.values.get(metric)
        return Cell() if value is None else Cell(f"{value:.4g}", value if math.isfinite(value) else None)

    return metric, cell


def _setting(name: str) -> Column:
    def cell(entry: Entry) -> Cell:
        return _plain(entry.row.settings[name]) if name in entry.row.settings else Cell()

    return name, cell


def _plain(value: Any) -> Cell:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell(f"{value:.4g}", value)
    text = value if isinstance(value, str) else json.dumps(value)
    return Cell(text, text)


def _pareto(entry: Entry) -> Cell:
    return Cell("yes", 1.0) if entry.is_optimal else Cell()


def _state(entry: Entry) -> Cell:
    return Cell(entry.row.state, entry.row.state)


def _notes(studies: Sequence[Sequence[Entry]]) -> list[str]:
    sweep, entries = studies[0][0].sweep, [entry for entries in studies for entry in entries]
    data = {name for entry in entries for name in entry.results.get("datasets", ())}
    published = any(entry.published for entry in entries)
    compared = any(entry.results and has_results(entry.sweep) for entry in entries)
    notes = {
        f"Sorted by {sweep.metrics[0]} ({sweep.modes[0]})." if sweep.search else "": True,
        PARETO: len(sweep.metrics) == 2,
        SPREAD: compared,
        DIFFERENCE: compared,
        MICROFACES_NOTE: "microfaces" in data,
        COST: any(map(differ_in_cost, studies)) and compared,
        PUBLISHED: published,
        ORIENTATION: published and "microfaces" in data,
    }
    of_studies = [note for entries in studies for note in study_notes(entries)]
    return of_studies + [note for note, applies in notes.items() if note and applies]
