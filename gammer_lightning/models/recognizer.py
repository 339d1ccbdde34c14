"""What every network that RecognizeTask trains has in common, and where each is found by its name."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from gammer_lightning.errors import GammerError

SEQUENCE = 10
"""Frames of a ``"sequence"``, as many as LBP-TOP's usual interpolation in time gives."""
UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 18, 20, 23, 24, 25, 26, 38)
"""Action units that networks may be told of: those that CASME II and SAMM annotate in more than a clip or two."""


class Recognizer(nn.Module):
    """A network from what it is shown of a clip to a class.

    Built as ``Network(num_classes, input_shape)``, where the shape is that of one clip; `GamMer` has settings of its
    own. It has no batch statistics and no state but parameters, so that folds cannot act on each other and
    `torch.func` can stack many of them.

    Attributes:
        inputs: What ``data.input`` may be.
        cpu_chunk: Members that run at once on a CPU, where larger chunks outgrow its caches (measured).
        can_be_stacked: Whether several members run at once under vmap; else they train in turn.
        has_own_loss: Whether ``forward(input, action_units)``, as it is called in training, returns logits ``(B, K)``
            and a further loss of each clip ``(B,)``; in evaluation it is ``forward(input)``, and returns logits alone.
        needs_action_units: Whether a data set has to be annotated with action units; `see_action_units` is then
            called before training.
        is_fitted: Whether `fit` finds the weights from all of a fold's own training clips at once, instead of steps
            along a gradient.
        keeps_clips: Whether its weights hold its training clips. It is then built as ``Network(num_classes,
            input_shape, num_clips)``, with the number of all clips of the data, held-out ones among them.
    """

    inputs: Sequence[str] = ()
    cpu_chunk = 1
    can_be_stacked = True
    has_own_loss = False
    needs_action_units = False
    is_fitted = False
    keeps_clips = False

    def fit(self, inputs: Tensor, labels: np.ndarray, subjects: np.ndarray, seed: int) -> None:
        """Find the weights of a network that `is_fitted` from all of a fold's own training clips.

        Args:
            inputs: ``(n, ...)``, on the CPU.
            labels: Class of each clip, int ``(n,)``, or 1 or 0 for each action unit of each clip ``(n, K)``.
            subjects: Subject of each clip ``(n,)``.
            seed: Decides whatever is drawn.
        """
        raise NotImplementedError

    def see_action_units(self, action_units: Tensor) -> None:
        """Take statistics of a fold's own training clips, kept in parameters without gradient.

        Args:
            action_units: 1 where a unit of `UNITS` is annotated, else 0, ``(n, U)``.
        """


def check_shape(network: nn.Module, given: Sequence[int], takes: Sequence[int | None], setting: str) -> None:
    """Refuse the shape of a clip's input that a network is not made for.

    Args:
        network: The network, for the message.
        given: The shape of one clip's input.
        takes: The shape that it takes, None where any length will do.
        setting: The setting that gives it, e.g. ``"data.size 28"``.

    Raises:
        GammerError: If they differ.
    """
    fits = len(given) == len(takes) and all(want in (None, have) for have, want in zip(given, takes, strict=True))
    if not fits:
        expected = "x".join("any" if length is None else str(length) for length in takes)
        raise GammerError(
            f"{type(network).__name__} is shown {'x'.join(map(str, given))}", f"it takes {expected}", f"set {setting}"
        )


def check_side(network: nn.Module, given: Sequence[int], multiple: int, least: int, usual: int) -> int:
    """Return the side of square images that a network is shown, px.

    Args:
        network: The network, for the message.
        given: The shape of one clip's input, height and width last.
        multiple: What the side has to be a multiple of.
        least: The smallest side.
        usual: The side to suggest.

    Raises:
        GammerError: If the side is none that the network takes.
    """
    side = given[-1]
    if side % multiple or side < least:
        raise GammerError(
            f"{type(network).__name__} is shown {side} px",
            f"it takes a multiple of {multiple} px, from {least} on",
            f"set data.size {usual}",
        )
    return side


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable values."""
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
