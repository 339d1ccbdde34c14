"""What a prediction on a video says."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

HEAD_MOVES = 3.0
"""Head motion in px of the crop above which it rather than the expression may be what is strong."""


@dataclass(frozen=True)
class Window:
    """A window of the input; a `PredictedWindow` where a prediction could be made.

    Attributes:
        number: From 0.
        start: Seconds from the first frame of the input.
        end: The same, of its last frame.
        note: Why it has no prediction, e.g. ``"no face"``; empty where it has one.
    """

    number: int
    start: float
    end: float
    note: str


@dataclass(frozen=True)
class PredictedWindow(Window):
    """A window with the expression that was found in it.

    Attributes:
        onset: Place of the onset frame in the input, from 0.
        apex: The same of the apex frame.
        onset_time: Seconds from the first frame.
        apex_time: The same of the apex.
        strength: Mean absolute difference of onset and apex around brows, nose tip and mouth, grey levels. The classes
            know no neutral face: a window says something only where this stands out.
        head_motion: How far the head moved from onset to apex, px of the crop; the landmarks' jitter is about 1. None
            where onset and apex were given, and the face was not found again on the apex.
        landmarks: The 68 landmarks on the onset, float32 ``(68, 2)`` as (x, y), px of the upright frame.
        probabilities: Of each class, float32 ``(K,)``.
    """

    onset: int
    apex: int
    onset_time: float
    apex_time: float
    strength: float
    head_motion: float | None
    landmarks: np.ndarray
    probabilities: np.ndarray

    @property
    def head_moves(self) -> bool:
        """Whether the head moved more than landmarks jitter."""
        return (self.head_motion or 0) > HEAD_MOVES

    @property
    def prominence(self) -> tuple[bool, float]:
        """What windows are ranked by: those with a still head first, then by strength."""
        return not self.head_moves, self.strength


@dataclass
class Prediction:
    """What `predict` returns.

    Attributes:
        input: Name of the input.
        class_names: The K classes.
        windows: In order, each a `PredictedWindow` where it has a prediction.
        frames: Number of frames read.
        seconds: Time of the last frame from the first, s.
        size: Height and width of a frame, px.
        alpha: Magnification factor.
        backend: What computed it.
        speed: Frames a second, until the last one was magnified.
        stopped: Whether it was stopped by Ctrl-C.
        notes: What was unusual, a sentence each.
        paths: Files written, by name: json, csv, video, timeline, page.
    """

    input: str
    class_names: tuple[str, ...]
    alpha: float
    backend: str
    windows: list[Window] = field(default_factory=list)
    frames: int = 0
    seconds: float = 0.0
    size: tuple[int, int] = (0, 0)
    speed: float = 0.0
    stopped: bool = False
    notes: list[str] = field(default_factory=list)
    paths: dict[str, Path] = field(default_factory=dict)

    @property
    def predicted(self) -> list[PredictedWindow]:
        """The windows that have a prediction, in order."""
        return [window for window in self.windows if isinstance(window, PredictedWindow)]

    @property
    def strongest(self) -> PredictedWindow | None:
        """The window with the strongest motion, a still head preferred; None if no window shows a face."""
        return max(self.predicted, key=lambda window: window.prominence, default=None)

    def name(self, window: PredictedWindow) -> str:
        """Return the name of a window's most probable class."""
        return self.class_names[int(window.probabilities.argmax())]


@dataclass(frozen=True, order=True)
class Example:
    """A window with its pictures as JPEG files: onset, apex, magnified apex; ordered by prominence."""

    prominence: tuple[bool, float]
    order: int
    window: PredictedWindow
    pictures: tuple[bytes, bytes, bytes]
