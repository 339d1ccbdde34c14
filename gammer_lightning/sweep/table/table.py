"""``gammer sweep table``: the rows of studies as Markdown, CSV, LaTeX, figures and a page."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gammer_lightning.errors import GammerError
from gammer_lightning.escapes import csv_table, markdown_cell, printable
from gammer_lightning.evaluation.run_results import are_results
from gammer_lightning.evaluation.scores import Scoring
from gammer_lightning.files import replacing
from gammer_lightning.reports.tables import markdown_table
from gammer_lightning.sweep.queue.study import Row
from gammer_lightning.sweep.spec import Sweep
from gammer_lightning.sweep.table.entries import Entry, has_results, ranked, scoring_of_entries, study_entries
from gammer_lightning.sweep.table.figures import draw_figures
from gammer_lightning.sweep.table.layout import NEGATIVE, Table, make_table
from gammer_lightning.sweep.table.page import page

LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
}


def write_table(studies: Sequence[tuple[Sweep, Sequence[Row]]], out: Path) -> str:
    """Write table.md, table.csv, table.tex, figures and index.html into a folder.

    Args:
        studies: Each study's sweep and its rows in planned order.
        out: The folder; files of an earlier table are replaced.

    Returns:
        The table as Markdown.

    Raises:
        GammerError: If a study has no rows, or a search is not alone.
    """
    _refuse(studies)
    entries = [study_entries(sweep, rows) for sweep, rows in studies]
    table = make_table(entries)
    pictures = draw_figures(entries)
    text = markdown(table)
    texts = {
        "table.md": f"# {markdown_cell(table.title)}\n\n{text}\n",
        "table.csv": csv(entries),
        "table.tex": latex(table),
        "index.html": page(table, pictures),
    }
    contents = {f"figures/{picture.name}.png": picture.png for picture in pictures}
    contents |= {name: content.encode(errors="backslashreplace") for name, content in texts.items()}
    for name, content in contents.items():
        with replacing(out / name) as temporary:
            temporary.write_bytes(content)
    return text


def _refuse(studies: Sequence[tuple[Sweep, Sequence[Row]]]) -> None:
    for sweep, rows in studies:
        if not rows:
            raise GammerError(
                f"the study {sweep.study} has no rows", "a table needs one", "gammer sweep run SWEEP.yaml"
            )
        if sweep.search and len(studies) > 1:
            rule = "the rows of a search are its own, so it has a table by itself"
            raise GammerError(f"the search {sweep.study} beside others", rule, f"gammer sweep table {sweep.study}")
        for row in rows:
            if row.results is not None and not are_results(row.results):
                raise GammerError(
                    f"the results of the row {row.name!r} of {sweep.study} in the storage are damaged",
                    "they are those of its results.json",
                    f"gammer sweep resume {sweep.study} --again {shlex.quote(row.name)}",
                )


def markdown(table: Table) -> str:
    """Return the table and its notes as Markdown; of several studies, each heading begins with its study's."""
    headings = list(table.headings)
    if len(table.groups) > 1:
        names = [name for name, width in table.groups for _ in range(width)]
        headings = [f"{name}: {heading}" for name, heading in zip(names, table.headings, strict=True)]
    rows = [[line.name, *(cell.text for cell in line.cells)] for line in table.lines]
    notes = [f"- {markdown_cell(note)}" for note in table.notes]
    lines = [*markdown_table(["row", *headings], rows), "", *notes]
    return "\n".join(lines)


def latex(table: Table) -> str:
    """Return the table as a booktabs tabular, with the notes in small print below it."""
    groups = []
    rules = []
    start = 2
    for name, width in table.groups:
        groups.append(rf"\multicolumn{{{width}}}{{c}}{{{_escaped(name)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    alignment = "l" + "r" * len(table.headings)
    rows = [_latex_row([line.name, *(cell.text for cell in line.cells)]) for line in table.lines]
    notes = [rf"{{\footnotesize {_escaped(note)}\par}}" for note in table.notes]
    lines = [
        r"% \usepackage{booktabs}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        " & ".join(["", *groups]) + r" \\",
        *rules,
        _latex_row(["row", *table.headings]),
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}\par\smallskip",
        *notes,
        "",
    ]
    return "\n".join(lines)


def _latex_row(texts: Sequence[str]) -> str:
    return " & ".join(map(_escaped, texts)) + r" \\"


def _escaped(text: str) -> str:
    """Escape for LaTeX; a line must not begin with a bracket, which the line break before it would swallow."""
    line = printable(" ".join(text.split()))
    escaped = "".join(LATEX.get(character, character) for character in line)
    signed = NEGATIVE.sub("$-$", escaped)
    return f"{{}}{signed}" if signed.startswith(("[", "*")) else signed


def csv(studies: Sequence[Sequence[Entry]]) -> str:
    """Return a line for each row of each study, with every number in a column of its own."""
    lines = []
    for entries in studies:
        scoring = scoring_of_entries(entries)
        lines += [_numbers(entry, scoring) for entry in ranked(entries)]
    return csv_table(pd.DataFrame(lines, dtype=object))  # object: a whole number stays one beside an empty cell


def _numbers(entry: Entry, scoring: Scoring) -> dict[str, Any]:
    row = entry.row
    identity = {"study": entry.sweep.study, "row": row.name, "state": row.state, "reference": entry.is_reference}
    figures: dict[str, Any]
    if has_results(entry.sweep):
        figures = _scores(entry, scoring)
    else:
        figures = {
            name: value if type(value) in (str, int, float) else json.dumps(value)
            for name, value in row.settings.items()
        }
        figures |= row.values
        if len(entry.sweep.metrics) == 2:
            figures["pareto"] = entry.is_optimal
    origin = {"host": row.host, "run": entry.run, "seconds": row.seconds, "error": row.error}
    return identity | figures | origin | {"command": entry.command}


def _scores(entry: Entry, scoring: Scoring) -> dict[str, Any]:
    columns = {}
    for score in scoring.headings:
        for statistic in ("mean", "std"):
            columns[f"{score}_{statistic}"] = entry.results.get(statistic, {}).get(score)
    difference = entry.difference
    columns[f"{scoring.main}_difference"] = difference.score if difference else None
    columns["difference_low"] = difference.low if difference else None
    columns["difference_high"] = difference.high if difference else None
    columns["p"] = difference.p if difference else None
    columns["p_holm"] = entry.p_holm
    for name in ("parameters", "input_ms", "latency_ms"):
        columns[name] = entry.row.values.get(name)
    for key, figures in entry.published.items():
        accuracy, f1 = figures or (None, None)
        columns[f"published_{key}_accuracy"] = accuracy
        columns[f"published_{key}_f1"] = f1
    if entry.published:
        columns["published_metrics"] = entry.published_metrics
    return columns
