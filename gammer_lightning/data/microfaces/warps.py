"""Smooth warps: thin plate splines through control points, and images sampled along them."""

import cv2
import numpy as np
from scipy.interpolate import RBFInterpolator

SMOOTHING = 1.0  # px^2; without it, coinciding points make the spline's equations singular


def border_points(left: float, top: float, width: float, height: float) -> np.ndarray:
    """Return 20 points ``(20, 2)`` around a rectangle; pinning them keeps a warp inside it."""
    steps = np.linspace(0, 1, 6)[:-1]
    sides = [np.stack(pair, 1) for pair in ((steps, 0 * steps), (0 * steps + 1, steps))]
    unit = np.concatenate([*sides, *(1 - side for side in sides)])
    return np.array([left, top]) + unit * [width, height]


def cell_centres(start: float, length: float, count: int) -> np.ndarray:
    """Return the centres ``(count,)``, in px, of equal cells over pixels start..start + length - 1."""
    return start - 0.5 + (np.arange(count) + 0.5) * length / count


def thin_plate_fields(points: np.ndarray, values: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Interpolate values at control points by thin plate splines.

    Args:
        points: Control points ``(N, 2)``, x and y in px.
        values: Values ``(N, K)`` at the points, met closely: points that coincide, as lips do, share a mean.
        xs: Columns ``(W,)`` of the grid, in px.
        ys: Rows ``(H,)`` of the grid, in px.

    Returns:
        Fields ``(H, W, K)``, float32.

    Source: Bookstein, Principal Warps, IEEE TPAMI 11(6), 1989.
    """
    grid = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)
    fields = RBFInterpolator(points, values, kernel="thin_plate_spline", smoothing=SMOOTHING)(grid)
    return fields.reshape(len(ys), len(xs), -1).astype(np.float32)


def upsample(field: np.ndarray, width: int, height: int) -> np.ndarray:
    """Enlarge a field ``(h, w, 2)`` given at `cell_centres` to every pixel ``(height, width, 2)``."""
    return cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)


def sample(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Look an image ``(h, w, 3)`` up at places ``(H, W, 2)`` (x and y in px), bilinearly."""
    return cv2.remap(  # type: ignore[call-overload] # OpenCV's stub demands a second map, which one of pairs has not
        image, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
