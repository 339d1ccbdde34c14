"""ST-MEMM: the Swin-Transformer motion magnification network of the paper's Section 2.1.

Pure modules. `STMEMM.encode` turns a frame into features, `STMEMM.decode` two frames' features and a magnification
factor into the magnified frame: a reference frame is encoded once for a whole clip, and a pair once for all alphas.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn

from gammer_lightning.errors import GammerError
from gammer_lightning.models.swin import RSTB, WINDOW


@dataclass(frozen=True)
class Preset:
    """The size of an `STMEMM`.

    Attributes:
        dim: Channels of all features.
        head_dim: Channels of an attention head.
        encoder_depths: Swin layers of each block of the Deep Encoder.
        decoder_depths: Swin layers of each block of the Mixed Magnified Transformer.
        mlp_ratio: Hidden channels of a Swin layer's MLP, as a multiple of ``dim``.
        stride: Pixels of the frame along a side of one feature's cell.
    """

    dim: int
    head_dim: int
    encoder_depths: tuple[int, ...]
    decoder_depths: tuple[int, ...]
    mlp_ratio: float
    stride: int


PRESETS = {
    "small": Preset(dim=48, head_dim=16, encoder_depths=(2,), decoder_depths=(4,), mlp_ratio=2.0, stride=4),
    "base": Preset(dim=192, head_dim=32, encoder_depths=(6,) * 6, decoder_depths=(6,) * 6, mlp_ratio=2.0, stride=8),
}
MIN_SIDE = 32


class Features(NamedTuple):
    """One batch of encoded frames.

    Attributes:
        frame: The frames, padded to the multiple the windows need, ``(B, 3, H', W')`` in [0, 1].
        deep: F(D), what the Deep Encoder saw, ``(B, C, H'/s, W'/s)``; stands for shape.
        mix: F(MIX), shallow and deep features combined, ``(B, C, H'/s, W'/s)``.
    """

    frame: Tensor
    deep: Tensor
    mix: Tensor


class ShallowEncoder(nn.Module):
    """E_S: frame ``(B, 3, H, W)`` to shallow features ``(B, C, H/s, W/s)``. Source: paper Sec. 2.1, Eq. 1."""

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, dim, 2 * stride, stride=stride, padding=stride // 2)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, frame: Tensor) -> Tensor:
        """Extract shallow features; the frame is centred to [-1, 1]."""
        x = self.embed(frame * 2 - 1)
        return x + self.conv(F.relu(x))


class DeepEncoder(nn.Module):
    """E_D: residual Swin blocks, fed the shallow features as in the paper's Fig. 3. Source: paper Sec. 2.1, Eq. 2."""

    def __init__(self, dim: int, head_dim: int, depths: tuple[int, ...], mlp_ratio: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(RSTB(dim, head_dim, depth, mlp_ratio) for depth in depths))

    def forward(self, shallow: Tensor) -> Tensor:
        """Extract deep features of the same shape ``(B, C, H/s, W/s)``."""
        return self.blocks(shallow)


class Manipulator(nn.Module):
    """What alpha multiplies in F_M = F1 + ConvRes(alpha * ConvReLU(F2 - F1)). Source: paper Sec. 2.1, Eq. 3.

    In place of the ReLU behind the first convolution (our choice) stands the onset's own structure over its energy: a
    change of brightness means motion only relative to the gradient it falls on (Lucas and Kanade 1981), and a ReLU
    would drop its sign. In a trial of 250 steps it alone made the displacements start to be learnt.

    No layer has a bias, so alpha = 0 gives F1 exactly, and so does a pair without motion. All that follows the
    difference commutes with a factor >= 0: alpha is applied last (`STMEMM.decode`), and one pass serves all alphas.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()

        def conv() -> nn.Conv2d:
            return nn.Conv2d(dim, dim, 3, padding=1, bias=False)

        self.structure, self.difference, self.conv = conv(), conv(), conv()
        self.residual = nn.Sequential(conv(), nn.ReLU(), conv())

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Turn the difference of two feature maps into motion.

        Args:
            first: F1(MIX), ``(B, C, h, w)``.
            second: F2(MIX), ``(B, C, h, w)``.

        Returns:
            ``(F_M - F1) / alpha``, ``(B, C, h, w)``.
        """
        structure = self.structure(first)
        energy = F.avg_pool2d(structure.square().mean(1, keepdim=True), 3, 1, 1, count_include_pad=False)
        motion = self.conv(structure * self.difference(second - first) / (energy + 1e-2))
        return motion + self.residual(motion)


class MixedMagnifiedTransformer(nn.Module):
    """M_MMTB: residual Swin blocks on the magnified features ``(B, C, h, w)``. Source: paper Sec. 2.1, Eq. 4."""

    def __init__(self, dim: int, head_dim: int, depths: tuple[int, ...], mlp_ratio: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(RSTB(dim, head_dim, depth, mlp_ratio) for depth in depths))

    def forward(self, magnified: Tensor) -> Tensor:
        """Magnify further and mix."""
        return self.blocks(magnified)


class Reconstruction(nn.Module):
    """Magnified features to a frame: transpose convolution, convolution. Source: paper Sec. 2.1, Eq. 5.

    Eq. 5 paints every pixel anew from features at 1/s of the resolution, which blurs, and cannot give the onset back at
    alpha = 0. So (our choice) it paints onto the onset, moved by a displacement field read off the same features;
    both are gated by tanh(alpha): exactly the onset at 0, the paper's Eq. 5 in full from about alpha = 3.
    """

    def __init__(self, dim: int, stride: int, width: int = 16) -> None:
        super().__init__()
        self.displacement = nn.Conv2d(dim, 2, 3, padding=1)
        self.conv_transpose = nn.ConvTranspose2d(dim, width, stride, stride=stride)
        self.conv = nn.Conv2d(width + 3, 3, 3, padding=1)
        for layer in (self.displacement, self.conv):
            trunc_normal_(layer.weight, std=1e-3)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, onset: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Render the magnified frame.

        Args:
            features: F_MMTB + F_M, ``(B, C, h, w)``.
            onset: ``(B, 3, H, W)`` in [0, 1].
            alpha: ``(B,)``.

        Returns:
            The frame ``(B, 3, H, W)`` and the displacement ``(B, 2, H, W)`` in px: frame(p) shows onset(p - it).
        """
        gate = torch.tanh(alpha)[:, None, None, None]
        coarse = (self.displacement(features) * 8).contiguous()  # two channels: faster than channels last
        displacement = gate * F.interpolate(coarse, onset.shape[-2:], mode="bilinear")
        moved = torch.where(gate == 0, onset, warp(onset, displacement))  # not resampled, so that alpha = 0 is exact
        painted = F.relu(self.conv_transpose(features), inplace=True)
        images = torch.cat([painted, moved.to(painted, memory_format=torch.channels_last)], 1)
        return moved + gate * self.conv(images), displacement


def warp(frame: Tensor, displacement: Tensor) -> Tensor:
    """Sample ``frame`` at p - displacement(p), bilinearly, borders repeated; always in fp32 (fp16 grids jitter).

    Args:
        frame: ``(B, 3, H, W)``.
        displacement: ``(B, 2, H, W)`` x and y in px.
    """
    height, width = frame.shape[-2:]
    x = torch.arange(width, device=frame.device, dtype=torch.float32)
    y = torch.arange(height, device=frame.device, dtype=torch.float32)
    displacement = displacement.float()
    grid_x = (x - displacement[:, 0]) * (2 / (width - 1)) - 1
    grid_y = (y[:, None] - displacement[:, 1]) * (2 / (height - 1)) - 1
    with torch.autocast(frame.device.type, enabled=False):
        grid = torch.stack([grid_x, grid_y], -1)
        return F.grid_sample(frame.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)


class STMEMM(nn.Module):
    """Swin-Transformer-based micro-expression motion magnification network.

    alpha is the ratio of displacements from the onset: 0 gives the onset, 1 the apex, above 1 a magnified apex.

    Args:
        preset: "small" (real time, the shipped weights) or "base" (the scale of the closest published relative).

    Raises:
        GammerError: The preset is unknown.

    Source: paper Sec. 2.1, Eqs. 1-5. Widths and depths are not given there: they are ours.
    """

    def __init__(self, preset: str = "small") -> None:
        super().__init__()
        if preset not in PRESETS:
            raise GammerError(
                f"unknown preset {preset!r}", f"known presets: {', '.join(PRESETS)}", "choose one of them"
            )
        self.preset = preset
        size = PRESETS[preset]
        dim = size.dim
        self.stride = size.stride
        self.shallow_encoder = ShallowEncoder(dim, self.stride)
        self.deep_encoder = DeepEncoder(dim, size.head_dim, size.encoder_depths, size.mlp_ratio)
        self.mix = nn.Conv2d(2 * dim, dim, 1)
        self.manipulator = Manipulator(dim)
        self.mmtb = MixedMagnifiedTransformer(dim, size.head_dim, size.decoder_depths, size.mlp_ratio)
        self.reconstruction = Reconstruction(dim, self.stride)
        self.to(memory_format=torch.channels_last)  # the Swin layers' own order; 1.2 times faster at seven alphas

    def encode(self, frame: Tensor) -> Features:
        """Encode frames once; the result serves every alpha and, for an onset, every frame of its clip.

        Args:
            frame: ``(B, 3, H, W)`` in [0, 1], at least 32 px a side.

        Raises:
            GammerError: The frame is too small.
        """
        frame = pad_to_windows(frame, self.stride * WINDOW)
        shallow = self.shallow_encoder(frame.contiguous(memory_format=torch.channels_last))
        deep = self.deep_encoder(shallow)
        return Features(frame, deep, self.mix(torch.cat([shallow, deep], 1)))

    def encode_pair(self, onset: Tensor, apex: Tensor) -> tuple[Features, Features]:
        """Encode onsets and apexes ``(B, 3, H, W)`` in one pass: half as many and larger steps."""
        codes = self.encode(torch.cat([onset, apex]))
        first, second = zip(*(part.chunk(2) for part in codes), strict=True)
        return Features(*first), Features(*second)

    def decode(self, onset: Features, apex: Features, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Magnify an encoded pair.

        Args:
            onset: Features of ``B`` onsets.
            apex: Features of their apexes.
            alpha: ``(A, B)`` magnification factors.

        Returns:
            Frames ``(A, B, 3, H', W')`` and displacements ``(A, B, 2, H', W')`` in px, at the padded size.
        """
        motion = self.manipulator(onset.mix, apex.mix)
        painted = [self._paint(onset, motion, factor) for factor in alpha]  # in turn: bounded memory
        frames, displacements = zip(*painted, strict=True)
        return torch.stack(frames), torch.stack(displacements)

    def _paint(self, onset: Features, motion: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        magnified = onset.mix + alpha[:, None, None, None].to(motion.dtype) * motion  # F_M, Eq. 3
        return self.reconstruction(self.mmtb(magnified) + magnified, onset.frame, alpha)

    def forward(self, onset: Tensor, apex: Tensor, alpha: Tensor) -> Tensor:
        """Magnify pairs.

        Args:
            onset: ``(B, 3, H, W)`` in [0, 1].
            apex: ``(B, 3, H, W)`` in [0, 1].
            alpha: ``(A, B)`` magnification factors.

        Returns:
            ``(A, B, 3, H, W)``, not clamped.
        """
        frames, _ = self.decode(*self.encode_pair(onset, apex), alpha)
        return frames[..., : onset.shape[-2], : onset.shape[-1]]


def pad_to_windows(frame: Tensor, multiple: int) -> Tensor:
    """Reflect-pad ``(B, 3, H, W)`` at the right and bottom to a multiple of ``multiple`` px.

    Raises:
        GammerError: A side is shorter than 32 px.
    """
    height, width = frame.shape[-2:]
    if min(height, width) < MIN_SIDE:
        raise GammerError(f"frame of {width}x{height} px", f"sides of at least {MIN_SIDE} px", "enlarge the frames")
    bottom, right = -height % multiple, -width % multiple
    while bottom or right:  # a reflection reaches at most one pixel less than the side
        step = min(bottom, frame.shape[-2] - 1), min(right, frame.shape[-1] - 1)
        frame = F.pad(frame, (0, step[1], 0, step[0]), mode="reflect")
        bottom, right = bottom - step[0], right - step[1]
    return frame
