"""Settings checked before data are read: ranges of numbers, and what of Lightning's Trainer a run can honour."""

from typing import Any

from pytorch_lightning.callbacks import Timer
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from gammer_lightning.errors import GammerError
from gammer_lightning.ranges import MAX_COUNT, MAX_FACTOR, check_range

TRAINER_RANGES: dict[str, tuple[float, float]] = {
    "num_nodes": (1, 1024),
    "min_epochs": (0, MAX_COUNT),
    "min_steps": (0, MAX_COUNT),
    "limit_val_batches": (0, MAX_COUNT),
    "limit_predict_batches": (0, MAX_COUNT),
    "check_val_every_n_epoch": (1, MAX_COUNT),
    "num_sanity_val_steps": (-1, MAX_COUNT),
    "log_every_n_steps": (0, MAX_COUNT),
    "accumulate_grad_batches": (1, MAX_COUNT),
    "gradient_clip_val": (0, MAX_FACTOR),
    "reload_dataloaders_every_n_epochs": (0, MAX_COUNT),
}
"""Lowest and highest value of settings of Lightning's Trainer; Lightning checks some of them, late or never."""

ONE_WHOLE_RUN = "a run trains on what data.* says, to its end, and leaves checkpoints and results"
FOLDER = "the run folder decides where things are written"
REFUSED: dict[str, tuple[Any, str, str]] = {
    "logger": (None, FOLDER, "use --out and --wandb"),
    "default_root_dir": (None, FOLDER, "use --out and --wandb"),
    "model_registry": (None, FOLDER, "leave it out; `gammer sweep sync` uploads models to W&B"),
    "fast_dev_run": (
        False,
        ONE_WHOLE_RUN,
        "leave it out; for a quick try set trainer.max_epochs to 1 and trainer.limit_train_batches to 2",
    ),
    "overfit_batches": (
        0,
        "it would validate on the batches that it trains on",
        "leave it out; for a few batches set trainer.limit_train_batches",
    ),
    "barebones": (False, ONE_WHOLE_RUN, "leave it out"),
}
"""Settings of the Trainer that a run cannot honour: their default, the rule and what to do."""


def check_trainer(trainer: Any) -> None:
    """Refuse settings of Lightning's Trainer with which a run would train nothing, never end, or not count as one.

    Args:
        trainer: The parsed settings ``trainer.*``, by name.

    Raises:
        GammerError: Naming the setting.
    """
    for name, (default, rule, next_step) in REFUSED.items():
        if trainer[name] is not default and trainer[name] != default:
            raise GammerError(f"trainer.{name} is {_text(trainer[name])}", rule, next_step)
    if trainer["enable_checkpointing"] is False:
        raise GammerError("trainer.enable_checkpointing is false", ONE_WHOLE_RUN, "leave it out")
    for name, (low, high) in TRAINER_RANGES.items():
        if trainer[name] is not None:
            check_range(f"trainer.{name}", trainer[name], low, high)
    _check_length(trainer)
    _check_batches(trainer)
    _check_devices(trainer["devices"])


def _text(value: Any) -> str:
    return "set" if isinstance(value, dict) or hasattr(value, "init_args") else str(value)


def _check_length(trainer: Any) -> None:
    """Refuse a training of no epoch, step or second, and one without an end."""
    epochs = trainer["max_epochs"]
    steps = trainer["max_steps"]
    if steps != -1:
        check_range("trainer.max_steps", steps, 1, MAX_COUNT)
    if epochs not in (None, -1):
        check_range("trainer.max_epochs", epochs, 1, MAX_COUNT)
    max_time = trainer["max_time"]
    if steps == -1 and (epochs == -1 or (epochs is None and max_time is not None)):
        raise GammerError(
            f"trainer.max_epochs is {epochs} and trainer.max_steps is {steps}",
            "the learning rate follows a schedule of a known length; trainer.max_time only ends it earlier",
            "set trainer.max_epochs",
        )
    for unit, most in (("epochs", epochs), ("steps", steps)):
        least = trainer[f"min_{unit}"] or 0
        if most not in (None, -1) and least > most:
            raise GammerError(
                f"trainer.min_{unit} is {least} and trainer.max_{unit} is {most}",
                "the fewest are no more than the most",
                f"change trainer.min_{unit}",
            )
    if max_time is not None and _seconds("max_time", max_time) <= 0:
        raise GammerError(f"trainer.max_time is {max_time}", "a run trains for some time", "change trainer.max_time")


def _seconds(name: str, duration: Any) -> float:
    """Return a duration as Lightning reads it: ``DD:HH:MM:SS``, a timedelta or a dict of its arguments."""
    try:
        return Timer(duration).time_remaining() or 0.0  # None only where there is no duration
    except (MisconfigurationException, TypeError, ValueError, OverflowError) as error:
        raise GammerError(
            f"trainer.{name} is {duration}",
            "a duration is DD:HH:MM:SS, or days, hours, minutes and seconds by name",
            f"for example --trainer.{name}=00:08:00:00",
        ) from error


def _check_batches(trainer: Any) -> None:
    """Refuse to train on no batch, to test a part of the clips, and to validate never or in no time."""
    share = trainer["limit_train_batches"]
    if share is not None:
        check_range("trainer.limit_train_batches", share, 0, 1 if isinstance(share, float) else MAX_COUNT, above=True)
    share = trainer["limit_val_batches"]
    if isinstance(share, float):
        check_range("trainer.limit_val_batches", share, 0, 1)
    share = trainer["limit_test_batches"]
    if share is not None and not (isinstance(share, float) and share == 1):
        raise GammerError(
            f"trainer.limit_test_batches is {share}", "a test counts every clip and every row once", "leave it out"
        )
    interval = trainer["val_check_interval"]
    if isinstance(interval, int | float):
        highest = 1 if isinstance(interval, float) else MAX_COUNT
        check_range("trainer.val_check_interval", interval, 0, highest, above=True)
    elif interval is not None and _seconds("val_check_interval", interval) <= 0:
        raise GammerError(
            f"trainer.val_check_interval is {interval}",
            "some time passes from one validation to the next",
            "change trainer.val_check_interval",
        )


def _check_devices(devices: Any) -> None:
    text = str(devices).strip()
    if text.lstrip("+").isdecimal() and (len(text) > 5 or int(text) > 1024):
        raise GammerError(
            f"trainer.devices is {text[:40]}", "a machine has at most 1,024 devices", "change trainer.devices"
        )
