"""``gammer data list``: where the data sets are looked for, and how to get them."""

import argparse
import os

from gammer_lightning.errors import GammerError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer data list``: none."""


def main(arguments: argparse.Namespace) -> None:
    """Run ``gammer data list``."""
    from gammer_lightning.data.clips.datasets import DATASETS, variable

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
