"""``gammer sweep run|resume|status|best``."""

import argparse
import shlex

from rich.console import Console

from gammer_lightning.errors import GammerError
from gammer_lightning.escapes import printable, without_passwords
from gammer_lightning.files import disk_errors
from gammer_lightning.run_folder import wandb_default
from gammer_lightning.sweep.check import check_sweep
from gammer_lightning.sweep.slots import make_slots
from gammer_lightning.sweep.spec import Sweep, listed, read_sweep
from gammer_lightning.sweep.storage import add_storage_argument, open_storage, storage_errors, study_folder


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
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


def add_resume_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer sweep resume``."""
    parser.add_argument("study", metavar="STUDY", help="its name")
    parser.add_argument("--again", metavar="ROW", action="append", default=[], help="run this row once more")
    _add_slot_arguments(parser)


def _add_slot_arguments(parser: argparse.ArgumentParser) -> None:
    places = parser.add_mutually_exclusive_group()
    places.add_argument("--devices", help="GPUs, e.g. 0,1,2,3 (default: all)")
    places.add_argument(
        "--workers", type=int, help="rows at once on the CPU, which share the cores (default: as many as there are)"
    )
    add_storage_argument(parser)


def run_command(arguments: argparse.Namespace) -> int:
    """Check every row, then run what is not done, or only print the commands."""
    sweep = read_sweep(arguments.spec)
    sweep = sweep.on(arguments.base) if arguments.base else sweep
    sweep = sweep.without(arguments.skip)
    slots = [] if arguments.dry_run else _slots(arguments, sweep)
    check_sweep(sweep)
    if arguments.dry_run:
        print_commands(sweep)
        return 0
    from gammer_lightning.sweep.study import join_study, text_of_files

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


def resume_command(arguments: argparse.Namespace) -> int:
    """Go on with a study: what waits, what was stopped or killed, and what had failed."""
    from gammer_lightning.sweep.study import open_study

    with storage_errors(arguments.study):
        study = open_study(arguments.study, arguments.storage)
        study.refuse_other_files()
        slots = _slots(arguments, study.sweep)
        for row in arguments.again:
            study.run_again(row)
        study.enqueue_missing(failed_too=True)
    return _supervise(study, slots, arguments.storage)


def _supervise(study, slots: list, storage: str | None) -> int:
    from gammer_lightning.sweep.live import LiveView
    from gammer_lightning.sweep.supervisor import Supervisor

    with LiveView(Console()) as view:
        supervisor = Supervisor(study, slots, storage, view.say)
        view.say(f"{study.name}: {len(study.planned)} rows; {', '.join(slot.name for slot in slots)}")
        ended = supervisor.run(view.show)
    code = _report(study, ended, " --storage URL" if storage else "")
    return 143 if not ended and supervisor.is_terminated else code


def _report(study, ended: bool, storage: str) -> int:
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


def _write_summary(study, rows: list) -> None:
    """Print and write the table, and log it to W&B beside the rows' runs."""
    from gammer_lightning.sweep.table import write_table
    from gammer_lightning.sweep.tracking import log_summary

    folder = study_folder(study.name) / "table"
    with disk_errors(folder):
        table = write_table([(study.sweep, rows)], folder)
    print(f"{table}\n\nwritten: {folder}, with figures and index.html")
    try:
        with disk_errors(folder):
            log_summary(study.sweep, rows, folder, study.sweep.common.get("wandb") or wandb_default())
    except GammerError as error:
        print(printable(without_passwords(f"the summary is not in W&B: {error}")))


def add_status_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer sweep status``."""
    parser.add_argument("study", metavar="STUDY", help="its name")
    add_storage_argument(parser)


def status_command(arguments: argparse.Namespace) -> None:
    """Print how far a study is."""
    from gammer_lightning.sweep.study import open_study

    with storage_errors(arguments.study):
        study = open_study(arguments.study, arguments.storage)
        rows = study.rows()
    _print_status(study, rows)


def _print_status(study, rows: list) -> None:
    from gammer_lightning.sweep.live import rows_table

    Console().print(rows_table(study.sweep, rows, {}))
    for row in rows:
        if row.state == "failed":
            log = f" (log: {row.run}/log.txt)" if row.run else ""
            print(printable(f"{row.name}: {row.error}{log}"))
        if row.is_gone:
            again = f"gammer sweep resume {shlex.quote(study.name)} --again {shlex.quote(row.name)}"
            print(printable(f"{row.name}: its run folder {row.run} is gone; its figures stay in the study. "
                            f"To run it again: {again}"))  # fmt: skip


def add_best_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer sweep best``."""
    parser.add_argument("study", metavar="STUDY", help="its name")
    parser.add_argument("--row", help="this row, where the sweep has no metric to choose by")
    add_storage_argument(parser)


def best_command(arguments: argparse.Namespace) -> None:
    """Print the run folder of the best row, or of the row that is named.

    Raises:
        GammerError: If nothing can be chosen, or the run folder is not here.
    """
    from gammer_lightning.sweep.live import best_row
    from gammer_lightning.sweep.study import open_study

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
    if not row.run.is_dir():
        raise GammerError(f"the run folder {row.run} is not here", f"it was made on {row.host}", "look there")
    print(row.run)
