"""The four networks that are exported, as pure modules of tensors: names, example inputs, half precision.

    st_memm          onset (B, 3, 256, 256) in [0, 1], apex (B, 3, 256, 256), alpha (B,) -> frame (B, 3, 256, 256)
    st_memm_encoder  frame (B, 3, 256, 256) -> mix (B, C, h, w)
    st_memm_decoder  onset (B, 3, 256, 256), onset_mix, apex_mix (B, C, h, w), alpha (B,) -> frame
    gam_mer          patches (B, 68, C, P, P) in [-1, 1] -> logits (B, K)

Encoder and decoder are the two halves of st_memm, for a reference frame that is encoded once for a whole video. Inputs
and outputs are float32 at every precision; frames come out clamped to [0, 1].
"""

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gammer_lightning.faces.alignment import CROP
from gammer_lightning.models.gam_mer import GamMer
from gammer_lightning.models.st_memm import PRESETS, STMEMM, Features

Precision = Literal["fp32", "fp16"]
PRECISIONS: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16}
INTERFACE = {
    "st_memm": (("onset", "apex", "alpha"), "frame"),
    "st_memm_encoder": (("frame",), "mix"),
    "st_memm_decoder": (("onset", "onset_mix", "apex_mix", "alpha"), "frame"),
    "gam_mer": (("patches",), "logits"),
}
"""Names of each graph's inputs, in the order of its module's arguments, and of its output."""
LANDMARKS = 68


def shapes_of(preset: str, network: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every input and output by name, without its batch.

    Args:
        preset: ST-MEMM's.
        network: Settings of GAM-MER.
    """
    frame = (3, CROP, CROP)
    side = CROP // PRESETS[preset].stride
    mix = (PRESETS[preset].dim, side, side)
    patch_size = network["patch_size"]
    return {
        "onset": frame,
        "apex": frame,
        "frame": frame,
        "mix": mix,
        "onset_mix": mix,
        "apex_mix": mix,
        "alpha": (),
        "patches": (LANDMARKS, network["channels"], patch_size, patch_size),
        "logits": (network["num_classes"],),
    }


class Encoder(nn.Module):
    """ST-MEMM up to the mixed features: what a reference frame is kept as."""

    def __init__(self, network: STMEMM):
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor) -> Tensor:
        """Map frames ``(B, 3, 256, 256)`` in [0, 1] to mix ``(B, C, h, w)``."""
        features = self.network.encode(frame.to(_dtype(self.network)))
        return features.mix.float()


class Decoder(nn.Module):
    """ST-MEMM from the features of onset and apex to the magnified frame; warps in float32 at every precision."""

    def __init__(self, network: STMEMM):
        super().__init__()
        self.network = network

    def forward(self, onset: Tensor, onset_mix: Tensor, apex_mix: Tensor, alpha: Tensor) -> Tensor:
        """Magnify: onset ``(B, 3, 256, 256)``, features ``(B, C, h, w)``, alpha ``(B,)`` to ``(B, 3, 256, 256)``."""
        dtype = _dtype(self.network)
        onset_mix = onset_mix.to(dtype)
        apex_mix = apex_mix.to(dtype)
        onset_features = Features(onset, onset_mix, onset_mix)
        apex_features = Features(onset, apex_mix, apex_mix)
        frames, _ = self.network.decode(onset_features, apex_features, alpha[None])
        return frames[0].clamp(0, 1)


class MagnifierGraph(nn.Module):
    """ST-MEMM as a whole: both frames encoded in one batch, then decoded."""

    def __init__(self, network: STMEMM):
        super().__init__()
        self.encoder = Encoder(network)
        self.decoder = Decoder(network)

    def forward(self, onset: Tensor, apex: Tensor, alpha: Tensor) -> Tensor:
        """Magnify pairs ``(B, 3, 256, 256)`` in [0, 1] at ``(B,)`` factors."""
        frames = torch.stack([onset, apex]).flatten(0, 1)
        onset_mix, apex_mix = self.encoder(frames).unflatten(0, (2, -1))
        return self.decoder(onset, onset_mix, apex_mix, alpha)


class Classifier(nn.Module):
    """GAM-MER with float32 patches and logits."""

    def __init__(self, network: GamMer):
        super().__init__()
        self.network = network

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches ``(B, 68, C, P, P)`` in [-1, 1] to logits ``(B, K)``."""
        return self.network(patches.to(_dtype(self.network))).float()


def _dtype(network: nn.Module) -> torch.dtype:
    return next(network.parameters()).dtype


@dataclass(frozen=True)
class Graph:
    """A network to export, or to run in PyTorch.

    Attributes:
        name: Its name, and that of its files.
        module: The network, in evaluation mode.
        shapes: Shape of each of its inputs, and last of its output, by name, without the batch.
    """

    name: str
    module: nn.Module
    shapes: dict[str, tuple[int, ...]]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of its inputs, in the order of the module's arguments."""
        return INTERFACE[self.name][0]

    @property
    def output(self) -> str:
        """Name of its output."""
        return INTERFACE[self.name][1]

    def example(self, batch: int) -> tuple[Tensor, ...]:
        """Return random inputs in [0, 1] for a batch, always the same."""
        random = torch.Generator().manual_seed(0)
        return tuple(torch.rand(batch, *self.shapes[name], generator=random) for name in self.inputs)

    def __call__(self, **inputs: Tensor) -> Tensor:
        """Run the network on its device, without gradients; the inputs may lie anywhere."""
        device = next(self.module.parameters()).device
        with torch.inference_mode():
            return self.module(*(inputs[name].to(device) for name in self.inputs))


def make_graphs(
    magnifier: STMEMM,
    recognizer: GamMer,
    network: dict[str, Any],
    precision: Precision = "fp32",
    device: str | torch.device = "cpu",
) -> dict[str, Graph]:
    """Return the four graphs by name, on copies of the given networks.

    Args:
        magnifier: ST-MEMM.
        recognizer: GAM-MER.
        network: Settings of GAM-MER.
        precision: ``"fp32"``, or ``"fp16"`` for half weights and half arithmetic inside.
        device: Where the copies lie.
    """
    dtype = PRECISIONS[precision]
    shapes = shapes_of(magnifier.preset, network)
    magnifier = copy.deepcopy(magnifier).eval().to(device, dtype)
    recognizer = copy.deepcopy(recognizer).eval().to(device, dtype)
    modules = {
        "st_memm": MagnifierGraph(magnifier),
        "st_memm_encoder": Encoder(magnifier),
        "st_memm_decoder": Decoder(magnifier),
        "gam_mer": Classifier(recognizer),
    }
    graphs = {}
    for name, module in modules.items():
        inputs, output = INTERFACE[name]
        graph_shapes = {key: shapes[key] for key in (*inputs, output)}
        graphs[name] = Graph(name, module.eval(), graph_shapes)
    return graphs
