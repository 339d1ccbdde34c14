"""Files: written whole or not at all, read strictly and within bounds, contents hashed."""

import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import psutil
import yaml
from PIL import Image

from gammer_lightning.errors import GammerError

EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


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
        raise GammerError(f"{path} is a pipe, socket or device", "a regular file is written", "choose another path")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{os.urandom(4).hex()}.tmp{path.suffix}")
    try:
        yield temporary
        if sync:
            _sync(temporary)
        os.replace(temporary, path)
        if sync:
            _sync_one(path.parent)
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
WRITE_ADVICE = {
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
        raise GammerError(
            f"{owner} is {name[:80]!r}" + (f" and {len(name) - 80} characters more" if len(name) > 80 else ""),
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
