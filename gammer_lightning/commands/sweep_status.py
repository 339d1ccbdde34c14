"""``gammer sweep status``: how far a sweep is."""

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from gammer_lightning.escapes import printable
from gammer_lightning.sweep.queue.storage import add_storage_argument, storage_errors

if TYPE_CHECKING:
    from gammer_lightning.sweep.queue.study import Row, Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer sweep status``."""
    parser.add_argument("study", metavar="STUDY", help="its name")
    add_storage_argument(parser)


def main(arguments: argparse.Namespace) -> None:
    """Print how far a study is."""
    from gammer_lightning.sweep.queue.study import open_study

    with storage_errors(arguments.study):
        study = open_study(arguments.study, arguments.storage)
        rows = study.rows()
    _print_status(study, rows)


def _print_status(study: "Study", rows: "Sequence[Row]") -> None:
    from gammer_lightning.sweep.live import rows_table

    Console().print(rows_table(study.sweep, rows, {}))
    for row in rows:
        if row.state == "failed":
            log = f" (log: {row.run}/log.txt)" if row.run else ""
            print(printable(f"{row.name}: {row.error}{log}"))
        if row.is_gone:
            command = f"gammer sweep resume {shlex.quote(study.name)} --again {shlex.quote(row.name)}"
            print(printable(f"{row.name}: its run folder {row.run} is gone; its figures stay in the study. "
                            f"To run it again: {command}"))  # fmt: skip
