"""The pre-magnification cache: what it holds, that it is redone only where needed, and survives the worst."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from casme2_sample import portrait, save, write_sample

from gammer_lightning import cli
from gammer_lightning.data.clips.casme2 import read_casme2
from gammer_lightning.data.premagnify import cache
from gammer_lightning.data.premagnify import fill as premagnify
from gammer_lightning.errors import GammerError
from gammer_lightning.faces import alignment as faces
from gammer_lightning.files import read_image

ALPHAS = (5, 7.5)
RAW_FRAMES = "CASME2_RAW_selected"  # where, unlike in tight crops, a face must be detected
NAMES = {"onset.png", "alpha_1.png", "alpha_5.png", "alpha_7.5.png", "face.json"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("casme2")
    write_sample(folder)
    return folder


@pytest.fixture
def clips(root):
    return read_casme2(root)


def fill(clips, cache, alphas=ALPHAS, magnifier="eulerian"):
    return premagnify.premagnify(clips, alphas, magnifier, cache, device="cpu", progress=False)


def contents(cache):
    """Return the bytes of every file by its path, without the locks."""
    files = (path for path in Path(cache).rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(cache)): path.read_bytes() for path in files}


def test_clips_in_which_nothing_moves_are_named(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    folder = tmp_path / "copy/Cropped/sub02/EP01_01"
    shutil.copy(folder / "reg_img9.jpg", folder / "reg_img10.jpg")
    report = fill(read_casme2(tmp_path / "copy"), tmp_path / "cache")
    assert report.still == ("casme2/02/EP01_01",)
    assert "nothing moves in 1 clips" in str(report) and "casme2/02/EP01_01" in str(report)


def test_faces_assumed_in_tight_crops_are_named(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    for path in (tmp_path / "copy").glob("Cropped/sub01/EP01_01/*"):
        save((portrait(280, 340) * 0.05 + 100).astype(np.uint8), path)
    report = fill(read_casme2(tmp_path / "copy"), tmp_path / "cache")
    assert report.assumed == ("casme2/01/EP01_01",)
    assert "no face detected in 1 tight crops" in str(report) and "casme2/01/EP01_01" in str(report)


def start_slow_run(clips, cache):
    """Fill the cache in a process forked to spare it the imports, slowly enough to be killed on its way."""
    process = multiprocessing.get_context("fork").Process(target=fill_slowly, args=(clips, cache))
    process.start()
    return process


def fill_slowly(clips, cache):
    write = premagnify.CacheEntry._write_png
    premagnify.CacheEntry._write_png = lambda *args: (time.sleep(0.1), write(*args))[1]
    fill(clips, cache)


@pytest.fixture(scope="module")
def reference(root, tmp_path_factory):
    """An uninterrupted run's files."""
    cache = tmp_path_factory.mktemp("reference")
    fill(read_casme2(root), cache)
    return contents(cache)


def test_an_entry_holds_onset_raw_apex_and_every_alpha(clips, tmp_path):
    report = fill(clips, tmp_path)
    assert (report.clips, report.done) == (4, 4)
    assert "clips/s" in str(report)
    (entry,) = (tmp_path / "casme2/01/EP01_01").iterdir()
    assert {path.name for path in entry.iterdir()} - {".lock"} == NAMES
    clip = clips[0]
    onset, apex = (read_image(clip.frame(number)) for number in (9, 10))
    face = faces.find_face(onset, "onset")
    np.testing.assert_array_equal(read_image(entry / "onset.png"), faces.crop(onset, face))
    np.testing.assert_array_equal(read_image(entry / "alpha_1.png"), faces.crop(apex, face))
    record = json.loads((entry / "face.json").read_text())
    np.testing.assert_allclose(record["landmarks"], face.landmarks)
    assert record["clip"] == "casme2/01/EP01_01"
    assert record["key"].startswith(entry.name)


def test_images_read_back_in_the_order_asked(clips, tmp_path):
    fill(clips, tmp_path)
    entry = premagnify.CacheEntry(clips[0], premagnify.load_magnifier("eulerian").fingerprint, tmp_path)
    onset, strong, raw = entry.images([7.5, 1])
    np.testing.assert_array_equal(onset, read_image(entry.folder / "onset.png"))
    np.testing.assert_array_equal(strong, read_image(entry.folder / "alpha_7.5.png"))
    np.testing.assert_array_equal(raw, read_image(entry.folder / "alpha_1.png"))
    assert np.abs(strong.astype(int) - onset).mean() > 2 * np.abs(raw.astype(int) - onset).mean()
    with pytest.raises(GammerError, match=r"alpha_20.png is missing or damaged"):
        entry.images([20])


def test_without_magnifier_every_alpha_is_the_apex(clips, tmp_path):
    fill(clips[:1], tmp_path, magnifier="none")
    (entry,) = (tmp_path / "casme2/01/EP01_01").iterdir()
    np.testing.assert_array_equal(read_image(entry / "alpha_5.png"), read_image(entry / "alpha_1.png"))


def test_a_second_run_does_nothing_and_says_so(clips, tmp_path, monkeypatch):
    fill(clips, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    monkeypatch.setattr(premagnify, "find_face", lambda *_: pytest.fail("a face was looked for again"))
    report = fill(clips, tmp_path)
    assert (report.done, str(report)[:13]) == (0, "nothing to do")
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}


def test_new_alphas_join_an_entry_without_redoing_the_old(clips, tmp_path, reference):
    fill(clips, tmp_path, alphas=(5,))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert fill(clips, tmp_path).done == 4
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert contents(tmp_path).keys() == reference.keys()
    assert fill(clips, tmp_path, alphas=(5,)).done == 0, "the record still knows the old ones"


def damage_flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("name", ["onset.png", "alpha_5.png", "face.json"])
@pytest.mark.parametrize("damage", [damage_flip, damage_cut, Path.unlink])
def test_damaged_files_are_redone_to_the_same_bytes(clips, tmp_path, reference, name, damage):
    fill(clips, tmp_path)
    (entry,) = (tmp_path / "casme2/02/EP01_01").iterdir()
    damage(entry / name)
    assert fill(clips, tmp_path).done == 1
    assert contents(tmp_path) == reference


def rewrite(path, **changes):
    """Write other values into a record whose digest fits them."""
    record = json.loads(path.read_text()) | changes
    record.pop("digest")
    path.write_text(json.dumps(record | {"digest": cache._digest(record)}))


def pipe(path):
    path.unlink()
    os.mkfifo(path)


DAMAGES = {
    "nested": lambda path: path.write_text("[" * 100_000),
    "not an object": lambda path: path.write_text("[1]"),
    "too few landmarks": lambda path: rewrite(path, landmarks=[[1, 2]] * 67),
    "ragged landmarks": lambda path: rewrite(path, landmarks=[[1, 2]] * 67 + [[1]]),
    "landmarks that are not finite": lambda path: rewrite(path, landmarks=[[1, float("nan")]] * 68),
    "landmarks that are text": lambda path: rewrite(path, landmarks=[["1", "2"]] * 68),
    "a huge number": lambda path: rewrite(path, landmarks=[[1, 10**400]] * 68),
    "another matrix": lambda path: rewrite(path, matrix=[[1, 0], [0, 1]]),
    "no hashes": lambda path: rewrite(path, sha256=None),
    "another clip's": lambda path: shutil.copy(next((path.parents[2] / "EP02_01").rglob("face.json")), path),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_wrong_record_is_done_again(clips, tmp_path, reference, damage):
    fill(clips, tmp_path / "cache")
    (entry,) = (tmp_path / "cache/casme2/02/EP01_01").iterdir()
    DAMAGES[damage](entry / "face.json")
    assert fill(clips, tmp_path / "cache").done == 1
    assert contents(tmp_path / "cache") == reference


def test_a_pipe_is_no_frame(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    pipe(tmp_path / "copy/Cropped/sub01/EP01_01/reg_img10.jpg")
    with pytest.raises(GammerError, match=r"EP01_01 has no frame 10, only 9 to 11"):
        fill(read_casme2(tmp_path / "copy"), tmp_path / "cache")


def test_another_magnifier_crop_or_frame_makes_new_entries(root, clips, tmp_path, monkeypatch, reference):
    fill(clips, tmp_path)
    assert fill(clips, tmp_path, magnifier="none").done == 4
    monkeypatch.setattr(cache, "GEOMETRY", faces.GEOMETRY + " changed")
    assert fill(clips, tmp_path).done == 4
    monkeypatch.undo()
    other = tmp_path / "other"
    shutil.copytree(root, other)
    save(read_image(clips[0].frame(11)), other / "Cropped/sub01/EP01_01/reg_img10.jpg")
    assert fill(read_casme2(other), tmp_path).done == 1, "same names, but one apex has other content"
    assert len(list((tmp_path / "casme2/01/EP01_01").iterdir())) == 4
    assert reference.items() <= contents(tmp_path).items()


def test_pixels_do_not_depend_on_the_other_clips_of_a_run(clips, tmp_path, reference):
    fill(clips[2:3], tmp_path)
    assert contents(tmp_path).items() <= reference.items()


def test_kill_9_and_rerun_give_the_same_bytes(clips, tmp_path, reference):
    process = start_slow_run(clips, tmp_path)
    while not list((tmp_path / "casme2/01/EP02_01").rglob("*.png")) and process.is_alive():
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = contents(tmp_path)
    assert left and left.keys() != reference.keys(), "the kill came in the middle"
    half = next(path for path in tmp_path.rglob("onset.png"))
    half.with_name(".alpha_5.123-abc.tmp.png").write_bytes(b"half-written")
    damage_cut(half)
    fill(clips, tmp_path)
    assert contents(tmp_path) == reference


def test_two_processes_fill_one_cache_together(clips, tmp_path, reference):
    processes = [start_slow_run(clips, tmp_path) for _ in range(2)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert contents(tmp_path) == reference


def test_two_devices_share_the_clips(root, tmp_path, reference):
    arguments = ["premagnify", "--root", root, "--dataset", "casme2", "--magnifier", "eulerian"]
    arguments += ["--alphas", "5", "7.5", "--cache", tmp_path, "--device", "cpu", "--devices", "2"]
    assert cli.main([*map(str, arguments)]) == 0
    assert contents(tmp_path) == reference


def test_workers_give_the_same_bytes_and_pass_errors_on(root, clips, tmp_path, reference):
    settings = {"device": "cpu", "workers": 2, "progress": False}
    premagnify.premagnify(clips, ALPHAS, "eulerian", tmp_path, **settings)
    assert contents(tmp_path) == reference
    other = tmp_path / "other"
    shutil.copytree(root, other)
    (other / "Cropped").rename(other / RAW_FRAMES)
    save(np.zeros((170, 140, 3), np.uint8), other / RAW_FRAMES / "sub01/EP01_01/reg_img9.jpg")
    with pytest.raises(GammerError, match=r"no face found in .*reg_img9.jpg"):
        premagnify.premagnify(read_casme2(other), ALPHAS, "eulerian", tmp_path, **settings)


def test_full_disk_is_an_error_and_leaves_nothing_half_written(clips, tmp_path, monkeypatch, reference):
    real, calls = Path.write_bytes, []

    def write_until_full(path, data):
        calls.append(path)
        if len(calls) > 6:
            real(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_until_full)
    with pytest.raises(GammerError, match=r"No space left on device"):
        fill(clips, tmp_path)
    monkeypatch.undo()
    left = contents(tmp_path)
    assert {Path(name).name for name in left} <= NAMES, "no temporary files"
    assert all(reference[name] == data for name, data in left.items())
    fill(clips, tmp_path)
    assert contents(tmp_path) == reference


def test_unusable_clips_are_named_after_the_others_are_done(root, tmp_path):
    other = tmp_path / "data"
    shutil.copytree(root, other)
    (other / "Cropped").rename(other / RAW_FRAMES)
    folder = other / RAW_FRAMES / "sub01"
    save(np.full((170, 140, 3), 128, np.uint8), folder / "EP01_01/reg_img9.jpg")
    (folder / "EP02_01/reg_img10.jpg").write_bytes(b"this is no image")
    with pytest.raises(GammerError, match=r"(?s)2 of 4 clips.*EP01_01/reg_img9.*EP02_01/reg_img10"):
        fill(read_casme2(other), tmp_path / "cache")
    done = [path for path in contents(tmp_path / "cache") if path.endswith("face.json")]
    assert [path.split("/")[1] for path in sorted(done)] == ["02", "02"]


def test_truncated_frame_and_frames_of_two_sizes_are_refused(root, tmp_path):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    frame = tmp_path / "Cropped/sub01/EP01_01/reg_img10.jpg"
    whole = frame.read_bytes()
    frame.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GammerError, match=r"reg_img10.jpg cannot be read"):
        fill(read_casme2(tmp_path)[:1], tmp_path / "cache")
    save(cv2.resize(cv2.imdecode(np.frombuffer(whole, np.uint8), 1), (141, 170)), frame)
    with pytest.raises(GammerError, match="measure 140x170 and 141x170 px"):
        fill(read_casme2(tmp_path)[:1], tmp_path / "cache")


@pytest.mark.parametrize("alpha", [-1, float("nan"), "strong"])
def test_bad_alphas_are_refused_before_anything_is_written(clips, tmp_path, alpha):
    with pytest.raises(GammerError, match="alpha"):
        fill(clips, tmp_path, alphas=[5, alpha])
    assert not contents(tmp_path)


def test_a_magnifier_that_returns_nan_is_refused(clips, tmp_path, monkeypatch):
    class Broken(torch.nn.Module):
        name = fingerprint = "broken"

        def forward(self, onset, apex, alphas):
            return torch.full((len(alphas), *apex.shape), float("nan"))

    monkeypatch.setattr(premagnify, "load_magnifier", lambda name: Broken())
    with pytest.raises(GammerError, match="NaN"):
        fill(clips, tmp_path)
    assert not contents(tmp_path)


def test_command_fills_the_cache_and_reports(root, tmp_path, capsys, reference):
    arguments = ["--root", root, "--dataset", "casme2", "--magnifier", "eulerian", "--device", "cpu"]
    arguments += ["--alphas", "5", "7.5", "--cache", tmp_path]
    assert cli.main(["premagnify", *map(str, arguments)]) == 0
    assert "4 clips magnified" in capsys.readouterr().out
    assert contents(tmp_path) == reference
    assert cli.main(["premagnify", "--root", str(tmp_path / "nowhere")]) == 2
    assert "no clips in" in capsys.readouterr().err
