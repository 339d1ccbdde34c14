"""Prediction on a video: windows are cut, onset and apex spotted, magnified, classified; one pass, bounded memory."""

import math
import sys
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from gammer_lightning.data.clips.apex import expression_mask, seen
from gammer_lightning.data.inputs.catalogue import INPUTS
from gammer_lightning.data.inputs.face_clip import FacePair
from gammer_lightning.data.premagnify.cache import RAW
from gammer_lightning.errors import GammerError
from gammer_lightning.faces.alignment import (
    CROP,
    EYE_LINE,
    IOD,
    Face,
    NoFaceError,
    OutsideError,
    eye_centres,
    place_face,
    predictor,
)
from gammer_lightning.inference.outputs import Recorder
from gammer_lightning.inference.prediction import PredictedWindow, Prediction, Window
from gammer_lightning.inference.spotting import Span, spans, spot
from gammer_lightning.inference.tracking import Shot, Tracker, head_motion
from gammer_lightning.inference.video import (
    Frame,
    FrameFolder,
    VideoSource,
    check_fps,
    check_limit,
    open_video,
    to_pixels,
)
from gammer_lightning.magnifiers import check_alphas
from gammer_lightning.pixels import to_floats

if TYPE_CHECKING:
    from gammer_lightning.deploy.backends import Backend, BackendName, Device, Encoded, RunPrecision
    from gammer_lightning.deploy.bundle import Bundle

STEADY = 2.0
"""Distance in px of the crop within which both eyes may lie from their places before a new transform is taken.

Landmarks jitter by about 1 px: a new transform for every window would make the picture of a still head tremble.
"""
WORKERS = 8
"""Most frames that are magnified at once on a CPU."""
IN_FLIGHT = 2 * WORKERS
"""Frames that may wait for the video while no window bounds them."""
NO_FACE = "no face"
ONE_FRAME = "one frame"
SHORTEST, LONGEST = 1e-3, 600.0
"""Shortest window and hop, longest window, s."""
MAX_FRAMES = 10_000
"""Most frames of a window; their surroundings of the face are in memory, several 100 kB each."""
MAX_WINDOWS = 10
"""Most windows that begin within the time of one frame: each is spotted and classified anew."""

PicturesJob = Future[tuple[np.ndarray, np.ndarray]]
"""A frame's crop and the same magnified, uint8 ``(256, 256, 3)``, as soon as a thread has made them."""


@dataclass(frozen=True)
class _Reference:
    """A window's onset, its features computed once.

    Attributes:
        landmarks: ``(68, 2)`` in px of the frame.
        face: Where the crop lies in the frame.
        crop: uint8 ``(256, 256, 3)``.
        features: What the engine encodes the crop as; None for the raw apex.
    """

    landmarks: np.ndarray
    face: Face
    crop: np.ndarray
    features: "Encoded | None"


@dataclass(frozen=True)
class _AlignedPair:
    """Onset and apex of a window."""

    reference: _Reference
    onset: Shot
    apex: Shot
    strength: float
    head_motion: float | None


def predict(
    bundle: "Bundle | str | Path",
    input: str | Path,
    out: str | Path | None = None,
    *,
    alpha: float | None = None,
    backend: "BackendName" = "torch",
    precision: "RunPrecision" = "fp32",
    device: "Device | None" = None,
    window: float = 0.5,
    hop: float | None = None,
    onset: int | None = None,
    apex: int | None = None,
    face: tuple[float, float] | None = None,
    fps: float = 200.0,
    limit: float | None = None,
    progress: bool = False,
) -> Prediction:
    """Spot, magnify and classify the expressions of a video's face.

    From a bundle folder or a finished run::

        import gammer_lightning
        prediction = gammer_lightning.predict("runs/recognize/NAME/ID", "video.mp4", out="predictions")
        for window in prediction.windows:
            if not window.note:
                print(window.start, prediction.name(window), window.probabilities)

    Memory does not grow with the length of the input, apart from about 1 kB for each window's numbers.

    Args:
        bundle: Networks and facts, as `load_bundle` returns them, or the path that it takes.
        input: Path of a video or a folder of images, or the number of a camera.
        out: Folder for predictions.json, predictions.csv, magnified.mp4, timeline.png and index.html; None writes
            nothing, and magnifies only the apexes.
        alpha: Magnification factor; 1 classifies the raw apex. None: the bundle's.
        backend: ``"torch"``, ``"onnx"`` or ``"tensorrt"``.
        precision: ``"fp32"``, ``"fp16"``, or in PyTorch ``"bf16"``.
        device: As the backend takes it; None: the best there is.
        window: Seconds of a window, of at most 10,000 frames. The longest micro-expressions last 0.5 s.
        hop: Seconds between the starts of windows, at most ``window`` and at least a tenth of a frame's; None: half of
            the window.
        onset: Place of the onset frame in the input, from 0, together with ``apex``: one window, nothing is spotted.
        apex: Place of the apex frame, after the onset.
        face: A point (x, y) in px on the face that is meant, where there are several.
        fps: Frames a second of a folder, 0.01 to 100,000.
        limit: Stop after this many seconds of the input, e.g. of a camera.
        progress: Whether to draw a progress bar.

    Raises:
        GammerError: A setting or the input is not usable, the input shows no face or several faces, or the output
            cannot be written.
    """
    from gammer_lightning.deploy.backends import open_backend
    from gammer_lightning.deploy.bundle import load_bundle
    from gammer_lightning.machine import one_thread, slow_bf16

    if isinstance(bundle, str | Path):
        bundle = load_bundle(bundle)
    alpha = bundle.alpha if alpha is None else alpha
    hop = window / 2 if hop is None else hop
    check_settings(alpha, window, hop, onset, apex, face, fps, limit)
    with ExitStack() as stack:
        source = stack.enter_context(open_video(input, fps))
        if onset is None:
            _check_rate(source, window, hop)
        threads = stack.enter_context(one_thread())
        engine = open_backend(bundle, backend, precision, device)
        workers = min(threads, WORKERS) if engine.device.type == "cpu" else 1
        pool = stack.enter_context(ThreadPoolExecutor(workers))
        result = Prediction(source.name, tuple(bundle.class_names), alpha, engine.name)
        _warn(result, _note_on_alpha(bundle, result), slow_bf16(precision, engine.device.type))
        predictor()  # takes a second to load, which is no frame's fault
        recorder = stack.enter_context(Recorder(out, source, result)) if out is not None else None
        analyst = _Analyst(engine, bundle, result, Tracker(source.name, face), recorder, pool)
        frames = stack.enter_context(closing(_counted(source, result, limit, progress)))
        started = monotonic()
        try:
            if onset is None or apex is None:
                analyst.slide(frames, window, hop)
            else:
                analyst.anchor(frames, onset, apex)
        except KeyboardInterrupt:
            result.stopped = True
            result.notes.append("stopped by Ctrl-C")
        analyst.show()
        result.speed = result.frames / (monotonic() - started)
        result.notes += source.notes
        _check_result(result, window)
        if recorder:
            recorder.finish(bundle)
    return result


def check_settings(
    alpha: float | None,
    window: float,
    hop: float | None,
    onset: int | None,
    apex: int | None,
    face: tuple[float, float] | None,
    fps: float,
    limit: float | None,
) -> None:
    """See that settings of `predict` are usable, as far as that is known without the bundle and the input.

    Raises:
        GammerError: One is not.
    """
    check_alphas([1 if alpha is None else alpha])
    check_fps(fps)
    check_limit(limit)
    hop = window / 2 if hop is None else hop
    rules = (
        (SHORTEST <= hop <= window <= LONGEST, f"windows of {window:g} s every {hop:g} s", f"{SHORTEST:g} <= hop <= "
         f"window <= {LONGEST:g}, so that no frame is left out", "--window 0.5 --hop 0.25"),
        ((onset is None) == (apex is None), f"onset {onset} and apex {apex}", "both are given or none",
         "--onset 12 --apex 40"),
        (onset is None or apex is None or 0 <= onset < apex, f"onset {onset} and apex {apex}",
         "frames are counted from 0, and the apex comes after the onset", "--onset 12 --apex 40"),
        (face is None or all(map(math.isfinite, face)), f"a face at {face}", "a point in px of the frame",
         "--face 320 240"),
    )  # fmt: skip
    for holds, value, rule, example in rules:
        if not holds:
            raise GammerError(value, rule, f"e.g. {example}")


def _check_rate(source: VideoSource, window: float, hop: float) -> None:
    """See that windows fit the frame rate of the input, where it states one.

    Raises:
        GammerError: They hold too many frames, too many of them begin at one frame, or all of them hold one.
    """
    rate = float(source.rate or 0)
    if not rate:
        return
    holds_two = window * rate > 1 or not isinstance(source, FrameFolder)
    rules = (
        (window * rate <= MAX_FRAMES, f"a window holds at most {MAX_FRAMES:,} frames, which are in memory",
         f"--window {MAX_FRAMES / rate:.3g}, or less"),
        (hop * rate * MAX_WINDOWS >= 1, f"at most {MAX_WINDOWS} windows begin within the time of one frame",
         f"--hop {1 / rate:.3g}, or more"),
        (holds_two, "a window holds an onset and an apex, so two frames",
         f"--window {4 / rate:.3g}, or the folder's frame rate with --fps"),
    )  # fmt: skip
    for holds, rule, example in rules:
        if not holds:
            raise GammerError(
                f"windows of {window:g} s every {hop:g} s, and {source.name} has {rate:g} frames a second",
                rule,
                f"e.g. {example}",
            )


def _warn(result: Prediction, *notes: str) -> None:
    for note in filter(None, notes):
        result.notes.append(note)
        print(f"warning: {note}", file=sys.stderr)


def _note_on_alpha(bundle: "Bundle", result: Prediction) -> str:
    """Return a note where alpha is outside the bundle's range, else an empty text."""
    least, largest = bundle.alpha_range
    if result.alpha == RAW or least <= result.alpha <= largest:
        return ""
    return f"alpha {result.alpha:g} is outside {least:g} to {largest:g}, the alphas this model was made with"


def _counted(
    source: VideoSource, result: Prediction, limit: float | None, progress: bool
) -> Generator[Frame, None, None]:
    """Yield the frames up to the limit, count them, and draw the bar."""
    with tqdm(total=source.total, desc=source.name, unit="frame", disable=not progress) as bar:
        for frame in source.frames():
            if limit is not None and frame.time >= limit:
                break
            height, width = frame.image.shape[:2]
            result.frames = frame.index + 1
            result.seconds = frame.time
            result.size = (height, width)
            yield frame
            bar.update()


def _check_result(result: Prediction, window: float) -> None:
    """See that a video that was read to its end has a window with a prediction.

    Raises:
        GammerError: It has none.
    """
    if result.stopped:
        return
    if result.frames == 1:
        raise GammerError(
            f"{result.input} has one frame", "an onset and an apex are two", "give a video, or a folder of images"
        )
    if {window.note for window in result.windows} == {ONE_FRAME}:
        step = result.seconds / (result.frames - 1)
        raise GammerError(
            f"windows of {window:g} s hold one frame each: {result.input} has one every {step:.3g} s",
            "a window holds an onset and an apex, so two frames",
            f"--window {4 * step:.3g}, or a video with more frames a second",
        )
    if not result.predicted:
        notes = ", ".join(sorted({window.note for window in result.windows}))
        raise GammerError(
            f"no face found in {result.input}: of {len(result.windows)} windows none can be used ({notes})",
            "it shows one upright frontal face, about 40 px wide or more, with some margin",
            "look at it; turn it upright, or crop it to the face",
        )


class _Analyst:
    """Turns frames into windows with predictions, and into magnified frames.

    Frames are magnified in a pool while the next window is read and spotted: on a CPU several frames at once, each on
    one thread, are faster than one frame on all.
    """

    def __init__(
        self,
        engine: "Backend",
        bundle: "Bundle",
        result: Prediction,
        tracker: Tracker,
        recorder: Recorder | None,
        pool: Executor,
    ):
        self.engine = engine
        self.bundle = bundle
        self.result = result
        self.tracker = tracker
        self.recorder = recorder
        self.pool = pool
        self.face: Face | None = None
        self.pending: deque[tuple[Shot, Window | None, PicturesJob]] = deque()

    def slide(self, frames: Iterator[Frame], length: float, hop: float) -> None:
        """Predict sliding windows, and show each frame in the window in whose middle it is."""
        for span in spans(frames, self.tracker, length, hop):
            pair, note = self._examine(span)
            shots = list(span.shown) if self.recorder else []
            reference = pair.reference if pair else None
            jobs: dict[int, PicturesJob] = {}
            if pair:
                jobs[pair.apex.index] = self._submit(pair.apex, reference)
            for shot in shots:
                if shot.index not in jobs:
                    jobs[shot.index] = self._submit(shot, reference)
            self.show()
            number = len(self.result.windows)
            end = span.shots[-1].time
            window: Window
            if pair:
                window = self._classify(number, span.start, end, pair, jobs[pair.apex.index])
            else:
                window = Window(number, span.start, end, note)
            self.result.windows.append(window)
            for shot in shots:
                self.pending.append((shot, window, jobs[shot.index]))

    def anchor(self, frames: Iterator[Frame], onset: int, apex: int) -> None:
        """Predict the one window from a given onset to a given apex, and show all frames from the onset on.

        Raises:
            GammerError: If the onset shows no face, or the frames end before the apex.
        """
        first: Shot | None = None
        reference: _Reference | None = None
        window: Window | None = None
        for frame in frames:
            if frame.index < onset:
                continue
            if first is None or reference is None:
                shot = first = self.tracker.keep(frame, self.tracker.search(frame))
                reference = self._refer(first, self._landmarks_of(first))
            else:
                shot = self.tracker.keep(frame)
            job = self._submit(shot, reference)
            if frame.index == apex:
                strength, motion = self._compare(reference, first, shot)
                pair = _AlignedPair(reference, first, shot, strength, motion)
                window = self._classify(0, first.time, shot.time, pair, job)
                self.result.windows.append(window)
            self.pending.append((shot, window, job))
            self.show(leave=IN_FLIGHT)
            if frame.index >= apex and self.recorder is None:
                return
        if self.result.frames <= apex:
            raise GammerError(
                f"apex {apex}, but {self.result.input} has {self.result.frames} frames",
                f"frames are counted from 0, here to {self.result.frames - 1}",
                "give smaller numbers for --onset and --apex",
            )

    def show(self, leave: int = 0) -> None:
        """Write the frames that wait, in order, except the last ``leave``."""
        while len(self.pending) > leave:
            shot, window, job = self.pending.popleft()
            original, magnified = job.result()
            if self.recorder:
                self.recorder.frame(shot, original, magnified, window)

    def _landmarks_of(self, onset: Shot) -> np.ndarray:
        if onset.landmarks is None:
            raise NoFaceError(
                f"no face found in {self.result.input}, frame {onset.index}",
                "the onset shows one upright frontal face, about 40 px wide or more",
                "give another --onset, or leave --onset and --apex out",
            )
        return onset.landmarks

    def _compare(self, reference: _Reference, onset: Shot, apex: Shot) -> tuple[float, float | None]:
        """Return strength and head motion of a given pair."""
        mask = expression_mask(reference.face.landmarks)
        onset_view = seen(onset.image, onset.within(reference.face))
        apex_view = seen(apex.image, apex.within(reference.face))
        strength = float(np.abs(apex_view[mask] - onset_view[mask]).mean())
        apex_landmarks = self.tracker.again(apex, reference.landmarks)
        if apex_landmarks is None:
            return strength, None
        return strength, head_motion(reference.landmarks, apex_landmarks)

    def _examine(self, span: Span) -> tuple[_AlignedPair | None, str]:
        """Spot onset and apex of a window.

        Returns:
            The pair, None where there is none, and then the note that says why.
        """
        first = span.shots[0]
        if first.landmarks is None or self.tracker.again(span.shots[-1], first.landmarks) is None:
            return None, NO_FACE
        if len(span.shots) < 2:
            return None, ONE_FRAME
        try:
            face = place_face(first.landmarks, first.size, self.result.input)
            onset, apex, strength = self._spot(span, face)
            onset_landmarks = first.landmarks if onset is first else self.tracker.again(onset, first.landmarks)
            apex_landmarks = self.tracker.again(apex, first.landmarks)
            if onset_landmarks is None or apex_landmarks is None:
                return None, NO_FACE
            reference = self._refer(onset, onset_landmarks)
        except OutsideError:
            return None, "face at the border"
        motion = head_motion(onset_landmarks, apex_landmarks)
        return _AlignedPair(reference, onset, apex, strength, motion), ""

    def _spot(self, span: Span, face: Face) -> tuple[Shot, Shot, float]:
        """Return a window's onset, apex, and the strength of the motion between them."""
        views = np.stack([seen(shot.image, shot.within(face)) for shot in span.shots])
        times = np.array([shot.time for shot in span.shots])
        onset, apex, strength = spot(views, face.landmarks, times)
        return span.shots[onset], span.shots[apex], strength

    def _refer(self, onset: Shot, landmarks: np.ndarray) -> _Reference:
        """Freeze the geometry on the onset, and encode it."""
        self.face = self._steady(landmarks, onset.size)
        crop = onset.crop(self.face)
        features = None if self.result.alpha == RAW else self.engine.encode(to_floats(crop)[None])
        return _Reference(landmarks, self.face, crop, features)

    def _steady(self, landmarks: np.ndarray, size: tuple[int, int]) -> Face:
        """Keep the transform of the window before if the eyes are still nearly at their places."""
        face = place_face(landmarks, size, self.result.input)
        if self.face is None:
            return face
        mapped = landmarks @ self.face.matrix[:, :2].T + self.face.matrix[:, 2]
        left_x = (CROP - IOD) / 2
        right_x = (CROP + IOD) / 2
        places = np.array([[left_x, EYE_LINE], [right_x, EYE_LINE]])
        distances = np.linalg.norm(eye_centres(mapped) - places, axis=1)
        if distances.max() > STEADY:
            return face
        return Face(self.face.matrix, mapped.astype(np.float32))

    def _classify(self, number: int, start: float, end: float, pair: _AlignedPair, job: PicturesJob) -> PredictedWindow:
        """Return a window with its prediction.

        Args:
            number: Of the window, from 0.
            start: Of the window, s.
            end: The same of its last frame.
            pair: Its onset and apex.
            job: Makes the apex's pictures.
        """
        crop, magnified = job.result()
        face_pair = FacePair((pair.reference.crop, magnified), pair.reference.face.landmarks)
        kind = INPUTS[self.bundle.input]
        patches = kind.compute(face_pair, self.bundle.patch_size)
        network_input = kind.network_input(torch.from_numpy(patches[None]))
        probabilities = self.engine.classify(network_input)[0].numpy()
        if not np.isfinite(probabilities).all():
            raise GammerError(
                f"{self.result.backend} answers with probabilities that are not finite",
                "a window has a probability for each class",
                "use --precision fp32 if it was a lower one; else the weights of the run overflow: train it again",
            )
        window = PredictedWindow(
            number=number,
            start=start,
            end=end,
            note="",
            onset=pair.onset.index,
            apex=pair.apex.index,
            onset_time=pair.onset.time,
            apex_time=pair.apex.time,
            strength=pair.strength,
            head_motion=pair.head_motion,
            landmarks=pair.reference.landmarks.astype(np.float32),
            probabilities=probabilities,
        )
        if self.recorder:
            self.recorder.window(window, pair.reference.crop, crop, magnified)
        return window

    def _submit(self, shot: Shot, reference: _Reference | None) -> PicturesJob:
        if reference is None:
            return self.pool.submit(self._render, shot, self.face or _whole(shot.size), None)
        return self.pool.submit(self._render, shot, reference.face, reference.features)

    def _render(self, shot: Shot, face: Face, features: "Encoded | None") -> tuple[np.ndarray, np.ndarray]:
        """Return a frame's crop, and the same magnified against an onset's features, uint8 ``(256, 256, 3)``."""
        crop = shot.crop(face)
        if features is None:
            return crop, crop
        crop_features = self.engine.encode(to_floats(crop)[None])
        magnified = self.engine.magnify(features, crop_features, self.result.alpha)
        return crop, to_pixels(magnified, f"{self.result.backend} at alpha {self.result.alpha:g}")


def _whole(size: tuple[int, int]) -> Face:
    """Return the middle square of a frame as if it were a face: what is shown before one was seen."""
    height, width = size
    scale = CROP / min(size)
    centre = np.array([[width / 2], [height / 2]])
    shift = CROP / 2 - scale * centre
    matrix = np.hstack([scale * np.eye(2), shift])
    return Face(matrix, np.zeros((68, 2), np.float32), detected=False)
