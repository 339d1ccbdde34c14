"""``gammer doctor``: what is installed, what is missing, and what to do about it."""

import argparse
import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from gammer_lightning.errors import GammerError

WEIGHTS = Path(__file__).parents[1] / "weights"
OTHER_NAMES = {"dlib-bin": "dlib", "opencv-python-headless": "opencv-python", "onnxruntime": "onnxruntime-gpu"}
"""The same libraries as conda-forge, a build from source or the GPU's build names them."""
DISK_GB = 5
"""Free space that the embedded demo and its caches fit in with room to spare."""


class Finding(NamedTuple):
    """One line of the table; ``advice`` says what to do, and a required one with advice fails the check."""

    item: str
    value: str
    advice: str = ""
    required: bool = True


def python_packages() -> Iterator[Finding]:
    """Check Python and every package of setup.cfg against its bounds."""
    yield Finding("Python", platform.python_version())
    try:
        requirements = [Requirement(line) for line in requires("gammer-lightning") or []]
    except PackageNotFoundError:
        yield Finding("gammer-lightning", "not installed", "pip install -c constraints.txt -e .")
        return
    for requirement in requirements:
        if requirement.marker is None:
            yield _package(requirement)
    if _version("lightning"):
        advice = "pip uninstall lightning: it brings a second tree of the same classes"
        yield Finding("lightning", f"{_version('lightning')} beside pytorch-lightning", advice)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _package(requirement: Requirement) -> Finding:
    installed = _version(requirement.name) or _version(OTHER_NAMES.get(requirement.name, requirement.name))
    install = f"pip install -c constraints.txt '{requirement}'"
    if installed is None:
        return Finding(requirement.name, "missing", install)
    fits = requirement.specifier.contains(installed, prereleases=True)
    return Finding(requirement.name, installed, "" if fits else f"needs {requirement.specifier}: {install}")


def gpu() -> Iterator[Finding]:
    """Report CUDA and the GPUs; everything also runs without."""
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    advice = "" if names else "none is needed; for one, install NVIDIA's driver and see nvidia-smi"
    yield Finding("GPU", ", ".join(names) or "none", advice, required=False)
    yield Finding("CUDA of torch", torch.version.cuda or "none", required=False)


def tensorrt() -> Iterator[Finding]:
    """Report TensorRT, two optional extras."""
    runtimes = [f"{name} {_version(name)}" for name in ("tensorrt", "tensorrt-rtx") if _version(name)]
    advice = (
        "only for `gammer export --to tensorrt-rtx` (pip install 'gammer-lightning[tensorrt-rtx]') or "
        "`--to tensorrt` (pip install 'gammer-lightning[tensorrt]', from NVIDIA's own index)"
    )
    advice = "" if runtimes else advice
    yield Finding("TensorRT", ", ".join(runtimes) or "none", advice, required=False)


def optical_flow() -> Iterator[Finding]:
    """Report OpenCV's TV-L1 flow, which some of the systems that GAM-MER is compared with are shown."""
    import cv2

    install = "pip install --force-reinstall --no-deps opencv-contrib-python-headless"
    if hasattr(cv2, "optflow"):
        yield Finding("TV-L1 flow", "there", required=False)
    else:
        yield Finding("TV-L1 flow", "none", f"only for systems that are shown flow: {install}", required=False)


def landmark_model() -> Iterator[Finding]:
    """Check that the 68-point landmark model is there and is the one we know."""
    from gammer_lightning.faces.alignment import find_landmark_model

    try:
        yield Finding("landmark model", f"{find_landmark_model().name}, sha256 as expected")
    except GammerError as error:
        yield Finding("landmark model", error.what, error.next_step)


def shipped_weights() -> Iterator[Finding]:
    """Check each shipped weights file against the sha256 in the card beside it."""
    restore = "reinstall the package, or `git checkout gammer_lightning/weights`"
    files = sorted(WEIGHTS.glob("*.safetensors"))
    if not files:
        yield Finding("weights", f"none in {WEIGHTS}", restore)
    for file in files:
        cards = [card.read_text() for card in WEIGHTS.glob(f"{file.stem}.*") if card != file]
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if any(digest in card for card in cards):
            yield Finding(f"weights {file.stem}", "sha256 as in the card")
        else:
            yield Finding(f"weights {file.stem}", f"sha256 {digest[:12]}... is not in its card", restore)


def wandb_mode() -> Iterator[Finding]:
    """Report where W&B would write."""
    from gammer_lightning.runs.folder import wandb_default

    mode = wandb_default()
    advice = "to upload: `wandb login`, or set WANDB_API_KEY" if mode == "offline" else ""
    yield Finding("W&B", mode, advice, required=False)


def machine() -> Iterator[Finding]:
    """Report cores and free disk."""
    yield Finding("cores", str(os.cpu_count()))
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    advice = "" if free > DISK_GB else f"runs and caches of the demo need up to {DISK_GB} GB here"
    yield Finding("free disk", f"{free:.0f} GB in {Path.cwd()}", advice)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    python_packages,
    gpu,
    tensorrt,
    optical_flow,
    landmark_model,
    shipped_weights,
    wandb_mode,
    machine,
)


def findings(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Run one check; a package it cannot import is a finding, too."""
    try:
        return list(check())
    except ImportError as error:
        return [Finding(check.__name__.replace("_", " "), f"not checked: {error}", "see the packages above")]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: ``gammer doctor`` has no options."""


def main(args: argparse.Namespace) -> int:
    """Print the table; return 1 if something required is missing, else 0."""
    table = [finding for check in CHECKS for finding in findings(check)]
    width = max(len(finding.item) for finding in table)
    for finding in table:
        mark = "ok" if not finding.advice else ("MISSING" if finding.required else "-")
        print(f"{mark:<8}{finding.item:<{width}}  {finding.value}")
        if finding.advice:
            print(f"{'':<{width + 10}}-> {finding.advice}")
    missing = sum(finding.required and bool(finding.advice) for finding in table)
    print(f"{missing} to mend" if missing else "all that is required is there")
    return 1 if missing else 0
