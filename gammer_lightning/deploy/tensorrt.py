"""TensorRT and TensorRT-RTX: a plan from an ONNX file, its description, and running it on torch's tensors.

One code for both packages, whose Python APIs are the same but for the compute capability that RTX can build for on a
machine without a GPU. Networks are strongly typed: the precision is that of the ONNX file.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gammer_lightning.deploy.onnx_files import read_model
from gammer_lightning.deploy.values import Rule, check_values, is_count, is_list, is_table, is_text, one_of
from gammer_lightning.errors import GammerError
from gammer_lightning.files import read_json, replacing, write_json

REQUIREMENTS = {"tensorrt": "tensorrt>=11", "tensorrt_rtx": "tensorrt-rtx>=1.7"}
"""The requirement behind each package's import name."""
PRECISIONS = {"fp32": "FLOAT", "fp16": "HALF"}
"""How TensorRT names the type that a precision computes in."""
PAPERS_GPU = "SM86"
"""Compute capability of the paper's A10: what RTX builds for where there is no GPU."""
FORMAT = 1
MULTIPLICATIONS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM")
"""Layers that hold nearly all of the arithmetic: their type is a network's precision."""


def _is_shape(value: Any) -> bool:
    return is_list(value, lambda size: is_count(size, -1, 2**31))


SHAPES = Rule(lambda value: is_table(value, _is_shape, 1), "shapes by name")
DESCRIPTION_RULES = {
    "package": one_of(*REQUIREMENTS),
    "version": Rule(is_text, "a version"),
    "precision": one_of(*PRECISIONS),
    "capability": Rule(is_text, "a compute capability"),
    "gpu": Rule(lambda value: value is None or is_text(value), "the name of a GPU"),
    "batch": Rule(
        lambda value: is_list(value, lambda size: is_count(size, 1), 3, 3) and list(value) == sorted(value),
        "the smallest, the usual and the largest batch",
    ),
    "inputs": SHAPES,
    "outputs": SHAPES,
}
"""What of a plan's description is used."""


def import_tensorrt(package: str) -> ModuleType:
    """Import ``tensorrt`` or ``tensorrt_rtx``.

    Raises:
        GammerError: It is unknown, or not installed; with the command that installs it.
    """
    if package not in REQUIREMENTS:
        raise GammerError(f"unknown package {package!r}", f"one of {', '.join(REQUIREMENTS)}", "choose one of them")
    try:
        return import_module(package)
    except (ImportError, OSError) as error:  # an OSError where a library beside it is missing
        raise GammerError(
            f"{package} cannot be imported: {error}",
            "plans are built and run by it; it is an optional package",
            f"pip install '{REQUIREMENTS[package]}'",
        ) from error


def target_name(package: str) -> str:
    """Return the package as `--to` and file names spell it: ``tensorrt`` or ``tensorrt-rtx``."""
    return package.replace("_", "-")


def plan_path(onnx_path: str | Path, precision: str, package: str) -> Path:
    """Return where the plan of an ONNX file lies: ``NAME.PRECISION.PACKAGE.plan`` beside it."""
    onnx_path = Path(onnx_path)
    graph, _, _ = onnx_path.name.partition(".")
    return onnx_path.with_name(f"{graph}.{precision}.{target_name(package)}.plan")


def description_path(plan: Path) -> Path:
    """Return the path of the description beside a plan."""
    return plan.with_name(plan.name + ".json")


def build_plan(
    onnx_path: str | Path,
    precision: str,
    package: str = "tensorrt",
    batch: tuple[int, int, int] = (1, 1, 1),
    capability: str | None = None,
    tf32: bool = False,
) -> Path:
    """Build an engine and write it, with its description, beside the ONNX file.

    Args:
        onnx_path: ``NAME.onnx``, or ``NAME.fp16.onnx`` for fp16.
        precision: "fp32" or "fp16": what the ONNX file must compute in.
        package: ``tensorrt`` builds for the GPU of this machine, ``tensorrt_rtx`` for any that it knows.
        batch: Smallest, usual and largest batch of the optimisation profile, where the file's batch is dynamic.
        capability: Compute capability to build for, RTX only, e.g. "SM86"; None: this GPU's, without a GPU SM86.
        tf32: Whether fp32 products may be computed in TF32, with a mantissa of 10 bits.

    Returns:
        The plan's path.

    Raises:
        GammerError: The package is missing, the parser or the builder refuses the file (with the node), the file is of
            another precision, or there is no GPU where one is needed.
    """
    started = time.perf_counter()
    onnx_path = Path(onnx_path)
    if precision not in PRECISIONS:
        raise GammerError(f"unknown precision {precision!r}", f"one of {', '.join(PRECISIONS)}", "--precision fp32")
    trt = import_tensorrt(package)
    capability = _target(trt, package, capability)
    logger = _logger(trt)
    builder = trt.Builder(logger)
    network, _parser = _parse(trt, builder, logger, onnx_path)
    layers = _refuse_other_precision(_network_types(network), onnx_path.name, precision)
    config = _config(trt, builder, tf32, capability if package == "tensorrt_rtx" else None)
    shapes = _add_profile(builder, config, network, batch)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise GammerError(
            f"{target_name(package)} {trt.__version__} cannot build {onnx_path.name}: {logger.last()}",
            "its builder must accept every node",
            "this is ours to mend: report the message and the versions that `gammer doctor` shows",
        )
    path = plan_path(onnx_path, precision, package)
    _write(
        path,
        bytes(plan),
        package=package,
        version=trt.__version__,
        precision=precision,
        tf32=tf32,
        capability=capability,
        gpu=torch.cuda.get_device_name() if package == "tensorrt" else None,
        batch=list(batch),
        **shapes,
        multiplications=layers,
        onnx=onnx_path.name,
        onnx_sha256=_sha256(onnx_path.read_bytes()),
        seconds=round(time.perf_counter() - started, 1),
    )
    return path


def check_builder(package: str) -> None:
    """See that plans can be built here, before the minutes of an export's first steps.

    Args:
        package: ``tensorrt`` or ``tensorrt_rtx``.

    Raises:
        GammerError: There is no GPU where one is needed, the package is missing, or it does not know the GPU.
    """
    if package == "tensorrt":
        _own_gpu()  # first: nobody installs TensorRT only to hear that it cannot be used here
    _target(import_tensorrt(package), package, None)


def _own_gpu() -> str:
    """Return the compute capability of this machine's GPU, for which TensorRT builds.

    Raises:
        GammerError: If it has none.
    """
    capability = gpu_capability()
    if capability is None:
        raise GammerError(
            "there is no CUDA GPU here",
            "TensorRT builds on the GPU that is to run the plan",
            "run the same command on that machine, or build with --to tensorrt-rtx, which needs no GPU",
        )
    return capability


def _target(trt: ModuleType, package: str, capability: str | None) -> str:
    """Return the compute capability to build for."""
    if package == "tensorrt":
        own_capability = _own_gpu()
        if capability not in (None, own_capability):
            raise GammerError(
                f"{capability}", f"TensorRT builds for this machine's GPU, {own_capability}", "leave it out"
            )
        return own_capability
    capability = capability or gpu_capability() or PAPERS_GPU
    capabilities = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    if capability not in capabilities:
        raise GammerError(
            f"TensorRT-RTX {trt.__version__} does not build for {capability}",
            f"it knows {', '.join(capabilities)}",
            "on another GPU use --to tensorrt",
        )
    return capability


def gpu_capability() -> str | None:
    """Return the compute capability of this machine's GPU, e.g. "SM86"; None without one."""
    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return f"SM{major}{minor}"


def _logger(trt: ModuleType) -> Any:
    base: Any = trt.ILogger

    class Errors(base):
        """Keeps what TensorRT says is wrong, for the error that we raise."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.messages.append(message)

        def last(self) -> str:
            return self.messages[-1] if self.messages else "it does not say why"

    return Errors()


def _parse(trt: ModuleType, builder: Any, logger: Any, onnx_path: Path) -> tuple[Any, Any]:
    """Return the network and its parser, which holds the network's weights."""
    if not onnx_path.is_file():
        raise GammerError(f"no file {onnx_path}", "a plan is built from an ONNX file", "gammer export RUN --to onnx")
    read_model(onnx_path)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):
        messages = []
        for index in range(parser.num_errors):
            error = parser.get_error(index)
            name = error.node_name() or "unnamed"
            text = " ".join(error.desc().split())
            messages.append(f"node {error.node()} {name} ({error.node_operator()}): {text}")
        raise GammerError(
            f"TensorRT's parser refuses {onnx_path.name}: {'; '.join(messages) or logger.last()}",
            "it must know every node",
            "export it again: gammer export RUN --to onnx; if it stays, report this message",
        )
    return network, parser


def _network_types(network: Any) -> Counter[str]:
    """Count the types in which the network's multiplications give their results."""
    types: Counter[str] = Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type.name in MULTIPLICATIONS:
            types[layer.get_output(0).dtype.name] += 1
    return types


def _refuse_other_precision(types: Mapping[str, int], name: str, precision: str) -> dict[str, int]:
    """Return ``types`` if they are those of the precision."""
    expected = PRECISIONS[precision]
    if set(types) == {expected}:
        return dict(types)
    layers = ", ".join(f"{count} in {kind}" for kind, count in sorted(types.items())) or "none"
    raise GammerError(
        f"{name} is not {precision}: of its convolutions and matrix products {layers}",
        f"at {precision} all of them are in {expected}",
        f"gammer export RUN --to onnx --precision {precision}",
    )


def _config(trt: ModuleType, builder: Any, tf32: bool, capability: str | None) -> Any:
    config = builder.create_builder_config()
    if tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # it is set unless cleared
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or no layer could be inspected
    if capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    return config


def _add_profile(builder: Any, config: Any, network: Any, batch: tuple[int, int, int]) -> dict[str, Any]:
    """Add the optimisation profile if the batch is dynamic; return shapes of inputs and outputs, -1 for the batch."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    if any(-1 in tensor.shape for tensor in inputs):
        profile = builder.create_optimization_profile()
        for tensor in inputs:
            sizes = tuple(tensor.shape)[1:]
            smallest, usual, largest = ([num, *sizes] for num in batch)
            profile.set_shape(tensor.name, smallest, usual, largest)
        config.add_optimization_profile(profile)
    return {
        "inputs": {tensor.name: list(tensor.shape) for tensor in inputs},
        "outputs": {tensor.name: list(tensor.shape) for tensor in outputs},
    }


def _write(path: Path, plan: bytes, **facts: Any) -> None:
    """Write a plan, and before it its description: a plan without one, or with another plan's, is refused."""
    facts = {"format": FORMAT, **facts, "bytes": len(plan), "sha256": _sha256(plan)}
    write_json(description_path(path), facts)
    with replacing(path) as temporary:
        temporary.write_bytes(plan)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_description(plan: str | Path) -> dict[str, Any]:
    """Read the description beside a plan.

    Raises:
        GammerError: There is no plan or no description, or the two do not belong together.
    """
    plan = Path(plan)
    path = description_path(plan)
    next_step = "build it again: gammer export RUN --to tensorrt|tensorrt-rtx"
    if not plan.is_file() or not path.is_file():
        missing = path if plan.is_file() else plan
        raise GammerError(f"no file {missing}", "a plan and its description lie side by side", next_step)
    try:
        facts = read_json(path)
    except GammerError as error:
        raise GammerError(error.what, "it is JSON that `gammer export` wrote", next_step) from error
    digest = _sha256(plan.read_bytes())
    if not isinstance(facts, dict) or facts.get("format") != FORMAT or facts.get("sha256") != digest:
        raise GammerError(
            f"{plan} is not the plan that {path.name} describes", "its SHA-256 is written there", next_step
        )
    check_values(facts, DESCRIPTION_RULES, path, next_step)
    return facts


def rebuild_command(plan: Path, facts: Mapping[str, Any]) -> str:
    """Return the command that builds a plan anew on this machine."""
    run = plan.parent.parent if plan.parent.name == "export" else "RUN"
    command = f"gammer export {run} --to {target_name(facts['package'])} --precision {facts['precision']}"
    smallest, _, largest = facts["batch"]
    if smallest != largest:
        return f"{command} --batch dynamic"
    return command if largest == 1 else f"{command} --batch {largest}"


def refuse_elsewhere(
    plan: Path, facts: Mapping[str, Any], version: str, gpu: str | None, capability: str | None
) -> None:
    """Refuse a plan of another version of TensorRT or another GPU: it would fail, or be slow.

    Args:
        plan: The plan.
        facts: Its description.
        version: Version of TensorRT that is installed.
        gpu: Name of this machine's GPU; None without one.
        capability: Its compute capability, e.g. "SM86".

    Raises:
        GammerError: With the command that builds it again.
    """
    next_step = rebuild_command(plan, facts)
    if facts["version"] != version:
        raise GammerError(
            f"{plan} was built by {facts['package']} {facts['version']}, and {version} is installed",
            "a plan runs on the version that built it",
            next_step,
        )
    built_for = facts["gpu"] or facts["capability"]
    if gpu is None:
        raise GammerError(
            f"{plan} runs on a GPU ({built_for}), and there is none here", "", "use --backend onnx, or torch"
        )
    plan_gpu = facts["gpu"] or gpu
    if (plan_gpu, facts["capability"]) != (gpu, capability):
        raise GammerError(
            f"{plan} was built for {built_for}, and this GPU is {gpu} ({capability})",
            "a plan holds code for one kind of GPU",
            next_step,
        )


class Runner:
    """Runs a plan on torch's CUDA tensors.

    Args:
        plan: The plan's path; its description lies beside it.

    Attributes:
        description: The description beside the plan.
        layers: How many tensors between the engine's layers are of each type, e.g. ``{"HALF": 60, "FLOAT": 12}``.

    Raises:
        GammerError: The plan is of another version or GPU, has changed, or is not of the precision that it claims.
    """

    def __init__(self, plan: str | Path) -> None:
        plan = Path(plan)
        self.description = read_description(plan)
        facts = self.description
        trt = import_tensorrt(facts["package"])
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        refuse_elsewhere(plan, facts, trt.__version__, gpu, gpu_capability())
        self._logger = _logger(trt)
        self._runtime = trt.Runtime(self._logger)  # engine and context live no longer than it
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise GammerError(f"{plan} cannot be loaded: {self._logger.last()}", "", rebuild_command(plan, facts))
        inspector = self._engine.create_engine_inspector()
        information = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        self.layers = refuse_other_engine(plan, facts, engine_types(information))
        self._context = self._engine.create_execution_context()
        self._stream = torch.cuda.Stream()  # TensorRT synchronises once more on the default stream

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once; the outputs are CUDA tensors of their own, ready in the order of the current stream.

        Raises:
            GammerError: An input is missing or of a shape outside the plan's profile, or TensorRT fails.
        """
        bound_tensors = [self._bind(name, inputs) for name in self.description["inputs"]]
        outputs = {}
        for name in self.description["outputs"]:
            shape = tuple(self._context.get_tensor_shape(name))
            outputs[name] = torch.empty(shape, device="cuda")
            self._context.set_tensor_address(name, outputs[name].data_ptr())
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise GammerError(f"TensorRT failed: {self._logger.last()}", "", "see nvidia-smi for free memory")
        current.wait_stream(self._stream)
        del bound_tensors  # not before: their memory could be given to others while the engine still reads it
        return outputs

    def _bind(self, name: str, inputs: Mapping[str, Tensor]) -> Tensor:
        if name not in inputs:
            needed = ", ".join(self.description["inputs"])
            raise GammerError(f"no input {name!r}", f"the plan takes {needed}", "give all of them")
        tensor = inputs[name].to("cuda", torch.float32).contiguous()
        spec = self.description["inputs"][name]
        if not fits(tensor.shape, spec, self.description["batch"]):
            smallest, _, largest = self.description["batch"]
            raise GammerError(
                f"{name} of shape {tuple(tensor.shape)}",
                f"the plan was built for {tuple(spec)}, -1 being a batch from {smallest} to {largest}",
                "give that shape, or build another plan: gammer export RUN --batch N",
            )
        self._context.set_input_shape(name, tuple(tensor.shape))
        self._context.set_tensor_address(name, tensor.data_ptr())
        return tensor


def fits(shape: tuple[int, ...], dimensions: list[int], batch: list[int]) -> bool:
    """Whether a shape is one of the profile's: a dimension of -1 takes any batch from the smallest to the largest."""
    if len(shape) != len(dimensions):
        return False
    smallest, _, largest = batch
    for size, dimension in zip(shape, dimensions, strict=True):
        fits_dimension = smallest <= size <= largest if dimension == -1 else size == dimension
        if not fits_dimension:
            return False
    return True


def engine_types(information: str) -> Counter[str]:
    """Count the floating types of the results of an engine's layers.

    Args:
        information: What TensorRT's inspector says of an engine built with detailed verbosity, JSON.
    """
    types: Counter[str] = Counter()
    for layer in json.loads(information)["Layers"]:
        outputs = layer.get("Outputs", []) if isinstance(layer, dict) else []
        for output in outputs:
            text = output.get("Format/Datatype", "").lower()
            if "half" in text or "fp16" in text:
                types["HALF"] += 1
            elif "float" in text or "fp32" in text:
                types["FLOAT"] += 1
    return types


def refuse_other_engine(plan: Path, facts: Mapping[str, Any], types: Mapping[str, int]) -> dict[str, int]:
    """Return ``types`` if an engine with such layers is of the precision that its description claims.

    Raises:
        GammerError: An fp16 plan without a layer in fp16, an fp32 plan with one, or without layers of a known type.
    """
    if facts["precision"] == "fp16" and "HALF" in types:
        return dict(types)
    if facts["precision"] == "fp32" and set(types) == {"FLOAT"}:
        return dict(types)
    raise GammerError(
        f"{plan} says {facts['precision']}, and its layers' results are {dict(types)}",
        "an fp16 plan has results in HALF, an fp32 plan in FLOAT alone",
        rebuild_command(plan, facts),
    )
