"""What a person sees of a running sweep: a table in a terminal, a line for each event elsewhere."""

import math
import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gammer_lightning.escapes import printable, without_passwords
from gammer_lightning.sweep.queue.study import Row
from gammer_lightning.sweep.queue.supervisor import Supervisor
from gammer_lightning.sweep.spec import TEST_SCORES, Sweep

REFRESH = 1.0
"""Time between two drawings, s."""
MOST_ROWS = 30
"""More rows than that, and only those that run or failed are drawn."""


class LiveView:
    """Draws a supervisor's study; a context manager.

    Args:
        console: Where to draw.
    """

    def __init__(self, console: Console):
        self.console = console
        self.live = Live(console=console, auto_refresh=False, transient=True)
        self._next_drawing = 0.0

    def __enter__(self) -> "LiveView":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def say(self, line: str) -> None:
        """Print a line above the table."""
        line = printable(without_passwords(line))
        self.console.print(f"{time.strftime('%H:%M:%S')} {line}", markup=False, highlight=False, soft_wrap=True)

    def show(self, supervisor: Supervisor) -> None:
        """Draw the table, about once a second, where there is a terminal."""
        started = time.monotonic()
        if not self.console.is_terminal or started < self._next_drawing:
            return
        rows = supervisor.study.rows()
        progress = {claim.row: child.progress() for claim, child in supervisor.children.values()}
        left = time_left(rows, progress, len(supervisor.slots))
        table = rows_table(supervisor.study.sweep, rows, progress, left)
        self.live.update(table, refresh=True)
        seconds = time.monotonic() - started
        self._next_drawing = started + max(REFRESH, 10 * seconds)  # a far server is asked less often


def rows_table(
    sweep: Sweep, rows: Sequence[Row], progress: dict[str, tuple[int, int] | None], left: float | None = None
) -> Group:
    """Return the table of a study, after a line that sums it up.

    Args:
        sweep: The sweep.
        rows: Its rows.
        progress: Epochs done and planned of the rows that run here, as far as they are known.
        left: Time left, s.
    """
    metrics = sweep.metrics or _usual_metrics(sweep, rows)
    table = Table()
    for column in ("row", "state", "progress", *metrics, "time", "on"):
        is_number = column in (*metrics, "time")
        table.add_column(_text(column), justify="right" if is_number else "left")
    for row in rows:
        if len(rows) > MOST_ROWS and row.state not in ("running", "failed"):
            continue
        values = [f"{row.values[name]:.4f}" if name in row.values else "" for name in metrics]
        bar: ProgressBar | str = ""
        if row.state == "running":
            bar = "starting"
            progress_of_row = progress.get(row.name)
            if progress_of_row is not None:
                epoch, epochs = progress_of_row
                bar = ProgressBar(epochs, epoch, width=20)
        seconds = "" if row.seconds is None else duration(row.seconds)
        table.add_row(_text(row.name), _state(row), bar, *values, seconds, _text(row.host))
    heading = _text(f"{sweep.study}: {summary(sweep, rows, left)}")
    return Group(heading, table)


def _usual_metrics(sweep: Sweep, rows: Sequence[Row]) -> list[str]:
    """Return the score that a sweep's rows log of their test: UF1, or macro F1 of units."""
    if sweep.task != "recognize":
        return ["val_ssim"]
    logged = [score for score in TEST_SCORES if any(score in row.values for row in rows)]
    return logged or ["test_uf1"]


def _text(text: str) -> Text:
    """Return a text from elsewhere as it is: no markup, no control characters."""
    return Text(printable(text))


def _state(row: Row) -> str:
    colour = {"complete": "green", "running": "cyan", "failed": "red", "pruned": "yellow"}.get(row.state, "dim")
    attempt = f" (attempt {row.attempts})" if row.attempts > 1 else ""
    state = "run folder gone" if row.is_gone else row.state
    return f"[{colour}]{state}[/]{attempt}"


def summary(sweep: Sweep, rows: Sequence[Row], left: float | None = None) -> str:
    """Return in one line how far a study is, its best row where one is chosen, and the time left."""
    states = [row.state for row in rows]
    counts = [f"{states.count(state)} {state}" for state in sorted(set(states))]
    parts = [", ".join(counts)]
    best = best_row(sweep, rows) if len(sweep.metrics) == 1 else None
    if best:
        (metric,) = sweep.metrics
        parts.append(f"best {best.name}, {metric} {best.values[metric]:.4f}")
    if left:
        parts.append(f"about {duration(left)} left")
    return "; ".join(parts)


def best_row(sweep: Sweep, rows: Sequence[Row]) -> Row | None:
    """Return the complete row that is best by the sweep's first metric; None if there is none."""
    metric = sweep.metrics[0]
    candidates = []
    for row in rows:
        if row.state == "complete" and math.isfinite(row.values.get(metric, math.nan)):
            candidates.append(row)
    choose = max if sweep.modes[0] == "max" else min
    return choose(candidates, key=lambda row: row.values[metric], default=None)


def time_left(rows: Sequence[Row], progress: dict[str, tuple[int, int] | None], slots: int) -> float | None:
    """Estimate the time left, s, from the mean time of the rows that are done; None before the first one is."""
    times = [row.seconds for row in rows if row.state == "complete" and row.seconds]
    if not times:
        return None
    mean_time = sum(times) / len(times)
    waiting = sum(row.state == "waiting" for row in rows)
    shares_left = [1 - epoch / epochs for epoch, epochs in filter(None, progress.values())]
    return mean_time * (waiting + sum(shares_left)) / slots


def duration(seconds: float) -> str:
    """Return a time as people say it, e.g. ``3 min 20 s``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min {seconds % 60:.0f} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
