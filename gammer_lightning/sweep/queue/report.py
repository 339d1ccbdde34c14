"""What a row's process tells while it trains: its epoch to the supervisor's table, its metric to the search."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from gammer_lightning.errors import GammerError
from gammer_lightning.files import replacing
from gammer_lightning.processes import end_with_my_parent
from gammer_lightning.runs.progress import PROGRESS, TRIAL_VARIABLE

if TYPE_CHECKING:
    from gammer_lightning.sweep.queue.study import Study


def row_callbacks() -> tuple[pl.Callback, ...]:
    """Return the callback of a process that a sweep started; none elsewhere.

    Raises:
        GammerError: If the variable by which a sweep tells it is damaged.
    """
    text = os.environ.get(TRIAL_VARIABLE)
    if not text:
        return ()
    trial = _trial(text)
    end_with_my_parent()
    return (StudyReporter(**trial),)


def _trial(text: str) -> dict[str, Any]:
    try:
        trial = json.loads(text)
    except (ValueError, RecursionError):
        trial = None
    kinds = {"study": str, "trial_id": int, "prunes": bool}
    if not isinstance(trial, dict) or {name: type(value) for name, value in trial.items()} != kinds:
        raise GammerError(
            f"{TRIAL_VARIABLE}={text[:80]} in the environment",
            "a sweep sets it for the rows that it starts, and nothing else does",
            f"unset {TRIAL_VARIABLE}",
        )
    return trial


class StudyReporter(pl.Callback):
    """Writes RUN/progress.json after every epoch; in a search that prunes, reports the metric and stops where told to.

    Args:
        study: Name of the study; its storage is the one that this process's environment names.
        trial_id: The trial in the storage.
        prunes: Whether the search prunes.
    """

    def __init__(self, study: str, trial_id: int, prunes: bool):
        self.study_name = study
        self.trial_id = trial_id
        self.prunes = prunes
        self.study: Study | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write how far the run is."""
        if trainer.is_global_zero:
            progress = {"epoch": trainer.current_epoch + 1, "of": trainer.max_epochs}
            with replacing(Path(trainer.default_root_dir) / PROGRESS) as temporary:
                temporary.write_text(json.dumps(progress))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the metric to the study and stop the run where its pruner says so.

        Raises:
            KeyboardInterrupt: In every process of the run, which Lightning takes as a request to stop.
        """
        if not self.prunes or trainer.sanity_checking:
            return
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import SQLAlchemyError

        should_stop = False
        if trainer.is_global_zero:
            epoch = trainer.current_epoch
            try:
                should_stop = self._report(epoch, trainer.callback_metrics)
            except (StorageInternalError, SQLAlchemyError, OSError, KeyError, GammerError) as error:  # prunes nothing
                print(f"epoch {epoch} could not be reported to the study: {type(error).__name__}")
        if trainer.strategy.broadcast(should_stop):
            raise KeyboardInterrupt

    def _report(self, epoch: int, metrics: dict) -> bool:
        from gammer_lightning.sweep.queue.search import pruner
        from gammer_lightning.sweep.queue.study import open_study

        if self.study is None:
            self.study = open_study(self.study_name)
        study = self.study
        search = study.sweep.search
        (metric,) = study.sweep.metrics
        if search is None or metric not in metrics:
            return False
        study.storage.set_trial_intermediate_value(self.trial_id, epoch, float(metrics[metric]))
        trial = study.storage.get_trial(self.trial_id)
        should_stop = pruner(search).prune(study.optuna(), trial)
        if should_stop:
            study.note(self.trial_id, pruned_at=epoch)
        return should_stop
