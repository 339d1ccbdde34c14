"""A tiny recognition run with a tiny magnifier, trained by the real command on tiny clips, ready to be exported."""

import shutil
from pathlib import Path

import torch
from casme2_sample import write_sample

from gammer_lightning import cli
from gammer_lightning.magnifiers.trained import save_st_memm
from gammer_lightning.models import st_memm

TINY = st_memm.Preset(dim=16, head_dim=8, encoder_depths=(1,), decoder_depths=(2,), mlp_ratio=1.0, stride=4)


def add_preset(monkeypatch) -> None:
    """Let ST-MEMM have the preset "tiny" meanwhile: it is exported in a quarter of the time of "small"."""
    monkeypatch.setitem(st_memm.PRESETS, "tiny", TINY)


def write_magnifier(path: Path, seed: int = 0) -> None:
    """Write a magnifier of random weights that really moves its onset."""
    torch.manual_seed(seed)
    network = st_memm.STMEMM("tiny")
    torch.nn.init.normal_(network.reconstruction.displacement.weight, std=0.02)
    torch.nn.init.normal_(network.reconstruction.conv.weight, std=0.02)
    save_st_memm(network, "tiny", path)


def write_run(folder: Path, wandb: str = "disabled", subjects: int = 2, **model) -> Path:
    """Train on five clips of each subject; return the run folder. The data set lies in ``folder / "casme2"``.

    Args:
        folder: Where all of it lies.
        wandb: Mode of W&B.
        subjects: How many there are.
        **model: Settings of the module.
    """
    write_sample(folder / "casme2", subjects=subjects, clips=5)
    write_magnifier(folder / "tiny.safetensors")
    settings = {
        "data.roots": f'{{"casme2": "{folder / "casme2"}"}}',
        "data.magnifier": folder / "tiny.safetensors",
        "data.cache": folder / "cache",
        "data.alphas": [5, 8],
        "data.train_alphas": [8],
        "data.eval_alpha": 5,
        "data.patch_size": 8,
        "model.width": 8,
        "model.heads": 2,
        "model.seeds": [0, 1],
        "trainer.max_epochs": 2,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": False,
        "wandb": wandb,
        "out": folder / "run",
        **{f"model.{name}": value for name, value in model.items()},
    }
    assert cli.main(["recognize", "fit", *(f"--{name}={value}" for name, value in settings.items())]) == 0
    return folder / "run"


def copy_run(run: Path, target: Path, exported: bool = True) -> Path:
    """Copy a run, with or without what was exported."""
    left_out = () if exported else ("export",)
    return shutil.copytree(run, target, ignore=shutil.ignore_patterns(*left_out))
