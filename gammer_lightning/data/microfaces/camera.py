"""The light and the camera: rendered frames in, recorded frames and their JPEG files out."""

from collections.abc import Iterator

import cv2
import numpy as np

from gammer_lightning.data.microfaces.facial_actions import Performance
from gammer_lightning.data.microfaces.truth import Subject

JPEG_QUALITY = 90


def recorded(performance: Performance, subject: Subject, fps: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the frames as a camera sees them, uint8: flicker of the lamps, noise of the sensor."""
    height, width = subject.framing.height, subject.framing.width
    # One tile of noise per clip, shifted and negated for each frame: drawing takes longer than rendering.
    noise = rng.uniform(0.7, 1.6) * rng.standard_normal((height + 64, width + 64, 3), np.float32)
    phases, depths = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0, [0.006, 0.01])
    for index, coefficients in enumerate(performance.coefficients):
        turns = np.sin(2 * np.pi * np.array([100.3, 0.7]) * index / fps + phases)
        top, left = rng.integers(0, 64, 2)
        window = noise[top : top + height, left : left + width]
        sign, gain = rng.choice((-1, 1)), 1 + depths @ turns
        image = cv2.addWeighted(subject.render(coefficients), gain, window, sign, 0)
        yield cv2.convertScaleAbs(np.maximum(image, 0))


def encoded(frame: np.ndarray) -> bytes:
    """Return a frame ``(height, width, 3)``, uint8, as a JPEG file."""
    return cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
