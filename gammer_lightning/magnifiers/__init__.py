"""Magnifiers behind one callable: ``magnifier(onset, apex, alphas)``.

``onset`` and ``apex`` are float tensors ``(B, 3, H, W)`` in [0, 1] on one device, ``alphas`` magnification factors;
the result is ``(A, B, 3, H, W)`` in [0, 1]. alpha 0 is the onset, 1 the apex, above 1 magnified.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from gammer_lightning.errors import GammerError
from gammer_lightning.magnifiers.alphas import check_alphas
from gammer_lightning.magnifiers.eulerian import Eulerian
from gammer_lightning.magnifiers.st_memm import SHIPPED, load_st_memm

__all__ = ["Magnifier", "check_alphas", "load_magnifier"]


class Magnifier(Protocol):
    """What `load_magnifier` returns: a module that magnifies pairs of frames.

    Attributes:
        name: What it was loaded as.
        fingerprint: SHA-256 (hex) of all that decides its pixels; names its entries in caches.
    """

    name: str
    fingerprint: str

    def __call__(self, onset: Tensor, apex: Tensor, alphas: Sequence[float]) -> Tensor:
        """Magnify pairs; see the head of this file."""
        ...


class Unmagnified(nn.Module):
    """The apex itself at every alpha: what recognition does without magnification."""

    name, fingerprint = "none", "none 1"

    def forward(self, onset: Tensor, apex: Tensor, alphas: Sequence[float]) -> Tensor:
        """Repeat the apex for each alpha."""
        return apex.expand(len(check_alphas(alphas)), *apex.shape).clone()


def load_magnifier(name_or_path: str) -> Magnifier:
    """Load a magnifier.

    Args:
        name_or_path: "st-memm-small" (the shipped weights), "eulerian", "none", a run folder of `gammer magnify fit`,
            or a checkpoint (.ckpt, .safetensors).

    Raises:
        GammerError: There is no such magnifier, or its checkpoint cannot be used.
    """
    if name_or_path == "none":
        return Unmagnified()
    if name_or_path == "eulerian":
        return Eulerian()
    if name_or_path == SHIPPED or Path(name_or_path).exists():
        return load_st_memm(name_or_path)
    raise GammerError(
        f"unknown magnifier {name_or_path!r}",
        f"it is one of {SHIPPED}, eulerian, none, or the path of a run folder or checkpoint, and no file has that path",
        f"use {SHIPPED}, or train one: gammer magnify fit -c experiments/magnify_small.yaml",
    )
