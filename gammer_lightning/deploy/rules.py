"""What values of bundle.json, results.json, a checkpoint's facts and config.yaml may have, as far as they are used."""

import inspect
from typing import Any

from gammer_lightning.data.clips.clip import is_microfaces
from gammer_lightning.data.clips.datasets import DATASETS
from gammer_lightning.deploy.values import (
    Rule,
    is_count,
    is_list,
    is_name,
    is_number,
    is_sha256,
    is_table,
    is_text,
    one_of,
)
from gammer_lightning.magnifiers.checks import MAX_ALPHA
from gammer_lightning.models.gam_mer import GamMer
from gammer_lightning.models.st_memm import PRESETS

COMMON = Rule(lambda value: is_text(value) or value is None, "a text or nothing", needed=False)


OBJECT = Rule(lambda value: isinstance(value, dict), "an object", needed=False)


INPUTS = GamMer.inputs


SIZES = ("num_classes", "depth", "heads", "width", "patch_size", "channels")


def _is_file_entry(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    batch = value.get("batch")
    rules = (
        is_text(value.get("graph")),
        value.get("precision") in ("fp32", "fp16"),
        batch in (None, "dynamic") or is_count(batch, 1),
        is_count(value.get("bytes")),
        is_sha256(value.get("sha256")),
        is_text(value.get("onnx_sha256", "")),
    )
    return all(rules)


def _is_change(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    counts = (value.get("clips"), value.get("changed"))
    numbers = (value.get("probability"), value.get("frame"))
    return all(map(is_count, counts)) and all(map(is_number, numbers))


def _is_network(value: Any) -> bool:
    """Whether a value is settings that GAM-MER takes; whether they go together is seen when it is built."""
    if not isinstance(value, dict):
        return False
    settings = set(inspect.signature(GamMer).parameters)
    required = {"num_classes", "patch_size", "channels", "regions"}
    if not required <= set(value) <= settings:
        return False
    sizes = [value[key] for key in SIZES if key in value]
    return (
        all(is_count(size, 1, 1024) for size in sizes)
        and is_list(value["regions"], is_text, 1)
        and is_text(value.get("graph", ""))
        and is_text(value.get("layer", ""))
        and is_number(value.get("dropout", 0), 0, 1)
    )


def _is_dataset(value: Any) -> bool:
    return is_name(value) and (value in DATASETS or is_microfaces(value))


CLASSES = Rule(
    lambda value: is_list(value, is_text, 2) and len(set(value)) == len(value), "a list of different printable names"
)


NETWORK = Rule(_is_network, "settings of GAM-MER, sizes from 1 to 1024")


ALPHA = Rule(lambda value: is_number(value, 0, MAX_ALPHA), f"a number from 0 to {MAX_ALPHA:g}")


BUNDLE_RULES = {
    "classes": CLASSES,
    "alpha": ALPHA,
    "alpha_range": Rule(
        lambda value: is_list(value, ALPHA.holds, 2, 2) and value[0] <= value[1],
        "the least and the largest alpha of training",
    ),
    "input": one_of(*INPUTS),
    "network": NETWORK,
    "patch_size": Rule(lambda value: is_count(value, 8, 256), "a number of px from 8 to 256"),
    "channels": Rule(lambda value: value in (3, 6), "3, or 6"),
    "magnifier.preset": Rule(lambda value: isinstance(value, str) and value in PRESETS, "a preset of ST-MEMM"),
    "magnifier.fingerprint": Rule(is_text, "a text"),
    "run.checkpoint": Rule(is_name, "the name of a file"),
    "run.checkpoint_sha256": Rule(is_sha256, "a SHA-256"),
    "commit": COMMON,
    "geometry": OBJECT,
    "metrics": OBJECT,
    "training": OBJECT,
    "fp16": Rule(lambda value: is_table(value, _is_change), "what was measured at fp16", needed=False),
    "files": Rule(
        lambda value: is_table(value, _is_file_entry) and all(map(is_name, value)),
        "an object of file names, each with graph, precision, batch, bytes and sha256",
    ),
}
"""What of bundle.json is used."""


RESULT_RULES = {
    "protocol": Rule(is_text, "a text"),
    "datasets": Rule(lambda value: is_list(value, _is_dataset, 1), "a list of data sets"),
    "clips": Rule(is_count, "a number"),
    "subjects": Rule(is_count, "a number"),
    "clips_sha256": Rule(is_text, "a hash"),
    "mean": Rule(lambda value: is_table(value, is_number, 1), "numbers by name"),
    "std": Rule(lambda value: is_table(value, lambda std: std is None or is_number(std), 1), "numbers by name"),
    "seeds": Rule(lambda value: is_table(value, lambda _: True, 1), "results by seed"),
}
"""What of a run's results.json is used."""


RECOGNITION_RULES = {"class_names": CLASSES, "network": NETWORK, "clip_hash": Rule(is_text, "a hash")}
"""What of a checkpoint's facts is used."""


CONFIG_RULES = {
    "trainer.max_epochs": Rule(lambda value: value is None or is_count(value, -1), "a number of epochs"),
    "data.magnifier": Rule(is_text, "the name or path of a magnifier"),
    "data.train_alphas": Rule(lambda value: is_list(value, ALPHA.holds, 1), "a list of alphas"),
    "data.eval_alpha": ALPHA,
    "data.input": one_of(*INPUTS),
}
"""What of a run's config.yaml is used here."""
