"""Values that settings and options may have, ranges of numbers and choices, and their checks."""

from collections.abc import Sequence
from typing import Any

from gammer_lightning.errors import GammerError

MAX_SEED = 2**32 - 1
"""The largest seed that NumPy, torch and scikit-learn all take."""


MAX_WORKERS = 256


MAX_COUNT = 10**9


MAX_FACTOR = 1e6
"""The largest weight of a loss, learning rate and the like; what is larger overflows in single precision."""


def check_range(name: str, value: Any, low: float, high: float, *, above: bool = False) -> None:
    """Refuse a number out of range, NaN and infinity among them.

    Args:
        name: The setting, e.g. ``"data.batch_size"``.
        value: Its value.
        low: The lowest value.
        high: The highest value, which is finite.
        above: Whether ``low`` itself is refused.

    Raises:
        GammerError: Naming the setting, the value and the range.
    """
    if not low <= value <= high or (above and value == low):
        begin = f"above {low:,}" if above else f"from {low:,}"
        raise GammerError(f"{name} is {value}", f"it is a number {begin} to {high:,}", f"change {name}")


def check_seed(name: str, value: int) -> None:
    """Refuse a seed that NumPy or torch would not take.

    Raises:
        GammerError: Naming the setting.
    """
    check_range(name, value, 0, MAX_SEED)


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        GammerError: Naming the setting, the value and the choices.
    """
    if value not in choices:
        raise GammerError(f"{name} is {value!r}", f"it is one of {', '.join(choices)}", f"set {name} to one of them")
