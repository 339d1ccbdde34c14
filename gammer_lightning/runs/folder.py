"""The run folder: ``runs/<task>/<name>/<time-id>/``, and what lies in it; imports nothing heavy."""

import netrc
import os
import re
import shlex
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from gammer_lightning.errors import GammerError
from gammer_lightning.files import check_name, read_json, read_yaml, write_json, write_text
from gammer_lightning.locks import HOLDER, LOCK, locked
from gammer_lightning.machine import environment

WANDB_PROJECT = "gammer-lightning"
LOG = "log.txt"
"""What a sweep's row prints; it lies in the run folder before the run does."""
TaskName = Literal["magnify", "recognize"]
TASKS = get_args(TaskName)
PACKAGES = ("gammer_lightning", "pytorch_lightning")
"""Packages whose classes a run's config.yaml may name."""
TRUST_VARIABLE = "GAMMER_TRUSTED_PACKAGES"
"""In the environment: further packages whose classes it may name, with commas between."""
PLAIN_TEXTS = ("monitor", "filename", "dirpath")
"""Settings of Lightning's callbacks that may look like a dotted name and are none."""
DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
WANDB_HOSTS = ("api.forge.coreweave.com", "api.wandb.ai")
"""Servers whose key `wandb login` writes into netrc: since 0.31, and before."""


FACTS = {
    "task": str,
    "name": str,
    "seed": int | bool | None,
    "finished": bool,
    "wandb_id": str,
    "wandb_path": list,
    "git": dict | None,
    "started": str,
}
"""Types of what env.json says and this package uses; ``task`` is always there."""


@dataclass(frozen=True)
class RunRecord:
    """What env.json says of a run and this package uses; the file also lists packages and describes the machine.

    Attributes:
        task: What was trained.
        name: Name of the run; empty where the file has none.
        seed: Of Python, NumPy and PyTorch; True where Lightning drew one, None or False where none was set.
        finished: Whether it was trained to its end.
        wandb_id: Its id in W&B; None where the file has none.
        wandb_path: Entity and project in W&B that it was taken from; None of a run that was trained here.
        git: ``commit`` and ``dirty`` of the checkout that trained it; None outside of one.
        started: Time of its last start, ISO 8601; None where the file has none.
    """

    task: TaskName
    name: str = ""
    seed: int | bool | None = None
    finished: bool = False
    wandb_id: str | None = None
    wandb_path: tuple[str, str] | None = None
    git: dict[str, Any] | None = None
    started: str | None = None

    @classmethod
    def from_file(cls, path: Path) -> "RunRecord":
        """Read an env.json.

        Raises:
            FileNotFoundError: If there is none.
            GammerError: If it is damaged: no dict, without ``task``, or one of `FACTS` is of another type.
        """
        record = _read_env(path)
        values = {field.name: record[field.name] for field in fields(cls) if field.name in record}
        if "wandb_path" in values:
            values["wandb_path"] = tuple(values["wandb_path"])
        return cls(**values)


def _read_env(path: Path) -> dict[str, Any]:
    """Return all that env.json says, checked as `RunRecord.from_file` does."""
    if not path.exists():
        raise FileNotFoundError(path)
    record = read_json(path)
    if not isinstance(record, dict):
        raise _damaged(path, "it holds no names")
    if "task" not in record:
        raise _damaged(path, "it has no `task`")
    for name, kind in FACTS.items():
        if name in record and not isinstance(record[name], kind):
            raise _damaged(path, f"`{name}` is {str(record[name])[:80]!r}")
    if record["task"] not in TASKS:
        raise _damaged(path, f"`task` is {record['task'][:80]!r}, not {' or '.join(TASKS)}")
    wandb_path = record.get("wandb_path", ["", ""])
    if len(wandb_path) != 2 or not all(isinstance(part, str) for part in wandb_path):
        raise _damaged(path, f"`wandb_path` is {str(wandb_path)[:80]!r}, not entity and project")
    return record


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
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def locked(self) -> AbstractContextManager[None]:
        """Hold the run folder, as `gammer_lightning.locks.locked` does: one process at a time writes into it.

        Raises:
            GammerError: If another process holds it, or it cannot be written.
        """
        return locked(self.path, "run folder")

    @property
    def env(self) -> Path:
        """What the run is, when and where it was started, and whether it is finished; `facts` reads it."""
        return self.path / "env.json"

    @property
    def facts(self) -> RunRecord:
        """What env.json says, read anew each time.

        Raises:
            FileNotFoundError: If there is none.
            GammerError: If it is damaged.
        """
        return RunRecord.from_file(self.env)

    def save_facts(self, **facts: Any) -> None:
        """Update env.json."""
        old = _read_env(self.env) if self.env.exists() else {}
        write_json(self.env, old | facts)

    def save_start(self, config: str, argv: Sequence[str], **facts: Any) -> None:
        """Write config.yaml, the command (one line for each start) and env.json."""
        write_text(self.config, config)
        with (self.path / "command.txt").open("a", encoding="utf-8") as commands:
            commands.write(shlex.join(["gammer", *argv]) + "\n")
        identity = {} if self.env.exists() else {"wandb_id": uuid.uuid4().hex[:8]}
        self.save_facts(**identity, finished=False, **facts, **environment())
        self.figures.mkdir(exist_ok=True)


def new_run_folder(task: str, name: str, out: Path | None = None) -> Path:
    """Make an empty run folder: ``out`` if it is given, else ``runs/<task>/<name>/<time-id>``.

    Raises:
        GammerError: If ``out`` holds anything already, or ``name`` is no name of a folder.
    """
    if out is not None:
        refuse_used(task, out)
        out.mkdir(parents=True, exist_ok=True)
        return out
    stamp = Path("runs", task, check_name(name, "the run's name (--name, or that of the YAML)"))
    stamp /= time.strftime("%Y%m%d-%H%M%S")
    candidates = [stamp, *(stamp.with_name(f"{stamp.name}-{n}") for n in range(2, 100))]
    return next(path for path in candidates if _made(path))


def refuse_used(task: str, out: Path) -> None:
    """Refuse a folder for a new run that holds anything but a sweep's log and a lock.

    Raises:
        GammerError: Naming it.
    """
    if out.is_dir():
        is_used = bool({path.name for path in out.iterdir()} - {LOG, LOCK, HOLDER})
        problem = f"the run folder {out} is not empty"
    else:
        is_used = out.exists()
        problem = f"{out} is a file, not a folder"
    if is_used:
        raise GammerError(
            problem,
            "a new run never writes into another one",
            f"choose another --out, or go on with that run: gammer {task} fit --resume {out}",
        )


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
    pattern = "runs/<task>/<name>/<time-id>"
    if not run.config.is_file() or not run.env.is_file():
        raise GammerError(
            f"{path} is not a run folder",
            f"a run folder ({pattern}) holds config.yaml and env.json",
            f"list yours with `ls -d runs/*/*/*`, or start one: gammer {task or 'magnify'} fit -c CONFIG",
        )
    facts = run.facts
    try:
        config = read_yaml(run.config)
    except GammerError as error:
        raise _damaged(run.config, error.what) from error
    check_config(config, run.config)
    if task and facts.task != task:
        raise GammerError(
            f"{path} is a run of `{facts.task}`, not of `{task}`",
            "a verb takes runs of its own task",
            f"gammer {facts.task} test {path}",
        )
    return run


def _damaged(path: Path, reason: str) -> GammerError:
    return GammerError(
        f"{path} is damaged: {reason}", "a run is rebuilt from what it was started with", "copy the run folder again"
    )


def check_config(config: Any, path: Path) -> None:
    """Refuse settings that would run code of other packages: a run folder may come from anybody.

    Args:
        config: What config.yaml says.
        path: Its file.

    Raises:
        GammerError: Naming the first class or function that is neither Lightning's nor this package's.
    """
    if not isinstance(config, dict):
        raise _damaged(path, "it holds no settings")
    trusted = tuple(f"{name}." for name in os.environ.get(TRUST_VARIABLE, "").split(",") if name)
    for setting, name in _imports(config, ""):
        is_class = setting.endswith("class_path")
        if not name.startswith((*trusted, *(f"{package}." for package in PACKAGES)) if is_class else trusted):
            raise GammerError(
                f"{path} names {name} as {setting}",
                f"of a run folder, classes of {' and '.join(PACKAGES)} are used; others could run any code",
                "delete the setting there; or, if you trust that code, set "
                f"{TRUST_VARIABLE}={name.partition('.')[0]} in the environment",
            )


def _imports(value: Any, setting: str) -> Iterator[tuple[str, str]]:
    """Yield what of the settings is imported: every class_path, and in trainer.* every text that is a dotted name."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _imports(item, f"{setting}.{key}" if setting else str(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _imports(item, f"{setting}.{number}")
    elif isinstance(value, str) and DOTTED_NAME.fullmatch(name := value.strip()):
        last = setting.rpartition(".")[2]
        if last == "class_path" or (setting.startswith("trainer.") and last not in PLAIN_TEXTS):
            yield setting, name


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
