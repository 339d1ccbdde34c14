"""Pretraining through the real command: fit, resume, test, devices, precision, bad runs; and the magnifiers."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from gammer_lightning import cli
from gammer_lightning.data.microfaces.generate import synthesize
from gammer_lightning.data.microfaces.spec import MicrofacesSpec
from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.magnification import quality
from gammer_lightning.magnifiers import check_alphas, load_magnifier
from gammer_lightning.magnifiers.trained import MAGNET, SHIPPED_WEIGHTS, PresetName, load_trained, save_st_memm
from gammer_lightning.models.st_memm import PRESETS
from gammer_lightning.runs.checkpoints import load_checkpoint


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).resize((200, 200), Image.Resampling.BICUBIC).save(folder / "0.png")
    return folder


def fit(out: Path, pictures: Path, *flags: str) -> int:
    settings = {
        "data.sources": f"[{pictures}]",
        "data.test_sources": f"[{pictures}]",
        "data.size": 32,
        "data.objects": "[0, 1]",
        "data.batch_size": 2,
        "data.samples": 4,
        "data.val_samples": 6,
        "data.num_workers": 0,
        "trainer.max_epochs": 2,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "trainer.log_every_n_steps": 1,
    }
    settings |= dict(flag.lstrip("-").split("=", 1) for flag in flags)
    return cli.main(
        [
            "magnify",
            "fit",
            "--out",
            str(out),
            "--wandb=disabled",
            *(f"--{k}={v}" for k, v in settings.items()),
        ]
    )


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert fit(out, pictures) == 0
    return out


def test_fit_leaves_a_validation_curve_by_alpha_and_both_checkpoints(run):
    curve = pd.read_csv(run / "metrics.csv")
    for alpha in (2, 5, 10, 20, 50, 100):
        assert curve[f"val_ssim_alpha{alpha}"].notna().sum() == 2 and curve[f"val_psnr_alpha{alpha}"].notna().sum() == 2
    assert {"train_pixel", "train_edge", "train_displacement", "train_loss"} <= set(curve)
    for name in ("best", "last"):
        assert load_checkpoint(run / f"checkpoints/{name}.ckpt")["hyper_parameters"]["preset"] == "small"


def test_the_choices_of_a_fit_are_the_presets_that_there_are():
    assert get_args(PresetName) == (*PRESETS, MAGNET)


def test_an_interrupted_run_resumes_to_the_same_weights(run, pictures, tmp_path):
    out = tmp_path / "run"
    assert fit(out, pictures, "--trainer.max_epochs=2", "--trainer.limit_val_batches=0") == 0
    whole = load_checkpoint(out / "checkpoints/last.ckpt")["state_dict"]
    shutil.rmtree(out)

    class Stop(Exception):
        pass

    from gammer_lightning.tasks.magnify import MagnifyTask

    def stop(task):
        if task.current_epoch == 1:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MagnifyTask, "on_train_epoch_start", stop)
        assert fit(out, pictures, "--trainer.limit_val_batches=0") == 1
    assert cli.main(["magnify", "fit", "--resume", str(out)]) == 0
    resumed = load_checkpoint(out / "checkpoints/last.ckpt")
    assert resumed["epoch"] == 1
    for name, weight in resumed["state_dict"].items():
        torch.testing.assert_close(weight, whole[name], msg=name)


def test_a_fit_starts_from_the_weights_of_another_run(run, pictures, tmp_path, capsys):
    best, last = "checkpoints/best.ckpt", "checkpoints/last.ckpt"
    flags = ["--model.lr=1e-12", "--trainer.max_epochs=1", "--trainer.limit_val_batches=0"]
    assert fit(tmp_path / "tuned", pictures, f"--model.start_from={run}", *flags) == 0
    start, tuned = (load_checkpoint(path)["state_dict"] for path in (run / best, tmp_path / "tuned" / last))
    for name, weight in tuned.items():
        torch.testing.assert_close(weight, start[name], msg=name)
    assert fit(tmp_path / "gone", pictures, "--model.start_from=gone.ckpt", *flags) == 2
    assert "no checkpoint at gone.ckpt" in capsys.readouterr().err
    assert fit(tmp_path / "other", pictures, f"--model.start_from={run}", "--model.preset=base", *flags) == 2
    assert "does not fit this model" in capsys.readouterr().err


def test_test_prints_the_protocol_and_true_apexes(run, tmp_path, capsys):
    faces = tmp_path / "faces"
    synthesize(faces, MicrofacesSpec(subjects=1, clips_per_class=1, width=140, height=170, fps=50, benchmark=1))
    flags = ["--data.test_scenes=1", "--data.test_size=32", f"--data.microfaces={faces}"]
    assert cli.main(["magnify", "test", str(run), *flags, "--trainer.enable_progress_bar=false"]) == 0
    assert "Sub-pixel test" in capsys.readouterr().out
    protocol, apexes = pd.read_csv(run / "protocol.csv"), pd.read_csv(run / "microfaces.csv")
    assert protocol.test.value_counts().to_dict() == {"noise": 21, "motion": 15}
    np.testing.assert_allclose(protocol.gain, protocol.ssim - protocol.floor, atol=1e-4)
    assert protocol[protocol.test == "motion"].alpha.max() == 250
    assert set(apexes.input) == {"clean", "recorded"} and set(apexes.alpha) == {5, 10, 20}
    assert (run / "figures/protocol.png").stat().st_size > 5000


@pytest.mark.parametrize(
    "flags", [["--trainer.precision=bf16-mixed"], ["--model.loss=l1", "--model.regulariser_weight=0.1"]]
)
def test_precisions_and_losses(tmp_path, pictures, flags):
    assert fit(tmp_path / "run", pictures, "--trainer.max_epochs=1", *flags) == 0
    curve = pd.read_csv(tmp_path / "run/metrics.csv")
    assert np.isfinite(curve.train_loss.dropna()).all()
    assert ("train_regulariser" in curve) == (len(flags) == 2)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path, pictures, capsys):
    assert fit(tmp_path / "run", pictures, "--model.lr=1e6", "--model.warmup=1", "--trainer.max_epochs=3") == 2
    error = capsys.readouterr().err
    assert "not finite" in error or "the loss became" in error
    last = tmp_path / "run/checkpoints/last.ckpt"
    assert not last.exists() or all(w.isfinite().all() for w in load_checkpoint(last)["state_dict"].values())


def test_two_processes_use_each_sample_once(tmp_path, pictures):
    script = Path(__file__).parent.joinpath("helpers", "ddp_samples.py")
    subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(pictures)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    ranks = [(tmp_path / f"rank{rank}.txt").read_text().split() for rank in (0, 1)]
    assert [len(seeds) for seeds in ranks] == [8, 8]
    assert len({*ranks[0], *ranks[1]}) == 16  # two epochs of eight, no sample twice


def test_a_run_a_checkpoint_and_safetensors_magnify_alike(run, tmp_path):
    from_run = load_magnifier(str(run))
    save_st_memm(from_run.network, "small", tmp_path / "weights.safetensors")
    onset, apex = torch.rand(2, 2, 3, 40, 50)
    expected = from_run(onset, apex, [0, 1, 10])
    assert expected.shape == (3, 2, 3, 40, 50) and torch.equal(expected[0], onset)
    for path in (run / "checkpoints/best.ckpt", tmp_path / "weights.safetensors"):
        magnifier = load_magnifier(str(path))
        assert magnifier.fingerprint == from_run.fingerprint
        torch.testing.assert_close(magnifier(onset, apex, [0, 1, 10]), expected)


def test_none_returns_the_apex_and_eulerian_is_exact_at_zero_and_one():
    onset, apex = torch.rand(2, 1, 3, 101, 128)
    assert torch.equal(load_magnifier("none")(onset, apex, [5, 20])[1], apex)
    out = load_magnifier("eulerian")(onset, apex, [0, 1, 10])
    torch.testing.assert_close(out[:2], torch.stack([onset, apex]), atol=1e-6, rtol=0)
    smooth, moved = (torch.linspace(0, 6, 128).add(shift).sin().expand(1, 3, 101, 128) / 4 + 0.5 for shift in (0, 0.02))
    out = load_magnifier("eulerian")(smooth, moved, [10])[0]
    assert (out - smooth).abs().mean() > 4 * (moved - smooth).abs().mean()


@pytest.mark.parametrize("alphas", [[-1], [math.nan], [math.inf], ["five"], [], None])
def test_bad_alphas(alphas):
    with pytest.raises(GammerError, match="at least 0"):
        check_alphas(alphas)


def test_bad_magnifiers(run, tmp_path):
    with pytest.raises(GammerError, match="unknown magnifier 'phaser'"):
        load_magnifier("phaser")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x00" * 100)
    with pytest.raises(GammerError, match="cannot be read"):
        load_magnifier(str(broken))
    other = tmp_path / "other.ckpt"
    torch.save({"state_dict": {"layer.weight": torch.zeros(1)}}, other)
    with pytest.raises(GammerError, match="not a checkpoint of the magnifier"):
        load_magnifier(str(other))
    checkpoint = load_checkpoint(run / "checkpoints/last.ckpt")
    checkpoint["state_dict"].pop("network.mix.weight")
    torch.save(checkpoint, other)
    with pytest.raises(GammerError, match="does not fit this model"):
        load_magnifier(str(other))


def test_shipped_weights_are_small_described_and_magnify_a_face():
    card = SHIPPED_WEIGHTS.with_suffix(".md").read_text()
    assert SHIPPED_WEIGHTS.stat().st_size < 10e6
    for word in ("seed", "steps", "hardware", "command", "SSIM", "CC0"):
        assert word in card
    assert load_trained("st-memm-small").network.stride == 4


def test_shipped_weights_beat_the_apex_on_a_moving_face(tmp_path):
    from gammer_lightning.data.clips.casme2 import read_casme2
    from gammer_lightning.evaluation.magnification import score_microfaces

    synthesize(tmp_path / "faces", MicrofacesSpec(subjects=1, clips_per_class=1, fps=50, benchmark=1))
    clips = read_casme2(tmp_path / "faces", "microfaces")[:2]
    scores = score_microfaces(load_magnifier("st-memm-small"), tmp_path / "faces", clips, torch.device("cpu"))
    clean = scores[scores.input == "clean"].set_index("alpha")
    assert clean.gain[5.0] > 0 and clean.gain[10.0] > 0


def test_quality_of_equal_and_different_frames():
    frame = torch.rand(2, 3, 32, 32)
    psnr, ssim = quality(frame, frame)
    assert psnr.min() >= 99 and ssim.min() > 0.999
    psnr, ssim = quality(frame, 1 - frame)
    assert psnr.max() < 15 and ssim.max() < 0.1


def test_card_names_the_weights_it_describes():
    import hashlib

    digest = hashlib.sha256(SHIPPED_WEIGHTS.read_bytes()).hexdigest()
    assert digest in SHIPPED_WEIGHTS.with_suffix(".md").read_text()


def test_facts_of_the_run(run):
    facts = json.loads((run / "env.json").read_text())
    assert facts["task"] == "magnify" and facts["finished"] and facts["seed"] == 0
