"""Whether exported graphs say what PyTorch says, on the run's own clips; and what half precision changes."""

import inspect
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from gammer_lightning.data.clips.datasets import variable
from gammer_lightning.data.datamodule import MagnifiedClips
from gammer_lightning.data.inputs.face_clip import FacePair
from gammer_lightning.data.premagnify.cache import RAW
from gammer_lightning.deploy.backends import Backend, Run
from gammer_lightning.deploy.facts import BundleFacts
from gammer_lightning.deploy.finished_run import FinishedRun
from gammer_lightning.deploy.graphs import INTERFACE
from gammer_lightning.deploy.values import Rule, check_values, is_table, is_text
from gammer_lightning.errors import GammerError
from gammer_lightning.machine import one_thread
from gammer_lightning.pixels import to_floats, to_uint8

TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2}
"""Largest difference from PyTorch's float32, as a share of the output's largest value, or of 1 where that is less."""
BATCHES = (1, 3)
"""Batch sizes that a graph with a free batch is compared at."""

DATA_RULES = {
    "data": Rule(
        lambda data: set(data) <= set(inspect.signature(MagnifiedClips).parameters), "settings of the clips, no others"
    ),
    "data.roots": Rule(lambda roots: is_table(roots, lambda root: root is None or is_text(root), 1), "folders by name"),
}


def open_clips(source: FinishedRun) -> MagnifiedClips:
    """Return the clips that a run was trained on, pre-magnified at its evaluation alpha.

    Data sets are looked for where the run found them, then where their environment variables say.

    Raises:
        GammerError: If they are not on this machine, or not those of the checkpoint.
    """
    check_values(source.config, DATA_RULES, source.run.config, "copy the run folder again, or train again")
    data = source.config["data"]
    alphas = [data["eval_alpha"]]
    roots = {name: root if root and Path(root).is_dir() else None for name, root in data["roots"].items()}
    settings = data | {"roots": roots, "alphas": alphas, "train_alphas": alphas, "num_workers": 0}
    try:
        clips = MagnifiedClips(**settings)
        clips.prepare_data()
        clips.setup()
    except GammerError as error:
        absent = [name for name, root in roots.items() if not root and not os.environ.get(variable(name))]
        if absent:
            raise _absent(source, absent) from error
        raise
    if clips.clip_hash != source.recognition.clip_hash:
        folders = ", ".join(map(str, roots.values()))
        raise GammerError(
            f"the clips in {folders} are not those of {source.run.path}",
            "an export is compared with PyTorch on the clips and labels that the run was trained with",
            "restore the data set, or train again: gammer recognize fit",
        )
    return clips


def _absent(source: FinishedRun, names: Sequence[str]) -> GammerError:
    roots = source.config["data"]["roots"]
    missing = ", ".join(f"{name} ({roots[name] or f'{variable(name)} is not set'})" for name in names)
    settings = " ".join(f"{variable(name)}=/path/to/{name}" for name in names)
    return GammerError(
        f"the clips of {source.run.path} are not on this machine: {missing}",
        "every export is compared with PyTorch on the run's own clips, and none is written without",
        f"{settings} gammer export ..., with the data set copied here; `gammer data list` says how to get it",
    )


@dataclass(frozen=True)
class Result:
    """One comparison.

    Attributes:
        what: Graph and batch size.
        difference: Largest absolute difference.
        limit: The largest that passes.
    """

    what: str
    difference: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether it passes; a value that is not finite does not."""
        return self.difference <= self.limit

    def __str__(self) -> str:
        """Return a line of the report."""
        verdict = "ok" if self.holds else "FAILED"
        return f"{self.what:<44} max |difference| {self.difference:.2e}  limit {self.limit:.2e}  {verdict}"


def compare(
    reference: Mapping[str, Run],
    exported: Mapping[str, Run],
    clips: MagnifiedClips,
    facts: BundleFacts,
    precision: str,
    batches: Sequence[int] = BATCHES,
) -> Iterator[Result]:
    """Compare graphs with PyTorch in float32 on real clips, and the split pair with the whole.

    Args:
        reference: The graphs in PyTorch, float32.
        exported: The same graphs as exported.
        clips: The run's clips.
        facts: What bundle.json says.
        precision: Whose tolerance counts.
        batches: Batch sizes.
    """
    first = 0
    for batch in batches:
        indices = [index % len(clips.clips) for index in range(first, first + batch)]
        first += batch
        inputs = graph_inputs(reference, clips, indices, facts)
        for name, (input_names, _) in INTERFACE.items():
            arguments = {key: inputs[key] for key in input_names}
            output = exported[name](**arguments)
            expected = reference[name](**arguments)
            yield _result(f"{name}, batch {batch}", output, expected, precision)
        onset = inputs["onset"]
        apex = inputs["apex"]
        alpha = inputs["alpha"]
        whole = exported["st_memm"](onset=onset, apex=apex, alpha=alpha)
        onset_mix = exported["st_memm_encoder"](frame=onset)
        apex_mix = exported["st_memm_encoder"](frame=apex)
        split = exported["st_memm_decoder"](onset=onset, onset_mix=onset_mix, apex_mix=apex_mix, alpha=alpha)
        yield _result(f"encoder + decoder against whole, batch {batch}", split, whole, precision)


def graph_inputs(
    reference: Mapping[str, Run], clips: MagnifiedClips, indices: Sequence[int], facts: BundleFacts
) -> dict[str, Tensor]:
    """Return every graph's inputs by name for some clips, alpha in turn the run's own, its least and its largest."""
    onset, apex = crops(clips, indices)
    alphas = (facts.alpha, *facts.alpha_range)
    batch_alphas = [alphas[index % len(alphas)] for index in range(len(indices))]
    patches = torch.from_numpy(clips.inputs[list(indices), -1])
    return {
        "onset": onset,
        "apex": apex,
        "frame": apex,
        "alpha": torch.tensor(batch_alphas),
        "onset_mix": reference["st_memm_encoder"](frame=onset),
        "apex_mix": reference["st_memm_encoder"](frame=apex),
        "patches": clips.input_kind.network_input(patches),
    }


def crops(clips: MagnifiedClips, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return onsets and raw apexes ``(B, 3, 256, 256)`` in [0, 1]."""
    pairs = np.stack([clips.images(index, [RAW]) for index in indices])
    onset, apex = to_floats(pairs).unbind(1)
    return onset.contiguous(), apex.contiguous()


def _result(what: str, output: Tensor, expected: Tensor, precision: str) -> Result:
    output = output.cpu()
    expected = expected.cpu()
    difference = float((output - expected).abs().max())
    largest = float(expected.abs().max())
    limit = TOLERANCE[precision] * max(1.0, largest)
    return Result(what, difference, limit)


@dataclass(frozen=True)
class Change:
    """What a lower precision changes over all clips of a run.

    Attributes:
        arithmetic: What computed at the lower precision.
        clips: Number of clips.
        changed: Number of clips whose most probable class differs.
        probability: Largest change of a class's probability.
        frame: Largest change of a magnified frame's pixel, of 1.
        broken: Clips with a value that is not finite.
    """

    arithmetic: str
    clips: int
    changed: int
    probability: float
    frame: float
    broken: tuple[str, ...]

    def __str__(self) -> str:
        """Return the report."""
        verdict = "finite on every clip"
        if self.broken:
            verdict = f"NOT FINITE: {', '.join(self.broken[:5])}"
        return (
            f"over all {self.clips} clips of the run, magnified, cut and classified by {self.arithmetic} and by "
            "PyTorch fp32:\n"
            f"  {self.changed} of {self.clips} predictions change; largest change of a probability "
            f"{self.probability:.4f}, of a pixel {self.frame:.4f}; {verdict}"
        )


def measure_change(reference: Backend, lower: Backend, clips: MagnifiedClips, alpha: float, batch: int = 1) -> Change:
    """Magnify, cut and classify every clip of a run twice, and compare.

    On a CPU several clips at once, each on one thread: half products gain little by more, and wait for busy cores.
    The deployed member has trained on these clips: what it gets right of them is no result, and is not reported.

    Args:
        reference: The bundle at fp32.
        lower: The bundle at a lower precision.
        clips: The run's clips.
        alpha: Magnification factor.
        batch: Clips at once; a graph of a fixed batch takes no fewer, so the last ones are filled up.
    """
    count = len(clips.clips)
    expected = torch.zeros(count, len(clips.class_names))
    probabilities = torch.zeros(count, len(clips.class_names))
    frame_changes = torch.zeros(count)
    starts = range(0, count, batch)

    def measure(start: int) -> None:
        indices = [index % count for index in range(start, start + batch)]
        expected_images, expected[indices] = _predict(reference, clips, indices, alpha)
        images, probabilities[indices] = _predict(lower, clips, indices, alpha)
        frame_changes[indices] = (images - expected_images).abs().flatten(1).amax(1)

    with one_thread() as threads, ThreadPoolExecutor(threads if lower.device.type == "cpu" else 1) as pool:
        list(tqdm(pool.map(measure, starts), total=len(starts), desc="fp16 against fp32", unit="batch"))
    is_finite = frame_changes.isfinite() & probabilities.isfinite().all(1)
    probability_change = torch.inf
    frame_change = torch.inf
    if is_finite.any():
        probability_change = float((expected - probabilities)[is_finite].abs().max())
        frame_change = float(frame_changes[is_finite].max())
    is_changed = expected.argmax(1) != probabilities.argmax(1)
    keys = [clip.key for clip in clips.clips]
    return Change(
        arithmetic=lower.name,
        clips=count,
        changed=int(is_changed.sum()),
        probability=probability_change,
        frame=frame_change,
        broken=tuple(itertools.compress(keys, ~is_finite)),
    )


def _predict(backend: Backend, clips: MagnifiedClips, indices: Sequence[int], alpha: float) -> tuple[Tensor, Tensor]:
    """Return clips' magnified apexes ``(B, 3, 256, 256)`` and class probabilities ``(B, K)``, as `gammer predict`."""
    onsets, apexes = crops(clips, indices)
    images = apexes
    if alpha != RAW:
        images = backend.magnify(backend.encode(onsets), backend.encode(apexes), alpha).cpu()
    clip_patches = [_cut(clips, *pair) for pair in zip(indices, onsets, images, strict=True)]
    patches = torch.from_numpy(np.stack(clip_patches))
    return images, backend.classify(clips.input_kind.network_input(patches))


def _cut(clips: MagnifiedClips, index: int, onset: Tensor, apex: Tensor) -> np.ndarray:
    """Return a clip's input, uint8 patches of its onset and magnified apex."""
    pair = to_uint8(torch.stack([onset, apex]).nan_to_num())
    return clips.input_kind.compute(FacePair((pair[0], pair[1]), clips.landmarks[index]), clips.input_size)
