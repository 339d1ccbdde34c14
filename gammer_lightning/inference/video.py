"""Frames in, frames out: videos (PyAV), folders of images and cameras (OpenCV), one frame in memory at a time."""

import errno
import itertools
import re
import struct
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from gammer_lightning.errors import GammerError
from gammer_lightning.escapes import printable
from gammer_lightning.files import IMAGE_SUFFIXES, check_is_file, depth_note, image_files, read_image, to_eight_bits
from gammer_lightning.pixels import to_uint8

CAMERA_CLOCK = Fraction(1, 1000)
MAX_CAMERA = 99
"""The highest number of a camera; OpenCV takes hundreds for its drivers."""
MIN_FPS, MAX_FPS = 0.01, 1e5
"""Frames a second that a folder may have."""
SQUARE_TO = 4
"""How much wider or narrower than high a pixel may be said to be; anamorphic video has 2."""
MAX_SECONDS = 1e7
"""Time of a frame from the first up to which a clock is believed, s."""
HD = 720
"""Height in px from which a video without a stated colour matrix has that of BT.709; below it is BT.601."""
BT709, LIMITED, UNKNOWN = 1, 1, 2  # FFmpeg's numbers


@dataclass(frozen=True)
class Frame:
    """A frame: its place in the input from 0, its time in s from the first frame, uint8 RGB ``(H, W, 3)``, upright."""

    index: int
    time: float
    image: np.ndarray


def import_av() -> ModuleType:
    """Import PyAV.

    Raises:
        GammerError: It is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise GammerError("PyAV is not installed", "videos are read and written with it", "pip install av") from error
    return av


class VideoSource:
    """An input as a stream; a context manager.

    Attributes:
        name: What it is called in messages and files; printable.
        rate: Frames a second where the input states them.
        clock: Unit of its time stamps in s.
        total: Number of frames, where it is known or can be estimated.
        notes: What was unusual, a sentence each; complete once the frames were read.
        remedy: What to do where it has no frames.
    """

    remedy = "record or export it again"

    def __init__(self, name: str, rate: Fraction | None, clock: Fraction, total: int | None):
        self.name = printable(name).replace("\n", r"\n")  # it reaches terminals, pages and pictures
        self.rate = rate
        self.clock = clock
        self.total = total
        self.notes: list[str] = []

    def __enter__(self) -> "VideoSource":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file or camera."""

    def frames(self) -> Generator[Frame, None, None]:
        """Yield the frames.

        Raises:
            GammerError: If there is none, one cannot be read, or their size changes.
        """
        first = None
        for frame in self._read():
            first = first or frame.image.shape
            if frame.image.shape != first:
                height, width = frame.image.shape[:2]
                raise GammerError(
                    f"{self._place(frame.index)} measures {width}x{height} px, those before it {first[1]}x{first[0]}",
                    "all frames of an input have one size",
                    "take it out, or scale all frames to one size, e.g. ffmpeg -i IN -vf scale=1280:720 OUT.mp4",
                )
            yield frame
        if first is None:
            raise GammerError(f"{self.name} has no frames", "an input shows two frames or more", self.remedy)

    def _read(self) -> Iterator[Frame]:
        raise NotImplementedError

    def _place(self, index: int) -> str:
        return f"frame {index} of {self.name}"


class VideoFile(VideoSource):
    """A video file; turned upright by its rotation tag, pixels made square, times from its time stamps."""

    def __init__(self, path: Path):
        check_is_file(path)
        if not path.stat().st_size:
            raise GammerError(f"{path} is empty (0 bytes)", "a video has frames", "copy or record it again")
        av = import_av()
        self._error = av.error.FFmpegError
        self._path = path
        try:
            # Titles may be in any encoding; a relative path may look like a protocol, as `12:30.mp4` does.
            self.container = av.open(str(path.absolute()), metadata_errors="replace")
        except (self._error, OSError) as error:
            raise _no_video(path, getattr(error, "strerror", None) or str(error)) from error
        self.stream = self.container.streams.best("video")  # cover pictures are the last choice
        codec = self.stream and self.stream.codec_context
        if codec is None or not self.stream.time_base:
            self.container.close()
            raise _no_video(path, "its codec is unknown" if self.stream else "it has no video stream")
        codec.thread_type = "AUTO"
        rate = self.stream.average_rate
        clock = Fraction(self.stream.time_base)
        super().__init__(path.name, rate and Fraction(rate), clock, self._count())
        self._width = self._pixel_width()
        self._is_16_bit = False

    def _count(self) -> int | None:
        """Return the number of frames as stated, or from the duration."""
        if self.stream.frames:
            return self.stream.frames
        seconds = (self.container.duration or 0) / 1e6
        rate = self.stream.average_rate or 0
        return max(0, round(seconds * rate)) or None

    def _pixel_width(self) -> float:
        """Return the width of a pixel in heights; 1 where what the file says cannot be."""
        stated = self.stream.sample_aspect_ratio
        if not stated or 1 / SQUARE_TO <= stated <= SQUARE_TO:
            return float(stated or 1)
        self.notes.append(f"pixels said to be {float(stated):.3g} times as wide as high are taken as square")
        return 1.0

    def _note_once(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def _read(self) -> Iterator[Frame]:
        step = 1 / (self.rate or Fraction(25))
        before: Fraction | None = None
        start = Fraction(0)
        now = -step
        jumps = 0
        for index, picture in enumerate(self._decode()):
            stamp = (before or 0) + step if picture.pts is None else picture.pts * self.clock
            if before is None:
                start = stamp
            elif stamp < before:
                start = stamp - now - step
                if jumps == 0:
                    self.notes.append(f"time stamps jump back at frame {index}: times go on there at the frame rate")
                jumps += 1
            now = stamp - start if stamp - start > now else now + step
            if now > MAX_SECONDS:
                raise GammerError(
                    f"frame {index} of {self.name} is said to come {float(now):.3g} s after the first",
                    f"times of frames are up to {MAX_SECONDS:g} s",
                    "its time stamps are damaged: copy it again, or write them anew, "
                    "e.g. ffmpeg -i IN -vf setpts=N/(25*TB) OUT.mp4",
                )
            before = stamp
            yield Frame(index, float(now), self._upright(picture))

    def _decode(self) -> Iterator:
        damaged = 0
        for packet in self.container.demux(self.stream):
            try:
                yield from packet.decode()
            except self._error:
                damaged += 1
        if damaged:
            self.notes.append(f"{damaged} damaged packets were skipped")

    def _upright(self, picture) -> np.ndarray:
        try:
            image = self._to_rgb(picture)
        except (self._error, ValueError) as error:
            raise _no_video(
                self._path, f"its frames, {picture.format.name}, cannot be turned into RGB: {error}"
            ) from error
        if self._width != 1:
            height, width = image.shape[:2]
            image = cv2.resize(image, (max(1, round(width * self._width)), height))
        matrix = picture.side_data.get("DISPLAYMATRIX")
        if matrix is not None:
            image = self._turn(image, bytes(matrix))
        return np.ascontiguousarray(image)

    def _to_rgb(self, picture) -> np.ndarray:
        """Return a picture as uint8 RGB, the upper 8 bits where a channel has more."""
        guess = BT709 if picture.colorspace == UNKNOWN and picture.height >= HD else None
        bits = max(component.bits for component in picture.format.components)
        if bits > 8:
            self._note_once(f"it has {bits} bits a channel, of which the upper 8 are read")
        if bits == 16 and not self._is_16_bit:
            self._is_16_bit = self._fills_16_bits(picture)
        return picture.to_ndarray(format="rgb24", src_colorspace=guess)

    def _fills_16_bits(self, picture) -> bool:
        """Return whether a picture of 16 bits is not all black.

        Raises:
            GammerError: By the rule of `to_eight_bits`; once a frame has passed, later ones may be dark.
        """
        deep = picture.to_ndarray(format="rgb48le")
        try:
            to_eight_bits(deep, 16, f"a frame of {self._path}")
        except GammerError as error:
            raise GammerError(
                error.what,
                error.rule,
                "write it anew, e.g. 12 bits: ffmpeg -i IN -vf lut=c0=val*16:c1=val*16:c2=val*16 -c:v ffv1 OUT.mkv; "
                "10 bits: val*64; 14: val*4",
            ) from error
        return bool(deep.any())

    def _turn(self, image: np.ndarray, matrix: bytes) -> np.ndarray:
        """Turn and mirror an image as its display matrix says, whose quarter turns alone are followed.

        The matrix maps a pixel (x, y) to (a x + c y, b x + d y).
        """
        a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
        largest = max(map(abs, (a, b, c, d))) or 1
        a, b, c, d = (round(value / largest) for value in (a, b, c, d))
        if (abs(a), abs(b), abs(c), abs(d)) not in ((1, 0, 0, 1), (0, 1, 1, 0)):
            self._note_once("it says that it is to be turned, but by no quarter turns: it is read as it is stored")
            return image
        image = image.swapaxes(0, 1) if b else image
        return image[:: b or d, :: c or a]


def _no_video(path: Path, why: str) -> GammerError:
    return GammerError(
        f"{path} cannot be read as a video: {why}",
        "an input is a video (mp4, mov, avi, webm, ...), a folder of images, or the number of a camera",
        "check the file; ffprobe FILE says what it is",
    )


class FrameFolder(VideoSource):
    """A folder of images, in the order of the numbers in their names."""

    remedy = f"put images into it that are called {', '.join(IMAGE_SUFFIXES)}"

    def __init__(self, path: Path, rate: Fraction):
        self.paths = sorted(image_files(path), key=_numbers)
        self.fps = rate
        super().__init__(path.resolve().name, rate, 1 / rate, len(self.paths))

    def _read(self) -> Iterator[Frame]:
        for index, path in enumerate(self.paths):
            image = np.array(read_image(path))  # writable, as torch wants it
            if not self.notes:
                note = depth_note(path)
                if note:
                    self.notes.append(note)
            yield Frame(index, float(index / self.fps), image)

    def _place(self, index: int) -> str:
        return str(self.paths[index])


def _numbers(path: Path) -> list[int | str]:
    """Return a name parted into numbers and text, so that 10 sorts after 9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


class Camera(VideoSource):
    """A camera; what the rest is too slow for, it drops."""

    def __init__(self, number: int):
        log = cv2.utils.logging
        level = log.setLogLevel(log.LOG_LEVEL_SILENT)  # the error below says it once
        self.camera = cv2.VideoCapture(number)
        log.setLogLevel(level)
        if not self.camera.isOpened():
            raise GammerError(
                f"camera {number} cannot be opened",
                "an input that is a number and no file is a camera, counted from 0",
                "plug it in, let no other program use it, or give its number; on Linux: ls /dev/video*",
            )
        stated = self.camera.get(cv2.CAP_PROP_FPS)
        rate = Fraction(stated if MIN_FPS <= stated <= MAX_FPS else 30).limit_denominator(1001)
        super().__init__(f"camera{number}", rate, CAMERA_CLOCK, None)

    def close(self) -> None:
        """Release the camera."""
        self.camera.release()

    def _read(self) -> Iterator[Frame]:
        start = None
        for index in itertools.count():
            is_read, image = self.camera.read()
            if not is_read:
                return
            now = time.monotonic()
            start = now if start is None else start
            yield Frame(index, now - start, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def open_video(given: str | Path, fps: float = 200.0) -> VideoSource:
    """Open an input.

    Args:
        given: Path of a video or of a folder of images; a number that is no path: that camera.
        fps: Frames a second of a folder, whose images have no time stamps.

    Raises:
        GammerError: There is no such input, or it is no video.
    """
    check_fps(fps)
    path = Path(given)
    if path.is_dir():
        return FrameFolder(path, Fraction(fps).limit_denominator(1001))
    if path.exists():
        return VideoFile(path)
    text = str(given)
    if text.isdecimal() and len(text) <= len(str(MAX_CAMERA)):
        return Camera(int(text))
    raise GammerError(
        f"no input at {given}",
        "an input is a video (mp4, mov, avi, webm, ...), a folder of images, or the number of a camera, "
        f"0 to {MAX_CAMERA}",
        "check the path",
    )


def check_fps(fps: float) -> None:
    """See that a folder's frames a second are in range.

    Raises:
        GammerError: They are not.
    """
    if not MIN_FPS <= fps <= MAX_FPS:
        raise GammerError(f"--fps {fps:g}", f"frames a second, {MIN_FPS:g} to {MAX_FPS:g}", "e.g. --fps 200")


def check_limit(limit: float | None) -> None:
    """See that a limit is a positive number of seconds, or None.

    Raises:
        GammerError: It is not.
    """
    if limit is not None and not limit > 0:
        raise GammerError(f"--limit {limit:g}", "a positive number of seconds", "e.g. --limit 60")


def to_pixels(frame: Tensor, what: str) -> np.ndarray:
    """Return a frame ``(1, 3, H, W)`` in [0, 1] as uint8 ``(H, W, 3)``.

    Args:
        frame: On any device.
        what: What made it, for the message.

    Raises:
        GammerError: A value is not finite; rounded, it would be black.
    """
    if not frame.isfinite().all():
        raise GammerError(
            f"{what} made a frame with values that are not finite",
            "pixels are finite numbers",
            "take a smaller alpha, or compute in fp32 if it was a lower precision",
        )
    return to_uint8(frame[0])


class VideoWriter:
    """Writes H.264 that plays everywhere (yuv420p), at any times; a context manager.

    4:2:0 colour has even sides, so the last row or column of an odd picture is repeated once.

    Args:
        path: .mp4, .mov or .mkv.
        rate: Nominal frames a second.
        clock: Unit of time stamps in s; those of the input are kept exactly.
    """

    def __init__(self, path: Path, rate: Fraction | None, clock: Fraction):
        self.av = import_av()
        self.rate = rate or Fraction(30)
        self.clock = clock
        self.path = path
        self.last = -1
        self.stream: Any = None  # of PyAV, added with the size of the first frame
        with self._errors():
            self.container = self.av.open(str(path.absolute()), "w")  # relative, `a:b.mp4` looks like a protocol

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._errors():
            if self.stream is not None:
                self._mux(None)
            self.container.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise what FFmpeg cannot write as a `GammerError`; what the disk refuses stays an OSError."""
        try:
            yield
        except self.av.error.FFmpegError as error:
            if isinstance(error, OSError) and error.errno in errno.errorcode:
                raise
            raise GammerError(
                f"the video {self.path} cannot be written: {error.strerror or error}",
                "it is H.264, of frames up to 16,384 px a side",
                "scale the input down, e.g. ffmpeg -i IN -vf scale=1280:-2 SMALL.mp4",
            ) from error

    def write(self, image: np.ndarray, now: float) -> None:
        """Add uint8 RGB ``(H, W, 3)`` at a time in s, later than the last."""
        height, width = image.shape[:2]
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        with self._errors():
            self.stream = self.stream or self._add_stream(*image.shape[:2])
            self._encode(image, now)

    def _encode(self, image: np.ndarray, now: float) -> None:
        frame = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        self.last = max(round(now / self.clock), self.last + 1)
        frame.pts = self.last
        frame.time_base = self.clock
        self._mux(frame)

    def _add_stream(self, height: int, width: int):
        stream = self.container.add_stream("libx264", rate=self.rate, options={"preset": "veryfast", "crf": "18"})
        stream.width = width
        stream.height = height
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = self.clock
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
        return stream

    def _mux(self, frame) -> None:
        for packet in self.stream.encode(frame):
            self.container.mux(packet)
