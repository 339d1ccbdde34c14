"""SSSNet: two layers of convolutions over flow and strain; it leads on real recordings."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gammer_lightning.models.baselines.phases import MAPS, num_phases
from gammer_lightning.models.recognizer import Recognizer, check_shape

SIZE = 64
"""Side of the face, px."""
HIDDEN = (32, 64, 256)
"""Filters of the two convolutions, and features of the fully connected layer."""


class SSSNet(Recognizer):
    """Shallow Single Stream network, on the flow from onset to apex and its strain.

    It is not Khor's `gammer_lightning.models.baselines.sssn.SSSN`. It has 1,349,251 parameters for three classes.

    Args:
        num_classes: Number of classes K.
        input_shape: ``(3, 64, 64)``: u, v and strain; or ``(6, 64, 64)`` of two phases.

    Raises:
        GammerError: If the input has another shape.

    Source: Varanka, Peng and Zhao, Micro-expression recognition with noisy labels, IS&T Electronic Imaging 2021, and
    the authors' code, github.com/tvaranka/meb: both convolutions without a border, then ReLU, maximum pooling,
    normalisation, dropout of whole channels. Group normalisation (one group) takes the place of batch normalisation.
    """

    inputs = ("flow", "two_phase_flow")

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        channels = MAPS * num_phases(input_shape)
        check_shape(self, input_shape, (channels, SIZE, SIZE), f"data.size {SIZE}")
        first, second, features = HIDDEN
        self.conv1 = nn.Conv2d(channels, first, 5)
        self.norm1 = nn.GroupNorm(1, first)
        self.conv2 = nn.Conv2d(first, second, 3)
        self.norm2 = nn.GroupNorm(1, second)
        self.dropout2d = nn.Dropout2d(0.5)
        self.features = nn.Linear(second * 9 * 9, features)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(features, num_classes)

    def forward(self, flow: Tensor) -> Tensor:
        """Classify clips by the flow ``(B, 3 or 6, 64, 64)``: logits ``(B, K)``."""
        flow = flow.contiguous(memory_format=torch.channels_last)  # in which a CPU pools several times as fast
        x = F.max_pool2d(F.relu(self.conv1(flow)), 3)
        x = self.dropout2d(self.norm1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = self.dropout2d(self.norm2(x))
        x = F.relu(self.features(x.flatten(1)))
        return self.classifier(self.dropout(x))
