"""MagNet: its published size, any frame, gradients, and a run of it through the real commands."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from gammer_lightning import cli
from gammer_lightning.data.microfaces.generate import synthesize
from gammer_lightning.data.microfaces.spec import MicrofacesSpec
from gammer_lightning.errors import GammerError
from gammer_lightning.magnifiers import load_magnifier
from gammer_lightning.models.magnet import MagNet, Manipulator
from gammer_lightning.models.recognizer import count_parameters
from gammer_lightning.tasks.magnify import MagnifyTask

PUBLISHED = dict(loss="l1", edge_weight=0.0, regulariser_weight=0.1, displacement_weight=0.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("magnet")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).resize((200, 200), Image.Resampling.BICUBIC).save(folder / "0.png")
    settings = {
        "model.preset": "magnet",
        **{f"model.{name}": value for name, value in PUBLISHED.items()},
        "data.sources": f"[{folder}]",
        "data.test_sources": f"[{folder}]",
        "data.microfaces": folder / "faces",
        "data.size": 32,
        "data.objects": "[0, 1]",
        "data.batch_size": 2,
        "data.samples": 6,
        "data.val_samples": 6,
        "data.num_workers": 0,
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "trainer.log_every_n_steps": 1,
    }
    flags = [f"--{name}={value}" for name, value in settings.items()]
    assert cli.main(["magnify", "fit", "--out", str(folder / "run"), "--wandb=disabled", *flags]) == 0
    return folder / "run"


def test_it_has_the_published_number_of_parameters():
    assert count_parameters(MagNet()) == 928_144  # 0.93 M


def test_the_shape_of_the_apex_is_kept_at_alpha_1_and_without_motion():
    manipulator, (onset, apex) = Manipulator(), torch.rand(2, 1, 32, 12, 16)
    one, five = manipulator(onset, apex, torch.tensor([[1.0], [5.0]]))
    assert torch.equal(one, apex) and not torch.equal(five, apex)
    assert torch.equal(manipulator(apex, apex, torch.tensor([[5.0]]))[0], apex)


@pytest.mark.parametrize("size", [(32, 32), (45, 62), (101, 37)])
def test_any_size_and_each_pair_its_alpha(size):
    network, (onset, apex) = MagNet().eval(), torch.rand(2, 2, 3, *size)
    with torch.inference_mode():
        both = network(onset, apex, torch.tensor([[2.0, 9.0], [5.0, 5.0]]))
        alone = network(onset[1:], apex[1:], torch.tensor([[9.0]]))
    assert both.shape == (2, 2, 3, *size)
    torch.testing.assert_close(both[0, 1:], alone[0], atol=1e-4, rtol=0)
    with pytest.raises(GammerError, match="at least 32 px"):
        network(onset[..., :16], apex[..., :16], torch.ones(1, 2))


def test_losses_reach_every_weight_and_fall():
    torch.manual_seed(0)
    task = MagnifyTask("magnet", **PUBLISHED)
    pictures = torch.nn.functional.interpolate(torch.rand(2, 3, 4, 4), (32, 32), mode="bicubic").clamp(0, 1)
    names = ("onset", "apex", "perturbed", "perturbed_magnified", "magnified")
    moved = (pictures.roll(step, -1) for step in (0, 1, 1, 3, 3))
    batch = dict(zip(names, moved, strict=True)) | {"alpha": torch.full((2,), 3.0)}
    optimizer, totals = torch.optim.Adam(task.parameters(), lr=3e-4), []
    for _ in range(20):
        losses = task._losses(batch)
        assert set(losses) == {"pixel", "regulariser"}
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert totals or all(weight.grad.any() for weight in task.parameters())
        optimizer.step()
        totals.append(sum(losses.values()).item())
    assert totals[-1] < 0.8 * totals[0]


def test_a_run_of_it_is_opened_and_tested(run, capsys):
    magnifier = load_magnifier(str(run))
    onset, apex = torch.rand(2, 1, 3, 40, 50)
    expected = magnifier(onset, apex, [1, 10])
    assert expected.shape == (2, 1, 3, 40, 50) and 0 <= expected.min() <= expected.max() <= 1
    torch.testing.assert_close(load_magnifier(str(run / "checkpoints/last.ckpt"))(onset, apex, [1, 10]), expected)
    synthesize(
        run.parent / "faces", MicrofacesSpec(subjects=1, clips_per_class=1, width=140, height=170, fps=50, benchmark=1)
    )
    flags = ["--data.test_scenes=1", "--data.test_size=32", "--trainer.enable_progress_bar=false"]
    assert cli.main(["magnify", "test", str(run), *flags]) == 0
    assert "Sub-pixel test" in capsys.readouterr().out and len(pd.read_csv(run / "protocol.csv")) == 36
    assert "train_regulariser" in pd.read_csv(run / "metrics.csv")


def test_bad_settings_are_named(run):
    with pytest.raises(GammerError, match=r"displacement_weight 0\.02 of magnet"):
        MagnifyTask("magnet")
    with pytest.raises(GammerError, match="known presets: small, base, magnet"):
        MagnifyTask("huge")
    small = MagnifyTask("small", start_from=str(run))
    small._trainer = type("Trainer", (), {"ckpt_path": None})()
    with pytest.raises(GammerError, match="does not fit this model"):
        small.setup("fit")
