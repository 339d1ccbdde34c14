"""GAM-MER: landmark patches -> small CNN -> graph attention -> class (paper Sec. 2.2, Eqs. 7 to 9).

A pure module without batch statistics and without scatter, so that torch.func can stack many of them (vmap).
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import DenseGATConv, DenseGCNConv

from gammer_lightning.errors import GammerError
from gammer_lightning.faces.graph import PAPER_REGIONS, GraphName, adjacency, nodes_of
from gammer_lightning.models.recognizer import Recognizer

LayerName = Literal["gat", "gcn"]
LAYERS = get_args(LayerName)
ABSENT = -1e4
"""Score of a pair without an edge: its weight is exactly 0, as with minus infinity, and half precision holds it."""


class LocalFeatureExtraction(nn.Module):
    """Turn each patch into one feature vector; all patches share the weights.

    Three convolutions whose stride is their kernel (4, 2, the rest), written as matrix products over windows:
    stacked over many networks a convolution becomes a grouped one, which is slow on a CPU.

    Args:
        patch_size: Side of a patch in px, a multiple of 8.
        channels: Channels of a patch.
        hidden: Channels between the convolutions.
        width: Length of the feature vector.

    Source: paper Sec. 2.2, Eq. 8; widths and kernels are our choice.
    """

    def __init__(self, patch_size: int, channels: int, hidden: int, width: int):
        super().__init__()
        self.conv1 = nn.Linear(4 * 4 * channels, hidden)
        self.conv2 = nn.Linear(2 * 2 * hidden, hidden)
        self.conv3 = nn.Linear((patch_size // 8) ** 2 * hidden, width)

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches ``(B, N, C, P, P)`` to local features ``(B, N, width)``."""
        x = F.relu(self.conv1(_nested_windows(patches.movedim(2, -1))), inplace=True)
        x = F.relu(self.conv2(x.flatten(4)), inplace=True)
        return self.conv3(x.flatten(2))


class GraphAttention(DenseGATConv):
    """DenseGATConv with heads before nodes: the same weights and numbers, faster, its attention readable."""

    def attention(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Return the weights ``(B, H, N, N)`` of features ``(B, N, F)``: row i says where node i looks."""
        return self._attend(self._heads(x), adjacency)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Map features ``(B, N, F)`` to ``(B, N, H * out_channels)`` over edges ``(N, N)``."""
        x = self._heads(x)
        return (self._attend(x, adjacency) @ x).transpose(1, 2).flatten(2) + self.bias

    def _heads(self, x: Tensor) -> Tensor:
        return self.lin(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _attend(self, x: Tensor, adjacency: Tensor) -> Tensor:
        source, target = x @ self.att_src[0, 0, :, :, None], x @ self.att_dst[0, 0, :, :, None]
        score = F.leaky_relu(source.mT + target, self.negative_slope, inplace=True)
        return (score + adjacency.log().clamp_min(ABSENT)).softmax(-1)


class GamMer(Recognizer):
    """Graph attention network over landmark patches.

    Args:
        num_classes: Number of classes K.
        regions: Facial regions whose N landmarks are used.
        graph: ``"raw"`` or ``"optimised"``.
        layer: ``"gat"`` (attention) or ``"gcn"``.
        depth: Number of graph layers, 1 to 4.
        heads: Attention heads; they share the width.
        width: Features of a node.
        patch_size: Side of a patch in px, a multiple of 8.
        channels: Channels of a patch: 3, or 6 for apex and difference together.
        dropout: Probability with which a feature is dropped before the classifier.

    Raises:
        GammerError: If a setting is unknown or out of range.

    Source: paper Sec. 2.2, Eqs. 7 to 9. Node embedding, residual layers and readout are our choice.
    """

    nodes: Tensor
    adjacency: Tensor
    inputs = ("apex", "difference", "both")
    cpu_chunk = 8

    def __init__(
        self,
        num_classes: int,
        regions: tuple[str, ...] = PAPER_REGIONS,
        graph: GraphName = "optimised",
        layer: LayerName = "gat",
        depth: int = 2,
        heads: int = 4,
        width: int = 32,
        patch_size: int = 16,
        channels: int = 3,
        dropout: float = 0.0,
    ):
        super().__init__()
        _check(layer, depth, heads, width, patch_size, dropout)
        self.register_buffer("nodes", torch.tensor(nodes_of(regions)), persistent=False)
        self.register_buffer("adjacency", torch.from_numpy(adjacency(regions, graph)), persistent=False)
        self.local_features = LocalFeatureExtraction(patch_size, channels, 32, width)
        self.node_embedding = nn.Parameter(0.02 * torch.randn(len(self.nodes), width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth + 1))
        self.graph_layers = nn.ModuleList(
            GraphAttention(width, width // heads, heads) if layer == "gat" else DenseGCNConv(width, width)
            for _ in range(depth)
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(len(self.nodes) * width, num_classes)

    def forward(self, patches: Tensor) -> Tensor:
        """Classify clips.

        Args:
            patches: ``(B, 68, C, P, P)`` around all landmarks; those of other regions are ignored.

        Returns:
            Logits ``(B, K)``.
        """
        x = self._node_features(patches, len(self.graph_layers))
        x = self.norms[-1](x).flatten(1)
        return self.classifier(self.dropout(x))

    def attention(self, patches: Tensor) -> Tensor:
        """Return the last GAT layer's weights ``(B, H, N, N)``: row i says where node i looks, and sums to 1.

        Raises:
            GammerError: If the network has no attention (GCN).
        """
        last = self.graph_layers[-1]
        if not isinstance(last, GraphAttention):
            raise GammerError("a GCN has no attention", "only GAT layers weigh edges", "use --model.layer gat")
        x = self._node_features(patches, len(self.graph_layers) - 1)
        return last.attention(self.norms[-2](x), self.adjacency)

    def _node_features(self, patches: Tensor, depth: int) -> Tensor:
        """Select key areas (Eq. 7), extract local features (Eq. 8), apply graph layers (Eq. 9)."""
        x = self.local_features(patches[:, self.nodes]) + self.node_embedding
        for norm, layer in zip(self.norms, self.graph_layers[:depth], strict=False):
            x = x + F.elu(layer(norm(x), self.adjacency))
        return x


def _nested_windows(x: Tensor) -> Tensor:
    """Cut ``(B, N, P, P, C)`` into windows of 4 x 4, four of which lie in each window of 8 x 8.

    All cutting is done here, on what stacked networks share: between the layers each would copy its own.

    Returns:
        ``(B, N, P / 8, P / 8, 2 * 2, 4 * 4 * C)``.
    """
    b, n, p, _, c = x.shape
    x = x.reshape(b, n, p // 8, 2, 4, p // 8, 2, 4 * c)  # TensorRT has no more than eight axes
    return x.permute(0, 1, 2, 5, 3, 6, 4, 7).reshape(b, n, p // 8, p // 8, 4, 16 * c)


def _check(layer: str, depth: int, heads: int, width: int, patch_size: int, dropout: float) -> None:
    rules = (
        (layer in LAYERS, f"graph layer {layer!r}", f"one of: {', '.join(LAYERS)}", "--model.layer gat"),
        (1 <= depth <= 4, f"depth {depth}", "1 to 4 graph layers", "--model.depth 2"),
        (heads >= 1 and width % max(heads, 1) == 0, f"width {width} with {heads} heads",
         "the heads share the width, so it is a multiple of them", "--model.width 32 --model.heads 4"),
        (patch_size >= 8 and patch_size % 8 == 0, f"patch size {patch_size} px", "a multiple of 8",
         "--data.patch_size 16"),
        (0 <= dropout < 1, f"dropout {dropout}", "a probability in [0, 1)", "--model.dropout 0.2"),
    )  # fmt: skip
    for holds, what, rule, example in rules:
        if not holds:
            raise GammerError(what, rule, f"e.g. {example}")
