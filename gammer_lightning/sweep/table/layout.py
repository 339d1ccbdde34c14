"""The table of studies, whatever it is written as: columns, cells, footnotes and notes."""

import itertools
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from scipy.stats import spearmanr

from gammer_lightning.data.clips.clip import is_microfaces
from gammer_lightning.evaluation.comparison import RESAMPLES
from gammer_lightning.evaluation.results import MICROFACES_NOTE
from gammer_lightning.evaluation.scores import UNIT_SCORING
from gammer_lightning.evaluation.unit_results import MEANS
from gammer_lightning.reports.tables import mean_and_std
from gammer_lightning.sweep.table.entries import (
    Entry,
    data_key,
    data_name,
    differ_in_cost,
    has_results,
    ranked,
    scoring_of_entries,
    study_notes,
)

SPREAD = "±: sample standard deviation over seeds."
DIFFERENCE = (
    "Δ{score}: {score} minus that of the reference, each a mean over seeds, with a 95 % bootstrap interval over "
    f"subjects ({RESAMPLES:,} resamples, the same for both rows and all seeds). p: Wilcoxon signed-rank test of "
    "per-subject accuracies, in brackets corrected after Holm over the rows of the study. A dash: another protocol "
    "than the reference's, no predictions to compare, or none that differ."
)
PUBLISHED = (
    "Published: accuracy / F1 as the paper prints them, its own from a split that is not leave-one-subject-out, the "
    "others from as many protocols: to be looked at, no target."
)
ORIENTATION = "Published figures beside microfaces are of other data: for orientation only."
UNITS_NOTE = (
    "{study}: {means} Accuracies are shares of right decisions. Predicting every unit of every clip has macro F1 "
    "{macro:.3f} and binary F1 {binary:.3f}."
)
COST = (
    "ms per clip: to make the network's input (magnified where the row's is, its face found before) and the network, "
    "one clip at a time, as the row's own run measured it; rows that run at once share the machine."
)
NEGATIVE = re.compile(r"(?<![\w.])-(?=\.?\d)")
"""The sign of a number, where it is one: LaTeX and HTML have a better one than the hyphen."""
FEWEST_RANKED = 3
"""Fewest rows whose ranks are compared with those of published figures."""
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
    entries_by_name = [{entry.row.name: entry for entry in entries} for entries in studies]
    names = list(dict.fromkeys(itertools.chain(*entries_by_name)))
    footnotes: list[str] = []
    lines = []
    for name in names:
        row_entries = [by_name.get(name) for by_name in entries_by_name]
        cells: list[Cell] = []
        for entry, group in zip(row_entries, columns, strict=True):
            cells += [_marked(cell, footnotes) for cell in _cells(entry, group)]
        line = Line(name, cells, [entry for entry in row_entries if entry])
        lines.append(line)
    groups = [(heading, len(group)) for heading, group in zip(_groups(studies), columns, strict=True)]
    numbered_footnotes = [f"[{number}] {text}" for number, text in enumerate(footnotes, 1)]
    return Table(
        title=", ".join(entries[0].sweep.study for entries in studies),
        groups=groups,
        headings=[heading for group in columns for heading, _ in group],
        lines=lines,
        notes=numbered_footnotes + _notes(studies),
    )


def _marked(cell: Cell, footnotes: list[str]) -> Cell:
    """Return a cell with the numbers of its footnotes behind its text; new footnotes are added to the list."""
    text = cell.text
    for note in cell.notes:
        if note not in footnotes:
            footnotes.append(note)
        text += f" [{footnotes.index(note) + 1}]"
    return replace(cell, text=text)


def _cells(entry: Entry | None, columns: Sequence[Column]) -> list[Cell]:
    """Return the cells of a row in one study.

    The first one, of a search the last one, has the footnotes, and the row's state where it would be empty.
    """
    if entry is None:
        return [Cell() for _ in columns]
    cells = [make_cell(entry) for _, make_cell in columns]
    index = -1 if entry.sweep.search else 0
    state = "-" if entry.row.state == "complete" else entry.row.state
    cells[index] = replace(cells[index], text=cells[index].text or state, notes=entry.notes)
    return cells


def _groups(studies: Sequence[Sequence[Entry]]) -> list[str]:
    """Return the heading of each study: its data, and its name where the data alone do not tell it from another."""
    names = [entries[0].sweep.study for entries in studies]
    data = []
    for entries in studies:
        key = _study_key(entries)
        data.append(data_name(key) if key else "")
    if all(data) and len(set(data)) == len(data):
        return data
    return [f"{name}: {text}" if text else name for name, text in zip(names, data, strict=True)]


def _study_key(entries: Sequence[Entry]) -> str:
    """Return the data key of a study's first row with results; empty where none has any."""
    return next((data_key(entry.results) for entry in entries if entry.results), "")


def _columns(entries: Sequence[Entry]) -> list[Column]:
    sweep = entries[0].sweep
    if has_results(sweep):
        scoring = scoring_of_entries(entries)
        columns = [_score(heading, score) for score, heading in scoring.headings.items()]
        columns += [(f"Δ{scoring.main_heading} [95 %]", _difference), ("p (Holm)", _p)]
        if differ_in_cost(entries):
            columns += [("parameters", _parameters), ("ms per clip", _milliseconds)]
        study_key = _study_key(entries)
        columns += [_published(key, study_key) for key in entries[0].published]
        return columns
    metrics = sweep.metrics or list(dict.fromkeys(name for entry in entries for name in entry.row.values))
    columns = [_value(name) for name in metrics]
    if not sweep.search:
        return columns or [("state", _state)]
    settings = dict.fromkeys(setting for entry in entries for setting in entry.row.settings)
    columns = [_setting(name) for name in settings] + columns
    if len(metrics) == 2:
        columns.append(("Pareto", _pareto))
    columns.append(("state", _state))
    return columns


def _score(heading: str, metric: str) -> Column:
    def cell(entry: Entry) -> Cell:
        if not entry.results:
            return Cell()
        if metric not in entry.results["mean"]:
            return Cell("-")
        mean = entry.results["mean"][metric]
        std = entry.results["std"][metric]
        return Cell(mean_and_std(mean, std), mean)

    return heading, cell


def _difference(entry: Entry) -> Cell:
    if entry.is_reference:
        return Cell("reference", 0.0)
    difference = entry.difference
    if difference is None:
        return Cell("-" if entry.results else "")
    return Cell(f"{difference.score:+.3f} [{difference.low:.3f}, {difference.high:.3f}]", difference.score)


def _p(entry: Entry) -> Cell:
    p = entry.difference.p if entry.difference else None
    if p is None or entry.p_holm is None:
        return Cell("-" if entry.results and not entry.is_reference else "")
    return Cell(f"{_probability(p)} ({_probability(entry.p_holm)})", p)


def _probability(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "<.001"


def _parameters(entry: Entry) -> Cell:
    count = entry.parameters
    if count is None:
        return Cell()
    text = f"{count:,.0f}" if count < 1e6 else f"{count / 1e6:.1f} M"
    return Cell(text, count)


def _milliseconds(entry: Entry) -> Cell:
    time = entry.milliseconds
    if time is None:
        return Cell()
    text = f"{time:.0f}" if time >= 100 else f"{time:.1f}"
    return Cell(text, time)


def _published(key: str, measured_key: str) -> Column:
    def cell(entry: Entry) -> Cell:
        figures = entry.published[key]
        if not any(figures):
            return Cell("N/A" if figures else "")
        notes = []
        if entry.published_metrics:
            metrics = entry.published_metrics
            notes.append(f"published figures that are {metrics}, whatever the paper's heading says")
        if entry.published_remark:
            notes.append(entry.published_remark)
        text = " / ".join("N/A" if figure is None else f"{figure:.4f}" for figure in figures)
        return Cell(text, figures[0], notes)

    return "published" if key == measured_key else f"published: {data_name(key)}", cell


def _value(metric: str) -> Column:
    def cell(entry: Entry) -> Cell:
        value = entry.row.values.get(metric)
        if value is None:
            return Cell()
        return Cell(f"{value:.4g}", value if math.isfinite(value) else None)

    return metric, cell


def _setting(name: str) -> Column:
    def cell(entry: Entry) -> Cell:
        if name not in entry.row.settings:
            return Cell()
        value = entry.row.settings[name]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return Cell(f"{value:.4g}", value)
        text = value if isinstance(value, str) else json.dumps(value)
        return Cell(text, text)

    return name, cell


def _pareto(entry: Entry) -> Cell:
    return Cell("yes", 1.0) if entry.is_optimal else Cell()


def _state(entry: Entry) -> Cell:
    return Cell(entry.row.state, entry.row.state)


def _score_notes(studies: Sequence[Sequence[Entry]]) -> list[str]:
    """Return what the scores and differences of the studies are, and of action units what a constant scores."""
    notes = []
    for entries in studies:
        if not any(entry.results for entry in entries):
            continue
        scoring = scoring_of_entries(entries)
        notes.append(DIFFERENCE.format(score=scoring.main_heading))
        if scoring is UNIT_SCORING:
            all_on = next(entry.results["constants"]["all on"] for entry in entries if "constants" in entry.results)
            note = UNITS_NOTE.format(
                study=entries[0].sweep.study, means=MEANS, macro=all_on["macro_f1"], binary=all_on["binary_f1"]
            )
            notes.append(note)
    return list(dict.fromkeys(notes))


def _notes(studies: Sequence[Sequence[Entry]]) -> list[str]:
    sweep = studies[0][0].sweep
    entries = list(itertools.chain(*studies))
    has_microfaces = any(any(map(is_microfaces, entry.results.get("datasets", ()))) for entry in entries)
    has_published = any(entry.published for entry in entries)
    has_scores = any(entry.results and has_results(entry.sweep) for entry in entries)
    notes = [note for study in studies for note in study_notes(study)]
    if sweep.search:
        notes.append(f"Sorted by {sweep.metrics[0]} ({sweep.modes[0]}).")
    if len(sweep.metrics) == 2:
        notes.append(PARETO)
    if has_scores:
        notes += [SPREAD, *_score_notes(studies)]
    if has_microfaces:
        notes.append(MICROFACES_NOTE)
    if has_scores and any(map(differ_in_cost, studies)):
        notes.append(COST)
    if has_published:
        notes.append(PUBLISHED)
    if has_published and has_microfaces:
        notes.append(ORIENTATION)
    return notes + [note for study in studies for note in _rank_correlations(study)]


def _rank_correlations(entries: Sequence[Entry]) -> list[str]:
    """Return how far the rows of a study rank by UF1 as by each published F1, where three rows or more have both."""
    notes = []
    for key in entries[0].published:
        pairs = []
        for entry in entries:
            _, published_f1 = entry.published[key] or (None, None)
            if entry.results and published_f1 is not None:
                pairs.append((entry.results["mean"]["uf1"], published_f1))
        if len(pairs) >= FEWEST_RANKED:
            correlation = spearmanr(*zip(*pairs, strict=True)).statistic
            notes.append(
                f"{entries[0].sweep.study}: rank correlation (Spearman) of UF1 with the published F1 of "
                f"{data_name(key)} over {len(pairs)} rows: {correlation:.2f}."
            )
    return notes
