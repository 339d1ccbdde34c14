"""The export bundle: the networks of a run, how their input is made, what they were trained on, a hash of each file."""

import hashlib
import inspect
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from gammer_lightning import __version__
from gammer_lightning.checkpoints import load_checkpoint, load_weights
from gammer_lightning.data.datasets import DATASETS
from gammer_lightning.data.faces import CROP, EYE_LINE, GEOMETRY, IOD, MAX_OUTSIDE, MODEL_SHA256
from gammer_lightning.errors import GammerError
from gammer_lightning.export.values import (
    Rule,
    check_values,
    is_count,
    is_list,
    is_name,
    is_number,
    is_sha256,
    is_table,
    is_text,
    one_of,
)
from gammer_lightning.facial_graph import adjacency, nodes_of
from gammer_lightning.files import (
    check_is_file,
    check_name,
    content_hash,
    read_json,
    read_yaml,
    remove_stale,
    replacing,
    write_json,
    write_text,
)
from gammer_lightning.magnifiers import load_magnifier
from gammer_lightning.magnifiers.checks import MAX_ALPHA
from gammer_lightning.magnifiers.trained import STMEMMMagnifier, load_trained, save_st_memm
from gammer_lightning.models.gam_mer import GamMer
from gammer_lightning.models.st_memm import PRESETS, STMEMM
from gammer_lightning.run_folder import RunFolder, git_state, open_run
from gammer_lightning.tasks.recognize import deployed_model

FORMAT = 1
BUNDLE = "bundle.json"
FOLDER = "export"
MEASURED = ("bench.json", "latency.png")
"""What `gammer bench export` writes beside a bundle's files."""
WEIGHTS = {"st_memm": "st_memm.safetensors", "gam_mer": "gam_mer.safetensors"}

COMMON = Rule(lambda value: is_text(value) or value is None, "a text or nothing", needed=False)
INPUTS = GamMer.inputs
SIZES = ("num_classes", "depth", "heads", "width", "patch_size", "channels")
EXPORT_AGAIN = "copy the bundle again, or export the run again: gammer export RUN"


def _is_file_entry(value: Any) -> bool:
    rules = (
        is_text(value.get("graph")),
        value.get("precision") in ("fp32", "fp16"),
        value.get("batch") in (None, "dynamic") or is_count(value["batch"], 1),
        is_count(value.get("bytes")),
        is_sha256(value.get("sha256")),
        is_text(value.get("onnx_sha256", "")),
    ) if isinstance(value, dict) else (False,)  # fmt: skip
    return all(rules)


def _is_change(value: Any) -> bool:
    counts, numbers = ("clips", "changed"), ("probability", "frame")
    return (
        isinstance(value, dict)
        and all(is_count(value.get(key)) for key in counts)
        and all(is_number(value.get(key)) for key in numbers)
    )


def _is_network(value: Any) -> bool:
    """Whether a value is settings that GAM-MER takes; whether they go together is seen when it is built."""
    return (
        isinstance(value, dict)
        and set(value) <= set(inspect.signature(GamMer).parameters)
        and all(is_count(value[key], 1, 1024) for key in SIZES if key in value)
        and {"num_classes", "patch_size", "channels", "regions"} <= set(value)
        and is_list(value["regions"], is_text, 1)
        and all(is_text(value.get(key, "")) for key in ("graph", "layer"))
        and is_number(value.get("dropout", 0), 0, 1)
    )


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
    "geometry": Rule(lambda value: isinstance(value, dict), "an object", needed=False),
    "fp16": Rule(lambda value: is_table(value, _is_change), "what was measured at fp16", needed=False),
    "files": Rule(
        lambda value: is_table(value, _is_file_entry) and all(map(is_name, value)),
        "an object of file names, each with graph, precision, batch, bytes and sha256",
    ),
}
"""What of bundle.json is used."""
RESULT_RULES = {
    "protocol": Rule(is_text, "a text"),
    "datasets": Rule(lambda value: is_list(value, lambda name: name in DATASETS, 1), "a list of data sets"),
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


@dataclass(frozen=True)
class Bundle:
    """A run ready to be used: in five lines, ``load_bundle(path).predict(video)``.

    Attributes:
        path: The bundle's folder; the run folder where nothing was exported.
        facts: What bundle.json says.
    """

    path: Path
    facts: dict[str, Any]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return tuple(self.facts["classes"])

    @property
    def alpha(self) -> float:
        """The magnification factor that the run was evaluated at."""
        return self.facts["alpha"]

    @property
    def alpha_range(self) -> tuple[float, float]:
        """Least and largest factor that GAM-MER was trained or evaluated at."""
        return tuple(self.facts["alpha_range"])

    @property
    def patch_size(self) -> int:
        """Side of a patch, px of the 256 px crop."""
        return self.facts["patch_size"]

    @property
    def input(self) -> str:
        """What patches show: ``"apex"``, ``"difference"`` or ``"both"``."""
        return self.facts["input"]

    def networks(self) -> tuple[STMEMM, GamMer]:
        """Return the magnifier and the classifier in evaluation mode, on the CPU.

        Raises:
            GammerError: If a file is missing or does not fit.
        """
        if not self.facts["files"]:
            source = open_source(self.path)
            return source.magnifier.network, source.recognizer
        weights = self.file(WEIGHTS["gam_mer"])
        state = _read_weights(weights)
        try:
            with torch.device("meta"):  # no memory is taken before sizes are compared with the weights'
                expected = GamMer(**self.facts["network"]).state_dict()
        except GammerError as error:
            raise GammerError(f"{self.path / BUNDLE} is damaged: {error.what}", error.rule, EXPORT_AGAIN) from error
        if {key: value.shape for key, value in expected.items()} != {key: value.shape for key, value in state.items()}:
            raise _changed(weights, "names or shapes of its weights are not those of the network in bundle.json")
        recognizer = GamMer(**self.facts["network"])
        load_weights(recognizer, state, weights)
        magnifier = load_trained(str(self.file(WEIGHTS["st_memm"]))).network
        if not isinstance(magnifier, STMEMM) or magnifier.preset != self.facts["magnifier"]["preset"]:
            raise _changed(self.path / WEIGHTS["st_memm"], f"it is no ST-MEMM {self.facts['magnifier']['preset']}")
        return magnifier, recognizer.eval()

    def file(self, name: str) -> Path:
        """Return the path of one of its files.

        Raises:
            GammerError: If the bundle has no such file.
        """
        path = self.path / check_name(name, f"a file of the bundle {self.path}")
        if name not in self.facts["files"] or not path.is_file():
            raise GammerError(
                f"the bundle {self.path} has no {name}",
                f"it has: {', '.join(n for n in self.facts['files'] if (self.path / n).is_file()) or 'nothing'}",
                f"{_export_command(name)}, or copy the whole folder",
            )
        return path

    def predict(self, video: str | Path, out: str | Path | None = None, **settings: Any) -> Any:
        """Find, magnify and classify micro-expressions in a video; as `gammer_lightning.predict.pipeline.predict`."""
        from gammer_lightning.predict.pipeline import predict

        return predict(self, video, out, **settings)


def _export_command(name: str) -> str:
    precision = " --precision fp16" if ".fp16." in name else ""
    kind = "tensorrt-rtx" if ".tensorrt-rtx." in name else "tensorrt" if name.endswith(".plan") else "onnx"
    return f"gammer export RUN --to {kind}{precision}"


def load_bundle(path: str | Path) -> Bundle:
    """Open a bundle folder, a run with ``export/``, or a run without one (from its checkpoint; nothing is written).

    Raises:
        GammerError: If it is neither, a file is not what bundle.json says, or the run has no finished checkpoint.
    """
    path = Path(path)
    for folder in (path, path / FOLDER):
        if (folder / BUNDLE).is_file():
            bundle = Bundle(folder, read_facts(folder))
            _check_files(bundle)
            _check_fresh(bundle)
            return bundle
    return Bundle(path, open_source(path).facts())


def read_facts(folder: Path) -> dict[str, Any]:
    """Read bundle.json, and check by `BUNDLE_RULES` what of it is used.

    Raises:
        GammerError: If it is damaged, altered, or of another format.
    """
    path = folder / BUNDLE
    try:
        facts = read_json(path)
        is_whole = isinstance(facts, dict) and facts.pop("digest", None) == _digest(facts)
    except (GammerError, RecursionError) as error:
        raise _changed(path, error.what if isinstance(error, GammerError) else "it is nested too deep") from error
    if not is_whole:
        raise _changed(path, "its own digest does not fit")
    if facts.get("format") != FORMAT:
        raise GammerError(
            f"{path} has format {str(facts.get('format'))[:20]}",
            f"this version ({__version__}) reads format {FORMAT}",
            "export the run again with this version: gammer export RUN",
        )
    check_values(facts, BUNDLE_RULES, path, EXPORT_AGAIN)
    network, channels = facts["network"], 6 if facts["input"] == "both" else 3
    sizes = (network["num_classes"], network["patch_size"], network["channels"], facts["channels"])
    if sizes != (len(facts["classes"]), facts["patch_size"], channels, channels):
        raise GammerError(
            f"{path} is damaged: its classes, patches and input do not go with its network",
            "num_classes, patch_size and channels of the network are those of classes, patch_size and input",
            EXPORT_AGAIN,
        )
    return facts


def _digest(facts: dict[str, Any]) -> str:
    return content_hash(json.dumps(facts, sort_keys=True))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_files(bundle: Bundle) -> None:
    """See that each file that is there is the one that was exported; some may stay behind when a bundle is moved."""
    for name, entry in bundle.facts["files"].items():
        path = bundle.path / name
        if path.is_file() and sha256_of(path) != entry["sha256"]:
            raise _changed(path, "its SHA-256 is not the one in bundle.json")


def _changed(path: Path, why: str) -> GammerError:
    return GammerError(
        f"{path} was changed or damaged: {why}",
        "a bundle is used as it was exported, or not at all",
        "copy the bundle again, or export the run again: gammer export RUN",
    )


def _check_fresh(bundle: Bundle) -> None:
    """See that a bundle inside its run is of the run's checkpoint."""
    checkpoint = bundle.path.parent / "checkpoints" / bundle.facts["run"]["checkpoint"]
    if checkpoint.is_file() and sha256_of(checkpoint) != bundle.facts["run"]["checkpoint_sha256"]:
        raise GammerError(
            f"{bundle.path} is older than {checkpoint}",
            "a bundle holds the weights of its run",
            f"export again: gammer export {bundle.path.parent}",
        )


@dataclass(frozen=True)
class Source:
    """A finished recognition run, its networks loaded.

    Attributes:
        run: The run folder.
        magnifier: ST-MEMM.
        recognizer: The member that holds out nobody.
        recognition: What the checkpoint says of the networks and clips.
        config: What config.yaml says.
    """

    run: RunFolder
    magnifier: STMEMMMagnifier
    recognizer: GamMer
    recognition: dict[str, Any]
    config: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        """Return what bundle.json says, with no files and nothing measured at fp16 yet."""
        network = self.recognition["network"] | {"regions": list(self.recognition["network"]["regions"])}
        return {
            "format": FORMAT,
            "package": __version__,
            "commit": (git_state() or {}).get("commit"),
            "run": self._run_facts(),
            "classes": list(self.recognition["class_names"]),
            **self._input_facts(),
            "nodes": list(nodes_of(network["regions"])),
            "regions": network["regions"],
            "graph": network["graph"],
            "adjacency": adjacency(network["regions"], network["graph"]).astype(int).tolist(),
            "network": network,
            "magnifier": self._magnifier_facts(),
            **self._result_facts(),
            "fp16": {},
            "files": {},
        }

    def _run_facts(self) -> dict[str, Any]:
        known = self.run.facts
        return {
            "name": known["name"],
            "folder": self.run.path.resolve().name,
            "wandb_id": known.get("wandb_id"),
            "started": known.get("started"),
            "commit": (known.get("git") or {}).get("commit"),
            "epochs": self.config["trainer"]["max_epochs"],
            "checkpoint": self.run.best.name,
            "checkpoint_sha256": sha256_of(self.run.best),
        }

    def _input_facts(self) -> dict[str, Any]:
        data = self.config["data"]
        used = [float(alpha) for alpha in (*data["train_alphas"], data["eval_alpha"])]
        return {
            "alpha": float(data["eval_alpha"]),
            "alpha_range": [min(used), max(used)],
            "train_alphas": [float(alpha) for alpha in data["train_alphas"]],
            "input": data["input"],
            "patch_size": self.recognition["network"]["patch_size"],
            "channels": self.recognition["network"]["channels"],
            "geometry": {
                "crop": CROP,
                "iod": IOD,
                "eye_line": EYE_LINE,
                "max_outside": MAX_OUTSIDE,
                "landmarks": "dlib, 68 points, found once on the onset",
                "landmark_model_sha256": MODEL_SHA256,
                "version": GEOMETRY,
            },
        }

    def _magnifier_facts(self) -> dict[str, Any]:
        return {
            "name": _public_name(self.magnifier.name),
            "fingerprint": self.magnifier.fingerprint,
            "preset": self.magnifier.network.preset,
            "trained_with": _public_name(self.config["data"]["magnifier"]),
            "replaced": self.magnifier.name != self.config["data"]["magnifier"],
        }

    def _result_facts(self) -> dict[str, Any]:
        path = self.run.path / "results.json"
        if not path.is_file():
            raise GammerError(
                f"{self.run.path} has no results.json",
                "a bundle says how good its model is",
                f"gammer recognize test {self.run.path}",
            )
        check_values(results := read_json(path), RESULT_RULES, path, f"gammer recognize test {self.run.path}")
        kept = ("protocol", "datasets", "clips", "subjects", "clips_sha256")
        std = {key: results["std"].get(key) for key in results["mean"]}
        metrics = {"mean": results["mean"], "std": std, "seeds": len(results["seeds"])}
        return {key: results[key] for key in kept} | {"metrics": metrics}


def _public_name(magnifier: str) -> str:
    """Return a magnifier's name without the folders of this machine: bundles are given away."""
    return Path(magnifier).name


def open_source(path: str | Path, magnifier: str | None = None) -> Source:
    """Load the networks of a finished recognition run.

    Args:
        path: The run folder.
        magnifier: Name or path of the magnifier, in place of the run's own.

    Raises:
        GammerError: If it is no finished run of GAM-MER, or its magnifier is no ST-MEMM.
    """
    run = _finished_run(path)
    recognizer, recognition = deployed_model(run.best), load_checkpoint(run.best)["recognition"]
    _refuse_other_networks(path, recognition.get("name", "gam_mer"))
    again = "copy the run folder again, or train again: gammer recognize fit"
    check_values(recognition, RECOGNITION_RULES, run.best, again)
    check_values(config := read_yaml(run.config), CONFIG_RULES, run.config, again)
    name = magnifier or config["data"]["magnifier"]
    loaded = load_magnifier(name)
    if not isinstance(loaded, STMEMMMagnifier):
        raise GammerError(
            f"the magnifier {name!r} is not ST-MEMM",
            "ST-MEMM alone is exported" + (f"; it is what {path} was trained with" if magnifier is None else ""),
            f"gammer export {path} --magnifier st-memm-small",
        )
    return Source(run, loaded, recognizer, recognition, config)


def _finished_run(path: str | Path) -> RunFolder:
    run = open_run(path)
    task = run.facts["task"]
    if task != "recognize":
        raise GammerError(
            f"{path} is a run of `{task}`",
            "a bundle is made of a recognition run, and of a magnifier beside it",
            f"gammer export RECOGNITION_RUN --magnifier {path}",
        )
    if not run.facts["finished"] or not run.best.is_file():
        raise GammerError(
            f"the run {path} " + ("has no checkpoint" if run.facts["finished"] else "is not finished"),
            "a bundle is made of the last checkpoint of a finished run",
            f"gammer recognize fit --resume {path}",
        )
    return run


def _refuse_other_networks(path: str | Path, network: str) -> None:
    if network != "gam_mer":
        raise GammerError(
            f"{path} is a run of {network}",
            "only runs of GAM-MER are exported and predict; the systems it is compared with are there to be scored",
            f"give a run whose model.network is gam_mer; for the scores of this one: gammer recognize test {path}",
        )


def _read_weights(path: Path) -> dict[str, Any]:
    check_is_file(path)
    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise _changed(path, str(error)) from error


def save_networks(source: Source, folder: Path) -> None:
    """Write both networks as safetensors, so that a bundle alone can run in PyTorch and be exported again."""
    save_st_memm(source.magnifier.network, source.magnifier.network.preset, folder / WEIGHTS["st_memm"])
    weights = {key: value.contiguous() for key, value in source.recognizer.state_dict().items()}
    with replacing(folder / WEIGHTS["gam_mer"]) as temporary:
        save_file(weights, temporary, metadata={"model": "GAM-MER"})


def is_same_model(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two bundles' facts are of the same weights, used in the same way."""
    return _identity(one) == _identity(other)


def _identity(facts: dict[str, Any]) -> dict[str, Any]:
    own = {key: facts.get(key) for key in ("classes", "network", "input", "geometry")}
    magnifier, run = (facts.get(part) for part in ("magnifier", "run"))  # of a stranger's ONNX file: anything
    return own | {
        "magnifier": magnifier.get("fingerprint") if isinstance(magnifier, dict) else None,
        "checkpoint": run.get("checkpoint_sha256") if isinstance(run, dict) else None,
    }


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty sibling of ``folder`` that takes its place, old files and all, only if the block succeeds."""
    with replacing(folder) as staged:
        staged.mkdir(parents=True)
        yield staged
        aside = staged.with_name(staged.name + ".old")
        if folder.exists():
            os.replace(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Yield an empty hidden folder beside a bundle's, deleted afterwards; what killed exports left is swept away."""
    if any(folder.parent.glob(f".{folder.name}.*.tmp*")):
        with _locked(folder):
            for aside in folder.parent.glob(f".{folder.name}.*.tmp.old"):  # killed while a new bundle took its place
                shutil.rmtree(aside) if folder.exists() else os.replace(aside, folder)
            remove_stale(folder)
    with tempfile.TemporaryDirectory(".tmp", f".{folder.name}.{os.getpid()}-", folder.parent) as staged:
        yield Path(staged)


def _locked(folder: Path) -> FileLock:
    return FileLock(folder.parent / f".{folder.name}.lock")


def write_bundle(folder: Path, staged: Path, facts: dict[str, Any], files: dict[str, dict[str, Any]]) -> Bundle:
    """Make a bundle of what lies in a staging folder, and of the old bundle's other files of the same weights.

    Args:
        folder: The bundle's folder, as it will be; other exports of it wait meanwhile.
        staged: Folder of the new files.
        facts: What bundle.json says, without files.
        files: Graph, precision, batch and so on of each new file.
    """
    from gammer_lightning.export.card import model_card

    with _locked(folder), replacing_folder(folder) as new:
        for path in staged.iterdir():
            shutil.copyfile(path, new / path.name)
        old = _old_facts(folder, facts)
        entries = (_kept_files(folder, new, old["files"], files) if old else {}) | {
            name: {"sha256": sha256_of(new / name), "bytes": (new / name).stat().st_size} | entry
            for name, entry in files.items()
        }
        facts = facts | {"files": dict(sorted(entries.items())), "fp16": old.get("fp16", {}) | facts["fp16"]}
        write_json(new / BUNDLE, facts | {"digest": _digest(facts)})
        write_text(new / "MODEL_CARD.md", model_card(facts))
    return Bundle(folder, facts)


def _old_facts(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Return what the folder's bundle.json says, no files where there is none; nothing if it is of other weights."""
    try:
        old = read_facts(folder)
    except GammerError:
        return {"files": {}}
    return old if is_same_model(old, facts) else {}


def _kept_files(folder: Path, new: Path, old: dict[str, Any], files: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Copy the old bundle's files that are whole, and no plan of an ONNX file that changed.

    What `gammer bench export` measured of these weights is copied, too, but is none of the bundle's own files.
    """
    others = {name: entry for name, entry in old.items() if name not in files}
    whole = {n: e for n, e in others.items() if (folder / n).is_file() and sha256_of(folder / n) == e["sha256"]}
    hashes = {entry["sha256"] for entry in whole.values()} | {sha256_of(new / name) for name in files}
    kept = {name: entry for name, entry in whole.items() if entry.get("onnx_sha256") in {None, *hashes}}
    for name in (*kept, *(name for name in MEASURED if (folder / name).is_file())):
        shutil.copyfile(folder / name, new / name)
    return kept
