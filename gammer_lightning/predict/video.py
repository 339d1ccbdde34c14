"""Frames in, frames out: videos (PyAV), folders of images and cameras (OpenCV), one frame in memory at a time."""

import re
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import NamedTuple

import cv2
import numpy as np

from gammer_lightning.errors import GammerError
from gammer_lightning.files import IMAGE_SUFFIXES, depth_note, image_files, read_image

CAMERA_CLOCK = Fraction(1, 1000)
HD = 720
"""Height in px from which a video without a stated colour matrix has that of BT.709; below it is BT.601."""
BT709, LIMITED, UNKNOWN = 1, 1, 2  # FFmpeg's numbers


class Frame(NamedTuple):
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


class Source:
    """An input as a stream; a context manager.

    Attributes:
        name: What it is called in messages and files.
        rate: Frames a second where the input states them.
        clock: Unit of its time stamps in s.
        total: Number of frames, where it is known or can be estimated.
        notes: What was unusual, a sentence each; complete once the frames were read.
        remedy: What to do where it has no frames.
    """

    remedy = "record or export it again"

    def __init__(self, name: str, rate: Fraction | None, clock: Fraction, total: int | None):
        self.name, self.rate, self.clock, self.total = name, rate, clock, total
        self.notes: list[str] = []

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file or camera."""

    def frames(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            GammerError: If there is none, one cannot be read, or their size changes.
        """
        first = None
        for frame in self._read():
            first = first or frame.image.shape
            if frame.image.shape != first:
                raise _changed_size(self._place(frame.index), frame.image.shape, first)
            yield frame
        if first is None:
            raise GammerError(f"{self.name} has no frames", "an input shows two frames or more", self.remedy)

    def _read(self) -> Iterator[Frame]:
        raise NotImplementedError

    def _place(self, index: int) -> str:
        return f"frame {index} of {self.name}"


def _changed_size(place: str, size: tuple[int, ...], first: tuple[int, ...]) -> GammerError:
    return GammerError(
        f"{place} measures {size[1]}x{size[0]} px, those before it {first[1]}x{first[0]}",
        "all frames of an input have one size",
        "take it out, or scale all frames to one size, e.g. ffmpeg -i IN -vf scale=1280:720 OUT.mp4",
    )


class VideoFile(Source):
    """A video file; turned upright by its rotation tag, pixels made square, times from its time stamps."""

    def __init__(self, path: Path):
        if not path.stat().st_size:
            raise GammerError(f"{path} is empty (0 bytes)", "a video has frames", "copy or record it again")
        av = import_av()
        self._error = av.error.FFmpegError
        try:
            self.container = av.open(str(path))
        except (self._error, OSError) as error:
            raise _no_video(path, getattr(error, "strerror", None) or str(error)) from error
        if not self.container.streams.video:
            self.container.close()
            raise _no_video(path, "it has no video stream")
        self.stream = self.container.streams.video[0]
        self.stream.thread_type = "AUTO"
        rate = self.stream.average_rate
        super().__init__(path.name, rate and Fraction(rate), Fraction(self.stream.time_base), self._count())

    def _count(self) -> int | None:
        """Return the number of frames as stated, or from the duration."""
        if self.stream.frames:
            return self.stream.frames
        duration, rate = self.container.duration, self.stream.average_rate
        return round(duration / 1e6 * rate) if duration and rate else None

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def _read(self) -> Iterator[Frame]:
        step = 1 / (self.rate or Fraction(25))
        before, now = None, -step
        for index, picture in enumerate(self._decode()):
            stamp = (before or 0) + step if picture.pts is None else picture.pts * self.clock
            if before is None:
                start = stamp
            elif stamp < before:
                start = stamp - now - step
                if not self.notes:
                    self.notes.append(f"time stamps jump back at frame {index}: times go on there at the frame rate")
            now = stamp - start if stamp - start > now else now + step
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
        guess = BT709 if picture.colorspace == UNKNOWN and picture.height >= HD else None
        image = picture.to_ndarray(format="rgb24", src_colorspace=guess)
        aspect = self.stream.sample_aspect_ratio
        if aspect and aspect != 1:
            image = cv2.resize(image, (round(image.shape[1] * float(aspect)), image.shape[0]))
        return np.ascontiguousarray(np.rot90(image, round(picture.rotation / 90)))


def _no_video(path: Path, why: str) -> GammerError:
    return GammerError(
        f"{path} cannot be read as a video: {why}",
        "an input is a video (mp4, mov, avi, webm, ...), a folder of images, or the number of a camera",
        "check the file; ffprobe FILE says what it is",
    )


class FrameFolder(Source):
    """A folder of images, in the order of the numbers in their names."""

    remedy = f"put images into it that are called {', '.join(IMAGE_SUFFIXES)}"

    def __init__(self, path: Path, rate: Fraction):
        self.paths = sorted(image_files(path), key=_numbers)
        super().__init__(path.resolve().name, rate, 1 / rate, len(self.paths))

    def _read(self) -> Iterator[Frame]:
        for index, path in enumerate(self.paths):
            image = np.array(read_image(path))  # writable, as torch wants it
            if not self.notes and (note := depth_note(path)):
                self.notes.append(note)
            yield Frame(index, float(index / self.rate), image)

    def _place(self, index: int) -> str:
        return str(self.paths[index])


def _numbers(path: Path) -> list[int | str]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


class Camera(Source):
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
        rate = Fraction(self.camera.get(cv2.CAP_PROP_FPS) or 30).limit_denominator(1001)
        super().__init__(f"camera{number}", rate, CAMERA_CLOCK, None)

    def close(self) -> None:
        """Release the camera."""
        self.camera.release()

    def _read(self) -> Iterator[Frame]:
        start, index = None, 0
        while (read := self.camera.read())[0]:
            now = time.monotonic()
            start = now if start is None else start
            yield Frame(index, now - start, cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
            index += 1


def open_source(given: str | Path, fps: float = 200.0) -> Source:
    """Open an input.

    Args:
        given: Path of a video or of a folder of images; a number that is no path: that camera.
        fps: Frames a second of a folder, whose images have no time stamps.

    Raises:
        GammerError: There is no such input, or it is no video.
    """
    path = Path(given)
    if path.is_dir():
        if not 0 < fps < 1e5:
            raise GammerError(f"{fps} frames a second", "a positive number", "e.g. --fps 200")
        return FrameFolder(path, Fraction(fps).limit_denominator(1001))
    if path.is_file():
        return VideoFile(path)
    if str(given).isdecimal():
        return Camera(int(str(given)))
    raise GammerError(
        f"no input at {given}",
        "an input is a video (mp4, mov, avi, webm, ...), a folder of images, or the number of a camera",
        "check the path",
    )


def check_limit(limit: float | None) -> None:
    """See that a limit is a positive number of seconds, or None.

    Raises:
        GammerError: It is not.
    """
    if limit is not None and not limit > 0:
        raise GammerError(f"a limit of {limit} s", "a positive number of seconds", "e.g. --limit 60")


class VideoWriter:
    """Writes H.264 that plays everywhere (yuv420p), at any times; a context manager.

    4:2:0 colour has even sides, so the last row or column of an odd picture is repeated once.

    Args:
        path: .mp4, .mov or .mkv.
        rate: Nominal frames a second.
        clock: Unit of time stamps in s; those of the input are kept exactly.
    """

    def __init__(self, path: Path, rate: Fraction | None, clock: Fraction):
        self.av, self.rate, self.clock = import_av(), rate or Fraction(30), clock
        self.container, self.stream = self.av.open(str(path), "w"), None
        self.last = -1

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.stream is not None:
            self._mux(None)
        self.container.close()

    def write(self, image: np.ndarray, now: float) -> None:
        """Add uint8 RGB ``(H, W, 3)`` at a time in s, later than the last."""
        height, width = image.shape[:2]
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        self.stream = self.stream or self._add_stream(*image.shape[:2])
        frame = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        self.last = max(round(now / self.clock), self.last + 1)
        frame.pts, frame.time_base = self.last, self.clock
        self._mux(frame)

    def _add_stream(self, height: int, width: int):
        stream = self.container.add_stream("libx264", rate=self.rate, options={"preset": "veryfast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = self.clock
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
        return stream

    def _mux(self, frame) -> None:
        for packet in self.stream.encode(frame):
            self.container.mux(packet)
