"""The public names of the package: imported when they are used, and a fit and a prediction in five lines of Python."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from inspect import getdoc

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from casme2_sample import write_sample
from face_videos import CLASSES, face_frames, made_bundle, write_video
from fake_clips import FakeClips
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import EarlyStopping, LambdaCallback
from pytorch_lightning.plugins.io import TorchCheckpointIO
from tiny_task import TinyData, TinyModule

import gammer_lightning
from gammer_lightning import cli
from gammer_lightning.errors import GammerError
from gammer_lightning.files import read_image
from gammer_lightning.runs.checkpoints import load_checkpoint
from gammer_lightning.runs.folder import RunFolder, open_run
from gammer_lightning.tasks.recognize import RecognizeTask, deployed_model
from gammer_lightning.training import settings
from gammer_lightning.training.fit import fit as fit_command

QUIET = dict(accelerator="cpu", log_every_n_steps=1, enable_progress_bar=False, enable_model_summary=False)
TINY_NETWORK = dict(width=8, heads=2, seeds=[0])
NAMES = [name for name in gammer_lightning.__all__ if name != "__version__"]


@pytest.fixture(autouse=True)
def tiny(tmp_path, monkeypatch):
    """Put the tiny task behind ``gammer magnify`` and fake clips behind ``gammer recognize``, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "magnify", lambda: settings.Task("magnify", TinyModule, TinyData))
    recognize = settings.Task("recognize", RecognizeTask, FakeClips, test_after_fit=True)
    monkeypatch.setattr(settings, "recognize", lambda: recognize)


def fit_tiny(data=None, out="run", max_epochs=3, **settings):
    return gammer_lightning.fit(TinyModule(), data or TinyData(), out=out, max_epochs=max_epochs, **QUIET, **settings)


def metrics(run):
    with (run.path / "metrics.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", NAMES)
def test_each_public_name_has_a_docstring(name):
    value = getattr(gammer_lightning, name)
    assert callable(value) and getdoc(value)


def test_a_fresh_process_lists_the_names_and_imports_them():
    code = "import gammer_lightning; print(*dir(gammer_lightning)); from gammer_lightning import *; print(*dir())"
    listed, imported = (set(line.split()) for line in run_python(code).splitlines()[-2:])
    assert set(gammer_lightning.__all__) <= listed & imported


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = gammer_lightning.nonsense
    with pytest.raises(ImportError, match="nonsense"):
        exec("from gammer_lightning import nonsense")


def test_the_package_runs_as_the_command():
    result = subprocess.run([sys.executable, "-m", "gammer_lightning", "--version"], capture_output=True, text=True)
    assert result.stdout.strip() == f"gammer-lightning {gammer_lightning.__version__}"


def test_a_fit_leaves_the_run_folder_of_the_command(capsys):
    run = gammer_lightning.fit(TinyModule(lr=0.05), TinyData(4), name="mine", max_epochs=3, **QUIET)
    assert run.path.parent.parts == ("runs", "magnify", "mine")
    assert open_run(run.path, "magnify") == run and run.facts.finished and run.facts.name == "mine"
    paths = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    checkpoints = {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    assert paths == checkpoints | {"config.yaml", "command.txt", "env.json", "metrics.csv"}
    assert (run.path / "command.txt").read_text() == f"gammer magnify fit --config {run.config}\n"
    assert cli.main(["magnify", "test", str(run.path)]) == 0
    assert "test_loss" in capsys.readouterr().out


def test_a_fit_equals_that_of_the_command():
    pl.seed_everything(0)
    run = fit_tiny()
    flags = [f"--trainer.{name}={value}" for name, value in QUIET.items()]
    assert cli.main(["magnify", "fit", "--trainer.max_epochs=3", *flags, "--wandb=disabled", "--out=other"]) == 0
    other = RunFolder(run.path.with_name("other"))
    assert metrics(run) == metrics(other)
    assert run.config.read_text() == other.config.read_text()
    weights = [load_checkpoint(folder.best)["state_dict"] for folder in (run, other)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_recognition_fit_tests_and_its_run_can_be_repeated_and_read():
    data = FakeClips(noise=0.3)
    run = gammer_lightning.fit(RecognizeTask(**TINY_NETWORK), data, out="run", max_epochs=4, **QUIET)
    results = json.loads((run.path / "results.json").read_text())
    assert list(results["seeds"]) == ["0"] and metrics(run)[-1]["test_uf1"]
    assert deployed_model(run.last)(data.patches).shape == (18, 3)
    repeat = ["-c", str(run.config), "--out=again", "--wandb=disabled"]
    assert fit_command(settings.recognize(), repeat) == 0
    again = json.loads((run.path.with_name("again") / "results.json").read_text())
    assert again["seeds"] == results["seeds"]


def test_a_stopped_fit_raises_and_the_command_resumes_it(capsys):
    with pytest.raises(KeyboardInterrupt):
        gammer_lightning.fit(TinyModule(trouble="user"), TinyData(), out="run", max_epochs=3, **QUIET)
    assert "resume: gammer magnify fit --resume run" in capsys.readouterr().out
    config = RunFolder(open_run("run").path).config
    config.write_text(config.read_text().replace("trouble: user", "trouble: ''"))
    assert cli.main(["magnify", "fit", "--resume", "run"]) == 0
    assert open_run("run").facts.finished


def test_callbacks_are_objects():
    epochs = []
    count = LambdaCallback(on_train_epoch_end=lambda trainer, module: epochs.append(trainer.current_epoch))
    fit_tiny(callbacks=[count])
    assert epochs == [0, 1, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(max_epochs=0), "trainer.max_epochs is 0"),
        (dict(nonsense=1), "nonsense"),
        (dict(logger=False), "trainer.logger is False"),
        (dict(plugins=[TorchCheckpointIO()]), "Unable to serialize instance"),
        (dict(callbacks=[EarlyStopping("test_loss")]), "EarlyStopping monitors `test_loss`"),
        (dict(name="a/b"), "--name"),
        (dict(wandb="sometimes"), "wandb"),
        (dict(seed=-1), "seed_everything"),
    ],
)
def test_a_bad_setting_leaves_no_run_behind(settings, message, tmp_path):
    with pytest.raises(GammerError, match=message):
        fit_tiny(**settings)
    assert not list(tmp_path.iterdir())


def test_a_used_folder_and_a_module_of_another_kind_are_refused():
    fit_tiny()
    with pytest.raises(GammerError, match="not empty"):
        fit_tiny()
    with pytest.raises(GammerError, match="a fit of LightningModule"):
        gammer_lightning.fit(pl.LightningModule(), TinyData())


def test_a_run_is_loaded_and_predicts(tmp_path):
    folder = made_bundle(tmp_path / "bundle")
    video = write_video(tmp_path / "face.mp4", face_frames(12, apex=6))
    run = gammer_lightning.load_run(folder)
    assert run.class_names == tuple(CLASSES)
    predictions = [gammer_lightning.predict(source, video, alpha=1, onset=0, apex=6) for source in (run, folder)]
    for prediction in predictions:
        (window,) = prediction.windows
        assert (window.onset, window.apex) == (0, 6) and prediction.name(window) in CLASSES
    assert np.array_equal(*(prediction.windows[0].probabilities for prediction in predictions))


@pytest.fixture
def clips(tmp_path):
    write_sample(tmp_path / "casme2")
    return gammer_lightning.read_datasets({"casme2": tmp_path / "casme2"})


def test_an_image_of_a_clip_is_rgb_and_a_frame_it_lacks_is_refused(clips):
    image = clips[1].image(clips[1].apex)
    assert image.dtype == np.uint8 and image.shape == (170, 140, 3)
    assert np.array_equal(image, read_image(clips[1].frames[1]))
    with pytest.raises(GammerError, match="has no frame 12, only 9 to 11"):
        clips[1].image(12)


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def test_a_plot_shows_onset_apex_and_offset_with_what_is_annotated(clips, tmp_path):
    figure = clips[0].plot()
    assert isinstance(figure, Figure)
    assert titles(figure) == ["onset 9", "apex 10", "offset 11"]
    assert figure.get_suptitle() == "casme2, subject 01, EP01_01\nhappiness, action units 12"
    for axes, number in zip(figure.axes, (9, 10, 11), strict=True):
        assert np.array_equal(axes.images[0].get_array(), clips[0].image(number))
    figure.savefig(tmp_path / "clip.png")


def test_a_plot_of_a_clip_without_an_apex_or_offset_frame_and_of_odd_names(clips, tmp_path):
    odd = replace(clips[0], apex=None, offset=14, subject="$s_1$", name="$x^$", action_units="", emotion=r"a\b $1 _")
    figure = odd.plot()
    assert titles(figure) == ["onset 9", "offset 14 (frame 11)"]
    assert figure.get_suptitle() == "casme2, subject $s_1$, $x^$\na\\b $1 _"
    figure.savefig(tmp_path / "clip.png")
    with pytest.raises(GammerError, match="has no frame 3"):
        replace(clips[0], onset=3).plot()
