"""``gammer bench export``: the paper's Table 5 on this machine.

Each row is a process of its own (`gammer_lightning.export.latency`), so that memory and threads are its own. All import
at once, are made ready one by one and then run in turn, several rounds of some steps each, so that a drift of the
machine meets all rows alike and shows.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, product
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tqdm import tqdm

from gammer_lightning.errors import GammerError
from gammer_lightning.escapes import without_passwords
from gammer_lightning.export.latency import ROWS, SIDE, WARMUP, Place, TimedRow, needs_gpu
from gammer_lightning.files import check_writable, disk_errors, replacing
from gammer_lightning.machine import cpu_name
from gammer_lightning.processes import end_with_parent, python_command, python_environment

PUBLISHED = {
    "st_memm": {"PyTorch": 156.4, "ONNX": 118.3, "TensorRT": 62.2, "float16": 43.9},
    "gam_mer": {"PyTorch": 53.7, "ONNX": 43.2, "TensorRT": 25.3, "float16": 18.5},
}
"""The paper's Table 5, ms on an A10; neither resolution nor batch are given there."""
TITLES = {
    "st_memm": f"ST-MEMM: a pair at one alpha, {SIDE}x{SIDE}, batch 1",
    "gam_mer": "GAM-MER: one clip's patches, batch 1 (the paper's number may hold preprocessing, too; ours does not)",
}
PREPARE = "prepare"
LARGEST = {"threads": os.cpu_count() or 1, "repeats": 10_000, "rounds": 1000}
"""The largest values of options; more threads than processors only wait for each other."""
PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer bench export``."""
    parser.add_argument("run", help="run folder of `gammer recognize fit`, or its export/ folder")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is a GPU, else cpu")
    parser.add_argument("--threads", type=int, help="threads of every row (default: the cores this process may use)")
    parser.add_argument("--repeats", type=int, default=20, help="timed steps in a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all rows (default: %(default)s)")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="only the first row and those that match")
    parser.add_argument("--out", type=Path, help="folder of bench.json and latency.png (default: RUN/export)")


def main(arguments: argparse.Namespace) -> int:
    """Measure, print a table for each network, and write bench.json and latency.png.

    Returns:
        The exit code: 130 where Ctrl-C stopped it; what was measured until then is printed, and nothing written.

    Raises:
        GammerError: The run has no finished checkpoint, or a number is not positive.
    """
    for name, largest in LARGEST.items():
        value = getattr(arguments, name)
        if value is not None and not 1 <= value <= largest:
            raise GammerError(f"--{name} {value}", f"a number from 1 to {largest:,}", f"e.g. --{name} 2")
    from gammer_lightning.deploy.bundle import MEASURED

    place, out, facts = _place(arguments)
    check_writable(out)  # now, not after the minutes of measuring
    rows = []
    for model in ROWS:
        results, is_stopped = measure(model, place, arguments.rounds, arguments.repeats, arguments.only)
        model_rows = with_ratios(model, results)
        rows += model_rows
        print("\n".join([TITLES[model], *table(model_rows), ""]), flush=True)
        if is_stopped:
            print("stopped by Ctrl-C; nothing was written", file=sys.stderr)
            return 130
    report = facts | {"side": SIDE, "batch": 1, "rounds": arguments.rounds, "repeats": arguments.repeats, "rows": rows}
    numbers, picture = (out / name for name in MEASURED)
    with disk_errors(out):
        with replacing(numbers) as temporary:
            temporary.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
        draw(report, picture)
    print(f"{numbers}, {picture}")
    return 0


def _place(arguments: argparse.Namespace) -> tuple[Place, Path, dict[str, Any]]:
    """Return the place of all rows, the folder of the report, and facts on the machine; print these facts."""
    import torch

    from gammer_lightning.deploy.bundle import FOLDER, load_bundle

    bundle = load_bundle(arguments.run)
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise GammerError("there is no CUDA GPU here", "--device is where all rows run", "--device cpu")
    threads = arguments.threads or len(os.sched_getaffinity(0))
    out = arguments.out or (bundle.path if bundle.facts.files else bundle.path / FOLDER)
    name = torch.cuda.get_device_name() if device == "cuda" else cpu_name()
    versions = _versions()
    packages = ", ".join(f"{package} {number}" for package, number in versions.items())
    load, _, _ = os.getloadavg()
    print(f"{device}: {name}, {threads} threads, {packages}")
    if load > 0.5:
        print(f"the machine is busy (load {load:.1f}): times and ratios are not to be trusted, least of all on the CPU")
    print(f"median of {arguments.rounds} rounds of {arguments.repeats} steps after {WARMUP}, rows in turn\n")
    facts = {
        "device": device,
        "device_name": name,
        "threads": threads,
        "warmup": WARMUP,
        "alpha": bundle.alpha,
        "versions": versions,
        "load": load,
    }
    return Place(arguments.run, device, threads, float(bundle.alpha)), out, facts


def _versions() -> dict[str, str]:
    """Return the versions of those of `PACKAGES` that are installed."""
    versions = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


class BenchProcess:
    """The process of one row: begun at once, made ready when asked, then asked for steps.

    Attributes:
        facts: The row's network, name and column of Table 5; its memory, or why it cannot run.
    """

    def __init__(self, model: str, row: TimedRow, place: Place, stack: ExitStack) -> None:
        self.facts: dict[str, Any] = {"model": model, "name": row.name, "published": row.published}
        self.rounds: list[list[float]] = []
        if place.device == "cpu" and needs_gpu(row):
            self.facts["why"] = "needs --device cuda"
            return
        self._log = stack.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115, the stack closes it
        spec = json.dumps({"model": model, "row": row.name, "place": place._asdict()})
        threads = {"OMP_NUM_THREADS": str(place.threads), "MKL_NUM_THREADS": str(place.threads)}
        self._process = subprocess.Popen(
            python_command("-m", "gammer_lightning.export.latency", spec),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=python_environment() | threads,
            preexec_fn=end_with_parent(),
        )
        assert self._process.stdin is not None and self._process.stdout is not None  # both are pipes
        self._requests = self._process.stdin
        self._replies = self._process.stdout
        stack.callback(self._end)

    @property
    def runs(self) -> bool:
        """Whether it is ready for steps."""
        return "why" not in self.facts

    def ask(self, request: str) -> None:
        """Make it ready (`PREPARE`), alone, so that the memory it takes is its own; or time as many steps."""
        with suppress(BrokenPipeError):  # it has ended: the reply says how
            self._requests.write(f"{request}\n")
            self._requests.flush()
        reply = self._reply()
        if "times" in reply:
            self.rounds.append(reply["times"])
        else:
            self.facts |= reply

    def _reply(self) -> dict[str, Any]:
        reply = self._replies.readline()
        if reply:
            return json.loads(reply)
        reason = f"its process ended with code {self._process.wait()}"
        self._log.seek(0)
        lines = [line for line in self._log.read().splitlines() if line.strip()]
        if lines:
            reason += f": {without_passwords(lines[-1])[:200]}"
        return {"why": reason}

    def result(self) -> dict[str, Any]:
        """Return the row's facts and the summary of its times, or why it has none."""
        if not self.runs:
            return self.facts
        if not self.rounds:
            return self.facts | {"why": "stopped before it was measured"}
        return self.facts | summary(self.rounds)

    def _end(self) -> None:
        with suppress(BrokenPipeError):
            self._requests.close()
        if not self.rounds:  # stopped by Ctrl-C, it may have minutes of compiling before it
            self._process.terminate()
        self._process.wait()
        self._replies.close()


def measure(
    model: str, place: Place, rounds: int, repeats: int, only: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], bool]:
    """Measure the rows of a network in turn.

    Args:
        model: ``st_memm`` or ``gam_mer``.
        place: Where they run.
        rounds: Rounds over all rows.
        repeats: Timed steps of a row in a round.
        only: Words; the first row and those whose name holds one of them are run, all where there is none.

    Returns:
        For each row its name, column of Table 5 and either ``why`` it cannot run, or median, quartiles, fastest and
        slowest in ms, the median of each round, and its peak memory in MB. And whether Ctrl-C stopped it.
    """
    first, *others = ROWS[model]
    words = [word.lower() for word in only]
    rows = [first]
    for row in others:
        if not words or any(word in row.name.lower() for word in words):
            rows.append(row)
    requests = [PREPARE] + [str(repeats)] * rounds
    with ExitStack() as stack:
        children = [BenchProcess(model, row, place, stack) for row in rows]
        is_stopped = False
        with tqdm(total=len(children) * len(requests), desc=model, unit="row", leave=False) as bar:
            try:
                for request, child in product(requests, children):
                    bar.set_postfix_str(child.facts["name"])
                    if child.runs:
                        child.ask(request)
                    bar.update()
            except KeyboardInterrupt:
                is_stopped = True
        return [child.result() for child in children], is_stopped


def summary(rounds: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Summarise the times of all rounds."""
    times = list(chain(*rounds))
    low, middle, high = quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    return {
        "ms": middle,
        "quartiles": [low, high],
        "fastest": min(times),
        "slowest": max(times),
        "round_medians": [median(round_times) for round_times in rounds],
    }


def with_ratios(model: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add how many times faster than the first row each is, here and in the paper."""
    published = PUBLISHED[model]
    first_ms = rows[0].get("ms")
    rows_with_ratios = []
    for row in rows:
        row = dict(row)
        if first_ms and "ms" in row:
            row["faster"] = first_ms / row["ms"]
        column = row["published"]
        if column:
            row["published_ms"] = published[column]
            row["published_faster"] = round(published["PyTorch"] / published[column], 2)
        rows_with_ratios.append(row)
    return rows_with_ratios


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the rows as lines of text."""
    head = f"  {'':<48}{'ms':>8}{'quartiles':>16}{'fastest-slowest':>18}{'faster':>8}{'published, A10':>20}{'MB':>7}"
    lines = [head]
    for row in rows:
        if "ms" in row:
            cells = _measured(row)
        else:
            published = _published(row)
            cells = f"-- {row['why']}; published: {published}" if published else f"-- {row['why']}"
        lines.append(f"  {row['name']:<48}{cells}")
    return lines


def _measured(row: dict[str, Any]) -> str:
    low, high = row["quartiles"]
    quartiles = f"{low:.3g}-{high:.3g}"
    spread = f"{row['fastest']:.3g}-{row['slowest']:.3g}"
    faster = f"{row['faster']:.2f}" if "faster" in row else ""
    return f"{row['ms']:>8.3g}{quartiles:>16}{spread:>18}{faster:>8}{_published(row):>20}{row['memory_mb']:>7.0f}"


def _published(row: dict[str, Any]) -> str:
    return f"{row['published_faster']:.2f} ({row['published_ms']} ms)" if "published_ms" in row else ""


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw how many times faster than the first row each is, and the paper's ratio where it has one."""
    from matplotlib.figure import Figure

    models = list(TITLES)
    measured = [[row for row in report["rows"] if row["model"] == model and "faster" in row] for model in models]
    heights = [max(len(rows), 1) for rows in measured]
    figure = Figure(figsize=(8, 1.8 + 0.4 * sum(heights)), layout="constrained")
    for axes, model, rows in zip(figure.subplots(2, height_ratios=heights), models, measured, strict=True):
        _bars(axes, rows)
        axes.set_title(TITLES[model].split(" (")[0], fontsize=9, loc="left")
    axes.set_xlabel("times faster than the first row", fontsize=8)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", fontsize=7, frameon=False, ncols=2)
    figure.suptitle(f"{report['device_name']}, threads: {report['threads']}", fontsize=10, x=0.01, ha="left")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _bars(axes, rows: Sequence[dict[str, Any]]) -> None:
    ratios = []
    errors_below = []
    errors_above = []
    published_x = []
    published_y = []
    for y, row in enumerate(rows):
        ratio = row["faster"]
        low_ms, high_ms = row["quartiles"]
        lower_ratio = ratio * row["ms"] / high_ms
        upper_ratio = ratio * row["ms"] / low_ms
        ratios.append(ratio)
        errors_below.append(abs(lower_ratio - ratio))
        errors_above.append(abs(upper_ratio - ratio))
        axes.text(upper_ratio, y, f"  {row['ms']:.3g} ms", va="center", fontsize=7)
        if "published_faster" in row:
            published_x.append(row["published_faster"])
            published_y.append(y)
    places = range(len(rows))
    errors = [errors_below, errors_above]
    axes.barh(places, ratios, 0.6, xerr=errors, color="#22578f", ecolor="#808080", label="here, quartiles")
    axes.scatter(
        published_x,
        published_y,
        marker="|",
        s=250,
        linewidths=2,
        color="#d1622b",
        label="published, A10",
        zorder=3,
    )
    axes.set_yticks(places, [row["name"] for row in rows], fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
