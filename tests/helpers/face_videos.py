"""Small videos of a face whose mouth corners move, made of a portrait that ships with scikit-image."""

import hashlib
import json
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from skimage.data import astronaut

from gammer_lightning.deploy.bundle import BUNDLE, WEIGHTS, _digest
from gammer_lightning.magnifiers.trained import SHIPPED, SHIPPED_WEIGHTS
from gammer_lightning.models.gam_mer import GamMer

CLASSES = ["happiness", "surprise", "disgust"]
NETWORK = {"num_classes": 3, "regions": ["brows", "nose_tip", "mouth"], "patch_size": 8, "channels": 3}
CORNERS = np.array([(118, 128), (157, 128)])
"""Where the corners of the mouth are in a frame, px."""


@lru_cache(maxsize=1)
def portrait() -> np.ndarray:
    """A face of about 100 px, uint8 ``(240, 260, 3)``."""
    return np.ascontiguousarray(astronaut()[:240, 90:350])


def face_frames(count: int, apex: int, peak: float = 2.0) -> list[np.ndarray]:
    """Frames in which the corners of the mouth rise over four frames by ``peak`` px, and fall again."""
    return [smile(peak * max(0, 1 - abs(i - apex) / 4)) for i in range(count)]


def smile(size: float) -> np.ndarray:
    """The portrait, the corners of its mouth raised by ``size`` px."""
    image = portrait()
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    bumps = [np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 10**2)) for cx, cy in CORNERS]
    return cv2.remap(image, x, (y + size * sum(bumps)).astype(np.float32), cv2.INTER_CUBIC)


def write_video(path: Path, frames, rate=20, codec="libx264", pixels="yuv420p", stamps=None, rotation=0) -> Path:
    """Write a video; ``stamps`` are times in ms instead of a constant rate, ``rotation`` is a tag (clockwise)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=pixels)
            if stamps is not None:
                frame.pts, frame.time_base = stamps[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if rotation:
        _tag_rotation(path, rotation)
    return path


def _tag_rotation(path: Path, degrees: int) -> None:
    """Write the matrix of the track header, which tells players to turn the picture clockwise."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # version 0
    cos, sin = round(np.cos(np.radians(degrees))), round(np.sin(np.radians(degrees)))
    rows = (cos, sin, 0, -sin, cos, 0, 0, 0, 0)
    matrix = b"".join((value << 16).to_bytes(4, "big", signed=True) for value in rows[:8]) + (1 << 30).to_bytes(
        4, "big"
    )
    data[start : start + 36] = matrix
    path.write_bytes(bytes(data))


def write_folder(path: Path, frames) -> Path:
    """Write frames as PNG files 1.png, 2.png, ..."""
    path.mkdir()
    for number, image in enumerate(frames, 1):
        cv2.imwrite(str(path / f"{number}.png"), image[..., ::-1])
    return path


def read_video(path: Path) -> tuple[list[np.ndarray], list[float], Fraction]:
    """Return frames, times in s and the average rate."""
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
        rate = Fraction(container.streams.video[0].average_rate)
        return [frame.to_ndarray(format="rgb24") for frame in decoded], [float(frame.time) for frame in decoded], rate


def made_bundle(folder: Path, kind: str = "apex") -> Path:
    """Write a bundle of the shipped magnifier and an untrained classifier."""
    folder.mkdir()
    torch.manual_seed(0)
    network = NETWORK | {"channels": 6 if kind == "both" else 3}
    save_file(GamMer(**network).state_dict(), folder / WEIGHTS["gam_mer"])
    (folder / WEIGHTS["st_memm"]).write_bytes(SHIPPED_WEIGHTS.read_bytes())
    entry = {"graph": "a network", "precision": "fp32", "batch": None, "bytes": 1}
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in WEIGHTS.values()}
    files = {name: entry | {"sha256": value} for name, value in hashes.items()}
    facts = {
        "format": 1,
        "classes": CLASSES,
        "alpha": 5.0,
        "alpha_range": [5.0, 20.0],
        "input": kind,
        "patch_size": NETWORK["patch_size"],
        "network": network,
        "channels": network["channels"],
        "magnifier": {"name": SHIPPED, "preset": "small", "fingerprint": "made"},
        "run": {"checkpoint": "none.ckpt", "checkpoint_sha256": 64 * "0"},
        "commit": None,
        "files": files,
    }
    (folder / BUNDLE).write_text(json.dumps(facts | {"digest": _digest(facts)}))
    return folder
