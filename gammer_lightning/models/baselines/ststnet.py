"""STSTNet: one layer of convolutions over flow and strain, the smallest system that GAM-MER is compared with."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gammer_lightning.models.baselines.phases import MAPS, num_phases
from gammer_lightning.models.recognizer import Recognizer, check_shape

STREAMS = (3, 5, 8)
"""Filters of the three streams."""


class STSTNet(Recognizer):
    """Shallow Triple Stream Three-dimensional CNN, on the flow from onset to apex and its strain.

    All three streams are shown all of u, v and strain and end alike, so they are one convolution with the filters of
    the three. For three classes it has 1,667 parameters: 432 of the convolution, which needs no bias before a
    normalisation, 32 of the normalisation, 1,203 of the classifier. Published are .00167 million; the authors' code,
    with 16 biases, has 1,683.

    Args:
        num_classes: Number of classes K.
        input_shape: ``(3, 28, 28)``: u, v and strain; or ``(6, 28, 28)`` of two phases.

    Raises:
        GammerError: If the input has another shape.

    Source: Liong et al., Shallow triple stream three-dimensional CNN (STSTNet) for micro-expression recognition,
    FG 2019, and the authors' code. Group normalisation, of what is pooled, takes the place of batch normalisation.
    """

    inputs = ("flow", "two_phase_flow")

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        channels = MAPS * num_phases(input_shape)
        check_shape(self, input_shape, (channels, 28, 28), "data.size 28")
        self.streams = nn.Conv2d(channels, sum(STREAMS), 3, padding=2, bias=False)
        self.norm = nn.GroupNorm(1, sum(STREAMS))
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(sum(STREAMS) * 5 * 5, num_classes)

    def forward(self, flow: Tensor) -> Tensor:
        """Classify clips by flow and strain ``(B, 3 or 6, 28, 28)``: logits ``(B, K)``."""
        flow = flow.contiguous(memory_format=torch.channels_last)  # in which a CPU pools several times as fast
        x = F.relu(self.norm(F.max_pool2d(self.streams(flow), 3)))
        return self.classifier(F.avg_pool2d(self.dropout(x), 2).flatten(1))
