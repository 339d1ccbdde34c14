"""Graph-TCN: temporal convolutions along the landmarks, of their patches and of how neighbours differ."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gammer_lightning.faces.graph import REGIONS
from gammer_lightning.models.recognizer import Recognizer, check_shape

BROWS, MOUTH = REGIONS["brows"], REGIONS["mouth"]
INNER_CORNERS = (60, 64)
"""Of the lips: they lie upon the outer corners 48 and 54."""
PATCH = 7


class ResidualBlock(nn.Module):
    """Two causal dilated convolutions and a shortcut, along a sequence.

    Convolutions are matrix products over windows: stacked over many networks a convolution becomes a grouped one,
    which is slow on a CPU.

    Args:
        channels: Features of a step.
        width: Features of a step of the output.
        dilation: Distance between the steps that a convolution sees.
        kernel: Number of steps that a convolution sees, the last one its own.
        dropout: Probability with which a feature is dropped after each convolution.

    Source: Bai, Kolter and Koltun, An empirical evaluation of generic convolutional and recurrent networks for
    sequence modeling, 2018, Fig. 1; without weight normalisation.
    """

    def __init__(self, channels: int, width: int, dilation: int, kernel: int = 7, dropout: float = 0.5):
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.conv1, self.conv2 = nn.Linear(kernel * channels, width), nn.Linear(kernel * width, width)
        self.shortcut = nn.Linear(channels, width) if channels != width else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map sequences ``(B, L, channels)`` to ``(B, L, width)``."""
        hidden = self.dropout(F.relu(self.conv1(self._windows(x))))
        hidden = self.dropout(F.relu(self.conv2(self._windows(hidden))))
        return F.relu(hidden + self.shortcut(x))

    def _windows(self, x: Tensor) -> Tensor:
        """Return each step with those that the convolution sees before it, zero before the first."""
        padded = F.pad(x, (0, 0, (self.kernel - 1) * self.dilation, 0))
        steps = range(0, self.kernel * self.dilation, self.dilation)
        return torch.cat([padded[:, start : start + x.shape[1]] for start in steps], -1)


class GraphTCN(Recognizer):
    """Graph temporal convolutional network over patches at brows and mouth, 62 k parameters for five classes.

    Both streams run along the 28 landmarks and give 25 features of each. The node stream sees the 49 pixels of each
    patch, in four blocks whose dilation doubles; the edge stream sees how each patch differs from that of the
    landmark before it, in one block.

    Args:
        num_classes: Number of classes K.
        input_shape: ``(68, 3, 7, 7)``.

    Raises:
        GammerError: If the input has another shape.

    Source: Lei et al., A novel Graph-TCN with a graph structured representation for micro-expression recognition,
    ACM MM 2020; no number of parameters was found. Kernel, width, blocks and dropout are the defaults left in a
    later public script of the authors (raying777/FGRMER); which 28 landmarks, their order and what an edge is are our
    reading.
    """

    inputs = ("apex", "difference")
    cpu_chunk = 13

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        check_shape(self, input_shape, (68, 3, PATCH, PATCH), "data.patch_size 7")
        self.nodes = [node for node in (*BROWS, *MOUTH) if node not in INNER_CORNERS]
        pixels, width = PATCH * PATCH, 25
        self.node_stream = nn.Sequential(
            ResidualBlock(pixels, width, 1), *[ResidualBlock(width, width, dilation) for dilation in (2, 4, 8)]
        )
        self.edge_stream = ResidualBlock(pixels, width, 1)
        self.classifier = nn.Linear(2 * len(self.nodes) * width, num_classes)

    def forward(self, patches: Tensor) -> Tensor:
        """Classify patches ``(B, 68, 3, 7, 7)``: logits ``(B, K)``."""
        nodes = shape_features(patches[:, self.nodes]).flatten(2)
        edges = nodes - nodes.roll(1, 1)
        return self.classifier(torch.cat([self.node_stream(nodes), self.edge_stream(edges)], -1).flatten(1))


def shape_features(patches: Tensor) -> Tensor:
    """Return the structure of patches without their tone: ``(B, N, P, P)`` of mean 0 each, and variance 1 together.

    It stands for the shape features of the papers' magnification network, which are trained to ignore texture.

    Args:
        patches: ``(B, N, 3, P, P)``.
    """
    grey = patches.mean(2)
    grey = grey - grey.mean((2, 3), keepdim=True)
    return grey / grey.std((1, 2, 3), keepdim=True).clamp_min(1e-6)
