"""Folders of pictures as people have them: telephones, macOS, deep TIFFs, icons, pipes; through the real commands."""

import os

import numpy as np
import pytest
from odd_images import png_of
from PIL import ExifTags, Image

from gammer_lightning import cli
from gammer_lightning.data.microfaces import portraits
from gammer_lightning.data.motion.image_sources import ImageSources, read_rgba
from gammer_lightning.files import read_image


def photograph(width=120, height=90):
    coarse = np.random.default_rng(0).integers(0, 256, (height // 15, width // 15, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    photograph().save(tmp_path / "pictures/a.png")
    return tmp_path / "pictures"


def synthesize_motion(folder):
    options = ["--samples", "1", "--size", "32", "--objects", "0", "1", "--workers", "1", "--sources", str(folder)]
    return cli.main(["data", "synthesize-motion", "--out", str(folder.parent / "set"), *options])


def litter(folder):
    """Put into a folder what macOS and Windows leave beside pictures."""
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "__MACOSX/a.png", ".cache/b.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\5\x16\7Mac OS X")


def test_what_systems_leave_beside_pictures_is_no_source(folder):
    litter(folder)
    assert synthesize_motion(folder) == 0
    assert len(ImageSources([str(folder)]).photographs) == 1


def test_what_systems_leave_is_no_mask_of_voc(folder):
    year = folder.parent / "VOC2012"
    for name in ("JPEGImages", "SegmentationObject"):
        (year / name).mkdir(parents=True)
    photograph().save(year / "JPEGImages/1.jpg")
    Image.fromarray(np.ones((90, 120), np.uint8)).save(year / "SegmentationObject/1.png")
    litter(year / "SegmentationObject")
    sources = ImageSources([str(year)])
    assert len(sources.photographs) == len(sources.cutouts) == 1


def test_what_systems_leave_is_no_portrait(tmp_path, capsys):
    (tmp_path / "people").mkdir()
    for photo in portraits.embedded_photos():
        Image.fromarray(photo.pixels[:400, :400]).save(tmp_path / "people" / f"{photo.name.split()[1]}.png")
    litter(tmp_path / "people")
    options = ["--subjects", "3", "--clips-per-class", "1", "--size", "140x170", "--fps", "20", "--workers", "1"]
    arguments = ["data", "synthesize", "--out", str(tmp_path / "out"), "--portraits", str(tmp_path / "people")]
    assert cli.main([*arguments, *options]) == 2
    message = capsys.readouterr().err
    assert "2 usable portraits" in message and "not usable" not in message


def test_sources_and_portraits_are_upright(folder):
    photo = portraits.embedded_photos()[0]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # a telephone held upright: its top is stored at the left
    lying = Image.fromarray(np.rot90(photo.pixels))
    lying.save(folder / "telephone.jpg", exif=exif, quality=95)
    assert len(portraits.detect(read_image(folder / "telephone.jpg"))) == 1
    assert abs(read_rgba(folder / "telephone.jpg").astype(int) - photo.pixels).mean() < 3


def test_a_photograph_of_few_bits_in_many_is_refused_in_sources(folder, capsys):
    Image.fromarray((np.asarray(photograph().convert("L")).astype(np.uint16)) * 16).save(folder / "b.png")
    assert synthesize_motion(folder) == 2
    assert "b.png has 16 bits a channel, but no value above" in capsys.readouterr().err
    Image.fromarray((np.asarray(photograph().convert("L")).astype(np.uint16)) * 257).save(folder / "b.png")
    np.testing.assert_array_equal(read_rgba(folder / "b.png")[..., 0], np.asarray(photograph().convert("L")))


BAD = {
    "a bomb": (lambda path: path.write_bytes(png_of(60000, 60000)), "bad.png is too large"),
    "a bomb of a photograph": (
        lambda path: path.write_bytes(png_of(60000, 60000)) and path.rename(path.with_suffix(".jpg")),
        "bad.jpg is too large",
    ),
    "a pixel": (lambda path: Image.new("RGB", (1, 1)).save(path), "bad.png has 1x1 px"),
    "a line": (lambda path: Image.new("RGB", (5000, 1)).save(path), "bad.png has 900x1 px"),
    "a pipe": (os.mkfifo, "bad.png is a pipe, socket or device"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "bad.png is a pipe, socket or device"),
    "frames": (
        lambda path: Image.new("RGB", (64, 64)).save(
            path, save_all=True, append_images=[Image.new("RGB", (64, 64), "red")]
        ),
        "bad.png holds 2 pictures",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_picture_that_is_none_is_named(folder, capsys, kind):
    make, message = BAD[kind]
    make(folder / "bad.png")
    assert synthesize_motion(folder) == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["a bomb", "a pixel", "a pipe", "a device", "frames"])
def test_a_portrait_that_is_none_is_named(tmp_path, capsys, kind):
    (tmp_path / "people").mkdir()
    BAD[kind][0](tmp_path / "people/bad.png")
    arguments = ["--out", str(tmp_path / "out"), "--portraits", str(tmp_path / "people"), "--subjects", "1"]
    assert cli.main(["data", "synthesize", *arguments]) == 2
    message = capsys.readouterr().err
    assert "0 usable portraits" in message and "bad.png" in message and not (tmp_path / "out").exists()
