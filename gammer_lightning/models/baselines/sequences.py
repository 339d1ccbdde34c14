"""What networks of a sequence have in common."""

from torch import Tensor

SCALE = 4.0
"""A micro-expression changes few levels of 255."""


def changes(sequence: Tensor) -> Tensor:
    """Return how far each frame of a sequence ``(B, T, C, H, W)`` is from its first one, 4 times over.

    Our choice: a face itself is some hundred times as strong as its motion, and a network that starts at random takes
    far longer than we have to see past it.
    """
    return SCALE * (sequence - sequence[:, :1])
