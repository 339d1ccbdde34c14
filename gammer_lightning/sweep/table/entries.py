"""What a table says of each row of a study: figures, difference to the reference, published figures, notes."""

import itertools
import math
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gammer_lightning.data.clips.class_sets import FIVE, OBJECTIVE, THREE
from gammer_lightning.data.clips.clip import is_microfaces
from gammer_lightning.evaluation.comparison import Difference, differences, holm, pareto, subject_counts
from gammer_lightning.evaluation.published import DATASETS, METRICS, REMARK, TEXTS
from gammer_lightning.evaluation.scores import CLASS_SCORING, UNIT_SCORING, Scoring, scoring_of
from gammer_lightning.sweep.queue.attempt import host
from gammer_lightning.sweep.queue.study import Row
from gammer_lightning.sweep.spec import Sweep

SEVERAL = "composite"
UNITS = "units"
OBJECTIVE_CLASSES = "objective"
"""In place of the number of classes in a data key."""
NAMES = DATASETS | {SEVERAL: "composite"}


class Cost(NamedTuple):
    """Trainable values of one network, and the ms that a clip takes."""

    parameters: float
    milliseconds: float


class Judged(NamedTuple):
    """How a row judged its clips.

    Attributes:
        counts: ``(S, N, K, K)`` by seed, subject, true and predicted class, of units ``(S, N, K, 2, 2)``; None where it
            has none.
        note: Why it has none; empty where it has, or where the row is not done.
    """

    counts: np.ndarray | None
    note: str


@dataclass(frozen=True)
class Entry:
    """A row of a study and what is said of it.

    Attributes:
        sweep: The sweep.
        row: The row.
        is_reference: Whether the others are compared with it.
        difference: Its difference to the reference; None where both did not judge the same clips by the same
            protocol, or cannot be read.
        p_holm: The difference's p, corrected after Holm over the rows of the study.
        published: Accuracy and F1 in the paper by data set and number of classes: those that may stand beside it.
        published_metrics: What they are where the paper's heading does not say it; empty where it does.
        published_remark: What else is odd about them.
        is_optimal: Whether no other row of a search is as good in both metrics and better in one.
        notes: Footnotes.
    """

    sweep: Sweep
    row: Row
    is_reference: bool = False
    difference: Difference | None = None
    p_holm: float | None = None
    published: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    published_metrics: str = ""
    published_remark: str = ""
    is_optimal: bool = False
    notes: Sequence[str] = ()

    @property
    def command(self) -> str:
        """The command that reproduces the row."""
        return shlex.join(self.sweep.command(self.row.settings))

    @property
    def run(self) -> str:
        """The row's run folder, as seen from the current one where it lies below it: a table may be passed on."""
        run = self.row.run
        folder = Path.cwd()
        if run is None:
            return ""
        return str(run.relative_to(folder)) if run.is_relative_to(folder) else str(run)

    @property
    def parameters(self) -> float | None:
        """Trainable values of one network; None where the run did not log them."""
        return self.row.values.get("parameters")

    @property
    def milliseconds(self) -> float | None:
        """Time that a clip takes, ms: to make the network's input of it, and the network; None where not logged."""
        input_ms = self.row.values.get("input_ms")
        latency_ms = self.row.values.get("latency_ms")
        if input_ms is None or latency_ms is None:
            return None
        return input_ms + latency_ms

    @property
    def cost(self) -> Cost | None:
        """Parameters and milliseconds; None where one of them was not logged."""
        if self.parameters is None or self.milliseconds is None:
            return None
        return Cost(self.parameters, self.milliseconds)

    @property
    def results(self) -> dict[str, Any]:
        """What results.json says; empty where there is none."""
        return self.row.results or {}


def has_results(sweep: Sweep) -> bool:
    """Whether a sweep's table compares recognition results; that of a search, or over `magnify`, shows metrics."""
    return sweep.task == "recognize" and sweep.search is None


def scoring_of_entries(entries: Sequence[Entry]) -> Scoring:
    """Return what a study's first row with results is scored by; that of classes where none has any."""
    return next((scoring_of(entry.results["mean"]) for entry in entries if entry.results), CLASS_SCORING)


def differ_in_cost(entries: Sequence[Entry]) -> bool:
    """Whether the networks of a study differ in size twofold or more, so that a table says what each one costs."""
    sizes = [entry.parameters for entry in entries if entry.results and entry.parameters]
    return bool(sizes) and max(sizes) >= 2 * min(sizes)


def study_entries(sweep: Sweep, rows: Sequence[Row]) -> list[Entry]:
    """Return an entry for each row, in their order."""
    if not has_results(sweep):
        return _with_metrics(sweep, rows)
    judged = {row.name: _judged(row) for row in rows}
    reference = sweep.reference or next((row.name for row in rows), "")
    row_differences = _differences(rows, judged, reference)
    p_holm = holm({name: difference.p for name, difference in row_differences.items()})
    columns = _published_columns(sweep, rows)
    entries = []
    for row in rows:
        published = sweep.published.get(row.name, {})
        notes = (
            judged[row.name].note,
            _other_clips(row, rows, reference),
            _other_evaluation(row, rows, reference),
        )
        entry = Entry(
            sweep,
            row,
            is_reference=row.name == reference,
            difference=row_differences.get(row.name),
            p_holm=p_holm.get(row.name),
            published={key: published.get(key, ()) for key in columns},
            published_metrics=published.get(METRICS, ""),
            published_remark=published.get(REMARK, ""),
            notes=[note for note in notes if note],
        )
        entries.append(entry)
    return entries


def _with_metrics(sweep: Sweep, rows: Sequence[Row]) -> list[Entry]:
    names = []
    values = []
    for row in rows:
        row_values = objectives(sweep, row)
        if np.isfinite(row_values).all():
            names.append(row.name)
            values.append(row_values)
    optimal: set[str] = set()
    if len(sweep.metrics) == 2 and values:
        is_optimal = pareto(np.stack(values), sweep.modes)
        optimal = set(itertools.compress(names, is_optimal))
    entries = []
    for row in rows:
        note = _state_note(row)
        entry = Entry(sweep, row, is_optimal=row.name in optimal, notes=[note] if note else [])
        entries.append(entry)
    return entries


def objectives(sweep: Sweep, row: Row) -> np.ndarray:
    """Return the value of each of the sweep's metrics; NaN where the row has none, or did not complete."""
    if row.state != "complete":
        return np.full(len(sweep.metrics), math.nan)
    return np.array([row.values.get(metric, math.nan) for metric in sweep.metrics])


def ranked(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries as a table has them: of a search by the first metric, best first; others as they are."""
    sweep = entries[0].sweep
    if sweep.search is None:
        return list(entries)
    sign = -1 if sweep.modes[0] == "max" else 1

    def sort_key(entry: Entry) -> tuple[bool, float]:
        value = objectives(sweep, entry.row)[0]
        return math.isnan(value), sign * value

    return sorted(entries, key=sort_key)


def _state_note(row: Row) -> str:
    """Return why a row has no figures, or why they can no longer be looked into."""
    if row.state == "failed":
        return f"failed: {textwrap.shorten(row.error, 300)}" if row.error else "failed"
    if row.state != "complete" or (row.run and row.run.is_dir()):
        return ""
    if row.host and row.host != host():
        return f"run folder gone, or only on {row.host}"
    return "run folder gone"


def _judged(row: Row) -> Judged:
    note = _state_note(row)
    if note or row.state != "complete" or row.run is None:
        return Judged(None, note)
    if not row.results:
        return Judged(None, "no results.json")
    path = row.run / "predictions.csv"
    if not path.is_file():
        return Judged(None, "predictions.csv gone")
    try:
        counts = subject_counts(path, list(row.results["classes"]), scoring_of(row.results["mean"]))
    except (KeyError, ValueError):
        return Judged(None, "predictions.csv cannot be read")
    if not np.array_equal(counts.sum(1), list(row.results["confusion"].values())):
        return Judged(None, "predictions.csv is not that of these figures")
    return Judged(counts, "")


def _differences(rows: Sequence[Row], judged: Mapping[str, Judged], reference: str) -> dict[str, Difference]:
    results = {row.name: row.results for row in rows if row.results}
    if reference not in results:
        return {}
    counts = {}
    for name, (row_counts, _) in judged.items():
        if row_counts is None:
            continue
        same_clips = results[name]["clips_sha256"] == results[reference]["clips_sha256"]
        same_protocol = results[name]["protocol"] == results[reference]["protocol"]
        same_folds = results[name].get("folds") == results[reference].get("folds")  # trained on as many clips
        if same_clips and same_protocol and same_folds:
            counts[name] = row_counts
    scoring = scoring_of(results[reference]["mean"])
    return differences(counts, reference, scoring) if reference in counts else {}


def _other_clips(row: Row, rows: Sequence[Row], reference: str) -> str:
    """Return a note where a row judged other clips than the reference; empty where it did not, or has no results."""
    reference_row = next((row for row in rows if row.name == reference), None)
    if not row.results or reference_row is None or not reference_row.results:
        return ""
    if row.results["clips_sha256"] == reference_row.results["clips_sha256"]:
        return ""
    return f"other clips than those of {reference!r}"


def _other_evaluation(row: Row, rows: Sequence[Row], reference: str) -> str:
    """Return those of a row's clips, protocol and seeds, in words, that differ from those in the study's note."""
    usual = _usual(rows, reference)
    if not row.results or not usual:
        return ""
    texts = _evaluated(row.results)
    return "; ".join(text for text, usual_text in zip(texts, usual, strict=True) if text != usual_text)


def _usual(rows: Sequence[Row], reference: str) -> tuple[str, str, str] | None:
    """Return clips, protocol and seeds of the reference, or of the first row with results where it has none."""
    by_row = {row.name: row.results for row in rows if row.results}
    results = by_row.get(reference) or next(iter(by_row.values()), None)
    return _evaluated(results) if results else None


def data_key(results: Mapping[str, Any]) -> str:
    """Return the data set and its classes as `Sweep.published` names them.

    Returns:
        E.g. ``casme2_3``: their number, but ``casme2_objective`` of objective classes and ``casme2_units`` of units.
    """
    datasets = results["datasets"]
    dataset = datasets[0] if len(datasets) == 1 else SEVERAL
    if scoring_of(results["mean"]) is UNIT_SCORING:
        return f"{dataset}_{UNITS}"
    if set(results["classes"]) == set(OBJECTIVE):
        return f"{dataset}_{OBJECTIVE_CLASSES}"
    return f"{dataset}_{len(results['classes'])}"


def data_name(key: str) -> str:
    """Return a data key for people, e.g. ``CASME II, 3 classes``."""
    dataset, _, classes = key.rpartition("_")
    labels = UNIT_SCORING.noun if classes == UNITS else f"{classes} classes"
    return f"{NAMES.get(dataset, dataset)}, {labels}"


def _published_columns(sweep: Sweep, rows: Sequence[Row]) -> list[str]:
    """Return which published figures may stand beside a study: of its data and classes; for microfaces of all data."""
    results = next((row.results for row in rows if row.results), None)
    if results is None:
        return []
    study_key = data_key(results)
    dataset, _, classes = study_key.rpartition("_")
    if set(results["classes"]) not in (set(THREE), set(FIVE.get(dataset, ())), set(OBJECTIVE)):
        return []
    columns = []
    for figures in sweep.published.values():
        for key in figures:
            is_comparable = key == study_key or (is_microfaces(dataset) and key.endswith(f"_{classes}"))
            if key not in TEXTS and is_comparable and key not in columns:
                columns.append(key)
    return columns


def study_notes(entries: Sequence[Entry]) -> list[str]:
    """Return notes on a study: clips, protocol and seeds of its rows, and that its reference has no predictions."""
    reference = next((entry.row.name for entry in entries if entry.is_reference), "")
    rows = [entry.row for entry in entries]
    usual = _usual(rows, reference)
    if usual is None:
        return _without_reference(entries)
    study = entries[0].sweep.study
    if any(_other_evaluation(row, rows, reference) for row in rows):
        study += " (but where a row's footnote says otherwise)"
    return [f"{study}: {'; '.join(usual)}.", *_without_reference(entries)]


def _evaluated(results: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return clips, protocol and seeds in words."""
    data = ", ".join(NAMES.get(name, name) for name in results["datasets"])
    labels = f"{len(results['classes'])} {scoring_of(results['mean']).noun}"
    counts = f"{results['clips']} clips of {results['subjects']} subjects ({data}), {labels}"
    folds = f"over {results['folds']} folds" if "folds" in results else "over folds"  # older runs did not count them
    protocol = results["protocol"].replace("over folds", folds)
    noun = "seed" if len(results["seeds"]) == 1 else "seeds"
    seeds = ", ".join(map(str, results["seeds"]))
    return counts, protocol, f"{noun} {seeds}"


def _without_reference(entries: Sequence[Entry]) -> list[str]:
    reference = next((entry for entry in entries if entry.is_reference), None)
    has_rivals = any(entry.results and not entry.is_reference for entry in entries)
    if reference is None or not has_rivals or (reference.results and not reference.notes):
        return []
    row = reference.row
    reason = "; ".join(reference.notes) or f"it is {row.state}"
    return [f"{reference.sweep.study}: no differences, since the reference {row.name!r} has no predictions: {reason}."]
