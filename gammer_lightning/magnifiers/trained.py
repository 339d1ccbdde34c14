"""Trained networks as magnifiers: ST-MEMM and MagNet, from the shipped weights, a run folder or a checkpoint."""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gammer_lightning.errors import GammerError
from gammer_lightning.files import check_is_file, replacing
from gammer_lightning.magnifiers.base import Magnifier
from gammer_lightning.magnifiers.checks import check_alphas, check_pair
from gammer_lightning.models.magnet import MagNet
from gammer_lightning.models.st_memm import PRESETS, STMEMM
from gammer_lightning.runs.checkpoints import load_checkpoint, load_weights
from gammer_lightning.runs.folder import open_run

SHIPPED = "st-memm-small"
SHIPPED_WEIGHTS = Path(str(files("gammer_lightning").joinpath("weights/st_memm_small.safetensors")))
MAGNET = "magnet"
PresetName = Literal["small", "base", "magnet"]
"""The presets of ST-MEMM, and MagNet."""


class TrainedMagnifier(Magnifier):
    """A network behind the magnifiers' callable.

    Args:
        network: Trained network, whose ``forward`` is that of `STMEMM`.
        name: What it was loaded as.
    """

    version: str  # raise it when the network's code changes what the same weights give

    def __init__(self, network: STMEMM | MagNet, name: str) -> None:
        super().__init__()
        self.network = network.eval()
        self.name = name
        digest = hashlib.sha256(self.version.encode())
        for key, value in sorted(network.state_dict().items()):
            digest.update(key.encode() + value.cpu().numpy().tobytes())
        self.fingerprint = digest.hexdigest()

    @torch.inference_mode()
    def forward(self, onset: Tensor, apex: Tensor, alphas: Sequence[float]) -> Tensor:
        """Magnify pairs ``(B, 3, H, W)`` to ``(A, B, 3, H, W)`` in [0, 1]; a pair is encoded once for all alphas."""
        check_pair(onset, apex)
        alphas = check_alphas(alphas)
        factors = onset.new_tensor(alphas)[:, None].expand(-1, len(onset))
        return self.network(onset, apex, factors).clamp(0, 1)


class STMEMMMagnifier(TrainedMagnifier):
    """ST-MEMM."""

    network: STMEMM
    version = "st-memm 1"


class MagNetMagnifier(TrainedMagnifier):
    """MagNet, which paints every pixel anew: at alpha 0 and 1 it is near the onset and the apex, not equal to them."""

    network: MagNet
    version = "magnet 1"


def build_network(preset: str) -> STMEMM | MagNet:
    """Build a network with new weights.

    Raises:
        GammerError: The preset is unknown.
    """
    if preset == MAGNET:
        return MagNet()
    if preset not in PRESETS:
        presets = ", ".join([*PRESETS, MAGNET])
        raise GammerError(f"unknown preset {preset!r}", f"known presets: {presets}", "choose one of them")
    return STMEMM(preset)


def as_magnifier(network: STMEMM | MagNet, name: str) -> TrainedMagnifier:
    """Return a network as a magnifier."""
    if isinstance(network, MagNet):
        return MagNetMagnifier(network, name)
    return STMEMMMagnifier(network, name)


def load_trained(name_or_path: str) -> TrainedMagnifier:
    """Load the shipped weights, a run folder's best checkpoint, a Lightning checkpoint or a safetensors file.

    Raises:
        GammerError: The file is corrupt, of another model, or holds code.
    """
    path = SHIPPED_WEIGHTS if name_or_path == SHIPPED else Path(name_or_path)
    if path.is_dir():
        path = open_run(path, "magnify").best
    read = _read_safetensors if path.suffix == ".safetensors" else _read_checkpoint
    preset, weights = read(path)
    network = build_network(preset)
    load_weights(network, weights, path)
    return as_magnifier(network, name_or_path)


def save_st_memm(network: STMEMM, preset: str, path: Path) -> None:
    """Write a network's weights as safetensors, with its preset in the metadata."""
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(weights, temporary, metadata={"model": "ST-MEMM", "preset": preset})


def _read_safetensors(path: Path) -> tuple[str, dict[str, Tensor]]:
    check_is_file(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            preset = (file.metadata() or {}).get("preset", "small")
        return preset, load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise GammerError(
            f"the weights {path} cannot be read: {error}",
            "a whole safetensors file",
            "reinstall, or copy them again",
        ) from error


def _read_checkpoint(path: Path) -> tuple[str, dict[str, Tensor]]:
    checkpoint = load_checkpoint(path)
    prefix = "network."
    weights = {}
    for name, value in checkpoint["state_dict"].items():
        if str(name).startswith(prefix):
            weights[name.removeprefix(prefix)] = value
    settings = checkpoint.get("hyper_parameters")
    preset = settings.get("preset") if isinstance(settings, dict) else None
    if not isinstance(preset, str) or not weights:
        raise GammerError(
            f"{path} is not a checkpoint of the magnifier",
            "it holds weights and preset, as `gammer magnify fit` writes them",
            "give the run folder of a magnify run",
        )
    return preset, weights
