"""``fit`` and ``test`` of a task: settings from YAML and flags, a run folder, true resume."""

import argparse
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NoReturn

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from gammer_lightning.errors import GammerError, OutOfMemoryError
from gammer_lightning.machine import is_want_of_memory, slow_bf16
from gammer_lightning.processes import Terminated
from gammer_lightning.runs.checkpoints import (
    another_model,
    check_progress,
    checkpoint_callbacks,
    load_checkpoint,
)
from gammer_lightning.runs.folder import RunFolder, new_run_folder, open_run, refuse_used
from gammer_lightning.runs.loggers import check_wandb, finish_wandb, forget_metrics_after, is_first_process, loggers
from gammer_lightning.runs.progress import CHUNK_ADVICE
from gammer_lightning.training.settings import SettingsCLI, Task

# Lightning starts the other processes of a node with a copy of this process's environment; so they learn
# the folder, whose time stamp they could not guess.
RUN_VARIABLE = "GAMMER_RUN_FOLDER"


# Lightning warns about its own use of torch, and advertises packages, in every run.
warnings.filterwarnings("ignore", message=".*LeafSpec.*")
warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")  # no validation clips
logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(lambda log: "Tip:" not in log.getMessage())


def fit(task: Task, argv: Sequence[str]) -> int:
    """Train into a new run folder, or go on in the one named by ``--resume``.

    Returns:
        The exit code: 0, or where the run was stopped 130 (Ctrl-C) or 143 (SIGTERM).

    Raises:
        GammerError: On a bad setting, run folder or checkpoint, or where another process writes into the run folder.
    """
    parser = OptionParser(f"gammer {task.name} {task.verb}", add_help=False, allow_abbrev=False)
    parser.add_argument("--resume", metavar="RUN")
    options, rest = parser.parse_known_args(argv)
    if options.resume is not None:
        run = open_run(options.resume, task.name)
        with _locked(run):
            _check_resumable(task, run, rest)
            cli = SettingsCLI(task, task.verb, ["--config", str(run.config), *rest])
            _check_wandb(cli)
            return _train(cli, run, argv)
    _, code = train_new_run(SettingsCLI(task, task.verb, rest), argv)
    return code


def train_new_run(cli: SettingsCLI, argv: Sequence[str] | None) -> tuple[RunFolder, int]:
    """Train into a new run folder, and test at the end where the task says so.

    Args:
        cli: The settings, with module and data.
        argv: Arguments of the command, for RUN/command.txt; None writes those that repeat the run from its config.yaml.

    Returns:
        The run folder, and the exit code as `fit` returns it.

    Raises:
        GammerError: As `fit` does.
    """
    _check_wandb(cli)
    run = RunFolder(_shared_folder(cli))
    with _locked(run):
        if is_first_process():
            refuse_used(cli.task.name, run.path)
        return run, _train(cli, run, ["--config", str(run.config)] if argv is None else argv)


def _check_wandb(cli: SettingsCLI) -> None:
    if is_first_process():
        check_wandb(cli.wandb_mode)


def _locked(run: RunFolder) -> AbstractContextManager[None]:
    """Return the lock of a run folder, which the first of a run's processes holds for all of them."""
    return run.locked() if is_first_process() else nullcontext()


def _train(cli: SettingsCLI, run: RunFolder, argv: Sequence[str]) -> int:
    task = cli.task
    is_resumed = run.last.is_file()
    try:
        trainer = _trainer_of(cli, run, argv)
        trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=run.last if is_resumed else None)
        if not trainer.global_step:
            raise GammerError(
                "no batch was trained",
                "a run trains on one batch at least",
                "see that data.* leaves training samples, and that data.batch_size is no larger than their number",
            )
        if task.test_after_fit:
            trainer.test(cli.model, datamodule=cli.datamodule)
    except SystemExit as stop:
        return _report_stop(task, run, stop)
    except BaseException as error:
        _remove_if_nothing_began(run)
        if is_want_of_memory(error):
            first_line = str(error).partition("\n")[0]
            advice = "lower model.member_chunk (recognize; the result is the same) or data.batch_size"
            raise OutOfMemoryError(
                first_line or "out of memory",
                "the memory holds what trains at once",
                advice + _smaller_chunk(cli.model),
            ) from error
        if is_of_settings(error):
            raise cli.refused(error) from error
        raise
    finally:
        finish_wandb()
    if trainer.is_global_zero:
        run.save_facts(finished=True)
        print(f"run folder: {run.path}\nnext: gammer {task.name} test {run.path}")
    return 0


def is_of_settings(error: BaseException) -> bool:
    """Return whether Lightning refused a setting while it ran, e.g. because the data are too few for it."""
    if isinstance(error, MisconfigurationException):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    if not isinstance(error, ValueError) or not frames:
        return False
    file = frames[-1].filename
    return "pytorch_lightning" in file or "lightning_fabric" in file


def _smaller_chunk(model: pl.LightningModule) -> str:
    """Return an example of fewer members than ran at once; a sweep tries it, once."""
    smaller_chunk = getattr(model, "smaller_chunk", None)  # of RecognizeTask, which trains many members
    smaller = smaller_chunk() if smaller_chunk else None
    return f", {CHUNK_ADVICE.format(smaller)}" if smaller else ""


class OptionParser(argparse.ArgumentParser):
    """A parser of the options that are read before all others; its errors are ours."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong.

        Raises:
            GammerError: Always.
        """
        raise GammerError(message, self.format_usage().strip(), f"{self.prog} --help")


def _check_resumable(task: Task, run: RunFolder, rest: Sequence[str]) -> None:
    settings = [word for word in rest if word.startswith("-") and not word.startswith(("--trainer.", "--wandb"))]
    if settings:
        raise GammerError(
            f"{settings[0]} beside --resume",
            "a resumed run keeps its settings; only --trainer.* and --wandb may be given",
            f"start a new run: gammer {task.name} {task.verb} -c {run.config} {settings[0]} ...",
        )
    if run.facts.finished:
        raise GammerError(
            f"the run {run.path} is finished",
            "only an interrupted run can be resumed",
            f"gammer {task.name} test {run.path}, or a new run: gammer {task.name} {task.verb} -c {run.config}",
        )
    if not run.last.is_file():
        raise GammerError(
            f"the run {run.path} has no checkpoints/last.ckpt",
            "it stopped before its first epoch was done",
            f"start again: gammer {task.name} {task.verb} -c {run.config}",
        )
    check_progress(load_checkpoint(run.last), run.last)  # before data are read


def _shared_folder(cli: SettingsCLI) -> Path:
    """Make the run folder in the first process; in the others return the same one."""
    out = cli.config.out
    if out == "":
        raise GammerError("--out is empty", "it names the run folder", "leave it out for runs/TASK/NAME/TIME")
    if is_first_process():
        new = new_run_folder(cli.task.name, cli.run_name(), None if out is None else Path(out))
        os.environ[RUN_VARIABLE] = str(new)
        return new
    shared = out or os.environ.get(RUN_VARIABLE)
    if not shared:
        raise GammerError(
            "this process does not know the run folder",
            "processes that another launcher started (torchrun, SLURM) must share one",
            "add --out DIR",
        )
    return Path(shared)


def _trainer_of(cli: SettingsCLI, run: RunFolder, argv: Sequence[str]) -> pl.Trainer:
    callbacks = [*cli.task.callbacks, *_checkpoint_callbacks(cli.task, run)]
    if is_first_process():
        if run.last.is_file():
            forget_metrics_after(run, check_progress(load_checkpoint(run.last), run.last))
        facts = {"task": cli.task.name, "name": cli.run_name(), "seed": cli.config.seed_everything}
        run.save_start(cli.saved_config(), [cli.task.name, cli.task.verb, *argv], **facts)
    trainer = cli.instantiate_trainer(
        logger=loggers(run, cli.wandb_mode), default_root_dir=run.path, callbacks=callbacks
    )
    note = slow_bf16(str(trainer.precision), trainer.strategy.root_device.type)
    if note:
        rank_zero_only(print)(f"warning: {note}", file=sys.stderr)
    return trainer


def _checkpoint_callbacks(task: Task, run: RunFolder) -> list[pl.Callback]:
    return checkpoint_callbacks(run, getattr(task.module, "monitor", None))


def _remove_if_nothing_began(run: RunFolder) -> None:
    began = run.last.is_file() or (run.path / "metrics.csv").is_file()
    if is_first_process() and not began:
        finish_wandb()
        run.clear()


def _report_stop(task: Task, run: RunFolder, stop: SystemExit) -> int:
    if is_first_process():
        if run.last.is_file():
            next_step = f"resume: gammer {task.name} {task.verb} --resume {run.path}"
        else:
            next_step = "no epoch was done"
        print(f"stopped; run folder: {run.path}\n{next_step}")
    return _exit_code(stop)


def _exit_code(stop: SystemExit) -> int:
    """Return 143 after SIGTERM, else 130: Lightning leaves by SystemExit where a signal stops it."""
    return 143 if isinstance(stop, SIGTERMException) or isinstance(stop.__context__, Terminated) else 130


def test(task: Task, argv: Sequence[str]) -> int:
    """Test the best checkpoint of a run (``RUN [--setting VALUE ...]``), the last where none is best.

    Returns:
        The exit code, as `fit` does.

    Raises:
        GammerError: If RUN is no run of this task, its checkpoint does not fit, or another process writes into it.
    """
    if list(argv[:1]) in (["-h"], ["--help"]):
        SettingsCLI(task, "test RUN", ["--help"])
    if not argv or argv[0].startswith("-"):
        raise GammerError(
            "no run folder given",
            f"usage: gammer {task.name} test RUN [--SETTING VALUE ...]",
            f"list runs with `ls -d runs/{task.name}/*/*`; settings: gammer {task.name} test --help",
        )
    run = open_run(argv[0], task.name)
    for word in argv[1:]:
        if word.partition("=")[0] in ("--name", "--out", "--wandb", "--resume"):
            raise GammerError(f"{word} of a test", "a test writes into the run folder", "leave it out")
    with _locked(run):
        return _test(task, run, argv[1:])


def _test(task: Task, run: RunFolder, settings: Sequence[str]) -> int:
    load_checkpoint(run.best)
    cli = SettingsCLI(task, "test", ["--config", str(run.config), *settings])
    trainer = cli.instantiate_trainer(
        logger=False, default_root_dir=run.path, callbacks=_checkpoint_callbacks(task, run)
    )
    print(f"checkpoint: {run.best}")
    try:
        trainer.test(cli.model, datamodule=cli.datamodule, ckpt_path=run.best)
    except SystemExit as stop:
        print("stopped", file=sys.stderr)
        return _exit_code(stop)
    except RuntimeError as error:
        if "loading state_dict" in str(error):
            raise another_model(run.best, error) from None
        raise
    except (MisconfigurationException, ValueError) as error:
        if is_of_settings(error):
            raise cli.refused(error) from error
        raise
    return 0
