"""Inputs that are patches around the 68 landmarks: of the apex, of its difference from the onset, or of both."""

import numpy as np
import torch

from gammer_lightning.data.inputs.face_clip import FaceClip, FacePair
from gammer_lightning.faces.alignment import cut_patches
from gammer_lightning.pixels import to_floats, to_signed_floats

DIFFERENCE_SCALE = 4.0
"""A difference of 1/4 of the full range becomes 1; larger ones are clipped. Raw motion changes few levels."""


def apex_patches(clip: FaceClip | FacePair, size: int) -> np.ndarray:
    """Return patches of the apex, uint8 RGB ``(68, P, P, 3)``.

    Source: paper Sec. 2.2.
    """
    return cut_patches(clip.pair[1], clip.landmarks, size)


def onset_and_apex_patches(clip: FaceClip | FacePair, size: int) -> np.ndarray:
    """Return patches of onset and apex, uint8 RGB ``(2, 68, P, P, 3)``."""
    return np.stack([cut_patches(image, clip.landmarks, size) for image in clip.pair])


def difference(patches: torch.Tensor) -> torch.Tensor:
    """Return the apex's difference from the onset times `DIFFERENCE_SCALE`.

    Args:
        patches: Of onset and apex, uint8 ``(B, 2, 68, P, P, 3)``.

    Returns:
        float32 ``(B, 68, 3, P, P)`` in [-1, 1].
    """
    onset, apex = to_floats(patches).unbind(1)
    return ((apex - onset) * DIFFERENCE_SCALE).clamp(-1, 1).contiguous()


def apex_and_difference(patches: torch.Tensor) -> torch.Tensor:
    """Return the apex, then its `difference` from the onset, as six channels.

    Args:
        patches: Of onset and apex, uint8 ``(B, 2, 68, P, P, 3)``.

    Returns:
        float32 ``(B, 68, 6, P, P)`` in [-1, 1].
    """
    return torch.cat([to_signed_floats(patches[:, 1]), difference(patches)], 2)
