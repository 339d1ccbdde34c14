"""Bi-WOOF: histograms of the orientation of the flow from onset to apex, weighted twice."""

import numpy as np

from gammer_lightning.data.inputs.blocks import block_of, block_sums, shares
from gammer_lightning.data.inputs.face_clip import FaceClip, resized
from gammer_lightning.data.inputs.flow import dense_flow, optical_strain

ORIENTATIONS = 8
"""Bins of 45 degrees, from -180 on."""


def bi_woof(clip: FaceClip, size: int) -> np.ndarray:
    """Return Bi-WOOF, float32 ``(200,)``: 8 orientations of each of 25 blocks.

    Source: Liong, See, Wong and Phan, Less is more: micro-expression recognition from video using apex frame, Signal
    Processing: Image Communication 62, 2018.
    """
    onset, apex = (resized(image, size) for image in clip.pair)
    flow = dense_flow(onset, apex, clip.flow_estimator)
    return bi_weighted(flow, optical_strain(flow))


def bi_weighted(flow: np.ndarray, strain: np.ndarray) -> np.ndarray:
    """Return the histograms of a flow ``(2, S, S)`` with its strain ``(S, S)``, float32 ``(200,)`` of length 1.

    A pixel counts as much as it moves; a block, whose histogram sums to 1, as much as it is strained on average. All
    is 0 where nothing moves.
    """
    blocks = block_of(len(strain))
    turns = np.arctan2(flow[1], flow[0]) / (2 * np.pi) + 0.5
    bins = (turns * ORIENTATIONS).astype(int) % ORIENTATIONS
    lengths = np.hypot(*flow)
    histograms = shares(block_sums(bins, blocks, blocks, ORIENTATIONS, lengths))
    one_bin = np.zeros_like(bins)
    strain_sums = block_sums(one_bin, blocks, blocks, 1, strain)
    pixel_counts = block_sums(one_bin, blocks, blocks, 1)
    weighted = histograms * (strain_sums / pixel_counts)
    norm = max(np.linalg.norm(weighted), np.finfo(float).tiny)
    return (weighted / norm).ravel().astype(np.float32)
