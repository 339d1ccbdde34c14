"""MDMO: the main direction of the flow in each of 36 regions of the face, averaged over the frames."""

from itertools import pairwise

import cv2
import numpy as np

from gammer_lightning.data.inputs.face_clip import FaceClip
from gammer_lightning.data.inputs.frames import spread
from gammer_lightning.faces.graph import MIRROR
from gammer_lightning.models.recognizer import SEQUENCE

DIRECTIONS = 8
"""Bins of 45 degrees, the first around the direction to the right."""
LENGTH_WEIGHT = 0.8
"""Weight of the lengths; that of the angles is the rest to 1. MEB has .8."""
FOREHEAD = 20
"""Height of the regions of the forehead, px of the 256 px crop, where the crop shows as much."""
BROW_LINE = (17, 19, 21, 27, 22, 24, 26)
"""Landmarks along the lower border of the forehead's six regions."""
STILL = (*range(6), *range(11, 17), 30)
"""Landmarks that move with the head alone: the jaw without the chin, and the tip of the nose."""
CORNERS = (
    # beside and between eye and brow
    (1, 0, 17, 36),
    (36, 17, 19, 38),
    (38, 19, 21, 39),
    (39, 21, 27, 28),
    # below the eye
    (3, 2, (2, 41), (3, 29)),
    ((3, 29), (2, 41), 41, 39),
    ((3, 29), 39, 28, 29),
    # cheek and wing of the nose
    (4, 3, (3, 29), (4, 33)),
    ((4, 33), (3, 29), 29, 33),
    # corner of the mouth and the half of the mouth beside it
    (5, 4, (4, 33), (5, 59)),
    ((5, 59), (4, 33), 33, 59),
    # between lower lip and chin
    ((6, 58), (5, 59), 59, 58),
    ((8, 57), (6, 58), 58, 57),
    # jaw and chin
    (6, 5, (5, 59), (6, 58)),
    (8, 6, (6, 58), (8, 57)),
)
"""Corners of the 15 regions below the brows in the left half of the picture: a landmark, or the middle of two."""


def mdmo(clip: FaceClip, size: int) -> np.ndarray:
    """Return MDMO, float32 ``(72,)``.

    The flow goes from the first recorded frame, the onset, to each of nine more, evenly spread up to the offset. The
    crop's side is always 256 px, whatever ``size``: regions at the edge of the face are a few px wide.

    Returns:
        Lengths of the 36 regions' mean vectors, divided by the largest of them, times `LENGTH_WEIGHT`, then their
        angles from -pi to pi, 0 to the right and pi / 2 down, times 1 - `LENGTH_WEIGHT`.

    Source: Liu et al., A main directional mean optical flow feature for spontaneous micro-expression recognition, IEEE
    Transactions on Affective Computing 7(4), 2016. Its full text was not at hand: the regions and the points that align
    the head are those of MEB, github.com/tvaranka/meb, and so are the weight and Farneback's flow. That the average is
    one of vectors, and over ten frames, is our choice.
    """
    first, *others = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in spread(clip, SEQUENCE))
    masks = region_masks(region_corners(clip.landmarks), first.shape)
    vectors = np.zeros((len(masks), 2))
    for frame in others:
        flow = cv2.calcOpticalFlowFarneback(first, frame, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
        vectors += main_directions(without_head(flow, clip.landmarks), masks)
    return weighted_polar(vectors / len(others))


def region_corners(landmarks: np.ndarray) -> np.ndarray:
    """Return the corners of the 36 regions of landmarks ``(68, 2)``: ``(36, 4, 2)`` as (x, y), px.

    First are six of the forehead, from left to right, then those of `CORNERS`, then their mirror images.
    """
    brows = landmarks[list(BROW_LINE)]
    middle = BROW_LINE.index(27)
    above = brows - (0, FOREHEAD)
    left_of_middle = above[middle - 1]
    right_of_middle = above[middle + 1]
    above[middle] = (left_of_middle + right_of_middle) / 2
    edges = np.stack([brows, above], 1)
    forehead = [[*left, *right[::-1]] for left, right in pairwise(edges)]
    regions = [[_corner(landmarks, corner) for corner in corners] for corners in CORNERS]
    mirrored = landmarks[list(MIRROR)]
    mirrored_regions = [[_corner(mirrored, corner) for corner in corners] for corners in CORNERS]
    return np.array([*forehead, *regions, *mirrored_regions])


def _corner(landmarks: np.ndarray, corner: int | tuple[int, int]) -> np.ndarray:
    if isinstance(corner, tuple):
        return landmarks[list(corner)].mean(0)
    return landmarks[corner]


def region_masks(corners: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return which pixels of an image lie in each region with corners ``(N, 4, 2)``: bool ``(N, H, W)``."""
    masks = np.zeros((len(corners), *shape[:2]), np.uint8)
    for mask, region in zip(masks, np.rint(corners).astype(np.int32), strict=True):
        cv2.fillPoly(mask, [region], 1)
    return masks > 0


def without_head(flow: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return a flow ``(H, W, 2)`` without the affine motion that fits the landmarks in `STILL` best."""
    height, width = flow.shape[:2]
    points = landmarks[list(STILL)]
    places = np.rint(points).astype(int)
    columns, rows = places.clip(0, (width - 1, height - 1)).T
    moves = flow[rows, columns]
    design = np.column_stack([points, np.ones(len(points))])
    per_x, per_y, shift = np.linalg.lstsq(design, moves, rcond=None)[0]
    y, x = np.mgrid[:height, :width]
    head = x[..., None] * per_x + y[..., None] * per_y + shift
    return flow - head


def main_directions(flow: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return each region's mean flow in the direction that most of its pixels move in, ``(N, 2)``, px.

    Args:
        flow: ``(H, W, 2)``, across and down, px.
        masks: Pixels of each region, bool ``(N, H, W)``; a region outside the image has none, and no flow.
    """
    turns = np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi)
    bins = np.rint(turns * DIRECTIONS).astype(int) % DIRECTIONS
    means = np.zeros((len(masks), 2))
    for index, mask in enumerate(masks):
        if mask.any():
            counts = np.bincount(bins[mask], minlength=DIRECTIONS)
            means[index] = flow[mask & (bins == counts.argmax())].mean(0)
    return means


def weighted_polar(vectors: np.ndarray) -> np.ndarray:
    """Return vectors ``(N, 2)`` as weighted lengths and angles, float32 ``(2 N,)``, as `mdmo` does."""
    lengths = np.hypot(*vectors.T)
    lengths = lengths / max(lengths.max(), np.finfo(float).tiny)
    angles = np.arctan2(vectors[:, 1], vectors[:, 0])
    return np.concatenate([LENGTH_WEIGHT * lengths, (1 - LENGTH_WEIGHT) * angles]).astype(np.float32)
