"""Settings of the Trainer that would let members, or held-out clips, act on each other."""

from typing import Any

import pytorch_lightning as pl

from gammer_lightning.errors import GammerError


def check_trainer(trainer: Any) -> None:
    """Refuse settings of the Trainer that are not those of one optimiser step a batch over a number of epochs.

    Args:
        trainer: The parsed settings ``trainer.*``, by name.

    Raises:
        GammerError: Naming the setting.
    """
    if trainer["accumulate_grad_batches"] != 1:
        raise GammerError(
            f"trainer.accumulate_grad_batches is {trainer['accumulate_grad_batches']}",
            "the members take a step with every batch",
            "leave it out, and raise data.batch_size",
        )
    _refuse_clipping(trainer["gradient_clip_val"])
    if trainer["max_epochs"] == -1 or (trainer["max_epochs"] is None and trainer["max_steps"] != -1):
        raise GammerError(
            f"trainer.max_epochs is {trainer['max_epochs']}",
            "the learning rate falls to 0 along the epochs",
            "set trainer.max_epochs; trainer.max_steps may end it earlier",
        )


def refuse_trainer(trainer: pl.Trainer) -> None:
    """Refuse a Trainer that would let members or held-out clips act on each other.

    Raises:
        GammerError: On gradient clipping, several devices, or a monitor that is no training metric.
    """
    _refuse_clipping(trainer.gradient_clip_val)
    if trainer.world_size > 1:
        raise GammerError(
            f"{trainer.world_size} devices",
            "all folds train together on one device",
            "set trainer.devices to 1, and run other experiments on the other devices",
        )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by a connector, declared nowhere
        monitor = getattr(callback, "monitor", None)
        if monitor and not monitor.startswith("train") and monitor not in ("epoch", "step"):
            raise GammerError(
                f"{type(callback).__name__} monitors `{monitor}`",
                "no metric of held-out clips chooses an epoch, and there are no other validation clips",
                "fix trainer.max_epochs beforehand, or monitor train_loss",
            )


def _refuse_clipping(value: float | None) -> None:
    if value:
        raise GammerError(
            f"trainer.gradient_clip_val is {value}",
            "a gradient norm over all members would let folds act on each other",
            "leave it unset, and lower model.lr if training is unstable",
        )
