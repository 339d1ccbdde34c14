"""Swin layers that keep their tokens in the order of their windows, and the residual block that ST-MEMM is made of."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

WINDOW = 8
"""Side of an attention window, in features."""


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
