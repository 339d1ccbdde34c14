"""``gammer export``: a finished run as ONNX files and TensorRT plans that are proven to say the same."""

import argparse
import os
import sys
from pathlib import Path

from gammer_lightning.errors import GammerError

TARGETS = ("onnx", "tensorrt", "tensorrt-rtx")
MAX_BATCH = 256
"""The largest fixed batch: it is computed in PyTorch, too, and each frame of it takes tens of MB there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``gammer export``."""
    parser.add_argument("run", help="folder of a finished recognition run, or wandb:ENTITY/PROJECT/RUN")
    parser.add_argument("--magnifier", help="name, run folder or checkpoint of ST-MEMM (default: the run's own)")
    parser.add_argument("--to", default="onnx", choices=TARGETS, help="default: %(default)s")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16"), help="default: %(default)s")
    parser.add_argument(
        "--batch", default="dynamic", help=f"dynamic, or the only batch size, 1 to {MAX_BATCH} (default: %(default)s)"
    )
    parser.add_argument("--upload", action="store_true", help="log the bundle as an artifact of its run in W&B")


def main(arguments: argparse.Namespace) -> int:
    """Export a run.

    Returns:
        The exit code: 1 where the exported graphs do not say what PyTorch says; then nothing was written.

    Raises:
        GammerError: If the run, its clips, an argument or a package is not usable.
    """
    batch = _batch(arguments.batch)
    from gammer_lightning.deploy.bundle import FOLDER
    from gammer_lightning.deploy.finished_run import open_finished_run
    from gammer_lightning.deploy.onnx_files import need
    from gammer_lightning.deploy.tensorrt import check_builder
    from gammer_lightning.export import artifacts
    from gammer_lightning.export.job import Job
    from gammer_lightning.export.write_bundle import staging, write_bundle
    from gammer_lightning.files import disk_errors

    for package in ("onnx", "onnxscript", "onnxruntime"):
        need(package)
    if arguments.to != "onnx":
        check_builder(arguments.to.replace("-", "_"))
    if arguments.upload:
        artifacts.check_online(arguments.run)
    path = artifacts.fetch(arguments.run) if arguments.run.startswith(artifacts.PREFIX) else Path(arguments.run)
    source = open_finished_run(path, arguments.magnifier)
    print(f"checkpoint: {source.run.best}, magnifier: {source.magnifier.name}")
    folder = source.run.path / FOLDER
    with disk_errors(folder), staging(folder) as staged:
        job = Job(source, staged, arguments.precision, batch)
        failures = job.run(arguments.to)
        if failures:
            lines = [f"error: the exported graphs are not PyTorch's; {folder} is as it was", *failures]
            print("\n  ".join(lines), file=sys.stderr)
            return 1
        old_files = set(os.listdir(folder)) if folder.is_dir() else set()
        bundle = write_bundle(folder, job.staged, job.facts, job.files)
    removed_files = old_files - set(os.listdir(folder))
    if removed_files:
        print(f"removed, being of other weights or of an ONNX file that is new: {', '.join(sorted(removed_files))}")
    num_bytes = sum(file.bytes for file in bundle.facts.files.values())
    print(f"bundle: {folder}, {num_bytes / 1e6:.1f} MB")
    if arguments.upload:
        print(artifacts.upload(source.run, bundle))
    print(f"next: gammer predict {path} VIDEO")
    return 0


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isdecimal() or len(text) > len(str(MAX_BATCH)) or not 1 <= int(text) <= MAX_BATCH:
        raise GammerError(
            f"--batch {text[:40]}", f"dynamic, or a number of frames or clips from 1 to {MAX_BATCH}", "e.g. --batch 1"
        )
    return int(text)
