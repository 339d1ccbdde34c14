"""``gammer_lightning.fit``: train a module and data that Python code has built, as ``gammer TASK fit`` trains them."""

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl

from gammer_lightning.errors import GammerError
from gammer_lightning.processes import Terminated
from gammer_lightning.runs.folder import RunFolder
from gammer_lightning.training import settings
from gammer_lightning.training.fit import train_new_run
from gammer_lightning.training.settings import BuiltSettings, Task, refuse_test_metric


def fit(
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    *,
    name: str | None = None,
    max_epochs: int | None = None,
    out: str | Path | None = None,
    wandb: Literal["online", "offline", "disabled"] | None = "disabled",
    seed: int = 0,
    callbacks: Sequence[pl.Callback] = (),
    **trainer_settings: Any,
) -> RunFolder:
    """Train into a new run folder; a `RecognizeTask` is tested at the end, each clip by members that held it out.

    The run folder is that of ``gammer recognize fit`` or ``gammer magnify fit``: settings, metrics.csv, checkpoints,
    environment, and for recognition predictions, scores and figures. The commands take it: ``gammer recognize test
    RUN``, ``gammer recognize fit --resume RUN``, ``gammer export RUN``, ``gammer predict RUN VIDEO``.

    From Python::

        import gammer_lightning as gl

        data = gl.MagnifiedClips({"microfaces": "data/microfaces"}, eval_alpha=10)
        run = gl.fit(gl.RecognizeTask(seeds=[0]), data, name="mine", max_epochs=40)
        print(run.path)

    Args:
        task: `RecognizeTask` or `MagnifyTask`.
        data: Its DataModule: `MagnifiedClips` or `MotionPairs`. Task and data save their arguments as hyperparameters,
            which config.yaml holds.
        name: Name of the run; None: that of the task.
        max_epochs: Epochs to train; None: Lightning's default, 1,000.
        out: The run folder, new or empty; None: ``runs/TASK/NAME/TIME``.
        wandb: Mode of Weights & Biases; None as on the command line: online if a key is set, else offline.
        seed: Seed of Python, NumPy and PyTorch from here on. Weights that the task drew before are not changed.
        callbacks: Callbacks of the Trainer, as objects. config.yaml does not describe them, so a resumed run has none.
        **trainer_settings: Further settings of Lightning's Trainer as in YAML, e.g. ``accelerator="cpu"``,
            ``enable_progress_bar=False``.

    Returns:
        The finished run.

    Raises:
        GammerError: If a setting, the data or the run folder is not usable, or memory is short.
        KeyboardInterrupt: If the run was stopped; it can be resumed after its first epoch.
    """
    kind = _task_of(task, data, callbacks)
    trainer = trainer_settings if max_epochs is None else trainer_settings | {"max_epochs": max_epochs}
    options = {"name": name, "out": None if out is None else str(out), "wandb": wandb, "seed_everything": seed}
    interrupt = signal.getsignal(signal.SIGINT)
    run, code = train_new_run(BuiltSettings(kind, task, data, {"trainer": trainer, **options}), argv=None)
    if code:
        signal.signal(signal.SIGINT, interrupt)  # Lightning ignores Ctrl-C after a stop
        raise Terminated if code == 143 else KeyboardInterrupt
    return run


def _task_of(module: pl.LightningModule, data: pl.LightningDataModule, callbacks: Sequence[pl.Callback]) -> Task:
    for task in (settings.recognize(), settings.magnify()):
        if isinstance(module, task.module):
            break
    else:
        raise GammerError(
            f"a fit of {type(module).__name__}",
            "a run folder is of a RecognizeTask or a MagnifyTask",
            "pass one of them, or train another module with pytorch_lightning.Trainer",
        )
    for callback in callbacks:
        refuse_test_metric(type(callback).__name__, str(getattr(callback, "monitor", None) or ""))
    return replace(task, module=type(module), data=type(data), callbacks=tuple(callbacks))
