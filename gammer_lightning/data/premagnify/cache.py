"""The pre-magnification cache: a folder for each clip, its images and the record of their hashes."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np

from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.errors import GammerError
from gammer_lightning.faces.alignment import GEOMETRY, Face
from gammer_lightning.files import check_is_file, content_hash, is_finite_array, read_cached_json, replacing

VERSION = "premagnify 1"
"""Raise it when a change of this file changes the pixels."""


RAW = 1.0
"""The alpha of the raw apex, which every entry has."""


ONSET = "onset.png"


RECORD = "face.json"


PNG_SETTINGS = (cv2.IMWRITE_PNG_COMPRESSION, 2, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT)


def image_name(alpha: float) -> str:
    """Return the file name of the apex at an alpha, e.g. ``alpha_7.5.png``."""
    return f"alpha_{np.format_float_positional(alpha, trim='-')}.png"


class CacheEntry:
    """One clip's folder in the cache.

    Args:
        clip: The clip.
        fingerprint: Fingerprint of the magnifier.
        cache: Root of the cache.

    Raises:
        GammerError: If the onset or the apex frame cannot be read.
    """

    def __init__(self, clip: Clip, fingerprint: str, cache: str | Path):
        self.clip = clip
        frames = [read_bytes(clip.frame(number)) for number in (clip.onset, clip.known_apex)]
        self.key = content_hash(*frames, fingerprint, GEOMETRY, VERSION)
        self.folder = Path(cache) / clip.dataset / clip.subject / clip.name / self.key[:16]

    def record(self) -> dict:
        """Return what ``face.json`` says, or an empty dict if it is missing, damaged or of another key."""
        record = read_cached_json(self.folder / RECORD)
        digest = record.pop("digest", None)
        is_intact = (
            digest == _digest(record)
            and record.get("key") == self.key
            and is_finite_array(record.get("landmarks"), (68, 2))
            and is_finite_array(record.get("matrix"), (2, 3))
            and isinstance(record.get("detected"), bool)
            and isinstance(record.get("sha256"), dict)
        )
        return record if is_intact else {}

    def missing(self, alphas: Sequence[float]) -> list[str]:
        """Return the names of the images among onset, raw apex and ``alphas`` that have to be (re)done."""
        names = dict.fromkeys([ONSET, *map(image_name, (RAW, *alphas))])
        recorded = self.record().get("sha256", {})
        return [name for name in names if self._read(name, recorded) is None]

    def landmarks(self) -> np.ndarray:
        """Return the landmarks in the crop, float32 ``(68, 2)`` as (x, y), px."""
        return np.asarray(self._complete_record()["landmarks"], np.float32)

    def images(self, alphas: Sequence[float]) -> np.ndarray:
        """Return the crops of the onset and of the apex at each alpha, uint8 RGB ``(1 + A, 256, 256, 3)``.

        Raises:
            GammerError: If one of them is missing or damaged.
        """
        recorded = self._complete_record()["sha256"]
        names = [ONSET, *map(image_name, alphas)]
        images = []
        for name in names:
            png = self._read(name, recorded)
            if png is None:
                raise self._incomplete(name)
            images.append(_decode(png))
        return np.stack(images)

    def write(self, face: Face, images: dict[str, np.ndarray]) -> None:
        """Add images (uint8 RGB by file name), then record them; the caller holds the lock."""
        for stale in self.folder.glob(".*.tmp*"):  # of a process that was killed
            stale.unlink()
        with ThreadPoolExecutor() as pool:
            hashes = list(pool.map(self._write_png, images, images.values()))
        record = {
            "key": self.key,
            "clip": self.clip.key,
            "frames": {"onset": self.clip.onset, "apex": self.clip.apex},
            "matrix": face.matrix.tolist(),
            "landmarks": face.landmarks.tolist(),
            "detected": face.detected,
            "sha256": self.record().get("sha256", {}) | dict(zip(images, hashes, strict=True)),
        }
        with replacing(self.folder / RECORD) as path:
            path.write_text(json.dumps(record | {"digest": _digest(record)}, indent=1))

    def _write_png(self, name: str, image: np.ndarray) -> str:
        _, encoded = cv2.imencode(".png", image[:, :, ::-1], PNG_SETTINGS)
        data = encoded.tobytes()
        with replacing(self.folder / name, sync=False) as path:  # the record has its hash
            path.write_bytes(data)
        return sha256(data).hexdigest()

    def _read(self, name: str, recorded: dict[str, str]) -> bytes | None:
        try:
            data = read_bytes(self.folder / name)
        except GammerError:
            return None
        return data if sha256(data).hexdigest() == recorded.get(name) else None

    def _complete_record(self) -> dict:
        record = self.record()
        if not record:
            raise self._incomplete(RECORD)
        return record

    def _incomplete(self, name: str) -> GammerError:
        return GammerError(
            f"{self.folder / name} is missing or damaged",
            "every clip is pre-magnified before it is used",
            "run the same command again (or `gammer premagnify`): it redoes what is missing",
        )


def _decode(png: bytes) -> np.ndarray:
    bgr = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(bgr)[:, :, ::-1]


def _digest(record: dict) -> str:
    return content_hash(json.dumps(record, sort_keys=True))


def read_bytes(path: Path) -> bytes:
    """Return what a frame's file holds.

    Raises:
        GammerError: If it cannot be read.
    """
    check_is_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise GammerError(
            f"{path} cannot be read: {error.strerror}", "a frame is a readable file", "copy it again"
        ) from error
