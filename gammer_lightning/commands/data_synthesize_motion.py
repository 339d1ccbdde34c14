"""``gammer data synthesize-motion``: write motion pairs in the layout of Oh et al.'s set."""

import argparse
import os
from pathlib import Path

from gammer_lightning.commands.options import LEAST_ALPHA, MOST_ALPHA, MOST_SIDE, number, whole, workers
from gammer_lightning.ranges import MAX_SEED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer data synthesize-motion``."""
    parser.add_argument("--out", required=True, help="folder to write: new, empty, or begun by this command")
    parser.add_argument("--samples", type=whole(1, 10_000_000), required=True, help="Oh et al. have 100000")
    parser.add_argument(
        "--size", type=whole(1, MOST_SIDE), default=384, help="side of a frame in px (default: %(default)s)"
    )
    parser.add_argument(
        "--sources",
        nargs="+",
        default=("embedded",),
        help="folders of photographs and cut-outs, PASCAL VOC, or embedded sets (default: embedded)",
    )
    parser.add_argument(
        "--objects",
        type=whole(0, 100),
        nargs=2,
        default=(7, 15),
        metavar=("FEWEST", "MOST"),
        help="foreground objects of a scene (default: 7 15)",
    )
    parser.add_argument(
        "--max-alpha", type=number(LEAST_ALPHA, MOST_ALPHA), default=100.0, help="largest factor (default: %(default)g)"
    )
    parser.add_argument("--seed", type=whole(0, MAX_SEED), default=0, help="default: %(default)s")
    parser.add_argument("--workers", type=workers, default=os.cpu_count(), help="processes (%(default)s)")


def main(arguments: argparse.Namespace) -> None:
    """Run ``gammer data synthesize-motion``."""
    from gammer_lightning.data.motion.write_set import MotionSetSpec, write_motion_set

    a = arguments
    spec = MotionSetSpec(a.samples, a.size, tuple(a.sources), tuple(a.objects), a.max_alpha, a.seed)
    write_motion_set(Path(a.out), spec, a.workers)
    print(f"{a.samples} samples of {a.size}x{a.size} px in {a.out}")
    settings = f"--data.published={a.out} --data.size={min(256, a.size)}"
    print(f"next: gammer magnify fit -c experiments/magnify_oh2018.yaml {settings}")
