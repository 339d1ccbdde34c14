"""SelfME on onset and apex: motion learnt by warping the onset into the apex, and a transformer over the two halves."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from gammer_lightning.models.recognizer import Recognizer, check_shape, check_side

CHANNELS = (32, 64, 128, 128)
"""Of the motion network, each at half the resolution of the one before."""
PATCH, WIDTH, DEPTH, HEADS = 8, 192, 4, 3
DIFFERENCE_SCALE = 4.0
"""The apex differs from the onset by a few levels of 255."""
SMOOTHNESS, CONTRAST, TEMPERATURE = 0.02, 0.05, 0.1


class MotionNetwork(nn.Module):
    """U-Net from onset and apex to the dense motion between them, at half their resolution."""

    def __init__(self):
        super().__init__()
        ins = (6, *CHANNELS[:-1])
        self.down = nn.ModuleList(_convolution(a, b, 2) for a, b in zip(ins, CHANNELS, strict=True))
        pairs = zip(CHANNELS[:0:-1], CHANNELS[-2::-1], strict=True)
        self.up = nn.ModuleList(_convolution(a + b, b, 1) for a, b in pairs)
        self.motion = nn.Conv2d(CHANNELS[0], 2, 3, padding=1)
        nn.init.normal_(self.motion.weight, std=1e-3)
        if self.motion.bias is not None:
            nn.init.zeros_(self.motion.bias)

    def forward(self, onset: Tensor, apex: Tensor) -> Tensor:
        """Map frames ``(B, 3, S, S)`` to where each pixel of the apex lay in the onset, px ``(B, 2, S/2, S/2)``."""
        x = torch.cat((onset, DIFFERENCE_SCALE * (apex - onset)), 1)
        skips = []
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        for layer, skip in zip(self.up, skips[-2::-1], strict=True):
            x = layer(torch.cat((F.interpolate(x, scale_factor=2.0), skip), 1))
        return self.motion(x)


def _convolution(ins: int, outs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(ins, outs, 3, stride, 1), nn.GroupNorm(8, outs), nn.ReLU())


class SymmetricTransformer(nn.Module):
    """One transformer over the motion of the left half of a face and over that of the right half, mirrored.

    Args:
        side: Side of the motion field, px.
    """

    def __init__(self, side: int):
        super().__init__()
        self.patches = nn.Conv2d(2, WIDTH, PATCH, stride=PATCH)
        self.positions = nn.Parameter(0.02 * torch.randn(side // PATCH * (side // 2 // PATCH), WIDTH))
        self.blocks = nn.Sequential(*(Block(WIDTH, HEADS, qkv_bias=True) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Map motion ``(B, 2, H, H)`` to the features of the patches of each half ``(B, N, D)``, in mirrored order."""
        mirrored = motion.flip(-1) * motion.new_tensor([-1.0, 1.0])[:, None, None]
        halves = torch.cat((motion, mirrored))[..., : motion.shape[-1] // 2]
        x = self.patches(halves).flatten(2).mT + self.positions
        return self.norm(self.blocks(x)).chunk(2)


class SelfME(Recognizer):
    """A motion network taught by reconstruction, and a symmetric contrastive transformer over its motion.

    The motion learns from reconstruction alone: no gradient of the classifier reaches it, though both train at the
    same time. 2.5 M parameters; no published count could be looked up.

    Args:
        num_classes: Number of classes K.
        input_shape: ``(2, 3, S, S)`` with S a multiple of 32; 128 in our experiment.

    Raises:
        GammerError: If the input has another shape.

    Source: Fan et al., "SelfME: Self-Supervised Motion Learning for Micro-Expression Recognition", CVPR 2023. Only
    its abstract could be looked up: the U-Net, both losses and all sizes are our choice.
    """

    inputs = ("pair",)
    can_be_stacked = False
    has_own_loss = True

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        check_shape(self, input_shape, (2, 3, None, None), "data.input pair, data.size 128")
        side = check_side(self, input_shape, multiple=4 * PATCH, least=4 * PATCH, usual=128)
        self.motion = MotionNetwork()
        self.transformer = SymmetricTransformer(side // 2)
        self.classifier = nn.Linear(2 * WIDTH, num_classes)

    def forward(self, pair: Tensor, action_units: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Map onset and apex in [-1, 1] ``(B, 2, 3, S, S)`` to logits ``(B, K)``.

        Args:
            pair: The two frames.
            action_units: Given in training, and not used.

        Returns:
            Logits; in training also the loss of reconstruction and symmetry of each clip ``(B,)``.
        """
        onset, apex = pair.unbind(1)
        motion = self.motion(onset, apex).float()
        left, right = self.transformer(motion.detach())
        logits = self.classifier(torch.cat((left.mean(1), right.mean(1)), -1))
        if action_units is None:
            return logits
        return logits, reconstruction_loss(motion, onset, apex) + CONTRAST * symmetry_loss(left, right)


def warp(image: Tensor, motion: Tensor) -> Tensor:
    """Look up each pixel of ``(B, C, H, W)`` where motion ``(B, 2, H, W)``, px right and down, points."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(
        *(torch.arange(n, dtype=motion.dtype, device=motion.device) for n in (height, width)), indexing="ij"
    )
    at = torch.stack((x + motion[:, 0], y + motion[:, 1]), -1)
    at = (2 * at + 1) / at.new_tensor([width, height]) - 1
    return F.grid_sample(image, at, padding_mode="border", align_corners=False)


def reconstruction_loss(motion: Tensor, onset: Tensor, apex: Tensor) -> Tensor:
    """Return how far the warped onset is from the apex, relative to the onset itself, and how rough the motion is.

    Args:
        motion: Where each pixel of the apex lay in the onset, px ``(B, 2, S/2, S/2)``.
        onset: ``(B, 3, S, S)``.
        apex: ``(B, 3, S, S)``.

    Returns:
        ``(B,)``; about 1 without motion.
    """
    full = F.interpolate(motion, scale_factor=2.0, mode="bilinear", align_corners=False)
    with torch.autocast(motion.device.type, enabled=False):
        missed = (warp(onset, full) - apex).abs().mean((1, 2, 3))
    changed = (onset - apex).abs().mean((1, 2, 3)).clamp_min(1e-3)
    rough = sum(motion.diff(dim=axis).abs().mean((1, 2, 3)) for axis in (-1, -2))
    return missed / changed + SMOOTHNESS * rough


def symmetry_loss(left: Tensor, right: Tensor) -> Tensor:
    """Return how badly each patch of a half finds its mirror image among the patches of the other half.

    It contrasts the patches of one clip only, so that no clip acts on another.

    Args:
        left: Features ``(B, N, D)``.
        right: Features in mirrored order ``(B, N, D)``.

    Returns:
        ``(B,)``; ln N by chance.
    """
    left = F.normalize(left.float(), dim=-1)
    right = F.normalize(right.float(), dim=-1)
    scores = (left @ right.mT) / TEMPERATURE
    matching = scores.diagonal(dim1=1, dim2=2)
    all_scores = (scores.logsumexp(1) + scores.logsumexp(2)) / 2
    return (all_scores - matching).mean(1)
