"""``gammer premagnify``: magnify every clip of a data set into the cache."""

import argparse

from gammer_lightning.commands.options import LEAST_ALPHA, MOST_ALPHA, number, whole, workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
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


def main(arguments: argparse.Namespace) -> None:
    """Run ``gammer premagnify``."""
    from gammer_lightning.data.clips.apex import with_apexes
    from gammer_lightning.data.clips.datasets import read_datasets
    from gammer_lightning.data.premagnify.fill import premagnify

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
