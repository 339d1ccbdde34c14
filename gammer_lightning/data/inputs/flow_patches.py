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
    landmarks = clip.landmarks
    flow = dense_flow(onset, apex, clip.flow_estimator)
    strength = np.linalg.norm(flow, axis=0)
    directions = flow / np.maximum(strength, 1e-6)
    maps = np.dstack([strength, *directions])
    sides = patch_sides(strength, landmarks)
    cuts = [_cut(maps, centre, side, size) for centre, side in zip(landmarks, sides, strict=True)]
    patches = np.stack(cuts).transpose(0, 3, 1, 2)
    places = (landmarks - (CROP / 2, EYE_LINE)) / IOD
    geometry = np.column_stack([places, sides / MOST])
    geometry_planes = geometry[:, :, None, None] * np.ones((size, size))
    return np.concatenate([patches, geometry_planes], 1).astype(np.float32)


def patch_sides(strength: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return the side of each landmark's patch, int ``(N,)``, px, from `LEAST` to `MOST`.

    Args:
        strength: Magnitude of the flow ``(H, W)``, px.
        landmarks: (x, y) in px, ``(N, 2)``.
    """
    around = cv2.blur(strength, (MOST // 2, MOST // 2))
    height, width = strength.shape
    places = np.rint(landmarks).astype(int)
    columns, rows = places.clip(0, (width - 1, height - 1)).T
    sides = LEAST + GROWTH * around[rows, columns]
    return np.rint(sides).astype(int).clip(LEAST, MOST)


def _cut(maps: np.ndarray, centre: np.ndarray, side: int, size: int) -> np.ndarray:
    """Cut a patch of maps ``(H, W, C)``, replicated beyond their border, and bring it to ``(size, size, C)``."""
    height, width = maps.shape[:2]
    x, y = np.rint(centre).astype(int)
    offsets = np.arange(side) - side // 2
    rows = (y + offsets).clip(0, height - 1)
    columns = (x + offsets).clip(0, width - 1)
    patch = maps[rows][:, columns]
    return cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA)
