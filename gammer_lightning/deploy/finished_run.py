"""A finished run, ready to run: its networks and facts, opened once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gammer_lightning import __version__
from gammer_lightning.data.clips.class_sets import UNIT_NAMES, UNITS
from gammer_lightning.deploy.facts import BundleFacts, MagnifierFacts, Metrics, RunFacts
from gammer_lightning.deploy.rules import CONFIG_RULES, RECOGNITION_RULES, RESULT_RULES
from gammer_lightning.deploy.values import check_values
from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.run_results import RESULTS, RunResults
from gammer_lightning.faces.alignment import CROP, EYE_LINE, GEOMETRY, IOD, MAX_OUTSIDE, MODEL_SHA256
from gammer_lightning.faces.graph import adjacency, nodes_of
from gammer_lightning.files import read_json, read_yaml, sha256_of
from gammer_lightning.machine import git_state
from gammer_lightning.magnifiers import load_magnifier
from gammer_lightning.magnifiers.trained import STMEMMMagnifier
from gammer_lightning.models.gam_mer import GamMer
from gammer_lightning.runs.checkpoints import load_checkpoint
from gammer_lightning.runs.folder import RunFolder, open_run
from gammer_lightning.tasks.members import MemberFacts
from gammer_lightning.tasks.recognize import deployed_model


@dataclass(frozen=True)
class FinishedRun:
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
    recognition: MemberFacts
    config: dict[str, Any]

    def facts(self) -> BundleFacts:
        """Return what bundle.json says, with no files and nothing measured at fp16 yet."""
        network = self.recognition.network | {"regions": list(self.recognition.network["regions"])}
        data = self.config["data"]
        results = self._results()
        train_alphas = [float(alpha) for alpha in data["train_alphas"]]
        alpha = float(data["eval_alpha"])
        git = git_state() or {}
        graph = adjacency(network["regions"], network["graph"])
        stds = {name: results.std.get(name) for name in results.mean}
        return BundleFacts(
            package=__version__,
            commit=git.get("commit"),
            run=self._run_facts(),
            classes=list(self.recognition.class_names),
            alpha=alpha,
            alpha_range=[min(*train_alphas, alpha), max(*train_alphas, alpha)],
            train_alphas=train_alphas,
            input=data["input"],
            patch_size=network["patch_size"],
            channels=network["channels"],
            geometry={
                "crop": CROP,
                "iod": IOD,
                "eye_line": EYE_LINE,
                "max_outside": MAX_OUTSIDE,
                "landmarks": "dlib, 68 points, found once on the onset",
                "landmark_model_sha256": MODEL_SHA256,
                "version": GEOMETRY,
            },
            nodes=list(nodes_of(network["regions"])),
            regions=network["regions"],
            graph=network["graph"],
            adjacency=graph.astype(int).tolist(),
            network=network,
            magnifier=self._magnifier_facts(),
            protocol=results.protocol,
            datasets=results.datasets,
            clips=results.clips,
            subjects=results.subjects,
            clips_sha256=results.clips_sha256,
            metrics=Metrics(mean=results.mean, std=stds, seeds=len(results.seeds)),
        )

    def _run_facts(self) -> RunFacts:
        record = self.run.facts
        return RunFacts(
            name=record.name,
            folder=self.run.path.resolve().name,
            wandb_id=record.wandb_id,
            started=record.started,
            commit=(record.git or {}).get("commit"),
            epochs=self.config["trainer"]["max_epochs"],
            checkpoint=self.run.best.name,
            checkpoint_sha256=sha256_of(self.run.best),
        )

    def _magnifier_facts(self) -> MagnifierFacts:
        return MagnifierFacts(
            name=_public_name(self.magnifier.name),
            fingerprint=self.magnifier.fingerprint,
            preset=self.magnifier.network.preset,
            trained_with=_public_name(self.config["data"]["magnifier"]),
            replaced=self.magnifier.name != self.config["data"]["magnifier"],
        )

    def _results(self) -> RunResults:
        """Return what results.json says.

        Raises:
            GammerError: If it is not there, or damaged.
        """
        path = self.run.path / RESULTS
        next_step = f"gammer recognize test {self.run.path}"
        if not path.is_file():
            raise GammerError(
                f"{self.run.path} has no results.json",
                "a bundle says how good its model is",
                next_step,
            )
        record = read_json(path)
        check_values(record, RESULT_RULES, path, next_step)
        return RunResults.from_record(record, path, next_step)


def _public_name(magnifier: str) -> str:
    """Return a magnifier's name without the folders of this machine: bundles are given away."""
    return Path(magnifier).name


def open_finished_run(path: str | Path, magnifier: str | None = None) -> FinishedRun:
    """Load the networks of a finished recognition run.

    Args:
        path: The run folder.
        magnifier: Name or path of the magnifier, in place of the run's own.

    Raises:
        GammerError: If it is no finished run of GAM-MER, it is of action units, or its magnifier is no ST-MEMM.
    """
    run = _finished_run(path)
    recognizer = deployed_model(run.best)
    recognition = MemberFacts.from_checkpoint(load_checkpoint(run.best), run.best)
    if not isinstance(recognizer, GamMer):
        raise _other_network(path, recognition.name)
    if tuple(recognition.class_names) == UNIT_NAMES:
        raise GammerError(
            f"{path} is a run of action units (data.class_set {UNITS})",
            "a bundle and its page are of one class for each clip",
            f"give a run of another data.class_set; for the scores of this one: gammer recognize test {path}",
        )
    next_step = "copy the run folder again, or train again: gammer recognize fit"
    check_values(recognition.as_dict(), RECOGNITION_RULES, run.best, next_step)
    config = read_yaml(run.config)
    check_values(config, CONFIG_RULES, run.config, next_step)
    name = magnifier or config["data"]["magnifier"]
    loaded = load_magnifier(name)
    if not isinstance(loaded, STMEMMMagnifier):
        rule = "ST-MEMM alone is exported"
        if magnifier is None:
            rule += f"; it is what {path} was trained with"
        raise GammerError(
            f"the magnifier {name!r} is not ST-MEMM", rule, f"gammer export {path} --magnifier st-memm-small"
        )
    return FinishedRun(run, loaded, recognizer, recognition, config)


def _finished_run(path: str | Path) -> RunFolder:
    run = open_run(path)
    facts = run.facts
    if facts.task != "recognize":
        raise GammerError(
            f"{path} is a run of `{facts.task}`",
            "a bundle is made of a recognition run, and of a magnifier beside it",
            f"gammer export RECOGNITION_RUN --magnifier {path}",
        )
    if not facts.finished or not run.best.is_file():
        fault = "has no checkpoint" if facts.finished else "is not finished"
        raise GammerError(
            f"the run {path} {fault}",
            "a bundle is made of the last checkpoint of a finished run",
            f"gammer recognize fit --resume {path}",
        )
    return run


def _other_network(path: str | Path, network: str) -> GammerError:
    return GammerError(
        f"{path} is a run of {network}",
        "only runs of GAM-MER are exported and predict; the systems it is compared with are there to be scored",
        f"give a run whose model.network is gam_mer; for the scores of this one: gammer recognize test {path}",
    )
