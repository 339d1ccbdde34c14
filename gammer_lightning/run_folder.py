"""The run folder: ``runs/<task>/<name>/<time-id>/``, and what lies in it; imports nothing heavy."""

import json
import netrc
import os
import platform
import shlex
import shutil
import subprocess
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from gammer_lightning.errors import GammerError
from gammer_lightning.files import replacing

WANDB_PROJECT = "gammer-lightning"
LOG = "log.txt"
"""What a sweep's row prints; it lies in the run folder before the run does."""
WANDB_HOSTS = ("api.forge.coreweave.com", "api.wandb.ai")
"""Servers whose key `wandb login` writes into netrc: since 0.31, and before."""


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

    def clear(self) -> None:
        """Remove what lies in the folder, and the folder where a sweep's log does not stay in it."""
        for path in self.path.iterdir():
            if path.name != LOG:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not any(self.path.iterdir()):
            self.path.rmdir()

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
        if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - {LOG}):
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
    _check_records(run)
    if task and run.facts["task"] != task:
        raise GammerError(
            f"{path} is a run of `{run.facts['task']}`, not of `{task}`",
            "a verb takes runs of its own task",
            f"gammer {run.facts['task']} test {path}",
        )
    return run


def _check_records(run: RunFolder) -> None:
    for path, read in ((run.config, yaml.safe_load), (run.path / "env.json", json.loads)):
        try:
            is_whole = isinstance(read(path.read_text()), dict)
        except (ValueError, yaml.YAMLError):
            is_whole = False
        if not is_whole:
            raise GammerError(
                f"{path} is damaged", "a run is rebuilt from what it was started with", "copy the run folder again"
            )


def wandb_default() -> str:
    """Return ``"online"`` if a W&B key is set (WANDB_API_KEY, or netrc), else ``"offline"``."""
    try:
        file = netrc.netrc(os.environ.get("NETRC", Path.home() / ".netrc"))
        own_server = urlsplit(os.environ.get("WANDB_BASE_URL", "")).netloc
        has_key = any(file.authenticators(host) for host in ([own_server] if own_server else WANDB_HOSTS))
    except (OSError, netrc.NetrcParseError):
        has_key = False
    return "online" if has_key or os.environ.get("WANDB_API_KEY") else "offline"


def stage_in(folder: Path) -> None:
    """Let what W&B uploads later, such as the pictures of tables, wait in ``folder/wandb``, not in the home folder."""
    os.environ["WANDB_DATA_DIR"] = str(folder / "wandb")


def environment() -> dict[str, Any]:
    """Describe Python, the packages, the machine and the commit."""
    import torch

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
