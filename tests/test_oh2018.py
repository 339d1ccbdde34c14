"""Oh et al.'s set: its layouts, its misleading names, its factor; writing it, training on it; VOC and large folders."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, default_collate

from gammer_lightning import cli
from gammer_lightning.data.motion import image_sources
from gammer_lightning.data.motion.colour import linear_to_srgb, srgb_to_linear
from gammer_lightning.data.motion.image_sources import ImageSources
from gammer_lightning.data.motion.oh2018 import (
    FOLDERS,
    FRAMES,
    PublishedPairs,
    RandomCrops,
    ShuffledFiles,
    recover_colours,
)
from gammer_lightning.data.motion.render import recolour, render
from gammer_lightning.data.motion.scenes import draw_scene
from gammer_lightning.data.motion.write_set import MotionSetSpec, write_motion_set
from gammer_lightning.errors import GammerError
from gammer_lightning.files import read_image

SAMPLES = 5


def smooth_photo(rng, width=120, height=100):
    coarse = Image.fromarray(rng.integers(0, 256, (height // 15, width // 15, 3), np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for index in range(2):
        smooth_photo(rng, 360, 300).save(folder / f"{index}.png")
    return folder


def arguments(out, pictures, **changes):
    settings = dict(samples=SAMPLES, size=48, sources=pictures, objects="0 2", max_alpha=20, workers=1) | changes
    flags = (f"--{name.replace('_', '-')} {value}".split() for name, value in settings.items())
    return ["data", "synthesize-motion", "--out", str(out), *(word for flag in flags for word in flag)]


@pytest.fixture(scope="module")
def written(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("written") / "set"
    assert cli.main(arguments(out, pictures)) == 0
    return out


@pytest.fixture
def copied(written, tmp_path):
    return Path(shutil.copytree(written, tmp_path / "copy"))


def fingerprint(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def factors(root):
    return [float(line) for line in (root / "train/train_mf.txt").read_text().splitlines()]


# Writing


def test_written_files_are_what_render_gives_and_read_back_to_the_same_pixels(written, pictures):
    read, spec = PublishedPairs(written), MotionSetSpec(SAMPLES, 48, (str(pictures),), (0, 2), 20.0)
    assert len(read) == SAMPLES
    for index in range(SAMPLES):
        scene = draw_scene(
            ImageSources([str(pictures)]), np.random.default_rng([0, index]), 48, (0, 2), alpha=spec.alpha(index)
        )
        batch = default_collate([dict(scene)])
        rendered, pair = render(batch), read[index]
        for name in ("onset", "apex", "perturbed", "alpha"):
            assert torch.equal(pair[name], rendered[name][0]), name
        amplified = linear_to_srgb(recolour(srgb_to_linear(rendered["magnified"]), batch["colour"]))[0]
        pixels = (amplified * 255).round().byte().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(read.frames(index)["amplified"], pixels)


def write_until_killed(command):
    write, written = Path.write_bytes, []

    def killed_halfway_through_the_10th(path, data):
        written.append(path)
        if len(written) == 10:
            write(path, data[:100])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(path, data)

    Path.write_bytes = killed_halfway_through_the_10th
    cli.main(command)


def test_a_killed_run_goes_on_to_the_same_bytes_in_several_processes(written, pictures, tmp_path):
    out = tmp_path / "set"
    child = multiprocessing.get_context("fork").Process(target=write_until_killed, args=[arguments(out, pictures)])
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert list(out.rglob(".*.tmp*")) and not (out / "train/train_mf.txt").exists()
    with pytest.raises(GammerError, match="number 2 is in one alone"):
        PublishedPairs(out)
    assert cli.main(arguments(out, pictures, workers=2)) == 0
    assert fingerprint(out) == fingerprint(written)


@pytest.mark.parametrize("damage", ["cut", "empty", "a damaged manifest"])
def test_damaged_files_are_made_again(written, pictures, copied, damage):
    path = copied / "train/frameB/000001.png"
    if damage == "a damaged manifest":
        (copied / "motion_pairs.json").write_bytes(b"\0" * 40)
        path.write_bytes((copied / "train/frameB/000002.png").read_bytes())
    else:
        path.write_bytes(path.read_bytes()[: {"cut": 300, "empty": 0}[damage]])
    assert cli.main(arguments(copied, pictures)) == 0
    assert fingerprint(copied) == fingerprint(written)


def test_another_command_and_a_full_disk_are_refused(written, pictures, tmp_path, monkeypatch, capsys):
    assert cli.main(arguments(written, pictures, seed=1)) == 2
    assert "was not made with these settings" in capsys.readouterr().err

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert cli.main(arguments(tmp_path / "full", pictures)) == 2
    error = capsys.readouterr().err
    assert "No space left" in error and "run the same command again" in error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 0}, "--samples: '0'"),
        ({"samples": 10**9}, "1000000000"),
        ({"size": 31}, "frames of 31 px"),
        ({"size": 100_000}, "100000"),
        ({"objects": f"0 {10**9}"}, "1000000000"),
        ({"max_alpha": "inf"}, "inf"),
        ({"seed": 2**70}, str(2**70)),
        ({"objects": "3 1"}, "objects (3, 1)"),
        ({"max_alpha": 0.5}, "max_alpha 0.5"),
        ({"seed": -1}, "--seed: '-1'"),
        ({"sources": "nowhere"}, "no folder nowhere"),
    ],
)
def test_bad_settings_write_nothing(changes, message, pictures, tmp_path, capsys):
    assert cli.main(arguments(tmp_path / "set", pictures, **changes)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


# Reading


def relayout(written, root, folders, first, factor_files):
    for name, place in zip(FRAMES, folders, strict=True):
        (root / place).mkdir(parents=True)
        for index in range(SAMPLES):
            shutil.copy(written / f"train/{name}/{index:06d}.png", root / place / f"{index + first:06d}.png")
    if factor_files != "meta":
        shutil.copy(written / "train/train_mf.txt", root / factor_files)
        return
    (root / "meta").mkdir()
    for index, factor in enumerate(factors(written)):
        record = {"amplification_factor": factor, "background": "0.png"}
        (root / f"meta/{index + first:06d}.json").write_text(json.dumps(record))


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    ("folders", "factor_files"),
    [(FOLDERS[0], "train_mf.txt"), (FOLDERS[1], "../train_mf.txt"), (FOLDERS[0], "meta")],
    ids=["plain", "numbered", "meta"],
)
def test_layouts(written, tmp_path, folders, factor_files, first):
    root = tmp_path / "train"
    relayout(written, root, folders, first, factor_files)
    expected = PublishedPairs(written)
    for given in (tmp_path, root):
        read = PublishedPairs(given)
        assert len(read) == SAMPLES
        for index in (0, SAMPLES - 1):
            for name, value in expected[index].items():
                assert torch.equal(read[index][name], value), name


def test_frame_c_is_the_apex_and_the_target_gets_its_colours(written):
    read = PublishedPairs(written)
    for index, alpha in enumerate(factors(written)):
        pair, frames = read[index], {name: torch.tensor(f) / 255 for name, f in read.frames(index).items()}
        for name, file in (("onset", "frameA"), ("apex", "frameC"), ("perturbed", "frameB")):
            assert torch.equal(pair[name], frames[file].permute(2, 0, 1))
        assert pair["alpha"] == torch.tensor(alpha).float() and pair["alpha"].ndim == 0
        assert (pair["magnified"].mean((1, 2)) - pair["apex"].mean((1, 2))).abs().max() < 0.05


@pytest.mark.parametrize("space", ["linear light", "sRGB"])
def test_colours_are_recovered_where_the_perturbation_is_affine(space):
    to, back = (srgb_to_linear, linear_to_srgb) if space == "linear light" else (lambda x: x, lambda x: x)
    rng = np.random.default_rng(0)
    clean, target = (torch.from_numpy(np.asarray(smooth_photo(rng)) / 255 * 0.6 + 0.2).movedim(-1, 0) for _ in "ab")
    mix = torch.tensor([[0.8, 0.1, 0.05], [-0.05, 0.9, 0.0], [0.1, 0.0, 0.7]], dtype=torch.double)

    def eight_bits(image):
        return (image * 255).round().byte()

    def perturb(image):
        return eight_bits(back((to(image).movedim(0, -1) @ mix.T).movedim(-1, 0) + 0.02))

    recovered = recover_colours(perturb(clean), eight_bits(clean), perturb(target))
    assert (perturb(target) / 255 - target).abs().mean() * 255 > 5
    assert (recovered - target).abs().mean() * 255 < 0.5


def test_frames_without_a_usable_pixel_or_colour_keep_the_target_as_it_is():
    black, grey = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.full((3, 8, 8), 100, dtype=torch.uint8)
    target = torch.randint(1, 255, (3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(recover_colours(black, grey, target), target / 255, atol=1e-4, rtol=0)
    assert recover_colours(grey, grey, target).isfinite().all()


def movement(before, after, guess):
    """Displacement of the centre in px, by registration, and how well the frames then agree."""
    before, after = (frame.mean(0).numpy() for frame in (before, after))
    start = np.array([[1, 0, guess[0]], [0, 1, guess[1]]], np.float32)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-6)
    try:
        agreement, matrix = cv2.findTransformECC(before, after, start, cv2.MOTION_EUCLIDEAN, stop, None, 5)
    except cv2.error:
        return np.zeros(2), 0
    centre = np.array([*before.shape[::-1], 2]) / 2
    return matrix @ centre - centre[:2], agreement


def test_the_factor_is_our_alpha(pictures, tmp_path):
    write_motion_set(tmp_path / "set", MotionSetSpec(16, 96, (str(pictures),), (0, 0), 6.0))
    ratios = []
    for pair in PublishedPairs(tmp_path / "set"):
        apex, good = movement(pair["onset"], pair["apex"], (0, 0))
        magnified, well = movement(pair["onset"], pair["magnified"], apex * float(pair["alpha"]))
        if min(good, well) > 0.95 and np.hypot(*apex) > 0.5:
            ratios.append((magnified @ apex / (apex @ apex), float(pair["alpha"])))
    measured, alpha = np.array(ratios).T
    assert len(alpha) >= 5 and alpha.min() < 0.6 and alpha.max() > 4
    np.testing.assert_allclose(measured, alpha, rtol=0.05)


def truncate(path):
    path.write_bytes(path.read_bytes()[:200])


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def resize(path):
    Image.open(path).resize((40, 48)).save(path)


def meta_instead(train, text):
    (train / "train_mf.txt").unlink()
    (train / "meta").mkdir()
    for index in range(SAMPLES):
        (train / f"meta/{index:06d}.json").write_text(text)


DAMAGES = {
    "no such folder": (shutil.rmtree, "there is no such folder"),
    "a folder is missing": (lambda t: shutil.rmtree(t / "frameB"), "train/frameA, train/frameC, train/train_mf"),
    "a frame is missing": (
        lambda t: (t / "frameB/000001.png").unlink(),
        "frameB has 4 images, .*frameA has 5; number 1",
    ),
    "empty": (lambda t: [path.unlink() for path in t.rglob("*.png")], "no images in"),
    "no factors": (lambda t: (t / "train_mf.txt").unlink(), "no magnification factors"),
    "a line is missing": (lambda t: (t / "train_mf.txt").write_text("1\n2\n"), "2 factors for 5 samples"),
    "a gap": (
        lambda t: [(t / name / "000004.png").rename(t / name / "000007.png") for name in FRAMES],
        "numbered 0 to 7",
    ),
    "no number": (lambda t: (t / "train_mf.txt").write_text("1\n2\nten\n4\n5\n"), "line 3, has the factor 'ten'"),
    "not finite": (lambda t: (t / "train_mf.txt").write_text("1\n2\n3\nnan\n5\n"), "line 4"),
    "negative": (lambda t: (t / "train_mf.txt").write_text("1\n2\n3\n4\n-5\n"), "line 5"),
    "another key": (lambda t: meta_instead(t, '{"alpha": 3, "seed": 1}'), "its keys: alpha, seed\n"),
    "no object": (lambda t: meta_instead(t, "[3]"), "its keys: none"),
    "no JSON": (lambda t: meta_instead(t, '{"amplification_factor": '), "is damaged"),
    "no number in JSON": (lambda t: meta_instead(t, '{"amplification_factor": null}'), "has the factor 'None'"),
    "a huge number in JSON": (
        lambda t: meta_instead(t, '{"amplification_factor": 1%s}' % ("0" * 400)),
        "has the factor '1000",
    ),
    "a truth value in JSON": (lambda t: meta_instead(t, '{"amplification_factor": true}'), "has the factor 'True'"),
    "infinite in JSON": (lambda t: meta_instead(t, '{"amplification_factor": Infinity}'), "Infinity is no number"),
    "nested JSON": (lambda t: meta_instead(t, "[" * 100_000), "is damaged"),
    "a pipe for JSON": (
        lambda t: meta_instead(t, '{"amplification_factor": 1}') or pipe(t / "meta/000002.json"),
        "is a pipe",
    ),
    "a pipe for a frame": (lambda t: pipe(t / "frameC/000002.png"), "is a pipe"),
    "factors that are no text": (
        lambda t: (t / "train_mf.txt").write_bytes(b"\xff\xfe1"),
        "train_mf.txt cannot be read",
    ),
    "a number twice": (
        lambda t: shutil.copy(t / "frameC/000002.png", t / "frameC/2.png"),
        "number 2 twice: 000002.png and 2.png",
    ),
    "several pictures": (
        lambda t: Image.new("RGB", (48, 48)).save(
            t / "frameC/000002.png", save_all=True, append_images=[Image.new("RGB", (48, 48), "red")]
        ),
        "000002.png holds 2 pictures",
    ),
    "truncated": (lambda t: truncate(t / "frameC/000002.png"), r"frameC/000002.png cannot be read"),
    "no image": (lambda t: (t / "amplified/000002.png").write_text("<html>"), "amplified/000002.png cannot be read"),
    "another size": (lambda t: resize(t / "frameC/000002.png"), "has 40x48 px, the set began with 48x48"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_sets(copied, damage):
    spoil, message = DAMAGES[damage]
    spoil(copied / "train" if damage != "no such folder" else copied)
    with pytest.raises(GammerError, match=message):
        PublishedPairs(copied)[2]


# Training


def test_an_epoch_crops_every_file_once_whatever_the_devices_and_workers(written):
    crops = RandomCrops(PublishedPairs(written), 32, seed=0)
    places = []
    for epoch in (0, 1):
        ranks = [ShuffledFiles(crops, 2, rank, seed=0, drop_last=True) for rank in (0, 1)]
        for sampler in ranks:
            sampler.set_epoch(epoch)
        numbers = [index - epoch * SAMPLES for sampler in ranks for index in sampler]
        assert len(numbers) == len(set(numbers)) == SAMPLES - 1 and set(numbers) <= set(range(SAMPLES))
        places.append(crops[epoch * SAMPLES]["onset"])
    assert not torch.equal(*places)
    alone, shared = (next(iter(DataLoader(crops, SAMPLES, num_workers=workers))) for workers in (0, 2))
    assert all(torch.equal(alone[name], shared[name]) for name in alone)
    whole, crop = crops.pairs[0], crops[0]
    assert crop["onset"].shape == (3, 32, 32) and crop["alpha"] == whole["alpha"]
    windows = whole["magnified"].unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    assert (windows == crop["magnified"]).flatten(1).all(1).any()


def fit(out, pictures, published, **changes):
    settings = {
        "data.sources": f"[{pictures}]",
        "data.published": published,
        "data.size": 32,
        "data.objects": "[0, 1]",
        "data.batch_size": 2,
        "data.val_samples": 6,
        "data.num_workers": 0,
        "model.regulariser_weight": 0.1,
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "trainer.log_every_n_steps": 1,
    } | changes
    flags = [f"--{name}={value}" for name, value in settings.items()]
    return cli.main(["magnify", "fit", "--out", str(out), "--wandb=disabled", *flags])


def test_a_fit_on_the_set_validates_on_generated_scenes(written, pictures, tmp_path):
    assert fit(tmp_path / "run", pictures, written) == 0
    curve = pd.read_csv(tmp_path / "run/metrics.csv")
    assert np.isfinite(curve.train_loss.dropna()).all() and curve.val_ssim_alpha100.notna().sum() == 1
    assert "train_regulariser" in curve and "train_displacement" not in curve
    assert curve.step.max() == 2  # five samples in batches of two


def test_a_fit_says_what_is_wrong_with_the_set(written, pictures, tmp_path, capsys):
    assert fit(tmp_path / "run", pictures, pictures) == 2
    assert "no published motion pairs in" in capsys.readouterr().err
    assert fit(tmp_path / "run", pictures, written, **{"data.size": 64}) == 2
    assert "crops of 64 px from published frames of 48x48 px" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# Sources: PASCAL VOC and large folders


@pytest.fixture
def voc(tmp_path):
    year, rng = tmp_path / "VOCdevkit/VOC2012", np.random.default_rng(1)
    for folder in ("JPEGImages", "SegmentationObject", "SegmentationClass"):
        (year / folder).mkdir(parents=True)
    for name in ("2007_000032", "2007_000033"):
        smooth_photo(rng).save(year / f"JPEGImages/{name}.jpg", quality=95)
    numbers = np.zeros((100, 120), np.uint8)
    numbers[10:60, 20:80] = 255  # the unlabelled rim of the first object
    numbers[14:56, 24:76] = 1
    numbers[70:75, 70:75] = 2  # too small
    numbers[60:100, 0:60] = 3
    mask = Image.fromarray(numbers, "P")
    mask.putpalette(bytes(range(256)) * 3)
    for folder in ("SegmentationObject", "SegmentationClass"):
        mask.save(year / folder / "2007_000033.png")
    return tmp_path / "VOCdevkit"


def test_voc_gives_photographs_and_objects(voc):
    photo = read_image(voc / "VOC2012/JPEGImages/2007_000033.jpg")
    for folder in (voc.parent, voc, voc / "VOC2012"):
        sources = ImageSources([str(folder)])
        assert len(sources.photographs) == 2 and len(sources.cutouts) == 2
    first, third = sources.cutouts
    np.testing.assert_array_equal(first, np.dstack([photo[14:56, 24:76], np.full((42, 52), 255, np.uint8)]))
    assert third.shape == (40, 60, 4) and third[..., 3].all()


def test_voc_makes_a_set(voc, tmp_path):
    assert cli.main(arguments(tmp_path / "set", voc, samples=2, objects="2 2")) == 0
    assert len(PublishedPairs(tmp_path / "set")) == 2


def test_bad_voc(voc):
    mask = voc / "VOC2012/SegmentationObject/2007_000033.png"
    Image.new("RGB", (120, 100)).save(mask)
    with pytest.raises(GammerError, match="mode RGB"):
        ImageSources([str(voc)])
    Image.new("L", (120, 90), 1).save(mask)
    with pytest.raises(GammerError, match="differ in size"):
        ImageSources([str(voc)]).cutouts[0]
    (voc / "VOC2012/JPEGImages/2007_000033.jpg").unlink()
    with pytest.raises(GammerError, match=r"2007_000033\.jpg does not exist"):
        ImageSources([str(voc)]).cutouts[0]


def test_a_large_folder_is_read_as_it_is_needed(pictures, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(pictures, tmp_path / "large"))
    smooth_photo(np.random.default_rng(2)).save(folder / "2.jpg")
    Image.fromarray(np.full((8, 9, 4), 200, np.uint8)).save(folder / "cutout.png")
    small = ImageSources([str(folder)])
    monkeypatch.setattr(image_sources, "IN_MEMORY", 2)
    (folder / "3.jpg").write_bytes(b"no image")
    large = ImageSources([str(folder)])
    assert len(large.photographs) == 4 and len(large.cutouts) == 1 + 2  # superpixels of every other photograph
    for index in range(3):
        np.testing.assert_array_equal(large.photographs[index], small.photographs[index])
    np.testing.assert_array_equal(large.cutouts[0], small.cutouts[0])
    assert large.cutouts[1].shape[2] == 4 and large.cutouts[1] is large.cutouts[1]
    with pytest.raises(GammerError, match=r"3\.jpg cannot be read"):
        large.photographs[3]
