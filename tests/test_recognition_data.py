"""The DataModule of recognition: what a batch holds, what is random and what is not, what is refused."""

import pickle

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from casme2_sample import write_sample

from gammer_lightning.data.datamodule import MagnifiedClips
from gammer_lightning.data.inputs.augment import PhotometricAugmentation
from gammer_lightning.data.inputs.patches import DIFFERENCE_SCALE
from gammer_lightning.errors import GammerError
from gammer_lightning.faces.alignment import cut_patches


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("casme2")
    write_sample(root)
    return root


def make(folder, **settings):
    defaults = {"magnifier": "eulerian", "alphas": [3, 5, 9], "train_alphas": [3, 9], "batch_size": 3}
    cache = str(folder / "cache")
    return MagnifiedClips({"casme2": str(folder)}, **({"cache": cache} | defaults | settings))


def ready(folder, **settings):
    data = make(folder, **settings)
    data.prepare_data()
    data.setup()
    return data


def join(batches):
    """Return one batch of many, sorted by clip."""
    batches = list(batches)
    whole = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    order = whole["clip"].argsort()
    return {name: values[order] for name, values in whole.items()}


def epoch(loader, number):
    loader.sampler.set_epoch(number)
    return list(loader)


def same(first, second):
    return all(torch.equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)


def test_setup_tells_what_the_task_needs(folder):
    data = ready(folder)
    assert data.clips[0].key == "casme2/01/EP01_01"
    assert data.subjects == ["casme2/01", "casme2/01", "casme2/02", "casme2/02"]
    assert data.labels == [0, 1, 2, 3]
    assert data.class_names == ("happiness", "surprise", "disgust", "repression", "others")
    assert (data.landmarks.shape, data.inputs.dtype) == ((4, 68, 2), np.uint8)
    assert data.images(0, [1, 9]).shape == (3, 256, 256, 3)
    three = ready(folder, class_set="three")
    assert three.labels == [1, 2, 0, 0] and three.clip_hash != data.clip_hash
    assert ready(folder, eval_alpha=9).clip_hash == data.clip_hash


@pytest.mark.parametrize(("kind", "channels"), [("apex", 3), ("difference", 3), ("both", 6)])
def test_batches_have_the_promised_form(folder, kind, channels):
    data = ready(folder, input=kind, patch_size=12)
    assert data.input_shape[1] == channels
    for loader in (data.train_dataloader(), data.test_dataloader()):
        first = next(iter(loader))
        assert first["input"].shape == (3, 68, channels, 12, 12)
        assert first["input"].dtype == torch.float32
        assert first["input"].abs().max() <= 1 and first["input"].std() > 0
        assert first["label"].dtype == first["clip"].dtype == torch.int64
        assert first["alpha"].dtype == torch.float32
        whole = join(loader)
        assert whole["clip"].tolist() == [0, 1, 2, 3] and whole["label"].tolist() == data.labels


def test_spawned_workers_can_be_given_the_clips(folder):
    clips = ready(folder, input="both").train_dataloader().dataset
    copied = pickle.loads(pickle.dumps(clips))
    draws = [(0, 1, 7), (2, 0, 8)]
    assert same([copied.__getitems__(draws)], [clips.__getitems__(draws)])


@pytest.mark.parametrize("alpha", [1, 5])
def test_evaluation_shows_the_images_of_the_cache_unchanged(folder, alpha):
    data = ready(folder, eval_alpha=alpha, augment=True)
    list(data.train_dataloader())
    for loader in (data.test_dataloader(), data.predict_dataloader()):
        clips = torch.cat([batch["clip"] for batch in loader]).tolist()
        assert clips == [0, 1, 2, 3], "every clip once, in order"
        whole = join(loader)
        assert whole["alpha"].tolist() == [alpha] * 4
        for clip in clips:
            image = data.images(clip, [alpha])[1]
            expected = torch.from_numpy(cut_patches(image, data.landmarks[clip], 16)).permute(0, 3, 1, 2)
            torch.testing.assert_close(whole["input"][clip], expected / 127.5 - 1)


def test_difference_is_that_from_the_onset_scaled(folder):
    data = ready(folder, input="both", eval_alpha=1)
    patches = join(data.test_dataloader())["input"]
    onset, apex = (
        torch.from_numpy(cut_patches(image, data.landmarks[0], 16)).permute(0, 3, 1, 2) / 255
        for image in data.images(0, [1])
    )
    torch.testing.assert_close(patches[0, :, :3], apex * 2 - 1)
    expected = ((apex - onset) * DIFFERENCE_SCALE).clamp(-1, 1)
    torch.testing.assert_close(patches[0, :, 3:], expected, atol=1e-6, rtol=0)


def test_training_draws_alphas_and_order_anew_for_each_epoch_and_the_same_for_a_seed(folder):
    data = ready(folder)
    loader = data.train_dataloader()
    epochs = [epoch(loader, number) for number in range(8)]
    alphas = torch.stack([join(batches)["alpha"] for batches in epochs])
    assert set(alphas.unique().tolist()) == {3, 9}
    assert all(len(set(column.tolist())) == 2 for column in alphas.T), "each clip meets each alpha"
    assert len({tuple(torch.cat([b["clip"] for b in batches]).tolist()) for batches in epochs}) > 4
    again = ready(folder).train_dataloader()
    assert same(epoch(again, 5), epochs[5]), "an epoch is the same when training starts there"
    assert same(epoch(ready(folder, num_workers=2).train_dataloader(), 5), epochs[5])
    assert not same(epoch(ready(folder, seed=1).train_dataloader(), 5), epochs[5])


def test_augmentation_changes_training_only_where_asked(folder):
    plain = join(epoch(ready(folder, augment=False, train_alphas=[3]).train_dataloader(), 0))
    changed = join(epoch(ready(folder, train_alphas=[3]).train_dataloader(), 0))
    expected = join(ready(folder, eval_alpha=3).test_dataloader())
    assert torch.equal(plain["input"], expected["input"])
    assert ((plain["input"] - changed["input"]).abs().mean((1, 2, 3, 4)) > 0.01).all()


def test_one_draw_serves_every_patch_and_frame_of_a_clip():
    augmentation = PhotometricAugmentation()
    patches = np.random.default_rng(0).integers(0, 256, (2, 68, 16, 16, 3), np.uint8)
    changed = augmentation(patches, seed=7)
    for channel in range(3):
        before, after = patches[..., channel].ravel(), changed[..., channel].ravel()
        levels = [set(after[before == level]) for level in range(256)]
        assert all(len(seen) == 1 for seen in levels), "one curve for all pixels"
    assert (changed == augmentation(patches, seed=7)).all()
    assert (changed != augmentation(patches, seed=8)).any()
    assert (augmentation(patches[:1], seed=7) == changed[:1]).all(), "whatever the number of frames"


def test_augmentation_varies_brightness_contrast_and_colour():
    augmentation = PhotometricAugmentation()
    ramp = np.linspace(60, 190, 256).round().astype(np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    changed = np.stack([augmentation(ramp, seed) for seed in range(40)]).astype(float)
    means, spreads = changed.mean((1, 2, 3)), changed.std((1, 2, 3))
    assert means.mean(1).std() > 10, "brightness"
    assert spreads.mean(1).std() > 2, "contrast"
    assert (means - means.mean(1, keepdims=True)).std() > 2, "colour"


class Recorder(pl.LightningModule):
    """Notes what it is shown; ``automatic_optimization`` is off, there is nothing to learn."""

    automatic_optimization = False

    def __init__(self):
        super().__init__()
        self.seen = {}

    def training_step(self, batch, index):
        self.seen.setdefault(self.current_epoch, []).append(batch)

    def predict_step(self, batch, index):
        return batch["clip"]

    def configure_optimizers(self):
        return None


def test_fit_magnifies_and_tells_the_sampler_the_epoch(tmp_path):
    write_sample(tmp_path, subjects=2, clips=1)
    data, module = make(tmp_path), Recorder()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=3, **quiet, enable_model_summary=False)
    trainer.fit(module, data)
    assert len(list(tmp_path.rglob("alpha_9.png"))) == 2
    fresh = ready(tmp_path).train_dataloader()
    for number in range(3):
        assert same(module.seen[number], epoch(fresh, number))
    assert torch.cat(trainer.predict(module, data)).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alphas": [5, -1]}, "-1"),
        ({"alphas": [5, float("nan")]}, "nan"),
        ({"alphas": ["strong"]}, "strong"),
        ({"eval_alpha": 4}, r"eval_alpha 4.0, but alphas \(3.0, 5.0, 9.0\)"),
        ({"train_alphas": [3, 4]}, "but alphas"),
        ({"train_alphas": []}, r"alphas \[\]"),
        ({"class_set": "seven"}, r"'seven'[^$]*three, five"),
        ({"input": "flows"}, r"'flows'[^$]*apex, difference, both"),
        ({"input": "sequence"}, r"sequence at alphas 3, 9, 5[^$]*not magnified"),
        ({"patch_size": 0}, "data.patch_size is 0"),
        ({"batch_size": 0}, "data.batch_size is 0"),
    ],
)
def test_bad_settings_are_refused_at_once(folder, settings, message):
    with pytest.raises(GammerError, match=message):
        make(folder, **settings)


def test_its_settings_are_plain_values_for_checkpoints(folder):
    data = MagnifiedClips({"casme2": folder, "samm": None}, cache=folder / "cache")
    assert data.hparams.roots == {"casme2": str(folder), "samm": None}
    assert data.hparams.cache == str(folder / "cache") and data.hparams.clip_list is None


def test_unknown_magnifier_and_missing_data_are_refused(folder, tmp_path):
    with pytest.raises(GammerError, match="magic"):
        make(folder, magnifier="magic").prepare_data()
    with pytest.raises(GammerError, match="gammer data synthesize"):
        MagnifiedClips({"microfaces": str(tmp_path)}).prepare_data()


def test_setup_without_the_cache_says_what_to_run(folder, tmp_path):
    with pytest.raises(GammerError, match="gammer premagnify"):
        make(folder, cache=str(tmp_path)).setup()
