"""Motion pairs: exact motion, the same sample for the same seed, noise on the inputs only."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from gammer_lightning.data.motion.datamodule import FreshSamples, MotionPairs, Scenes
from gammer_lightning.data.motion.image_sources import ImageSources
from gammer_lightning.data.motion.render import (
    NOISE_LEVELS,
    SUBPIXEL_MOTIONS,
    linear_to_srgb,
    protocol_scene,
    render,
    srgb_to_linear,
)
from gammer_lightning.data.motion.scenes import MAX_INPUT_MOTION, draw_scene
from gammer_lightning.errors import GammerError
from gammer_lightning.models.st_memm import warp


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(2):
        coarse = Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8))
        coarse.resize((360, 300), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    Image.fromarray(np.dstack([rng.integers(0, 256, (40, 30, 3), np.uint8), np.full((40, 30), 255, np.uint8)])).save(
        folder / "cutout.png"
    )
    return folder


@pytest.fixture(scope="module")
def sources(pictures):
    return ImageSources([str(pictures)])


def scene(sources, index, **settings):
    return draw_scene(sources, np.random.default_rng([0, index]), 48, (1, 2), **settings)


def batch(scenes):
    return default_collate([dict(scene) for scene in scenes])


def test_the_sample_depends_on_seed_and_index_alone(sources):
    alone = render(batch([scene(sources, 3)]))
    among = render(batch([scene(sources, 7), scene(sources, 3)]))
    for name, value in alone.items():
        assert torch.equal(value[0], among[name][1]), name
    assert not torch.equal(among["onset"][0], among["onset"][1])


def test_limits_hold_and_kinds_differ(sources):
    drawn = [scene(sources, index, max_alpha=200) for index in range(200)]
    for one in drawn:
        reach = one["motion"][:, :2].norm(dim=1).max()
        assert reach <= MAX_INPUT_MOTION and reach * one["alpha"] <= 16 + 1e-4  # a third of 48 px
    assert {int(one["noise"] == 0) for one in drawn} == {0, 1}
    assert any(one["alpha"] < 1 for one in drawn) and any(one["alpha"] > 100 for one in drawn)
    assert any(not one["motion"].any() for one in drawn)


def test_displacement_explains_the_magnified_frame(sources):
    rendered = render(batch([scene(sources, index, alpha=4.0) for index in range(20)]))
    before = (rendered["onset"] - rendered["magnified"]).abs().mean()
    after = (warp(rendered["onset"], rendered["displacement"]) - rendered["magnified"]).abs().mean()
    assert after < before / 2


def test_motion_grows_with_alpha_exactly(sources):
    one = protocol_scene(scene(sources, 0), motion=0.25, noise=0)
    assert one["alpha"] == 40
    displacement = render(batch([one]))["displacement"]
    torch.testing.assert_close(displacement.norm(dim=1).amax(), torch.tensor(10.0), atol=1e-3, rtol=0)


def test_alpha_zero_gives_the_onset_and_one_the_apex(sources):
    for alpha, name in ((1e-9, "onset"), (1.0, "apex")):
        clean = dict(scene(sources, 5, alpha=alpha), noise=torch.tensor(0.0), dither=torch.tensor(0.0))
        rendered = render(batch([clean]))
        assert (rendered[name] - rendered["magnified"]).abs().max() < 0.5 / 255 + 1e-6  # eight bits


def test_noise_is_on_the_inputs_only_and_grows_with_intensity(sources):
    quiet = protocol_scene(scene(sources, 1), 0.05, 0)
    loud = protocol_scene(scene(sources, 1), 0.05, 4.0)
    quiet, loud = render(batch([quiet])), render(batch([loud]))
    assert torch.equal(quiet["magnified"], loud["magnified"])
    error = (quiet["onset"] - loud["onset"]).abs() * 255
    grey = quiet["onset"]
    bright, dark = error[(grey > 0.6) & (grey < 0.9)].mean(), error[(grey > 0.05) & (grey < 0.3)].mean()
    assert 2 < error.mean() < 5 and bright > 1.3 * dark


def test_srgb_round_trip():
    values = torch.linspace(0, 1, 256)
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-5, rtol=0)


def test_two_devices_share_the_samples_and_no_epoch_repeats_one():
    scenes = Scenes(None, seed=0, length=10)
    seen = []
    for epoch in range(2):
        for rank in range(2):
            sampler = FreshSamples(scenes, 2, rank, drop_last=True)
            sampler.set_epoch(epoch)
            assert len(list(sampler)) == len(sampler) == 5
            seen += list(sampler)
    assert sorted(seen) == list(range(20))


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_do_not_change_samples(pictures, workers):
    pairs = MotionPairs([str(pictures)], size=32, objects=(0, 1), batch_size=3, samples=6, num_workers=workers)
    pairs.trainer = SimpleNamespace(world_size=1, global_rank=0)
    pairs.setup("fit")
    first = next(iter(pairs.train_dataloader()))
    expected = pairs._training_scene(np.random.default_rng([0, 0]), 0)
    for name, value in expected.items():
        assert torch.equal(first[name][0], value), name


def test_protocol_has_the_fields_rows(pictures):
    pairs = MotionPairs([str(pictures)], [str(pictures)], test_scenes=2, test_size=32, num_workers=0)
    pairs.setup("test")
    motion, noise = pairs.test_dataloader()
    assert len(motion) == len(SUBPIXEL_MOTIONS) == 15 and len(noise) == len(NOISE_LEVELS) == 21
    rows = list(motion)
    assert torch.equal(rows[0]["textures"], rows[14]["textures"])
    torch.testing.assert_close(rows[0]["motion"] / 0.04, rows[14]["motion"])
    assert [float(row["alpha"][0]) for row in rows][::14] == [250, 10]


def test_embedded_sets_share_no_image():
    train, test = ImageSources(["embedded"]), ImageSources(["embedded-test"])
    assert len(train.photographs) > 20 and len(test.photographs) > 10
    digests = [{image.tobytes() for image in sources.photographs} for sources in (train, test)]
    assert not digests[0] & digests[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no folder"),
        ([], "no images in"),
        ([("a.png", b"\x89PNG\r\n")], "cannot be read"),
        ([("a.jpg", b"text")], "cannot be read"),
    ],
)
def test_bad_sources(tmp_path, content, message):
    folder = tmp_path / "folder"
    for name, data in content or []:
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    if content == []:
        folder.mkdir()
    with pytest.raises(GammerError, match=message):
        ImageSources([str(folder)])


@pytest.mark.parametrize(
    "setting", [{"size": 31}, {"objects": (3, 1)}, {"max_alpha": float("nan")}, {"max_noise": 0.0}]
)
def test_bad_settings(setting):
    with pytest.raises(GammerError):
        MotionPairs(**setting)
