"""Faces: dlib's detector and 68 landmarks on the onset, one similarity transform per clip, patches.

The rules, in one place:
    * Landmarks are found once per clip, on the onset; every frame and alpha of the clip shares them.
    * If no face is found, the frame is padded by a quarter of its size on every side (border replicated),
      enlarged twice and searched once more, for faces under 80 px; of that search only sure finds count.
    * If none is found then either, and the frames are tight crops by the data set's own account, the whole frame
      stands for the face's box; a face so assumed is marked as such.
    * Of several faces the largest is taken if its area is twice that of the second or more.
    * Where the crop reaches beyond the frame, the border is replicated, up to a quarter of the crop.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import dlib
import numpy as np

from gammer_lightning.errors import GammerError

cv2.setNumThreads(0)  # a forked worker can hang in OpenCV's threads, and one crop is too small to gain by them

CROP = 256
"""Side of the square crop in px."""
IOD = 100.0
"""Interocular distance (between the centres of the eyes) in the crop, px."""
EYE_LINE = 52.0
"""Height of the eyes in the crop, px from its top.

Measured on 36 upright portraits, in IOD: brows reach .35 (at most .44) above the eyes, chins 1.79 (2.07)
below, jaws 1.07 (1.19) sideways. So brows, eyes, nose and mouth fit with their patches, jaws fit, and the
longest chins lose 3 px. A larger face would be cut; with a smaller one, frames as tight around the face as
CASME II's would leave over a quarter of the crop empty.
"""
MAX_OUTSIDE = 0.25
"""Largest share of the crop that may lie outside the frame."""
SURE = 0.15
"""Least detector score in an enlarged frame, where texture reaches .1 and small real faces have .5 to 2.4."""
MODEL_FILE = "models/shape_predictor_68_face_landmarks.dat"
MODEL_SHA256 = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"
GEOMETRY = f"dlib68 {MODEL_SHA256} crop {CROP} iod {IOD} eyes {EYE_LINE} version 1"
"""Everything that decides what a crop looks like; part of the key of the pre-magnification cache."""


@dataclass(frozen=True)
class Face:
    """Where a face lies.

    Attributes:
        matrix: Similarity transform from frame to crop, float64 ``(2, 3)``, px.
        landmarks: The 68 landmarks in the crop, float32 ``(68, 2)`` as (x, y), px.
        detected: False where the whole frame had to stand for the face's box.
    """

    matrix: np.ndarray
    landmarks: np.ndarray
    detected: bool = True


def find_landmark_model() -> Path:
    """Return dlib's 68-point model from the package face-recognition-models, without importing that.

    Its ``__init__`` needs pkg_resources, which newer setuptools no longer have.

    Raises:
        GammerError: If the package or file is missing or is not the expected one.
    """
    spec = find_spec("face_recognition_models")
    path = Path(spec.origin).parent / MODEL_FILE if spec and spec.origin else None
    install = "pip install --force-reinstall face-recognition-models"
    if path is None or not path.is_file():
        raise GammerError("the 68-point landmark model is not installed", f"it is {MODEL_FILE}", install)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != MODEL_SHA256:
        raise GammerError(f"{path} has sha256 {sha256}", f"it must be {MODEL_SHA256}", install)
    return path


@lru_cache(maxsize=1)
def detector() -> dlib.fhog_object_detector:
    """dlib's frontal face detector, opened once."""
    return dlib.get_frontal_face_detector()


@lru_cache(maxsize=1)
def predictor() -> dlib.shape_predictor:
    """dlib's predictor of the 68 landmarks, opened once."""
    return dlib.shape_predictor(str(find_landmark_model()))


class NoFaceError(GammerError):
    """No face is in a frame."""


class SeveralFacesError(GammerError):
    """Several faces are in a frame, and none is prominent."""


class OutsideError(GammerError):
    """Too little of a face is in its frame."""


def find_face(onset: np.ndarray, where: str, cropped: bool = False) -> Face:
    """Find the face of an onset frame.

    Args:
        onset: uint8 RGB ``(H, W, 3)``.
        where: The file or clip, for the message.
        cropped: Whether the frame is a tight crop of a face, in which it need not be detected.

    Raises:
        GammerError: If no face, no single prominent face, or too little of the face is in the frame.
    """
    landmarks, detected = find_landmarks(np.ascontiguousarray(onset), where, cropped)
    return place_face(landmarks, onset.shape[:2], where, detected)


def place_face(landmarks: np.ndarray, size: tuple[int, int], where: str, detected: bool = True) -> Face:
    """Return the crop that a frame's landmarks ask for: its eye line is horizontal, IOD px long, centred at EYE_LINE.

    Args:
        landmarks: The 68 landmarks in the frame, ``(68, 2)`` as (x, y), px.
        size: Height and width of the frame in px.
        where: The file or clip, for the message.
        detected: Passed on.

    Raises:
        OutsideError: If too little of the face is in the frame.
    """
    left, right = eye_centres(landmarks)
    dx, dy = right - left
    centre = (left + right) / 2
    turn = np.array([[dx, dy], [-dy, dx]]) * IOD / (dx * dx + dy * dy)
    shift = np.array([CROP / 2, EYE_LINE]) - turn @ centre
    matrix = np.column_stack([turn, shift])
    _check_inside(matrix, size, where)
    mapped = landmarks @ matrix[:, :2].T + matrix[:, 2]
    return Face(matrix, mapped.astype(np.float32), detected)


def find_landmarks(
    image: np.ndarray, where: str, cropped: bool = False, near: np.ndarray | None = None
) -> tuple[np.ndarray, bool]:
    """Find the landmarks of a frame's face.

    Args:
        image: uint8 RGB ``(H, W, 3)``, contiguous.
        where: The file or clip, for the message.
        cropped: Whether the frame is a tight crop of a face, in which it need not be detected.
        near: Of several faces take the one nearest this point (x, y), px; None: the largest, if it is prominent.

    Returns:
        The landmarks in the frame ``(68, 2)``, px, and whether their face was detected.

    Raises:
        NoFaceError: If there is none.
        SeveralFacesError: If there are several, and none is prominent.
    """
    height, width = image.shape[:2]
    pad = 0
    boxes = detector()(image, 0)
    if not boxes:
        pad = max(height, width) // 4
        image = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
        boxes, _, _ = detector().run(image, 1, SURE)
    detected = bool(boxes) or not cropped
    if not detected:
        box = dlib.rectangle(pad, pad, pad + width, pad + height)
    elif near is None or not boxes:
        box = _prominent(boxes, where)
    else:
        box = _nearest(boxes, near + pad)
    shape = predictor()(image, box)
    landmarks = np.array([(point.x, point.y) for point in shape.parts()], np.float64)
    return landmarks - pad, detected


def _nearest(boxes: list[dlib.rectangle], point: np.ndarray) -> dlib.rectangle:
    return min(boxes, key=lambda box: np.hypot(box.center().x - point[0], box.center().y - point[1]))


def _prominent(boxes: list[dlib.rectangle], where: str) -> dlib.rectangle:
    if not boxes:
        raise NoFaceError(
            f"no face found in {where}",
            "the onset shows one upright frontal face, about 40 px wide or more",
            "look at the frame; crop it with more margin, turn it upright, or delete the clip's row",
        )
    largest, *smaller = sorted(boxes, key=lambda box: box.area(), reverse=True)
    if smaller and largest.area() < 2 * smaller[0].area():
        raise SeveralFacesError(
            f"{len(boxes)} faces found in {where}, {largest.width()} and {smaller[0].width()} px wide",
            "of several faces the largest is used only if its area is twice that of the second or more",
            "crop the clip to the face that is meant",
        )
    return largest


def eye_centres(landmarks: np.ndarray) -> np.ndarray:
    """Return the means of each eye's six landmarks, first that of the eye on the left of the picture.

    Args:
        landmarks: (x, y), ``(68, 2)``.

    Returns:
        ``(2, 2)``, in the landmarks' unit.
    """
    return np.stack([landmarks[36:42].mean(0), landmarks[42:48].mean(0)])


def _check_inside(matrix: np.ndarray, size: tuple[int, int], where: str) -> None:
    inside = cv2.warpAffine(np.ones(size, np.float32), matrix, (CROP, CROP), flags=cv2.INTER_NEAREST)
    outside = 1 - float(inside.mean())
    if outside > MAX_OUTSIDE:
        raise OutsideError(
            f"{outside:.0%} of the face crop lies outside {where}",
            f"at most {MAX_OUTSIDE:.0%} may; up to there the border is replicated",
            "use frames with more margin around the face",
        )


def crop(frame: np.ndarray, face: Face) -> np.ndarray:
    """Cut the face out of any frame of its clip.

    A frame larger than the crop is sampled densely and averaged, so that nothing aliases.

    Args:
        frame: uint8 RGB ``(H, W, 3)``.
        face: The face of the clip's onset.

    Returns:
        uint8 RGB ``(256, 256, 3)``, replicated beyond the frame's border.
    """
    scale = np.linalg.norm(face.matrix[:, 0])
    dense = max(1, int(np.ceil(1 / scale)))
    matrix = face.matrix * dense
    matrix[:, 2] += (dense - 1) / 2  # pixel centres: x -> dense * (x + .5) - .5
    side = (CROP * dense, CROP * dense)
    warped = cv2.warpAffine(frame, matrix, side, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if dense == 1:
        return warped
    return cv2.resize(warped, (CROP, CROP), interpolation=cv2.INTER_AREA)


def cut_patches(image: np.ndarray, landmarks: np.ndarray, size: int) -> np.ndarray:
    """Cut a square patch around each landmark, replicated beyond the image's border.

    Args:
        image: uint8 RGB ``(H, W, 3)``.
        landmarks: (x, y) in px, ``(N, 2)``.
        size: Side of a patch in px.

    Returns:
        uint8 ``(N, size, size, 3)``.
    """
    start = np.rint(landmarks).astype(int) - size // 2
    span = start[:, :, None] + np.arange(size)
    height, width = image.shape[:2]
    columns = np.clip(span[:, 0], 0, width - 1)
    rows = np.clip(span[:, 1], 0, height - 1)
    return image[rows[:, :, None], columns[:, None, :]]
