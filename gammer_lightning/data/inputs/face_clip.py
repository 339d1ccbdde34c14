"""Crops of one clip, which every input is computed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import cv2
import numpy as np

from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.data.premagnify.cache import CacheEntry, read_bytes
from gammer_lightning.faces.alignment import Face, crop
from gammer_lightning.files import read_image

TV_L1 = "tv-l1"
FLOW_ESTIMATORS = (TV_L1, "dis")
"""Value of ``data.flow_estimator``: see `gammer_lightning.data.inputs.flow.dense_flow`."""


@dataclass(frozen=True)
class FacePair:
    """Onset and apex of one clip: what landmark patches are cut from.

    Attributes:
        pair: Crops of onset and apex, uint8 RGB ``(256, 256, 3)``.
        landmarks: Landmarks of the onset in the crop, float32 ``(68, 2)`` as (x, y), px.
    """

    pair: tuple[np.ndarray, np.ndarray]
    landmarks: np.ndarray


@dataclass(frozen=True)
class FaceClip:
    """What an input is computed from: crops of one clip.

    Attributes:
        entry: The clip's entry in the pre-magnification cache.
        alpha: Magnification factor of the apex; 1 is the raw apex.
        flow_estimator: What estimates optical flow, one of `FLOW_ESTIMATORS`.
    """

    entry: CacheEntry
    alpha: float
    flow_estimator: str = TV_L1

    @property
    def key(self) -> str:
        """Name of the clip, for messages."""
        return self.entry.clip.key

    @cached_property
    def pair(self) -> np.ndarray:
        """Crops of onset and apex, uint8 RGB ``(2, 256, 256, 3)``."""
        return self.entry.images([self.alpha])

    @cached_property
    def landmarks(self) -> np.ndarray:
        """Landmarks of the onset in the crop, float32 ``(68, 2)`` as (x, y), px."""
        return self.entry.landmarks()

    @property
    def numbers(self) -> list[int]:
        """Numbers of the recorded frames from onset to offset."""
        return recorded(self.entry.clip)

    @cached_property
    def recording(self) -> str:
        """Hash of the recorded frames from onset to offset, and of their names.

        Raises:
            GammerError: If a frame cannot be read.
        """
        digest = sha256()
        for path in map(self.entry.clip.frame, self.numbers):
            digest.update(path.name.encode() + read_bytes(path))
        return digest.hexdigest()[:16]

    def frames(self, numbers: Sequence[int]) -> np.ndarray:
        """Return crops of recorded frames, which are not magnified, uint8 RGB ``(T, 256, 256, 3)``.

        Raises:
            GammerError: If a frame cannot be read.
        """
        record = self.entry.record()
        face = Face(np.array(record["matrix"]), self.landmarks, record["detected"])
        return np.stack([crop(read_image(self.entry.clip.frame(number)), face) for number in numbers])


def recorded(clip: Clip) -> list[int]:
    """Return the numbers of a clip's recorded frames from onset to offset."""
    return [number for number in clip.numbers if clip.onset <= number <= clip.offset]


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """Return an image ``(H, W, ...)`` at ``size`` x ``size`` px, averaged where it gets smaller."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
