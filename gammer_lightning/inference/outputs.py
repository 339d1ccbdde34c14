"""What a prediction leaves in its folder: numbers, a video, a timeline and a page, all made while frames stream by."""

import csv
import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gammer_lightning.escapes import printable, spreadsheet_cell
from gammer_lightning.faces.alignment import CROP
from gammer_lightning.files import check_writable, disk_errors, remove_stale, replacing, write_json
from gammer_lightning.inference.page import page
from gammer_lightning.inference.prediction import Example, PredictedWindow, Prediction, Window
from gammer_lightning.inference.tracking import Shot
from gammer_lightning.inference.video import VideoSource, VideoWriter

if TYPE_CHECKING:
    from gammer_lightning.deploy.bundle import Bundle

NAMES = {
    "json": "predictions.json",
    "csv": "predictions.csv",
    "video": "magnified.mp4",
    "timeline": "timeline.png",
    "page": "index.html",
}
CAPTION = 28
"""Height of the caption above the two pictures of the video, px."""
SHOWN = 8
"""Windows of which the page holds pictures: those with the strongest motion, a still head preferred."""
INK, SOFT, BLUE, PALE, ORANGE = "#1d2329", "#626b75", "#22578f", "#a9c7e8", "#e07b28"


class Recorder:
    """Writes the outputs of one input; a context manager.

    The video gets its name only in `finish`, so a run that fails leaves no half of one.

    Args:
        out: Folder, made if it is missing.
        source: The input.
        result: What is found; filled by others.

    Raises:
        GammerError: If the folder cannot be written.
    """

    def __init__(self, out: str | Path, source: VideoSource, result: Prediction):
        self.out = Path(out)
        self.source = source
        self.result = result
        self.examples: list[Example] = []
        self.writer: VideoWriter | None = None
        self.start = 0.0
        self.stack = ExitStack()
        check_writable(self.out)
        with disk_errors(self.out):
            remove_stale(self.out / NAMES["video"])

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stack.__exit__(kind, error, trace)

    def window(self, window: PredictedWindow, onset: np.ndarray, apex: np.ndarray, magnified: np.ndarray) -> None:
        """Keep a window's pictures, uint8 ``(256, 256, 3)``, if it is among the strongest so far."""
        is_repeated = any(example.window.apex == window.apex for example in self.examples)  # in the window before
        if is_repeated or (len(self.examples) == SHOWN and window.prominence <= self.examples[0].prominence):
            return
        pictures = _jpeg(onset), _jpeg(apex), _jpeg(magnified)
        example = Example(window.prominence, -window.number, window, pictures)
        if len(self.examples) < SHOWN:
            heapq.heappush(self.examples, example)
        else:
            heapq.heapreplace(self.examples, example)

    def frame(self, shot: Shot, original: np.ndarray, magnified: np.ndarray, window: Window | None) -> None:
        """Add a frame to the video, uint8 ``(256, 256, 3)`` as it is and magnified."""
        with disk_errors(self.out):
            if self.writer is None:
                self.start = shot.time
                path = self.stack.enter_context(replacing(self.out / NAMES["video"]))
                writer = VideoWriter(path, self.source.rate, self.source.clock)
                self.writer = self.stack.enter_context(writer)
                self.result.paths["video"] = self.out / NAMES["video"]
            pictures = np.concatenate([original, magnified], 1)
            image = np.concatenate([self._caption(shot, window), pictures])
            self.writer.write(image, shot.time - self.start)

    def _caption(self, shot: Shot, window: Window | None) -> np.ndarray:
        bar = np.full((CAPTION, 2 * CROP, 3), 20, np.uint8)
        _write(bar, 8, f"{shot.time:.2f} s", (200, 205, 210))
        if not isinstance(window, PredictedWindow):
            text = window.note if window else f"alpha {self.result.alpha:g}"
            _write(bar, CROP + 8, text, (160, 165, 170))
            return bar
        share = float(window.probabilities.max())
        text = f"alpha {self.result.alpha:g}   {self.result.name(window)} {share:.0%}"
        _write(bar, CROP + 8, text, (240, 242, 244))
        return bar

    def finish(self, bundle: "Bundle") -> None:
        """Close the video and write the numbers, the timeline and the page."""
        with disk_errors(self.out):
            self.stack.close()
            result = self.result
            paths = {name: self.out / NAMES[name] for name in ("json", "csv", "timeline", "page")}
            result.paths |= paths
            write_json(paths["json"], as_json(result, bundle))
            examples = sorted(self.examples, reverse=True)
            timeline = BytesIO()
            draw_timeline(result, [example.window for example in examples]).savefig(timeline, format="png", dpi=150)
            with replacing(paths["timeline"]) as temporary:
                temporary.write_bytes(timeline.getvalue())
            with replacing(paths["page"]) as temporary:
                temporary.write_bytes(page(result, examples, timeline.getvalue()).encode())
            with replacing(paths["csv"]) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                for row in as_rows(result):
                    writer.writerow(map(spreadsheet_cell, row))


def _write(bar: np.ndarray, x: int, text: str, colour: tuple[int, int, int]) -> None:
    cv2.putText(bar, text, (x, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)


def _jpeg(image: np.ndarray) -> bytes:
    bgr = image[..., ::-1]
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return encoded.tobytes()


def as_json(result: Prediction, bundle: "Bundle") -> dict:
    """Return all that is known as plain data: times in s, landmarks in px of the upright frame."""
    height, width = result.size
    return {
        "format": 1,
        "input": result.input,
        "frames": result.frames,
        "seconds": round(result.seconds, 6),
        "size": [width, height],
        "alpha": result.alpha,
        "backend": result.backend,
        "frames_per_second": round(result.speed, 2),
        "stopped": result.stopped,
        "notes": result.notes,
        "classes": list(result.class_names),
        "bundle": {"path": printable(str(bundle.path)), "commit": bundle.facts.commit},
        "windows": [_window_json(window, result.class_names) for window in result.windows],
    }


def _window_json(window: Window, names: Sequence[str]) -> dict:
    times: dict[str, Any] = {"window": window.number, "start": round(window.start, 6), "end": round(window.end, 6)}
    if not isinstance(window, PredictedWindow):
        return times | {"note": window.note}
    shares = dict(zip(names, np.round(window.probabilities, 6).tolist(), strict=True))
    return times | {
        "onset": {"frame": window.onset, "time": round(window.onset_time, 6)},
        "apex": {"frame": window.apex, "time": round(window.apex_time, 6)},
        "strength": round(window.strength, 4),
        "head_motion": window.head_motion and round(window.head_motion, 3),
        "class": max(shares, key=shares.__getitem__),
        "probabilities": shares,
        "landmarks": window.landmarks.round(2).tolist(),
    }


def as_rows(result: Prediction) -> Iterator[list]:
    """Yield the table's head and one row for each window."""
    facts = ("onset_frame", "onset_s", "apex_frame", "apex_s", "strength", "head_motion", "class")
    points = []
    for index in range(68):
        points += [f"x{index}", f"y{index}"]
    yield ["window", "start_s", "end_s", "note", *facts, *(f"p_{name}" for name in result.class_names), *points]
    for window in result.windows:
        row = [window.number, round(window.start, 6), round(window.end, 6), window.note]
        if not isinstance(window, PredictedWindow):
            empty = len(facts) + len(result.class_names) + len(points)
            yield row + [""] * empty
            continue
        moved = "" if window.head_motion is None else round(window.head_motion, 3)
        row += [window.onset, round(window.onset_time, 6), window.apex, round(window.apex_time, 6)]
        row += [round(window.strength, 4), moved, result.name(window)]
        row += window.probabilities.round(6).tolist()
        row += window.landmarks.round(2).ravel().tolist()
        yield row


def draw_timeline(result: Prediction, marked: Sequence[PredictedWindow]) -> Figure:
    """Draw the strength of motion and the class probabilities over time.

    Args:
        result: The prediction.
        marked: Windows that are numbered from 1, as the page does.
    """
    names = result.class_names
    figure = Figure(figsize=(10, 2.6 + 0.25 * len(names)), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(1.6, 0.25 + 0.25 * len(names)))
    edges = _edges(result.windows)
    _draw_strength(above, result.windows, edges, marked)
    _draw_shares(figure, below, result.windows, edges, names)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    above.set_title(f"{result.input}, alpha {result.alpha:g}", loc="left", fontsize=10, color=INK, parse_math=False)
    return figure


def _edges(windows: Sequence[Window]) -> np.ndarray:
    """Return where the windows' middles are parted, ``(n + 1,)`` in s."""
    if not windows:
        return np.array([0.0, 1.0])
    middles = np.array([(window.start + window.end) / 2 for window in windows])
    between = (middles[1:] + middles[:-1]) / 2
    start = windows[0].start
    end = max(windows[-1].end, start + 1e-3)
    return np.array([start, *between, end])


def _draw_strength(axes: Axes, windows: Sequence[Window], edges: np.ndarray, marked: Sequence[PredictedWindow]) -> None:
    def draw_bars(places: list[int], heights: list[float], colour: str, label: str) -> None:
        if places:
            axes.bar(edges[places], heights, widths[places], align="edge", color=colour, label=label)

    widths = np.diff(edges)
    predicted = {place: window for place, window in enumerate(windows) if isinstance(window, PredictedWindow)}
    still = [place for place, window in predicted.items() if not window.head_moves]
    moving = [place for place, window in predicted.items() if window.head_moves]
    empty = [place for place in range(len(windows)) if place not in predicted]
    top = max((window.strength for window in predicted.values()), default=1.0) or 1.0
    draw_bars(still, [predicted[place].strength for place in still], BLUE, "head still")
    draw_bars(moving, [predicted[place].strength for place in moving], PALE, "head moves")
    draw_bars(empty, [top] * len(empty), "#eceef0", "no prediction")
    for rank, window in enumerate(marked, 1):
        x = edges[window.number] + widths[window.number] / 2
        axes.plot((window.onset_time, window.apex_time), (0, window.strength), color=ORANGE, linewidth=1.2)
        axes.plot(window.apex_time, window.strength, "o", color=ORANGE, markersize=3)
        axes.annotate(str(rank), (x, window.strength), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    axes.set_ylim(0, 1.15 * top)
    axes.set_ylabel("motion\n(grey levels)", fontsize=8, color=SOFT)
    axes.tick_params(labelsize=8)
    if windows:
        axes.legend(bbox_to_anchor=(1, 1), borderaxespad=0.2, fontsize=8, frameon=False, ncols=3, loc="lower right")


def _draw_shares(
    figure: Figure, axes: Axes, windows: Sequence[Window], edges: np.ndarray, names: Sequence[str]
) -> None:
    shares = np.full((len(edges) - 1, len(names)), np.nan)
    for place, window in enumerate(windows):
        if isinstance(window, PredictedWindow):
            shares[place] = window.probabilities
    mesh = axes.pcolormesh(edges, np.arange(len(names) + 1), shares.T, cmap="Blues", vmin=0, vmax=1)
    axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.set_facecolor("#eceef0")
    axes.set_xlabel("s", fontsize=8)
    axes.tick_params(labelsize=8)
    bar = figure.colorbar(mesh, ax=axes, pad=0.01, aspect=12)
    bar.set_label("probability", fontsize=8, color=SOFT)
    bar.ax.tick_params(labelsize=8)
