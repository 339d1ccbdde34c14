"""What runs a bundle: PyTorch, onnxruntime or TensorRT, behind one object with the reference frame kept encoded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from gammer_lightning.deploy.bundle import Bundle, is_same_model
from gammer_lightning.deploy.facts import BundleFacts
from gammer_lightning.deploy.graphs import INTERFACE, Precision, make_graphs, shapes_of
from gammer_lightning.deploy.onnx_files import Session, describe, file_name, need
from gammer_lightning.errors import GammerError
from gammer_lightning.ranges import check_choice

BackendName = Literal["torch", "onnx", "tensorrt"]
RunPrecision = Literal["fp32", "fp16", "bf16"]
Device = Literal["cpu", "cuda"]
BF16: Final = "bf16"
"""ST-MEMM under PyTorch's autocast: faster on processors with AMX, slower on those without."""
USED = ("st_memm_encoder", "st_memm_decoder", "gam_mer")

Run = Callable[..., Tensor]
"""A graph that can be run: inputs by name, float32, on its device; returns its output."""


class Encoded(NamedTuple):
    """A frame with its features, ``(B, 3, 256, 256)`` and ``(B, C, h, w)``."""

    frame: Tensor
    mix: Tensor


@dataclass(frozen=True)
class Backend:
    """The graphs of a bundle on one device.

    Attributes:
        name: For people, e.g. ``"onnx fp32 (CPUExecutionProvider)"``.
        device: Where frames are magnified.
        graphs: The graphs of `USED` by name.
    """

    name: str
    device: torch.device
    graphs: Mapping[str, Run]

    def encode(self, frame: Tensor) -> Encoded:
        """Encode frames ``(B, 3, 256, 256)`` in [0, 1]; an onset's result serves all frames that follow."""
        frame = frame.to(self.device)
        return Encoded(frame, self.graphs["st_memm_encoder"](frame=frame))

    def magnify(self, onset: Encoded, apex: Encoded, alpha: float) -> Tensor:
        """Return magnified frames ``(B, 3, 256, 256)`` in [0, 1], on the backend's device."""
        alphas = torch.full((len(apex.frame),), float(alpha), device=self.device)
        return self.graphs["st_memm_decoder"](onset=onset.frame, onset_mix=onset.mix, apex_mix=apex.mix, alpha=alphas)

    def classify(self, patches: Tensor) -> Tensor:
        """Return class probabilities ``(B, K)``, float32 on the CPU, of patches ``(B, 68, C, P, P)`` in [-1, 1]."""
        logits = self.graphs["gam_mer"](patches=patches.to(self.device))
        return logits.float().softmax(-1).cpu()


def open_backend(
    bundle: Bundle, name: BackendName = "torch", precision: RunPrecision = "fp32", device: Device | None = None
) -> Backend:
    """Open a bundle for running.

    Args:
        bundle: From `load_bundle`.
        name: ``"torch"``, ``"onnx"`` or ``"tensorrt"``.
        precision: ``"fp32"``, ``"fp16"``, or in PyTorch ``"bf16"``.
        device: ``"cpu"`` or ``"cuda"``; by default the GPU where there is one that the backend can use.

    Raises:
        GammerError: If a name is unknown, the bundle has no such files, one is of another model, or a package or
            device is missing.
    """
    check_choice("backend", name, get_args(BackendName))
    check_choice("precision", precision, get_args(RunPrecision))
    if precision == BF16 and name != "torch":
        raise GammerError(f"bf16 with {name}", "bf16 is PyTorch's autocast; files are fp32 or fp16", "--backend torch")
    if device is not None:
        check_choice("device", device, get_args(Device))
    if device == "cuda" and not torch.cuda.is_available():
        raise GammerError("there is no CUDA device", "torch sees none on this machine", "gammer doctor, or use cpu")
    open_functions = {"torch": _torch, "onnx": _onnx, "tensorrt": _tensorrt}
    return open_functions[name](bundle, precision, device)


def _torch(bundle: Bundle, precision: RunPrecision, device: Device | None) -> Backend:
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Backend(f"torch {precision} ({device})", torch.device(device), torch_graphs(bundle, precision, device))


def torch_graphs(bundle: Bundle, precision: RunPrecision, device: Device = "cpu") -> Mapping[str, Run]:
    """Return a bundle's graphs in PyTorch; in bf16 all but GAM-MER, which it makes slower."""
    weights_precision: Precision = "fp32" if precision == BF16 else precision
    magnifier, recognizer = bundle.networks()
    graphs = make_graphs(magnifier, recognizer, bundle.facts.network, weights_precision, device)
    if precision != BF16:
        return graphs
    return {name: graph if name == "gam_mer" else _in_bf16(graph, device) for name, graph in graphs.items()}


def _in_bf16(graph: Run, device: Device) -> Run:
    def run(**inputs: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            return graph(**inputs).float()

    return run


def _onnx(bundle: Bundle, precision: RunPrecision, device: Device | None) -> Backend:
    ort = need("onnxruntime")
    has_cuda = torch.cuda.is_available() and "CUDAExecutionProvider" in ort.get_available_providers()
    device = device or ("cuda" if has_cuda else "cpu")
    sessions = {graph: open_session(bundle, graph, precision, device) for graph in USED}
    provider = sessions["gam_mer"].provider
    return Backend(f"onnx {precision} ({provider})", torch.device(device), sessions)


def open_session(bundle: Bundle, graph: str, precision: str, device: str = "cpu") -> Session:
    """Open one of a bundle's ONNX files.

    Raises:
        GammerError: If it is missing or of another model.
    """
    path = bundle.file(file_name(graph, precision))
    check_model(path, bundle.facts, graph, precision)
    return Session(path, device)


def check_model(path: Path, facts: BundleFacts, graph: str, precision: str) -> None:
    """See that an ONNX file is the named graph of a bundle's own weights.

    Args:
        path: The file.
        facts: What bundle.json says.
        graph: Name of the graph.
        precision: Its precision.

    Raises:
        GammerError: If its description or its inputs and outputs say otherwise.
    """
    metadata = describe(path)
    exported = metadata.facts.get("exported")
    if not isinstance(exported, dict):
        exported = {}
    file_graph = exported.get("graph")
    file_precision = exported.get("precision")
    if (file_graph, file_precision) != (graph, precision):
        contents = f"{file_graph} at {file_precision}" if exported else "not of this project"
        raise _another(path, f"it is {contents}, not {graph} at {precision}")
    if not is_same_model(facts, metadata.facts):
        raise _another(path, "its weights, classes or input are another run's")
    inputs, output = INTERFACE[graph]
    shapes = shapes_of(facts.magnifier.preset, facts.network)
    if metadata.shapes != {name: shapes[name] for name in (*inputs, output)}:
        raise _another(path, f"its inputs and output are {metadata.shapes}")


def _another(path: Path, why: str) -> GammerError:
    return GammerError(
        f"{path} is of another model: {why}",
        "names, shapes, classes and weights of a bundle's files belong together",
        "export the run again: gammer export RUN",
    )


def _tensorrt(bundle: Bundle, precision: RunPrecision, device: Device | None) -> Backend:
    from gammer_lightning.deploy.tensorrt import Runner

    if device == "cpu" or not torch.cuda.is_available():
        raise GammerError("TensorRT runs on an NVIDIA GPU", "there is none here", "use --backend onnx")
    plans = {graph: _plan(bundle, graph, precision) for graph in USED}
    package = "tensorrt-rtx" if ".tensorrt-rtx." in plans["gam_mer"].name else "tensorrt"
    graphs = {graph: runner_graph(Runner(path), INTERFACE[graph][1]) for graph, path in plans.items()}
    name = f"{package} {precision} ({torch.cuda.get_device_name()})"
    return Backend(name, torch.device("cuda"), graphs)


def runner_graph(runner: Callable[[dict[str, Tensor]], dict[str, Tensor]], output: str) -> Run:
    """Return a TensorRT runner as a graph."""

    def run(**inputs: Tensor) -> Tensor:
        tensors = {name: tensor.cuda() for name, tensor in inputs.items()}
        return runner(tensors)[output]

    return run


def _plan(bundle: Bundle, graph: str, precision: str) -> Path:
    """Return the path of a graph's plan: TensorRT's, or TensorRT-RTX's where the bundle has that one only."""
    plan = f"{graph}.{precision}.tensorrt.plan"
    rtx_plan = f"{graph}.{precision}.tensorrt-rtx.plan"
    if plan not in bundle.facts.files and rtx_plan in bundle.facts.files:
        return bundle.file(rtx_plan)
    return bundle.file(plan)
