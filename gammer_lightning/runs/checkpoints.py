"""Checkpoints: written whole or not at all, read as plain data only, kept by name in a run folder."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from safetensors import SafetensorError
from safetensors.torch import load_file

from gammer_lightning.errors import GammerError
from gammer_lightning.files import replacing
from gammer_lightning.runs.folder import RunFolder
from gammer_lightning.runs.loggers import log_epoch


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a Lightning checkpoint onto the CPU, plain data only: a pickle that carries code is refused.

    Raises:
        GammerError: If the file is missing, corrupt, no checkpoint, holds more than plain data, or a weight that is not
            finite.
    """
    checkpoint = _plain_data(Path(path))
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise GammerError(
            f"{path} holds no state_dict",
            "a checkpoint is what `gammer ... fit` writes",
            "give RUN/checkpoints/last.ckpt of a run",
        )
    check_finite(checkpoint["state_dict"], path)
    return checkpoint


def check_finite(state_dict: Mapping[str, Any], path: str | Path) -> None:
    """Refuse weights that are NaN or infinite: whatever is computed from them is worth nothing.

    Args:
        state_dict: Tensors by name; other values are passed over.
        path: Their file, for the message.

    Raises:
        GammerError: Naming the file and the first such tensor.
    """
    for name, value in state_dict.items():
        if isinstance(value, torch.Tensor) and not value.isfinite().all():
            bad = int(value.isfinite().logical_not().sum())
            raise GammerError(
                f"{path}: {bad} of the {value.numel()} values of {name} are NaN or infinite",
                "weights are finite numbers",
                "copy the file again, or use another checkpoint; a training that diverged needs a lower model.lr",
            )


PROGRESS = {
    "epoch": int,
    "global_step": int,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}
"""What a checkpoint holds beside the weights, which a run goes on with."""


def check_progress(checkpoint: Mapping[str, Any], path: str | Path) -> int:
    """Return how many batches a checkpoint has trained, as Lightning's loggers count steps.

    Args:
        checkpoint: From `load_checkpoint`.
        path: Its file, for the message.

    Raises:
        GammerError: If it lacks what a run goes on with.
    """
    for name, kind in PROGRESS.items():
        if not isinstance(checkpoint.get(name), kind):
            raise _corrupt(Path(path), f"it holds no {name}")
    batches = checkpoint["loops"]
    for name in ("fit_loop", "epoch_loop.state_dict", "_batches_that_stepped"):
        batches = batches.get(name) if isinstance(batches, dict) else None
    if not isinstance(batches, int):
        raise _corrupt(Path(path), "it does not say how many batches it has trained")
    return batches


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Read weights by name from a safetensors file, or from a torch file, there also below ``state_dict`` or ``model``.

    Raises:
        GammerError: If the file is missing, corrupt, holds more than plain data, or a weight that is not finite.
    """
    path = Path(path)
    stored: Any
    if path.suffix == ".safetensors" and path.is_file():
        try:
            stored = load_file(path)
        except SafetensorError as error:
            raise _corrupt(path, str(error)) from error
    else:
        stored = _plain_data(path)
        for key in ("state_dict", "model"):
            if isinstance(stored, dict):
                stored = stored.get(key, stored)
        if not isinstance(stored, dict):
            stored = {}
    weights = {name: value for name, value in stored.items() if isinstance(value, torch.Tensor)}
    check_finite(weights, path)
    return weights


def _plain_data(path: Path) -> Any:
    if not path.is_file():
        raise GammerError(f"no checkpoint at {path}", next_step="check the path; a run keeps its checkpoints/")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from None
    except (EOFError, KeyError, ValueError) as error:
        raise _corrupt(path, "it is not a torch file, or cut off") from error
    except (RuntimeError, OSError) as error:
        raise _corrupt(path, str(error).partition("\n")[0]) from error


def _refused(path: Path, error: Exception) -> GammerError:
    if "global" not in str(error).lower():
        return _corrupt(path, "it is not a torch file, or cut off")
    return GammerError(
        f"{path} holds objects beside plain data, and loading them would run their code",
        "checkpoints are read with weights_only=True",
        "use a checkpoint that `gammer ... fit` wrote, or safetensors",
    )


def _corrupt(path: Path, reason: str) -> GammerError:
    return GammerError(
        f"the checkpoint {path} cannot be read: {reason}",
        "a checkpoint is a whole torch file",
        "copy it again, or use another checkpoint of the run",
    )


def load_weights(module: torch.nn.Module, state: dict[str, torch.Tensor], where: str | Path) -> None:
    """Load a state dict strictly.

    Raises:
        GammerError: If a weight is not finite, or names or shapes do not fit, which means that it is of another model.
    """
    check_finite(state, where)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise another_model(where, error) from None


def another_model(where: str | Path, error: Exception) -> GammerError:
    """Turn torch's complaint about a state dict into one line."""
    _, *lines = str(error).splitlines()
    details = [line.strip() for line in lines if line.strip()]
    return GammerError(
        f"{where} does not fit this model: {details[0][:200]}",
        "names and shapes of all weights must agree",
        "use a checkpoint of the same task with the same model settings",
    )


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints under a temporary name beside the target, and reads only plain data.

    Lightning's own way moves a file from /tmp, which is a copy, and can be cut off, across disks.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the checkpoint whole or not at all.

        Raises:
            OSError: If the disk is full or may not be written; torch itself has a RuntimeError that does not say so.
        """
        with replacing(path) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from error
                raise
            file.flush()

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read with `load_checkpoint`, whatever the caller allows."""
        return load_checkpoint(path)


class MovableCheckpoints(ModelCheckpoint):
    """Knows its best score in a moved run folder too, where Lightning forgets it with the old path.

    Args:
        folder: Where the checkpoint lies.
        filename: Its name, without ``.ckpt``; it is written anew each time.
        monitor: The metric to choose the best by; None keeps the last.
        mode: ``"min"`` or ``"max"``.
        save_on_train_epoch_end: Whether to save after training, before validation; None: as `ModelCheckpoint` decides.
    """

    dirpath: str | Path  # always given here; the base class also takes None

    def __init__(
        self,
        folder: Path,
        filename: str,
        monitor: str | None = None,
        mode: str = "min",
        save_on_train_epoch_end: bool | None = None,
    ) -> None:
        super().__init__(
            folder,
            filename,
            monitor,
            mode=mode,
            save_on_train_epoch_end=save_on_train_epoch_end,
            enable_version_counter=False,
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after metrics.csv has the epoch's rows, or a process killed in between would lose them for ever."""
        log_epoch(trainer)
        super().on_train_epoch_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the paths of the checkpoint's time to be in today's folder."""

        def here(path: str) -> str:
            return path and str(Path(self.dirpath, Path(path).name))

        paths = {key: here(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})


def checkpoint_callbacks(run: RunFolder, monitor: tuple[str, str] | None) -> list[Callback]:
    """Keep last.ckpt, and best.ckpt if there is a metric to choose by.

    Args:
        run: The run folder.
        monitor: Name of a validation metric and ``"min"`` or ``"max"``.
    """
    folder = run.last.parent
    last = MovableCheckpoints(folder, "last", save_on_train_epoch_end=True)
    if monitor is None:
        return [last]
    metric, mode = monitor
    best = MovableCheckpoints(folder, "best", metric, mode)
    return [best, last]  # in this order, so that last.ckpt knows the newest best score
