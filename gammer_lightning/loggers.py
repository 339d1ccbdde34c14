"""The loggers of a run: metrics.csv always, W&B beside it."""

import csv
import os
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from gammer_lightning.files import replacing
from gammer_lightning.run_folder import WANDB_PROJECT, RunFolder, stage_in


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
    if wandb_mode == "disabled" or rank_zero_only.rank > 0:
        return [metrics]
    facts, folder = run.facts, run.path.resolve()  # the W&B service has a working directory of its own
    stage_in(folder)
    tags = os.environ.get("WANDB_TAGS")
    online = {"resume": "allow"} if wandb_mode == "online" else {"offline": True}
    wandb_logger = WandbRun(
        name=os.environ.get("WANDB_NAME") or f"{facts['name']}/{folder.name}",
        group=os.environ.get("WANDB_RUN_GROUP") or facts["task"],
        job_type=os.environ.get("WANDB_JOB_TYPE") or "fit",
        tags=tags.split(",") if tags else None,
        project=WANDB_PROJECT,
        save_dir=folder,
        id=facts["wandb_id"],
        config=yaml.safe_load(run.config.read_text()) | {key: facts[key] for key in ("task", "seed", "git")},
        **online,
    )
    return [metrics, wandb_logger]
