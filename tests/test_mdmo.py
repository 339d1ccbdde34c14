"""MDMO: its regions, main directions against a slow reference, the head's motion, and a known motion of one brow."""

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from casme2_sample import portrait

from gammer_lightning.data.inputs import mdmo
from gammer_lightning.data.inputs.catalogue import INPUTS
from gammer_lightning.faces.alignment import CROP, EYE_LINE, IOD
from gammer_lightning.faces.graph import MEAN_FACE

LANDMARKS = np.array(MEAN_FACE) * IOD + (CROP / 2, EYE_LINE)
SHAPE = (CROP, CROP)


@pytest.fixture(scope="module")
def masks():
    return mdmo.region_masks(mdmo.region_corners(LANDMARKS), SHAPE)


def clip(frames):
    """A clip of crops, of which `FaceClip` would be."""
    numbers = list(range(1, len(frames) + 1))
    take = dict(zip(numbers, frames, strict=True))

    def crops(asked):
        return np.stack([take[number] for number in asked])

    return SimpleNamespace(key="fake/01/EP01", numbers=numbers, frames=crops, landmarks=LANDMARKS)


def test_there_are_36_regions_that_mirror_each_other(masks):
    assert masks.shape == (36, *SHAPE) and masks.any((1, 2)).all()
    centre = CROP // 2
    mirrored = masks[:, :, 2 * centre - np.arange(1, CROP)]  # the picture's middle is column 128
    pairs = [*zip(range(3), range(5, 2, -1), strict=True), *zip(range(6, 21), range(21, 36), strict=True)]
    for left, right in pairs:
        one, other = masks[left][:, 1:], mirrored[right]
        assert (one != other).mean() < 0.002, (left, right)  # rounding of corners


def test_regions_share_borders_only(masks):
    """A pixel of a border, and no other, belongs to several."""
    kernel = np.ones((5, 5), np.uint8)
    inner = np.stack([cv2.erode(mask.astype(np.uint8), kernel) for mask in masks])
    assert inner.sum(0).max() == 1 and masks.any(0).mean() > 0.5


@pytest.mark.parametrize(
    ("landmark", "regions"),
    [(19, (0, 1, 7, 8)), (33, (14, 16, 29, 31)), (59, (16, 17)), (28, (9, 12, 24, 27)), (8, (20, 35))],
    ids=["brow", "nose", "lower lip", "nose bridge", "chin"],
)
def test_a_landmark_is_a_corner_of_the_regions_around_it(landmark, regions):
    corners = mdmo.region_corners(LANDMARKS)
    touching = np.flatnonzero((np.abs(corners - LANDMARKS[landmark]).max(2) < 1e-9).any(1))
    assert set(regions) <= set(touching)


def slow_main_direction(flow, mask):
    """The mean of the vectors whose direction is nearest the most frequent of eight."""
    groups = {}
    for row, column in np.argwhere(mask):
        vector = flow[row, column]
        angle = math.degrees(math.atan2(vector[1], vector[0])) % 360
        nearest = min(range(8), key=lambda k: min(abs(angle - 45 * k), 360 - abs(angle - 45 * k)))
        groups.setdefault(nearest, []).append(vector)
    most = max(groups, key=lambda direction: (len(groups[direction]), -direction))
    return np.mean(groups[most], 0)


def test_the_main_direction_is_that_of_a_slow_reference(masks):
    rng = np.random.default_rng(0)
    flow = rng.normal(size=(*SHAPE, 2)) + cv2.GaussianBlur(10 * rng.normal(size=(*SHAPE, 2)), (0, 0), 20)
    found = mdmo.main_directions(flow, masks)
    for index in (0, 9, 16, 35):
        np.testing.assert_allclose(found[index], slow_main_direction(flow, masks[index]), atol=1e-6)


def test_a_region_outside_the_image_has_no_flow():
    corners = np.array([[[-30, -30], [-30, -10], [-10, -10], [-10, -30]]])
    masks = mdmo.region_masks(corners, SHAPE)
    assert not masks.any() and (mdmo.main_directions(np.ones((*SHAPE, 2)), masks) == 0).all()


def test_the_motion_of_the_head_is_taken_away():
    down, across = np.mgrid[:CROP, :CROP].astype(float)
    turn = np.stack([1.5 - 0.01 * (down - 128) + 0.004 * across, -0.7 + 0.01 * (across - 128)], -1)
    local = np.zeros_like(turn)
    local[60:80, 100:150] = (0.5, -1)  # between jaw and nose
    still = np.rint(LANDMARKS[list(mdmo.STILL)]).astype(int).clip(0, CROP - 1)
    assert (local[still[:, 1], still[:, 0]] == 0).all()
    np.testing.assert_allclose(mdmo.without_head(turn + local, LANDMARKS), local, atol=0.02)


def test_lengths_and_angles_of_known_vectors():
    found = mdmo.weighted_polar(np.array([[0.5, 0], [0, 2], [-1, -1], [0, 0]]))
    lengths, angles = found[:4], found[4:]
    np.testing.assert_allclose(lengths, 0.8 * np.array([0.25, 1, math.sqrt(0.5), 0]), atol=1e-6)
    np.testing.assert_allclose(angles, 0.2 * np.array([0, math.pi / 2, -0.75 * math.pi, 0]), atol=1e-6)


def raised_brow(height):
    """A face whose left brow in the picture, and the skin around it, is raised by ``height`` px."""
    face = cv2.resize(portrait(CROP, CROP), SHAPE)
    down, across = np.mgrid[:CROP, :CROP].astype(np.float32)
    centre = LANDMARKS[17:22].mean(0)
    bump = np.exp(-((across - centre[0]) ** 2 + (down - centre[1]) ** 2) / (2 * 18**2))
    rows = (down + height * bump).astype(np.float32)
    return cv2.remap(face, across, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def test_a_raised_brow_is_seen_where_it_is_and_points_up():
    frames = [raised_brow(2 * strength) for strength in (0, 0.3, 0.6, 0.9, 1, 1, 0.9, 0.7, 0.5, 0.3, 0.1)]
    found = INPUTS["mdmo"].compute(clip(frames), 256)
    assert found.shape == INPUTS["mdmo"].shape(256) == (72,) and found.dtype == np.float32
    lengths, angles = found[:36] / 0.8, found[36:] / 0.2
    brow = [7, 8]
    assert lengths[brow].min() > 0.6 and lengths.max() == pytest.approx(1)
    assert np.median(lengths[21:]) < 0.2  # the other half of the face
    np.testing.assert_allclose(angles[brow], -math.pi / 2, atol=0.4)


def test_without_any_motion_all_is_zero():
    assert (mdmo.weighted_polar(np.zeros((36, 2))) == 0).all()
