"""``gammer sweep resume``: go on with a sweep that was stopped or killed."""

import argparse

from gammer_lightning.commands.sweep_run import _add_slot_arguments, _slots, _supervise
from gammer_lightning.sweep.queue.storage import storage_errors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer sweep resume``."""
    parser.add_argument("study", metavar="STUDY", help="its name")
    parser.add_argument("--again", metavar="ROW", action="append", default=[], help="run this row once more")
    _add_slot_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    """Go on with a study: what waits, what was stopped or killed, and what had failed."""
    from gammer_lightning.sweep.queue.study import open_study

    with storage_errors(arguments.study):
        study = open_study(arguments.study, arguments.storage)
        study.refuse_other_files()
        slots = _slots(arguments, study.sweep)
        for row in arguments.again:
            study.run_again(row)
        study.enqueue_missing(failed_too=True)
    return _supervise(study, slots, arguments.storage)
