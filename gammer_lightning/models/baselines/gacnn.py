"""GACNN: three streams of graph attention over the landmarks, of place, strength and direction of the flow."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gammer_lightning.faces.graph import adjacency, nodes_of
from gammer_lightning.models.gam_mer import GraphAttention
from gammer_lightning.models.recognizer import Recognizer, check_shape

SIZE = 7
"""Side of a patch of flow, after it was brought to one size."""
REGIONS = ("brows", "eyes", "nose_bridge", "nose_tip", "mouth")


class Stream(nn.Module):
    """Linear features of each landmark, and two layers of graph attention.

    Args:
        seen: Values of a landmark.
        width: Features of a landmark.
        heads: Attention heads; they share the width.
    """

    def __init__(self, channels: int, width: int = 32, heads: int = 4):
        super().__init__()
        self.features = nn.Linear(channels, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.layers = nn.ModuleList(GraphAttention(width, width // heads, heads) for _ in range(2))

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        """Map landmarks ``(B, N, seen)`` over edges ``(N, N)`` to ``(B, N * width)``."""
        x = self.features(x)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + F.elu(layer(norm(x), graph))
        return x.flatten(1)


class Gacnn(Recognizer):
    """Three-stream graph attention network, 36 k parameters for five classes.

    Nodes are the 51 landmarks inside the face. One stream sees where each lies and how large its patch is, one the
    magnitude of the flow in the patch, one its direction.

    Args:
        num_classes: Number of classes K.
        input_shape: ``(68, 6, 7, 7)``.

    Raises:
        GammerError: If the input has another shape.

    Source: Kumar and Bhanu, Three stream graph attention network using dynamic patch selection for the classification
    of micro-expressions, CVPR workshops 2022. No code of it was found; edges, widths and depth are our choice, and
    a third frame is left out.
    """

    inputs = ("flow_patches",)
    cpu_chunk = 13

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        check_shape(self, input_shape, (68, 6, SIZE, SIZE), f"data.size {SIZE}")
        self.nodes = nodes_of(REGIONS)
        self.register_buffer("graph", torch.from_numpy(adjacency(REGIONS, "raw")), persistent=False)
        self.place = Stream(3)
        self.strength = Stream(SIZE * SIZE)
        self.direction = Stream(2 * SIZE * SIZE)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(3 * len(self.nodes) * 32, num_classes)

    def forward(self, patches: Tensor) -> Tensor:
        """Classify patches ``(B, 68, 6, 7, 7)``, as `flow_patches` gives them: logits ``(B, K)``."""
        patches = patches[:, self.nodes]
        place = self.place(patches[:, :, 3:, 0, 0], self.graph)
        strength = self.strength(patches[:, :, 0].flatten(2), self.graph)
        direction = self.direction(patches[:, :, 1:3].flatten(2), self.graph)
        return self.classifier(self.dropout(torch.cat([place, strength, direction], -1)))
