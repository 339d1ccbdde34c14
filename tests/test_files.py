"""Files: written whole or not at all, images read strictly, hashes that keep parts apart."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gammer_lightning.errors import GammerError
from gammer_lightning.files import content_hash, read_image, remove_stale, replacing


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


def test_a_missing_image_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "gone.png", tmp_path):
        with pytest.raises(GammerError, match="no image at"):
            read_image(path)


def test_sixteen_bits_are_refused_rather_than_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 4000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(GammerError, match="8 bits"):
        read_image(tmp_path / "deep.png")


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
