"""Speed of training all folds in one fit, against the same folds in turn."""

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from gammer_lightning.tasks.recognize import CPU_CHUNK, member_losses, seeded, stack, stacked_logits

SETTINGS = {"num_classes": 5}


def measure(
    folds: int = 13, batch: int = 32, repeats: int = 5, chunk: int = CPU_CHUNK, device: str = "cpu"
) -> list[dict]:
    """Time one training step of all folds, stacked and in turn, and of one fold alone.

    The three take turns, so that other load on the machine meets all of them; medians are compared.

    Args:
        folds: Number of members.
        batch: Clips in a batch.
        repeats: Timed rounds, after one that is not timed.
        chunk: Members that run at once.
        device: Device name.

    Returns:
        Rows with ``name``, ``value`` and ``unit``.
    """
    patches = torch.randn(batch, 68, 3, 16, 16, device=device)
    labels = torch.randint(5, (batch,), device=device)
    steps = {
        "stacked": _stacked_step(folds, chunk, patches, labels),
        "in turn": _in_turn_step(folds, patches, labels),
        "one": _in_turn_step(1, patches, labels),
    }
    rounds = [{name: _seconds(step, device) for name, step in steps.items()} for _ in range(repeats + 1)][1:]
    median = {name: statistics.median(times[name] for times in rounds) for name in steps}
    return [
        {
            "name": f"recognize: {folds} folds stacked, one step of {batch} clips",
            "value": median["stacked"],
            "unit": "s",
        },
        {"name": f"recognize: {folds} folds in turn", "value": median["in turn"], "unit": "s"},
        {
            "name": "recognize: stacked / in turn",
            "value": median["stacked"] / median["in turn"],
            "unit": "ratio",
        },
        {
            "name": f"recognize: {folds} folds stacked / one fold",
            "value": median["stacked"] / median["one"],
            "unit": "ratio",
        },
    ]


def _stacked_step(folds: int, chunk: int, patches: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    members = stack([seeded(0, SETTINGS) for _ in range(folds)]).to(patches.device)
    optimizer = torch.optim.Adam(members.parameters())
    clip_weights = torch.ones(folds, len(labels), device=patches.device)
    class_weights = torch.ones(folds, 5, device=patches.device)

    def step() -> None:
        optimizer.zero_grad()
        for start in range(0, folds, chunk):
            part = slice(start, start + chunk)
            logits = stacked_logits(members, patches, part)
            member_losses(logits, labels, clip_weights[part], class_weights[part]).sum().backward()
        optimizer.step()

    return step


def _in_turn_step(folds: int, patches: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    networks = [seeded(0, SETTINGS).to(patches.device) for _ in range(folds)]
    optimizers = [torch.optim.Adam(network.parameters()) for network in networks]

    def step() -> None:
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(network(patches), labels).backward()
            optimizer.step()

    return step


def _seconds(step: Callable[[], None], device: str) -> float:
    start = time.perf_counter()
    step()
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
