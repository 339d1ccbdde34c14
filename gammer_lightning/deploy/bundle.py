"""The export bundle: the networks of a run, how their input is made, what they were trained on, a hash of each file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file

from gammer_lightning import __version__
from gammer_lightning.deploy.facts import FORMAT, BundleFacts
from gammer_lightning.deploy.finished_run import open_finished_run
from gammer_lightning.deploy.rules import BUNDLE_RULES
from gammer_lightning.deploy.values import check_values
from gammer_lightning.errors import GammerError
from gammer_lightning.files import check_is_file, check_name, content_hash, read_json, sha256_of
from gammer_lightning.magnifiers.trained import load_trained
from gammer_lightning.models.gam_mer import GamMer
from gammer_lightning.models.st_memm import STMEMM
from gammer_lightning.runs.checkpoints import load_weights

BUNDLE = "bundle.json"
FOLDER = "export"
MEASURED = ("bench.json", "latency.png")
"""What `gammer bench export` writes beside a bundle's files."""
WEIGHTS = {"st_memm": "st_memm.safetensors", "gam_mer": "gam_mer.safetensors"}

EXPORT_AGAIN = "copy the bundle again, or export the run again: gammer export RUN"


@dataclass(frozen=True)
class Bundle:
    """A run ready to be used, e.g. by `gammer_lightning.inference.pipeline.predict`.

    Attributes:
        path: The bundle's folder; the run folder where nothing was exported.
        facts: What bundle.json says.
    """

    path: Path
    facts: BundleFacts

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return tuple(self.facts.classes)

    @property
    def alpha(self) -> float:
        """The magnification factor that the run was evaluated at."""
        return self.facts.alpha

    @property
    def alpha_range(self) -> tuple[float, float]:
        """Least and largest factor that GAM-MER was trained or evaluated at."""
        least, largest = self.facts.alpha_range
        return least, largest

    @property
    def patch_size(self) -> int:
        """Side of a patch, px of the 256 px crop."""
        return self.facts.patch_size

    @property
    def input(self) -> str:
        """What patches show: ``"apex"``, ``"difference"`` or ``"both"``."""
        return self.facts.input

    def networks(self) -> tuple[STMEMM, GamMer]:
        """Return the magnifier and the classifier in evaluation mode, on the CPU.

        Raises:
            GammerError: If a file is missing or does not fit.
        """
        if not self.facts.files:
            source = open_finished_run(self.path)
            return source.magnifier.network, source.recognizer
        weights = self.file(WEIGHTS["gam_mer"])
        state = _read_weights(weights)
        try:
            with torch.device("meta"):  # no memory is taken before sizes are compared with the weights'
                expected = GamMer(**self.facts.network).state_dict()
        except GammerError as error:
            raise GammerError(f"{self.path / BUNDLE} is damaged: {error.what}", error.rule, EXPORT_AGAIN) from error
        expected_shapes = {name: tensor.shape for name, tensor in expected.items()}
        shapes = {name: tensor.shape for name, tensor in state.items()}
        if shapes != expected_shapes:
            raise _changed(weights, "names or shapes of its weights are not those of the network in bundle.json")
        recognizer = GamMer(**self.facts.network)
        load_weights(recognizer, state, weights)
        magnifier = load_trained(str(self.file(WEIGHTS["st_memm"]))).network
        if not isinstance(magnifier, STMEMM) or magnifier.preset != self.facts.magnifier.preset:
            raise _changed(self.path / WEIGHTS["st_memm"], f"it is no ST-MEMM {self.facts.magnifier.preset}")
        return magnifier, recognizer.eval()

    def file(self, name: str) -> Path:
        """Return the path of one of its files.

        Raises:
            GammerError: If the bundle has no such file.
        """
        path = self.path / check_name(name, f"a file of the bundle {self.path}")
        if name not in self.facts.files or not path.is_file():
            present = [file for file in self.facts.files if (self.path / file).is_file()]
            raise GammerError(
                f"the bundle {self.path} has no {name}",
                f"it has: {', '.join(present) or 'nothing'}",
                f"{_export_command(name)}, or copy the whole folder",
            )
        return path


def _export_command(name: str) -> str:
    """Return the command that exports a file of a bundle."""
    if ".tensorrt-rtx." in name:
        target = "tensorrt-rtx"
    elif name.endswith(".plan"):
        target = "tensorrt"
    else:
        target = "onnx"
    precision = " --precision fp16" if ".fp16." in name else ""
    return f"gammer export RUN --to {target}{precision}"


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
    return Bundle(path, open_finished_run(path).facts())


def read_facts(folder: Path) -> BundleFacts:
    """Read bundle.json, and check the values that are used by `BUNDLE_RULES`.

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
    network = facts["network"]
    channels = 6 if facts["input"] == "both" else 3
    network_sizes = (network["num_classes"], network["patch_size"], network["channels"])
    sizes = (len(facts["classes"]), facts["patch_size"], channels)
    if network_sizes != sizes or facts["channels"] != channels:
        raise GammerError(
            f"{path} is damaged: its classes, patches and input do not go with its network",
            "num_classes, patch_size and channels of the network are those of classes, patch_size and input",
            EXPORT_AGAIN,
        )
    return BundleFacts.from_dict(facts)


def _digest(facts: dict[str, Any]) -> str:
    return content_hash(json.dumps(facts, sort_keys=True))


def _check_files(bundle: Bundle) -> None:
    """See that each file that is there is the one that was exported; some may stay behind when a bundle is moved."""
    for name, entry in bundle.facts.files.items():
        path = bundle.path / name
        if path.is_file() and sha256_of(path) != entry.sha256:
            raise _changed(path, "its SHA-256 is not the one in bundle.json")


def _changed(path: Path, why: str) -> GammerError:
    return GammerError(
        f"{path} was changed or damaged: {why}",
        "a bundle is used as it was exported, or not at all",
        "copy the bundle again, or export the run again: gammer export RUN",
    )


def _check_fresh(bundle: Bundle) -> None:
    """See that a bundle inside its run is of the run's checkpoint."""
    checkpoint = bundle.path.parent / "checkpoints" / bundle.facts.run.checkpoint
    if checkpoint.is_file() and sha256_of(checkpoint) != bundle.facts.run.checkpoint_sha256:
        raise GammerError(
            f"{bundle.path} is older than {checkpoint}",
            "a bundle holds the weights of its run",
            f"export again: gammer export {bundle.path.parent}",
        )


def _read_weights(path: Path) -> dict[str, Any]:
    check_is_file(path)
    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise _changed(path, str(error)) from error


def is_same_model(facts: BundleFacts, others: dict[str, Any]) -> bool:
    """Return whether a bundle, and other facts as plain values, are of the same weights, used in the same way."""
    return _identity(facts.as_dict()) == _identity(others)


def _identity(facts: dict[str, Any]) -> dict[str, Any]:
    identity = {key: facts.get(key) for key in ("classes", "network", "input", "geometry")}
    magnifier = facts.get("magnifier")  # in an ONNX file of another project it may be no dict
    identity["magnifier"] = magnifier.get("fingerprint") if isinstance(magnifier, dict) else None
    run = facts.get("run")
    identity["checkpoint"] = run.get("checkpoint_sha256") if isinstance(run, dict) else None
    return identity
