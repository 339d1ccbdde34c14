"""Arguments and handlers of the data verbs; nothing heavy is imported before a handler runs."""

import argparse
import os
import re
import statistics
import time
from pathlib import Path

from gammer_lightning.errors import GammerError
from gammer_lightning.options import MOST_SEED, number, whole, workers

MOST_SIDE, LEAST_ALPHA, MOST_ALPHA = 4096, 0, 1000


def add_premagnify_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer premagnify``."""
    parser.add_argument("--root", help="folder of the data set (default: its environment variable, see data list)")
    parser.add_argument("--dataset", default="microfaces", help="microfaces, casme2, samm, smic (default: %(default)s)")
    parser.add_argument("--apex", default="middle", choices=("middle", "spotted"), help="where none is annotated")
    parser.add_argument(
        "--magnifier", default="st-memm-small", help="name, run folder or checkpoint (default: %(default)s)"
    )
    parser.add_argument(
        "--alphas",
        type=number(LEAST_ALPHA, MOST_ALPHA),
        nargs="+",
        default=(5, 8, 10, 12, 15, 20),
        help="default: 5 8 10 12 15 20",
    )
    parser.add_argument("--cache", default="cache/premagnified", help="folder (default: %(default)s)")
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "gpu"), help="auto, cpu or gpu (default: %(default)s)"
    )
    parser.add_argument("--devices", type=whole(1, 1024), default=1, help="how many share the clips (default: 1)")
    parser.add_argument(
        "--workers", type=workers, default=0, help="processes that find faces ahead, per device (default: 0)"
    )


def premagnify_command(arguments: argparse.Namespace) -> None:
    """Run ``gammer premagnify``."""
    from gammer_lightning.data.apex import with_apexes
    from gammer_lightning.data.datasets import read_datasets
    from gammer_lightning.data.premagnify import premagnify

    clips = read_datasets({arguments.dataset: arguments.root})
    report = premagnify(
        with_apexes(clips, arguments.apex, arguments.cache),
        arguments.alphas,
        arguments.magnifier,
        arguments.cache,
        device=arguments.device,
        devices=arguments.devices,
        workers=arguments.workers,
    )
    print("\n".join([*(note for clip in clips for note in clip.notes), str(report)]))


def add_list_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer data list``: none."""


def list_command(arguments: argparse.Namespace) -> None:
    """Run ``gammer data list``."""
    from gammer_lightning.data.datasets import DATASETS, variable

    for name, dataset in DATASETS.items():
        root = os.environ.get(variable(name))
        print(f"{name}: {dataset.title}\n  {variable(name)}: {_what_is_there(dataset, root)}\n  get it: {dataset.get}")


def _what_is_there(dataset, root: str | None) -> str:
    if not root:
        return "not set"
    problems: list[GammerError] = []
    try:
        clips = dataset.read(root, problems=problems)
    except GammerError as error:
        return f"{root}: {error.what}"
    subjects = len({clip.subject for clip in clips})
    return f"{root}: {len(clips)} clips of {subjects} subjects" + f", {len(problems)} not usable" * bool(problems)


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer data check``."""
    parser.add_argument("dataset", help="microfaces, casme2, samm or smic")
    parser.add_argument("--root", help="its folder (default: its environment variable, see data list)")
    parser.add_argument("--out", default="check", help="folder of the JSON and the pictures (default: %(default)s)")
    parser.add_argument("--workers", type=workers, default=os.cpu_count(), help="processes (%(default)s)")


def check_command(arguments: argparse.Namespace) -> int:
    """Run ``gammer data check``; returns 1 where something would change a result."""
    from gammer_lightning.data.check import check, failed, report_text, write_report
    from gammer_lightning.data.datasets import find_root
    from gammer_lightning.files import disk_errors

    name, out, start = arguments.dataset, Path(arguments.out), time.perf_counter()
    pictures, record = out / f"{name}-no-face.png", out / f"{name}.json"
    report = check(name, find_root(name, arguments.root), pictures, arguments.workers)
    with disk_errors(out):
        write_report(report, record)
    print(report_text(report))
    rate = report.clips / (time.perf_counter() - start)
    drawn = f", {pictures}" if report.problems["no usable face"] else ""
    print(f"{rate:.1f} clips/s with {arguments.workers} workers; see {record}{drawn}")
    return int(failed(report))


def add_apex_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer data apex``."""
    parser.add_argument("dataset", help="microfaces, casme2 or samm: one with annotated apexes")
    parser.add_argument("--root", help="its folder (default: its environment variable, see data list)")


def apex_command(arguments: argparse.Namespace) -> None:
    """Run ``gammer data apex``."""
    from gammer_lightning.data.apex import apex_errors
    from gammer_lightning.data.datasets import read_datasets

    clips = read_datasets({arguments.dataset: arguments.root})
    clips = [clip for clip in clips if clip.apex_origin == "annotated"]
    if not clips:
        raise GammerError(
            f"{arguments.dataset} has no annotated apex",
            "found apexes are compared with annotated ones",
            "choose another data set",
        )
    errors = apex_errors(clips)
    print(f"frames off the annotated apex, {len(clips)} clips\n\n| method | mean | median | worst |\n|---|---|---|---|")
    for method, off in errors.items():
        print(f"| {method} | {off.mean():.1f} | {statistics.median(off):.1f} | {off.max()} |")


def add_synthesize_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer data synthesize``."""
    parser.add_argument("--out", required=True, help="folder to write: new, empty, or begun by this command")
    parser.add_argument("--portraits", help="folder of frontal photographs (default: two embedded portraits)")
    parser.add_argument("--subjects", type=whole(1, 1000), default=12, help="default: %(default)s")
    parser.add_argument("--clips-per-class", type=whole(1, 1000), default=3, help="per subject (default: %(default)s)")
    parser.add_argument("--size", default="280x340", help="WIDTHxHEIGHT in px (default: %(default)s)")
    parser.add_argument("--fps", type=whole(20, 2000), default=200, help="frames a second (default: %(default)s)")
    parser.add_argument("--seed", type=whole(0, MOST_SEED), default=0, help="default: %(default)s")
    parser.add_argument("--workers", type=workers, default=os.cpu_count(), help="processes (%(default)s)")


def synthesize_command(arguments: argparse.Namespace) -> None:
    """Run ``gammer data synthesize``."""
    from gammer_lightning.data.microfaces import MicrofacesSpec, contact_sheet, synthesize
    from gammer_lightning.files import disk_errors

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
    with disk_errors(out):
        contact_sheet(out, out / "contact_sheet.png")
    frames = sum(len(clip.frames) for clip in clips)
    print(f"{len(clips)} clips of {spec.subjects} subjects, {frames} frames in {out}")
    print(f"{frames / seconds:.0f} frames/s with {arguments.workers} workers; see {out}/contact_sheet.png")


def add_synthesize_motion_arguments(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument("--seed", type=whole(0, MOST_SEED), default=0, help="default: %(default)s")
    parser.add_argument("--workers", type=workers, default=os.cpu_count(), help="processes (%(default)s)")


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
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    sides = [int(side) for side in match.groups()] if match else []
    if not sides or max(sides) > MOST_SIDE:
        raise GammerError(
            f"size is {text[:40]!r}", f"it is WIDTHxHEIGHT in px, each at most {MOST_SIDE}", "--size 280x340"
        )
    return sides[0], sides[1]
