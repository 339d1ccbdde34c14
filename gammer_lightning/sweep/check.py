"""Whether a sweep can run at all: every row through the real parser, before anything starts."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from gammer_lightning.errors import GammerError
from gammer_lightning.files import read_yaml
from gammer_lightning.shipped import find_yaml
from gammer_lightning.sweep.spec import Sweep

if TYPE_CHECKING:
    from pytorch_lightning.cli import LightningArgumentParser


def check_sweep(sweep: Sweep) -> None:
    """Parse every row and build its task and data; of a search, every extreme value of its space.

    Raises:
        GammerError: Naming the first row with an unknown setting, a value that is not possible, or without the
            sweep's metric; or where the task takes one device only.
    """
    if sweep.task == "recognize" and sweep.devices_per_trial > 1:
        raise GammerError(
            f"devices_per_trial {sweep.devices_per_trial} of {sweep.study}",
            "a recognition row trains all its folds together on one device",
            "set devices_per_trial to 1; rows spread over the devices",
        )
    for file in sweep.files:
        read_yaml(find_yaml(file, "experiments"))  # whose bounds the parser of fit does not have
    logging.getLogger("lightning_fabric.utilities.seed").setLevel(logging.WARNING)  # or every row says its seed
    cli = _cli_with_one_parser()
    for row, settings in tqdm(_settings_to_check(sweep).items(), "checking rows", disable=None, leave=False):
        try:
            _check_row(cli, sweep, settings)
        except GammerError as error:
            raise GammerError(f"row {row!r} of {sweep.study}: {error.what}", error.rule, error.next_step) from error


def _settings_to_check(sweep: Sweep) -> dict[str, dict[str, Any]]:
    if not sweep.search:
        return sweep.settings()
    from gammer_lightning.sweep.queue.search import corners

    return corners(sweep.search)


def _cli_with_one_parser() -> type:
    """Return the command line of fit for many rows: their parser, which takes nearly half the time, is built once."""
    from gammer_lightning.training.settings import SettingsCLI

    parsers: list[LightningArgumentParser] = []

    class RowCLI(SettingsCLI):
        def setup_parser(self, *arguments: Any) -> None:
            if not parsers:
                super().setup_parser(*arguments)
                parsers.append(self.parser)
            self.parser = parsers[0]

    return RowCLI


def _check_row(cli: type, sweep: Sweep, settings: Mapping[str, Any]) -> None:
    from gammer_lightning.training import settings as task_settings

    task = getattr(task_settings, sweep.task)()
    arguments = sweep.command(settings)[3:]  # without `gammer TASK fit`
    logged = cli(task, "fit", arguments).model.metrics
    for metric in sweep.metrics:
        if metric.startswith("test"):
            raise GammerError(
                f"the metric {metric}",
                "choosing by a test metric would leak the test folds into the choice",
                f"choose by one of {', '.join(logged)}; of recognition, model.protocol inner logs val_uf1",
            )
        if metric not in logged:
            raise GammerError(
                f"the metric {metric}", f"its runs log {', '.join(logged)}", "name one of them, or leave it out"
            )
