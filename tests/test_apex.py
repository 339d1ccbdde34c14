"""Apexes where none is annotated: the middle, and spotting by difference from the onset."""

import json
import os
from dataclasses import replace

import pytest
from casme2_sample import portrait, save

from gammer_lightning.data.clips.apex import middle, with_apexes
from gammer_lightning.data.clips.clip import Clip, list_frames
from gammer_lightning.errors import GammerError


@pytest.fixture
def clip(tmp_path):
    """Ten frames whose motion peaks at frame 15; two of them are missing."""
    for number, shift in zip(
        (8, 9, 10, 11, 13, 14, 15, 16, 18, 19), (0, 0, 0.2, 0.5, 1, 1.6, 2, 1.4, 0.6, 0.2), strict=True
    ):
        save(portrait(shift=shift), tmp_path / f"image{number:06d}.bmp")
    frames, numbers = list_frames(tmp_path)
    return Clip("smic", "01", "s01_ne_01", frames, numbers, 8, None, 19, "", "negative", "none")


def test_the_middle_is_that_of_the_frames_after_the_onset(clip):
    assert middle(clip) == 14
    (found,) = with_apexes([clip], "middle", "unused")
    assert (found.apex, found.apex_origin) == (14, "middle")


def test_the_largest_difference_is_spotted_once_and_remembered(clip, tmp_path, monkeypatch):
    annotated = replace(clip, apex=10, apex_origin="annotated", name="other")
    found, kept = with_apexes([clip, annotated], "spotted", tmp_path / "cache")
    assert abs(found.apex - 15) <= 1 and found.apex_origin == "spotted"
    assert kept == annotated
    (path,) = (tmp_path / "cache").rglob("apex.json")
    monkeypatch.setattr("gammer_lightning.data.clips.apex.spot_apex", lambda _: pytest.fail("spotted again"))
    assert with_apexes([clip], "spotted", tmp_path / "cache") == [found]
    monkeypatch.setattr("gammer_lightning.data.clips.apex.spot_apex", lambda _: 16)
    path.write_text("{")
    assert with_apexes([clip], "spotted", tmp_path / "cache")[0].apex == 16
    clip.frames[3].write_bytes(clip.frames[4].read_bytes() + b"0")
    monkeypatch.setattr("gammer_lightning.data.clips.apex.spot_apex", lambda _: 11)
    assert with_apexes([clip], "spotted", tmp_path / "cache")[0].apex == 11


@pytest.mark.parametrize(
    "apex", ["8", "12", "20", "-1", "Infinity", "1e400", "15.0", "true", '"15"', "null", "[" * 100_000]
)
def test_a_remembered_apex_that_is_none_of_the_clip_is_spotted_again(clip, tmp_path, apex):
    (spotted,) = with_apexes([clip], "spotted", tmp_path / "cache")
    (path,) = (tmp_path / "cache").rglob("apex.json")
    key = json.loads(path.read_text())["key"]
    path.write_text(f'{{"key": "{key}", "apex": {apex}}}')
    assert with_apexes([clip], "spotted", tmp_path / "cache") == [spotted]
    assert json.loads(path.read_text()) == {"apex": spotted.apex, "key": key}


def test_a_pipe_in_place_of_a_remembered_apex_is_refused(clip, tmp_path):
    with_apexes([clip], "spotted", tmp_path / "cache")
    (path,) = (tmp_path / "cache").rglob("apex.json")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(GammerError, match=r"apex\.json is a pipe[^$]*next: remove it"):
        with_apexes([clip], "spotted", tmp_path / "cache")


def test_a_clip_without_a_frame_after_its_onset_is_refused(clip):
    with pytest.raises(GammerError, match="no frame after its onset 19"):
        middle(replace(clip, onset=19))
