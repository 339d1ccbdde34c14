"""``gammer data synthesize``: write the embedded benchmark microfaces."""

import argparse
import os
import re
import time
from pathlib import Path

from gammer_lightning.commands.options import MOST_SIDE, number, whole, workers
from gammer_lightning.errors import GammerError
from gammer_lightning.ranges import MAX_SEED

BENCHMARK_HELP = "version of microfaces; 2 is about as hard as real recordings (default: %(default)s)"
COUNTS_HELP = "balanced, or classes and clips per subject as unequal as CASME II's (benchmark 2; default: %(default)s)"
STRENGTHS_HELP = "of nuisances, 0 off, 1 as real, e.g. head_turn=0,noise=0.5, or all=0 (benchmark 2; default: all=1)"

SUBJECTS_HELP = "default: 12, 26 with --counts casme2, 3 with --long"
LONG_HELP = (
    "long videos in CAS(ME)2's layout: micro- and macro-expressions, blinks, speech, and long stretches of nothing"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer data synthesize``."""
    parser.add_argument("--out", required=True, help="folder to write: new, empty, or begun by this command")
    parser.add_argument("--portraits", help="folder of frontal photographs (default: two embedded portraits)")
    parser.add_argument("--benchmark", type=int, choices=(1, 2), default=2, help=BENCHMARK_HELP)
    parser.add_argument("--counts", choices=("balanced", "casme2"), default="balanced", help=COUNTS_HELP)
    parser.add_argument("--strengths", metavar="NAME=STRENGTH,...", help=STRENGTHS_HELP)
    parser.add_argument("--subjects", type=whole(1, 1000), help=SUBJECTS_HELP)
    parser.add_argument("--clips-per-class", type=whole(1, 1000), help="per subject, where balanced (default: 3)")
    parser.add_argument("--size", default="280x340", help="WIDTHxHEIGHT in px (default: %(default)s)")
    parser.add_argument("--fps", type=whole(20, 2000), help="frames a second (default: 200, or 30 with --long)")
    parser.add_argument("--long", action="store_true", help=LONG_HELP)
    parser.add_argument("--minutes", type=number(0.1, 60), help="of each subject's long video (default: 2)")
    parser.add_argument(
        "--still-minutes",
        type=number(0, 60),
        help="of each subject's video without an expression (default: 1; 0: none)",
    )
    parser.add_argument("--seed", type=whole(0, MAX_SEED), default=0, help="default: %(default)s")
    parser.add_argument("--workers", type=workers, default=os.cpu_count(), help="processes (%(default)s)")


def main(arguments: argparse.Namespace) -> None:
    """Run ``gammer data synthesize``."""
    if arguments.long:
        _synthesize_long(arguments)
    else:
        _synthesize_clips(arguments)


def _synthesize_clips(arguments: argparse.Namespace) -> None:
    if arguments.minutes is not None or arguments.still_minutes is not None:
        raise GammerError(
            "--minutes or --still-minutes without --long", "clips last as long as an expression", "add --long"
        )
    from gammer_lightning.data.microfaces.contact_sheet import CONTACT_SHEET, contact_sheet
    from gammer_lightning.data.microfaces.generate import synthesize
    from gammer_lightning.data.microfaces.realism import parse_strengths
    from gammer_lightning.data.microfaces.spec import MicrofacesSpec
    from gammer_lightning.files import disk_errors

    width, height = parse_size(arguments.size)
    is_balanced = arguments.counts == "balanced"
    if arguments.clips_per_class is not None and not is_balanced:
        raise GammerError(
            f"--clips-per-class {arguments.clips_per_class} with --counts {arguments.counts}",
            "the clips of a class are as many as in CASME II",
            "leave one of the two out",
        )
    spec = MicrofacesSpec(
        arguments.subjects or (12 if is_balanced else 26),
        arguments.clips_per_class or 3,
        width,
        height,
        arguments.fps or 200,
        arguments.seed,
        arguments.portraits and Path(arguments.portraits),
        arguments.benchmark,
        arguments.counts,
        parse_strengths(arguments.strengths or ""),
    )
    out, start = Path(arguments.out), time.perf_counter()
    clips = synthesize(out, spec, arguments.workers)
    seconds = time.perf_counter() - start
    with disk_errors(out):
        contact_sheet(out, out / CONTACT_SHEET)
    frames = sum(len(clip.frames) for clip in clips)
    print(f"{len(clips)} clips of {spec.subjects} subjects, {frames} frames in {out}")
    print(f"{frames / seconds:.0f} frames/s with {arguments.workers} workers; see {out / CONTACT_SHEET}")


def _synthesize_long(arguments: argparse.Namespace) -> None:
    """Write long videos."""
    if arguments.benchmark != 2 or arguments.counts != "balanced" or arguments.clips_per_class is not None:
        raise GammerError(
            "--long with --benchmark 1, --counts or --clips-per-class",
            "long videos are of microfaces 2, and expressions come at random",
            "leave the other options out",
        )
    from gammer_lightning.data.microfaces.long_videos import LongSpec, synthesize_long
    from gammer_lightning.data.microfaces.realism import parse_strengths
    from gammer_lightning.data.microfaces.spec import MicrofacesSpec

    width, height = parse_size(arguments.size)
    faces = MicrofacesSpec(
        arguments.subjects or 3,
        width=width,
        height=height,
        fps=arguments.fps or 30,
        seed=arguments.seed,
        portraits=arguments.portraits and Path(arguments.portraits),
        realism=parse_strengths(arguments.strengths or ""),
    )
    minutes = 2.0 if arguments.minutes is None else arguments.minutes
    still_minutes = 1.0 if arguments.still_minutes is None else arguments.still_minutes
    out, start = Path(arguments.out), time.perf_counter()
    rendered = synthesize_long(out, LongSpec(faces, minutes, still_minutes), arguments.workers)
    seconds = time.perf_counter() - start
    videos = faces.subjects * (2 if still_minutes else 1)
    print(f"{videos} long videos of {faces.subjects} subjects in {out}")
    print(f"{rendered} frames rendered, {rendered / seconds:.0f} frames/s with {arguments.workers} workers")


def parse_size(text: str) -> tuple[int, int]:
    """Parse WIDTHxHEIGHT.

    Raises:
        GammerError: If the text has another form.
    """
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    sides = [int(side) for side in match.groups()] if match else []
    if not sides or max(sides) > MOST_SIDE:
        raise GammerError(
            f"size is {text[:40]!r}", f"it is WIDTHxHEIGHT in px, each at most {MOST_SIDE}", "--size 280x340"
        )
    return sides[0], sides[1]
