"""Hand-made descriptors: against slow references, their invariances, known motions, and bad clips."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from scipy.linalg import eigh

from gammer_lightning.data.inputs.bi_woof import bi_weighted, bi_woof
from gammer_lightning.data.inputs.catalogue import INPUTS
from gammer_lightning.data.inputs.lbp import RADIUS, lbp_sip_of, lbp_top_of, stlbp_ip_of, uniform_patterns
from gammer_lightning.data.inputs.tim import interpolate
from gammer_lightning.errors import GammerError

DESCRIPTORS = ("lbp_top", "lbp_sip", "stlbp_ip", "bi_woof")


def noise(frames=10, size=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, size, size))


def clip(count=5, size=64):
    """A clip of blurred noise that drifts across, of which `FaceClip` would be the crops."""
    faces = noise(1, size, 3)[0].astype(np.uint8)
    faces = cv2.GaussianBlur(faces, (0, 0), 2)[None, :, :, None].repeat(3, 3)
    frames = np.concatenate([np.roll(faces, shift, 2) for shift in range(count)])
    take = {number: frame for number, frame in enumerate(frames, 1)}
    return SimpleNamespace(
        key="fake/01/EP01",
        numbers=list(take),
        frames=lambda numbers: np.stack([take[number] for number in numbers]),
        pair=frames[[0, 1]],
        flow_estimator="tv-l1",
    )


def embedded(frames, count):
    """The temporal interpolation model step by step, as published: graph, embedding, curve, and back to images."""
    n = len(frames)
    images = frames.reshape(n, -1).T
    mean = images.mean(1, keepdims=True)
    basis, size, right = np.linalg.svd(images - mean, full_matrices=False)
    q = size[: n - 1, None] * right[: n - 1]
    laplacian = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    laplacian[0, 0] = laplacian[-1, -1] = 1
    _, w = eigh(q @ laplacian @ q.T, q @ q.T)

    def curve(t):
        k = np.arange(1, n)
        return np.sin(np.pi * k * t[:, None] + np.pi * (n - k) / (2 * n)).T

    m = (w.T @ q)[:, 0] / curve(np.array([1 / n]))[:, 0]
    synthetic = basis[:, : n - 1] @ np.linalg.inv(w.T) @ (m[:, None] * curve(np.linspace(1 / n, 1, count)))
    return (synthetic + mean).T.reshape(count, *frames.shape[1:])


def slow_patterns(image, row, column):
    """The bits of the eight neighbours of one pixel, interpolated between pixels."""
    bits = []
    for point in range(8):
        angle = 2 * np.pi * point / 8
        y, x = row - round(RADIUS * np.sin(angle), 5), column + round(RADIUS * np.cos(angle), 5)
        top, left = int(np.floor(y)), int(np.floor(x))
        down, across = y - top, x - left
        value = sum(
            image[top + i, left + j] * (down if i else 1 - down) * (across if j else 1 - across)
            for i in (0, 1)
            for j in (0, 1)
            if (down if i else 1) and (across if j else 1)
        )
        bits.append(int(value >= image[row, column]))
    return tuple(bits)


def slow_histograms(frames):
    """Codes of every inner voxel on the three planes, counted block by block: uniform ones by code, others as -1."""
    count, size, _ = frames.shape
    counts = [[{} for _ in range(25)] for _ in range(3)]
    for t in range(RADIUS, count - RADIUS):
        for y in range(RADIUS, size - RADIUS):
            for x in range(RADIUS, size - RADIUS):
                planes = ((frames[t], y, x), (frames[:, y], t, x), (frames[:, :, x], t, y))
                for plane, at in zip(counts, planes, strict=True):
                    bits = slow_patterns(*at)
                    changes = sum(a != b for a, b in zip(bits, bits[1:] + bits[:1], strict=True))
                    block = plane[(y * 5 // size) * 5 + x * 5 // size]
                    code = bits if changes <= 2 else -1
                    block[code] = block.get(code, 0) + 1
    return counts


def test_interpolation_is_the_published_embedding():
    frames = noise(7, 4).astype(float)
    assert np.allclose(interpolate(frames, 10), embedded(frames, 10), atol=1e-6)


@pytest.mark.parametrize("recorded", [2, 3, 10, 61])
def test_interpolation_keeps_the_ends_and_the_order_of_a_motion(recorded):
    frames = np.linspace(0, 100, recorded)[:, None] * [1, -2] + 5
    between = interpolate(frames, 10)
    assert np.allclose(between[[0, -1]], frames[[0, -1]])
    assert (np.diff(between[:, 0]) > 0).all() and (np.diff(between[:, 1]) < 0).all()
    assert np.allclose(interpolate(frames, recorded), frames)
    assert np.allclose(interpolate(np.full((recorded, 2), 7.0), 10), 7)


def test_lbp_top_counts_what_a_slow_reference_counts():
    """Bins are ordered otherwise, so the counts of uniform patterns are compared sorted; the last bin is all others."""
    frames = noise(8, 35)
    found = lbp_top_of(frames).reshape(3, 25, 59)
    for plane, blocks in zip(found, slow_histograms(frames), strict=True):
        for shares, counts in zip(plane, blocks, strict=True):
            total = sum(counts.values())
            others = counts.pop(-1, 0)
            expected = np.sort([*counts.values()] + [0] * (58 - len(counts)))
            assert np.allclose(np.sort(shares[:58]) * total, expected, atol=1e-3)
            assert np.isclose(shares[58] * total, others, atol=1e-3)


def test_there_are_59_uniform_patterns():
    """All 256 patterns: a pixel of ones, and its neighbours, or of what they are interpolated from the nearest."""
    angles = np.arange(8) * np.pi / 4
    rows, columns = np.rint(3 - 3 * np.sin(angles)).astype(int), np.rint(3 + 3 * np.cos(angles)).astype(int)
    images = np.ones((256, 7, 7), int)
    images[:, rows, columns] = np.arange(256)[:, None] >> np.arange(8) & 1
    labels = uniform_patterns(images).ravel()
    assert (len(set(labels)), labels.max(), np.sum(labels == 58)) == (59, 58, 256 - 58)


def test_nothing_in_a_flat_clip_is_below_its_neighbours():
    flat = np.full((10, 40, 40), 93)
    assert (lbp_top_of(flat).reshape(75, 59)[:, 57] == 1).all()  # the pattern of eight ones
    sip = lbp_sip_of(flat)
    assert (sip[:400].reshape(25, 16)[:, 15] == 1).all() and (sip[400:].reshape(25, 4)[:, 3] == 1).all()


def test_lbp_sip_of_a_known_motion():
    """Brighter to the right and with time: up, down, right and after are no less than the centre."""
    _, rows, columns = np.mgrid[:10, :40, :40]
    sip = lbp_sip_of(columns + 100 * np.arange(10)[:, None, None] + 0 * rows)
    assert (sip[:400].reshape(25, 16)[:, 0b1101] == 1).all() and (sip[400:].reshape(25, 4)[:, 0b10] == 1).all()


def test_stlbp_ip_sees_where_something_moves():
    frames = np.full((10, 40, 40), 50)
    still = stlbp_ip_of(frames)
    frames[5:, 18:22, 18:22] += 40  # in the middle block
    changed = np.flatnonzero(stlbp_ip_of(frames) != still)
    parts = np.split(np.arange(15750), np.cumsum([6400, 1475, 6400]))
    blocks = [set(np.intersect1d(changed, part) - part[0]) for part in parts]
    for found, bins in zip(blocks, (256, 59, 256, 59), strict=True):
        places = {int(at) // bins for at in found}
        assert 12 in places and all(place % 5 == 2 for place in places)  # other blocks of the same projection at most


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_descriptor_has_its_promised_form(name):
    found = INPUTS[name].compute(clip(), 64)
    assert (found.shape, found.dtype) == (INPUTS[name].shape(64), np.float32)
    assert np.isfinite(found).all() and (found >= 0).all()
    if name == "bi_woof":
        assert np.isclose(np.linalg.norm(found), 1)
    else:
        parts = {"lbp_top": [75, 59], "lbp_sip": [25, 20], "stlbp_ip": [25, 630]}[name]
        assert np.isclose(found.sum(), {"lbp_top": 75, "lbp_sip": 50, "stlbp_ip": 100}[name])
        assert found.size == np.prod(parts)


def test_every_block_sums_to_1():
    assert np.allclose(lbp_top_of(noise()).reshape(75, 59).sum(1), 1)
    sip, ip = lbp_sip_of(noise()), stlbp_ip_of(noise())
    assert np.allclose(sip[:400].reshape(25, 16).sum(1), 1) and np.allclose(sip[400:].reshape(25, 4).sum(1), 1)
    for part, bins in zip(np.split(ip, np.cumsum([6400, 1475, 6400])), (256, 59, 256, 59), strict=True):
        assert np.allclose(part.reshape(25, bins).sum(1), 1)


def test_a_change_of_grey_levels_leaves_patterns_as_they_are():
    """Any rising one where pixels are compared; one without bend where they are interpolated or summed first."""
    frames = noise()
    assert (lbp_sip_of(frames) == lbp_sip_of(frames**3 + 7)).all()
    assert (lbp_top_of(frames) == lbp_top_of(4 * frames + 7)).all()
    assert (stlbp_ip_of(frames) == stlbp_ip_of(4 * frames + 7)).all()


def test_bi_woof_of_a_known_flow():
    """Pixels weigh by how far they move, blocks by their strain."""
    angle, strain = np.deg2rad(100), np.zeros((40, 40))
    flow = np.broadcast_to(3 * np.array([np.cos(angle), np.sin(angle)])[:, None, None], (2, 40, 40)).copy()
    flow[:, :8, :4] = [[[1]], [[0]]]  # half of the first block moves right, a third as far
    strain[:8, :8], strain[:8, 8:16] = 0.3, 0.1
    found = bi_weighted(flow, strain).reshape(25, 8)
    expected = np.zeros((25, 8))
    expected[0, [4, 6]], expected[1, 6] = [0.3 / 4, 0.9 / 4], 0.1  # 0 to 45 and 90 to 135 degrees
    assert np.allclose(found, expected / np.linalg.norm(expected), atol=1e-6)


def test_bi_woof_of_equal_or_flat_images_is_zero():
    for value in (clip().pair[[0, 0]], np.full((2, 64, 64, 3), 128, np.uint8)):
        assert (bi_woof(SimpleNamespace(pair=value, flow_estimator="tv-l1"), 64) == 0).all()


@pytest.mark.parametrize("name", DESCRIPTORS[:3])
def test_too_small_a_face_is_refused(name):
    with pytest.raises(GammerError, match=rf"data.size 28 with data.input {name}"):
        INPUTS[name].compute(clip(), 28)
