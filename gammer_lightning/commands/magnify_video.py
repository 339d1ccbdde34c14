"""`gammer magnify video`: magnification alone, of whole frames of any size, one after the other."""

import argparse
import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import takewhile, tee
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from gammer_lightning.errors import GammerError
from gammer_lightning.escapes import printable
from gammer_lightning.files import check_name, check_writable, disk_errors, remove_stale, replacing
from gammer_lightning.inference.video import Frame, VideoWriter, check_fps, check_limit, open_video, to_pixels
from gammer_lightning.magnifiers import Magnifier, check_alphas, load_magnifier, magnify_band
from gammer_lightning.magnifiers.trained import SHIPPED, STMEMMMagnifier
from gammer_lightning.pixels import to_floats

Mode = Literal["onset", "dynamic"]
CONTAINERS = (".mp4", ".mov", ".mkv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gammer magnify video`."""
    parser.add_argument("input", metavar="IN", help="video, folder of frames, or number of a camera")
    parser.add_argument("output", metavar="OUT", type=Path, help="the video to write: .mp4, .mov or .mkv, H.264")
    parser.add_argument("--alpha", type=float, default=10.0, help="magnification factor (default: 10)")
    parser.add_argument(
        "--mode", choices=get_args(Mode), help="each frame against the first (default) or the one before"
    )
    parser.add_argument(
        "--magnifier",
        default=SHIPPED,
        help=f"{SHIPPED} (default), eulerian, phase, lagrangian, a run folder or a checkpoint",
    )
    parser.add_argument(
        "--band",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="magnify what moves at these frequencies, Hz, in place of --mode; eulerian and phase alone",
    )
    parser.add_argument("--fps", type=float, default=200.0, help="frames a second of a folder (default: 200)")
    parser.add_argument("--limit", type=float, metavar="S", help="stop after S seconds of the input, e.g. of a camera")


def main(args: argparse.Namespace) -> int:
    """Run `gammer magnify video`."""
    (alpha,) = check_alphas([args.alpha])
    check_limit(args.limit)
    check_fps(args.fps)
    method = _how(args)
    _check_output(args.input, args.output)
    magnifier = load_magnifier(args.magnifier)
    if torch.cuda.is_available():
        magnifier = magnifier.cuda()
    count, stopped, size = 0, False, (0, 0)
    with open_video(args.input, args.fps) as source, disk_errors(args.output), _replacing(args.output) as path:
        bar = tqdm(total=source.total, desc=source.name, unit="frame")
        with VideoWriter(path, source.rate, source.clock) as writer, bar, closing(source.frames()) as frames:
            try:
                limited = takewhile(lambda frame: args.limit is None or frame.time < args.limit, frames)
                for frame in _magnified(limited, magnifier, alpha, source.rate, args):
                    writer.write(frame.image, frame.time)
                    count, size = count + 1, frame.image.shape[1::-1]
                    bar.update()
            except KeyboardInterrupt:
                if not count:
                    raise
                stopped = True
    output = printable(str(args.output))
    print(f"{output}: {count} frames of {size[0]}x{size[1]} px, alpha {alpha:g}, {method}; sound is left out")
    if count == 1 and not stopped:
        print("  note: one frame shows no motion, so nothing was magnified")
    if odd := [side for side in size if side % 2]:
        print(f"  note: H.264 has even sides, so the last row or column is repeated once ({odd[0]} is odd)")
    for note in source.notes:
        print(f"  note: {note}")
    if stopped:
        print("  note: stopped by Ctrl-C; what was done until then plays", file=sys.stderr)
    return 130 if stopped else 0


def _how(args: argparse.Namespace) -> str:
    if args.band and args.mode:
        raise GammerError(
            f"--band and --mode {args.mode}", "a band of frequencies needs no reference frame", "leave one of them out"
        )
    if not args.band:
        return args.mode or "onset"
    low, high = args.band
    if not 0 < low < high < math.inf:
        raise GammerError(
            f"--band {low:g} {high:g}", "0 < LOW < HIGH, in Hz, and HIGH below half the frame rate", "e.g. --band 1 5"
        )
    return f"{low:g} to {high:g} Hz"


def _magnified(
    frames: Iterator[Frame], magnifier: Magnifier, alpha: float, rate: Fraction | None, args: argparse.Namespace
) -> Iterator[Frame]:
    if not args.band:
        return magnified(frames, magnifier, alpha, args.mode or "onset")
    if not rate:
        raise GammerError(
            "the input states no frame rate", "--band is in Hz", "give a folder of its frames, with --fps"
        )
    return band_magnified(frames, magnifier, alpha, float(rate), args.band)


def _check_output(name: str, output: Path) -> None:
    if output.suffix.lower() not in CONTAINERS:
        raise GammerError(
            f"the output is {output}", f"it is a video of kind {', '.join(CONTAINERS)}", "e.g. magnified.mp4"
        )
    check_name(output.name, "the name of the output")
    if output.is_dir() or (output.exists() and not output.is_file()):
        kind = "a folder" if output.is_dir() else "a pipe or device"
        raise GammerError(f"{output} is {kind}", "the output is a file", f"e.g. {output / 'magnified.mp4'}")
    if output.exists() and Path(name).exists() and output.samefile(name):
        raise GammerError(f"{output} is the input", "the output is another file", "choose another name")


def _replacing(output: Path):
    check_writable(output.parent)
    with disk_errors(output):
        remove_stale(output)
    return replacing(output)


@torch.inference_mode()
def magnified(frames: Iterable[Frame], magnifier: Magnifier, alpha: float, mode: Mode = "onset") -> Iterator[Frame]:
    """Magnify a stream frame for frame; each frame is encoded once, and no more than two are in memory.

    Args:
        frames: Frames of any one size, 32 px or more a side.
        magnifier: As `load_magnifier` returns it.
        alpha: Magnification factor.
        mode: ``"onset"``: against the first frame, which does not drift; ``"dynamic"``: against the one before.

    Yields:
        The magnified frames; the first one against itself.
    """
    reference = None
    for frame in frames:
        pixels = _from_pixels(frame, magnifier)
        now = _encode(magnifier, pixels)
        reference = now if reference is None else reference
        image = _decode(magnifier, reference, now, alpha)[..., : pixels.shape[-2], : pixels.shape[-1]]
        reference = now if mode == "dynamic" else reference
        yield replace(frame, image=to_pixels(image, f"{magnifier.name} at alpha {alpha:g}"))


@torch.inference_mode()
def band_magnified(
    frames: Iterable[Frame], magnifier: Magnifier, alpha: float, fps: float, band: tuple[float, float]
) -> Iterator[Frame]:
    """Magnify a band of frequencies in a stream, frame for frame (see `magnify_band`).

    Yields:
        The magnified frames.
    """
    sources, copies = tee(frames)  # the filter takes a frame and gives one, so no more than one is kept
    pixels = (_from_pixels(frame, magnifier) for frame in copies)
    for image, frame in zip(magnify_band(magnifier, pixels, alpha, fps, band), sources, strict=True):
        yield replace(frame, image=to_pixels(image, f"{magnifier.name} at alpha {alpha:g}"))


def _from_pixels(frame: Frame, magnifier: Magnifier) -> Tensor:
    """Return the frame ``(1, 3, H, W)`` in [0, 1] where the magnifier's tensors lie."""
    devices = (tensor.device for tensor in [*magnifier.parameters(), *magnifier.buffers()])
    return to_floats(frame.image, next(devices, "cpu"))[None]


def _encode(magnifier: Magnifier, pixels: Tensor) -> Any:
    return magnifier.network.encode(pixels) if isinstance(magnifier, STMEMMMagnifier) else pixels


def _decode(magnifier: Magnifier, first: Any, second: Any, alpha: float) -> Tensor:
    """Return the frame ``(1, 3, H', W')``, padded where the features are."""
    if isinstance(magnifier, STMEMMMagnifier):
        return magnifier.network.decode(first, second, first.frame.new_tensor([[alpha]]))[0][0]
    return magnifier(first, second, [alpha])[0]
