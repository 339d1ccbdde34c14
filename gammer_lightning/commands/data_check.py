"""``gammer data check``: whether a data set is whole."""

import argparse
import os
import time
from pathlib import Path

from gammer_lightning.commands.options import workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer data check``."""
    parser.add_argument("dataset", help="microfaces, casme2, samm or smic")
    parser.add_argument("--root", help="its folder (default: its environment variable, see data list)")
    parser.add_argument("--out", default="check", help="folder of the JSON and the pictures (default: %(default)s)")
    parser.add_argument("--workers", type=workers, default=os.cpu_count(), help="processes (%(default)s)")


def main(arguments: argparse.Namespace) -> int:
    """Run ``gammer data check``; returns 1 where something would change a result."""
    from gammer_lightning.data.clips.check import check, failed, report_text, write_report
    from gammer_lightning.data.clips.datasets import find_root
    from gammer_lightning.files import disk_errors

    name, out, start = arguments.dataset, Path(arguments.out), time.perf_counter()
    pictures, record = out / f"{name}-no-face.png", out / f"{name}.json"
    report = check(name, find_root(name, arguments.root), pictures, arguments.workers)
    with disk_errors(out):
        write_report(report, record)
    print(report_text(report))
    rate = report.clips / (time.perf_counter() - start)
    pictures_note = f", {pictures}" if report.problems["no usable face"] else ""
    print(f"{rate:.1f} clips/s with {arguments.workers} workers; see {record}{pictures_note}")
    return int(failed(report))
