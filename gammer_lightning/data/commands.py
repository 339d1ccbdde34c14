"""Arguments and handlers of the data verbs; nothing heavy is imported before a handler runs."""

import argparse
import os
import re
import time
from pathlib import Path

from gammer_lightning.errors import GammerError


def add_premagnify_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer premagnify``."""
    parser.add_argument("--root", required=True, help="folder of a data set in CASME II's layout")
    parser.add_argument("--dataset", default="microfaces", help="its name in the cache (default: %(default)s)")
    parser.add_argument(
        "--magnifier", default="st-memm-small", help="name, run folder or checkpoint (default: %(default)s)"
    )
    parser.add_argument(
        "--alphas", type=float, nargs="+", default=(5, 8, 10, 12, 15, 20), help="default: 5 8 10 12 15 20"
    )
    parser.add_argument("--cache", default="cache/premagnified", help="folder (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu (default: %(default)s)")
    parser.add_argument("--devices", type=int, default=1, help="how many share the clips (default: 1)")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that find faces ahead, per device (default: 0)"
    )


def premagnify_command(arguments: argparse.Namespace) -> None:
    """Run ``gammer premagnify``."""
    from pytorch_lightning.utilities import rank_zero_only

    from gammer_lightning.data.casme2 import read_casme2
    from gammer_lightning.data.premagnify import premagnify

    report = premagnify(
        read_casme2(arguments.root, arguments.dataset),
        arguments.alphas,
        arguments.magnifier,
        arguments.cache,
        device=arguments.device,
        devices=arguments.devices,
        workers=arguments.workers,
    )
    rank_zero_only(print)(report)


def add_synthesize_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer data synthesize``."""
    parser.add_argument("--out", required=True, help="folder to write: new, empty, or begun by this command")
    parser.add_argument("--portraits", help="folder of frontal photographs (default: two embedded portraits)")
    parser.add_argument("--subjects", type=int, default=12, help="default: %(default)s")
    parser.add_argument("--clips-per-class", type=int, default=3, help="per subject (default: %(default)s)")
    parser.add_argument("--size", default="280x340", help="WIDTHxHEIGHT in px (default: %(default)s)")
    parser.add_argument("--fps", type=int, default=200, help="frames a second (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (%(default)s)")


def synthesize_command(arguments: argparse.Namespace) -> None:
    """Run ``gammer data synthesize``."""
    from gammer_lightning.data.microfaces import MicrofacesSpec, contact_sheet, synthesize

    width, height = parse_size(arguments.size)
    spec = MicrofacesSpec(
        arguments.subjects,
        arguments.clips_per_class,
        width,
        height,
        arguments.fps,
        arguments.seed,
        arguments.portraits and Path(arguments.portraits),
    )
    out, start = Path(arguments.out), time.perf_counter()
    clips = synthesize(out, spec, arguments.workers)
    seconds = time.perf_counter() - start
    contact_sheet(out, out / "contact_sheet.png")
    frames = sum(len(clip.frames) for clip in clips)
    print(f"{len(clips)} clips of {spec.subjects} subjects, {frames} frames in {out}")
    print(f"{frames / seconds:.0f} frames/s with {arguments.workers} workers; see {out}/contact_sheet.png")


def add_synthesize_motion_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer data synthesize-motion``."""
    parser.add_argument("--out", required=True, help="folder to write: new, empty, or begun by this command")
    parser.add_argument("--samples", type=int, required=True, help="Oh et al. have 100000")
    parser.add_argument("--size", type=int, default=384, help="side of a frame in px (default: %(default)s)")
    parser.add_argument(
        "--sources",
        nargs="+",
        default=("embedded",),
        help="folders of photographs and cut-outs, PASCAL VOC, or embedded sets (default: embedded)",
    )
    parser.add_argument(
        "--objects",
        type=int,
        nargs=2,
        default=(7, 15),
        metavar=("FEWEST", "MOST"),
        help="foreground objects of a scene (default: 7 15)",
    )
    parser.add_argument("--max-alpha", type=float, default=100.0, help="largest factor (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (%(default)s)")


def synthesize_motion_command(arguments: argparse.Namespace) -> None:
    """Run ``gammer data synthesize-motion``."""
    from gammer_lightning.data.motion_set import MotionSetSpec, write_motion_set

    a = arguments
    spec = MotionSetSpec(a.samples, a.size, tuple(a.sources), tuple(a.objects), a.max_alpha, a.seed)
    write_motion_set(Path(a.out), spec, a.workers)
    print(f"{a.samples} samples of {a.size}x{a.size} px in {a.out}")
    settings = f"--data.published={a.out} --data.size={min(256, a.size)}"
    print(f"next: gammer magnify fit -c experiments/magnify_oh2018.yaml {settings}")


def parse_size(text: str) -> tuple[int, int]:
    """Parse WIDTHxHEIGHT.

    Raises:
        GammerError: If the text has another form.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise GammerError(f"size is {text!r}", "it is WIDTHxHEIGHT in px", "--size 280x340")
    return int(match[1]), int(match[2])
