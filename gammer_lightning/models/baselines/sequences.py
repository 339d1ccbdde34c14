"""What networks of a sequence have in common."""

from torch import Tensor

SCALE = 4.0
"""A micro-expression changes few levels of 255."""


def changes(sequence: Tensor) -> Tensor:
    """Return how far each frame of a sequence ``(B, T, C, H, W)`` is from its first one, 4 times over.

    Our choice, so that a network that starts at random need not first learn to see past the face. It is not measured
    against whole frames.
    """
    return SCALE * (sequence - sequence[:, :1])
