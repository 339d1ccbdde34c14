"""``gammer sweep table``: a study's table, figures and page, published rows beside it."""

import argparse
from pathlib import Path

from gammer_lightning.files import disk_errors
from gammer_lightning.sweep.queue.storage import add_storage_argument, storage_errors, study_folder
from gammer_lightning.sweep.queue.study import open_study
from gammer_lightning.sweep.table.table import write_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer sweep table``."""
    parser.add_argument("studies", nargs="+", metavar="STUDY", help="studies of `gammer sweep run`, side by side")
    add_storage_argument(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, help="default: runs/sweeps/STUDY/table of the first study")


def main(arguments: argparse.Namespace) -> None:
    """Write the table of studies and print it.

    Raises:
        GammerError: If a study does not exist or has no rows, or a search is not alone.
    """
    first = arguments.studies[0]
    with storage_errors(first):
        opened = [open_study(name, arguments.storage) for name in dict.fromkeys(arguments.studies)]
        studies = [(study.sweep, study.rows()) for study in opened]
    out = arguments.out or study_folder(first) / "table"
    with disk_errors(out):
        (out / "figures").mkdir(parents=True, exist_ok=True)
        print(write_table(studies, out))
    print(f"\nwritten: {out}/index.html, table.md, table.csv, table.tex and figures/")
