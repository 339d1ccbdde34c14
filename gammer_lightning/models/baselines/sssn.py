"""SSSN and DSSN: the first two layers of AlexNet on the flow's magnitude, and on magnitude and strain."""

from collections.abc import Sequence

from torch import Tensor, nn

from gammer_lightning.errors import GammerError
from gammer_lightning.models.recognizer import Recognizer, check_shape

LEAST = 67
"""Side of the smallest face of which AlexNet's strides leave 3 x 3, px."""


class SSSN(Recognizer):
    """Single-Stream Shallow Network, on the magnitude of the flow from onset to apex.

    It has 630,405 parameters for five classes and faces of 227 px, as the authors' code has.

    Args:
        num_classes: Number of classes K.
        input_shape: ``(3, S, S)``: u, v and strain, S of 67 or more.

    Raises:
        GammerError: If the input has another shape.

    Source: Khor et al., Dual-stream shallow networks for facial micro-expression recognition, ICIP 2019, and the
    authors' code.
    """

    inputs = ("flow",)

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        side = _side(self, input_shape)
        self.magnitude = _stream()
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(256 * side**2, num_classes))

    def forward(self, flow: Tensor) -> Tensor:
        """Classify clips by u, v and strain ``(B, 3, S, S)``: logits ``(B, K)``."""
        return self.classifier(self.magnitude(_magnitude(flow)).flatten(1))


class DSSN(Recognizer):
    """Dual-Stream Shallow Network, on the flow's magnitude and strain, whose features are multiplied.

    It has 972,805 parameters for five classes and faces of 227 px, as the authors' code has. Arguments, error and
    source: see `SSSN`.
    """

    inputs = ("flow",)

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        side = _side(self, input_shape)
        self.magnitude = _stream()
        self.strain = _stream()
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(256 * side**2, num_classes))

    def forward(self, flow: Tensor) -> Tensor:
        """Classify clips by u, v and strain ``(B, 3, S, S)``: logits ``(B, K)``."""
        strain = flow[:, 2:].expand(-1, 3, -1, -1)
        features = self.magnitude(_magnitude(flow)) * self.strain(strain)
        return self.classifier(features.flatten(1))


def _magnitude(flow: Tensor) -> Tensor:
    """Return the length of the flow, the same in three channels ``(B, 3, S, S)``, since AlexNet is made for colour."""
    return flow[:, :2].square().sum(1, keepdim=True).sqrt().expand(-1, 3, -1, -1)


def _stream() -> nn.Sequential:
    """AlexNet up to its second pooling, whose border of zeros for a third convolution the authors keep.

    The weights begin as He et al. (ICCV 2015) draw them: smaller ones would vanish where two streams are multiplied.
    Cross-channel normalisation is left out, which for features of this size is a factor of .59.
    """
    stream = nn.Sequential(
        nn.Conv2d(3, 96, 11, stride=4),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.ZeroPad2d(1),
    )
    for layer in stream:
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return stream


def _side(network: nn.Module, input_shape: Sequence[int]) -> int:
    """Return the side of what a stream makes of an input."""
    check_shape(network, input_shape, (3, None, None), "data.input flow")
    size = input_shape[-1]
    if size < LEAST:
        raise GammerError(
            f"{type(network).__name__} is shown {size} px", f"it takes {LEAST} px or more", "set data.size 67"
        )
    first = ((size - 11) // 4 + 1 - 3) // 2 + 1
    return (first - 3) // 2 + 1 + 2
