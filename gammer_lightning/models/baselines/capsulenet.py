"""CapsuleNet on the apex frame: the front of a ResNet-18, primary capsules, and a capsule of each class."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from gammer_lightning.models.baselines.constant_norm import ConstantNorm
from gammer_lightning.models.recognizer import Recognizer, check_shape, check_side

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PRIMARY, CLASS, ROUTINGS = 8, 16, 3
"""Length of a primary capsule, length of a class capsule, iterations of routing."""


class ClassCapsules(nn.Module):
    """A capsule of each class, which primary capsules agree on by routing.

    Args:
        primary: Number of primary capsules N.
        num_classes: Number of classes K.

    Source: Sabour et al., NeurIPS 2017, Procedure 1.
    """

    def __init__(self, primary: int, num_classes: int):
        super().__init__()
        self.weight = nn.Parameter(0.01 * torch.randn(num_classes, primary, CLASS, PRIMARY))

    def forward(self, primary: Tensor) -> Tensor:
        """Map primary capsules ``(B, N, 8)`` to class capsules before they are squashed ``(B, K, 16)``."""
        votes = torch.einsum("bnp,kncp->bknc", primary, self.weight)
        fixed = votes.detach()  # the gradient flows through the last iteration alone
        agreement = fixed.new_zeros(fixed.shape[:3])
        for _ in range(ROUTINGS - 1):
            capsules = squash(_routed(agreement, fixed))
            agreement = agreement + (fixed @ capsules[..., None])[..., 0]
        return _routed(agreement, votes)


def _routed(agreement: Tensor, votes: Tensor) -> Tensor:
    return (agreement.softmax(1)[:, :, None] @ votes)[:, :, 0]


def squash(capsules: Tensor) -> Tensor:
    """Shrink the length l of each capsule ``(..., D)`` to l^2 / (1 + l^2), its direction unchanged."""
    squared = capsules.square().sum(-1, keepdim=True)
    return capsules * squared.clamp_min(1e-12).sqrt() / (1 + squared)


class CapsuleNet(Recognizer):
    """ResNet-18 up to its third stage, two convolutions of 9x9, 32 x 6 x 6 primary capsules, K class capsules.

    13,842,496 parameters for three classes, as those of the authors' own code. As there, the ResNet has no maximum
    pooling, or nothing would be left for two convolutions of 9x9. Its parameters have the names of timm's and
    torchvision's resnet18, so that ``model.weights`` takes pretrained ones from either's file.

    A class is present with the probability l^2 / (1 + l^2), the length of its squashed capsule. The logits are its
    log odds, ln l^2, and are trained by cross-entropy over classes like those of all systems here; the paper's margin
    loss asks for lengths above .99 and below .01 instead.

    Args:
        num_classes: Number of classes K.
        input_shape: ``(1, 3, S, S)`` with S a multiple of 8, from 136 on; 224 in the paper.

    Raises:
        GammerError: If the input has another shape.

    Source: Van Quang, Chun, Tokuyama, "CapsuleNet for Micro-Expression Recognition", FG 2019; sizes of the authors'
    code, github.com/davidnvq/me_recognition.
    """

    inputs = ("image",)
    can_be_stacked = False

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        check_shape(self, input_shape, (1, 3, None, None), "data.input image, data.size 224")
        side = check_side(self, input_shape, multiple=8, least=136, usual=224) // 8 - 8
        # timm annotates the block as an object of the class that it takes
        resnet = ResNet(
            BasicBlock,  # type: ignore[arg-type]
            (2, 2, 2),
            num_classes=0,
            norm_layer=ConstantNorm,
            zero_init_last=False,
        )
        self.conv1, self.bn1 = resnet.conv1, resnet.bn1
        self.layer1 = resnet.get_submodule("layer1")
        self.layer2 = resnet.get_submodule("layer2")
        self.layer3 = resnet.get_submodule("layer3")
        self.local = nn.Conv2d(256, 256, 9)
        self.primary = nn.Conv2d(256, 32 * PRIMARY, 9, stride=2)
        self.capsules = ClassCapsules(32 * ((side - 9) // 2 + 1) ** 2, num_classes)

    def front(self, image: Tensor) -> Tensor:
        """Map frames in [-1, 1] ``(B, 3, S, S)`` to the features of the ResNet ``(B, 256, S / 8, S / 8)``."""
        mean, std = (image.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        x = (((image + 1) / 2 - mean) / std).contiguous(memory_format=torch.channels_last)
        return self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))

    def forward(self, image: Tensor) -> Tensor:
        """Map apex frames in [-1, 1] ``(B, 1, 3, S, S)`` to logits ``(B, K)``."""
        x = self.primary(F.relu(self.local(self.front(image[:, 0]))))
        primary = squash(x.movedim(1, -1).reshape(len(x), -1, PRIMARY).float())
        with torch.autocast(x.device.type, enabled=False):
            return self.capsules(primary).square().sum(-1).clamp_min(1e-30).log()
