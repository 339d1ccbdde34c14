"""Micron-BERT on onset and apex: one transformer over the patches of both, and attention along the diagonal."""

from collections.abc import Sequence

import torch
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from gammer_lightning.models.recognizer import Recognizer, check_shape, check_side

PATCH, WIDTH, DEPTH, HEADS = 8, 512, 4, 4


class DiagonalMicroAttention(nn.Module):
    """How far each patch of the apex still finds itself at its own place in the onset.

    Of the attention of all patches to all patches only the diagonal is kept: a patch that has changed attends less to
    itself. It is scaled by the number of patches N, so that even attention weighs 1.

    Source: Nguyen et al., CVPR 2023; query, key and value as in the authors' code.
    """

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, onset: Tensor, apex: Tensor) -> Tensor:
        """Weigh the apex's patches ``(B, N, D)`` by their attention to the onset's ``(B, N, D)``."""
        scores = (self.query(apex) @ self.key(onset).mT).float() / WIDTH**0.5
        diagonal = (scores.diagonal(dim1=1, dim2=2) - scores.logsumexp(-1)).exp() * scores.shape[-1]
        return self.out(diagonal[..., None] * self.value(apex))


class PatchesOfInterest(nn.Module):
    """How much each patch matters: the attention of the apex's class token to its patches.

    Source: Nguyen et al., CVPR 2023; the form is our choice, since the authors' code lacks it.
    """

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)

    def forward(self, token: Tensor, patches: Tensor) -> Tensor:
        """Return weights ``(B, 1, N)`` of the patches ``(B, N, D)`` for a token ``(B, 1, D)``."""
        scores = (self.query(token) @ self.key(patches).mT).float() / WIDTH**0.5
        return scores.softmax(-1)


class MicronBert(Recognizer):
    """Transformer of depth 4 and width 512 over patches of 8x8, shared by onset and apex; classified from both.

    14.3 M parameters; the authors' code has 27.5 M, since it counts the decoder of its self-supervised pretraining.
    That pretraining, on CAS(ME)3, is not done here. The decoder, the swapped patches and the contrast of crops belong
    to it and are left out.

    Args:
        num_classes: Number of classes K.
        input_shape: ``(2, 3, S, S)`` with S a multiple of 8; 224 in the paper.

    Raises:
        GammerError: If the input has another shape.

    Source: Nguyen et al., "Micron-BERT: BERT-based Facial Micro-Expression Recognition", CVPR 2023; sizes of the
    authors' code, github.com/uark-cviu/Micron-BERT. How the parts make a class is our choice.
    """

    inputs = ("pair",)
    can_be_stacked = False

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        check_shape(self, input_shape, (2, 3, None, None), "data.input pair, data.size 224")
        side = check_side(self, input_shape, multiple=PATCH, least=PATCH, usual=224) // PATCH
        self.patches = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, WIDTH))
        positions = build_sincos2d_pos_embed([side, side], WIDTH)
        self.positions = nn.Parameter(positions, requires_grad=False)
        self.blocks = nn.Sequential(*(Block(WIDTH, HEADS, qkv_bias=True) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)
        self.diagonal = DiagonalMicroAttention()
        self.interest = PatchesOfInterest()
        self.classifier = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, num_classes))

    def forward(self, pair: Tensor) -> Tensor:
        """Map onset and apex in [-1, 1] ``(B, 2, 3, S, S)`` to logits ``(B, K)``."""
        x = self.patches(pair.flatten(0, 1)).flatten(2).mT + self.positions
        x = torch.cat((self.token.expand(len(x), -1, -1).to(x.dtype), x), 1)
        onset, apex = self.norm(self.blocks(x)).unflatten(0, (-1, 2)).unbind(1)
        weights = self.interest(apex[:, :1], apex[:, 1:])
        patches = self.diagonal(onset[:, 1:], apex[:, 1:]).float()
        return self.classifier((weights @ patches)[:, 0])
