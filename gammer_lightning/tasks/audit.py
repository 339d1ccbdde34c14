"""The callback of ``recognize audit``: predictions of every member after every epoch."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.audit import summarise, write_audit
from gammer_lightning.evaluation.folds import LEAKY, is_multi_label
from gammer_lightning.tasks.recognize import RecognizeTask


class Audit(pl.Callback):
    """Notes after every epoch what held-out clips are taken for, and scores that when the run is tested.

    Training is not touched: no weight, no metric, no draw of any random generator.
    """

    task: RecognizeTask

    def __init__(self) -> None:
        self.predicted: list[np.ndarray] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse another task, the protocol that has no honest score to compare with, and action units.

        Raises:
            GammerError: If the module is no RecognizeTask, its protocol is that of the paper's own split, or a clip's
                label is not one class.
        """
        if not isinstance(pl_module, RecognizeTask):
            raise GammerError(
                f"an audit of {type(pl_module).__name__}",
                "it scores the held-out clips of a RecognizeTask",
                "leave the callback out",
            )
        self.task = pl_module
        if self.task.hparams.protocol == LEAKY:
            raise GammerError(
                f"an audit of model.protocol {LEAKY}",
                "it compares with an honest score, and that protocol trains on its test clips",
                "set model.protocol to loso or kfold",
            )
        if is_multi_label(trainer.datamodule.labels):  # type: ignore[attr-defined]  # declared nowhere
            raise GammerError(
                "an audit of data.class_set units",
                "it counts by epoch which one class each clip is taken for",
                "set data.class_set to three, or run gammer recognize fit",
            )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note what the last epoch's weights take the held-out clips for.

        Raises:
            GammerError: If earlier epochs were trained without an audit.
        """
        if trainer.current_epoch:
            self.predicted.append(_held_out_classes(trainer, self.task))
        if len(self.predicted) != trainer.current_epoch:
            raise GammerError(
                f"{trainer.current_epoch} epochs were trained, of which {len(self.predicted)} were audited",
                "an audit sees every epoch of its run",
                "start one of its own: gammer recognize audit -c RUN/config.yaml",
            )

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the audit into the run folder, and print it."""
        predictions = self.task.predictions()
        summary = summarise(predictions, np.stack([*self.predicted, predictions.predicted], 1))
        print(write_audit(Path(trainer.default_root_dir), summary))

    def state_dict(self) -> dict[str, Tensor]:
        """Return what was noted, for a checkpoint."""
        return {"predicted": torch.from_numpy(np.stack(self.predicted))} if self.predicted else {}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Go on from a checkpoint's notes."""
        self.predicted = list(state_dict["predicted"].numpy()) if state_dict else []


def _held_out_classes(trainer: pl.Trainer, task: RecognizeTask) -> np.ndarray:
    """Return the classes that each seed's members predict for held-out clips ``(S, n)``, as the test would."""
    precision = trainer.precision_plugin
    task.eval()
    with isolate_rng(), torch.no_grad(), precision.forward_context():
        batches = map(precision.convert_input, task.data.test_dataloader())  # a loader's start draws a number
        predictions = task.predict_held_out(map(trainer.strategy.batch_to_device, batches))
    task.train()
    return predictions.predicted.astype(np.uint8)
