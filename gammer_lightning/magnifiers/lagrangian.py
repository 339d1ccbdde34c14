"""Lagrangian magnification: dense optical flow, and the onset moved along alpha times the flow."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gammer_lightning.magnifiers.base import Magnifier
from gammer_lightning.magnifiers.checks import check_alphas, check_pair
from gammer_lightning.models.st_memm import warp

SMALLEST = 16  # px a side: the flow's patches need them
LUMA = (0.299, 0.587, 0.114)


class Lagrangian(Magnifier):
    """Moves every pixel of the onset by alpha times its flow towards the apex; alpha 0 is the onset, exactly.

    Flow is DIS, down to full resolution, refined variationally on the frames before they are rounded to 8 bits. Each
    pixel carries its displacement to where it ends; where several end, the one that moved further counts more, as it
    is likely in front; where none does, the displacements around are spread into the gap, so that it is filled with the
    skin beside it. The frame is then looked up in the onset. So it shows only what the onset shows: no new shading,
    and at alpha 1 the apex as far as the flow explains it.

    Source: the idea of Liu et al., Motion Magnification, SIGGRAPH 2005 (there with feature tracks, layers and texture
    synthesis); flow of Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016.
    """

    name = "lagrangian"
    fingerprint = "lagrangian 1"

    def forward(self, onset: Tensor, apex: Tensor, alphas: Sequence[float]) -> Tensor:
        """Magnify pairs ``(B, 3, H, W)``, 16 px or more a side, to ``(A, B, 3, H, W)`` in [0, 1].

        Raises:
            GammerError: The frames differ in size or are too small, or an alpha is no factor.
        """
        check_pair(onset, apex, SMALLEST)
        alphas = check_alphas(alphas)
        flows = [dense_flow(first, second) for first, second in zip(onset, apex, strict=True)]
        flow = torch.stack(flows)
        frames = []
        for alpha in alphas:
            displacement = spread(alpha * flow)
            stands_still = (displacement == 0).all(1, keepdim=True)
            frames.append(torch.where(stands_still, onset, warp(onset, displacement)))
        return torch.stack(frames).clamp(0, 1)


def dense_flow(onset: Tensor, apex: Tensor) -> Tensor:
    """Optical flow from one frame ``(3, H, W)`` to another.

    Returns:
        ``(2, H, W)``, x and y in px: what the onset shows at p the apex shows at p + flow(p).
    """
    first = _luma(onset)
    second = _luma(apex)
    flow = dis_flow(first, second, finest_scale=0)
    return torch.from_numpy(flow).permute(2, 0, 1).to(onset)


def dis_flow(first: np.ndarray, second: np.ndarray, finest_scale: int | None = None) -> np.ndarray:
    """Return flow by dense inverse search at OpenCV's medium setting, refined variationally, ``(H, W, 2)``, px.

    Args:
        first: Grey levels, 0 to 255, uint8 or float32 ``(H, W)``; the search rounds them, the refinement does not.
        second: Alike.
        finest_scale: The search ends at 1 / 2**finest_scale of the size; None leaves OpenCV's.
    """
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    if finest_scale is not None:
        dis.setFinestScale(finest_scale)
    first_bytes = first.round().clip(0, 255).astype(np.uint8)
    second_bytes = second.round().clip(0, 255).astype(np.uint8)
    # OpenCV's stub demands a flow to begin with, which its code does not
    rough = dis.calc(first_bytes, second_bytes, None)  # type: ignore[call-overload]
    return cv2.VariationalRefinement.create().calc(first, second, rough)


def _luma(frame: Tensor) -> np.ndarray:
    """Return the grey levels of a frame ``(3, H, W)`` in [0, 1]: float32 ``(H, W)``, 0 to 255, not rounded."""
    channels = frame.cpu().numpy() * 255
    return np.tensordot(LUMA, channels, 1).astype(np.float32)


def spread(displacement: Tensor) -> Tensor:
    """Carry displacements along themselves.

    Args:
        displacement: ``(B, 2, H, W)`` x and y in px, of the pixels where they start.

    Returns:
        The same of the pixels where they end, gaps filled from around.
    """
    batch, _, height, width = displacement.shape
    length = displacement.square().sum(1, keepdim=True)
    longest = length.amax((1, 2, 3), keepdim=True)
    weight = 1e-3 + length / longest.clamp(min=1e-12)
    carried = torch.cat([displacement * weight, weight], 1).flatten(2)
    columns, rows = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
    ends = displacement + torch.stack([columns, rows]).to(displacement)
    end_x = ends[:, 0]
    end_y = ends[:, 1]
    total = torch.zeros_like(carried)
    for dx in (0, 1):
        for dy in (0, 1):
            x = end_x.floor() + dx
            y = end_y.floor() + dy
            share = (1 - (end_x - x).abs()) * (1 - (end_y - y).abs())
            is_inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            share = (share * is_inside).flatten(1)[:, None]
            pixel = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
            pixel = pixel.long().flatten(1)[:, None]
            total.scatter_add_(2, pixel.expand_as(carried), carried * share)
    return _filled(total.view(batch, 3, height, width))


def _filled(total: Tensor) -> Tensor:
    """Divide sums ``(B, 3, H, W)`` by their weights, the last channel; gaps are filled from a coarser scale."""
    is_covered = total[:, 2:] > 1e-5
    mean = total[:, :2] / total[:, 2:].clamp(min=1e-12)
    if is_covered.all() or min(total.shape[-2:]) < 2:
        return mean
    around = _filled(F.avg_pool2d(total, 2, ceil_mode=True, count_include_pad=False))
    around = F.interpolate(around, total.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(is_covered, mean, around)
