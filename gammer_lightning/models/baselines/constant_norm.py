"""Batch normalisation whose statistics do not change, for networks that take pretrained weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConstantNorm(nn.Module):
    """Batch normalisation by constant statistics, under the names that a trained one has.

    Its scale and shift are learnt. The statistics come with pretrained weights and never change, so that neither
    clips nor folds act on each other; without pretrained weights they are 0 and 1.

    Args:
        channels: Number of channels.
        made: ``device`` and ``dtype``, which timm passes.
    """

    def __init__(self, channels: int, **made):
        super().__init__()
        ones, zeros = torch.ones(channels, **made), torch.zeros(channels, **made)
        self.weight, self.bias = nn.Parameter(ones), nn.Parameter(zeros)
        self.running_mean = nn.Parameter(zeros.clone(), requires_grad=False)
        self.running_var = nn.Parameter(ones.clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift ``(B, C, ...)``."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)
