"""The steps of an export: write, check, compare with PyTorch, build plans, compare those."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gammer_lightning.export.backends import Backend, Run, runner_graph
from gammer_lightning.export.bundle import WEIGHTS, Source, save_networks, sha256_of
from gammer_lightning.export.graphs import INTERFACE, make_graphs
from gammer_lightning.export.onnx_files import OPSET, Session, export_onnx, file_name
from gammer_lightning.export.parity import BATCHES, TOLERANCE, compare, measure_change, open_clips

PROFILE = (1, 1, 8)
"""Least, usual and largest batch of a TensorRT plan with a free batch."""


class Job:
    """One export: files written into a folder, then compared with PyTorch on the run's clips.

    Args:
        source: The run.
        staged: Folder of the new files.
        precision: ``"fp32"`` or ``"fp16"``.
        batch: The only batch size; None for any.
    """

    def __init__(self, source: Source, staged: Path, precision: str, batch: int | None):
        self.staged, self.precision, self.batch = staged, precision, batch
        self.batches = (batch, batch) if batch else BATCHES
        self.facts, self.clips = source.facts(), open_clips(source)
        networks = (source.magnifier.network, source.recognizer, self.facts["network"])
        self.reference, self.graphs = make_graphs(*networks), make_graphs(*networks, precision)
        save_networks(source, staged)
        self.files = {name: _entry(graph, "fp32", None) for graph, name in WEIGHTS.items()}

    def run(self, target: str) -> list[str]:
        """Write and prove ONNX files, then plans if they are wanted; return what does not hold."""
        onnx = {name: self._write_onnx(name) for name in self.graphs}
        sessions = {name: Session(path) for name, path in onnx.items()}
        failures = self._prove(sessions, f"onnxruntime {self.precision}", "cpu")
        if failures or target == "onnx":
            return failures
        return self._prove_plans(self._build_plans(onnx, target), target)

    def _write_onnx(self, name: str) -> Path:
        started, path = time.monotonic(), self.staged / file_name(name, self.precision)
        entry = _entry(name, self.precision, self.batch or "dynamic") | {"opset": OPSET}
        facts = {key: value for key, value in self.facts.items() if key != "files"}
        export_onnx(self.graphs[name], path, self.batch, facts | {"exported": entry})
        self._add(path, entry, started)
        return path

    def _add(self, path: Path, entry: dict[str, Any], started: float) -> None:
        self.files[path.name] = entry
        print(f"{path.name:<40} {path.stat().st_size / 1e6:7.2f} MB  {time.monotonic() - started:5.1f} s", flush=True)

    def _prove(self, graphs: Mapping[str, Run], name: str, device: str) -> list[str]:
        """Print the comparison with PyTorch, and below fp32 the change over all clips; return what does not hold."""
        tolerance = TOLERANCE[self.precision]
        print(f"{name} against PyTorch fp32 on clips of the run, tolerance {tolerance:g} of the largest value or of 1:")
        failures = []
        for result in compare(self.reference, graphs, self.clips, self.facts, self.precision, self.batches):
            print(f"  {result}", flush=True)
            failures += [] if result.holds else [f"{name}: {result}"]
        if failures or self.precision == "fp32":
            return failures
        backends = _backend(self.reference, "cpu"), _backend(graphs, device)
        change = measure_change(*backends, self.clips, self.facts["alpha"], self.batch or 1)
        print(change)
        return [f"{name}: not finite on {', '.join(change.broken)}"] if change.broken else []

    def _build_plans(self, onnx: Mapping[str, Path], target: str) -> dict[str, Path]:
        """Build a TensorRT plan from each ONNX file."""
        from gammer_lightning.export.engines import build_plan

        plans, package = {}, target.replace("-", "_")
        for name, path in onnx.items():
            started = time.monotonic()
            profile = (self.batch,) * 3 if self.batch else PROFILE
            plans[name] = build_plan(path, self.precision, package=package, batch=profile)
            entry = self.files[path.name] | {"onnx_sha256": sha256_of(path)}
            self._add(plans[name], entry, started)
            self.files[plans[name].with_name(plans[name].name + ".json").name] = entry
        return plans

    def _prove_plans(self, plans: Mapping[str, Path], target: str) -> list[str]:
        """Compare plans with PyTorch where there is a GPU to run them; return what does not hold."""
        if not torch.cuda.is_available():
            print(f"{target}: plans are built; they were not run, for which an NVIDIA GPU is needed")
            return []
        from gammer_lightning.export.engines import Runner

        graphs = {name: runner_graph(Runner(path), INTERFACE[name][1]) for name, path in plans.items()}
        return self._prove(graphs, f"{target} {self.precision}", "cuda")


def _entry(graph: str, precision: str, batch: int | str | None) -> dict[str, Any]:
    return {"graph": graph, "precision": precision, "batch": batch, "opset": None}


def _backend(graphs: Mapping[str, Run], device: str) -> Backend:
    return Backend("", torch.device(device), graphs)
