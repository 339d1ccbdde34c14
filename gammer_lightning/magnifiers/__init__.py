"""Magnifiers behind one callable: ``magnifier(onset, apex, alphas)``.

``onset`` and ``apex`` are float tensors ``(B, 3, H, W)`` in [0, 1] on one device, ``alphas`` magnification factors;
the result is ``(A, B, 3, H, W)`` in [0, 1]. alpha 0 is the onset, 1 the apex, above 1 magnified.

`magnify_clip` magnifies whole clips, against their first frame or, where the magnifier has a temporal filter
(`TemporalMagnifier`), only what moves in a band of frequencies.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gammer_lightning.errors import GammerError
from gammer_lightning.magnifiers.base import Magnifier, TemporalMagnifier
from gammer_lightning.magnifiers.checks import check_alphas, check_pair
from gammer_lightning.magnifiers.eulerian import Eulerian
from gammer_lightning.magnifiers.lagrangian import Lagrangian
from gammer_lightning.magnifiers.phase import Phase
from gammer_lightning.magnifiers.trained import SHIPPED, load_trained

__all__ = ["Magnifier", "TemporalMagnifier", "check_alphas", "load_magnifier", "magnify_band", "magnify_clip"]


class Unmagnified(Magnifier):
    """The apex itself at every alpha: what recognition does without magnification."""

    name = "none"
    fingerprint = "none 1"

    def forward(self, onset: Tensor, apex: Tensor, alphas: Sequence[float]) -> Tensor:
        """Repeat the apex for each alpha."""
        check_pair(onset, apex)
        return apex.expand(len(check_alphas(alphas)), *apex.shape).clone()


UNTRAINED: dict[str, type[Magnifier]] = {module.name: module for module in (Eulerian, Phase, Lagrangian, Unmagnified)}
"""The magnifiers without trained weights by their names."""


def load_magnifier(name_or_path: str) -> Magnifier:
    """Load a magnifier.

    Args:
        name_or_path: "st-memm-small" (the shipped weights), "eulerian", "phase", "lagrangian", "none", a run folder of
            `gammer magnify fit`, or a checkpoint (.ckpt, .safetensors).

    Raises:
        GammerError: There is no such magnifier, or its checkpoint cannot be used.
    """
    if name_or_path in UNTRAINED:
        return UNTRAINED[name_or_path]()
    if name_or_path == SHIPPED or Path(name_or_path).exists():
        return load_trained(name_or_path)
    names = ", ".join([SHIPPED, *UNTRAINED])
    raise GammerError(
        f"unknown magnifier {name_or_path!r}",
        f"it is one of {names}, or the path of a run folder or checkpoint, and no file has that path",
        f"use {SHIPPED}, or train one: gammer magnify fit -c experiments/magnify_small.yaml, or magnify_magnet.yaml",
    )


def magnify_band(
    magnifier: Magnifier, frames: Iterable[Tensor], alpha: float, fps: float, band: tuple[float, float]
) -> Iterator[Tensor]:
    """Magnify what moves in a band of frequencies, frame for frame, in memory that does not grow.

    Args:
        magnifier: A `TemporalMagnifier`.
        frames: Frames ``(B, 3, H, W)`` in [0, 1].
        alpha: Magnification factor: 0 takes the motion of the band away, 1 changes nothing.
        fps: Frames a second.
        band: Lower and upper cut-off in Hz (see `BandPass`).

    Yields:
        As many frames.

    Raises:
        GammerError: The magnifier has no temporal filter, or the band or alpha is out of range.
    """
    (alpha,) = check_alphas([alpha])
    if not isinstance(magnifier, TemporalMagnifier):
        temporal = [name for name, module in UNTRAINED.items() if issubclass(module, TemporalMagnifier)]
        raise GammerError(
            f"the magnifier {magnifier.name} has no temporal filter",
            f"a band of frequencies is magnified by {' and '.join(temporal)}",
            "leave the band out, or choose one of these",
        )
    return magnifier.stream(frames, alpha, fps, band)


@torch.inference_mode()
def magnify_clip(
    magnifier: Magnifier, frames: Tensor, alpha: float, fps: float, band: tuple[float, float] | None = None
) -> Tensor:
    """Magnify a clip.

    Args:
        magnifier: As `load_magnifier` returns it.
        frames: ``(T, 3, H, W)`` in [0, 1].
        alpha: Magnification factor.
        fps: Frames a second; used with a band.
        band: None: each frame is magnified against the first, as the apex of a pair. Else the frequencies, in Hz, whose
            motion is magnified (see `magnify_band`).

    Returns:
        ``(T, 3, H, W)`` in [0, 1].

    Raises:
        GammerError: As `magnify_band`, or the frames cannot be magnified.
    """
    singles = frames.split(1)
    if band is None:
        return torch.cat([magnifier(singles[0], frame, [alpha])[0] for frame in singles])
    return torch.cat(list(magnify_band(magnifier, singles, alpha, fps, band)))
