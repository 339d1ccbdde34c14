"""Recognition runs made from given answers, and the rows of a study that has them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from fake_clips import FakeClips

from gammer_lightning.evaluation.predictions import Predictions
from gammer_lightning.evaluation.results import write_results
from gammer_lightning.sweep.queue.study import Row
from gammer_lightning.sweep.spec import Sweep

LABELS = np.array(FakeClips().labels)
"""True classes of the 18 clips: 3 subjects with 6 each, in turn."""
RIGHT, WRONG = np.stack([LABELS] * 2), np.stack([(LABELS + 1) % 3] * 2)


def predictions(answers, dataset="microfaces", class_names=("negative", "positive", "surprise"), subjects=3):
    """Predictions whose predicted classes are ``answers`` ``(S, n)``."""
    data = FakeClips(subjects, patch_size=1)
    clips = [replace(clip, dataset=dataset) for clip in data.clips]
    probabilities = np.eye(3)[np.asarray(answers)]
    keys = [f"{clip.dataset}/{clip.subject}" for clip in clips]
    seeds = range(len(probabilities))
    return Predictions(clips, data.labels, class_names, seeds, probabilities, keys, "leave one subject out")


def complete(folder: Path, name: str, answers, settings=None, **made) -> Row:
    """Return a row with a run folder that holds its results, as a study would have it."""
    run = folder / name.replace("/", "_")
    run.mkdir(parents=True)
    write_results(run, predictions(answers, **made))
    results = json.loads((run / "results.json").read_text())
    return Row(name, settings or {}, "complete", run, "", {"test_uf1": 0.5}, results, 1.0, 1)


def sweep(rows, **settings) -> Sweep:
    """Return the sweep that has these rows."""
    content = {"study": "made", "base": "experiments/recognize_microfaces.yaml"} | settings
    return Sweep(**content, rows={row.name: row.settings for row in rows})
