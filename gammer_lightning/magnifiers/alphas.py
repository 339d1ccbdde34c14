"""Magnification factors: what every magnifier accepts."""

import math
from collections.abc import Sequence

from gammer_lightning.errors import GammerError


def check_alphas(alphas: Sequence[float]) -> tuple[float, ...]:
    """Return magnification factors as floats.

    Raises:
        GammerError: One of them is no finite number or negative, or there is none.
    """
    try:
        numbers = tuple(float(alpha) for alpha in alphas)
    except (TypeError, ValueError):
        numbers = (math.nan,)
    if not numbers or not all(math.isfinite(alpha) and alpha >= 0 for alpha in numbers):
        raise GammerError(
            f"alphas {alphas}",
            "magnification factors are finite numbers, at least 0: 0 is the onset, 1 the apex",
            "for example 5 10",
        )
    return numbers
