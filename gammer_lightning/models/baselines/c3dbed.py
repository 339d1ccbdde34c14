"""C3DBed on a sequence: a 3-D CNN embeds every patch over all frames, and a transformer weighs the patches."""

from collections.abc import Sequence

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from gammer_lightning.models.baselines.sequences import changes
from gammer_lightning.models.recognizer import SEQUENCE, Recognizer, check_shape, check_side

PATCH, WIDTH, DEPTH, HEADS = 8, 256, 4, 8


class PatchEmbedding(nn.Module):
    """3-D convolutions that turn each patch of 8x8 px over ten frames into a vector; patches do not overlap."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(3, 32, (3, 4, 4), (2, 4, 4), (1, 0, 0)),
            nn.GroupNorm(8, 32),
            nn.GELU(),
            nn.Conv3d(32, 128, (3, 2, 2), (2, 2, 2), (1, 0, 0)),
            nn.GroupNorm(8, 128),
            nn.GELU(),
            nn.Conv3d(128, WIDTH, (3, 1, 1)),
        )

    def forward(self, sequence: Tensor) -> Tensor:
        """Map a sequence ``(B, 10, 3, S, S)`` to vectors of its patches ``(B, (S / 8)^2, D)``."""
        x = sequence.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
        return self.layers(x).flatten(2).mT


class C3DBed(Recognizer):
    """3-D convolutional embedding of patches in a transformer of depth 4 and width 256.

    The paper learns how much each local region of the face matters, instead of cropping regions that overlap; here
    that is the attention of the class token. Frames are shown as their `changes` from the first. 3.4 M parameters;
    the paper's sizes could not be looked up.

    Args:
        num_classes: Number of classes K.
        input_shape: ``(10, 3, S, S)`` with S a multiple of 8; 112 in our experiment.

    Raises:
        GammerError: If the input has another shape.

    Source: Pan, Xie, Wang, "C3DBed: Facial micro-expression recognition with three-dimensional convolutional neural
    network embedding in transformer model", Eng. Appl. Artif. Intell. 123, 2023. All sizes are our choice.
    """

    inputs = ("sequence",)
    can_be_stacked = False

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        check_shape(self, input_shape, (SEQUENCE, 3, None, None), "data.input sequence, data.size 112")
        side = check_side(self, input_shape, multiple=PATCH, least=PATCH, usual=112) // PATCH
        self.embedding = PatchEmbedding()
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(0.02 * torch.randn(side * side + 1, WIDTH))
        self.blocks = nn.Sequential(*(Block(WIDTH, HEADS, qkv_bias=True) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)
        self.classifier = nn.Linear(WIDTH, num_classes)

    def forward(self, sequence: Tensor) -> Tensor:
        """Map frames in [-1, 1] ``(B, 10, 3, S, S)`` to logits ``(B, K)``."""
        x = self.embedding(changes(sequence))
        x = torch.cat((self.token.expand(len(x), -1, -1).to(x.dtype), x), 1) + self.positions
        return self.classifier(self.norm(self.blocks(x)[:, 0]))
