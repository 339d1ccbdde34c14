"""MagNet of Oh et al. 2018: an encoder of texture and shape, a manipulator, a decoder.

Source: Oh et al., Learning-based Video Motion Magnification, ECCV 2018, Sec. 3.1 and Fig. 2; the sizes of layers are
of the authors' published configuration o3f_hmhm2_bg_qnoise_mix4_nl_n_t_ds3 (github.com/12dmodel/deep_motion_mag).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gammer_lightning.models.st_memm import pad_to_windows

STRIDE = 4  # px from one texture feature to the next


class Representation(NamedTuple):
    """One batch of encoded frames.

    Attributes:
        texture: ``(B, 32, H'/4, W'/4)``.
        shape: ``(B, 32, H'/2, W'/2)``; what moves.
    """

    texture: Tensor
    shape: Tensor


def conv(before: int, after: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution as all of MagNet's: mirrored borders, no bias."""
    return nn.Conv2d(before, after, kernel, stride, kernel // 2, padding_mode="reflect", bias=False)


class ResidualBlock(nn.Module):
    """Two convolutions and a residual, ``(B, C, h, w)`` in and out."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(dim, dim), nn.ReLU(), conv(dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Refine features."""
        return x + self.layers(x)


def blocks(dim: int, count: int) -> nn.Sequential:
    """Residual blocks in a row."""
    return nn.Sequential(*(ResidualBlock(dim) for _ in range(count)))


class Encoder(nn.Module):
    """Frame ``(B, 3, H, W)`` to texture, at a quarter of its size, and shape, at half."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Sequential(conv(3, 16, 7), nn.ReLU(), conv(16, 32, 3, 2), nn.ReLU(), blocks(32, 3))
        self.texture = nn.Sequential(conv(32, 32, 3, 2), nn.ReLU(), blocks(32, 2))
        self.shape = nn.Sequential(conv(32, 32), nn.ReLU(), blocks(32, 2))

    def forward(self, frame: Tensor) -> Representation:
        """Encode frames in [0, 1], which are centred to [-1, 1]."""
        shared = self.shared(frame * 2 - 1)
        return Representation(self.texture(shared), self.shape(shared))


class Manipulator(nn.Module):
    """shape_apex + h((alpha - 1) * g(shape_apex - shape_onset)); alpha, a ratio of displacements, is ours.

    Source: Oh et al. 2018, Sec. 3.1; as in the authors' code the motion is added to the second frame, so that alpha 1
    leaves its shape as it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.difference = nn.Sequential(conv(32, 32, 7), nn.ReLU())
        self.motion = nn.Sequential(conv(32, 32), ResidualBlock(32))

    def forward(self, onset: Tensor, apex: Tensor, alpha: Tensor) -> Tensor:
        """Magnify shapes ``(B, 32, h, w)`` by alphas ``(A, B)`` to ``(A, B, 32, h, w)``."""
        amount = (alpha - 1)[..., None, None, None].to(apex.dtype) * self.difference(apex - onset)
        return apex + self.motion(amount.flatten(0, 1)).view_as(amount)


class Decoder(nn.Module):
    """Texture and shape to a frame ``(B, 3, H, W)``, not clamped."""

    def __init__(self) -> None:
        super().__init__()
        self.texture = nn.Sequential(conv(32, 32), nn.ReLU())
        self.blocks = blocks(64, 9)
        self.paint = nn.Sequential(conv(64, 32), nn.ReLU(), conv(32, 3, 7))

    def forward(self, texture: Tensor, shape: Tensor) -> Tensor:
        """Paint frames, in [0, 1] where trained."""
        texture = self.texture(F.interpolate(texture, scale_factor=2))
        features = self.blocks(torch.cat([texture, shape], 1))
        return (self.paint(F.interpolate(features, scale_factor=2)) + 1) / 2


class MagNet(nn.Module):
    """The network of Oh et al. 2018 at its published size, 928,144 parameters.

    It paints every pixel anew, so alpha 0 and 1 give the onset and the apex only nearly.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.manipulator = Manipulator()
        self.decoder = Decoder()
        self.to(memory_format=torch.channels_last)  # 1.6 times faster steps in bf16 on a CPU

    def forward(self, onset: Tensor, apex: Tensor, alpha: Tensor) -> Tensor:
        """Magnify pairs.

        Args:
            onset: ``(B, 3, H, W)`` in [0, 1], at least 32 px a side.
            apex: ``(B, 3, H, W)`` in [0, 1].
            alpha: ``(A, B)`` magnification factors.

        Returns:
            ``(A, B, 3, H, W)``, not clamped.

        Raises:
            GammerError: The frame is too small.
        """
        frames = self.decode(self.encode(onset), self.encode(apex), alpha)
        return frames[..., : onset.shape[-2], : onset.shape[-1]]

    def encode(self, frame: Tensor) -> Representation:
        """Encode frames ``(B, 3, H, W)``, mirrored at the right and bottom to a multiple of 4 px."""
        return self.encoder(pad_to_windows(frame, STRIDE))

    def decode(self, onset: Representation, apex: Representation, alpha: Tensor) -> Tensor:
        """Magnify an encoded pair by alphas ``(A, B)`` to ``(A, B, 3, H', W')``, at the padded size."""
        shapes = self.manipulator(onset.shape, apex.shape, alpha)
        return torch.stack([self.decoder(apex.texture, shape) for shape in shapes])  # in turn: bounded memory
