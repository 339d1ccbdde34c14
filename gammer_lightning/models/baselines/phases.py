"""What networks of flow of one phase or of two have in common."""

from collections.abc import Sequence

MAPS = 3
"""Maps of a phase: u, v and strain."""


def num_phases(input_shape: Sequence[int]) -> int:
    """Return 2 for flow of two phases ``(6, S, S)``, onset to apex and apex to offset; else 1."""
    return 2 if input_shape[0] == 2 * MAPS else 1
