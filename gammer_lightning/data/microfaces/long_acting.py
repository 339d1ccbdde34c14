"""How a long video is acted: when expressions come, and what a face does besides.

A subject shows micro- and macro-expressions, speaks now and then, blinks, looks around, moves the head, and does
nothing for long stretches. How one expression is acted is that of `acting`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gammer_lightning.data.clips.long_video import MACRO, MICRO
from gammer_lightning.data.microfaces import acting, facial_actions, streams
from gammer_lightning.data.microfaces.acting import Person, unit_strengths, units_text
from gammer_lightning.data.microfaces.annotation import draw_units
from gammer_lightning.data.microfaces.facial_actions import (
    CLASSES,
    EXPOSURE,
    EYES,
    HEAD,
    JAW,
    LIPS,
    REAL_COLUMNS,
    SWALLOW,
    UNIT_COLUMNS,
    course,
    drift,
)
from gammer_lightning.data.microfaces.realism import Realism
from gammer_lightning.data.microfaces.truth import Subject

LONGEST_MICRO = 0.5
"""Seconds up to which an expression is a micro-expression, as in CAS(ME)2."""
# All of these are ours: no data set publishes how often its subjects blink, look around or speak.
MICROS, MACROS, BOUTS = 2.0, 1.5, 0.7  # a minute, of expressions and of speech
MICRO_SECONDS = (0.16, 0.46)
MACRO_SECONDS, MACRO_SPREAD, MACRO_RANGE = 1.3, 0.45, (0.6, 4.0)  # log-normal
MACRO_PEAK, MACRO_PEAK_SPREAD, MACRO_PEAKS = 0.05, 0.4, (0.02, 0.12)  # IOD, log-normal
SPEECH_SECONDS = (1.5, 4.0)
SYLLABLES = (3.0, 5.5)  # Hz
SPEECH_OPENING = (0.012, 0.035)  # IOD, between the lips
SPEECH_UNITS = {12: 0.06, 15: 0.1, 17: 0.2, 24: 0.12}  # shares of full expressions, that speech moves
BLINKS, SACCADES, SWALLOWS, SHIFTS = 14.0, 30.0, 1.5, 3.0  # a minute
BLINK_SECONDS = 0.05
GAP = 1.0  # least seconds between two events, and from the ends of the video
WANDER = np.array([0.03, 0.02, 0.015, 0.01, 0.03, 0.02])
"""Standard deviations of the head's slow wandering, in the units of `acting.SWAY`."""
WANDER_RATES = (0.01, 0.08)  # Hz
SHIFT_SIZES = np.array([0.04, 0.025, 0.02, 0.01, 0.04, 0.03])
SHIFT_SECONDS = (0.5, 1.2)


@dataclass(frozen=True)
class Event:
    """One true expression, or one bout of speech.

    Attributes:
        kind: ``"micro"``, ``"macro"`` or ``"speech"``.
        onset: Number of its first frame, from 1; apex and offset are numbered alike.
        apex: The frame in which it is strongest.
        offset: The frame in which it has ended.
        emotion: Class, as in `facial_actions.CLASSES`; empty of speech.
        action_units: As CAS(ME)2 writes them, e.g. ``"4+L14"``; empty of speech.
    """

    kind: str
    onset: int
    apex: int
    offset: int
    emotion: str = ""
    action_units: str = ""

    @property
    def is_expression(self) -> bool:
        """Whether it is an expression, not speech."""
        return self.kind != "speech"


@dataclass(frozen=True)
class LongPerformance:
    """One long video as it is acted.

    Attributes:
        events: Expressions and bouts of speech, in order; none overlap.
        coefficients: One row per frame and one column per name in `facial_actions.REAL_COLUMNS`, float32 ``(T, K)``.
    """

    events: tuple[Event, ...]
    coefficients: np.ndarray


def perform_long(
    seconds: float,
    is_still: bool,
    person: Person,
    subject: Subject,
    fps: int,
    realism: Realism,
    rng_of: Callable[..., np.random.Generator],
) -> LongPerformance:
    """Act one long video.

    Args:
        seconds: Its length.
        is_still: Whether it shows no expression and no speech; head, eyes and muscles move all the same.
        person: Who acts.
        subject: The face; expressions are made weaker until its skin does not fold.
        fps: Frames a second.
        realism: Strengths of the nuisances.
        rng_of: Returns the video's random numbers of a stream of `streams`; with a number besides, those of an event.
    """
    count = round(seconds * fps)
    times = np.arange(count) / fps
    result = np.zeros((count, len(REAL_COLUMNS)))
    muscles = realism.tone * facial_actions.TONE * drift(times, len(UNIT_COLUMNS), rng_of(streams.TONE))
    result[:, : len(UNIT_COLUMNS)] = person.rest + muscles
    result[:, EYES] = _eyes(times, realism.eyes, rng_of(streams.EYES))
    result[:, list(HEAD)] = _head(times, realism, rng_of(streams.POSTURE))
    jaw = drift(times, len(JAW), rng_of(streams.JAW))
    result[:, list(JAW)] = realism.tone * facial_actions.HEAD_DRIFT[: len(JAW)] * jaw
    result[:, SWALLOW] = _swallows(times, realism.swallow, rng_of(streams.MOUTH))
    result[:, EXPOSURE] = 0.06 * realism.exposure * rng_of(streams.EXPOSURE).standard_normal()
    planned = [] if is_still else _schedule(seconds, rng_of(streams.SCHEDULE))
    events = []
    for number, (kind, start, length) in enumerate(planned):
        first = round(start * fps)
        if kind == "speech":
            event = _speak(result, times, first, round(length * fps), rng_of(streams.SPEECH, number))
        else:
            rng = rng_of(streams.EXPRESSION, number)
            event = _express(result, kind, first, length, person, subject, fps, realism, rng)
        events.append(event)
    return LongPerformance(tuple(events), result.astype(np.float32))


def _schedule(seconds: float, rng: np.random.Generator) -> list[tuple[str, float, float]]:
    """Draw kind, start and length in s of each event; gaps are uneven, so that some are long."""
    kinds = []
    for kind, rate in ((MICRO, MICROS), (MACRO, MACROS), ("speech", BOUTS)):
        kinds += [kind] * max(int(kind != "speech"), round(rate * seconds / 60))
    drawn = {
        MICRO: lambda: rng.uniform(*MICRO_SECONDS),
        MACRO: lambda: float(np.clip(MACRO_SECONDS * np.exp(MACRO_SPREAD * rng.standard_normal()), *MACRO_RANGE)),
        "speech": lambda: rng.uniform(*SPEECH_SECONDS),
    }
    order = rng.permutation(kinds).tolist()
    lengths = [drawn[kind]() for kind in order]
    spare = seconds - sum(lengths) - GAP * (len(order) + 1)
    while spare < 0:  # a video of seconds: the last ones find no room
        order.pop()
        spare += lengths.pop() + GAP
    gaps = spare * rng.dirichlet(np.full(len(order) + 1, 0.8))
    planned = []
    now = 0.0
    for kind, length, gap in zip(order, lengths, gaps, strict=False):
        now += GAP + gap
        planned.append((kind, now, length))
        now += length
    return planned


def _express(
    result: np.ndarray,
    kind: str,
    first: int,
    seconds: float,
    person: Person,
    subject: Subject,
    fps: int,
    realism: Realism,
    rng: np.random.Generator,
) -> Event:
    """Add one expression to the coefficients ``(T, K)`` and return it."""
    emotion = str(rng.choice(CLASSES))
    units = draw_units(emotion, realism.ambiguity, rng)
    length = max(4, round(seconds * fps))
    if kind == MICRO:
        length = min(length, int(LONGEST_MICRO * fps) - 1)
        place = np.clip(acting.APEX + acting.APEX_SPREAD * rng.standard_normal(), *acting.APEXES)
        hold = 0
        peak = None
    else:
        length = max(length, int(LONGEST_MICRO * fps) + 2)
        place = rng.uniform(0.2, 0.4)
        hold = round(rng.uniform(0.1, 0.4) * length)
        peak = float(np.clip(MACRO_PEAK * np.exp(MACRO_PEAK_SPREAD * rng.standard_normal()), *MACRO_PEAKS))
    rise = int(np.clip(round(place * length), 2, length - hold - 2))
    frames = np.arange(length + 1)
    # The course of a clip, in which a macro-expression stays at its apex for a while.
    unheld = np.interp(frames, [0, rise, rise + hold, length], [0, rise, rise, length - hold])
    shown = course(unheld, rise, length - hold) ** person.speed
    strengths = unit_strengths(units, person, realism, rng, peak)
    block = result[first : first + length + 1]
    strengths = _unfolded(strengths, block[rise], subject)
    block[:, : len(UNIT_COLUMNS)] += shown[:, None] * strengths
    onset = first + 1
    return Event(kind, onset, onset + rise, onset + length, emotion, units_text(units))


def _unfolded(strengths: np.ndarray, around: np.ndarray, subject: Subject) -> np.ndarray:
    """Make an expression ``(U,)`` weaker until no skin folds in it, the other coefficients ``(K,)`` as they are."""
    is_facial = np.isin(np.arange(len(around)), facial_actions.FACIAL)
    motion = np.where(is_facial, around, 0)
    while True:
        moved = motion.copy()
        moved[: len(strengths)] += strengths
        if subject.stretch(moved).min() >= 0.05 or not strengths.any():
            return strengths
        strengths = np.where(np.abs(strengths) > 1e-4, 0.9 * strengths, 0)


def _speak(result: np.ndarray, times: np.ndarray, first: int, length: int, rng: np.random.Generator) -> Event:
    """Add speech-like motion of lips and chin to the coefficients ``(T, K)`` and return its interval."""
    seconds = times[: length + 1]
    fade = np.clip(np.minimum(seconds, seconds[-1] - seconds) / 0.15, 0, 1)
    syllables = 0.5 - 0.5 * np.cos(2 * np.pi * np.cumsum(rng.uniform(*SYLLABLES) * np.gradient(seconds)))
    loudness = 0.6 + 0.4 * drift(seconds, 1, rng, (0.5, 2.0))[:, 0] / 2
    block = result[first : first + length + 1]
    block[:, LIPS] += rng.uniform(*SPEECH_OPENING) * fade * syllables * loudness
    wobble = drift(seconds, len(SPEECH_UNITS), rng, SYLLABLES)
    for column, (unit, share) in enumerate(SPEECH_UNITS.items()):
        moved = share * fade * (syllables * loudness + 0.3 * wobble[:, column])
        for side in facial_actions.SIDES:
            block[:, UNIT_COLUMNS.index((unit, side))] += 0.5 * moved
    loudest = int(np.argmax(block[:, LIPS]))
    return Event("speech", first + 1, first + 1 + loudest, first + 1 + length)


def _moments(times: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Draw when something happens that comes so many times a minute, in s."""
    end = times[-1] if len(times) else 0
    return np.sort(rng.uniform(0, end, rng.poisson(rate * end / 60)))


def _head(times: np.ndarray, realism: Realism, rng: np.random.Generator) -> np.ndarray:
    """Sway, slow wandering and changes of posture of the head, ``(T, 6)``."""
    strengths = np.where(np.isin(HEAD, facial_actions.OUT_OF_PLANE), realism.head_turn, realism.head_shift)
    sway = acting.SWAY * drift(times, len(HEAD), rng, acting.SWAY_RATES)
    wander = WANDER * drift(times, len(HEAD), rng, WANDER_RATES)
    posture = np.zeros((len(times), len(HEAD)))
    now = np.zeros(len(HEAD))
    for moment in _moments(times, SHIFTS, rng):
        goal = SHIFT_SIZES * rng.standard_normal(len(HEAD))
        share = np.clip((times - moment) / rng.uniform(*SHIFT_SECONDS), 0, 1)
        posture += (share**2 * (3 - 2 * share))[:, None] * (goal - now)
        now = goal
    return strengths * sway + realism.head_drift * (wander + posture)


def _eyes(times: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Blinks and gaze, ``(T, 3)``."""
    blinks = np.zeros(len(times))
    for moment in _moments(times, BLINKS * strength, rng):
        blinks = np.maximum(blinks, rng.uniform(0.7, 1) * np.exp(-(((times - moment) / BLINK_SECONDS) ** 2)))
    gaze = 0.002 * min(strength, 1) * drift(times, 2, rng)
    now = np.zeros(2)
    for moment in _moments(times, SACCADES * strength, rng):
        goal = rng.uniform(-0.04, 0.04, 2) * [1, 0.5]
        saccade = 1 / (1 + np.exp(-np.clip((times - moment) / 0.008, -50, 50)))
        gaze += saccade[:, None] * (goal - now)
        now = goal
    return np.column_stack([blinks, gaze])


def _swallows(times: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Lift of the chin in IOD, ``(T,)``."""
    lift = np.zeros(len(times))
    for moment in _moments(times, SWALLOWS * strength, rng):
        lift += rng.uniform(0.004, 0.014) * np.exp(-(((times - moment) / 0.12) ** 2))
    return lift
