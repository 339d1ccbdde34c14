"""Dense optical flow from onset to apex, and its strain."""

from importlib.metadata import version

import cv2
import numpy as np

from gammer_lightning.data.inputs.face_clip import TV_L1, FaceClip, resized
from gammer_lightning.errors import GammerError
from gammer_lightning.magnifiers.lagrangian import dis_flow

STRAIN_SCALE = 10.0
"""Brings the strain, some .05 per unit, to the size of the flow, some .5 px. All clips share it: scaling each clip by
its own largest value, as much public code does, would erase how strong a motion is."""


def flow_and_strain(clip: FaceClip, size: int) -> np.ndarray:
    """Return the flow from onset to apex and its strain, float32 ``(3, S, S)``, as `flow_maps` does."""
    onset, apex = clip.pair
    return flow_maps(onset, apex, size, clip.flow_estimator)


def two_phase_flow(clip: FaceClip, size: int) -> np.ndarray:
    """Return flow and strain from onset to apex, then those from apex to offset, float32 ``(6, S, S)``.

    Each phase is as `flow_maps` gives it. The offset is the last recorded frame up to the annotated one.
    """
    onset, apex = clip.pair
    (offset,) = clip.frames(clip.numbers[-1:])
    rise = flow_maps(onset, apex, size, clip.flow_estimator)
    fall = flow_maps(apex, offset, size, clip.flow_estimator)
    return np.concatenate([rise, fall])


def flow_maps(first: np.ndarray, second: np.ndarray, size: int, estimator: str) -> np.ndarray:
    """Return the flow from one crop to another and its strain, float32 ``(3, S, S)``.

    Args:
        first: uint8 RGB ``(256, 256, 3)``.
        second: Alike.
        size: Side S of the maps, px.
        estimator: As in `dense_flow`.

    Returns:
        Across and down in px of the 256 px crop, and the strain times `STRAIN_SCALE`, averaged over the pixels that
        become one.
    """
    flow = dense_flow(first, second, estimator)
    maps = np.dstack([flow[0], flow[1], STRAIN_SCALE * optical_strain(flow)])
    return np.ascontiguousarray(resized(maps, size).transpose(2, 0, 1))


def dense_flow(onset: np.ndarray, apex: np.ndarray, estimator: str = TV_L1) -> np.ndarray:
    """Return where each pixel of the onset lies in the apex, relative to it: float32 ``(2, H, W)``, across, down, px.

    Args:
        onset: uint8 RGB ``(H, W, 3)``.
        apex: Alike.
        estimator: ``"tv-l1"``, or ``"dis"``: dense inverse search at OpenCV's medium setting, refined variationally.

    Source: Zach, Pock and Bischof, A duality based approach for realtime TV-L1 optical flow, DAGM 2007; OpenCV's
    defaults. Kroeger et al., Fast optical flow using dense inverse search, ECCV 2016.
    """
    first = cv2.cvtColor(onset, cv2.COLOR_RGB2GRAY)
    second = cv2.cvtColor(apex, cv2.COLOR_RGB2GRAY)
    if estimator == TV_L1:
        # OpenCV's stub demands a flow to begin with, which its code does not
        flow = cv2.optflow.DualTVL1OpticalFlow.create().calc(first, second, None)  # type: ignore[call-overload]
    else:
        flow = dis_flow(first, second)
    return flow.transpose(2, 0, 1)


def need_optflow() -> None:
    """See whether there is TV-L1 flow.

    Raises:
        GammerError: If OpenCV lacks its contributed modules.
    """
    if not hasattr(cv2, "optflow"):
        release = version("opencv-python-headless")
        raise GammerError(
            "OpenCV lacks its module optflow",
            "TV-L1 flow is among its contributed modules, in the package opencv-contrib-python-headless",
            f"pip install --force-reinstall --no-deps opencv-contrib-python-headless=={release}",
        )


def optical_strain(flow: np.ndarray) -> np.ndarray:
    """Return the magnitude of the strain of a flow ``(2, H, W)``: ``(H, W)``, per unit length.

    Source: Shreve et al., Macro- and micro-expression spotting in long videos using spatio-temporal strain, FG 2011:
    sqrt(u_x^2 + v_y^2 + (u_y + v_x)^2 / 2).
    """
    u, v = flow
    u_y, u_x = np.gradient(u)
    v_y, v_x = np.gradient(v)
    return np.sqrt(u_x**2 + v_y**2 + (u_y + v_x) ** 2 / 2)
