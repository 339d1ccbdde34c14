"""Figures of sweeps, after the paper's Figs. 6 to 9; those that make no sense for a study are not drawn."""

import itertools
import json
import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator
from matplotlib.transforms import Bbox

from gammer_lightning.data.clips.clip import is_microfaces
from gammer_lightning.evaluation.results import draw_shares
from gammer_lightning.evaluation.scores import CLASS_SCORING
from gammer_lightning.sweep.table.entries import (
    Entry,
    data_key,
    data_name,
    differ_in_cost,
    has_results,
    objectives,
    scoring_of_entries,
)

DPI = 150
MAX_ROWS = 100
"""With more rows, figures that have a bar or a panel for each are not drawn: nobody reads such large ones."""
PNG_START = b"\x89PNG\r\n\x1a\n"
COLOURS = {"accuracy": "#a9c7e8", "uf1": "#22578f"}
LICENCE = "whether its faces may be shown to others is for the data set's licence to say"


@dataclass(frozen=True)
class Picture:
    """A figure as a file.

    Attributes:
        name: Name of the file without its suffix.
        alt: What it shows, for people who do not see it.
        png: Its content.
    """

    name: str
    alt: str
    png: bytes


def draw_figures(studies: Sequence[Sequence[Entry]]) -> list[Picture]:
    """Draw what the studies give cause for: bars over all of them, then figures of each.

    Args:
        studies: The entries of each study, in planned order.
    """
    with matplotlib.rc_context(
        {"font.size": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False}
    ):
        pictures = list(_draw_all(studies))
        for entries in studies:
            pictures += _draw_study(entries)
    return pictures


def _draw_all(studies: Sequence[Sequence[Entry]]) -> Iterator[Picture]:
    """Draw the figures that have a panel for each study."""
    studies_with_results = []
    for entries in studies:
        entries_with_results = [entry for entry in entries if entry.results]
        if entries_with_results and has_results(entries[0].sweep):
            studies_with_results.append(entries_with_results)
    if studies_with_results and max(map(len, studies_with_results)) <= MAX_ROWS:
        scores = [" and ".join(_bar_scores(entries).values()) for entries in studies_with_results]
        alt = f"Scores of each row ({', '.join(dict.fromkeys(scores))}), with the standard deviation over seeds"
        yield _picture("scores", alt, bars(studies_with_results))
        yield _picture("classes", "F1 of each class by row, over all seeds", class_bars(studies_with_results))


def _draw_study(entries: Sequence[Entry]) -> Iterator[Picture]:
    sweep = entries[0].sweep
    study = sweep.study
    scored = [entry for entry in entries if not math.isnan(_score(entry))]
    scoring = scoring_of_entries(entries)
    if scored and has_results(sweep) and len(scored) <= MAX_ROWS and scoring is CLASS_SCORING:
        alt = f"{study}: confusion matrices of each row over all seeds, shares of the true class"
        yield _picture(f"confusion-{study}", alt, confusions(scored))
    with_costs = [entry for entry in scored if entry.cost]
    if with_costs and has_results(sweep) and differ_in_cost(entries):
        heading = _bubble_score(entries)[1]
        alt = f"{study}: {heading} against time per clip; a bubble's area grows with the square root of the parameters"
        yield _picture(f"cost-{study}", alt, bubbles(with_costs))
    if scored and len(_varied(entries)) > 1:
        yield _picture(f"heat-{study}", f"{study}: {_score_name(entries)} over the grid", heat_map(entries))
    if scored and sweep.search:
        alt = f"{study}: {' and '.join(sweep.metrics)} of each trial"
        figure = trials(entries) if len(sweep.metrics) == 1 else front(entries)
        yield _picture(f"trials-{study}", alt, figure)
    yield from _strip(entries)


def _picture(name: str, alt: str, figure: Figure) -> Picture:
    png = BytesIO()
    figure.savefig(png, format="png", dpi=DPI)
    return Picture(name, alt, png.getvalue())


def _strip(entries: Sequence[Entry]) -> Iterator[Picture]:
    """Take the paper's Fig. 9 from the first run that has it."""
    for entry in entries:
        if entry.row.state != "complete" or not entry.row.run:
            continue
        path = entry.row.run / "figures/alphas.png"
        png = path.read_bytes() if path.is_file() else b""
        if png.startswith(PNG_START):
            alt = f"{entry.sweep.study}: one apex at rising alpha"
            if not all(map(is_microfaces, entry.results.get("datasets", ("",)))):
                alt += f"; {LICENCE}"
            yield Picture(f"alphas-{entry.sweep.study}", alt, png)
            return


def _panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of ``count`` panels, each of a size in inches."""
    rows = math.ceil(count / columns)
    columns = min(columns, count)
    layout = ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1)
    figure = Figure(figsize=(columns * width, rows * height), layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, list(axes[:count])


def bars(studies: Sequence[Sequence[Entry]]) -> Figure:
    """Draw accuracy and UF1, or macro and binary F1 of units, of each row, a panel for each study (as Figs. 7 and 8).

    Args:
        studies: Entries with results. A diamond is the published figure of the same data.
    """
    width = 6.5 if len(studies) == 1 else 5
    height = 1.2 + 0.45 * max(map(len, studies))
    figure, panels = _panels(len(studies), 2, width, height)
    for axes, entries in zip(panels, studies, strict=True):
        for index, (score, heading) in enumerate(_bar_scores(entries).items()):
            _bars_of_score(axes, entries, index, score, heading)
        axes.set_yticks(range(len(entries)), [_cut(entry.row.name) for entry in entries])
        axes.set(xlim=(0, 1), title=_title(entries[0]))
        axes.invert_yaxis()
    handles: dict[str, Artist] = {}
    for axes in panels:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _bar_scores(entries: Sequence[Entry]) -> dict[str, str]:
    """Return the two scores that bars show of a study, and their headings."""
    headings = scoring_of_entries(entries).headings
    return dict(itertools.islice(headings.items(), 2))


def _bars_of_score(axes: Axes, entries: Sequence[Entry], index: int, score: str, heading: str) -> None:
    means = [entry.results["mean"].get(score, math.nan) for entry in entries]
    stds = [entry.results["std"].get(score) or 0 for entry in entries]
    places = np.arange(len(entries)) + 0.4 * index - 0.2
    colour = [*COLOURS.values()][index]
    axes.barh(places, means, 0.38, xerr=stds, color=colour, ecolor="0.35", capsize=2, label=heading)
    x, y = [], []
    for entry, place in zip(entries, places, strict=True):
        published = _published(entry)[index]
        if published is not None:
            x.append(published)
            y.append(place)
    if x:
        label = "published, another split" if index else None
        axes.scatter(x, y, 22, "white", marker="D", edgecolors="black", zorder=3, label=label)


def _published(entry: Entry) -> Sequence[float | None]:
    """Return published accuracy and F1 of the same data; None where there is none, or it is of other metrics."""
    figures = entry.published.get(data_key(entry.results))
    return figures if figures and not entry.published_metrics else (None, None)


def class_bars(studies: Sequence[Sequence[Entry]]) -> Figure:
    """Draw F1 of each class or unit over all seeds, a bar for each row and a panel for each study.

    Args:
        studies: Entries with results.
    """
    names = list(dict.fromkeys(entry.row.name for entries in studies for entry in entries))
    height = max(3.2, 0.7 + 0.19 * len(names))
    figure, panels = _panels(len(studies), 1, 11, height)
    colours = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.95, len(names)))
    width = 0.85 / len(names)
    middle = (len(names) - 1) / 2
    for axes, entries in zip(panels, studies, strict=True):
        classes = list(entries[0].results["classes"])
        for entry in entries:
            index = names.index(entry.row.name)
            scores = entry.results["classes"]
            f1 = [scores.get(name, {}).get("f1", math.nan) for name in classes]
            places = np.arange(len(classes)) + (index - middle) * width
            axes.bar(places, f1, width, color=colours[index], label=_cut(entry.row.name))
        axes.set_xticks(range(len(classes)), classes)
        axes.set(ylim=(0, 1), ylabel="F1", title=_title(entries[0]))
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    return figure


def confusions(entries: Sequence[Entry]) -> Figure:
    """Draw the confusion matrix of each row, pooled over folds and seeds (the paper's Fig. 6).

    Args:
        entries: Entries with results.
    """
    columns = 4
    figure, panels = _panels(len(entries), columns, 2.9, 2.9)
    for index, (axes, entry) in enumerate(zip(panels, entries, strict=True)):
        counts = np.sum(list(entry.results["confusion"].values()), axis=0)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        draw_shares(axes, shares, shares, ".2f", list(entry.results["classes"]))
        axes.set_title(textwrap.fill(_cut(entry.row.name), 32))
        axes.spines[:].set_visible(False)
        is_first_column = index % columns == 0
        is_last_row = index + columns >= len(entries)
        axes.tick_params(labelleft=is_first_column, labelbottom=is_last_row, length=0)
    figure.supxlabel("predicted", fontsize=9)
    figure.supylabel("true", fontsize=9)
    return figure


def bubbles(entries: Sequence[Entry]) -> Figure:
    """Draw accuracy, or macro F1 of units, against the time that a clip takes; a bubble's area is for the parameters.

    Areas grow with the square root of the parameters, or the smallest networks could not be seen beside the largest.

    Args:
        entries: Entries with results; those without parameters and times are left out.
    """
    entries = [entry for entry in entries if entry.cost]
    figure, (axes,) = _panels(1, 1, 8, 5.5)
    costs = [entry.cost for entry in entries if entry.cost]
    times = [cost.milliseconds for cost in costs]
    parameters = [cost.parameters for cost in costs]
    score, heading = _bubble_score(entries)
    means = [entry.results["mean"].get(score, math.nan) for entry in entries]
    stds = [entry.results["std"].get(score) or 0 for entry in entries]
    areas = [_area(count) for count in parameters]
    colours = [COLOURS["uf1" if entry.is_reference else "accuracy"] for entry in entries]
    axes.errorbar(times, means, stds, fmt="none", ecolor="0.6", elinewidth=1, zorder=1)
    axes.scatter(times, means, areas, colours, alpha=0.8, edgecolors="0.3", linewidths=0.6, zorder=2)
    axes.set(xscale="log", xlabel="time per clip, ms", ylabel=heading, title=_title(entries[0]))
    axes.margins(0.12)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    _legend_of_areas(axes, parameters)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # so that nothing moves once the names have their places
    points = np.column_stack([times, means])
    radii = np.sqrt(np.array(areas) / np.pi)
    names = [_cut(entry.row.name) for entry in entries]
    _write_beside(axes, points, radii, names)
    return figure


def _bubble_score(entries: Sequence[Entry]) -> tuple[str, str]:
    """Return the score that bubbles show, accuracy or of units macro F1, and its heading."""
    return next(iter(scoring_of_entries(entries).headings.items()))


def _area(parameters: float) -> float:
    return 10 * math.sqrt(max(parameters, 100) / 1000)


def _legend_of_areas(axes: Axes, parameters: Sequence[float]) -> None:
    """Show bubbles of a thousand, a hundred thousand and ten million parameters, those that the networks are near."""
    for count, label in ((1e3, "1 thousand"), (1e5, "100 thousand"), (1e7, "10 million")):
        if min(parameters) / 100 < count < max(parameters) * 100:
            axes.scatter([], [], _area(count), "white", edgecolors="0.3", linewidths=0.6, label=label)
    axes.legend(
        title="parameters",
        labelspacing=2.2,
        handletextpad=1.6,
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        frameon=False,
    )


def _write_beside(axes: Axes, points: np.ndarray, radii: np.ndarray, names: Sequence[str]) -> None:
    """Write each point's name where it covers no bubble and no other name, joined by a line where that is far.

    Args:
        axes: What the names are written on; its layout is settled.
        points: ``(n, 2)`` in the axes' own units.
        radii: Radius of each point's bubble in points of 1/72 inch, ``(n,)``.
        names: The names.
    """
    per_pixel = 72 / axes.figure.dpi
    centres = axes.transData.transform(points) * per_pixel
    room = Bbox(axes.get_window_extent().get_points() * per_pixel)
    boxes = [_box(x, y, radius, radius) for (x, y), radius in zip(centres, radii, strict=True)]
    for index in np.argsort(radii):  # the names of small bubbles, which other names could cover, first
        name = axes.annotate(names[index], points[index], (0, 0), textcoords="offset points", fontsize=8,
                             ha="center", va="center")  # fmt: skip
        extent = name.get_window_extent()
        half = np.array([extent.width, extent.height]) * per_pixel / 2 + 1
        places = [(is_far, centres[index] + offset) for is_far, offset in _offsets(radii[index], half)]
        free_places = []
        for is_far, place in places:
            box = _box(*place, *half)
            is_inside = box.x0 >= room.x0 and box.x1 <= room.x1 and box.y0 >= room.y0 and box.y1 <= room.y1
            if is_inside and not box.count_overlaps(boxes):
                free_places.append((is_far, place))
        is_far, place = free_places[0] if free_places else places[0]
        name.set_position(place - centres[index])
        boxes.append(_box(*place, *half))
        if is_far:
            line = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkA": 6, "shrinkB": radii[index]}
            axes.annotate("", points[index], place - centres[index], textcoords="offset points", arrowprops=line)


def _offsets(radius: float, half: np.ndarray) -> Iterator[tuple[bool, np.ndarray]]:
    """Yield offsets of a name from the middle of its bubble, from near to far, and whether it needs a line to it."""
    directions = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)])
    for distance in (1, 6, 14, 24, 36, 50):
        for direction in directions:
            offset = direction * (half + radius / np.linalg.norm(direction) + distance)
            yield distance > 6, offset


def _box(x: float, y: float, half_width: float, half_height: float) -> Bbox:
    return Bbox([[x - half_width, y - half_height], [x + half_width, y + half_height]])


def heat_map(entries: Sequence[Entry]) -> Figure:
    """Draw the main score, or the sweep's first metric, over the first two varied settings, a panel for other values.

    Args:
        entries: Entries of a grid that varies two settings or more.
    """
    grid = entries[0].sweep.grid
    y_setting, x_setting, *panel_settings = _varied(entries)
    x_values = grid[x_setting]
    y_values = grid[y_setting]
    combinations = list(itertools.product(*(grid[name] for name in panel_settings)))
    scores = {_key(entry.row.settings, grid): _score(entry) for entry in entries}
    numbers = [score for score in scores.values() if not math.isnan(score)]
    width = 1.6 + 0.75 * len(x_values)
    height = 1.3 + 0.55 * len(y_values)
    figure, panels = _panels(len(combinations), 2, width, height)
    for axes, combination in zip(panels, combinations, strict=True):
        panel = dict(zip(panel_settings, combination, strict=True))
        settings = {name: values[0] for name, values in grid.items()} | panel
        cells = np.full((len(y_values), len(x_values)), math.nan)
        for row, y in enumerate(y_values):
            for column, x in enumerate(x_values):
                key = _key(settings | {y_setting: y, x_setting: x}, grid)
                cells[row, column] = scores.get(key, math.nan)
        _heat(axes, cells, min(numbers), max(numbers))
        axes.set_xticks(range(len(x_values)), [_cut(_text(value)) for value in x_values])
        axes.set_yticks(range(len(y_values)), [_cut(_text(value)) for value in y_values])
        title = _cut(", ".join(f"{_short(name)} {_text(value)}" for name, value in panel.items()))
        axes.set(xlabel=_cut(_short(x_setting)), ylabel=_cut(_short(y_setting)))
        axes.set_title(title or _score_name(entries))
    return figure


def _heat(axes: Axes, values: np.ndarray, low: float, high: float) -> None:
    axes.imshow(values, cmap="viridis", vmin=low, vmax=high, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        dark = value <= (low + high) / 2
        text = "-" if math.isnan(value) else f"{value:#.3g}"
        axes.text(x, y, text, ha="center", va="center", color="white" if dark else "black")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def trials(entries: Sequence[Entry]) -> Figure:
    """Draw the metric of each trial of a search, and the best so far.

    Args:
        entries: Entries in planned order, one with a metric at least.
    """
    sweep = entries[0].sweep
    values = np.array([_score(entry) for entry in entries])
    better = np.fmax if sweep.modes[0] == "max" else np.fmin
    best = better.accumulate(values)
    figure, (axes,) = _panels(1, 1, 7, 3.5)
    axes.step(range(len(values)), best, where="post", color=COLOURS["accuracy"], label="best so far")
    axes.scatter(range(len(values)), values, 22, COLOURS["uf1"], zorder=2, label="trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel=sweep.metrics[0])
    axes.legend(frameon=False)
    return figure


def front(entries: Sequence[Entry]) -> Figure:
    """Draw both metrics of each trial of a search; those on the Pareto front are named and joined.

    Args:
        entries: Entries in planned order, one with both metrics at least.
    """
    sweep = entries[0].sweep
    figure, (axes,) = _panels(1, 1, 6, 4.5)
    points = np.array([objectives(sweep, entry.row) for entry in entries])
    optimal = np.array([entry.is_optimal for entry in entries])
    optimal_points = points[optimal]
    order = np.argsort(optimal_points[:, 0], kind="stable")
    other_points = points[~optimal]
    axes.scatter(other_points[:, 0], other_points[:, 1], 22, COLOURS["accuracy"], label="trial")
    axes.plot(*optimal_points[order].T, "o-", color=COLOURS["uf1"], label="Pareto front")
    for entry, point in zip(entries, points, strict=True):
        if entry.is_optimal:
            axes.annotate(_cut(entry.row.name), point, xytext=(5, 5), textcoords="offset points", fontsize=8)
    axes.set(xlabel=f"{sweep.metrics[0]} ({sweep.modes[0]})", ylabel=f"{sweep.metrics[1]} ({sweep.modes[1]})")
    axes.legend(frameon=False)
    return figure


def _score(entry: Entry) -> float:
    """Return the main score, or the first metric of a sweep without recognition results; NaN where there is none."""
    if has_results(entry.sweep):
        main = scoring_of_entries([entry]).main
        return entry.results["mean"][main] if entry.results else math.nan
    return next(iter(objectives(entry.sweep, entry.row)), math.nan)


def _score_name(entries: Sequence[Entry]) -> str:
    sweep = entries[0].sweep
    return scoring_of_entries(entries).main_heading if has_results(sweep) else sweep.metrics[0]


def _varied(entries: Sequence[Entry]) -> list[str]:
    return [name for name, values in entries[0].sweep.grid.items() if len(values) > 1]


def _key(settings: dict, grid: Iterable[str]) -> str:
    return json.dumps([settings.get(name) for name in grid])


def _title(entry: Entry) -> str:
    return f"{_cut(entry.sweep.study)}\n{data_name(data_key(entry.results))}"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _short(setting: str) -> str:
    return setting.rpartition(".")[2]


def _cut(name: str) -> str:
    """Return a name that fits a figure: no $ that would be read as mathematics, no _ first, which legends leave out."""
    if len(name) > 60:
        name = f"{name[:59]}…"
    if name.startswith("_"):
        name = f" {name}"
    return name.replace("$", r"\$")
