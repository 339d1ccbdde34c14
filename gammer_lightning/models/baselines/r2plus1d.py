"""R(2+1)D-18 on a sequence of frames."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.video import r2plus1d_18

from gammer_lightning.models.baselines.constant_norm import ConstantNorm
from gammer_lightning.models.recognizer import SEQUENCE, Recognizer, check_shape, check_side

KINETICS_MEAN, KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


class R2Plus1D(Recognizer):
    """R(2+1)D-18: a ResNet-18 of a clip whose convolutions first see each frame, then a pixel over time.

    It is shown whole frames, normalised as those of Kinetics. 31,301,664 parameters for three classes. They have the
    names of torchvision's r2plus1d_18, so that ``model.weights`` takes pretrained ones from its file. Batch
    normalisation has constant statistics, those of that file, or 0 and 1 without one: see
    `gammer_lightning.models.baselines.constant_norm.ConstantNorm`.

    Args:
        num_classes: Number of classes K.
        input_shape: ``(10, 3, S, S)`` with S a multiple of 16; 112 in MEB.

    Raises:
        GammerError: If the input has another shape.

    Source: Tran et al., A closer look at spatiotemporal convolutions for action recognition, CVPR 2018; on
    micro-expressions as in MEB, github.com/tvaranka/meb, with 8 frames there.
    """

    inputs = ("sequence",)
    can_be_stacked = False

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        check_shape(self, input_shape, (SEQUENCE, 3, None, None), "data.input sequence, data.size 112")
        check_side(self, input_shape, multiple=16, least=16, usual=112)
        video_resnet = r2plus1d_18(num_classes=num_classes)
        _hold_statistics(video_resnet)
        for name, module in video_resnet.named_children():
            self.add_module(name, module)

    def forward(self, sequence: Tensor) -> Tensor:
        """Map frames in [-1, 1] ``(B, 10, 3, S, S)`` to logits ``(B, K)``."""
        mean, std = (sequence.new_tensor(values)[:, None, None] for values in (KINETICS_MEAN, KINETICS_STD))
        x = ((sequence + 1) / 2 - mean) / std
        x = x.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
        *features, classifier = self.children()  # from stem to avgpool, and fc
        for module in features:
            x = module(x)
        return classifier(x.flatten(1))


def _hold_statistics(module: nn.Module) -> None:
    """Replace every batch normalisation below a module by one of constant statistics."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm3d):
            setattr(module, name, ConstantNorm(child.num_features))
        else:
            _hold_statistics(child)
