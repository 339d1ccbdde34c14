"""Files: written whole or not at all, images read strictly, hashes that keep parts apart."""

import errno
import os
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from odd_images import png_of
from PIL import ExifTags, Image

from gammer_lightning import files
from gammer_lightning.errors import GammerError
from gammer_lightning.files import content_hash, image_files, read_image, remove_stale, replacing


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_replacing_writes_the_file_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "new" / "table.csv"
    with replacing(target) as temporary:
        assert temporary.parent == target.parent and temporary.suffix == ".csv"
        temporary.write_text("done")
        assert not target.exists()
    assert target.read_text() == "done"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_replacing_has_the_content_on_the_disk_before_the_name(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle):
        steps.append(Path(f"/proc/self/fd/{handle}").resolve())
        fsync(handle)

    def noted_replace(old, new):
        steps.append("renamed")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    content, renamed, folder = steps
    assert renamed == "renamed" and content != folder == tmp_path
    steps.clear()
    with replacing(tmp_path / "b.txt", sync=False) as temporary:
        temporary.write_text("checked by a hash")
    assert steps == ["renamed"]


def test_replacing_keeps_the_old_file_when_the_writer_fails(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(OSError, match="disk full"), replacing(target) as temporary:
        temporary.write_text("ha")
        raise OSError("disk full")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_process_left_is_swept_away_and_nothing_else(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale = [tmp_path / f".out.{dead.pid}-0a.tmp.mp4", tmp_path / f".out.{dead.pid}-0b.tmp"]
    others = [f".out.{os.getpid()}-0a.tmp.mp4", f".other.{dead.pid}-0a.tmp.mp4", ".out.mine-0a.tmp.mp4", "out.mp4"]
    stale[0].touch()
    stale[1].mkdir()
    for name in others:
        (tmp_path / name).touch()
    remove_stale(tmp_path / "out.mp4")
    remove_stale(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == set(others)


def test_an_image_is_rgb_and_read_whole(photo):
    assert read_image(photo).shape == (40, 30, 3)
    assert read_image(photo).dtype == np.uint8


def test_grey_becomes_three_equal_channels(tmp_path):
    Image.new("L", (7, 5), 90).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png"), np.full((5, 7, 3), 90, np.uint8))


def test_a_truncated_image_is_refused_by_name(photo):
    photo.write_bytes(photo.read_bytes()[:-200])
    with pytest.raises(GammerError, match=r"photo\.jpg cannot be read"):
        read_image(photo)


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "note.jpg").write_text("not an image")
    with pytest.raises(GammerError, match=r"note\.jpg cannot be read"):
        read_image(tmp_path / "note.jpg")
    (tmp_path / "empty.png").touch()
    with pytest.raises(GammerError, match=r"empty\.png cannot be read"):
        read_image(tmp_path / "empty.png")


def test_a_missing_image_a_folder_and_a_pipe_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for name, what in (("gone.png", "does not exist"), ("", "is a folder"), ("pipe.png", "is a pipe")):
        with pytest.raises(GammerError, match=what):
            read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright_by_its_exif_orientation(tmp_path, name, orientation):
    upright = np.kron(np.array([[0, 50, 100], [150, 200, 250]], np.uint8), np.ones((16, 16), np.uint8))
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: np.rot90(upright.T, 2),
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(turned[orientation]).convert("RGB").save(tmp_path / name, exif=exif, quality=95)
    image = read_image(tmp_path / name)
    assert image.shape == (32, 48, 3) and abs(image[..., 0].astype(int) - upright).max() < 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "block", [b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01"]
)
def test_a_damaged_exif_block_is_passed_over(photo, block):
    damaged = photo.with_name("damaged.jpg")
    data = photo.read_bytes()
    damaged.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(block)) + block + data[2:])
    np.testing.assert_array_equal(read_image(damaged), read_image(photo))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
@pytest.mark.parametrize("colour", [False, True])
def test_of_16_bits_the_upper_8_are_read(tmp_path, name, colour):
    if colour and name == "a.pgm":
        name = "a.ppm"
    deep = np.random.default_rng(0).integers(0, 2**16, (40, 30, 3) if colour else (40, 30), np.uint16)
    cv2.imwrite(str(tmp_path / name), deep)
    expected = deep[..., ::-1] if colour else deep[..., None]
    exact = deep // 257 if name == "a.ppm" else deep >> 8  # Pillow divides the colours of a PPM by its own maximum
    expected = exact[..., ::-1] if colour else np.dstack([exact] * 3)
    assert abs(read_image(tmp_path / name).astype(int) - expected).max() <= (name == "a.ppm")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (8, 8, 4)])
@pytest.mark.parametrize("top", [1, 200, 1023, 4095, 16383])
def test_fewer_bits_in_16_are_refused_rather_than_read_nearly_black(tmp_path, name, shape, top):
    deep = np.full(shape, top, np.uint16)
    if len(shape) == 3:
        deep[..., 3:] = 65535  # opaque
    cv2.imwrite(str(tmp_path / name), deep)
    with pytest.raises(GammerError, match="16 bits a channel, but no value above") as refused:
        read_image(tmp_path / name)
    assert "-evaluate multiply 16 -depth 8" in refused.value.next_step
    deep[deep < 65535] = 0  # black is black at every depth
    cv2.imwrite(str(tmp_path / name), deep)
    assert not read_image(tmp_path / name).any()


def test_12_bits_of_a_tiff_are_what_it_states(tmp_path):
    levels = np.arange(16, dtype=np.uint16).reshape(2, 8) * 273
    packed = np.packbits((levels[..., None] >> np.arange(11, -1, -1) & 1).astype(np.uint8).ravel())
    tags = [(256, 8), (257, 2), (258, 12), (259, 1), (262, 1), (273, 200), (277, 1), (278, 2), (279, packed.size)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    header = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(header.ljust(200, b"\0") + packed.tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], levels >> 4)


def test_16_bits_in_which_0_is_white_are_turned_round(tmp_path):
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(levels).save(tmp_path / "a.tif", tiffinfo={262: 0})
    assert read_image(tmp_path / "a.tif")[0, 0, 0] == 255


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_range_are_refused(tmp_path, dtype):
    cv2.imwrite(str(tmp_path / "a.tif"), np.full((4, 4), 200, dtype))
    with pytest.raises(GammerError, match="pixels of mode"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.png", "a.webp"])
def test_several_pictures_in_place_of_one_are_refused_with_their_number(tmp_path, name):
    first, *others = (Image.new("RGB", (8, 8), (level, 0, 0)) for level in (0, 90, 200))
    first.save(tmp_path / name, save_all=True, append_images=others)
    with pytest.raises(GammerError, match=f"{name} holds 3 pictures"):
        read_image(tmp_path / name)


def test_a_telephone_picture_with_its_preview_is_one_picture(tmp_path):
    Image.new("RGB", (8, 6), "red").save(
        tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (4, 3))]
    )
    assert read_image(tmp_path / "a.jpg").shape == (6, 8, 3)


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_of(60000, 60000))
    with pytest.raises(GammerError, match=r"bomb\.png is too large"):
        read_image(tmp_path / "bomb.png")


def test_hidden_files_are_no_images(tmp_path):
    for name in ("b.JPG", "a.tiff", "._a.tiff", ".b.png", "Thumbs.db", "__MACOSX/a.png", ".git/c.png", "d/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert image_files(tmp_path) == [tmp_path / "a.tiff", tmp_path / "b.JPG"]
    assert image_files(tmp_path, recursive=True) == [tmp_path / "a.tiff", tmp_path / "b.JPG", tmp_path / "d/c.webp"]


def test_a_hash_tells_apart_where_parts_begin_their_type_and_shape():
    array = np.arange(6, dtype=np.uint8)
    variants = [
        ("ab", "c"),
        ("a", "bc"),
        (b"ab", b"c"),
        (array,),
        (array.reshape(2, 3),),
        (array.astype(np.int8),),
        (array.tobytes(),),
    ]
    assert len({content_hash(*parts) for parts in variants}) == len(variants)
    assert content_hash("ab", array) == content_hash("ab", array.copy())


@pytest.mark.parametrize(
    ("place", "advice"),
    [
        ("/proc/nothing", "choose a folder in which files can be made"),
        ("/dev/null", "a file is there where a folder is needed"),
        ("/dev/null/x", "a file is there where a folder is needed"),
        ("x" * 300, "choose a shorter path"),
    ],
)
def test_the_advice_follows_what_keeps_a_file_from_being_written(place, advice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GammerError, match=advice) as refused:
        files.check_writable(place)
    assert "space" not in str(refused.value)


FULL = """
import resource, sys
from gammer_lightning.files import disk_errors, replacing

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with disk_errors(sys.argv[1]), replacing(sys.argv[1]) as temporary:
    temporary.write_bytes(bytes(5000))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_what_exceeds_a_limit_is_told_so_and_leaves_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path / "x")], capture_output=True, text=True)
    assert "raise the limit on the size of files" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes among files")
def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GammerError, match="is a pipe, socket or device"), files.replacing(tmp_path / "pipe"):
        pytest.fail("written")
    assert (tmp_path / "pipe").is_fifo()


def test_libraries_that_hide_a_full_disk_are_seen_through():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "x")
        except OSError as error:
            raise RuntimeError("saving failed") from error
    except RuntimeError as error:
        assert files.disk_cause(error).filename == "x"
    assert files.disk_cause(sqlite3.OperationalError("database or disk is full")).errno == errno.ENOSPC
    assert files.disk_cause(RuntimeError("another")) is None
    assert files.disk_cause(ZeroDivisionError()) is None
