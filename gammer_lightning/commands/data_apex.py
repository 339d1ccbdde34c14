"""``gammer data apex``: how far spotted apexes are from annotated ones."""

import argparse
import statistics

from gammer_lightning.errors import GammerError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer data apex``."""
    parser.add_argument("dataset", help="microfaces, casme2 or samm: one with annotated apexes")
    parser.add_argument("--root", help="its folder (default: its environment variable, see data list)")


def main(arguments: argparse.Namespace) -> None:
    """Run ``gammer data apex``."""
    from gammer_lightning.data.clips.apex import apex_errors
    from gammer_lightning.data.clips.datasets import read_datasets
    from gammer_lightning.reports.tables import markdown_table

    clips = read_datasets({arguments.dataset: arguments.root})
    clips = [clip for clip in clips if clip.apex_origin == "annotated"]
    if not clips:
        raise GammerError(
            f"{arguments.dataset} has no annotated apex",
            "found apexes are compared with annotated ones",
            "choose another data set",
        )
    errors = apex_errors(clips)
    print(f"frames off the annotated apex, {len(clips)} clips\n")
    rows = [
        [method, f"{off.mean():.1f}", f"{statistics.median(off):.1f}", str(off.max())] for method, off in errors.items()
    ]
    print("\n".join(markdown_table(["method", "mean", "median", "worst"], rows)))
