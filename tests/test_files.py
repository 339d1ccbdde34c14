"""Files: written whole or not at all, images read strictly, hashes that keep parts apart."""

import errno
import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gammer_lightning import files
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
