"""What this machine's memory and processor need: freed memory kept, want of memory told, slow bf16 named."""

import ctypes
import errno
import sys
from pathlib import Path

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
