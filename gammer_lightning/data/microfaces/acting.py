"""How a clip of microfaces 2 is acted: a person's style, the course of its action units, and what moves besides."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gammer_lightning.data.microfaces import facial_actions, streams
from gammer_lightning.data.microfaces.facial_actions import (
    EXPOSURE,
    HEAD,
    HEAD_DRIFT,
    JAW,
    LIPS,
    REAL_COLUMNS,
    SIDES,
    SWALLOW,
    TONE,
    UNIT_COLUMNS,
    Performance,
    course,
    drift,
    unit_moves,
)
from gammer_lightning.data.microfaces.realism import Realism

# CASME II's durations and places of the apex (median 60 frames at 200 fps, p10-p90 40-95; .51 of the duration,
# .30-.71), as normal distributions of the log duration in s and of the place.
DURATION, DURATION_SPREAD, DURATIONS = 0.3, 0.337, (0.12, 0.75)
APEX, APEX_SPREAD, APEXES = 0.508, 0.16, (0.15, 0.88)
# Peak displacement, log-normal, in IOD (103.6 px in frames of 280x340): as in microfaces 1, and at faintness 1.
PEAK, FAINT_PEAK = 0.0127, 0.0066
PEAK_SPREAD, FAINT_SPREAD = 0.42, 1.1
PEAKS = (0.0008, 0.03)
# Standard deviations of the columns of `HEAD` (across and down in IOD, roll in rad, zoom, yaw and pitch in rad): of the
# sway, and of the steady motion in a second.
SWAY = np.array([0.001, 0.001, 0.00064, 0.00032, 0.001, 0.001])
STEADY = np.array([0.0064, 0.0064, 0.0032, 0.0016, 0.004, 0.004])
SWAY_RATES = (0.2, 2.0)  # Hz
UPPER_UNITS = (1, 2, 4, 5, 6, 7)


@dataclass(frozen=True)
class Person:
    """How a subject shows an action unit.

    Attributes:
        strengths: Factor of each column of `facial_actions.UNIT_COLUMNS`, ``(U,)``.
        companions: What each column (row) moves besides, ``(U, U)``, as shares of its own strength.
        speed: Exponent of the course between onset and apex: below 1 it starts fast.
        rest: Action units of the resting face, ``(U,)``, as shares of full expressions.
    """

    strengths: np.ndarray
    companions: np.ndarray
    speed: float
    rest: np.ndarray


def draw_person(realism: Realism, rng: np.random.Generator) -> Person:
    """Draw a subject's style, at the strengths of `Realism.style` and `Realism.rest`."""
    units = list(facial_actions.ACTION_UNITS)
    loudness, balance = 0.3 * rng.standard_normal(len(units)), 0.2 * rng.standard_normal(len(units))
    log_strengths = np.stack([loudness + balance, loudness - balance], 1).ravel()
    companions = np.zeros((len(UNIT_COLUMNS), len(UNIT_COLUMNS)))
    for row, unit in enumerate(units):
        near = [other for other in units if other != unit and (other in UPPER_UNITS) == (unit in UPPER_UNITS)]
        column, share = units.index(near[rng.integers(len(near))]), rng.uniform(0, 0.3)
        companions[[2 * row, 2 * row + 1], [2 * column, 2 * column + 1]] = share
    speed = np.exp(0.2 * realism.style * rng.standard_normal())
    rest = np.zeros(len(UNIT_COLUMNS))
    for unit in rng.choice(len(units), 3, replace=False):
        rest[2 * unit : 2 * unit + 2] = 0.08 * abs(rng.standard_normal()) * rng.uniform(0.7, 1.3, 2)
    return Person(np.exp(realism.style * log_strengths), realism.style * companions, float(speed), realism.rest * rest)


def perform_real(
    emotion: str,
    units: list[tuple[int, str]],
    person: Person,
    fps: int,
    realism: Realism,
    rng_of: Callable[[int], np.random.Generator],
) -> Performance:
    """Act one clip of microfaces 2.

    Args:
        emotion: Class of the clip.
        units: Action units with their side, ``"L"``, ``"R"`` or ``""`` for both.
        person: Who acts.
        fps: Frames a second.
        realism: Strengths of the nuisances.
        rng_of: Returns the clip's random numbers of a stream of `streams`.

    Returns:
        The clip, with the true action units and numbers of frames, and a column for each of `REAL_COLUMNS`.
    """
    timing = rng_of(streams.TIMING)
    first = int(timing.integers(11, 250))
    lead, tail = (max(3, round(timing.uniform(0.03, 0.08) * fps)) for _ in range(2))
    seconds = np.clip(DURATION * np.exp(DURATION_SPREAD * timing.standard_normal()), *DURATIONS)
    length = max(4, round(seconds * fps))
    place = np.clip(APEX + APEX_SPREAD * timing.standard_normal(), *APEXES)
    rise = int(np.clip(round(place * length), 2, length - 2))
    frames = np.arange(-lead, length + tail + 1)
    seconds = frames / fps

    result = np.zeros((len(frames), len(REAL_COLUMNS)))
    shown = course(frames, rise, length) ** person.speed
    strengths = unit_strengths(units, person, realism, rng_of(streams.STRENGTH))
    muscles = realism.tone * TONE * drift(seconds, len(UNIT_COLUMNS), rng_of(streams.TONE))
    result[:, : len(UNIT_COLUMNS)] = person.rest + shown[:, None] * strengths + muscles
    result[:, facial_actions.EYES] = _eyes(seconds, realism.eyes, rng_of(streams.EYES))
    result[:, list(HEAD)] = _head(seconds, realism, rng_of(streams.SWAY))
    jaw = drift(seconds, len(JAW), rng_of(streams.JAW))
    result[:, list(JAW)] = realism.tone * HEAD_DRIFT[: len(JAW)] * jaw
    result[:, [LIPS, SWALLOW]] = _mouth(seconds, realism, rng_of(streams.MOUTH))
    result[:, EXPOSURE] = 0.06 * realism.exposure * rng_of(streams.EXPOSURE).standard_normal()
    text, onset = units_text(units), first + lead
    return Performance(emotion, text, first, onset, onset + rise, onset + length, result.astype(np.float32))


def units_text(units: list[tuple[int, str]]) -> str:
    """Write action units as CASME II does, e.g. ``"4+L14"``."""
    return "+".join(f"{side}{unit}" for unit, side in units)


def unit_strengths(
    units: list[tuple[int, str]],
    person: Person,
    realism: Realism,
    rng: np.random.Generator,
    peak: float | None = None,
) -> np.ndarray:
    """Draw the strength of each unit column at the apex, ``(U,)``.

    Args:
        units: Action units with their side, as of `perform_real`.
        person: Who acts.
        realism: Strengths of the nuisances.
        rng: Draws the balance of the units, and the peak where none is given.
        peak: Largest displacement of a point of the face in IOD; None draws that of a micro-expression.
    """
    own = np.zeros(len(UNIT_COLUMNS))
    for unit, side in units:
        for name in SIDES:
            column = UNIT_COLUMNS.index((unit, name))
            own[column] = (side in ("", name)) * person.strengths[column] * rng.uniform(0.8, 1.2)
    strengths = own + own @ person.companions
    if peak is None:
        median = PEAK * (FAINT_PEAK / PEAK) ** realism.faintness
        spread = PEAK_SPREAD + (FAINT_SPREAD - PEAK_SPREAD) * min(realism.faintness, 1)
        peak = np.clip(median * np.exp(spread * rng.standard_normal()), *PEAKS)
    moved = np.linalg.norm(np.tensordot(strengths, unit_moves(), 1), axis=-1).max()
    return strengths * peak / moved


def _head(seconds: np.ndarray, realism: Realism, rng: np.random.Generator) -> np.ndarray:
    """Sway and steady motion of the head, ``(T, 6)``."""
    sway = SWAY * drift(seconds, len(HEAD), rng, SWAY_RATES)
    sway *= np.where(np.isin(HEAD, facial_actions.OUT_OF_PLANE), realism.head_turn, realism.head_shift)
    return sway + realism.head_drift * STEADY * rng.standard_normal(len(HEAD)) * seconds[:, None]


def _eyes(seconds: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Blink and gaze ``(T, 3)``: a blink in a tenth of the clips, a saccade in a third of them."""
    moments, chances = rng.uniform(seconds[0], seconds[-1], 2), rng.random(2)
    blink = rng.uniform(0.3, 1) * np.exp(-(((seconds - moments[0]) / 0.05) ** 2))
    saccade = 1 / (1 + np.exp(-np.clip((seconds - moments[1]) / 0.008, -50, 50)))
    gaze = saccade[:, None] * rng.uniform(-0.04, 0.04, 2) * [1, 0.5]
    fixation = 0.002 * min(strength, 1) * drift(seconds, 2, rng)
    is_blink, is_saccade = chances < strength * np.array([0.1, 0.35])
    return np.column_stack([is_blink * blink, is_saccade * gaze + fixation])


def _mouth(seconds: np.ndarray, realism: Realism, rng: np.random.Generator) -> np.ndarray:
    """Opening of the lips and lift of a swallow ``(T, 2)``: lips part in a quarter of the clips, a swallow in 6 %.

    They never close, since lips that close cannot be magnified further than shut.
    """
    moments, chances = rng.uniform(seconds[0], seconds[-1], 2), rng.random(2)
    way = np.clip((seconds - moments[0]) / 0.15 + 0.5, 0, 1)
    opening, lift = rng.uniform(0.004, 0.014), rng.uniform(0.004, 0.014)
    swallow = np.exp(-(((seconds - moments[1]) / 0.12) ** 2))
    parts, swallows = chances < np.array([0.25 * realism.lips, 0.06 * realism.swallow])
    return np.column_stack([parts * opening * way**2 * (3 - 2 * way), swallows * lift * swallow])
