"""``gammer sweep run``: run a sweep's rows on all devices of this machine."""

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from gammer_lightning.commands.sweep_status import _print_status
from gammer_lightning.errors import GammerError
from gammer_lightning.escapes import printable, without_passwords
from gammer_lightning.files import disk_errors
from gammer_lightning.runs.folder import wandb_default
from gammer_lightning.sweep.check import check_sweep
from gammer_lightning.sweep.queue.slots import Slot, make_slots
from gammer_lightning.sweep.queue.storage import add_storage_argument, open_storage, storage_errors, study_folder
from gammer_lightning.sweep.spec import Sweep, read_sweep

if TYPE_CHECKING:
    from gammer_lightning.sweep.queue.study import Row, Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer sweep run``."""
    parser.add_argument("spec", metavar="SPEC", help="a sweep's YAML, e.g. sweeps/table4_alpha.yaml")
    parser.add_argument("--base", help="another experiment to sweep, e.g. experiments/recognize_casme2_5.yaml")
    parser.add_argument(
        "--skip",
        metavar="ROW",
        action="append",
        default=[],
        help="leave this row out, e.g. one that the data cannot have",
    )
    parser.add_argument("--dry-run", action="store_true", help="check every row, print its command, run nothing")
    _add_slot_arguments(parser)


def _add_slot_arguments(parser: argparse.ArgumentParser) -> None:
    places = parser.add_mutually_exclusive_group()
    places.add_argument("--devices", help="GPUs, e.g. 0,1,2,3 (default: all)")
    places.add_argument(
        "--workers", type=int, help="rows at once on the CPU, which share the cores (default: as many as there are)"
    )
    add_storage_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    """Check every row, then run what is not done, or only print the commands."""
    sweep = read_sweep(arguments.spec)
    sweep = sweep.on(arguments.base) if arguments.base else sweep
    sweep = sweep.without(arguments.skip)
    slots = [] if arguments.dry_run else _slots(arguments, sweep)
    check_sweep(sweep)
    if arguments.dry_run:
        print_commands(sweep)
        return 0
    from gammer_lightning.sweep.queue.study import join_study, text_of_files

    with storage_errors(sweep.study):
        storage = open_storage(arguments.storage, sweep.study)
        study = join_study(storage, sweep, text_of_files(sweep))
    return _supervise(study, slots, arguments.storage)


def _slots(arguments: argparse.Namespace, sweep: Sweep) -> list:
    return make_slots(arguments.devices, arguments.workers, sweep.devices_per_trial, len(sweep.settings()))


def print_commands(sweep: Sweep) -> None:
    """Print the command of each row: pasted, it runs that row; of a search, what is common to all, and the space."""
    if sweep.search:
        space = "\n".join(f"#   {setting}: {choices}" for setting, choices in sweep.search.space.items())
        print(f"# {sweep.search.trials} rows of this command, each with a draw of\n{space}")
        print(shlex.join(sweep.command({})))
        return
    for row, command in sweep.commands().items():
        print(f"# {row}\n{shlex.join(command)}")


def _supervise(study: "Study", slots: Sequence[Slot], storage: str | None) -> int:
    from gammer_lightning.sweep.live import LiveView
    from gammer_lightning.sweep.queue.supervisor import Supervisor

    with LiveView(Console()) as view:
        supervisor = Supervisor(study, slots, storage, view.say)
        view.say(f"{study.name}: {len(study.planned)} rows; {', '.join(slot.name for slot in slots)}")
        ended = supervisor.run(view.show)
    code = _report(study, ended, " --storage URL" if storage else "")
    return 143 if not ended and supervisor.is_terminated else code


def _report(study: "Study", ended: bool, storage: str) -> int:
    with storage_errors(study.name):
        rows = study.rows()
    _print_status(study, rows)
    if not ended:
        print(f"stopped; to go on: gammer sweep resume {study.name}{storage}")
        return 130
    _write_summary(study, rows)
    failed = any(row.state == "failed" for row in rows)
    if failed:
        print(f"next: mend the cause, then gammer sweep resume {study.name}{storage}")
    return int(failed)


def _write_summary(study: "Study", rows: "Sequence[Row]") -> None:
    """Print and write the table, and log it to W&B beside the rows' runs."""
    from gammer_lightning.sweep.summary_run import log_summary
    from gammer_lightning.sweep.table.table import write_table

    folder = study_folder(study.name) / "table"
    with disk_errors(folder):
        table = write_table([(study.sweep, rows)], folder)
    print(f"{table}\n\nwritten: {folder}, with figures and index.html")
    try:
        with disk_errors(folder):
            log_summary(study.sweep, rows, folder, study.sweep.common.get("wandb") or wandb_default())
    except GammerError as error:
        print(printable(without_passwords(f"the summary is not in W&B: {error}")))
