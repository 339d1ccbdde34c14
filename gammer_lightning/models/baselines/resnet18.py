"""ResNet-18 on optical flow."""

from collections.abc import Sequence

import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor

from gammer_lightning.models.baselines.constant_norm import ConstantNorm
from gammer_lightning.models.baselines.phases import MAPS, num_phases
from gammer_lightning.models.recognizer import Recognizer, check_shape, check_side


class ResNet18(Recognizer):
    """ResNet-18 on the flow from onset to apex and its strain, which stand for the colours.

    11,178,051 parameters for three classes. They have the names of timm's and torchvision's resnet18, so that
    ``model.weights`` takes pretrained ones from either's file. Batch normalisation has constant statistics, those of
    that file, or 0 and 1 without one: see `gammer_lightning.models.baselines.constant_norm.ConstantNorm`.

    Args:
        num_classes: Number of classes K.
        input_shape: ``(3, S, S)``: u, v and strain; or ``(6, S, S)`` of two phases, for which the first convolution
            starts at random, also with pretrained weights. S is a multiple of 16, from 32 on; 112 in MEB.

    Raises:
        GammerError: If the input has another shape.

    Source: He et al., Deep residual learning for image recognition, CVPR 2016; on flow of micro-expressions as in MEB,
    github.com/tvaranka/meb.
    """

    inputs = ("flow", "two_phase_flow")
    can_be_stacked = False

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        channels = MAPS * num_phases(input_shape)
        check_shape(self, input_shape, (channels, None, None), "data.input flow, data.size 112")
        check_side(self, input_shape, multiple=16, least=32, usual=112)
        # timm annotates the block as an object of the class that it takes
        resnet = ResNet(
            BasicBlock,  # type: ignore[arg-type]
            (2, 2, 2, 2),
            num_classes=num_classes,
            in_chans=channels,
            norm_layer=ConstantNorm,
            zero_init_last=False,
        )
        for name, module in resnet.named_children():
            self.add_module(name, module)

    def forward(self, flow: Tensor) -> Tensor:
        """Classify clips by the flow ``(B, 3 or 6, S, S)``: logits ``(B, K)``."""
        x = flow.contiguous(memory_format=torch.channels_last)
        for module in self.children():  # from conv1 to fc
            x = module(x)
        return x
