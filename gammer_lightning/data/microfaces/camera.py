"""The light and the camera: rendered frames in, recorded frames and their JPEG files out."""

from collections.abc import Iterator

import cv2
import numpy as np

from gammer_lightning.data.microfaces.facial_actions import Performance
from gammer_lightning.data.microfaces.realism import Realism
from gammer_lightning.data.microfaces.truth import Subject

JPEG_QUALITY = 90
TILE = 64  # px, by which a clip's tile of noise is larger than a frame
# Of microfaces 2, at strength 1.
MAINS = 100.0  # Hz, in which lamps flicker at 50 Hz of mains
MAINS_ERROR = 0.3  # Hz, by which the mains or the camera's clock are off: the beat against the frame rate
FLICKER = 0.006  # share of each lamp's light: CASME II's lamps were chosen not to flicker
LIGHT_DRIFT = 0.01  # share of each lamp's light, by which it drifts slowly
READ_NOISE, LIGHT_NOISE, FIXED_NOISE = 0.5, 0.075, 0.2  # grey levels; the second times the root of the brightness
QUALITY_LOST = 20  # JPEG quality is 100 less this


def recorded(performance: Performance, subject: Subject, fps: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the frames as a camera sees them, uint8: flicker of the lamps, noise of the sensor."""
    height, width = subject.framing.height, subject.framing.width
    # One tile of noise per clip, shifted and negated for each frame: drawing takes longer than rendering.
    noise = rng.uniform(0.7, 1.6) * rng.standard_normal((height + TILE, width + TILE, 3), np.float32)
    phases, depths = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0, [0.006, 0.01])
    for index, coefficients in enumerate(performance.coefficients):
        turns = np.sin(2 * np.pi * np.array([100.3, 0.7]) * index / fps + phases)
        top, left = rng.integers(0, TILE, 2)
        window = noise[top : top + height, left : left + width]
        sign, gain = int(rng.choice((-1, 1))), float(1 + depths @ turns)
        image = cv2.addWeighted(subject.render(coefficients), gain, window, sign, 0)
        yield cv2.convertScaleAbs(np.maximum(image, 0))


def recorded_real(
    performance: Performance,
    subject: Subject,
    fps: int,
    realism: Realism,
    light_rng: np.random.Generator,
    noise_rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Yield the frames of a clip of microfaces 2 as a camera sees them, uint8 ``(height, width, 3)``.

    Two lamps, one on each side, flicker and drift; the sensor has noise of light and of reading, and a fixed pattern.
    """
    yield from recorded_motion(performance.coefficients, subject, fps, realism, light_rng, noise_rng)


def recorded_motion(
    coefficients: np.ndarray,
    subject: Subject,
    fps: int,
    realism: Realism,
    light_rng: np.random.Generator,
    noise_rng: np.random.Generator,
    start: int = 0,
) -> Iterator[np.ndarray]:
    """Yield the frames of any course of coefficients, as `recorded_real` does.

    Args:
        coefficients: One row per frame, ``(T, K)``.
        subject: Whose face is seen.
        fps: Frames a second.
        realism: Strengths of the nuisances.
        light_rng: Draws the lamps' flicker and drift.
        noise_rng: Draws the sensor's noise.
        start: First frame to render, from 0; its bytes are those that it has where all are rendered.
    """
    height, width = subject.framing.height, subject.framing.width
    seconds = np.arange(len(coefficients)) / fps
    lamps = _lamps(seconds, realism, light_rng)
    across = np.linspace(0, 1, subject.fields.shape[2])
    # One tile of noise per clip, shifted and negated for each frame: drawing takes longer than rendering.
    tile = noise_rng.standard_normal((height + TILE, width + TILE, 3), np.float32)
    fixed = np.float32(realism.noise * FIXED_NOISE) * noise_rng.standard_normal((height, width, 3), np.float32)
    strength = realism.noise * noise_rng.uniform(0.7, 1.3)
    for index, (motion, (left_lamp, right_lamp)) in enumerate(zip(coefficients, lamps, strict=True)):
        top, left = noise_rng.integers(0, TILE, 2)
        sign = np.float32(noise_rng.choice((-1, 1)))
        if index < start:
            continue
        light = np.broadcast_to(left_lamp * (1 - across) + right_lamp * across, subject.fields.shape[1:3])
        image = subject.render(motion, light)
        variance = cv2.addWeighted(image, (strength * LIGHT_NOISE) ** 2, fixed, 0, (strength * READ_NOISE) ** 2)
        window = sign * tile[top : top + height, left : left + width]
        noise = cv2.multiply(cv2.sqrt(np.maximum(variance, 0)), window)
        yield cv2.convertScaleAbs(np.maximum(image + noise + fixed, 0))


def _lamps(seconds: np.ndarray, realism: Realism, rng: np.random.Generator) -> np.ndarray:
    """Return the brightness of the left and the right lamp in each frame, ``(T, 2)``, about 1."""
    mains = MAINS + MAINS_ERROR * rng.uniform(-1, 1)
    phases, depths = rng.uniform(0, 2 * np.pi, (2, 2)), rng.uniform(0.3, 1, (2, 2))
    flicker = np.sin(2 * np.pi * mains * seconds[:, None] + phases[0])
    slow = np.sin(2 * np.pi * rng.uniform(0.1, 0.7, 2) * seconds[:, None] + phases[1])
    changes = realism.flicker * FLICKER * depths[0] * flicker + realism.light_drift * LIGHT_DRIFT * depths[1] * slow
    return 1 + changes


def encoded(frame: np.ndarray) -> bytes:
    """Return a frame ``(height, width, 3)``, uint8, as a JPEG file."""
    return cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def encoded_real(frame: np.ndarray, strength: float) -> bytes:
    """Return a frame as a JPEG file of microfaces 2.

    Args:
        frame: ``(height, width, 3)``, uint8.
        strength: Of `Realism.jpeg`: at 1 of quality 80, at 0 of 100 and with colour at full resolution.
    """
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if strength else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    quality = round(100 - QUALITY_LOST * strength)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    return cv2.imencode(".jpg", frame[..., ::-1], options)[1].tobytes()
