"""Local binary patterns of a clip in space and time: LBP-TOP, LBP-SIP and STLBP-IP, a histogram for each block.

All are of the recorded frames from onset to offset, grey, which `interpolate` makes `SEQUENCE`, rounded to whole grey
levels as pictures have them, so that frames in which nothing moves are equal and their patterns the same everywhere.
"""

from collections.abc import Iterable
from functools import reduce

import cv2
import numpy as np
from skimage.feature import local_binary_pattern

from gammer_lightning.data.inputs.blocks import BLOCKS, block_of, block_sums, shares
from gammer_lightning.data.inputs.catalogue import SEQUENCE
from gammer_lightning.data.inputs.face_clip import FaceClip, resized
from gammer_lightning.data.inputs.tim import interpolate
from gammer_lightning.errors import GammerError

POINTS, RADIUS = 8, 3
"""Neighbours on a circle, and its radius in px and in interpolated frames: LBP-TOP(8, 8, 8, 3, 3, 3)."""
UNIFORM = POINTS * (POINTS - 1) + 3
"""Bins: one for each pattern of at most two changes around the circle, and one for all others."""
MASK = 9
"""Places of a projection that a pattern of STLBP-IP spans."""


def lbp_top(clip: FaceClip, size: int) -> np.ndarray:
    """Return LBP-TOP, float32 ``(4425,)``: 59 uniform patterns on the planes XY, XT and YT, of 25 blocks.

    Raises:
        GammerError: If fewer than three frames are recorded, or the face is too small.

    Source: Zhao and Pietikainen, Dynamic texture recognition using local binary patterns with an application to facial
    expressions, TPAMI 2007 (radius, points, uniform patterns); Pfister et al., ICCV 2011 (10 frames); Yan et al.,
    PLOS ONE 2014 (5x5x1 blocks).
    """
    return lbp_top_of(grey_frames(clip, size, "lbp_top"))


def lbp_sip(clip: FaceClip, size: int) -> np.ndarray:
    """Return LBP-SIP, float32 ``(500,)``: 16 patterns of four neighbours in space and 4 of two in time, of 25 blocks.

    Raises:
        GammerError: If fewer than three frames are recorded, or the face is too small.

    Source: Wang, See, Phan and Oh, LBP with six intersection points, ACCV 2014.
    """
    return lbp_sip_of(grey_frames(clip, size, "lbp_sip"))


def stlbp_ip(clip: FaceClip, size: int) -> np.ndarray:
    """Return STLBP-IP, float32 ``(15750,)``: patterns of what moved, projected onto the sides of each of 25 blocks.

    Raises:
        GammerError: If fewer than three frames are recorded, or the face is too small.

    Source: Huang, Wang, Zhao and Pietikainen, Facial micro-expression recognition using spatiotemporal local binary
    pattern with integral projection, ICCV workshops 2015.
    """
    return stlbp_ip_of(grey_frames(clip, size, "stlbp_ip"))


def grey_frames(clip: FaceClip, size: int, name: str) -> np.ndarray:
    """Return a clip as `SEQUENCE` grey frames, uint8 ``(10, S, S)``.

    Args:
        clip: The clip.
        size: Side of the face in px.
        name: What they are for, for the message.

    Raises:
        GammerError: If the face is too small.
    """
    least = BLOCKS * (2 * RADIUS + 1)
    if size < least:
        raise GammerError(
            f"data.size {size} with data.input {name}",
            f"each of its {BLOCKS}x{BLOCKS} blocks is at least as large as a pattern, {least // BLOCKS} px",
            f"set data.size to {least} or more, e.g. 128",
        )
    faces = [resized(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), size) for face in clip.frames(clip.numbers)]
    return interpolate(np.stack(faces), SEQUENCE).round().clip(0, 255).astype(np.uint8)


def lbp_top_of(frames: np.ndarray) -> np.ndarray:
    """Return LBP-TOP of frames ``(T, S, S)`` of whole numbers, T > 6: plane by plane, block by block.

    Only voxels at least the radius away from every border are described, the same ones on all planes.
    """
    inner = slice(RADIUS, -RADIUS)
    xy = uniform_patterns(frames)[inner]
    xt = uniform_patterns(frames.transpose(1, 0, 2))[inner]
    yt = uniform_patterns(frames.transpose(2, 0, 1))[inner]
    planes = [xy, xt.transpose(1, 0, 2), yt.transpose(1, 2, 0)]
    blocks = block_of(frames.shape[1])[inner]
    return _descriptor([block_sums(plane, blocks, blocks, UNIFORM) for plane in planes])


def lbp_sip_of(frames: np.ndarray) -> np.ndarray:
    """Return LBP-SIP of frames ``(T, S, S)``, T > 2: in space, then in time, each block by block."""
    inner = slice(1, -1)
    before = slice(None, -2)
    after = slice(2, None)
    centre = frames[inner, inner, inner]
    space = [frames[inner, before, inner], frames[inner, inner, before]]
    space += [frames[inner, after, inner], frames[inner, inner, after]]
    time = [frames[before, inner, inner], frames[after, inner, inner]]
    blocks = block_of(frames.shape[1])[inner]
    space_sums = block_sums(_code(space, centre), blocks, blocks, 16)
    time_sums = block_sums(_code(time, centre), blocks, blocks, 4)
    return _descriptor([space_sums, time_sums])


def stlbp_ip_of(frames: np.ndarray) -> np.ndarray:
    """Return STLBP-IP of frames ``(T, S, S)`` of whole numbers, T > 7.

    The difference of each frame from the first is summed across each block, row by row, and down it, column by
    column. Of both projections come the patterns of one projection (its `MASK` places, 256 codes, how the face has
    changed), then the uniform patterns of a projection over time (how it changes), block by block.
    """
    moved = frames[1:].astype(int) - frames[0]
    starts = np.searchsorted(block_of(len(moved[0])), np.arange(BLOCKS))
    across = np.add.reduceat(moved, starts, 2)
    down = np.add.reduceat(moved, starts, 1)
    counts = _of_projection(across.transpose(2, 0, 1))
    counts += _of_projection(down.transpose(1, 0, 2))
    return _descriptor(counts)


def _of_projection(projection: np.ndarray) -> list[np.ndarray]:
    """Return the histograms of a projection ``(5 blocks, T, S)``: of patterns in a frame, then of those over time.

    Blocks are counted along the projection first, which for rows and columns is a different order.
    """
    half = MASK // 2
    along = block_of(projection.shape[2])
    beside = np.arange(BLOCKS)
    windows = np.lib.stride_tricks.sliding_window_view(projection, MASK, 2)
    neighbours = [windows[..., place] for place in range(MASK) if place != half]
    still = _code(neighbours, windows[..., half])
    moving = uniform_patterns(projection)
    return [
        block_sums(still.transpose(1, 2, 0), along[half:-half], beside, 2 ** (MASK - 1)),
        block_sums(moving.transpose(1, 2, 0), along[RADIUS:-RADIUS], beside, UNIFORM),
    ]


def uniform_patterns(images: np.ndarray) -> np.ndarray:
    """Return the uniform pattern, 0 to 58, of every pixel at least the radius away from its image's border.

    Args:
        images: Whole numbers ``(N, H, W)``.

    Returns:
        int ``(N, H - 6, W - 6)``.
    """
    below_each_other = images.reshape(-1, images.shape[2])  # of inner pixels no neighbour is in another image
    patterns = local_binary_pattern(below_each_other, POINTS, RADIUS, "nri_uniform")
    inner = patterns.reshape(images.shape)[:, RADIUS:-RADIUS, RADIUS:-RADIUS]
    return inner.astype(int)


def _code(neighbours: list[np.ndarray], centre: np.ndarray) -> np.ndarray:
    """Return which neighbours are no less than the centre, one bit each."""
    bits = ((neighbour >= centre).astype(int) << bit for bit, neighbour in enumerate(neighbours))
    return reduce(np.add, bits)


def _descriptor(counts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([shares(blocks).ravel() for blocks in counts]).astype(np.float32)
