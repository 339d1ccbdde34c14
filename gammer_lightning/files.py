"""Files: written whole or not at all, read strictly and within bounds, contents hashed."""

import errno
import glob
import hashlib
import json
import math
import os
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import psutil
import yaml
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from gammer_lightning.errors import GammerError
from gammer_lightning.escapes import without_passwords

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
DEEP = re.compile(r"\b(?:RGB|RGBA|RGBX|LA|CMYK);16")
"""How Pillow writes 16 bits a channel that it decodes to 8; ``BGR;16`` has 16 bits a pixel."""
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation."""
DAMAGED = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, struct.error, zlib.error)
"""What Pillow raises for damaged files."""

MAX_TEXT_BYTES = 256 * 2**20
"""Size of the largest text or JSON file that is read."""
MAX_YAML_BYTES = 2**20
"""Size of the largest YAML file that is read; its parser is slow."""
MAX_YAML_NODES = 100_000
"""Nodes of the largest YAML document that is read, its aliases written out."""
MAX_NAME_BYTES = 200
"""Length of the longest name; file systems allow 255 bytes, and suffixes and temporary files need some."""


@contextmanager
def replacing(path: str | Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary sibling of ``path`` that takes its name only if the block succeeds.

    The sibling keeps the suffix, since many writers choose their format by it.

    Args:
        path: The file to write; its folder is made if it is missing.
        sync: Whether the content is on the disk before it takes its name, so that a power cut leaves the old file or
            the new one; False for one of many files whose content is checked by a hash when it is read.

    Raises:
        GammerError: If ``path`` is a pipe, socket or device.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():  # root would make /dev/null a file
        raise GammerError(
            f"{path} is a pipe, socket or device", "a regular file is written", "remove it, or choose another path"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{os.urandom(4).hex()}.tmp{path.suffix}")
    try:
        yield temporary
        if sync:
            _sync(temporary)
        os.replace(temporary, path)
        if sync:
            _sync_one(path.parent)
    except OSError as error:
        if error.filename is None and error.errno in WRITE_ADVICE:  # a full disk's error names no file
            error.filename = str(path)
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder with all that it holds, is on the disk."""
    for entry in path.rglob("*") if path.is_dir() else ():
        _sync_one(entry)
    _sync_one(path)


def _sync_one(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders, and writes their entries by itself
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


SAME_AGAIN = "then run the same command again: it goes on from here"
WRITE_ADVICE: Mapping[int | None, str] = {
    errno.ENOSPC: f"free some space, {SAME_AGAIN}",
    errno.EDQUOT: f"free some of your quota, {SAME_AGAIN}",
    errno.EFBIG: f"raise the limit on the size of files (`ulimit -f`), {SAME_AGAIN}",
    errno.EMFILE: f"raise the limit on open files (`ulimit -n`), {SAME_AGAIN}",
    errno.EACCES: "mend the permissions, or choose another path",
    errno.EPERM: "mend the permissions, or choose another path",
    errno.EROFS: "choose a folder of a disk that is not mounted read-only",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.EEXIST: "choose another path: a file is there where a folder is needed, or the reverse",
    errno.ENOTDIR: "choose another path: a file is there where a folder is needed",
    errno.EISDIR: "choose another path: a folder is there where a file is needed",
    errno.ENOTEMPTY: "choose another path: a folder is there where a file is needed",
    errno.EIO: f"check the disk (`dmesg`), {SAME_AGAIN}",
}
"""What to do where writing failed with an errno."""


FULL = ("No space left on device", "disk is full", "file write failed", "disk I/O error")
"""How libraries (torch, SQLite, zip) say that a disk is full, where no OSError of Python tells."""


def disk_cause(error: BaseException | None) -> OSError | None:
    """Return the OSError that an error is, or that it was raised for; None where there is none."""
    if error is None or isinstance(error, OSError):
        return error
    if any(sign in str(error) for sign in FULL):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    cause = disk_cause(error.__cause__ or error.__context__)
    return cause if cause is not None and cause.errno in WRITE_ADVICE else None


def write_error(path: str | Path, error: OSError) -> GammerError:
    """Return the error of a path that could not be written, with the advice that suits its errno."""
    return GammerError(
        f"cannot write to {path}: {error.strerror or error}",
        "every file and clip is written whole or not at all",
        WRITE_ADVICE.get(error.errno, "choose a folder in which files can be made"),
    )


@contextmanager
def disk_errors(out: str | Path) -> Iterator[None]:
    """Say what to do where writing below ``out`` fails.

    Raises:
        GammerError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise write_error(out, error) from error


def check_writable(folder: str | Path) -> None:
    """Make a folder and see that a file can be written there, before something long is computed for it.

    Raises:
        GammerError: If it cannot.
    """
    with disk_errors(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")


def check_name(name: str, owner: str) -> str:
    """Return a name that becomes a file's or folder's name, which is one path component.

    Args:
        name: The name, from a file or a command line.
        owner: What is named, for the message, e.g. ``"Filename in row 7 of table.xlsx"``.

    Raises:
        GammerError: If it is empty, ``.`` or ``..``, too long, or holds a slash, a backslash or a control character.
    """
    is_component = name not in ("", ".", "..") and not set(name) & {"/", "\\"} and name.isprintable()
    if not is_component or len(name.encode()) > MAX_NAME_BYTES:
        text = without_passwords(name)  # before it is cut
        raise GammerError(
            f"{owner} is {text[:80]!r}" + (f" and {len(text) - 80} characters more" if len(text) > 80 else ""),
            f"a name is one path component of at most {MAX_NAME_BYTES} bytes: no slash, no backslash, not `.` or `..`",
            "correct it there",
        )
    return name


def check_is_file(path: Path) -> None:
    """Refuse what is no regular file: a missing one, a folder, and a pipe or device, which could be read for ever.

    Raises:
        GammerError: Naming what it is.
    """
    if path.is_file():
        return
    if path.is_dir():
        kind = "is a folder"
    elif path.exists():
        kind = "is a pipe, socket or device"
    else:
        kind = "does not exist"
    raise GammerError(f"{path} {kind}", "it is a regular file", "check the path")


def read_text(path: str | Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Read a UTF-8 text file, with or without a byte order mark.

    Raises:
        GammerError: If it is no regular file, larger than ``max_bytes``, not readable or no UTF-8.
    """
    path = Path(path)
    check_is_file(path)
    if path.stat().st_size > max_bytes:
        raise GammerError(
            f"{path} has {path.stat().st_size:,} bytes", f"at most {max_bytes:,} are read", "check that it is the file"
        )
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise GammerError(f"{path} cannot be read: {error}", "it is a UTF-8 text file", "copy it again") from error


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        GammerError: As in `read_text`, and if it is no JSON, which has no NaN or infinity.
    """
    text = read_text(path)
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise GammerError(f"{path} is damaged: {error}", "it is a JSON file", "copy it again") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def read_cached_json(path: str | Path) -> dict[str, Any]:
    """Return the object in a JSON file that can be made again; an empty one where it is missing or damaged."""
    try:
        value = read_json(path)
    except GammerError:
        return {}
    return value if isinstance(value, dict) else {}


def is_finite_array(value: Any, shape: tuple[int, ...]) -> bool:
    """Return whether a value of a JSON file is finite numbers in nested lists of a shape."""
    try:
        array = np.array(value)
    except ValueError:  # ragged, or nested too deep
        return False
    return array.shape == shape and array.dtype.kind in "iuf" and bool(np.isfinite(array).all())


def read_npz(path: str | Path, max_bytes: int = MAX_TEXT_BYTES) -> dict[str, np.ndarray]:
    """Read the arrays of an ``.npz`` file; pickled objects are refused, and so is a header that states another size.

    Args:
        path: The file.
        max_bytes: Size of all that is read, without compression.

    Raises:
        GammerError: If it is no regular file, no such archive, encrypted, damaged or too large.
    """
    check_is_file(Path(path))
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > max_bytes:
                raise ValueError(f"it holds more than {max_bytes:,} bytes")
            return {entry.filename.removesuffix(".npy"): _read_array(archive, entry) for entry in entries}
    except (*DAMAGED, RuntimeError, NotImplementedError, MemoryError, zipfile.BadZipFile) as error:
        raise GammerError(f"{path} is damaged: {error}", "it is an .npz file of arrays", "copy it again") from error


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(entry) as file:
        if (version := np.lib.format.read_magic(file)) != (1, 0):
            raise ValueError(f"{entry.filename} has version {version} of NumPy's format")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        data = file.read()
    if dtype.hasobject or len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{entry.filename} states {shape} of {dtype} for {len(data):,} bytes")
    return np.ndarray(shape, dtype, data, order="F" if is_fortran else "C")


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file, whole or not at all.

    Raises:
        ValueError: If ``value`` holds NaN or infinity, which JSON has not.
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_yaml(path: str | Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Read a YAML file.

    Args:
        path: The file.
        loader: A safe loader, which makes plain data only.

    Raises:
        GammerError: As in `read_text`, and if it is no YAML, nested too deep or, its aliases written out, too large.
    """
    text = read_text(path, MAX_YAML_BYTES)
    try:
        reader = loader(text)
        node = reader.get_single_node()
        nodes = _count_nodes(node, {}) if node else 0
        if nodes > MAX_YAML_NODES:
            raise GammerError(
                f"{path} has {nodes:,} values where its aliases are written out",
                f"at most {MAX_YAML_NODES:,} are read",
                "write it with fewer aliases",
            )
        return reader.construct_document(node) if node else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise GammerError(f"{path} cannot be read: {error}", "it is a YAML file", "mend the file") from error


def _count_nodes(node: yaml.Node, counts: dict[int, int]) -> int:
    """Return the nodes of a document, an alias counted like what it stands for; one within itself is refused."""
    if id(node) not in counts:
        counts[id(node)] = MAX_YAML_NODES + 1  # met again before it is counted: an alias of what it lies in
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        counts[id(node)] = 1 + sum(_count_nodes(child, counts) for child in children)
    return counts[id(node)]


def image_files(folder: Path, *, recursive: bool = False) -> list[Path]:
    """List the image files of a folder, by their names' endings, sorted.

    Hidden files and folders, such as the ``._img1.jpg`` that macOS writes beside ``img1.jpg``, and ``__MACOSX`` are
    left out.
    """
    files = folder.rglob("*") if recursive else folder.iterdir()
    images = []
    for path in files:
        is_hidden = any(is_junk(part) for part in path.relative_to(folder).parts)
        if path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden and not path.is_dir():
            images.append(path)
    return sorted(images)


def is_junk(name: str) -> bool:
    """Whether a file or folder is no part of a data set but left by an operating system: ``._img46.jpg``, ``__MACOSX``.

    Files that cannot be frames by their suffix (``Thumbs.db``, ``desktop.ini``) need no mention.
    """
    return name.startswith((".", "__MACOSX"))


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as uint8 RGB ``(H, W, 3)``, upright; grey becomes three equal channels.

    Raises:
        GammerError: As in `load_image`.
    """
    return np.asarray(load_image(path).convert("RGB"))


def load_image(path: str | Path, max_side: int | None = None) -> Image.Image:
    """Load an image, turned upright by its EXIF orientation, with 8 bits a channel.

    Args:
        path: The file.
        max_side: Length in px to which a longer side is reduced.

    Raises:
        GammerError: If the file is missing, no regular file, truncated, no image, too large, holds several pictures,
            or cannot be brought to 8 bits (see `to_eight_bits`).
    """
    with open_image(path) as file:
        image: Image.Image = file
        bits = channel_bits(file)
        if bits > 8:
            image = _reduced(file, bits, str(path))
        elif file.mode not in EIGHT_BIT_MODES:
            raise GammerError(
                f"{path} has pixels of mode {file.mode}",
                "an image is grey or colour, whole numbers of up to 16 bits a channel",
                "convert it to 8 bits a channel",
            )
        if max_side:
            image.thumbnail((max_side, max_side), Image.Resampling.BOX)
        image.load()
        turn = TURNS.get(_orientation(image))
        return image.transpose(turn) if turn is not None else image.copy()


@contextmanager
def open_image(path: str | Path) -> Iterator[ImageFile]:
    """Open an image file that holds one picture; its pixels are decoded as they are asked for.

    Raises:
        GammerError: As in `load_image`, but for its bits; where the block raises what a damaged file does, too.
    """
    path = Path(path)
    check_is_file(path)
    try:
        with Image.open(path) as image:
            pictures = getattr(image, "n_frames", 1)
            if pictures > 1 and image.format != "MPO":  # the others of a telephone's MPO are previews
                raise GammerError(
                    f"{path} holds {pictures} pictures",
                    "an image file holds one",
                    f"extract them into a folder, e.g. `convert {path.name} {path.stem}-%04d.png`",
                )
            yield image
    except Image.DecompressionBombError as error:
        raise GammerError(
            f"{path} is too large: {error}", "a bound keeps one image from filling the memory", "reduce it"
        ) from error
    except DAMAGED as error:
        raise GammerError(
            f"{path} cannot be read: {error}",
            "every frame must be a whole image file (JPEG, PNG, BMP, ...)",
            "copy or extract this file again",
        ) from error


def channel_bits(image: ImageFile) -> int:
    """Return the bits a channel of an image's file has, where these are more than 8; ask before pixels are decoded."""
    raw = str(image.tile)
    if image.mode.startswith("I;16") and "I;12" in raw:
        return 12
    is_deep = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM") or DEEP.search(raw)
    return 16 if is_deep else 8


def depth_note(path: Path) -> str:
    """Return a sentence that says how an image of more than 8 bits a channel is read; empty where it has 8.

    Raises:
        GammerError: As in `open_image`.
    """
    with open_image(path) as image:
        bits = channel_bits(image)
    return f"{path.name} has {bits} bits a channel, of which the upper 8 are read" if bits > 8 else ""


def _reduced(image: ImageFile, bits: int, name: str) -> Image.Image:
    """Return an image of more than 8 bits a channel with 8."""
    if image.mode.startswith("I"):
        levels = np.asarray(image)
        if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
            levels = 2**bits - 1 - levels
        return Image.fromarray(to_eight_bits(levels, bits, name))
    brightest = int(np.asarray(image.convert("RGB")).max())  # Pillow decodes the upper 8 bits of colour
    _check_range(brightest * 256 + 255 if brightest else _brightest(name), name)
    return image


def _brightest(path: str) -> int:
    """Return the largest value of a picture of 16-bit colour."""
    import cv2  # here alone: most that reads files does without

    image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    return 1 if image is None else int(image[..., :3].max())


def to_eight_bits(image: np.ndarray, bits: int, name: str) -> np.ndarray:
    """Reduce an image to the upper 8 of the bits that its format states.

    16 bits are also the container of 10, 12 or 14, which no format states. Such an image would come out nearly black,
    and its brightest value cannot tell it from a dark one. So an image of 16 bits whose two upper bits are unused is
    refused, rather than read in one of two ways, which might differ from frame to frame.

    Args:
        image: Of any shape, unsigned.
        bits: Bits a channel, 8 or more.
        name: What it is called in the message.

    Returns:
        The same shape, uint8.

    Raises:
        GammerError: If the two upper bits of 16 are 0 in a picture that is not all black.
    """
    if bits == 16:
        _check_range(int(image.max()), name)
    return (image >> (bits - 8)).astype(np.uint8)


def _check_range(brightest: int, name: str) -> None:
    if 0 < brightest < 2**14:
        raise GammerError(
            f"{name} has 16 bits a channel, but no value above {brightest}, a quarter of their range",
            "it holds 10, 12 or 14 bits, or is dark: the file does not say which",
            "convert all frames alike, e.g. 12 bits: `convert IN.png -evaluate multiply 16 -depth 8 OUT.png`; "
            "10 bits: multiply 64; 14: multiply 4; dark ones: without -evaluate",
        )


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a loaded image; 1, as it is stored, where its EXIF block is damaged."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGED:
        return 1


def content_hash(*parts: bytes | str | np.ndarray) -> str:
    """Return the SHA-256 (hex) of all parts; lengths, types and array shapes are hashed with them."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            label = "text"
            data = part.encode()
        elif isinstance(part, np.ndarray):
            label = f"{part.dtype.str}{part.shape}"
            data = part.tobytes()
        else:
            label = "bytes"
            data = part
        digest.update(f"{label} {len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
