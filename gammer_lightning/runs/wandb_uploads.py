"""Uploads to W&B: offline runs, models and artifacts."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from gammer_lightning.errors import GammerError
from gammer_lightning.files import read_json, replacing
from gammer_lightning.processes import python_command, python_environment
from gammer_lightning.runs.folder import RunFolder, open_run

if TYPE_CHECKING:
    from wandb import Artifact, Settings

MARKER = "model-uploaded.json"
"""In RUN/wandb: the SHA-256 of each file of the model that was uploaded last."""


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
        if not self.model:
            return False
        try:
            uploaded = read_json(self.folder / "wandb" / MARKER)
        except GammerError:  # the marker is missing or damaged
            return True
        return uploaded != _digests(self.model_files)


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
        id=run.facts.wandb_id,
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


SERVICE_VARIABLE = "WANDB_SERVICE"
"""Set by W&B in this process; a child that inherits it shares, and loses, this process's connection."""


def private_settings() -> "Settings":
    """Return settings under which W&B stores nothing of this process: --storage may hold a password.

    Without them the command line goes into wandb-metadata.json and the run's config.
    """
    from wandb import Settings

    return Settings(
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        disable_code=True,
        disable_git=True,
        console="off",
        silent=True,
    )
