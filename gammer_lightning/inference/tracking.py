"""One face through a stream: searched once at the start of every window, near where it was, at a reduced scale."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from gammer_lightning.errors import GammerError
from gammer_lightning.faces.alignment import (
    CROP,
    IOD,
    Face,
    NoFaceError,
    SeveralFacesError,
    crop,
    eye_centres,
    find_landmarks,
)
from gammer_lightning.inference.video import Frame

SEARCH_SIDE = 960
"""Longest side in px of a whole frame that is searched; a larger one is reduced."""
FACE_SIDE = 110
"""Size of a face in px down to which the search near it reduces; dlib finds faces of 80 px."""
NEAR = 1.25
"""Half the side of the region searched near a face, in sizes of the face."""
KEPT = 0.75
"""Half the side of the region kept around a face, in sides of its crop: it may move by a quarter of the crop."""
LOST_SIDE = 512
"""Longest side in px that is kept of a frame as long as no face was seen."""
RIGID = (27, 28, 29, 30, 36, 39, 42, 45)
"""Landmarks that expressions hardly move: the nose bridge and the corners of the eyes."""


@dataclass(frozen=True)
class Shot:
    """What is kept of a frame: the surroundings of the face.

    Attributes:
        index: Place in the input, from 0.
        time: Seconds from the first frame.
        image: uint8 RGB ``(h, w, 3)``.
        corner: Where the image's corner lies in the frame (x, y), px.
        reduced: Pixels of the frame per pixel of the image, along a side.
        size: Height and width of the frame in px.
        landmarks: ``(68, 2)`` in px of the frame where a face was searched and found.
    """

    index: int
    time: float
    image: np.ndarray
    corner: np.ndarray
    reduced: int
    size: tuple[int, int]
    landmarks: np.ndarray | None

    def crop(self, face: Face) -> np.ndarray:
        """Cut the face out, uint8 RGB ``(256, 256, 3)``."""
        return crop(self.image, self.within(face))

    def within(self, face: Face) -> Face:
        """Return the same face as seen from the kept image instead of the frame."""
        matrix = face.matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ self._offset()
        matrix[:, :2] *= self.reduced
        return Face(matrix, face.landmarks, face.detected)

    def to_frame(self, points: np.ndarray) -> np.ndarray:
        """Turn points (x, y) in px of the kept image into px of the frame."""
        return points * self.reduced + self._offset()

    def from_frame(self, points: np.ndarray) -> np.ndarray:
        """Turn points (x, y) in px of the frame into px of the kept image."""
        return (points - self._offset()) / self.reduced

    def _offset(self) -> np.ndarray:
        return self.corner + (self.reduced - 1) / 2  # centres of pixels are whole numbers


class Tracker:
    """Finds the face of a stream and keeps its surroundings.

    Args:
        where: Name of the input, for messages.
        point: (x, y) in px of a frame, on the face that is meant; None: the largest, if it is prominent.
    """

    def __init__(self, where: str, point: tuple[float, float] | None = None):
        self.where = where
        self.centre = None if point is None else np.array(point, float)
        self.landmarks: np.ndarray | None = None
        self.lost = True

    def search(self, frame: Frame) -> np.ndarray | None:
        """Find the face's landmarks ``(68, 2)`` in px of the frame; None if there is none.

        Raises:
            SeveralFacesError: No face was followed so far, and several are there of which none is prominent.
            GammerError: The point that is meant lies outside the frame.
        """
        if self.landmarks is None and self.centre is not None:
            self._check_point(self.centre, *frame.image.shape[:2])
        landmarks = None
        if self.landmarks is not None and not self.lost:
            landmarks = self._near(frame.image, self.landmarks)
        if landmarks is None:
            landmarks = self._anywhere(frame)
        self.lost = landmarks is None
        if landmarks is not None:
            self.landmarks = landmarks
            self.centre = landmarks.mean(0)
        return landmarks

    def _check_point(self, point: np.ndarray, height: int, width: int) -> None:
        x, y = point
        if not (0 <= x < width and 0 <= y < height):
            raise GammerError(
                f"--face {x:g} {y:g} lies outside the frames of {self.where}, which measure {width}x{height} px",
                "a point on the face, X px from the left and Y px from the top",
                f"e.g. the middle: --face {width // 2} {height // 2}",
            )

    def again(self, shot: Shot, landmarks: np.ndarray) -> np.ndarray | None:
        """Find the landmarks in another frame of a window.

        Args:
            shot: What was kept of it.
            landmarks: Where they are in the window's first frame, px of the frame.
        """
        refined = self._near(shot.image, shot.from_frame(landmarks))
        return None if refined is None else shot.to_frame(refined)

    def _near(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
        size = np.ptp(landmarks, axis=0).max()
        centre = landmarks.mean(0)
        part, corner = _square(image, centre, NEAR * size)
        reduced = max(1, int(size / FACE_SIDE))
        landmarks_in_part = self._find(part, reduced, centre - corner)
        return None if landmarks_in_part is None else landmarks_in_part + corner

    def _anywhere(self, frame: Frame) -> np.ndarray | None:
        reduced = math.ceil(max(frame.image.shape) / SEARCH_SIDE)
        try:
            return self._find(frame.image, reduced, self.centre)
        except SeveralFacesError as error:
            raise SeveralFacesError(
                f"{error.what}, frame {frame.index}",
                error.rule,
                "say which one is meant by a point on it, --face X Y in px, or crop the video to it",
            ) from error

    def _find(self, image: np.ndarray, reduced: int, near: np.ndarray | None) -> np.ndarray | None:
        near_in_reduced = None if near is None else near / reduced
        try:
            landmarks, _ = find_landmarks(_reduce(image, reduced), self.where, near=near_in_reduced)
        except NoFaceError:
            return None
        return (landmarks + 0.5) * reduced - 0.5  # centres of pixels are whole numbers

    def keep(self, frame: Frame, landmarks: np.ndarray | None = None) -> Shot:
        """Keep the surroundings of the face, or a small picture of the frame if none was seen so far.

        Args:
            frame: Any frame.
            landmarks: What `search` found in it, if that was asked.
        """
        size = frame.image.shape[:2]
        if self.landmarks is None:
            part = frame.image
            corner = np.zeros(2)
            reduced = math.ceil(max(size) / LOST_SIDE)
        else:
            distance = _eye_distance(self.landmarks)
            nose = self.landmarks[27:36].mean(0)
            part, corner = _square(frame.image, nose, KEPT * CROP / IOD * distance)
            reduced = max(1, int(distance / IOD))
        small = _reduce(part, reduced)
        image = small.copy() if np.shares_memory(small, frame.image) else small
        return Shot(frame.index, frame.time, image, corner, reduced, size, landmarks)


def head_motion(first: np.ndarray, second: np.ndarray) -> float:
    """Return how far the head moved between two frames' landmarks ``(68, 2)``, in hundredths of the eye distance.

    These are px of the crop. The landmarks' own jitter is about 1.
    """
    rigid = list(RIGID)
    distances = np.linalg.norm(second[rigid] - first[rigid], axis=1)
    return float(IOD * distances.mean() / _eye_distance(first))


def _eye_distance(landmarks: np.ndarray) -> float:
    """Return the distance between the centres of both eyes."""
    left, right = eye_centres(landmarks)
    return float(np.linalg.norm(right - left))


def _square(image: np.ndarray, centre: np.ndarray, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of the image inside a square, and its corner (x, y) in px."""
    height, width = image.shape[:2]
    start = np.floor(centre - half)
    end = np.ceil(centre + half)
    left, top = np.clip(start, 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.clip(end, (left + 1, top + 1), (width, height)).astype(int)
    return image[top:bottom, left:right], np.array([left, top], float)


def _reduce(image: np.ndarray, factor: int) -> np.ndarray:
    """Average blocks of ``factor`` x ``factor`` px, contiguous; what does not fill a block is left out."""
    if factor == 1:
        return np.ascontiguousarray(image)
    height, width = (max(1, side // factor) for side in image.shape[:2])
    whole = image[: height * factor, : width * factor]
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
