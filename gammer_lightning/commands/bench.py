"""``gammer bench``: speed and memory of the parts, as medians and as ratios within one run."""

import argparse
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gammer_lightning.commands.options import whole
from gammer_lightning.machine import interleaved
from gammer_lightning.processes import python_command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer bench``."""
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"any of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--threads", type=whole(1, 1024), default=2, help="torch's threads (default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--repeats", type=whole(1, 1_000_000), default=15, help="timed rounds (default: %(default)s)")
    parser.add_argument("--json", help="also write the rows to this file")


def main(arguments: argparse.Namespace) -> None:
    """Run the parts and print a row a measurement: median, fastest, slowest, ratio to the part's first row.

    Raises:
        GammerError: A part is unknown.
    """
    import torch

    from gammer_lightning.errors import GammerError
    from gammer_lightning.files import check_is_file, check_writable, disk_errors, write_json
    from gammer_lightning.machine import cpu_name

    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        raise GammerError(
            f"unknown part {', '.join(unknown)}", f"parts are {', '.join(PARTS)}", "gammer bench magnifier"
        )
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise GammerError("device cuda", "torch can use no NVIDIA GPU here", "--device cpu, or see `gammer doctor`")
    if arguments.json:  # now, not after the minutes of measuring
        with disk_errors(arguments.json):
            if Path(arguments.json).exists():
                check_is_file(Path(arguments.json))
            check_writable(Path(arguments.json).parent)
    torch.set_num_threads(arguments.threads)
    device_name = torch.cuda.get_device_name() if arguments.device == "cuda" else cpu_name()
    print(f"{device_name}, {arguments.threads} threads, torch {torch.__version__}, {arguments.repeats} rounds")
    rows = [{"part": part} | row for part in arguments.parts for row in PARTS[part](arguments)]
    for row in rows:
        cells = [f"{row['part']:<10} {row['name']:<52}"]
        cells += [f"{key} {value:.4g}" for key, value in row.items() if key not in ("part", "name")]
        print("  ".join(cells))
    if arguments.json:
        with disk_errors(arguments.json):
            write_json(arguments.json, rows)


def magnifier(arguments: argparse.Namespace) -> list[dict]:
    """ST-MEMM `small`, one 256x256 frame with the reference cached, its modes, and seven alphas of one pair."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from gammer_lightning.models.st_memm import STMEMM

    device = arguments.device
    network = STMEMM("small").to(device).eval()
    onset, apex = torch.rand(2, 1, 3, 256, 256, device=device)
    one_alpha = torch.full((1, 1), 10.0, device=device)
    seven_alphas = torch.linspace(5, 20, 7, device=device)[:, None]
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            network(onset, apex, one_alpha)
        reference = network.encode(onset)

        def frame() -> None:
            network.decode(reference, network.encode(apex), one_alpha)

        def half() -> None:
            with torch.autocast(device, torch.bfloat16):
                frame()

        steps = {
            "frame, reference cached, fp32": frame,
            "frame, reference cached, bf16": half,
            "pair, one alpha, fp32": lambda: network(onset, apex, one_alpha),
            "pair, seven alphas, fp32": lambda: network(onset, apex, seven_alphas),
        }
        rows = interleaved(steps, arguments.repeats, device)
    seven_to_one = rows[3]["ms"] / rows[2]["ms"]
    return [
        {"name": "pair, one alpha", "GFLOP": counter.get_total_flops() / 1e9},
        *rows,
        {"name": "seven alphas / one alpha", "ratio": seven_to_one},
    ]


def pairs(arguments: argparse.Namespace) -> list[dict]:
    """The generator of motion pairs: samples a second of experiments/magnify_small.yaml, drawing and rendering."""
    import numpy as np
    from torch.utils.data import default_collate

    from gammer_lightning.data.motion.image_sources import ImageSources
    from gammer_lightning.data.motion.render import render
    from gammer_lightning.data.motion.scenes import draw_scene

    sources = ImageSources(["embedded"])

    def draw() -> dict:
        scenes = (draw_scene(sources, np.random.default_rng([0, index]), 64, (0, 3)) for index in range(12))
        return default_collate([dict(scene) for scene in scenes])

    batch = {name: value.to(arguments.device) for name, value in draw().items()}
    rows = interleaved({"draw 12 scenes": draw, "render 12 scenes, 64 px": lambda: render(batch)}, arguments.repeats)
    total = sum(row["ms"] for row in rows) / 1000
    return [*rows, {"name": "samples of 64 px", "per second": 12 / total}]


def recognize(arguments: argparse.Namespace) -> list[dict]:
    """A training step of GAM-MER: folds in turn, the same folds in one fit, and one fold; 32 clips."""
    import torch

    patches = torch.randn(32, 68, 3, 16, 16, device=arguments.device)
    labels = torch.randint(5, (32,), device=arguments.device)
    steps = {
        "26 folds in turn": _in_turn(26, patches, labels),
        "26 folds in one fit": _stacked(26, patches, labels),
        "one fold": _in_turn(1, patches, labels),
    }
    return interleaved(steps, arguments.repeats, arguments.device)


def _stacked(folds: int, patches, labels) -> Callable[[], None]:
    import torch

    from gammer_lightning.tasks.label_kinds import member_losses
    from gammer_lightning.tasks.members import seeded, stack, stacked_logits

    members = stack([seeded(0, {"num_classes": 5}) for _ in range(folds)]).to(patches.device)
    optimizer = torch.optim.Adam(members.parameters())
    clip_weights = torch.ones(folds, len(labels), device=patches.device)
    class_weights = torch.ones(folds, 5, device=patches.device)
    chunk = members.cpu_chunk if patches.device.type == "cpu" else folds

    def step() -> None:
        optimizer.zero_grad()
        for start in range(0, folds, chunk):
            part = slice(start, start + chunk)
            logits = stacked_logits(members, patches, part)
            losses = member_losses(logits, labels, clip_weights[part], class_weights[part])
            losses.sum().backward()
        optimizer.step()

    return step


def _in_turn(folds: int, patches, labels) -> Callable[[], None]:
    import torch

    from gammer_lightning.tasks.members import seeded

    networks = [seeded(0, {"num_classes": 5}).to(patches.device) for _ in range(folds)]
    optimizers = [torch.optim.Adam(network.parameters()) for network in networks]

    def step() -> None:
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(patches), labels)
            loss.backward()
            optimizer.step()

    return step


def startup(arguments: argparse.Namespace) -> list[dict]:
    """`gammer --help` and the import of the package, as whole processes."""
    commands = {
        "gammer --help": python_command("-m", "gammer_lightning.cli", "--help"),
        "import gammer_lightning": python_command("-c", "import gammer_lightning"),
    }
    steps = {}
    for name, command in commands.items():
        steps[name] = partial(subprocess.run, command, check=True, capture_output=True)
    return interleaved(steps, arguments.repeats)


def sweep(arguments: argparse.Namespace) -> list[dict]:
    """The supervisor of sweeps, see `gammer_lightning.commands.bench_sweep`; one round."""
    from gammer_lightning.commands.bench_sweep import measure

    return measure()


PARTS = {"startup": startup, "magnifier": magnifier, "pairs": pairs, "recognize": recognize, "sweep": sweep}
