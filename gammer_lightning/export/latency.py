"""The rows of `gammer bench export`: what each one times, in a process of its own (`main`)."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from typing import Any, Literal, NamedTuple

from gammer_lightning.errors import GammerError
from gammer_lightning.machine import keep_freed_memory

Step = Callable[[], object]
SIDE = 256
"""Side of a frame, px."""
WARMUP = 5
"""Steps that are run before any is timed."""


class Place(NamedTuple):
    """Where a row runs: the folder of the bundle or run, "cpu" or "cuda", threads, alpha."""

    bundle: str
    device: str
    threads: int
    alpha: float


class TimedRow(NamedTuple):
    """A row of the ladder.

    Attributes:
        name: What is printed.
        published: Its column of the paper's Table 5, "" if it has none.
        prepare: Makes its step from the name of the network, ``st_memm`` or ``gam_mer``, and the place.
    """

    name: str
    published: str
    prepare: Callable[[str, Place], Step]


def torch_step(
    model: str,
    place: Place,
    sdpa: bool = True,
    autocast: str = "",
    compiled: bool = False,
    captured: bool = False,
    frames: Literal["together", "in turn", "onset kept"] = "together",
    keeps_memory: bool = True,
) -> Step:
    """Return a step in PyTorch.

    Args:
        model: ``st_memm`` or ``gam_mer``.
        place: Where it runs.
        sdpa: Whether ST-MEMM's attention is `scaled_dot_product_attention`, or two products and a softmax.
        autocast: Type of autocast, "" for fp32.
        compiled: Whether it is compiled; on a GPU with CUDA graphs.
        captured: Whether its kernels are replayed as one CUDA graph, without Python between them.
        frames: How ST-MEMM encodes them: ``"together"``, ``"in turn"``, or ``"onset kept"``, as on a video: a step is
            then one more frame.
        keeps_memory: Whether the process keeps freed memory, as `gammer` does, or leaves that to the C library.
    """
    import torch

    if keeps_memory:
        keep_freed_memory()
    torch.set_num_threads(place.threads)
    network, inputs = _network(model, place)
    if not sdpa:
        for module in network.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False
    if compiled:
        network.compile(mode="reduce-overhead" if place.device == "cuda" else "default")

    def context():
        return torch.autocast(place.device, getattr(torch, autocast)) if autocast else nullcontext()

    with torch.inference_mode(), context():
        kept_features = network.encode(inputs[0]) if frames == "onset kept" else None

    def step() -> None:
        with torch.inference_mode(), context():
            if frames == "together":
                network(*inputs)
                return
            onset, apex, alphas = inputs
            onset_features = kept_features or network.encode(onset)
            apex_features = network.encode(apex)
            network.decode(onset_features, apex_features, alphas)

    return _capture(step) if captured else step


def _capture(step: Step) -> Step:
    """Return a function that replays a step as one CUDA graph."""
    import torch

    for _ in range(WARMUP):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _network(model: str, place: Place) -> tuple[Any, tuple]:
    """Return the network and random inputs for it, on the device."""
    from gammer_lightning.deploy.bundle import load_bundle

    bundle = load_bundle(place.bundle)
    magnifier, recognizer = bundle.networks()
    network: Any
    shapes: dict[str, Sequence[int]]
    if model == "gam_mer":
        network = recognizer
        shapes = {"patches": (1, 68, bundle.facts.channels, bundle.patch_size, bundle.patch_size)}
    else:
        network = magnifier
        frame = (1, 3, SIDE, SIDE)
        shapes = {"onset": frame, "apex": frame, "alpha": (1, 1)}  # STMEMM takes alphas (A, B)
    inputs = _inputs(shapes, place, place.device)
    return network.to(place.device), tuple(inputs.values())


def _inputs(shapes: Mapping[str, Sequence[int | str]], place: Place, device: str) -> dict[str, Any]:
    """Return random inputs at batch 1, each in the range that its name stands for; -1 or a text is a free batch."""
    import torch

    torch.manual_seed(0)
    inputs = {}
    for name, shape in shapes.items():
        sizes = [max(size, 1) if isinstance(size, int) else 1 for size in shape]
        inputs[name] = torch.rand(sizes, device=device)
    if "patches" in inputs:
        inputs["patches"] = inputs["patches"] * 2 - 1
    if "alpha" in inputs:
        inputs["alpha"] = torch.full_like(inputs["alpha"], place.alpha)
    return inputs


def onnx_step(model: str, place: Place, device: str, precision: str = "fp32") -> Step:
    """Return a step in ONNX Runtime; its inputs and outputs stay on the device, as they do in PyTorch."""
    session = _session(model, place, device, precision)
    inputs = _inputs(session.inputs, place, device)
    return lambda: session(**inputs)


def onnx_cached_step(model: str, place: Place, device: str) -> Step:
    """Return a step in ONNX Runtime that encodes one more frame and decodes it against a kept onset."""
    encoder = _session(f"{model}_encoder", place, device, "fp32")
    decoder = _session(f"{model}_decoder", place, device, "fp32")
    encoder_inputs = _inputs(encoder.inputs, place, device)
    decoder_inputs = _inputs(decoder.inputs, place, device)

    def step() -> None:
        apex_mix = encoder(**encoder_inputs)
        decoder(**decoder_inputs | {"apex_mix": apex_mix})

    return step


def _session(graph: str, place: Place, device: str, precision: str):
    import torch

    from gammer_lightning.deploy.backends import open_session
    from gammer_lightning.deploy.bundle import load_bundle

    torch.set_num_threads(place.threads)  # the session takes as many
    return open_session(load_bundle(place.bundle), graph, precision, device)


def tensorrt_step(model: str, place: Place, package: str, precision: str) -> Step:
    """Return a step in TensorRT, from the plan beside the ONNX file."""
    from gammer_lightning.deploy.bundle import load_bundle
    from gammer_lightning.deploy.tensorrt import Runner, import_tensorrt, plan_path

    import_tensorrt(package)
    name = plan_path(f"{model}.onnx", precision, package).name
    runner = Runner(load_bundle(place.bundle).file(name))
    inputs = _inputs(runner.description["inputs"], place, "cuda")
    return lambda: runner(inputs)


def _onnx(device: str, **settings) -> Callable[[str, Place], Step]:
    return lambda model, place: onnx_step(model, place, device, **settings)


def _torch(**settings) -> Callable[[str, Place], Step]:
    return lambda model, place: torch_step(model, place, **settings)


def _tensorrt(package: str, precision: str) -> Callable[[str, Place], Step]:
    return lambda model, place: tensorrt_step(model, place, package, precision)


def _no_sdpa(model: str, place: Place) -> Step:
    raise GammerError("graph attention has additive scores, no products of queries and keys")


SHARED = (
    TimedRow("PyTorch, torch.compile", "", _torch(compiled=True)),
    TimedRow("PyTorch, bf16", "", _torch(autocast="bfloat16")),
    TimedRow("PyTorch, fp16", "", _torch(autocast="float16")),
    TimedRow("PyTorch, one CUDA graph", "", _torch(captured=True)),
    TimedRow("PyTorch, fp16, one CUDA graph", "", _torch(captured=True, autocast="float16")),
    TimedRow("ONNX Runtime, CPU", "ONNX", _onnx("cpu")),
    TimedRow("ONNX Runtime, CUDA", "ONNX", _onnx("cuda")),
    TimedRow("ONNX Runtime, CUDA, fp16", "", _onnx("cuda", precision="fp16")),
    TimedRow("TensorRT, fp32", "TensorRT", _tensorrt("tensorrt", "fp32")),
    TimedRow("TensorRT, fp16", "float16", _tensorrt("tensorrt", "fp16")),
    TimedRow("TensorRT-RTX, fp32", "TensorRT", _tensorrt("tensorrt_rtx", "fp32")),
    TimedRow("TensorRT-RTX, fp16", "float16", _tensorrt("tensorrt_rtx", "fp16")),
)
ROWS: dict[str, tuple[TimedRow, ...]] = {
    "st_memm": (
        TimedRow("PyTorch eager, attention without SDPA", "PyTorch", _torch(sdpa=False, keeps_memory=False)),
        TimedRow("the same, freed memory kept", "", _torch(sdpa=False)),
        TimedRow("PyTorch eager, frames in turn, SDPA", "", _torch(frames="in turn")),
        TimedRow("PyTorch eager, SDPA", "", _torch()),
        *SHARED,
        TimedRow("one more frame, PyTorch, onset kept", "", _torch(frames="onset kept")),
        TimedRow("one more frame, PyTorch bf16, onset kept", "", _torch(frames="onset kept", autocast="bfloat16")),
        TimedRow("one more frame, ONNX Runtime CPU, onset kept", "", partial(onnx_cached_step, device="cpu")),
    ),
    "gam_mer": (
        TimedRow("PyTorch eager", "PyTorch", _torch(keeps_memory=False)),
        TimedRow("PyTorch eager, SDPA", "", _no_sdpa),
        *SHARED,
    ),
}
"""The rows of each network; the ratios are to the first one."""


def needs_gpu(row: TimedRow) -> bool:
    """Whether a row can run on a CUDA GPU only."""
    return "CUDA" in row.name or "TensorRT" in row.name


def main(argv: Sequence[str]) -> None:
    """Prepare a row at the first line of the standard input, then time as many steps as each further line says.

    Prints ``{"memory_mb": ...}`` when ready, and ``{"times": ...}`` in ms for each further line, as JSON; or
    ``{"why": ...}`` if the row cannot run.
    """
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # compilers print, too
    import_module("gammer_lightning.deploy.bundle")  # takes seconds, which all rows can spend at once
    if not sys.stdin.readline():
        return
    spec = json.loads(argv[0])
    place = Place(**spec["place"])
    row = next(row for row in ROWS[spec["model"]] if row.name == spec["row"])
    try:
        synchronize, peak_memory = _cpu_functions() if place.device == "cpu" else _gpu_functions()
        step = row.prepare(spec["model"], place)
        for _ in range(WARMUP):
            step()
        synchronize()
    except Exception as error:  # whatever hinders a row, the others go on
        replies.write(json.dumps({"why": _reason(error)}) + "\n")
        return
    replies.write(json.dumps({"memory_mb": round(peak_memory(), 1)}) + "\n")
    for line in sys.stdin:
        times = [_milliseconds(step, synchronize) for _ in range(int(line))]
        replies.write(json.dumps({"times": times}) + "\n")


def _cpu_functions() -> tuple[Step, Callable[[], float]]:
    """Return a function that waits for nothing, and one that returns this process's peak memory, MB."""

    def synchronize() -> None:
        pass

    def peak_memory() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    return synchronize, peak_memory


def _gpu_functions() -> tuple[Step, Callable[[], float]]:
    """Return a function that waits for the GPU, and one that returns this process's memory on it, MB.

    The memory is what the process took beyond an empty context, to be read before another row starts. None of the
    three allocators gives memory back, so it is the peak.
    """
    import torch

    torch.zeros(1, device="cuda")
    free_before, _ = torch.cuda.mem_get_info()

    def peak_memory() -> float:
        free, _ = torch.cuda.mem_get_info()
        return (free_before - free) / 2**20

    return torch.cuda.synchronize, peak_memory


def _milliseconds(step: Step, synchronize: Step) -> float:
    started = time.perf_counter()
    step()
    synchronize()
    return 1000 * (time.perf_counter() - started)


def _reason(error: Exception) -> str:
    if isinstance(error, GammerError):
        return "; ".join(part for part in (error.what, error.next_step) if part)
    lines = [line for line in str(error).splitlines() if line.strip()]
    first_line = lines[0] if lines else ""
    return f"{type(error).__name__}: {first_line[:200]}"


if __name__ == "__main__":
    main(sys.argv[1:])
