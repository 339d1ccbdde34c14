"""The loggers of a run: metrics.csv always, W&B beside it."""

import csv
import io
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import wandb
from lightning_fabric.utilities.apply_func import convert_tensors_to_scalars
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import Tensor

from gammer_lightning.errors import GammerError
from gammer_lightning.escapes import printable, without_passwords
from gammer_lightning.files import read_text, read_yaml, replacing
from gammer_lightning.runs.folder import WANDB_PROJECT, RunFolder, stage_in

WANDB_PATIENCE = 60
"""How long W&B may take to end an offline run, s."""


def is_first_process() -> bool:
    """Return whether this is the first of a run's processes, which alone writes and prints."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]  # an attribute of the function itself


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

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        metrics = Path(self.metrics_file_path)
        with metrics.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        _write_rows(metrics, fieldnames, rows)

    def log_hparams(self, params: dict[str, Any]) -> None:
        pass  # config.yaml has them


class MetricsFile(CSVLogger):
    """RUN/metrics.csv; a resumed run appends to it."""

    def __init__(self, run: RunFolder):
        super().__init__(run.path, name=None, version="")
        self.early: tuple[Mapping[str, Tensor | float], int | None] | None = None
        if is_first_process():
            self._experiment = _AppendingWriter(self.log_dir)

    def log_early(self, metrics: Mapping[str, Tensor | float], step: int) -> None:
        """Write a row that Lightning is going to log a little later, when it is not written again."""
        if self.early != (metrics, step):
            self.log_metrics(metrics, step)
            self.save()
            self.early = metrics, step

    def log_metrics(self, metrics: Mapping[str, Tensor | float], step: int | None = None) -> None:
        """Write a row, but not one that `log_early` has written."""
        if self.early != (metrics, step):
            super().log_metrics(dict(metrics), step)


def log_epoch(trainer: Trainer) -> None:
    """Write the row of the epoch that ends into metrics.csv; Lightning logs it after the epoch's checkpoint is saved.

    Args:
        trainer: In its callbacks' ``on_train_epoch_end``.
    """
    metrics = convert_tensors_to_scalars(trainer._logger_connector.metrics["log"])  # in every process: it gathers them
    step = trainer.fit_loop.epoch_loop._batches_that_stepped - 1
    for logger in trainer.loggers:
        if isinstance(logger, MetricsFile) and metrics:
            logger.log_early({"epoch": trainer.current_epoch} | metrics, step)


def forget_metrics_after(run: RunFolder, step: int) -> None:
    """Drop the rows of metrics.csv that a resumed run is going to write again, and a row that was cut off.

    Args:
        run: The run folder.
        step: Number of training batches that the checkpoint holds.

    Raises:
        GammerError: If it is no table of numbers.
    """
    metrics = run.path / "metrics.csv"
    if not metrics.exists():
        return
    whole, end, _ = read_text(metrics).rpartition("\n")
    reader = csv.DictReader(io.StringIO(whole + end, newline=""))
    try:
        rows = [row for row in reader if row["step"] and float(row["step"]) < step]
        _write_rows(metrics, reader.fieldnames or ["step"], rows)
    except (KeyError, ValueError, csv.Error) as error:
        raise GammerError(
            f"{metrics} is damaged: {error}",
            "it has a column step and a number in each cell",
            "copy it again, or delete it",
        ) from error


def _write_rows(path: Path, names: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, names)
        writer.writeheader()
        writer.writerows(rows)


def check_wandb(mode: str) -> None:
    """See, before anything is computed, that W&B takes its variables and, online, that it answers and knows the key.

    The row of a sweep does not ask W&B's server.

    Args:
        mode: ``"online"``, ``"offline"`` or ``"disabled"``.

    Raises:
        GammerError: Naming the variable, or saying what the key lacks.
    """
    if mode == "disabled":
        return
    try:
        wandb.Settings().update_from_env_vars(dict(os.environ))
    except ValueError as error:
        (problem, *_) = error.errors()  # type: ignore[attr-defined]  # pydantic's, of which wandb exports no type
        name = str(problem["loc"][0]).removeprefix("run_")
        raise GammerError(
            f"the environment variable WANDB_{name.upper()} is refused by W&B: {problem['msg']}",
            "W&B reads WANDB_*",
            "correct or unset it, or add --wandb disabled",
        ) from error
    if mode == "online" and os.environ.get("WANDB_MODE", "online") == "online":
        from gammer_lightning.runs.progress import TRIAL_VARIABLE
        from gammer_lightning.runs.wandb_uploads import check_login

        if os.environ.get(TRIAL_VARIABLE):
            return  # an outage must not count as a mistake in a sweep's row, which would not be tried again
        try:
            check_login()
        except GammerError as error:
            raise GammerError(
                error.what,
                "an online run is uploaded while it trains",
                f"{error.next_step}; or --wandb offline, and `wandb sync RUN/wandb/offline-run-*` later",
            ) from error


class WandbRun(WandbLogger):
    """W&B's run of a run folder; its config is given to it as a whole."""

    def log_hyperparams(self, params: Any) -> None:
        """Start the run, and log nothing: the config holds every setting under the name of its flag."""
        _ = self.experiment


def loggers(run: RunFolder, wandb_mode: str) -> list[Logger]:
    """Return the loggers of a run: metrics.csv always, and W&B unless it is disabled.

    W&B's own variables WANDB_NAME, WANDB_RUN_GROUP, WANDB_JOB_TYPE and WANDB_TAGS decide where they are set: a sweep
    sets them for its runs. W&B itself reads them once a process, so they are handed over.

    Args:
        run: The run folder, started (`RunFolder.save_start`).
        wandb_mode: ``"online"``, ``"offline"`` or ``"disabled"``.
    """
    metrics = MetricsFile(run)
    if wandb_mode == "disabled" or not is_first_process():
        return [metrics]
    facts = run.facts
    folder = run.path.resolve()  # the W&B service has a working directory of its own
    stage_in(folder)
    tags = os.environ.get("WANDB_TAGS")
    online = {"resume": "allow"} if wandb_mode == "online" else {"offline": True}
    config = read_yaml(run.config) | {"task": facts.task, "seed": facts.seed, "git": facts.git}
    wandb_logger = WandbRun(
        name=os.environ.get("WANDB_NAME") or f"{facts.name}/{folder.name}",
        group=os.environ.get("WANDB_RUN_GROUP") or facts.task,
        job_type=os.environ.get("WANDB_JOB_TYPE") or "fit",
        tags=tags.split(",") if tags else None,
        project=WANDB_PROJECT,
        save_dir=folder,
        id=facts.wandb_id,
        config=config,
        **online,
    )
    return [metrics, wandb_logger]


def finish_wandb() -> None:
    """End W&B's run; an offline one, which has nothing to upload, within twice `WANDB_PATIENCE`.

    W&B's service can wait for ever, e.g. where the disk is full. What it did not write is named, and the run goes on.
    """
    if wandb.run is None:
        return
    patience = WANDB_PATIENCE if wandb.run.offline else None
    failures: list[str] = []

    def finish() -> None:
        try:
            wandb.finish()
        except Exception as error:  # whatever W&B raises; the run folder has all of it
            failures.append(str(error) or type(error).__name__)

    thread = threading.Thread(target=finish, daemon=True)
    thread.start()
    thread.join(patience)
    if thread.is_alive():
        failures.append(f"its service did not end within {patience} s")
        for process in psutil.Process().children():
            if process.name().startswith("wandb"):
                process.kill()
        thread.join(patience)
        with suppress(
            Exception, SystemExit
        ):  # that its service is gone; left to the end of the process, it would be raised there
            wandb.teardown()
    if failures:
        failure = printable(without_passwords(failures[0]))
        print(f"W&B's own copy of the run is not whole: {failure}; metrics.csv is", file=sys.stderr)
