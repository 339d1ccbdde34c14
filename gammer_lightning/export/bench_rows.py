"""The rows of `gammer bench export`: what each one times, in a process of its own (`main`).

Nothing heavy is imported at the head: the memory of an ONNX Runtime row is that of a program without torch.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from gammer_lightning.errors import GammerError

Step = Callable[[], object]
SIDE, WARMUP = 256, 5


class Place(NamedTuple):
    """Where a row runs: the folder of the bundle or run, that of its ONNX files, "cpu" or "cuda", threads, alpha."""

    bundle: str
    files: str
    device: str
    threads: int
    alpha: float


class Row(NamedTuple):
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
    model: str, place: Place, sdpa: bool = True, autocast: str = "", compiled: bool = False, cached: bool = False
) -> Step:
    """Return a step in PyTorch.

    Args:
        model: ``st_memm`` or ``gam_mer``.
        place: Where it runs.
        sdpa: Whether ST-MEMM's attention is `scaled_dot_product_attention`, or two products and a softmax.
        autocast: Type of autocast, "" for fp32.
        compiled: Whether it is compiled; on a GPU with CUDA graphs and tuned kernels.
        cached: Whether the onset's features are kept, as on a video: a step is then one more frame.
    """
    import torch

    torch.set_num_threads(place.threads)
    network, inputs = _network(model, place)
    if not sdpa:
        for module in network.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False
    if compiled:
        network.compile(mode="max-autotune" if place.device == "cuda" else "default")

    def context():
        return torch.autocast(place.device, getattr(torch, autocast)) if autocast else nullcontext()

    with torch.inference_mode(), context():
        reference = network.encode(inputs[0]) if cached else None

    def step() -> None:
        with torch.inference_mode(), context():
            if cached:
                network.decode(reference, network.encode(inputs[1]), inputs[2])
            else:
                network(*inputs)

    return step


def _network(model: str, place: Place) -> tuple[Any, tuple]:
    """Return the network and random inputs for it, on the device."""
    import torch

    from gammer_lightning.export.bundle import load_bundle

    bundle = load_bundle(place.bundle)
    magnifier, recognizer = bundle.networks()
    if model == "gam_mer":
        size = bundle.patch_size
        patches = _arrays({"patches": (1, 68, bundle.facts["channels"], size, size)}, place)["patches"]
        return recognizer.to(place.device).eval(), (torch.from_numpy(patches).to(place.device),)
    frame = (1, 3, SIDE, SIDE)
    pair = _arrays({"onset": frame, "apex": frame, "alpha": (1, 1)}, place)  # STMEMM takes alphas (A, B)
    return magnifier.to(place.device).eval(), tuple(torch.from_numpy(x).to(place.device) for x in pair.values())


def _arrays(shapes: Mapping[str, Sequence[int]], place: Place) -> dict[str, Any]:
    """Return random inputs, each in the range that its name stands for."""
    import numpy as np

    generator = np.random.default_rng(0)
    low = {"patches": -1.0}
    arrays = {name: generator.uniform(low.get(name, 0.0), 1, shape) for name, shape in shapes.items()}
    if "alpha" in arrays:
        arrays["alpha"][...] = place.alpha
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def onnx_step(model: str, place: Place, provider: str, precision: str = "fp32") -> Step:
    """Return a step in ONNX Runtime; on a GPU its inputs and outputs stay there, as they do in PyTorch."""
    session = _session(model, place, provider, precision)
    inputs = _arrays(_shapes(session), place)
    if provider == "CPUExecutionProvider":
        return lambda: session.run(None, inputs)
    import onnxruntime

    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cuda")
    return lambda: session.run_with_iobinding(binding)


def onnx_cached_step(model: str, place: Place, provider: str) -> Step:
    """Return a step in ONNX Runtime that encodes one more frame and decodes it against a kept onset."""
    encoder, decoder = (_session(f"{model}_{part}", place, provider, "fp32") for part in ("encoder", "decoder"))
    inputs = _arrays(_shapes(decoder), place)
    frame = {"frame": _arrays(_shapes(encoder), place)["frame"]}

    def step() -> None:
        inputs["apex_mix"] = encoder.run(None, frame)[0]
        decoder.run(None, inputs)

    return step


def _session(name: str, place: Place, provider: str, precision: str):
    import onnxruntime

    from gammer_lightning.export.onnx_files import open_session

    if provider not in onnxruntime.get_available_providers():
        raise GammerError(f"this onnxruntime has no {provider}", "", "pip install onnxruntime-gpu in its place")
    return open_session(_file(name, place, precision), provider, place.threads)


def _file(name: str, place: Place, precision: str) -> Path:
    path = Path(place.files, f"{name}.onnx" if precision == "fp32" else f"{name}.{precision}.onnx")
    if not path.is_file():
        wanted = "" if precision == "fp32" else f" --precision {precision}"
        raise GammerError(f"no {path.name}", "", f"gammer export {place.bundle} --to onnx{wanted}")
    return path


def _shapes(session) -> dict[str, list[int]]:
    """Return the shapes of a session's inputs at batch 1."""
    return {one.name: [size if isinstance(size, int) else 1 for size in one.shape] for one in session.get_inputs()}


def tensorrt_step(model: str, place: Place, package: str, precision: str) -> Step:
    """Return a step in TensorRT, from the plan beside the ONNX file."""
    import torch

    from gammer_lightning.export.engines import Runner, import_tensorrt, plan_path, target_name

    import_tensorrt(package)
    plan = plan_path(Path(place.files, f"{model}.onnx"), precision, package)
    if not plan.is_file():
        command = f"gammer export {place.bundle} --to {target_name(package)} --precision {precision}"
        raise GammerError(f"no {plan.name}", "", command)
    runner = Runner(plan)
    shapes = {
        name: [1 if size == -1 else size for size in shape] for name, shape in runner.description["inputs"].items()
    }
    inputs = {name: torch.from_numpy(array).to("cuda") for name, array in _arrays(shapes, place).items()}
    return lambda: runner(inputs)


def _onnx(provider: str, **settings) -> Callable[[str, Place], Step]:
    return lambda model, place: onnx_step(model, place, provider, **settings)


def _torch(**settings) -> Callable[[str, Place], Step]:
    return lambda model, place: torch_step(model, place, **settings)


def _tensorrt(package: str, precision: str) -> Callable[[str, Place], Step]:
    return lambda model, place: tensorrt_step(model, place, package, precision)


def _no_sdpa(model: str, place: Place) -> Step:
    raise GammerError("graph attention has additive scores, no products of queries and keys")


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
SHARED = (
    Row("PyTorch, torch.compile", "", _torch(compiled=True)),
    Row("PyTorch, bf16", "", _torch(autocast="bfloat16")),
    Row("PyTorch, fp16", "", _torch(autocast="float16")),
    Row("ONNX Runtime, CPU", "ONNX", _onnx(CPU)),
    Row("ONNX Runtime, CUDA", "ONNX", _onnx(CUDA)),
    Row("ONNX Runtime, CUDA, fp16", "", _onnx(CUDA, precision="fp16")),
    Row("TensorRT, fp32", "TensorRT", _tensorrt("tensorrt", "fp32")),
    Row("TensorRT, fp16", "float16", _tensorrt("tensorrt", "fp16")),
    Row("TensorRT-RTX, fp32", "TensorRT", _tensorrt("tensorrt_rtx", "fp32")),
    Row("TensorRT-RTX, fp16", "float16", _tensorrt("tensorrt_rtx", "fp16")),
)
ROWS: dict[str, tuple[Row, ...]] = {
    "st_memm": (
        Row("PyTorch eager, attention without SDPA", "PyTorch", _torch(sdpa=False)),
        Row("PyTorch eager, SDPA", "", _torch()),
        *SHARED,
        Row("one more frame, PyTorch, onset kept", "", _torch(cached=True)),
        Row("one more frame, PyTorch bf16, onset kept", "", _torch(cached=True, autocast="bfloat16")),
        Row("one more frame, ONNX Runtime CPU, onset kept", "", lambda *a: onnx_cached_step(*a, CPU)),
    ),
    "gam_mer": (Row("PyTorch eager", "PyTorch", _torch()), Row("PyTorch eager, SDPA", "", _no_sdpa), *SHARED),
}
"""The rows of each network; the ratios are to the first one."""
NEEDS_GPU = ("CUDA", "TensorRT")


def main(argv: Sequence[str]) -> None:
    """Prepare a row, then time as many steps as each line of the standard input says, until it ends.

    Prints a JSON line when ready, and one for each such line: what was measured, or ``{"why": ...}`` it cannot run.
    """
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # compilers print, too
    spec = json.loads(argv[0])
    place = Place(**spec["place"])
    row = next(row for row in ROWS[spec["model"]] if row.name == spec["row"])
    try:
        step, wait, memory = _prepare(row, spec["model"], place)
    except Exception as error:  # whatever hinders a row, the others go on
        replies.write(json.dumps({"why": _why(error)}) + "\n")
        return
    replies.write(json.dumps({"memory_mb": round(memory(), 1)}) + "\n")
    for line in sys.stdin:
        times = [_milliseconds(step, wait) for _ in range(int(line))]
        replies.write(json.dumps({"times": times}) + "\n")


def _prepare(row: Row, model: str, place: Place) -> tuple[Step, Step, Callable[[], float]]:
    """Return a warm step, what waits for the device, and what reads the peak memory in MB."""
    if place.device == "cpu":
        if any(word in row.name for word in NEEDS_GPU):
            raise GammerError("it runs on a CUDA GPU, and the bench was not run on one")
        wait, memory = (lambda: None), (lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        wait, memory = _gpu()
    step = row.prepare(model, place)
    for _ in range(WARMUP):
        step()
    wait()
    return step, wait, memory


def _gpu() -> tuple[Step, Callable[[], float]]:
    """Return what waits for the GPU, and how much of its memory this process took beyond an empty context, MB.

    To be read before another row starts. No allocator of the three gives memory back: so that is the peak.
    """
    import torch

    torch.zeros(1, device="cuda")
    before = torch.cuda.mem_get_info()[0]
    return torch.cuda.synchronize, lambda: (before - torch.cuda.mem_get_info()[0]) / 2**20


def _milliseconds(step: Step, wait: Step) -> float:
    started = time.perf_counter()
    step()
    wait()
    return 1000 * (time.perf_counter() - started)


def _why(error: Exception) -> str:
    if isinstance(error, GammerError):
        return "; ".join(part for part in (error.what, error.next_step) if part)
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


if __name__ == "__main__":
    main(sys.argv[1:])
