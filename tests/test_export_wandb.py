"""`gammer export --upload` and `gammer export wandb:...`; W&B's server was not reached, but an imitation of it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
from exported_run import add_preset, write_run
from fake_wandb import ENTITY, fake_wandb

from gammer_lightning import cli
from gammer_lightning.deploy.bundle import _digest
from gammer_lightning.errors import GammerError
from gammer_lightning.export import artifacts, load_bundle
from gammer_lightning.export.job import Job
from gammer_lightning.files import sha256_of
from gammer_lightning.runs.folder import WANDB_PROJECT, RunFolder, RunRecord, open_run

EXPORT = """
import sys
sys.path.insert(0, sys.argv[1])
import pytest
from exported_run import add_preset
from gammer_lightning import cli
from gammer_lightning.export.job import Job
add_preset(pytest.MonkeyPatch())
Job.run = lambda self, target: []
sys.exit(sum([cli.main(["export", *words.split()]) for words in sys.argv[2:]]))
"""
"""Exports weights and card only: what else there is in a bundle is tested elsewhere."""


@pytest.fixture(scope="module", autouse=True)
def presets():
    with pytest.MonkeyPatch.context() as monkeypatch:
        add_preset(monkeypatch)
        yield


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Keep the logs that `wandb sync` writes where it is run out of the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """Return a finished run that W&B recorded offline."""
    return write_run(tmp_path_factory.mktemp("tracked"), wandb="offline")


def export(*commands, url="http://127.0.0.1:1", key="a" * 40):
    """Run commands in a process of their own, as W&B settles mode and key once a process; return code is the sum."""
    environment = {name: value for name, value in os.environ.items() if name not in ("WANDB_MODE", "WANDB_SERVICE")}
    environment |= {"WANDB_BASE_URL": url} | ({"WANDB_API_KEY": key} if key else {})
    command = [sys.executable, "-c", EXPORT, str(Path(__file__).parent / "helpers"), *commands]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_bundle_is_logged_as_an_artifact_of_its_run(tracked, tmp_path):
    run = shutil.copytree(tracked, tmp_path / "run")
    identity = open_run(run).facts.wandb_id
    with fake_wandb() as server:
        result = export(f"{run} --upload", url=server.url)
    assert result.returncode == 0, result.stderr
    assert set(server.runs) == {identity}  # the offline records went there first
    (logged,) = [one for one in server.artifacts.values() if one["artifactTypeName"] == "model"]
    assert logged["runName"] == identity and logged["state"] == "COMMITTED"
    metric = json.loads((run / "results.json").read_text())["mean"]["uf1"]
    assert {"best", f"uf1-{metric:.3f}"} <= {alias["alias"] for alias in logged["aliases"]}
    names = {Path(path).name for path in server.files if path.startswith(f"artifacts/{logged['id']}")}
    bundle = {path.name for path in (run / "export").iterdir()}
    assert names == bundle | {"last.ckpt", "config.yaml", "results.json"}
    assert f"linked to run {identity}" in result.stdout


@pytest.mark.parametrize(
    ("key", "words"),
    [("", "there is no W&B key"), pytest.param("a" * 40, "W&B cannot be reached", marks=pytest.mark.slow)],
)
def test_without_wandb_both_ways_are_refused_before_anything_is_done(tracked, key, words):
    before = sorted(tracked.rglob("*"))
    result = export(f"{tracked} --upload", "wandb:someone/project/1a2b3c4d", key=key)
    assert result.returncode == 2 + 2 and result.stderr.count(words) == 2
    assert f"without --upload: gammer export {tracked}" in result.stderr
    assert "copy the run folder here" in result.stderr
    assert sorted(tracked.rglob("*")) == before


def test_offline_mode_is_respected(tracked, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for words in ([str(tracked), "--upload"], ["wandb:someone/project/1a2b3c4d"]):
        assert cli.main(["export", *words]) == 2
        said = capsys.readouterr().err
        assert "W&B is offline (WANDB_MODE)" in said and "WANDB_MODE=online gammer export" in said


def test_a_run_without_wandb_has_nothing_to_be_linked_to(tracked, tmp_path):
    run = shutil.copytree(tracked, tmp_path / "run", ignore=shutil.ignore_patterns("wandb"))
    target = artifacts._target(open_run(run))
    with pytest.raises(GammerError, match="ran without W&B") as refused:
        artifacts._upload_run(open_run(run), target)
    assert "wandb artifact put --type model" in refused.value.next_step


def logged(artifact, files, day):
    """Return an artifact as W&B has it: what it is made of, and how it is taken."""

    def download(root):
        for path in files:
            Path(root).mkdir(exist_ok=True)
            shutil.copy(path, root)
        return root

    facts = {"name": f"{artifact.name}:v0", "type": artifact.type, "manifest": artifact.manifest}
    return SimpleNamespace(**facts, digest=artifact.digest, created_at=f"2026-01-{day:02}T00:00:00Z", download=download)


def taken_from(run, files, monkeypatch):
    """Let W&B have a run with an artifact of some files of ``run``; return the list of the run's artifacts."""
    model, other = wandb.Artifact("model", "model"), wandb.Artifact("other", "dataset")
    for path in files:
        for artifact in (model, other):
            artifact.add_file(str(path), path.name, skip_cache=True, policy="immutable")
    there = [logged(model, files, day=2), logged(other, [], day=3)]
    known = json.loads((run / "env.json").read_text())
    config = {"task": known["task"], "seed": 0, "git": None, "name": known["name"]}
    online = SimpleNamespace(config=config, name="x", state="finished", logged_artifacts=lambda: there)

    def find(path):
        if path != "team/project/1a2b3c4d":
            raise wandb.errors.CommError("could not find run")
        return online

    monkeypatch.setattr(wandb, "Api", lambda: SimpleNamespace(run=find))
    monkeypatch.setattr(artifacts, "check_login", lambda: None)
    monkeypatch.delenv("WANDB_MODE")
    return there


@pytest.fixture
def files(tracked):
    """Return what an uploaded run consists of."""
    return [tracked / "checkpoints" / "last.ckpt", tracked / "config.yaml", tracked / "results.json"]


def test_a_run_is_taken_from_wandb_and_exported(tracked, files, monkeypatch, capsys):
    taken_from(tracked, files, monkeypatch)
    monkeypatch.setattr(Job, "run", lambda self, target: [])
    assert cli.main(["export", "wandb:team/project/1a2b3c4d"]) == 0
    folder = Path("runs/recognize/wandb/team-project-1a2b3c4d")
    assert f"next: gammer predict {folder} VIDEO" in capsys.readouterr().out
    assert load_bundle(folder).class_names[0] == "happiness" and (folder / "export").is_dir()
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == files[0].read_bytes()
    run = open_run(folder, "recognize")
    assert run.facts.wandb_id == "1a2b3c4d" and artifacts._target(run) == artifacts.Target("team", "project")
    assert artifacts.fetch("wandb:team/project/1a2b3c4d") == folder  # what is here already is not taken again
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"trained further")
    with pytest.raises(GammerError, match="another version of the run"):
        artifacts.fetch("wandb:team/project/1a2b3c4d")


def test_what_was_taken_can_be_uploaded_again_and_again(tracked, files, tmp_path, monkeypatch, capsys):
    """Each upload is a new artifact, the newest that has the run's checkpoint."""
    there = taken_from(tracked, files, monkeypatch)
    folder = Path("runs/recognize/wandb/team-project-1a2b3c4d")

    def log(run, artifact, aliases, target):
        assert target == artifacts.Target("team", "project")
        bundle = shutil.copytree(run.path / "export", tmp_path / f"uploaded{len(there)}")
        there.append(logged(artifact, [*bundle.iterdir(), *files], day=3 + len(there)))

    monkeypatch.setattr(artifacts, "log_artifact", log)
    monkeypatch.setattr(Job, "run", lambda self, target: [])
    for count in (1, 2):
        assert cli.main(["export", "wandb:team/project/1a2b3c4d", "--upload"]) == 0
        assert len(there) == 2 + count and "bundle.json" in there[-1].manifest.entries
    folder.rename("aside")  # as on another machine, and W&B does not say in which order it lists them
    there.reverse()
    assert artifacts.fetch("wandb:team/project/1a2b3c4d") == folder
    assert f"{there[0].name}: taken to {folder}" in capsys.readouterr().out
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == files[0].read_bytes()


def test_what_wandb_does_not_have(tracked, files, monkeypatch):
    taken_from(tracked, files, monkeypatch)
    with pytest.raises(GammerError, match="has no run team/project/other"):
        artifacts.fetch("wandb:team/project/other")
    for address in ("wandb:run", "wandb:a/b/c/d", "wandb:a//c", "wandb:a/b/c d"):
        with pytest.raises(GammerError, match="the address"):
            artifacts.fetch(address)


def test_an_artifact_without_checkpoint_or_settings_is_refused(tracked, files, monkeypatch):
    taken_from(tracked, files[1:], monkeypatch)
    with pytest.raises(GammerError, match="has no checkpoint in W&B"):
        artifacts.fetch("wandb:team/project/1a2b3c4d")
    monkeypatch.setenv("WANDB_MODE", "online")
    taken_from(tracked, files[:1], monkeypatch)
    with pytest.raises(GammerError, match=r"has no config\.yaml"):
        artifacts.fetch("wandb:team/project/1a2b3c4d")
    assert not list(Path("runs/recognize/wandb").iterdir())


@pytest.mark.parametrize(
    "name", ["../../last.ckpt", "/tmp/last.ckpt", "a/../../last.ckpt", "a/./b", "..", "a\\last.ckpt"]
)
def test_an_artifact_with_a_file_outside_its_folder_is_not_taken(name, tracked, files, monkeypatch, capsys):
    model = taken_from(tracked, files, monkeypatch)[0]
    model.manifest.entries[name] = model.manifest.entries["last.ckpt"]
    taken = []
    model.download = taken.append
    assert cli.main(["export", "wandb:team/project/1a2b3c4d"]) == 2
    said = capsys.readouterr().err
    assert repr(name) in said and "of the artifact model:v0" in said and "a name is one path component" in said
    assert not taken and not list(Path().iterdir())


@pytest.mark.parametrize("name", ["../../../../../secret.ckpt", "{folder}/secret.ckpt", "..", "last.ckpt/../last.ckpt"])
def test_a_bundle_in_an_artifact_names_no_checkpoint_outside(name, tracked, files, tmp_path, monkeypatch, capsys):
    secret = shutil.copy(files[0], tmp_path / "secret.ckpt")
    facts = load_bundle(tracked).facts.as_dict()
    facts["run"] |= {"checkpoint": name.format(folder=tmp_path), "checkpoint_sha256": sha256_of(secret)}
    stranger = tmp_path / "stranger" / "bundle.json"
    stranger.parent.mkdir()
    stranger.write_text(json.dumps(facts | {"digest": _digest(facts)}))
    taken_from(tracked, [*files, stranger], monkeypatch)
    assert cli.main(["export", "wandb:team/project/1a2b3c4d"]) == 2
    said = capsys.readouterr().err
    assert "bundle.json is damaged: run.checkpoint" in said and "the name of a file" in said
    assert not list(Path("runs/recognize/wandb").iterdir())


def test_names_and_places(tracked):
    run = open_run(tracked)
    assert artifacts.artifact_name(run) == f"recognize-{run.facts.wandb_id}-export"
    long = SimpleNamespace(facts=RunRecord("recognize", "β" * 200, wandb_id="1a2b3c4d"))
    assert len(wandb.Artifact(artifacts.artifact_name(long), "model").name) <= 128
    assert artifacts._target(RunFolder(tracked)) == artifacts.Target("", WANDB_PROJECT) and ENTITY
