"""Geometry of microfaces 2: depth of a face, turns of the head, what does not move with the skin.

Turns are linear in their angle, as a magnified motion is by definition; the depth moves the nose more than the ears.
"""

import cv2
import numpy as np

from gammer_lightning.data.microfaces import warps
from gammer_lightning.data.microfaces.facial_actions import (
    CHIN,
    FACIAL,
    JAW,
    POINT_MIRROR,
    POINTS,
    coarse_grid,
    control_points,
    motion_fields,
)
from gammer_lightning.data.microfaces.portraits import Framing

# Depth of the points towards the camera, in IOD from the plane of the eyes, for the left half of the image and the
# midline: rounded, after means of adult faces (Farkas, Anthropometry of the Head and Face, 1994); silhouettes are ours.
DEPTHS = {
    0: -0.7, 1: -0.7, 2: -0.65, 3: -0.6, 4: -0.5, 5: -0.33, 6: -0.13, 7: 0.08, 8: 0.15, 17: -0.2, 18: 0.05, 19: 0.13,
    20: 0.18, 21: 0.2, 27: 0.17, 28: 0.3, 29: 0.43, 30: 0.55, 31: 0.25, 32: 0.33, 33: 0.37, 36: -0.08, 37: 0.04,
    38: 0.06, 39: 0.02, 40: 0.04, 41: 0.02, 48: 0.12, 49: 0.25, 50: 0.34, 51: 0.36, 57: 0.33, 58: 0.31, 59: 0.22,
    60: 0.13, 61: 0.3, 62: 0.31, 66: 0.3, 67: 0.29, 68: 0.12, CHIN: 0.25, 71: 0.03,
}  # fmt: skip
BORDER_DEPTH = -0.6  # of the frame's border: hair and neck
PIVOT = -1.4  # depth of the neck's joints, about which the head turns, in IOD

# What parting lips and a swallow do to the points: point -> (outward, up), at an opening or a lift of 1.
LIPS_PART: dict[int, tuple[float, float]] = {
    57: (0, -0.75), 58: (0, -0.65), 59: (0, -0.35), 66: (0, -0.4), 67: (0, -0.35), 61: (0, -0.35), 62: (0, -0.4),
    50: (0, 0.1), 51: (0, 0.1), CHIN: (0, -0.6), 6: (0, -0.2), 7: (0, -0.45), 8: (0, -0.55),
}  # fmt: skip
SWALLOW_LIFTS: dict[int, tuple[float, float]] = {
    CHIN: (0, 1), 8: (0, 0.6), 7: (0, 0.5), 6: (0, 0.2), 57: (0, 0.45), 58: (0, 0.35), 66: (0, 0.2), 67: (0, 0.2),
    61: (0, 0.1), 62: (0, 0.1), 48: (-0.15, 0), 60: (-0.12, 0),
}  # fmt: skip


def depth_map(landmarks: np.ndarray, framing: Framing) -> np.ndarray:
    """Return the depth of a face, towards the camera.

    Args:
        landmarks: Of the neutral face, in frame px, ``(68, 2)``.
        framing: Size of the frame.

    Returns:
        Float32 ``(h, w)`` on the grid of `facial_actions.motion_fields`, in IOD from the plane of the eyes.
    """
    depths = np.zeros(POINTS)
    for point, depth in DEPTHS.items():
        depths[[point, POINT_MIRROR[point]]] = depth
    return softened(_spline(landmarks, framing, depths[:, None], BORDER_DEPTH)[..., 0], framing)


def real_motion_fields(landmarks: np.ndarray, framing: Framing, rigid: np.ndarray) -> np.ndarray:
    """Return the displacement field of every column of `REAL_COLUMNS` at coefficient 1.

    Args:
        landmarks: Of the neutral face, in frame px, ``(68, 2)``.
        framing: Size of the frame.
        rigid: How far each place moves with the head alone, in [0, 1], ``(h, w)``; see `rigid_parts`.

    Returns:
        Float32 ``(K, h, w, 2)``, in px.
    """
    lever = depth_map(landmarks, framing) - PIVOT
    still = np.zeros_like(lever)
    turns = np.stack([np.stack([lever, still], -1), np.stack([still, lever], -1)])
    mouth = np.stack([_moves(LIPS_PART), _moves(SWALLOW_LIFTS)], 1).reshape(POINTS, -1)
    mouth = _spline(landmarks, framing, mouth, 0).reshape(*lever.shape, 2, 2).transpose(2, 0, 1, 3)
    exposure = np.zeros((1, *lever.shape, 2))
    extra = framing.iod * np.concatenate([turns, mouth, exposure])
    fields = np.concatenate([motion_fields(landmarks, framing), extra]).astype(np.float32)
    skin = [column for column in FACIAL if column not in JAW]  # hair beside the jaw goes with it
    fields[skin] *= (1 - rigid)[..., None]
    return fields


def rigid_parts(source: np.ndarray, landmarks: np.ndarray, framing: Framing) -> np.ndarray:
    """Return where a face shows hair, glasses, a hat or clothes: what has not the colour of its skin.

    Brows, eyes and the lower face have other colours, too (lips, shadows), and move with the skin all the same.

    Args:
        source: Neutral face at `portraits.SOURCE_SCALE`, ``(H, W, 3)`` in 0..255.
        landmarks: In frame px, ``(68, 2)``.
        framing: Size of the frame.

    Returns:
        Float32 ``(h, w)`` in [0, 1] on the grid of `facial_actions.motion_fields`, with soft edges.
    """
    xs, ys = coarse_grid(framing)
    small = cv2.resize(_cropped(source, framing), (len(xs), len(ys)), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    cell = np.array([framing.width / len(xs), framing.height / len(ys)])
    cheeks = np.rint(control_points(landmarks)[[68, 69, 30]] / cell).astype(int)
    skin = np.median([lab[y, x] for x, y in cheeks], 0)
    unlike = 1 - np.exp(-(((lab - skin) / [45, 14, 14]) ** 2).sum(-1))
    rigid = np.clip(2 * unlike - 0.6, 0, 1).astype(np.float32)
    features = np.zeros_like(rigid)
    for group in (range(17, 22), range(22, 27), range(36, 42), range(42, 48), range(2, 15)):
        hull = cv2.convexHull(np.rint(landmarks[list(group)] / cell).astype(np.int32))
        cv2.fillConvexPoly(features, hull, 1.0)
    features = cv2.dilate(features, np.ones((5, 5)))
    return softened(rigid * (1 - features), framing)


def softened(field: np.ndarray, framing: Framing) -> np.ndarray:
    """Blur a field ``(h, w)`` or ``(h, w, C)`` on the coarse grid by .06 IOD, the softness of skin."""
    return cv2.GaussianBlur(field, (0, 0), 0.06 * framing.iod * field.shape[1] / framing.width)


def _cropped(source: np.ndarray, framing: Framing) -> np.ndarray:
    """Cut the margin off a neutral face."""
    top = round(framing.margin * source.shape[0] / (framing.height + 2 * framing.margin))
    return source[top : len(source) - top, top : source.shape[1] - top]


def _moves(table: dict[int, tuple[float, float]]) -> np.ndarray:
    """Return the moves ``(POINTS, 2)`` of a symmetric table of (outward, up): x to the right and y downwards."""
    moves = np.zeros((POINTS, 2))
    for point, (outward, up) in table.items():
        moves[POINT_MIRROR[point]] = outward, -up
        moves[point] = (0 if POINT_MIRROR[point] == point else -outward), -up
    return moves


def _spline(landmarks: np.ndarray, framing: Framing, values: np.ndarray, at_border: float) -> np.ndarray:
    """Interpolate values ``(POINTS, C)`` at the control points over the grid, ``(h, w, C)``."""
    border = warps.border_points(0, 0, framing.width - 1, framing.height - 1)
    values = np.concatenate([values, np.full((len(border), values.shape[1]), at_border)])
    return warps.thin_plate_fields(np.concatenate([control_points(landmarks), border]), values, *coarse_grid(framing))
