"""AU-GACN: a graph of action units, each seen in its region of the face and learned beside the class."""

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gammer_lightning.faces.graph import MEAN_FACE
from gammer_lightning.models.gam_mer import GraphAttention
from gammer_lightning.models.recognizer import UNITS, Recognizer, check_shape

SIZE, WINDOW = 28, 7
"""Sides of the flow map and of a region, which is .64 IOD wide."""
CELLS_PER_IOD, BETWEEN_EYES = 100 * SIZE / 256, (128 * SIZE / 256, 52 * SIZE / 256)
"""Where a face lies in the map (see `gammer_lightning.faces.alignment`)."""
LANDMARKS = {
    1: (20, 21), 2: (17, 19), 4: (20, 21), 5: (37, 38), 6: (36, 48), 7: (40, 41), 9: (27, 31), 10: (31, 50),
    12: (48, 48), 14: (48, 48), 15: (48, 48), 16: (58, 58), 17: (58, 7), 18: (49, 59), 20: (48, 48), 23: (49, 59),
    24: (49, 59), 25: (61, 67), 26: (58, 7), 38: (31, 31),
}  # fmt: skip
"""For each unit two landmarks of the face's right side. Its regions lie midway between them on a mean face, and at the
mirror image; our choice, after FACS's account of what each unit moves."""


class Pooling(nn.Module):
    """Self-attention pooling: nodes are scored over the graph, and the best ones stay, weighted by their score.

    The others are marked instead of removed, so that all clips keep the same shape.

    Args:
        width: Features of a node.
        kept: Number of nodes that stay.

    Source: Lee, Lee and Kang, Self-attention graph pooling, ICML 2019.
    """

    def __init__(self, width: int, kept: int):
        super().__init__()
        self.score, self.kept = GraphAttention(width, 1), kept

    def forward(self, x: Tensor, graph: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        """Pool nodes ``(B, N, width)`` that are alive, bool ``(B, N)``: return both anew."""
        score = self.score(x, graph)[..., 0].masked_fill(~alive, -math.inf)
        stays = score >= score.topk(self.kept).values[:, -1:]
        gate = score.masked_fill(~stays, 0).tanh()
        return x * gate[..., None], stays


class AuGacn(Recognizer):
    """Action unit graph attention convolutional network, 195 k parameters for five classes.

    Nodes are the U units of `UNITS`. Each has weights of its own over its two regions of the flow, and a logit that
    learns whether it is shown. Three blocks follow: graph attention, to which the logarithm of how often two units
    occur together is added, and pooling to four fifths of the nodes. The mean and the maximum over the nodes that
    stay are summed over the blocks, and classified.

    Args:
        num_classes: Number of classes K.
        input_shape: ``(3, 28, 28)``.

    Raises:
        GammerError: If the input has another shape.

    Source: Xie et al., AU-assisted graph attention convolutional network for micro-expression recognition, ACM MM
    2020. Regions of the flow replace its 3-D convolutions over all frames, and the clips that it generates for
    training (AU-ICGAN) are left out. No number of parameters
    or code was found; widths, blocks and pooling ratio are our choice.
    """

    inputs = ("flow",)
    cpu_chunk = 13
    has_own_loss = True
    needs_action_units = True
    cells: Tensor
    width, heads, blocks = 32, 4, 3

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        check_shape(self, input_shape, (3, SIZE, SIZE), f"data.size {SIZE}")
        units, width = len(UNITS), self.width
        self.register_buffer("cells", torch.from_numpy(_regions()), persistent=False)
        patch_values = 3 * 2 * WINDOW * WINDOW
        self.extract = nn.Parameter(torch.randn(units, patch_values, width) / patch_values**0.5)
        self.bias = nn.Parameter(torch.zeros(units, width))
        self.detect = nn.Linear(width, 1)
        self.co_occurrence = nn.Parameter(torch.eye(units), requires_grad=False)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(self.blocks))
        self.layers = nn.ModuleList(GraphAttention(width, width // self.heads, self.heads) for _ in range(self.blocks))
        self.pool_sizes = [math.ceil(units * 0.8 ** (block + 1)) for block in range(self.blocks)]
        self.pools = nn.ModuleList(Pooling(width, size) for size in self.pool_sizes)
        hidden = [nn.Linear(2 * width, width), nn.ReLU(), nn.Dropout(0.5)]
        self.classifier = nn.Sequential(*hidden, nn.Linear(width, num_classes))

    def see_action_units(self, action_units: Tensor) -> None:
        """Take how often units occur together in the clips ``(n, U)``."""
        self.co_occurrence.data.copy_(co_occurrence(action_units))

    def forward(self, flow: Tensor, action_units: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Classify clips.

        Args:
            flow: Flow and strain ``(B, 3, 28, 28)``.
            action_units: In training, 1 where a unit is annotated, else 0, ``(B, U)``.

        Returns:
            Logits ``(B, K)``; in training with each clip's mean binary cross-entropy over the units ``(B,)``.
        """
        patches = flow.flatten(2)[:, :, self.cells].movedim(1, 2).flatten(2)
        x = F.relu((patches.transpose(0, 1) @ self.extract).transpose(0, 1) + self.bias)
        logits = self.classifier(self._readouts(x))
        if action_units is None:
            return logits
        detected = self.detect(x)[..., 0]
        return logits, F.binary_cross_entropy_with_logits(detected, action_units, reduction="none").mean(1)

    def _readouts(self, x: Tensor) -> Tensor:
        """Return the sum over blocks of what the nodes that stay have in common ``(B, 2 * width)``."""
        alive = torch.ones_like(x[..., 0], dtype=torch.bool)
        readouts = []
        for norm, layer, pool, size in zip(self.norms, self.layers, self.pools, self.pool_sizes, strict=True):
            x = x + F.elu(layer(norm(x), self._among(alive)))
            x, alive = pool(x, self._among(alive), alive)
            mean = x.sum(1) / size
            largest = x.masked_fill(~alive[..., None], -math.inf).amax(1)
            readouts.append(torch.cat([mean, largest], -1))
        return reduce(torch.add, readouts)

    def _among(self, alive: Tensor) -> Tensor:
        """Return the graph of each clip's nodes that are alive ``(B, 1, U, U)``."""
        return self.co_occurrence * alive[:, None, None]


def co_occurrence(action_units: Tensor) -> Tensor:
    """Return the share of the clips with unit i that also have unit j ``(U, U)``; 1 on the diagonal.

    Args:
        action_units: 1 or 0 ``(n, U)``.
    """
    together = action_units.mT @ action_units
    return (together / together.diagonal().clamp_min(1)[:, None]).fill_diagonal_(1)


def _regions() -> np.ndarray:
    """Return the cells of the map in both regions of each unit, int64 ``(U, 2 * 7 * 7)``."""
    right = np.array([np.mean([MEAN_FACE[node] for node in LANDMARKS[unit]], 0) for unit in UNITS])
    centres = np.stack([right, right * (-1, 1)], 1) * CELLS_PER_IOD + BETWEEN_EYES
    corners = np.rint(centres - WINDOW / 2).astype(int).clip(0, SIZE - WINDOW)
    span = np.arange(WINDOW)
    cells = (corners[..., 1, None, None] + span[:, None]) * SIZE + corners[..., 0, None, None] + span
    return cells.reshape(len(UNITS), -1)
