"""``gammer sweep best``: the run folder of the best row."""

import argparse
import shlex

from gammer_lightning.errors import GammerError
from gammer_lightning.sweep.queue.storage import add_storage_argument, storage_errors
from gammer_lightning.sweep.spec import listed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer sweep best``."""
    parser.add_argument("study", metavar="STUDY", help="its name")
    parser.add_argument("--row", help="this row, where the sweep has no metric to choose by")
    add_storage_argument(parser)


def main(arguments: argparse.Namespace) -> None:
    """Print the run folder of the best row, or of the row that is named.

    Raises:
        GammerError: If nothing can be chosen, or the run folder is not here.
    """
    from gammer_lightning.sweep.live import best_row
    from gammer_lightning.sweep.queue.study import open_study

    with storage_errors(arguments.study):
        study = open_study(arguments.study, arguments.storage)
        rows = {row.name: row for row in study.rows() if row.state == "complete"}
    if arguments.row is None and not study.sweep.metrics:
        raise GammerError(
            f"the sweep {study.name} has no metric to choose by",
            "its rows log test scores only, and choosing by those would make the chosen one's score too good",
            f"name a row: gammer sweep best {study.name} --row {shlex.quote(next(iter(rows), 'ROW'))}",
        )
    row = rows.get(arguments.row) if arguments.row is not None else best_row(study.sweep, list(rows.values()))
    if row is None:
        raise GammerError(
            f"no complete row {arguments.row or 'with a finite metric'} in {study.name}",
            f"complete rows are {listed(rows) or 'none'}",
            f"gammer sweep status {study.name}",
        )
    if row.run is None or not row.run.is_dir():
        raise GammerError(f"the run folder {row.run} is not here", f"it was made on {row.host}", "look there")
    print(row.run)
