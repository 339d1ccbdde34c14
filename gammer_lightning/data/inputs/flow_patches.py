"""Patches of optical flow around the landmarks, the larger the more moves there."""

import cv2
import numpy as np

from gammer_lightning.data.inputs.face_clip import FaceClip
from gammer_lightning.data.inputs.flow import dense_flow
from gammer_lightning.faces.alignment import CROP, EYE_LINE, IOD

PLANES = ("magnitude", "cosine", "sine", "across", "down", "side")
LEAST, MOST = 8, 32
"""Sides of a patch in px of the 256 px crop."""
GROWTH = 16
"""How much larger a patch is for each px of flow around its landmark, px."""


def flow_patches(clip: FaceClip, size: int) -> np.ndarray:
    """Return the flow from onset to apex around each landmark, float32 ``(68, 6, S, S)``.

    Returns:
        `PLANES`: magnitude in px of the crop, cosine and sine of the direction, and, alike all over a patch, the
        landmark's place across and down from between the eyes (IOD) and the patch's side as a share of `MOST`. A patch
        is averaged or interpolated to S px.

    Source: after Kumar and Bhanu, CVPR workshops 2022, whose patches grow with the flow; the rule is ours.
    """
    onset, apex = clip.pair
    flow, landmarks = dense_flow(onset, apex, clip.flow_estimator), clip.landmarks
    strength = np.linalg.norm(flow, axis=0)
    maps = np.dstack([strength, *flow / np.maximum(strength, 1e-6)])
    sides = patch_sides(strength, landmarks)
    patches = [_cut(maps, centre, side, size) for centre, side in zip(landmarks, sides, strict=True)]
    places = (landmarks - (CROP / 2, EYE_LINE)) / IOD
    geometry = np.column_stack([places, sides / MOST])[:, :, None, None] * np.ones((size, size))
    return np.concatenate([np.stack(patches).transpose(0, 3, 1, 2), geometry], 1).astype(np.float32)


def patch_sides(strength: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return the side of each landmark's patch, int ``(N,)``, px, from `LEAST` to `MOST`.

    Args:
        strength: Magnitude of the flow ``(H, W)``, px.
        landmarks: (x, y) in px, ``(N, 2)``.
    """
    around = cv2.blur(strength, (MOST // 2, MOST // 2))
    columns, rows = np.rint(landmarks).astype(int).clip(0, np.array(strength.shape[::-1]) - 1).T
    return np.rint(LEAST + GROWTH * around[rows, columns]).astype(int).clip(LEAST, MOST)


def _cut(maps: np.ndarray, centre: np.ndarray, side: int, size: int) -> np.ndarray:
    """Cut a patch of maps ``(H, W, C)``, replicated beyond their border, and bring it to ``(size, size, C)``."""
    columns, rows = np.rint(centre).astype(int)[:, None] - side // 2 + np.arange(side)
    patch = maps[rows.clip(0, len(maps) - 1)][:, columns.clip(0, maps.shape[1] - 1)]
    return cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA)
