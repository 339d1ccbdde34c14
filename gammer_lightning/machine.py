"""What this machine's memory and processor need: freed memory kept, want of memory told, slow bf16 named."""

import ctypes
import errno
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES, BLOCK_BYTES = 2**30, 2**28
"""How much free memory is kept, and up to which size blocks are kept."""


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step; nothing where there is no glibc.

    By itself it returns large blocks to the system, now and then or at each step, and a network on the CPU waits for
    every page to be given anew.

    Source: mallopt(3).
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, BLOCK_BYTES)


def is_want_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: Python's, OpenCV's, the GPU's, or torch's on the CPU, which is a RuntimeError."""
    signs = ("DefaultCPUAllocator", "allocate memory", "Insufficient memory")
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(sign in str(error) for sign in signs)
    )


def slow_bf16(precision: str, device: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return a note where bf16 is slower than fp32: on a CPU that has no arithmetic for it; else nothing.

    Args:
        precision: e.g. ``"bf16"``, or Lightning's ``"bf16-mixed"``.
        device: ``"cpu"`` or ``"cuda"``.
        cpuinfo: Where Linux says what the processor can; elsewhere nothing is known and nothing said.
    """
    if not precision.startswith("bf16") or device != "cpu" or not cpuinfo.is_file() or "bf16" in cpuinfo.read_text():
        return ""  # avx512_bf16, amx_bf16, bf16 on ARM
    return "this CPU has no bf16 arithmetic (AMX or AVX-512 BF16): it takes up to nine times as long as fp32"


def interleaved(steps: Mapping[str, Callable[[], object]], repeats: int, device: str = "cpu") -> list[dict]:
    """Time functions in turn, after two untimed rounds, so that other load on the machine meets all of them.

    Returns:
        For each its ``name``, median, fastest and slowest in ms, and the ``ratio`` of its median to the first one's.
    """
    import torch

    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 2):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            times[name].append((time.perf_counter() - started) * 1000)
    medians = {name: statistics.median(values[2:]) for name, values in times.items()}
    first = next(iter(medians.values()))
    return [
        dict(
            name=name,
            ms=median,
            fastest=min(times[name][2:]),
            slowest=max(times[name][2:]),
            ratio=median / first,
        )
        for name, median in medians.items()
    ]


@contextmanager
def one_thread() -> Iterator[int]:
    """Let PyTorch use one thread for each operation meanwhile; yield how many it had."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def cpu_name() -> str:
    """Return the model name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def git_state() -> dict[str, Any] | None:
    """Return commit and dirty flag of the checkout that this package runs from; None outside of one."""
    package = Path(__file__).resolve().parent
    ask = ["git", "-C", str(package)]
    try:
        top = subprocess.check_output(
            [*ask, "rev-parse", "--show-toplevel", "HEAD"], text=True, stderr=subprocess.DEVNULL
        )
        changes = subprocess.check_output([*ask, "status", "--porcelain"], text=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return None
    folder, commit = top.split("\n")[:2]
    return {"commit": commit, "dirty": bool(changes)} if package.parent == Path(folder) else None


def environment() -> dict[str, Any]:
    """Describe Python, the packages, the machine and the commit."""
    import torch

    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "git": git_state(),
        "packages": dict(sorted((d.name, d.version) for d in distributions())),
    }


def cores() -> int:
    """Return how many cores this process may use: fewer than the machine has under taskset, SLURM or a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
