"""Inputs that are pictures: the apex, onset and apex, or a sequence of frames."""

import numpy as np

from gammer_lightning.data.inputs.face_clip import FaceClip, resized
from gammer_lightning.models.recognizer import SEQUENCE


def apex_image(clip: FaceClip, size: int) -> np.ndarray:
    """Return the apex's face, uint8 RGB ``(1, S, S, 3)``."""
    return onset_and_apex(clip, size)[1:]


def onset_and_apex(clip: FaceClip, size: int) -> np.ndarray:
    """Return the faces of onset and apex, uint8 RGB ``(2, S, S, 3)``."""
    return np.stack([resized(image, size) for image in clip.pair])


def sequence(clip: FaceClip, size: int) -> np.ndarray:
    """Return `SEQUENCE` recorded faces, evenly spread from onset to offset, uint8 RGB ``(T, S, S, 3)``."""
    return np.stack([resized(image, size) for image in spread(clip, SEQUENCE)])


def spread(clip: FaceClip, count: int) -> np.ndarray:
    """Return ``count`` crops of recorded frames, evenly spread from onset to offset, uint8 RGB ``(T, 256, 256, 3)``."""
    at = np.linspace(0, len(clip.numbers) - 1, count).round().astype(int)
    return clip.frames([clip.numbers[i] for i in at])
