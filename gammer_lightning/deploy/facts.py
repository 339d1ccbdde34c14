"""What bundle.json says of a run: its networks, how their input is made, what they were trained on, its files."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

FORMAT = 1
"""The format of bundle.json."""

Record = TypeVar(
    "Record", "RunFacts", "MagnifierFacts", "Metrics", "Training", "HalfChange", "BundleFile", "BundleFacts"
)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """The run that was exported.

    Attributes:
        name: Its name.
        folder: Name of its folder.
        wandb_id: Its id in W&B; None where it was not tracked.
        started: When it began, as env.json says it.
        commit: Commit of the code that trained it.
        epochs: Epochs of its training.
        checkpoint: Name of the checkpoint.
        checkpoint_sha256: Its hash.
    """

    name: str = ""
    folder: str = ""
    wandb_id: str | None = None
    started: str | None = None
    commit: str | None = None
    epochs: int | None = None
    checkpoint: str
    checkpoint_sha256: str


@dataclass(frozen=True, kw_only=True)
class MagnifierFacts:
    """The magnifier of a bundle.

    Attributes:
        name: Name, without the folders of the machine that exported it.
        fingerprint: Hash of its weights and settings.
        preset: Preset of ST-MEMM.
        trained_with: Name of the magnifier whose frames GAM-MER was trained on.
        replaced: Whether that is another magnifier than the bundle's.
    """

    name: str = ""
    fingerprint: str
    preset: str
    trained_with: str = ""
    replaced: bool = False


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Scores by name, pooled over folds: mean and standard deviation (None for one seed) over a number of seeds."""

    mean: dict[str, float] = field(default_factory=dict)
    std: dict[str, float | None] = field(default_factory=dict)
    seeds: int = 0


@dataclass(frozen=True, kw_only=True)
class Training:
    """How many clips the exported member has trained on, and of how many subjects."""

    clips: int = 0
    subjects: int = 0


@dataclass(frozen=True, kw_only=True)
class HalfChange:
    """What fp16 changes over all clips of a run.

    Attributes:
        clips: Number of clips.
        changed: Number of clips whose most probable class differs.
        probability: Largest change of a class's probability.
        frame: Largest change of a magnified frame's pixel, of 1.
    """

    clips: int
    changed: int
    probability: float
    frame: float


@dataclass(frozen=True, kw_only=True)
class GraphFile:
    """What a file of a bundle holds.

    Attributes:
        graph: Name of the network.
        precision: ``"fp32"`` or ``"fp16"``.
        batch: The only batch size it takes, or ``"dynamic"``; None of weights.
        opset: Of an ONNX file.
        onnx_sha256: Hash of the ONNX file that a plan was built from.
    """

    graph: str
    precision: str
    batch: int | str | None = None
    opset: int | None = None
    onnx_sha256: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the plain values."""
        record = asdict(self)
        if self.onnx_sha256 is None:
            del record["onnx_sha256"]
        return record


@dataclass(frozen=True, kw_only=True)
class BundleFile(GraphFile):
    """A file of a bundle: what it holds, its hash, its size in bytes."""

    sha256: str
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return the plain values that bundle.json has."""
        return {"sha256": self.sha256, "bytes": self.bytes} | super().as_dict()


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """What bundle.json says. What no part of this package reads again may be missing in a file, and is empty then.

    Attributes:
        format: Format of the file.
        package: Version of this package that exported it.
        commit: Commit of the code that exported it.
        run: The run.
        classes: Names of the K classes.
        alpha: The magnification factor that the run was evaluated at.
        alpha_range: Least and largest factor that GAM-MER was trained or evaluated at.
        train_alphas: The factors that it was trained at.
        input: What patches show: ``"apex"``, ``"difference"`` or ``"both"``.
        patch_size: Side of a patch, px of the 256 px crop.
        channels: Channels of a patch, 3 or 6.
        geometry: How a face is laid into its crop; None in a file that does not say it.
        nodes: Landmarks of the graph.
        regions: Facial regions of the graph.
        graph: ``"raw"`` or ``"optimised"``.
        adjacency: The graph, ``(N, N)`` of 0 and 1.
        network: Settings of GAM-MER.
        magnifier: The magnifier.
        protocol: How the run was judged.
        datasets: Names of its data sets.
        clips: How many clips were judged.
        subjects: Of how many subjects.
        clips_sha256: Hash of their list.
        metrics: How good it is.
        fp16: What fp16 changes, by what computed at fp16; empty where that was not measured.
        files: The files by name; empty where nothing was exported.
        training: What the exported member has trained on.
    """

    format: int = FORMAT
    package: str = ""
    commit: str | None = None
    run: RunFacts
    classes: list[str]
    alpha: float
    alpha_range: list[float]
    train_alphas: list[float] = field(default_factory=list)
    input: str
    patch_size: int
    channels: int
    geometry: dict[str, Any] | None = None
    nodes: list[int] = field(default_factory=list)
    regions: list[str] = field(default_factory=list)
    graph: str = ""
    adjacency: list[list[int]] = field(default_factory=list)
    network: dict[str, Any]
    magnifier: MagnifierFacts
    protocol: str = ""
    datasets: list[str] = field(default_factory=list)
    clips: int = 0
    subjects: int = 0
    clips_sha256: str = ""
    metrics: Metrics = field(default_factory=Metrics)
    fp16: dict[str, HalfChange] = field(default_factory=dict)
    files: dict[str, BundleFile] = field(default_factory=dict)
    training: Training = field(default_factory=Training)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "BundleFacts":
        """Return the facts of a bundle.json that `gammer_lightning.deploy.rules.BUNDLE_RULES` has passed."""
        changes = record.get("fp16", {})
        files = record["files"]
        parts = {
            "run": _from_record(RunFacts, record["run"]),
            "magnifier": _from_record(MagnifierFacts, record["magnifier"]),
            "metrics": _from_record(Metrics, record.get("metrics", {})),
            "training": _from_record(Training, record.get("training", {})),
            "fp16": {name: _from_record(HalfChange, change) for name, change in changes.items()},
            "files": {name: _from_record(BundleFile, entry) for name, entry in files.items()},
        }
        return _from_record(cls, {**record, **parts})

    def as_dict(self) -> dict[str, Any]:
        """Return the plain values that bundle.json has, apart from its digest."""
        record = asdict(self)
        record["files"] = {name: file.as_dict() for name, file in self.files.items()}
        return record


def _from_record(kind: type[Record], record: Mapping[str, Any]) -> Record:
    """Return the dataclass of a record; keys that are none of its fields are left out."""
    names = {entry.name for entry in fields(kind)}
    values = {name: value for name, value in record.items() if name in names}
    return kind(**values)
