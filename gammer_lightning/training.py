"""``fit`` and ``test`` of a task: settings from YAML and flags, a run folder, true resume."""

import argparse
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import wandb
from jsonargparse import ArgumentError
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from gammer_lightning.checkpoints import WholeCheckpoints, another_model, checkpoint_callbacks, load_checkpoint
from gammer_lightning.errors import GammerError, OutOfMemoryError
from gammer_lightning.loggers import forget_metrics_after, loggers
from gammer_lightning.run_folder import RunFolder, new_run_folder, open_run, wandb_default
from gammer_lightning.shipped import with_paths_of_configs
from gammer_lightning.sweep.child import CHUNK_ADVICE
from gammer_lightning.sweep.report import row_callbacks

# Lightning starts the other processes of a node with a copy of this process's environment; so they learn
# the folder, whose time stamp they could not guess.
RUN_VARIABLE = "GAMMER_RUN_FOLDER"


# Lightning warns about its own use of torch, and advertises packages, in every run.
warnings.filterwarnings("ignore", message=".*LeafSpec.*")
warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")  # no validation clips
logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(lambda log: "Tip:" not in log.getMessage())


@dataclass(frozen=True)
class Task:
    """What ``gammer <name>`` trains.

    Attributes:
        name: The task.
        module: Its module.
        data: Its data.
        test_after_fit: Whether a fit ends with the test.
        verb: What trains it: ``fit``, or one that does more, by whose name its runs are marked.
        callbacks: Those of that verb.
    """

    name: str
    module: type[pl.LightningModule]
    data: type[pl.LightningDataModule]
    test_after_fit: bool = False
    verb: str = "fit"
    callbacks: Sequence[pl.Callback] = ()


def magnify() -> Task:
    """Return the task of ``gammer magnify``."""
    from gammer_lightning.data.motion_pairs import MotionPairs
    from gammer_lightning.tasks.magnify import MagnifyTask

    return Task("magnify", MagnifyTask, MotionPairs)


def recognize() -> Task:
    """Return the task of ``gammer recognize``, whose folds are tested in the process that trained them."""
    from gammer_lightning.data.recognition import MagnifiedClips
    from gammer_lightning.tasks.recognize import RecognizeTask

    return Task("recognize", RecognizeTask, MagnifiedClips, test_after_fit=True)


class SettingsCLI(LightningCLI):
    """LightningCLI with fixed classes, up to module and data; the trainer needs a run folder first."""

    def __init__(self, task: Task, verb: str, argv: Sequence[str]):
        self.task = task
        super().__init__(
            task.module,
            task.data,
            save_config_callback=None,
            seed_everything_default=0,
            parser_kwargs={
                "prog": f"gammer {task.name} {verb}",
                "usage": "%(prog)s [-c YAML] [--SETTING VALUE ...]",
                "exit_on_error": False,
                "allow_abbrev": False,
            },
            args=with_paths_of_configs(argv),
            run=False,
            auto_configure_optimizers=False,
        )

    def add_arguments_to_parser(self, parser):
        """Add the options about the run folder."""
        parser.add_argument("--name", type=str | None, help="name of the run (default: the YAML's)")
        parser.add_argument("--out", type=str | None, help="run folder (default: runs/TASK/NAME/TIME)")
        parser.add_argument(
            "--wandb",
            type=Literal["online", "offline", "disabled"] | None,
            help="Weights & Biases (default: online if a key is set, else offline)",
        )
        parser.add_argument("--resume", type=str | None, help="run folder of an interrupted run to go on with")

    def parse_arguments(self, parser, args):
        """Parse ``args``; Lightning's own method warns about arguments beside those of the process.

        Raises:
            GammerError: If a setting is unknown or has the wrong type.
        """
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            raise GammerError(
                str(error),
                "settings are trainer.*, model.*, data.* and a few options",
                f"{parser.prog} --help",
            ) from None

    def before_instantiate_classes(self):
        """Refuse what cannot be right before anything is built."""
        refuse_settings(self.config.trainer)

    def instantiate_classes(self):
        """Build module and data, and see whether they suit each other."""
        super().instantiate_classes()
        if check := getattr(self.model, "check_data", None):
            check(self.datamodule)

    def instantiate_trainer(self, **settings: Any) -> pl.Trainer | None:
        """Build the trainer once the run folder is known."""
        if not settings:
            return None
        callbacks = settings.pop("callbacks", [])
        self.trainer_defaults = {"callbacks": callbacks}
        try:
            trainer = super().instantiate_trainer(**settings)
        except (MisconfigurationException, ValueError) as error:
            rule = "trainer.* are the settings of Lightning's Trainer"
            raise GammerError(str(error), rule, f"{self.parser.prog} --help") from error
        trainer.strategy.checkpoint_io = WholeCheckpoints()
        return trainer

    def run_name(self) -> str:
        """Return --name, or the stem of the YAML, or the task, marked with the verb where that is not fit."""
        files = self.config.get("config") or []
        name = self.config.name or (Path(str(files[-1])).stem if files else self.task.name)
        mark = "" if self.task.verb == "fit" else f"-{self.task.verb}"
        return name.removesuffix(mark) + mark

    def saved_config(self) -> str:
        """Return the YAML of all settings that make this run, which are all but where it lies."""
        config = self.config.clone()
        config.name = self.run_name()
        del config["out"], config["resume"]
        return self.parser.dump(config, skip_none=False)


def refuse_settings(trainer: Any) -> None:
    """Refuse a test metric as monitor, and settings that the run folder decides.

    Raises:
        GammerError: Naming the setting.
    """
    for key in ("logger", "default_root_dir"):
        if trainer[key] is not None:
            raise GammerError(
                f"trainer.{key} is set",
                "the run folder decides where things are written",
                "use --out and --wandb",
            )
    callbacks = trainer.callbacks or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        monitor = str(callback.get("init_args", {}).get("monitor") or "")
        if monitor.startswith("test"):
            raise GammerError(
                f"{callback['class_path']} monitors `{monitor}`",
                "choosing by a test metric would leak the test set into the model",
                "monitor a validation metric, or fix trainer.max_epochs",
            )


def fit(task: Task, argv: Sequence[str]) -> int:
    """Train into a new run folder, or go on in the one named by ``--resume``.

    Returns:
        The exit code: 0, or 130 where the user stopped the run.

    Raises:
        GammerError: On a bad setting, run folder or checkpoint.
    """
    resume, rest = _split_resume(argv)
    old = _unfinished(task, resume, rest) if resume else None
    cli = SettingsCLI(task, task.verb, ["--config", str(old.config), *rest] if old else rest)
    run = old or RunFolder(_shared_folder(cli))
    try:
        trainer = _trainer_of(cli, run, argv)
        trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=run.last if old else None)
        if task.test_after_fit:
            trainer.test(cli.model, datamodule=cli.datamodule)
    except SystemExit:
        return _report_stop(task, run)
    except BaseException as error:
        _remove_if_nothing_began(run)
        if _is_want_of_memory(error):
            raise OutOfMemoryError(
                str(error).partition("\n")[0] or "out of memory",
                "the memory holds what trains at once",
                "lower model.member_chunk (recognize; the result is the same) or data.batch_size"
                + _smaller_chunk(cli.model),
            ) from error
        raise
    finally:
        wandb.finish()
    if trainer.is_global_zero:
        run.save_facts(finished=True)
        print(f"run folder: {run.path}\nnext: gammer {task.name} test {run.path}")
    return 0


def _is_want_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, on a GPU or on the CPU, for which torch has no exception of its own."""
    signs = ("DefaultCPUAllocator", "allocate memory")
    on_cpu = isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
    return on_cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)


def _smaller_chunk(model: pl.LightningModule) -> str:
    """Return an example of fewer members than ran at once, 8 or at most half; a sweep tries it, once."""
    chunk = next(model._chunks(), None) if hasattr(model, "names") else None
    fewer = min(8, len(model.names[chunk]) // 2) if chunk else 0
    return f", {CHUNK_ADVICE.format(fewer)}" if fewer else ""


def _split_resume(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--resume")
    known, rest = parser.parse_known_args(argv)
    return known.resume, rest


def _unfinished(task: Task, resume: str, rest: Sequence[str]) -> RunFolder:
    run = open_run(resume, task.name)
    other = [word for word in rest if word.startswith("-") and not word.startswith(("--trainer.", "--wandb"))]
    if other:
        raise GammerError(
            f"{other[0]} beside --resume",
            "a resumed run keeps its settings; only --trainer.* and --wandb may be given",
            f"start a new run: gammer {task.name} {task.verb} -c {run.config} {other[0]} ...",
        )
    if run.facts["finished"]:
        raise GammerError(
            f"the run {resume} is finished",
            "only an interrupted run can be resumed",
            f"gammer {task.name} test {resume}, or a new run: gammer {task.name} {task.verb} -c {run.config}",
        )
    if not run.last.is_file():
        raise GammerError(
            f"the run {resume} has no checkpoints/last.ckpt",
            "it stopped before its first epoch was done",
            f"start again: gammer {task.name} {task.verb} -c {run.config}",
        )
    return run


def _shared_folder(cli: SettingsCLI) -> Path:
    """Make the run folder in the first process; in the others return the same one."""
    out = cli.config.out
    if rank_zero_only.rank == 0:
        folder = new_run_folder(cli.task.name, cli.run_name(), out and Path(out))
        os.environ[RUN_VARIABLE] = str(folder)
        return folder
    folder = out or os.environ.get(RUN_VARIABLE)
    if not folder:
        raise GammerError(
            "this process does not know the run folder",
            "processes that another launcher started (torchrun, SLURM) must share one",
            "add --out DIR",
        )
    return Path(folder)


def _trainer_of(cli: SettingsCLI, run: RunFolder, argv: Sequence[str]) -> pl.Trainer:
    if rank_zero_only.rank == 0:
        if run.last.is_file():
            forget_metrics_after(run, _steps_done(run))
        facts = {"task": cli.task.name, "name": cli.run_name(), "seed": cli.config.seed_everything}
        run.save_start(cli.saved_config(), [cli.task.name, cli.task.verb, *argv], **facts)
    return cli.instantiate_trainer(
        logger=loggers(run, cli.config.wandb or wandb_default()),
        default_root_dir=run.path,
        callbacks=[*cli.task.callbacks, *_checkpoint_callbacks(cli.task, run), *row_callbacks()],
    )


def _steps_done(run: RunFolder) -> int:
    """Return the step that Lightning's loggers count: batches, where global_step counts optimiser steps."""
    return load_checkpoint(run.last)["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"]


def _checkpoint_callbacks(task: Task, run: RunFolder) -> list[pl.Callback]:
    return checkpoint_callbacks(run, getattr(task.module, "monitor", None))


def _remove_if_nothing_began(run: RunFolder) -> None:
    began = run.last.is_file() or (run.path / "metrics.csv").is_file()
    if rank_zero_only.rank == 0 and not began:
        wandb.finish()
        run.clear()


def _report_stop(task: Task, run: RunFolder) -> int:
    if rank_zero_only.rank == 0:
        resumable = f"resume: gammer {task.name} {task.verb} --resume {run.path}"
        print(f"stopped; run folder: {run.path}\n{resumable if run.last.is_file() else 'no epoch was done'}")
    return 130


def test(task: Task, argv: Sequence[str]) -> int:
    """Test the best checkpoint of a run (``RUN [--setting VALUE ...]``), the last where none is best.

    Raises:
        GammerError: If RUN is no run of this task or its checkpoint does not fit.
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
    load_checkpoint(run.best)
    cli = SettingsCLI(task, "test", ["--config", str(run.config), *argv[1:]])
    trainer = cli.instantiate_trainer(
        logger=False, default_root_dir=run.path, callbacks=_checkpoint_callbacks(task, run)
    )
    print(f"checkpoint: {run.best}")
    try:
        trainer.test(cli.model, datamodule=cli.datamodule, ckpt_path=run.best)
    except RuntimeError as error:
        if "loading state_dict" in str(error):
            raise another_model(run.best, error) from None
        raise
    return 0
