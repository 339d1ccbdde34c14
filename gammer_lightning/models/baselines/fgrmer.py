"""FGRMER: transformers over patches of brows and mouth, fused with a graph of action units."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gammer_lightning.models.baselines.au_gacn import co_occurrence
from gammer_lightning.models.baselines.graph_tcn import BROWS, MOUTH, PATCH, shape_features
from gammer_lightning.models.recognizer import UNITS, Recognizer, check_shape

BROW_UNITS, MOUTH_UNITS = (1, 2, 4), (10, 12, 14, 15, 17, 25)
SHOWN = [UNITS.index(unit) for unit in (*BROW_UNITS, *MOUTH_UNITS)]
PIXELS = PATCH * PATCH
THRESHOLD, SHARE = 0.1, 0.25
"""Least conditional probability of an edge, and what a node takes from its neighbours together."""


class EncoderLayer(nn.Module):
    """Self-attention and two linear layers, each added to its input and normalised.

    Args:
        width: Features of a token.
        heads: Attention heads.
        head_width: Features of a head.
        hidden: Features between the linear layers.
        dropout: Probability with which a feature or an attention weight is dropped.

    Source: Vaswani et al., Attention is all you need, NeurIPS 2017, Sec. 3; the attention has no biases.
    """

    def __init__(self, width: int = PIXELS, heads: int = 8, head_width: int = 16, hidden: int = 128, dropout=0.1):
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.joined = nn.Linear(heads * head_width, width, bias=False)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.wide = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens ``(B, N, width)`` to as many."""
        query, key, value = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        attended = (self.dropout(weights) @ value).transpose(1, 2).flatten(2)
        x = self.norm1(x + self.dropout(self.joined(attended)))
        return self.norm2(x + self.dropout(self.narrow(F.relu(self.wide(x)))))


class Part(nn.Sequential):
    """Encoder of one part of the face: six layers over its patches, then 320 and 160 features.

    Args:
        patches: Number of patches.
    """

    def __init__(self, patches: int):
        layers = [EncoderLayer() for _ in range(6)]
        features = [nn.Flatten(), nn.Linear(patches * PIXELS, 320), nn.ReLU(), nn.Dropout(0.5)]
        super().__init__(*layers, *features, nn.Linear(320, 160), nn.ReLU())


class Fgrmer(Recognizer):
    """Facial graph representation with action unit fusion, 1,046,588 parameters for three classes.

    Args:
        num_classes: Number of classes K.
        input_shape: ``(68, 3, 7, 7)``.

    Raises:
        GammerError: If the input has another shape.

    Source: Lei et al., Micro-expression recognition based on facial graph representation learning and facial action
    unit fusion, CVPR workshops 2021; sizes as in the authors' public code (raying777/FGRMER). The action units are
    our reading. The edges of the units' graph are those of ML-GCN (Chen et al., CVPR 2019), as there.
    """

    inputs = ("apex", "difference")
    cpu_chunk = 4
    needs_action_units = True

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        check_shape(self, input_shape, (68, 3, PATCH, PATCH), "data.patch_size 7")
        patches, units = len(BROWS) + len(MOUTH), len(SHOWN)
        self.depthwise = nn.Parameter(torch.empty(patches, 9).uniform_(-1 / 3, 1 / 3))
        self.bias = nn.Parameter(torch.empty(patches, 1, 1).uniform_(-1 / 3, 1 / 3))
        self.norm = nn.GroupNorm(1, patches)
        self.brows, self.mouth = Part(len(BROWS)), Part(len(MOUTH))
        self.embedding = nn.Parameter(0.01 * torch.randn(units, 40))
        self.graph_layers = nn.ModuleList([nn.Linear(40, 80, bias=False), nn.Linear(80, 160, bias=False)])
        self.adjacency = nn.Parameter(torch.eye(units), requires_grad=False)
        self.unit_norm = nn.LayerNorm(units, eps=1e-6)
        self.classifier = nn.Linear(units, num_classes)

    def see_action_units(self, action_units: Tensor) -> None:
        """Link the units that occur together in the clips ``(n, U)``."""
        linked = (co_occurrence(action_units[:, SHOWN]) >= THRESHOLD).float().fill_diagonal_(0)
        graph = SHARE * linked / linked.sum(0).clamp_min(1) + torch.eye(len(SHOWN))
        degree = graph.sum(1).rsqrt()
        self.adjacency.data.copy_((degree[:, None] * graph * degree).mT)

    def forward(self, patches: Tensor) -> Tensor:
        """Classify patches ``(B, 68, 3, 7, 7)``: logits ``(B, K)``."""
        x = self._nodes(patches)
        units: Tensor = self.embedding
        for layer in self.graph_layers:
            units = F.leaky_relu(self.adjacency @ layer(units), 0.2)
        brows = self.brows(x[:, : len(BROWS)]) @ units[: len(BROW_UNITS)].mT
        mouth = self.mouth(x[:, len(BROWS) :]) @ units[len(BROW_UNITS) :].mT
        return self.classifier(self.unit_norm(torch.cat([brows, mouth], -1)))

    def _nodes(self, patches: Tensor) -> Tensor:
        """Return a depthwise 3 x 3 convolution of the patches ``(B, 30, 49)``, as a product over windows."""
        x = F.pad(shape_features(patches[:, [*BROWS, *MOUTH]]), (1, 1, 1, 1))
        shifted = torch.stack([x[..., i : i + PATCH, j : j + PATCH] for i in range(3) for j in range(3)], -1)
        x = (shifted @ self.depthwise[:, None, :, None])[..., 0] + self.bias
        return F.relu(self.norm(x)).flatten(2)
