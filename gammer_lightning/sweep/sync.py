"""``gammer sweep sync``: uploads to W&B what a study's runs left offline, and each row's model.

A run is uploaded by ``wandb sync``, which marks it with a file ``.synced``. W&B keeps artifacts of offline runs outside
the run folder, so the model is logged here, from the run folder, into the run that is then online.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from gammer_lightning.errors import GammerError
from gammer_lightning.escapes import printable, without_passwords
from gammer_lightning.files import read_json, replacing
from gammer_lightning.processes import python_command, python_environment
from gammer_lightning.run_folder import WANDB_PROJECT, RunFolder, open_run
from gammer_lightning.sweep.spec import Sweep
from gammer_lightning.sweep.storage import add_storage_argument, storage_errors, study_folder
from gammer_lightning.sweep.study import Row, open_study
from gammer_lightning.sweep.tracking import SERVICE_VARIABLE, private_settings

if TYPE_CHECKING:
    from wandb import Artifact

ENDED = ("complete", "failed", "pruned")
MARKER = "model-uploaded.json"
"""In RUN/wandb: the SHA-256 of each file of the model that was uploaded last."""
_TABLES = "tables go where the run was logged (WANDB_ENTITY while training)"


@dataclass(frozen=True)
class Target:
    """Where in W&B runs go: an entity (empty: the account's default) and a project.

    The tables of an offline run go where it was logged, whatever `wandb sync` is told (0.31): to the project
    gammer-lightning of the entity that WANDB_ENTITY named then.
    """

    entity: str
    project: str


@dataclass(frozen=True)
class Upload:
    """What one folder has to upload: its offline runs, and its model where ``model`` names one."""

    name: str
    folder: Path
    model: str = ""

    @property
    def offline(self) -> list[Path]:
        """Folders of the offline runs that W&B has not, oldest first."""
        folders = sorted((self.folder / "wandb").glob("offline-run-*"))
        return [folder for folder in folders if not is_synced(folder)]

    @property
    def model_files(self) -> dict[str, Path]:
        """The files of the model by their names in the artifact."""
        run = RunFolder(self.folder)
        files = (run.best, run.config, self.folder / "results.json")
        return {file.name: file for file in files if file.is_file()}

    @property
    def is_model_new(self) -> bool:
        """Whether the model was not uploaded as it is now."""
        return bool(self.model) and self._uploaded() != _digests(self.model_files)

    def _uploaded(self) -> object:
        """Return the digests of the model that was uploaded last; None where the marker is missing or damaged."""
        try:
            return read_json(self.folder / "wandb" / MARKER)
        except GammerError:
            return None


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
    for row in (row for row in rows if row.state in ENDED and row.run):
        if not row.run.is_dir():
            lines.append(f"{row.name} ran on {row.host}, and {row.run} is not here")
        elif not (row.run / "wandb").is_dir():
            lines.append(f"{row.name} ran without W&B")
    return lines


def planned_uploads(sweep: Sweep, rows: Sequence[Row]) -> list[Upload]:
    """Return what a study has on this machine: ended rows that were tracked, and its summary."""
    ended = [row for row in rows if row.state in ENDED and row.run and (row.run / "wandb").is_dir()]
    uploads = [Upload(row.name, row.run, model_name(sweep, row) if row.state == "complete" else "") for row in ended]
    summary = study_folder(sweep.study)
    return [*uploads, Upload("summary", summary)] if (summary / "wandb").is_dir() else uploads


def model_name(sweep: Sweep, row: Row) -> str:
    """Return the name of a row's artifact, of the signs and the length that W&B takes."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{sweep.study}-{row.name}")[:128]


def is_synced(folder: Path) -> bool:
    """Return whether ``wandb sync`` has uploaded an offline run."""
    return any(folder.glob("*.wandb.synced"))


def check_login() -> None:
    """See that W&B answers and knows the key.

    Raises:
        GammerError: If there is no key, no connection, or the key is refused.
    """
    os.environ["WANDB_MODE"] = "online"  # uploading is what was asked for
    import wandb

    stay = "runs are uploaded online; until then they stay whole in their folders"
    try:
        has_key = wandb.login(prompt=False, verify=True)
    except wandb.errors.CommError as error:
        raise GammerError(
            f"W&B cannot be reached, or refuses the key: {error}", stay, "check the network, then `wandb login`"
        ) from error
    if not has_key:
        raise GammerError("there is no W&B key", stay, "`wandb login`, or set WANDB_API_KEY")


def upload_all(uploads: Sequence[Upload], target: Target) -> dict[str, str]:
    """Upload one after the other; one that fails does not stop the rest.

    Returns:
        Why, for the name of each that failed.
    """
    failures = {}
    for upload in tqdm(uploads, desc="upload", unit="run"):
        try:
            upload_one(upload, target)
        except Exception as error:  # whatever W&B raises for one run
            failures[upload.name] = str(error) or type(error).__name__
    return failures


def upload_one(upload: Upload, target: Target) -> None:
    """Upload a folder's offline runs, then its model, and mark it as uploaded."""
    if upload.offline:
        upload_runs(upload.offline, target)
    if upload.is_model_new:
        digests = _digests(upload.model_files)
        log_model(upload, target)
        with replacing(upload.folder / "wandb" / MARKER) as temporary:
            temporary.write_text(json.dumps(digests, indent=2) + "\n")


def _digests(files: dict[str, Path]) -> dict[str, str]:
    digests = {}
    for name, path in files.items():
        with path.open("rb") as content:
            digests[name] = file_digest(content, "sha256").hexdigest()
    return digests


def upload_runs(folders: Sequence[Path], target: Target) -> None:
    """Upload offline runs with ``wandb sync``, all of one run id in one call, so that they are joined in order.

    It exits with 0 whether it could or not; what counts is its mark.

    Raises:
        GammerError: If W&B did not mark all of them as uploaded.
    """
    entity = ["--entity", target.entity] if target.entity else []
    command = python_command("-m", "wandb", "sync", "--project", target.project, *entity, *map(str, folders))
    environment = {name: value for name, value in python_environment().items() if name != SERVICE_VARIABLE}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    if not all(is_synced(folder) for folder in folders):
        lines = [line for line in (process.stdout + process.stderr).splitlines() if line.strip()]
        raise GammerError(f"`wandb sync` did not finish: {lines[-1] if lines else 'it says nothing'}")


def log_model(upload: Upload, target: Target) -> None:
    """Log a row's checkpoint, settings and results as an artifact of its run, which is online already."""
    import wandb

    run = open_run(upload.folder)
    artifact = wandb.Artifact(upload.model, "model", metadata={"row": upload.name})
    for name, path in upload.model_files.items():
        artifact.add_file(str(path), name, skip_cache=True, policy="immutable")
    log_artifact(run, artifact, ["latest", run.best.stem], target)


def log_artifact(run: RunFolder, artifact: "Artifact", aliases: Sequence[str], target: Target) -> None:
    """Log an artifact of a run that is online already, and wait until W&B has it."""
    import wandb

    online = wandb.init(
        entity=target.entity or None,
        project=target.project,
        id=run.facts["wandb_id"],
        resume="must",
        mode="online",
        dir=run.path.resolve(),
        reinit="create_new",
        settings=private_settings(),
    )
    try:
        online.log_artifact(artifact, aliases=list(aliases)).wait()
    finally:
        online.finish()
