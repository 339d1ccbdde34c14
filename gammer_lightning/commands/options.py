"""Types of command-line options: numbers within bounds, refused with the bounds before anything is read."""

import argparse
import math
import os
from collections.abc import Callable


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return the type of a whole number from ``least`` to ``most``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]!r}: a whole number from {least} to {most}")
        return value

    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    """Return the type of a finite number from ``least`` to ``most``."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]!r}: a number from {least:g} to {most:g}")
        return value

    return parse


def workers(text: str) -> int:
    """Parse a number of processes: at most four for each core."""
    cores = os.cpu_count() or 1
    try:
        return whole(0, 4 * cores)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, four for each of this machine's {cores} cores") from None


MOST_SIDE, LEAST_ALPHA, MOST_ALPHA = 4096, 0, 1000
