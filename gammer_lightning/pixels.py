"""Images as arrays of uint8, and as tensors in [0, 1] or [-1, 1]."""

import numpy as np
import torch
from torch import Tensor


def to_floats(images: np.ndarray | Tensor, device: str | torch.device = "cpu") -> Tensor:
    """Return images ``(..., H, W, 3)`` uint8 as float32 ``(..., 3, H, W)`` in [0, 1] on a device."""
    pixels = images.to(device) if isinstance(images, Tensor) else torch.tensor(images, device=device)
    return pixels.movedim(-1, -3).float() / 255


def to_signed_floats(images: Tensor) -> Tensor:
    """Return images ``(..., H, W, 3)`` uint8 as float32 ``(..., 3, H, W)`` in [-1, 1], contiguous."""
    return images.movedim(-1, -3).contiguous() / 127.5 - 1


def to_uint8(frames: Tensor) -> np.ndarray:
    """Return frames ``(..., 3, H, W)`` in [0, 1], cut off there, as uint8 ``(..., H, W, 3)``, rounded."""
    return (frames.clamp(0, 1) * 255).round().byte().movedim(-3, -1).cpu().numpy()
