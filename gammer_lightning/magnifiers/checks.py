"""What every magnifier accepts: magnification factors, pairs of frames."""

import math
from collections.abc import Sequence

from torch import Tensor

from gammer_lightning.errors import GammerError

MAX_ALPHA = 1000.0
"""The largest magnification factor; the sub-pixel test goes to 250."""


def check_alphas(alphas: Sequence[float]) -> tuple[float, ...]:
    """Return magnification factors as floats.

    Raises:
        GammerError: One of them is no finite number or out of range, or there is none.
    """
    try:
        numbers = tuple(float(alpha) for alpha in alphas)
    except (TypeError, ValueError):
        numbers = (math.nan,)
    if not numbers or not all(0 <= alpha <= MAX_ALPHA for alpha in numbers):
        raise GammerError(
            f"alphas {alphas}",
            f"magnification factors are finite, at least 0 and at most {MAX_ALPHA:g}: 0 is the onset, 1 the apex",
            "for example 5 10",
        )
    return numbers


def check_pair(onset: Tensor, apex: Tensor, smallest: int = 1) -> None:
    """Check that onset and apex are ``(B, 3, H, W)`` of one size, with sides of at least ``smallest`` px.

    Raises:
        GammerError: They are not.
    """
    if onset.shape != apex.shape or onset.ndim != 4 or onset.shape[1] != 3:
        raise GammerError(
            f"an onset of shape {tuple(onset.shape)} and an apex of shape {tuple(apex.shape)}",
            "both are (B, 3, H, W) of one size",
            "scale the frames to one size",
        )
    if min(onset.shape[-2:]) < smallest:
        raise GammerError(
            f"frame of {onset.shape[-1]}x{onset.shape[-2]} px",
            f"sides of at least {smallest} px",
            "enlarge the frames",
        )
