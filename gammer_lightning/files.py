"""Files: written whole or not at all, images read strictly, contents hashed."""

import glob
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from gammer_lightning.errors import GammerError

EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path`` that takes its name only if the block succeeds.

    The sibling keeps the suffix, since many writers choose their format by it.

    Args:
        path: The file to write; its folder is made if it is missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{os.urandom(4).hex()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def remove_stale(path: str | Path) -> None:
    """Delete what `replacing` left beside ``path`` in processes of this machine that were killed.

    Args:
        path: The file or folder that they meant to write.
    """
    path = Path(path)
    for stale in path.parent.glob(f".{glob.escape(path.stem)}.*-*.tmp{glob.escape(path.suffix)}"):
        owner = stale.name.removeprefix(f".{path.stem}.").partition("-")[0]
        if not owner.isdecimal() or psutil.pid_exists(int(owner)):
            continue
        if stale.is_dir():
            shutil.rmtree(stale)
        stale.unlink(missing_ok=True)


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Say what to do where writing below ``out`` fails.

    Raises:
        GammerError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise GammerError(
            f"cannot write to {out}: {error.strerror or error}",
            "every file and clip is written whole or not at all",
            "free some space or mend the permissions, then run the same command again: it goes on from here",
        ) from error


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as uint8 RGB ``(H, W, 3)``; grey becomes three equal channels.

    Raises:
        GammerError: If the file is missing, truncated, no image, or deeper than 8 bits.
    """
    path = Path(path)
    if not path.is_file():
        raise GammerError(f"no image at {path}", "a frame must be a file", "check the path of the data set")
    try:
        with Image.open(path) as image:
            if image.mode not in EIGHT_BIT_MODES:
                raise GammerError(
                    f"{path} has pixels of mode {image.mode}",
                    "images have 8 bits a channel",
                    f"convert it, e.g. `convert {path.name} -depth 8 {path.name}`",
                )
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise GammerError(
            f"{path} cannot be read: {error}",
            "every frame must be a whole image file (JPEG, PNG, BMP, ...)",
            "copy or extract this file again",
        ) from error


def content_hash(*parts: bytes | str | np.ndarray) -> str:
    """Return the SHA-256 (hex) of all parts; lengths, types and array shapes are hashed with them."""
    digest = hashlib.sha256()
    for part in parts:
        label, data = _labelled_bytes(part)
        digest.update(f"{label} {len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def _labelled_bytes(part: bytes | str | np.ndarray) -> tuple[str, bytes]:
    if isinstance(part, str):
        return "text", part.encode()
    if isinstance(part, np.ndarray):
        return f"{part.dtype.str}{part.shape}", part.tobytes()
    return "bytes", part
