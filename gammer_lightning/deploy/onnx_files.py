"""ONNX files: written by torch's dynamo exporter and checked, described from within, run by onnxruntime."""

import copy
import importlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from timm.models.swin_transformer import WindowAttention
from torch import Tensor

from gammer_lightning.deploy.graphs import Graph
from gammer_lightning.errors import GammerError
from gammer_lightning.files import check_is_file, replacing
from gammer_lightning.runs.checkpoints import check_finite

OPSET = 20
"""From 23 on SDPA becomes the Attention op, which TensorRT parses and then fails to build."""
INSTALL = {"onnxruntime-gpu": "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"}
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
NO_TF32 = {"CUDAExecutionProvider": {"use_tf32": "0"}, "CPUExecutionProvider": {}}
"""fp32 is meant: onnxruntime's own setting on a GPU rounds products to TF32."""


def need(module: str) -> ModuleType:
    """Import a package that only exported models need.

    Raises:
        GammerError: If it is missing, with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise GammerError(
            f"the package {module} cannot be imported: {error}",
            "exported models need it",
            f"pip install -c constraints.txt {module}",
        ) from error


def file_name(graph: str, precision: str) -> str:
    """Return the name of a graph's file, e.g. ``gam_mer.onnx`` or ``gam_mer.fp16.onnx``."""
    return f"{graph}.onnx" if precision == "fp32" else f"{graph}.{precision}.onnx"


def export_onnx(graph: Graph, path: Path, batch: int | None, description: dict[str, Any]) -> None:
    """Write a graph as ONNX, check it, and put a description into its metadata.

    Args:
        graph: What to export, on the CPU.
        path: The file.
        batch: The only batch size it takes; None for any.
        description: Plain values by name; JSON in the file.

    Raises:
        GammerError: If onnx or onnxscript is missing.
    """
    onnx = need("onnx")
    need("onnxscript")
    module = _exportable(graph)
    example = graph.example(batch or 2)
    dynamic_shapes = None if batch else tuple({0: "batch"} for _ in example)
    with torch.no_grad(), _quiet_exporter():
        module(*example)  # fills the cache of shift masks: traced, each would be computed in the file
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=[graph.output],
            dynamic_shapes=dynamic_shapes,
            verbose=False,
        )
    assert program is not None  # only the exporter before dynamo returns none
    model = program.model_proto
    _forget_sources(model)
    properties = {name: json.dumps(value) for name, value in description.items()}
    onnx.helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    with replacing(path) as temporary:
        onnx.save(model, temporary)


def _exportable(graph: Graph) -> torch.nn.Module:
    """Return a copy whose attention is written as matrix products, which add one shared mask to all windows.

    SDPA takes a mask of the batch's full size instead: one for each window, head and clip.
    """
    module = copy.deepcopy(graph.module)
    for layer in module.modules():
        if isinstance(layer, WindowAttention):
            layer.fused_attn = False  # type: ignore[misc]  # timm: final for TorchScript alone
    return module


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's advice, which concerns its own parts."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _forget_sources(model: Any) -> None:
    """Drop what the exporter notes about the lines of code: paths of this machine, in half of a small file's bytes."""
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer, *model.functions):
        del part.metadata_props[:]
        part.ClearField("doc_string")


class Description(NamedTuple):
    """What an ONNX file says of itself.

    Attributes:
        facts: Its metadata; empty where none of ours is in it.
        shapes: Shape of each input, then of the output, by name, without the batch.
    """

    facts: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]


def describe(path: Path) -> Description:
    """Read an ONNX file's metadata and interface.

    Raises:
        GammerError: If it is no ONNX file, has weights in other files, or weights that are not finite.
    """
    model = read_model(path)
    onnx = need("onnx")
    for tensor in _tensors(model, onnx.TensorProto):
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
            values = onnx.numpy_helper.to_array(tensor).copy()
            check_finite({tensor.name: torch.from_numpy(values)}, path)
    shapes = {}
    for node in (*model.graph.input, *model.graph.output):
        sizes = [dimension.dim_value for dimension in node.type.tensor_type.shape.dim]
        shapes[node.name] = tuple(sizes[1:])  # without the batch
    try:
        facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    except (ValueError, RecursionError):
        facts = {}
    return Description(facts, shapes)


def read_model(path: Path) -> Any:
    """Read an ONNX file as protobuf.

    Raises:
        GammerError: If it is no ONNX file, or names another file for one of its tensors: no hash knows that file.
    """
    onnx = need("onnx")
    check_is_file(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own classes
        raise GammerError(f"{path} is no ONNX file: {error}", "a whole file", "gammer export RUN --to onnx") from error
    for tensor in _tensors(model, onnx.TensorProto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "another file")
            raise GammerError(
                f"{path} keeps the tensor {tensor.name[:80]!r} in {place[:200]!r}",
                "an ONNX file holds all its weights: what lies in other files is in no hash",
                "export again: gammer export RUN --to onnx",
            )
    return model


def _tensors(message: Any, kind: type) -> Iterator[Any]:
    """Yield the tensors of a protobuf message, wherever they are in it: also in nodes, subgraphs and functions."""
    if isinstance(message, kind):
        yield message
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            parts = value if isinstance(value, Sequence) else (value,)
            for part in parts:
                yield from _tensors(part, kind)


class Session:
    """An ONNX file in onnxruntime, on tensors of torch.

    Args:
        path: The file.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        GammerError: If onnxruntime is missing, has no such device, or cannot read the file, or the file is not whole
            by itself.
    """

    def __init__(self, path: Path, device: str = "cpu"):
        ort = need("onnxruntime")
        read_model(path)
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        options.add_session_config_entry("session.force_spinning_stop", "1")  # or it keeps the cores from what follows
        self.path = path
        self.device = device
        if device == "cuda" and PROVIDERS["cuda"] not in ort.get_available_providers():
            raise _no_cuda(ort.get_available_providers())
        provider = PROVIDERS[device]
        try:
            self.session = ort.InferenceSession(path, options, providers=[(provider, NO_TF32[provider])])
        except Exception as error:  # onnxruntime's classes derive from Exception only
            raise GammerError(
                f"onnxruntime cannot open {path}: {str(error).splitlines()[0]}",
                "a whole ONNX file of this project",
                "export again: gammer export RUN --to onnx",
            ) from error
        self.provider = self.session.get_providers()[0]
        if self.provider != provider:  # onnxruntime itself falls back with a line in its log
            raise _no_cuda(self.session.get_providers())

    @property
    def inputs(self) -> dict[str, Sequence[int | str]]:
        """Shapes of the inputs by name; a text stands for a free size."""
        return {node.name: node.shape for node in self.session.get_inputs()}

    @property
    def outputs(self) -> dict[str, Sequence[int | str]]:
        """Shapes of the outputs by name."""
        return {node.name: node.shape for node in self.session.get_outputs()}

    def __call__(self, **inputs: Tensor) -> Tensor:
        """Run on float32 tensors; returns the one output, on the session's device.

        Raises:
            GammerError: If the batch is not the one that the file was exported for.
        """
        self._check_batch(inputs)
        batch = len(next(iter(inputs.values())))
        ((name, shape),) = self.outputs.items()
        output = torch.empty(batch, *map(int, shape[1:]), device=self.device)
        binding = self.session.io_binding()
        tensors = {key: value.to(self.device, torch.float32).contiguous() for key, value in inputs.items()}
        for key, tensor in tensors.items():
            binding.bind_input(key, self.device, 0, np.float32, tensor.shape, tensor.data_ptr())
        binding.bind_output(name, self.device, 0, np.float32, output.shape, output.data_ptr())
        if self.device == "cuda":
            torch.cuda.current_stream().synchronize()  # onnxruntime has a stream of its own
        self.session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return output

    def _check_batch(self, inputs: dict[str, Tensor]) -> None:
        for name, shape in self.inputs.items():
            if isinstance(shape[0], int) and len(inputs[name]) != shape[0]:
                raise GammerError(
                    f"{self.path} takes batches of {shape[0]}, not of {len(inputs[name])}",
                    "a graph exported with --batch N takes N at once",
                    "gammer export RUN --batch dynamic",
                )


def _no_cuda(providers: Sequence[str]) -> GammerError:
    return GammerError(
        f"onnxruntime has no CUDA here, only {', '.join(providers)}",
        "a CUDA session needs onnxruntime-gpu and an NVIDIA GPU, and never falls back in silence",
        f"{INSTALL['onnxruntime-gpu']}, or use the CPU",
    )
