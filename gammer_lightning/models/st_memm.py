"""ST-MEMM: the Swin-Transformer motion magnification network of the paper's Section 2.1.

Pure modules. `STMEMM.encode` turns a frame into features, `STMEMM.decode` two frames' features and a magnification
factor into the magnified frame: a reference frame is encoded once for a whole clip, and a pair once for all alphas.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from gammer_lightning.errors import GammerError


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
WINDOW = 8
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


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # a later training may keep it for its backward
def shift_mask(height: int, width: int, shift: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Attention mask of shifted windows, built once per feature size and shared by every layer.

    Returns:
        ``(windows, WINDOW**2, WINDOW**2)``: 0 inside a region, -1e4 across regions: a weight of
        exactly 0, where timm's -100 leaves 1e-44, and such denormal numbers halve a CPU's speed; fp16 holds it.

    Source: Liu et al., Swin Transformer, ICCV 2021, Sec. 3.2.
    """
    rows, columns = (
        (torch.arange(n) >= n - WINDOW).long() + (torch.arange(n) >= n - shift).long() for n in (height, width)
    )
    regions = rows[:, None] * 3 + columns
    windows = regions.unfold(0, WINDOW, WINDOW).unfold(1, WINDOW, WINDOW).reshape(-1, WINDOW * WINDOW)
    return torch.where(windows[:, :, None] == windows[:, None, :], 0.0, -1e4).to(device, dtype)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def reordering(height: int, width: int, before: int | None, after: int | None, device: torch.device) -> Tensor:
    """Index that takes tokens from the order of one layer's windows to that of the next one's, shift and all.

    Args:
        height: Height of the features, a multiple of the window.
        width: Width of the features, likewise.
        before: Shift of the windows in whose order the tokens are; None: row by row.
        after: Shift of the windows in whose order they shall be; None: row by row.
        device: Where the index lies.

    Returns:
        ``(height * width,)``.
    """
    tokens = torch.arange(height * width).view(height, width)

    def order(shift: int | None) -> Tensor:
        if shift is None:
            return tokens.flatten()
        windows = tokens.roll((-shift, -shift), (0, 1)).unfold(0, WINDOW, WINDOW).unfold(1, WINDOW, WINDOW)
        return windows.reshape(-1)

    return order(before).argsort()[order(after)].to(device)


class SwinLayer(SwinTransformerBlock):
    """timm's Swin layer with its weights, on tokens ``(B, H * W, C)`` that already are in the order of its windows.

    All but the attention treats each token alone, so tokens stay in that order, and one copy between two layers does
    what timm does in six: undo the shift and the windows of one, and make those of the other.
    """

    def __init__(self, dim: int, head_dim: int, mlp_ratio: float, shift: int) -> None:
        super().__init__(
            dim,
            input_resolution=(WINDOW, WINDOW),
            num_heads=dim // head_dim,
            head_dim=head_dim,
            window_size=WINDOW,
            shift_size=shift,
            always_partition=True,
            dynamic_mask=True,
            mlp_ratio=mlp_ratio,
        )
        self.shift = shift
        # timm leaves it off for Swin; 1.3 times faster frames on a CPU. Final binds TorchScript, which is not used
        self.attn.fused_attn = True  # type: ignore[misc]
        self._bias: tuple[tuple, Tensor] | None = None

    # only the weights are timm's, under timm's names; the layer is never called as timm's is
    def forward(self, x: Tensor, height: int, width: int) -> Tensor:  # type: ignore[override]
        """Refine the tokens of features of a height and width."""
        x = self._attend(self.norm1(x), self.bias(height, width, x.dtype)).add_(x)
        return self.mlp(self.norm2(x)).add_(x)

    def _attend(self, x: Tensor, bias: Tensor) -> Tensor:
        attn = self.attn
        windows = x.reshape(-1, WINDOW**2, x.shape[-1])
        if attn.fused_attn:
            q, k, v = attn.qkv(windows).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
            repeats = len(windows) // len(bias) if self.shift else 1
            out = F.scaled_dot_product_attention(q, k, v, bias.repeat(repeats, 1, 1, 1) if repeats > 1 else bias)
        else:
            weight, offset = (parameter.unflatten(0, (3, -1)) for parameter in (attn.qkv.weight, attn.qkv.bias))
            q, k, v = (  # one by one: onnxruntime would copy all to split them
                F.linear(windows, weight[i], offset[i]).unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
                for i in range(3)
            )
            scores = (q * attn.scale) @ k.mT
            scores = scores.unflatten(0, (-1, len(bias))) + bias
            out = scores.flatten(0, 1).softmax(-1) @ v
        return attn.proj(out.transpose(1, 2).reshape(x.shape))

    def bias(self, height: int, width: int, dtype: torch.dtype) -> Tensor:
        """What is added to the scores: bias of relative positions, and the mask of shifted windows.

        Without gradients it is kept until the weights, the size or the type change, or `train` or `eval` is called.

        Returns:
            ``(windows or 1, heads, WINDOW**2, WINDOW**2)``.
        """
        table = self.attn.relative_position_bias_table
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or table.is_inference():
            return self._make_bias(height, width, dtype)
        key = (table.data_ptr(), table._version, table.device, height, width, dtype)
        if self._bias is None or self._bias[0] != key:
            self._bias = key, self._make_bias(height, width, dtype)
        return self._bias[1]

    def train(self, mode: bool = True) -> "SwinLayer":
        """Forget the bias that is kept, too: what writes through ``weight.data`` leaves no trace."""
        self._bias = None
        return super().train(mode)

    def _make_bias(self, height: int, width: int, dtype: torch.dtype) -> Tensor:
        bias = self.attn._get_rel_pos_bias().to(dtype)
        if not self.shift:
            return bias
        return bias + shift_mask(height, width, self.shift, bias.device, dtype)[:, None]


class RSTB(nn.Module):
    """Residual Swin Transformer Block: Swin layers, a convolution, a residual. ``(B, C, H, W)`` in and out.

    Source: paper Sec. 2.1, Fig. 4.
    """

    def __init__(self, dim: int, head_dim: int, depth: int, mlp_ratio: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            SwinLayer(dim, head_dim, mlp_ratio, shift=WINDOW // 2 * (i % 2)) for i in range(depth)
        )
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Refine features of shape ``(B, C, H, W)``; H and W are multiples of the window."""
        height, width = x.shape[-2:]
        tokens, order = x.permute(0, 2, 3, 1).flatten(1, 2), None
        for layer in self.layers:
            tokens = tokens.index_select(1, reordering(height, width, order, layer.shift, x.device))
            tokens, order = layer(tokens, height, width), layer.shift
        tokens = tokens.index_select(1, reordering(height, width, order, None, x.device))
        return x + self.conv(tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2))


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
