"""Sliding windows over a stream, and the onset and apex of each."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import floor

import numpy as np

from gammer_lightning.data.apex import apex_course, smoothed
from gammer_lightning.predict.tracking import Shot, Tracker
from gammer_lightning.predict.video import Frame

SMOOTHING = 0.025
"""Seconds over which the course is averaged: the five frames of 200 a second that `spot_apex` averages."""
EPSILON = 1e-6


@dataclass(frozen=True)
class Span:
    """The frames of one window.

    Attributes:
        start: Seconds from the first frame of the input.
        end: The same, of the first moment after the window.
        shots: Its frames in order, at least one; a face was searched in the first.
        shown: Those that this window shows: frames near its middle, and whatever no other window shows.
    """

    start: float
    end: float
    shots: list[Shot]
    shown: list[Shot]


def spans(frames: Iterable[Frame], tracker: Tracker, length: float, hop: float) -> Iterator[Span]:
    """Cut a stream into overlapping windows; no more than one window is in memory.

    Args:
        frames: The stream.
        tracker: Searches a face in the first frame of each window and keeps its surroundings.
        length: Seconds of a window.
        hop: Seconds from a window's start to the next one's, at most ``length``.
    """
    shots: deque[Shot] = deque()
    number, searched, shown = 0, -1, -1

    def span(last: bool) -> Span:
        nonlocal shown
        start = number * hop
        inside = [shot for shot in shots if shot.time < start + length - EPSILON]
        middle = start + (length + hop) / 2 - EPSILON
        fresh = [shot for shot in inside if shot.index > shown and (last or shot.time < middle)]
        shown = fresh[-1].index if fresh else shown
        return Span(start, start + length, inside, fresh)

    for frame in frames:
        step = floor((frame.time + EPSILON) / hop)
        while shots and frame.time >= number * hop + length - EPSILON:
            yield span(last=False)
            number += 1
            while shots and shots[0].time < number * hop - EPSILON:
                shots.popleft()
        number = number if shots else step
        landmarks = tracker.search(frame) if step > searched else None
        searched = step
        shots.append(tracker.keep(frame, landmarks))
    if shots:
        yield span(last=True)


def spot(views: np.ndarray, times: np.ndarray) -> tuple[int, int, float]:
    """Find the onset and apex of a window.

    The apex is spotted as in `spot_apex`, between the window's first and last frame; the onset is the frame before it
    that differs from it most. On 26 clips of microfaces (200 frames a second) the apex was 11 frames off on average, 8
    where onset and offset were known, and the pair's difference was 1.08 of the annotated pair's in the median.

    Args:
        views: What is seen of the n >= 2 frames, grey levels ``(n, m)``.
        times: Seconds, ``(n,)``.

    Returns:
        Places of onset and apex, and their mean absolute difference in grey levels.
    """
    frames = max(1, round(SMOOTHING * (len(times) - 1) / max(times[-1] - times[0], EPSILON)) // 2 * 2 + 1)
    course = smoothed(apex_course(views[0], views[-1], views[1:]), frames) if len(views) > 2 else np.zeros(1)
    apex = 1 + int(course.argmax())
    differences = np.abs(views[:apex] - views[apex]).mean(1)
    onset = int(smoothed(differences, frames).argmax())
    return onset, apex, float(differences[onset])
