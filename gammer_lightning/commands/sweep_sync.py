"""``gammer sweep sync``: upload a study's offline runs, models and summary to W&B."""

import argparse
import re
import sys
from collections.abc import Sequence

from gammer_lightning.escapes import printable, without_passwords
from gammer_lightning.runs.folder import WANDB_PROJECT
from gammer_lightning.runs.wandb_uploads import (
    Target,
    Upload,
    check_login,
    upload_all,
)
from gammer_lightning.sweep.queue.storage import add_storage_argument, storage_errors, study_folder
from gammer_lightning.sweep.queue.study import Row, open_study
from gammer_lightning.sweep.spec import Sweep

_TABLES = "tables go where the run was logged (WANDB_ENTITY while training)"


ENDED = ("complete", "failed", "pruned")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``gammer sweep sync``."""
    parser.add_argument("study", help="name of the study")
    add_storage_argument(parser)
    parser.add_argument("--entity", default="", help=f"user or team in W&B (default: the account's); {_TABLES}")
    parser.add_argument("--project", default=WANDB_PROJECT, help=f"project in W&B (default: %(default)s); {_TABLES}")


def main(arguments: argparse.Namespace) -> int:
    """Upload what of a study W&B has not.

    Returns:
        The exit code: 1 if a run could not be uploaded.

    Raises:
        GammerError: If there is no such study, no key, or no connection.
    """
    with storage_errors(arguments.study):
        study = open_study(arguments.study, arguments.storage)
        rows = study.rows()
    for line in left_out(rows):
        print(printable(line))
    uploads = [upload for upload in planned_uploads(study.sweep, rows) if upload.offline or upload.is_model_new]
    if not uploads:
        print("nothing to upload")
        return 0
    check_login()
    failures = upload_all(uploads, Target(arguments.entity, arguments.project))
    print(f"uploaded: {len(uploads) - len(failures)} of {len(uploads)}")
    for name, reason in failures.items():
        print(printable(without_passwords(f"not uploaded: {name}: {reason}")), file=sys.stderr)
    return 1 if failures else 0


def left_out(rows: Sequence[Row]) -> list[str]:
    """Return a line for each row that has no run here to upload."""
    lines = [f"{row.name} is {row.state}" for row in rows if row.state not in ENDED]
    for row in rows:
        if row.state not in ENDED or row.run is None:
            continue
        if not row.run.is_dir():
            lines.append(f"{row.name} ran on {row.host}, and {row.run} is not here")
        elif not (row.run / "wandb").is_dir():
            lines.append(f"{row.name} ran without W&B")
    return lines


def planned_uploads(sweep: Sweep, rows: Sequence[Row]) -> list[Upload]:
    """Return what a study has on this machine: ended rows that were tracked, and its summary."""
    uploads = []
    for row in rows:
        if row.state in ENDED and row.run and (row.run / "wandb").is_dir():
            model = model_name(sweep, row) if row.state == "complete" else ""
            uploads.append(Upload(row.name, row.run, model))
    summary = study_folder(sweep.study)
    return [*uploads, Upload("summary", summary)] if (summary / "wandb").is_dir() else uploads


def model_name(sweep: Sweep, row: Row) -> str:
    """Return the name of a row's artifact, of the signs and the length that W&B takes."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{sweep.study}-{row.name}")[:128]
