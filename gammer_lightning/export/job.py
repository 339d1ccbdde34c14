"""The steps of an export: write, check, compare with PyTorch, build plans, compare those."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from gammer_lightning.data.datamodule import MagnifiedClips
from gammer_lightning.deploy.backends import Backend, Run, runner_graph
from gammer_lightning.deploy.bundle import WEIGHTS
from gammer_lightning.deploy.facts import GraphFile, HalfChange, Training
from gammer_lightning.deploy.finished_run import FinishedRun
from gammer_lightning.deploy.graphs import INTERFACE, Precision, make_graphs
from gammer_lightning.deploy.onnx_files import OPSET, Session, export_onnx, file_name
from gammer_lightning.deploy.tensorrt import PAPERS_GPU, Runner, build_plan, description_path
from gammer_lightning.deploy.values import Rule, check_values, is_count, is_text
from gammer_lightning.evaluation.folds import INNER, outer_clips
from gammer_lightning.export.parity import BATCHES, TOLERANCE, compare, measure_change, open_clips
from gammer_lightning.export.write_bundle import save_networks
from gammer_lightning.files import sha256_of

PROFILE = (1, 1, 8)
"""Least, usual and largest batch of a TensorRT plan with a free batch."""
ONNXRUNTIME = {
    "fp32": "onnxruntime fp32",
    "fp16": "onnxruntime fp16 (on the CPU: weights at fp16, most arithmetic at fp32)",
}
"""What is compared first, by precision; the CPU provider has no kernels at fp16 for products, sums and most else."""

PROTOCOL_RULES = {
    "model.protocol": Rule(is_text, "a protocol"),
    "model.num_folds": Rule(lambda value: is_count(value, 2), "a number of folds", needed=False),
    "model.outer_fold": Rule(is_count, "the number of a fold, from 0", needed=False),
}


class Job:
    """One export: files written into a folder, then compared with PyTorch on the run's clips.

    Args:
        source: The run.
        staged: Folder of the new files.
        precision: ``"fp32"`` or ``"fp16"``.
        batch: The only batch size; None for any.
    """

    def __init__(self, source: FinishedRun, staged: Path, precision: Precision, batch: int | None):
        self.staged = staged
        self.precision = precision
        self.batch = batch
        self.batches = (batch, batch) if batch else BATCHES
        self.clips = open_clips(source)
        self.facts = replace(source.facts(), training=_trained_on(source, self.clips))
        self.networks = (source.magnifier.network, source.recognizer, self.facts.network)
        self.reference = make_graphs(*self.networks)
        self.graphs = make_graphs(*self.networks, precision)
        save_networks(source, staged)
        self.files = {name: GraphFile(graph=graph, precision="fp32") for graph, name in WEIGHTS.items()}

    def run(self, target: str) -> list[str]:
        """Write and compare ONNX files, then plans if the target needs them; return a line for each failure."""
        onnx = {name: self._write_onnx(name) for name in self.graphs}
        sessions = {name: Session(path) for name, path in onnx.items()}
        failures = self._compare(sessions, ONNXRUNTIME[self.precision])
        if self.precision == "fp16":
            failures = failures or self._prove_half()
        if failures or target == "onnx":
            return failures
        return self._prove_plans(self._build_plans(onnx, target), target)

    def _write_onnx(self, name: str) -> Path:
        started = time.monotonic()
        path = self.staged / file_name(name, self.precision)
        file = GraphFile(graph=name, precision=self.precision, batch=self.batch or "dynamic", opset=OPSET)
        description = self.facts.as_dict()
        del description["files"], description["fp16"]
        description["exported"] = file.as_dict()
        export_onnx(self.graphs[name], path, self.batch, description)
        self._add(path, file, started)
        return path

    def _add(self, path: Path, file: GraphFile, started: float) -> None:
        """Note a new file, and print its size and how long it took."""
        self.files[path.name] = file
        megabytes = path.stat().st_size / 1e6
        seconds = time.monotonic() - started
        print(f"{path.name:<40} {megabytes:7.2f} MB  {seconds:5.1f} s", flush=True)

    def _compare(self, graphs: Mapping[str, Run], name: str) -> list[str]:
        """Print the comparison with PyTorch; return a line for each failure."""
        tolerance = TOLERANCE[self.precision]
        print(f"{name} against PyTorch fp32 on clips of the run, tolerance {tolerance:g} of the largest value or of 1:")
        failures = []
        for result in compare(self.reference, graphs, self.clips, self.facts, self.precision, self.batches):
            print(f"  {result}", flush=True)
            if not result.holds:
                failures.append(f"{name}: {result}")
        return failures

    def _prove(self, graphs: Mapping[str, Run], name: str, device: str) -> list[str]:
        """Compare with PyTorch, and at fp16 measure the change over all clips; return a line for each failure."""
        failures = self._compare(graphs, name)
        if failures or self.precision == "fp32":
            return failures
        reference = Backend("PyTorch fp32", torch.device("cpu"), self.reference)
        lower = Backend(name, torch.device(device), graphs)
        change = measure_change(reference, lower, self.clips, self.facts.alpha, self.batch or 1)
        print(change)
        self.facts.fp16[name] = HalfChange(
            clips=change.clips, changed=change.changed, probability=change.probability, frame=change.frame
        )
        return [f"{name}: not finite on {', '.join(change.broken)}"] if change.broken else []

    def _prove_half(self) -> list[str]:
        """Prove half arithmetic in PyTorch, on the GPU where there is one: onnxruntime's fp32 hides what overflows."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        graphs = make_graphs(*self.networks, self.precision, device) if device == "cuda" else self.graphs
        return self._prove(graphs, f"PyTorch fp16 (half arithmetic, {_device_name()})", device)

    def _build_plans(self, onnx: Mapping[str, Path], target: str) -> dict[str, Path]:
        """Build a TensorRT plan from each ONNX file."""
        package = target.replace("-", "_")
        profile = (self.batch, self.batch, self.batch) if self.batch else PROFILE
        plans = {}
        for name, path in onnx.items():
            started = time.monotonic()
            plan = build_plan(path, self.precision, package=package, batch=profile)
            file = replace(self.files[path.name], onnx_sha256=sha256_of(path))
            self._add(plan, file, started)
            self.files[description_path(plan).name] = file
            plans[name] = plan
        return plans

    def _prove_plans(self, plans: Mapping[str, Path], target: str) -> list[str]:
        """Compare plans with PyTorch where there is a GPU to run them; return a line for each failure."""
        if not torch.cuda.is_available():
            print(
                f"{target}: there is no GPU here, so plans are built for {PAPERS_GPU}, the paper's A10, and were not "
                "run; on a machine with another GPU the same command builds and compares them there"
            )
            return []
        graphs = {name: runner_graph(Runner(path), INTERFACE[name][1]) for name, path in plans.items()}
        return self._prove(graphs, f"{target} {self.precision} ({_device_name()})", "cuda")


def _trained_on(source: FinishedRun, clips: MagnifiedClips) -> Training:
    """Count what the exported member has trained on: it holds out nobody, but inner validation leaves subjects out."""
    check_values(source.config, PROTOCOL_RULES, source.run.config, "copy the run folder again")
    model = source.config["model"]
    indices = set(range(len(clips.clips)))
    if model["protocol"] == INNER:
        left_out = outer_clips(clips.subjects, clips.labels, model["num_folds"], model["outer_fold"])
        indices -= set(left_out.tolist())
    subjects = {clips.subjects[index] for index in indices}
    return Training(clips=len(indices), subjects=len(subjects))


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
