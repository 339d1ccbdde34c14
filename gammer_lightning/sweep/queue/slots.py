"""Where rows run: groups of GPUs, or worker processes that share the cores."""

import os
from dataclasses import dataclass

import psutil

from gammer_lightning.errors import GammerError
from gammer_lightning.machine import cores

ROW_BYTES = 2 * 2**30
"""Memory that one row of the embedded benchmark may take on a CPU (1.4 GB measured)."""

MAX_WORKERS_PER_CORE = 8
"""More rows at once than that on a core would only wait for each other."""


@dataclass(frozen=True)
class Slot:
    """A place for one row: its name, and what the environment of the row's process says."""

    name: str
    environment: dict[str, str]


def visible_devices() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    if not variable:
        return [str(number) for number in range(count)]
    names = [device.strip() for device in variable.split(",")]
    return names[:count]


def make_slots(devices: str | None, workers: int | None, per_row: int, rows: int) -> list[Slot]:
    """Return the slots of a machine.

    Args:
        devices: GPUs, e.g. ``"0,1,2,3"``; None for all there are.
        workers: Rows at once on the CPU; None where GPUs do it; without GPUs, as many as cores and memory allow.
        per_row: Devices of a row.
        rows: Number of rows, more slots than which are of no use.

    Raises:
        GammerError: If a device does not exist, or they do not make whole groups.
    """
    if workers is not None:
        return _workers(workers)
    visible = visible_devices()
    if devices is None and not visible:
        rows_in_memory = max(1, psutil.virtual_memory().available // ROW_BYTES)
        return _workers(min(rows, cores(), rows_in_memory))
    devices_used = visible
    if devices is not None:
        devices_used = [device.strip() for device in devices.split(",")]
    unknown = [device for device in devices_used if device not in visible]
    if unknown:
        raise GammerError(
            f"device {', '.join(unknown)}",
            f"the devices here are {', '.join(visible) or 'none'}",
            "correct --devices" if visible else "leave --devices out: --workers N runs N rows at once on the CPU",
        )
    if len(set(devices_used)) < len(devices_used) or len(devices_used) % per_row:
        raise GammerError(
            f"devices {devices or ','.join(visible)}",
            f"each once, in groups of {per_row} (devices_per_trial)",
            "correct --devices",
        )
    slots = []
    for start in range(0, len(devices_used), per_row):
        group = ",".join(devices_used[start : start + per_row])
        slots.append(Slot(f"GPU {group}", {"CUDA_VISIBLE_DEVICES": group}))
    return slots


def _workers(count: int) -> list[Slot]:
    most = MAX_WORKERS_PER_CORE * cores()
    if not 1 <= count <= most:
        raise GammerError(
            f"--workers {count}",
            f"1 to {most}, {MAX_WORKERS_PER_CORE} for each of {cores()} cores",
            "correct --workers",
        )
    threads = str(max(1, cores() // count))
    environment = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return [Slot(f"worker {number}", environment) for number in range(1, count + 1)]
