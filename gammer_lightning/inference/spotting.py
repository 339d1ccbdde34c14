"""Sliding windows over a stream, and the onset and apex of each."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import floor

import cv2
import numpy as np

from gammer_lightning.data.clips.apex import expression_mask, smoothed
from gammer_lightning.faces.graph import PAPER_REGIONS, nodes_of
from gammer_lightning.inference.tracking import RIGID, Shot, Tracker
from gammer_lightning.inference.video import Frame

SMOOTHING = 0.045
"""Seconds over which motion is averaged: nine frames of 200 a second."""
AROUND = 4.0
"""Standard deviation of the surroundings by which a landmark is followed, px at half the size of the crop."""
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
    number = 0
    searched = -1
    shown = -1

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


def spot(views: np.ndarray, landmarks: np.ndarray, times: np.ndarray) -> tuple[int, int, float]:
    """Find the onset and apex of a window by how the brows, the nose tip and the mouth move within the head.

    The apex is the frame whose landmarks are farthest from where they are at both ends of the window together, so that
    a steady drift counts the same in all frames; the onset is the frame before it that is farthest from it.

    On 48 clips of microfaces (200 frames a second, a window for each) that had no part in choosing the rule, the apex
    is 4.1 frames off on average and the onset 4.2; by grey levels, as in `spot_apex`, it was 7.7 and 5.2.

    Args:
        views: What is `seen` of the n >= 2 frames, grey levels ``(n, 256, 256)``.
        landmarks: The 68 landmarks in the first of them, px, ``(68, 2)``.
        times: Seconds, ``(n,)``.

    Returns:
        Places of onset and apex, and their mean absolute difference in grey levels.
    """
    seconds = max(times[-1] - times[0], EPSILON)
    smoothing = round(SMOOTHING * (len(times) - 1) / seconds)
    odd_width = max(1, smoothing // 2 * 2 + 1)
    moved = np.apply_along_axis(smoothed, 0, movement(views, landmarks), odd_width)
    ends = max(1, len(moved) // 20)
    first = moved[:ends].mean(0)
    last = moved[-ends:].mean(0)
    distances = _size(moved - first) + _size(moved - last)
    apex = 1 + int(distances[1:].argmax())
    distances_to_apex = _size(moved[:apex] - moved[apex])
    onset = int(distances_to_apex.argmax())
    differences = np.abs(views[onset] - views[apex])
    strength = differences[expression_mask(landmarks)].mean()
    return onset, apex, float(strength)


def _size(moved: np.ndarray) -> np.ndarray:
    """Return the root mean square of displacements ``(n, 36)`` over the landmarks, ``(n,)`` in px."""
    return np.sqrt((np.abs(moved) ** 2).mean(-1))


def movement(views: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return how far brows, nose tip and mouth moved since the first frame, the head's own motion taken out.

    Each landmark is followed by one step of Lucas and Kanade (An iterative image registration technique, IJCAI 1981) at
    half the size, which suffices for motions of a few px. The head's motion is the similarity transform that the
    landmarks of `RIGID` follow.

    Args:
        views: Grey levels ``(n, 256, 256)``.
        landmarks: ``(68, 2)`` in the first frame, px.

    Returns:
        ``(n, 36)`` complex, x + iy in px.
    """
    small = views[:, ::2, ::2]
    places = (landmarks / 2).round().astype(int)
    x, y = places.clip(0, len(small[0]) - 1).T
    down, right = np.gradient(small[0])

    def around(image: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(image, (0, 0), AROUND)[y, x]

    xx = around(right * right) + 0.5
    xy = around(right * down)
    yy = around(down * down) + 0.5
    steps = []
    for change in small - small[0]:
        h = around(right * change)
        v = around(down * change)
        steps.append(xy * v - yy * h + 1j * (xy * h - xx * v))
    determinant = xx * yy - xy * xy
    moved = np.stack(steps) / determinant
    rigid = list(RIGID)
    from_centre = landmarks - landmarks[rigid].mean(0)
    design = np.stack([np.ones(68), from_centre @ (1, 1j)], 1)
    similarity = np.linalg.lstsq(design[rigid], moved[:, RIGID].T)[0]
    head = (design @ similarity).T
    expression = moved - head
    return 2 * expression[:, list(nodes_of(PAPER_REGIONS))]
