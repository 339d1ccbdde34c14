"""The run folder: ``runs/<task>/<name>/<time-id>/``, what lies in it, and its loggers and checkpoints."""

import csv
import json
import netrc
import os
import pickle
import platform
import shlex
import subprocess
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from gammer_lightning.errors import GammerError
from gammer_lightning.files import replacing

WANDB_PROJECT = "gammer-lightning"


@dataclass(frozen=True)
class RunFolder:
    """A run on disk; made by `new_run_folder`, found again by `open_run`."""

    path: Path

    @property
    def config(self) -> Path:
        """The full settings of the run, a YAML that `fit -c` takes again."""
        return self.path / "config.yaml"

    @property
    def figures(self) -> Path:
        """The folder of the run's figures."""
        return self.path / "figures"

    @property
    def last(self) -> Path:
        """The checkpoint of the last finished epoch."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """The best checkpoint, which is the last one where the task names no metric to choose by."""
        best = self.path / "checkpoints" / "best.ckpt"
        return best if best.exists() else self.last

    @property
    def facts(self) -> dict[str, Any]:
        """What env.json says: task, name, versions, machine, commit, seed, whether it is finished."""
        return json.loads((self.path / "env.json").read_text())

    def save_facts(self, **facts: Any) -> None:
        """Update env.json."""
        old = self.facts if (self.path / "env.json").exists() else {}
        with replacing(self.path / "env.json") as temporary:
            temporary.write_text(json.dumps(old | facts, indent=2) + "\n")

    def save_start(self, config: str, argv: Sequence[str], **facts: Any) -> None:
        """Write config.yaml, the command (one line for each start) and env.json."""
        with replacing(self.config) as temporary:
            temporary.write_text(config)
        with (self.path / "command.txt").open("a") as commands:
            commands.write(shlex.join(["gammer", *argv]) + "\n")
        identity = {} if (self.path / "env.json").exists() else {"wandb_id": uuid.uuid4().hex[:8]}
        self.save_facts(**identity, finished=False, **facts, **environment())
        self.figures.mkdir(exist_ok=True)


def new_run_folder(task: str, name: str, out: Path | None = None) -> Path:
    """Make an empty run folder: ``out`` if it is given, else ``runs/<task>/<name>/<time-id>``.

    Raises:
        GammerError: If ``out`` holds anything already.
    """
    if out is not None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise GammerError(
                f"the run folder {out} is not empty",
                "a new run never writes into another one",
                f"choose another --out, or go on with that run: gammer {task} fit --resume {out}",
            )
        out.mkdir(parents=True, exist_ok=True)
        return out
    stamp = Path("runs", task, name, time.strftime("%Y%m%d-%H%M%S"))
    candidates = [stamp, *(stamp.with_name(f"{stamp.name}-{n}") for n in range(2, 100))]
    return next(path for path in candidates if _made(path))


def _made(path: Path) -> bool:
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def open_run(path: str | Path, task: str | None = None) -> RunFolder:
    """Open an existing run folder.

    Args:
        path: The run folder.
        task: If given, the run must be of this task (``"magnify"`` or ``"recognize"``).

    Raises:
        GammerError: If it is no run folder, or one of another task.
    """
    run = RunFolder(Path(path))
    known = "runs/<task>/<name>/<time-id>"
    if not run.config.is_file() or not (run.path / "env.json").is_file():
        raise GammerError(
            f"{path} is not a run folder",
            f"a run folder ({known}) holds config.yaml and env.json",
            f"list yours with `ls -d runs/*/*/*`, or start one: gammer {task or 'magnify'} fit -c CONFIG",
        )
    if task and run.facts["task"] != task:
        raise GammerError(
            f"{path} is a run of `{run.facts['task']}`, not of `{task}`",
            "a verb takes runs of its own task",
            f"gammer {run.facts['task']} test {path}",
        )
    return run


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a Lightning checkpoint onto the CPU, plain data only: a pickle that carries code is refused.

    Raises:
        GammerError: If the file is missing, corrupt, no checkpoint, or holds more than plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise GammerError(f"no checkpoint at {path}", next_step="check the path; a run keeps its checkpoints/")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from None
    except (EOFError, KeyError, ValueError) as error:
        raise _corrupt(path, "it is not a torch file, or cut off") from error
    except (RuntimeError, OSError) as error:
        raise _corrupt(path, str(error).partition("\n")[0]) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise GammerError(
            f"{path} holds no state_dict",
            "a checkpoint is what `gammer ... fit` writes",
            "give RUN/checkpoints/last.ckpt of a run",
        )
    return checkpoint


def _refused(path: Path, error: Exception) -> GammerError:
    if "global" not in str(error).lower():
        return _corrupt(path, "it is not a torch file, or cut off")
    return GammerError(
        f"{path} holds objects beside plain data, and loading them would run their code",
        "checkpoints are read with weights_only=True",
        "use a checkpoint that `gammer ... fit` wrote, or safetensors",
    )


def _corrupt(path: Path, reason: str) -> GammerError:
    return GammerError(
        f"the checkpoint {path} cannot be read: {reason}",
        "a checkpoint is a whole torch file",
        "copy it again, or use another checkpoint of the run",
    )


def load_weights(module: torch.nn.Module, state: dict[str, torch.Tensor], where: str | Path) -> None:
    """Load a state dict strictly.

    Raises:
        GammerError: If names or shapes do not fit, which means that it is of another model.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise another_model(where, error) from None


def another_model(where: str | Path, error: Exception) -> GammerError:
    """Turn torch's complaint about a state dict into one line."""
    details = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
    return GammerError(
        f"{where} does not fit this model: {details[0][:200]}",
        "names and shapes of all weights must agree",
        "use a checkpoint of the same task with the same model settings",
    )


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints under a temporary name beside the target, and reads only plain data.

    Lightning's own way moves a file from /tmp, which is a copy, and can be cut off, across disks.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the checkpoint whole or not at all."""
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read with `load_checkpoint`, whatever the caller allows."""
        return load_checkpoint(path)


class MovableCheckpoints(ModelCheckpoint):
    """Knows its best score in a moved run folder too, where Lightning forgets it with the old path."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the paths of the checkpoint's time to be in today's folder."""

        def here(path: str) -> str:
            return path and str(Path(self.dirpath, Path(path).name))

        paths = {key: here(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})


def checkpoint_callbacks(run: RunFolder, monitor: tuple[str, str] | None) -> list[Callback]:
    """Keep last.ckpt, and best.ckpt if there is a metric to choose by.

    Args:
        run: The run folder.
        monitor: Name of a validation metric and ``"min"`` or ``"max"``.
    """
    common = {"dirpath": run.last.parent, "enable_version_counter": False}
    last = MovableCheckpoints(filename="last", save_on_train_epoch_end=True, **common)
    if monitor is None:
        return [last]
    metric, mode = monitor
    best = MovableCheckpoints(filename="best", monitor=metric, mode=mode, **common)
    return [best, last]  # in this order, so that last.ckpt knows the newest best score


class _AppendingWriter(ExperimentWriter):
    """Lightning's CSV writer, which deletes an existing file, made to go on with it."""

    def __init__(self, log_dir: str):
        super().__init__(log_dir)
        metrics = Path(self.metrics_file_path)
        if metrics.exists():
            with metrics.open(newline="") as lines:
                self.metrics_keys = next(csv.reader(lines), [])

    def _check_log_dir_exists(self) -> None:
        pass

    def log_hparams(self, params: dict[str, Any]) -> None:
        pass  # config.yaml has them


class MetricsFile(CSVLogger):
    """RUN/metrics.csv; a resumed run appends to it."""

    def __init__(self, run: RunFolder):
        super().__init__(run.path, name=None, version="")
        if rank_zero_only.rank == 0:
            self._experiment = _AppendingWriter(self.log_dir)


def forget_metrics_after(run: RunFolder, step: int) -> None:
    """Drop the rows of metrics.csv that a resumed run is going to write again.

    Args:
        run: The run folder.
        step: Number of training batches that the checkpoint holds.
    """
    metrics = run.path / "metrics.csv"
    if not metrics.exists():
        return
    with metrics.open(newline="") as lines:
        reader = csv.DictReader(lines)
        kept = [row for row in reader if row["step"] and float(row["step"]) < step]
    with replacing(metrics) as temporary, temporary.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, reader.fieldnames)
        writer.writeheader()
        writer.writerows(kept)


def wandb_default() -> str:
    """Return ``"online"`` if a W&B key is set (WANDB_API_KEY, or netrc), else ``"offline"``."""
    try:
        file = netrc.netrc(os.environ.get("NETRC", Path.home() / ".netrc"))
        has_key = file.authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        has_key = False
    return "online" if has_key or os.environ.get("WANDB_API_KEY") else "offline"


def loggers(run: RunFolder, wandb_mode: str) -> list[Logger]:
    """Return the loggers of a run: metrics.csv always, and W&B unless it is disabled.

    Args:
        run: The run folder, started (`RunFolder.save_start`).
        wandb_mode: ``"online"``, ``"offline"`` or ``"disabled"``.
    """
    metrics = MetricsFile(run)
    if wandb_mode == "disabled" or rank_zero_only.rank > 0:
        return [metrics]
    facts = run.facts
    online = {"resume": "allow"} if wandb_mode == "online" else {"offline": True}
    wandb_logger = WandbLogger(
        name=f"{facts['name']}/{run.path.name}",
        group=facts["task"],
        project=WANDB_PROJECT,
        save_dir=run.path.resolve(),  # the W&B service has a working directory of its own
        id=facts["wandb_id"],
        **online,
    )
    return [metrics, wandb_logger]


def environment() -> dict[str, Any]:
    """Describe Python, the packages, the machine and the commit."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "git": git_state(),
        "packages": dict(sorted((d.name, d.version) for d in distributions())),
    }


def cpu_name() -> str:
    """Return the model name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def git_state() -> dict[str, Any] | None:
    """Return commit and dirty flag of the checkout that this package runs from; None outside of one."""
    package = Path(__file__).resolve().parent
    ask = ["git", "-C", str(package)]
    try:
        top = subprocess.check_output(
            [*ask, "rev-parse", "--show-toplevel", "HEAD"], text=True, stderr=subprocess.DEVNULL
        )
        changes = subprocess.check_output([*ask, "status", "--porcelain"], text=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return None
    folder, commit = top.split("\n")[:2]
    return {"commit": commit, "dirty": bool(changes)} if package.parent == Path(folder) else None
