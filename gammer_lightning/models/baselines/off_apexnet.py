"""OFF-ApexNet: a small CNN for each of the flow's two directions, joined by wide fully connected layers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gammer_lightning.models.baselines.phases import MAPS, num_phases
from gammer_lightning.models.recognizer import Recognizer, check_shape


class OffApexNet(Recognizer):
    """Optical Flow Features from Apex frame Network, on the flow from onset to apex; the strain is not used.

    It has 2,664,475 parameters for three classes.

    Args:
        num_classes: Number of classes K.
        input_shape: ``(3, 28, 28)``: u, v and strain; or ``(6, 28, 28)`` of two phases.

    Raises:
        GammerError: If the input has another shape.

    Source: Gan et al., OFF-ApexNet on micro-expression recognition system, Signal Processing: Image Communication 74,
    2019: two streams of two 5 x 5 convolutions with 6 and 16 filters, two layers of 1,024.
    """

    inputs = ("flow", "two_phase_flow")
    cpu_chunk = 1

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        phases = num_phases(input_shape)
        check_shape(self, input_shape, (MAPS * phases, 28, 28), "data.size 28")
        self.across = _stream(phases)
        self.down = _stream(phases)
        self.layers = nn.Sequential(
            nn.Linear(2 * 16 * 7 * 7, 1024),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(1024, 1024),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(1024, num_classes),
        )

    def forward(self, flow: Tensor) -> Tensor:
        """Classify clips by the flow ``(B, 3 or 6, 28, 28)``: logits ``(B, K)``."""
        streams = self.across(flow[:, ::MAPS]), self.down(flow[:, 1::MAPS])
        return self.layers(torch.cat(streams, 1).flatten(1))


def _stream(phases: int) -> nn.Sequential:
    """Map ``(B, phases, 28, 28)`` to ``(B, 16, 7, 7)``."""
    return nn.Sequential(
        nn.Conv2d(phases, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
