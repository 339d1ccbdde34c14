"""Faces: where the crop puts them at any size, the rules for odd cases, patches at borders."""

import cv2
import numpy as np
import pytest
from casme2_sample import portrait
from skimage import data

from gammer_lightning.errors import GammerError
from gammer_lightning.faces import alignment as faces

SIZES = [(100, 128), (190, 230), (280, 340), (257, 301)]


def eyes(landmarks):
    return landmarks[36:42].mean(0), landmarks[42:48].mean(0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grey", [False, True])
def test_any_size_and_grey_lands_in_the_same_place(size, grey):
    image = portrait(*size)
    if grey:
        image = np.repeat(image.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    face = faces.find_face(image, "test")
    left, right = eyes(face.landmarks)
    centre = (faces.CROP / 2, faces.EYE_LINE)
    np.testing.assert_allclose(right - left, (faces.IOD, 0), atol=1e-3)
    np.testing.assert_allclose((left + right) / 2, centre, atol=1e-3)
    inner = face.landmarks[17:]
    assert inner.min() > 0 and inner.max() < faces.CROP, "brows, eyes, nose and mouth fit"
    assert faces.crop(image, face).shape == (faces.CROP, faces.CROP, 3)


def test_the_centre_of_an_eye_is_that_of_the_landmarks_around_it():
    landmarks = np.full((68, 2), 1000.0)
    angles = np.arange(6) * np.pi / 3
    circle = 7 * np.column_stack([np.cos(angles), np.sin(angles)])
    landmarks[36:42] = np.add(circle, (30, 50))
    landmarks[42:48] = np.add(circle, (90, 52))
    np.testing.assert_allclose(faces.eye_centres(landmarks), [(30, 50), (90, 52)])


def test_crop_follows_the_matrix_at_every_scale():
    """A bright disc at the nose tip stays at the landmark, whether the crop enlarges or shrinks."""
    for scale in (0.5, 1, 4):
        image = cv2.resize(portrait(280, 340), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        face = faces.find_face(image, "test")
        nose = cv2.invertAffineTransform(face.matrix) @ (*face.landmarks[30], 1)
        canvas = np.zeros(image.shape, np.float32)
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
        distance = (columns - nose[0]) ** 2 + (rows - nose[1]) ** 2
        canvas[:] = 255 * np.exp(-distance / (2 * (8 * scale) ** 2))[:, :, None]
        seen = faces.crop(canvas.round().astype(np.uint8), face)[:, :, 0].astype(float)
        rows, columns = np.mgrid[: faces.CROP, : faces.CROP]
        found = (seen * columns).sum() / seen.sum(), (seen * rows).sum() / seen.sum()
        np.testing.assert_allclose(found, face.landmarks[30], atol=0.1)


def test_rotated_face_is_turned_upright():
    image = data.astronaut()
    turn = cv2.getRotationMatrix2D((223, 120), 15, 1)
    face = faces.find_face(cv2.warpAffine(image, turn, (512, 512)), "turned")
    upright = faces.find_face(image, "upright")
    assert np.degrees(np.arctan2(face.matrix[1, 0], face.matrix[0, 0])) == pytest.approx(
        np.degrees(np.arctan2(upright.matrix[1, 0], upright.matrix[0, 0])) + 15, abs=3
    )
    assert np.abs(face.landmarks[17:] - upright.landmarks[17:]).mean() < 5


def test_no_face_is_an_error_that_names_the_file():
    with pytest.raises(GammerError, match=r"no face found in sub01/reg_img9.jpg"):
        faces.find_face(data.coffee()[:200, :200], "sub01/reg_img9.jpg")


def test_of_several_faces_a_clearly_largest_one_is_used():
    large, small = portrait(280, 340), portrait(140, 170)
    with pytest.raises(GammerError, match="2 faces found in pair"):
        faces.find_face(np.hstack([large, large]), "pair")
    both = np.hstack([large, cv2.copyMakeBorder(small, 170, 0, 0, 0, cv2.BORDER_REPLICATE)])
    alone = faces.find_face(large, "alone")
    np.testing.assert_allclose(faces.find_face(both, "both").matrix, alone.matrix, atol=0.05)


@pytest.mark.parametrize("box", [(0, 90, 280, 340), (50, 90, 235, 310)])
def test_tight_and_small_crops_find_the_same_face(box):
    left, top, right, bottom = box
    tight = portrait(280, 340)[top:bottom, left:right]
    whole = faces.find_face(portrait(280, 340), "whole")
    for scale in (1, 0.4):  # at .4 the face is too small for the plain detector
        frame = cv2.resize(tight, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        to_frame = cv2.invertAffineTransform(faces.find_face(frame, "tight").matrix)
        found = to_frame @ [faces.CROP / 2, faces.EYE_LINE, 1] / scale + [left, top]
        expected = cv2.invertAffineTransform(whole.matrix) @ [faces.CROP / 2, faces.EYE_LINE, 1]
        np.testing.assert_allclose(found, expected, atol=5)


class Blind:
    """A detector that finds nothing."""

    def __call__(self, image, upsampling):
        return []

    def run(self, image, upsampling, threshold):
        return [], [], []


def test_where_detection_fails_a_tight_crops_whole_frame_is_the_face(monkeypatch):
    frame = portrait(560, 680)[158:552, 88:412]  # framed like CASME II's
    expected = faces.find_face(frame, "frame", cropped=True)
    monkeypatch.setattr(faces, "detector", Blind)
    with pytest.raises(GammerError, match="no face found in frame"):
        faces.find_face(frame, "frame")
    found = faces.find_face(frame, "frame", cropped=True)
    assert expected.detected and not found.detected
    ours, theirs = (_in_frame(face) for face in (found, expected))
    assert np.abs(ours - theirs).mean() < 0.1 * np.linalg.norm(theirs[36] - theirs[45])


def _in_frame(face):
    return cv2.transform(face.landmarks[None], cv2.invertAffineTransform(face.matrix))[0]


def test_texture_in_an_enlarged_frame_is_no_face():
    with pytest.raises(GammerError, match="no face"):
        faces.find_face(data.astronaut()[:, 215:], "badge.jpg")  # its badge scores .02


def test_border_is_replicated_up_to_a_quarter_of_the_crop():
    image = portrait(280, 340)
    face = faces.find_face(image, "whole")
    beside = faces.Face(np.array([[1.0, 0, 0], [0, 1, 100]]), face.landmarks)
    crop = faces.crop(image, beside)
    assert (crop[:100] == crop[100]).all(), "rows above the frame repeat its first one"
    with pytest.raises(GammerError, match=r"39% of the face crop lies outside edge.jpg"):
        faces._check_inside(beside.matrix, image.shape[:2], "edge.jpg")
    faces._check_inside(beside.matrix - [[0, 0, 0], [0, 0, 50]], image.shape[:2], "edge.jpg")


def test_face_cut_by_the_frame_is_refused():
    with pytest.raises(GammerError, match=r"\d+% of the face crop lies outside cut.jpg"):
        faces.find_face(data.astronaut()[:, 207:], "cut.jpg")


def test_patches_replicate_beyond_the_border():
    image = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    landmarks = np.array([[20.2, 15.7], [0, 0], [39, 31], [-50, 100]], np.float32)
    patches = faces.cut_patches(image, landmarks, 8)
    padded = np.pad(image, ((200, 200), (200, 200), (0, 0)), mode="edge")
    for (x, y), patch in zip(np.rint(landmarks).astype(int), patches, strict=True):
        expected = padded[200 + y - 4 : 200 + y + 4, 200 + x - 4 : 200 + x + 4]
        np.testing.assert_array_equal(patch, expected)


def test_landmark_model_is_checked(monkeypatch):
    assert faces.find_landmark_model().name == "shape_predictor_68_face_landmarks.dat"
    monkeypatch.setattr(faces, "MODEL_SHA256", "0" * 64)
    with pytest.raises(GammerError, match="it must be 0000"):
        faces.find_landmark_model()
    monkeypatch.setattr(faces, "find_spec", lambda name: None)
    with pytest.raises(GammerError, match="not installed"):
        faces.find_landmark_model()
