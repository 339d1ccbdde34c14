"""Settings of ``fit`` and ``test``: YAML and flags to module, data and trainer."""

import argparse
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from jsonargparse import ArgumentError, Namespace
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from gammer_lightning.errors import GammerError
from gammer_lightning.files import check_name, read_yaml
from gammer_lightning.ranges import check_seed
from gammer_lightning.runs.checkpoints import WholeCheckpoints
from gammer_lightning.runs.folder import wandb_default
from gammer_lightning.shipped import with_paths_of_configs
from gammer_lightning.training.trainer_settings import check_trainer


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
    from gammer_lightning.data.motion.datamodule import MotionPairs
    from gammer_lightning.tasks.magnify import MagnifyTask

    return Task("magnify", MagnifyTask, MotionPairs)


def recognize() -> Task:
    """Return the task of ``gammer recognize``, whose folds are tested in the process that trained them."""
    from gammer_lightning.data.datamodule import MagnifiedClips
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
        for path in _settings_files(args):
            read_yaml(path)  # within bounds, where jsonargparse has none
        try:
            self.config = self._read(parser, args)
        except ArgumentError as error:
            raise GammerError(
                str(error),
                "settings are trainer.*, model.*, data.* and a few options",
                f"{parser.prog} --help",
            ) from None
        self._check_options()

    def _read(self, parser: LightningArgumentParser, args: Sequence[str]) -> Namespace:
        return parser.parse_args(args)

    def _check_options(self) -> None:
        """Refuse a seed out of range, a name that is no name, and --resume in a YAML, where nothing would read it."""
        seed = self.config.get("seed_everything")
        name = self.config.get("name")
        resume = self.config.get("resume")
        if not isinstance(seed, bool | None):
            check_seed("seed_everything", seed)
        if name is not None:
            check_name(name, "--name")
        if resume is not None:
            raise GammerError(
                f"resume: {resume} in a YAML file",
                "a run to go on with is named on the command line",
                f"gammer {self.task.name} {self.task.verb} --resume {resume}",
            )

    def before_instantiate_classes(self):
        """Refuse what cannot be right before anything is built."""
        refuse_settings(self.config.trainer)
        check_trainer_of_task = getattr(self.task.module, "check_trainer", None)
        if check_trainer_of_task:
            check_trainer_of_task(self.config.trainer)

    def instantiate_classes(self):
        """Build module and data, but no trainer yet, and see whether they suit each other."""
        self.config_init = self.parser.instantiate_classes(self.config)
        self.datamodule = self.config_init["data"]
        self.model = self.config_init["model"]
        self._check_suits()

    def _check_suits(self) -> None:
        check_data = getattr(self.model, "check_data", None)
        if check_data:
            check_data(self.datamodule)

    def instantiate_trainer(self, **settings: Any) -> pl.Trainer:
        """Build the trainer once the run folder is known."""
        callbacks = settings.pop("callbacks", [])
        self.trainer_defaults = {"callbacks": callbacks}
        try:
            trainer = super().instantiate_trainer(**settings)
        except GammerError:
            raise
        except Exception as error:  # whatever Lightning, a strategy or a callback makes of these settings
            raise self.refused(error) from error
        trainer.strategy.checkpoint_io = WholeCheckpoints()
        return trainer

    def refused(self, error: BaseException) -> GammerError:
        """Return the error of settings that Lightning refuses."""
        message = " ".join(str(error).split()) or type(error).__name__
        return GammerError(
            message,
            "trainer.* are the settings of Lightning's Trainer; it also reads SLURM_* and torchrun's variables",
            f"{self.parser.prog} --help",
        )

    @property
    def wandb_mode(self) -> str:
        """``"online"``, ``"offline"`` or ``"disabled"``."""
        return self.config.wandb or wandb_default()

    def run_name(self) -> str:
        """Return --name, or the stem of the YAML, or the task, marked with the verb where that is not fit."""
        files = self.config.get("config") or []
        name = self.config.name
        if not name:
            name = Path(str(files[-1])).stem if files else self.task.name
        mark = "" if self.task.verb == "fit" else f"-{self.task.verb}"
        return name.removesuffix(mark) + mark

    def saved_config(self) -> str:
        """Return the YAML of all settings that make this run, which are all but where it lies."""
        config = self.config.clone()
        config.name = self.run_name()
        del config["out"], config["resume"]
        return self.parser.dump(config, skip_none=False)


class BuiltSettings(SettingsCLI):
    """The settings of a module and DataModule that are built already; only the trainer is still to be built.

    They are checked as those of YAML and flags are, and `saved_config` writes what ``fit -c`` takes again. Module and
    data are those objects; nothing is built a second time.

    Args:
        task: The task; its classes are those of ``module`` and ``data``.
        module: The LightningModule; its hyperparameters are the settings ``model.*``.
        data: The DataModule; its hyperparameters are the settings ``data.*``.
        settings: All others: ``trainer``, ``name``, ``out``, ``wandb``, ``seed_everything``.

    Raises:
        GammerError: If a setting is unknown, has the wrong type or is out of range, or cannot be written as YAML.
    """

    def __init__(
        self, task: Task, module: pl.LightningModule, data: pl.LightningDataModule, settings: dict[str, Any]
    ) -> None:
        self.built = module, data
        self.settings = settings | {"model": dict(module.hparams), "data": dict(data.hparams)}
        super().__init__(task, task.verb, [])
        self.saved_config()

    def _read(self, parser: LightningArgumentParser, args: Sequence[str]) -> Namespace:
        return parser.parse_object(self.settings)

    def instantiate_classes(self) -> None:
        """Take the module and data as they are, and check whether they suit each other."""
        self.model, self.datamodule = self.built
        self.config_init = self.parser.instantiate_classes(self.config, instantiate_groups=False)
        self._check_suits()

    def saved_config(self) -> str:
        """Return the YAML of all settings, as `SettingsCLI.saved_config` does.

        Raises:
            GammerError: If a setting is an object that YAML cannot describe.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            config = super().saved_config()
        for warning in caught:
            message = " ".join(str(warning.message).split())
            if message.startswith("Unable to serialize"):
                raise GammerError(
                    message,
                    "config.yaml describes the run: settings are numbers, text, lists and dicts as in YAML",
                    "give a class by its name, {'class_path': ..., 'init_args': {...}}; callbacks also as objects",
                )
        return config


def _settings_files(argv: Sequence[str]) -> Iterator[Path]:
    """Yield the YAML files of a command line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in (("-c", "--config"), ("--model",), ("--data",), ("--trainer",)):
        parser.add_argument(*option, action="append", default=[], dest="files", nargs="?")
    options, _ = parser.parse_known_args(argv)
    for name in options.files:
        if name and os.path.exists(name):  # else it is YAML itself, or jsonargparse says what is missing
            yield Path(name)


def refuse_settings(trainer: Any) -> None:
    """Refuse a test metric as monitor, and settings of the Trainer that a run cannot honour.

    Raises:
        GammerError: Naming the setting.
    """
    check_trainer(trainer)
    callbacks = trainer.callbacks or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        monitor = str(callback.get("init_args", {}).get("monitor") or "")
        refuse_test_metric(callback["class_path"], monitor)


def refuse_test_metric(callback: str, monitor: str) -> None:
    """Refuse a test metric as monitor.

    Args:
        callback: Name of the callback's class.
        monitor: The metric that it monitors.

    Raises:
        GammerError: Naming both.
    """
    if monitor.startswith("test"):
        raise GammerError(
            f"{callback} monitors `{monitor}`",
            "choosing by a test metric would leak the test set into the model",
            "monitor a validation metric, or fix trainer.max_epochs",
        )
