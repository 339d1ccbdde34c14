"""Bundles in W&B: logged as an artifact of their run, and runs taken back from there.

The run folder stays the truth: everything here needs the network, and nothing else does.
"""

import os
import re
import shutil
import tempfile
from base64 import b64encode
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gammer_lightning.deploy.bundle import BUNDLE, Bundle, read_facts
from gammer_lightning.deploy.facts import BundleFacts
from gammer_lightning.errors import GammerError
from gammer_lightning.files import check_name, read_yaml, sha256_of, write_json
from gammer_lightning.runs.folder import WANDB_PROJECT, RunFolder
from gammer_lightning.runs.wandb_uploads import Target, Upload, check_login, log_artifact, upload_runs

if TYPE_CHECKING:
    from wandb import Artifact

PREFIX = "wandb:"
OFFLINE = ("offline", "disabled", "dryrun")


def check_online(source: str) -> None:
    """See that W&B can be reached, before an export that would take minutes.

    Raises:
        GammerError: If it is switched off, there is no key, or no connection.
    """
    if source.startswith(PREFIX):
        rule = "what lies in W&B is read from there"
        alternative = "copy the run folder here and give its path"
    else:
        rule = "the bundle is uploaded to W&B; the run folder has it, too"
        alternative = f"without --upload: gammer export {source}"
    mode = os.environ.get("WANDB_MODE", "online")
    if mode in OFFLINE:
        raise GammerError(f"W&B is {mode} (WANDB_MODE)", rule, f"WANDB_MODE=online gammer export ..., or {alternative}")
    try:
        check_login()
    except GammerError as error:
        raise GammerError(error.what, rule, f"{error.next_step}; or {alternative}") from error


def upload(run: RunFolder, bundle: Bundle) -> str:
    """Log a bundle and its run's checkpoint as an artifact of the run, which is uploaded first if it is not there.

    Aliases are ``best`` and the pooled metric, e.g. ``uf1-0.578``.

    Returns:
        A line for people.

    Raises:
        GammerError: If the run was not tracked, or W&B does not take it.
    """
    import wandb

    name = artifact_name(run)
    aliases = artifact_aliases(bundle.facts)
    target = _target(run)
    metadata = {key: value for key, value in bundle.facts.as_dict().items() if key != "adjacency"}
    artifact = wandb.Artifact(name, "model", metadata=metadata)
    files = [*bundle.path.iterdir(), run.best, run.config, run.path / "results.json"]
    for path in files:
        artifact.add_file(str(path), path.name, skip_cache=True, policy="immutable")
    _upload_run(run, target)
    log_artifact(run, artifact, aliases, target)
    return f"uploaded: {name} ({', '.join(aliases)}), {len(files)} files, linked to run {run.facts.wandb_id}"


def artifact_name(run: RunFolder) -> str:
    """Return the name of a run's bundle in W&B, of the signs that it takes."""
    name = f"{run.facts.name}-{run.facts.wandb_id}-export"
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[-128:]


def artifact_aliases(facts: BundleFacts) -> list[str]:
    """Return ``best`` and the first pooled metric with its value."""
    metric, value = next(iter(facts.metrics.mean.items()))
    return ["best", f"{metric}-{value:.3f}"]


def _target(run: RunFolder) -> Target:
    """Return where the run lies in W&B: where it was taken from, else the account's own place."""
    entity, project = run.facts.wandb_path or (os.environ.get("WANDB_ENTITY", ""), WANDB_PROJECT)
    return Target(entity, project)


def _upload_run(run: RunFolder, target: Target) -> None:
    """Upload the run's offline records; an online run is there already."""
    if not (run.path / "wandb").is_dir() and run.facts.wandb_path is None:
        raise GammerError(
            f"{run.path} ran without W&B",
            "the artifact is linked to its run there",
            f"wandb artifact put --type model --name {target.project}/{artifact_name(run)} {run.path}/export",
        )
    offline_runs = Upload("", run.path).offline
    if offline_runs:
        upload_runs(offline_runs, target)


def fetch(source: str) -> Path:
    """Take a run from W&B: its newest model artifact with a checkpoint, its settings and results, as a run folder.

    Args:
        source: ``wandb:ENTITY/PROJECT/RUN``, RUN being the run's id.

    Returns:
        ``runs/recognize/wandb/ENTITY-PROJECT-RUN``; a folder that has the same checkpoint is left as it is.

    Raises:
        GammerError: If the address is malformed, W&B cannot be reached, or has no such run or no checkpoint.
    """
    entity, project, identity = _address(source)
    name = check_name(f"{entity}-{project}-{identity}", "the folder of that run")
    folder = Path("runs", "recognize", "wandb", name)
    check_online(source)
    import wandb

    path = f"{entity}/{project}/{identity}"
    try:
        run = wandb.Api().run(path)
        artifact = _model(list(run.logged_artifacts()), path)
    except (wandb.errors.Error, ValueError) as error:
        raise GammerError(
            f"W&B has no run {path} for you: {error}",
            "ENTITY/PROJECT/RUN, RUN being the id in the run's address, e.g. wandb:team/gammer-lightning/1a2b3c4d",
            "check the address, and `wandb login`",
        ) from error
    _check_entries(artifact)
    if folder.exists():
        return _same(folder, artifact)
    record = {key: run.config.get(key) for key in ("task", "seed", "git")}
    record["name"] = run.config.get("name") or run.name
    record["wandb_id"] = identity
    record["wandb_path"] = [entity, project]
    record["finished"] = run.state == "finished"
    _download(artifact, folder, record)
    print(f"{artifact.name}: taken to {folder}")
    return folder


def _address(source: str) -> list[str]:
    parts = source.removeprefix(PREFIX).split("/")
    if len(parts) != 3 or not all(re.fullmatch(r"[\w.-]+", part) for part in parts):
        raise GammerError(
            f"the address {source!r}",
            "wandb:ENTITY/PROJECT/RUN, RUN being the id in the run's address",
            "e.g. wandb:team/gammer-lightning/1a2b3c4d",
        )
    return parts


def _model(artifacts: list["Artifact"], path: str) -> "Artifact":
    """Return the newest model artifact of a run that has a checkpoint."""
    models = []
    for artifact in artifacts:
        has_checkpoint = any(name.endswith(".ckpt") for name in artifact.manifest.entries)
        if artifact.type == "model" and has_checkpoint:
            models.append(artifact)
    if not models:
        raise GammerError(
            f"the run {path} has no checkpoint in W&B",
            "it is there once it was uploaded",
            "where it was trained: gammer export RUN --upload, or gammer sweep sync STUDY",
        )
    return max(models, key=lambda model: model.created_at)


def _check_entries(artifact: "Artifact") -> None:
    """See that every file of an artifact lies below its folder.

    Raises:
        GammerError: Naming the first that does not.
    """
    for name in artifact.manifest.entries:
        for part in name.split("/"):
            check_name(part, f"the file {name[:80]!r} of the artifact {artifact.name}: a part of its path")


def _same(folder: Path, artifact: "Artifact") -> Path:
    """Return the folder if it has the artifact's checkpoints; each upload of them is a new artifact."""
    uploaded = {name: entry.digest for name, entry in artifact.manifest.entries.items() if name.endswith(".ckpt")}
    local = {path.name: _digest(path) for path in (folder / "checkpoints").glob("*.ckpt")}
    if local != uploaded:
        raise GammerError(
            f"{folder} holds another version of the run than W&B",
            "nothing is overwritten",
            f"export the one here: gammer export {folder}, or delete it and take the other",
        )
    return folder


def _digest(path: Path) -> str:
    """Return a file's MD5 as W&B's manifests have it."""
    with path.open("rb") as file:
        return b64encode(file_digest(file, "md5").digest()).decode()


def _download(artifact: "Artifact", folder: Path, env: dict[str, Any]) -> None:
    """Lay an artifact's files out as a run folder, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        downloaded = Path(artifact.download(str(Path(temporary, "taken"))))
        run = Path(temporary, "run")
        (run / "checkpoints").mkdir(parents=True)
        for name in ("config.yaml", "results.json"):
            if (downloaded / name).is_file():
                shutil.move(downloaded / name, run / name)
        for checkpoint in downloaded.glob("*.ckpt"):
            shutil.move(checkpoint, run / "checkpoints" / checkpoint.name)
        _check_taken(downloaded, run)
        write_json(run / "env.json", env)
        run.rename(folder)


def _check_taken(downloaded: Path, run: Path) -> None:
    """See that the checkpoint is the one that a bundle beside it was made of, and that the settings are there."""
    if (downloaded / BUNDLE).is_file():
        facts = read_facts(downloaded).run
        checkpoint = run / "checkpoints" / facts.checkpoint
        if not checkpoint.is_file():
            raise GammerError(
                f"the artifact in W&B has no checkpoint {facts.checkpoint}",
                "its bundle was made of that",
                "upload it again: gammer export RUN --upload",
            )
        if sha256_of(checkpoint) != facts.checkpoint_sha256:
            raise GammerError("the checkpoint in W&B is not the bundle's", "both are of one run", "upload it again")
    if not (run / "config.yaml").is_file() or not isinstance(read_yaml(run / "config.yaml"), dict):
        raise GammerError(
            "the artifact in W&B has no config.yaml",
            "a run is rebuilt from its settings and checkpoint",
            "upload it again: gammer export RUN --upload",
        )
