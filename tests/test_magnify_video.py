"""Magnification of whole frames as a stream: equal to the batch, any size, times kept."""

import re
import subprocess
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from face_videos import face_frames, portrait, read_video, smile, write_folder, write_video

from gammer_lightning.cli import main
from gammer_lightning.commands.magnify_video import band_magnified, magnified
from gammer_lightning.inference.video import Frame
from gammer_lightning.magnifiers import load_magnifier, magnify_clip


def moving(count, height=67, width=93):
    """Frames of a texture that moves by a fraction of a pixel each time."""
    y, x = np.mgrid[:height, :width]
    shades = [np.sin((x + 0.3 * i)[..., None] / (3, 5, 7)) + np.cos(y[..., None] / (4, 6, 3)) for i in range(count)]
    return [Frame(i, i / 20, np.uint8(127 + 60 * shade)) for i, shade in enumerate(shades)]


@pytest.mark.parametrize("mode", ["onset", "dynamic"])
@pytest.mark.parametrize("name", ["st-memm-small", "eulerian", "lagrangian"])
def test_the_stream_equals_the_batch(mode, name):
    frames, magnifier = moving(4), load_magnifier(name)
    pixels = torch.from_numpy(np.stack([frame.image for frame in frames])).permute(0, 3, 1, 2) / 255
    first = pixels[[0, 0, 0, 0]] if mode == "onset" else pixels[[0, 0, 1, 2]]
    batch = (magnifier(first, pixels, [10])[0] * 255).permute(0, 2, 3, 1).numpy()
    stream = list(magnified(iter(frames), magnifier, 10, mode))
    assert [frame.time for frame in stream] == [frame.time for frame in frames]
    for frame, expected in zip(stream, batch, strict=True):
        assert np.abs(frame.image - expected).max() < 0.51


@pytest.mark.parametrize("name", ["eulerian", "phase"])
def test_a_band_of_a_stream_equals_that_of_the_clip(name):
    frames, magnifier = moving(5, 40, 51), load_magnifier(name)
    pixels = torch.from_numpy(np.stack([frame.image for frame in frames])).permute(0, 3, 1, 2) / 255
    clip = (magnify_clip(magnifier, pixels, 4, 20, (1, 5)) * 255).permute(0, 2, 3, 1).numpy()
    stream = list(band_magnified(iter(frames), magnifier, 4, 20, (1, 5)))
    assert [frame.time for frame in stream] == [frame.time for frame in frames]
    for frame, expected in zip(stream, clip, strict=True):
        assert np.abs(frame.image - expected).max() < 0.51


def test_a_band_of_a_folder(tmp_path, capsys):
    folder = write_folder(tmp_path / "in", [frame.image for frame in moving(4, 40, 52)])
    flags = ("--magnifier", "eulerian", "--band", "1", "5", "--fps", "20")
    assert run(folder, tmp_path / "out.mp4", *flags) == 0
    assert "alpha 10, 1 to 5 Hz" in capsys.readouterr().out and len(read_video(tmp_path / "out.mp4")[0]) == 4


def test_motion_is_magnified_up_to_the_borders():
    """A shift looks ten times as large everywhere: at the borders the error is as small as inside."""
    frames = moving(2, 75, 101)
    y, x = np.mgrid[:75, :101]
    truth = 127 + 60 * (np.sin((x + 3)[..., None] / (3, 5, 7)) + np.cos(y[..., None] / (4, 6, 3)))
    image = list(magnified(iter(frames), load_magnifier("st-memm-small"), 10))[1].image
    error = np.abs(image - truth).mean(-1)
    assert image.shape == (75, 101, 3)
    still = np.abs(frames[0].image - truth).mean()
    assert error.mean() < 0.7 * still
    assert max(error[:4].mean(), error[-4:].mean()) < still


def test_no_more_than_two_frames_are_in_memory():
    alive, most = [], 0

    class Pixels(np.ndarray):
        pass

    def stream():
        for frame in moving(12, 40, 40):
            image = frame.image.view(Pixels)
            alive.append(weakref.ref(image))
            yield replace(frame, image=image)
            del image

    for _ in magnified(stream(), load_magnifier("none"), 5):
        most = max(most, sum(ref() is not None for ref in alive))
    assert most <= 3


def run(given, out, *flags):
    return main(["magnify", "video", str(given), str(out), *flags])


def test_times_and_size_are_kept(tmp_path, capsys):
    stamps = [0, 50, 90, 170]
    frames = [frame[:181, :161].copy() for frame in face_frames(4, apex=3)]
    video = write_video(tmp_path / "in.mkv", frames, codec="ffv1", pixels="bgr0", stamps=stamps)
    assert run(video, tmp_path / "out.mp4", "--alpha", "3") == 0
    images, times, _ = read_video(tmp_path / "out.mp4")
    assert times == pytest.approx(np.array(stamps) / 1000) and images[0].shape == (182, 162, 3)
    assert np.abs(images[0][:181, :161].astype(int) - frames[0]).mean() < 4
    shown = capsys.readouterr().out
    assert "4 frames of 161x181 px, alpha 3, onset; sound is left out" in shown and "repeated once" in shown


def test_the_same_frame_rate(tmp_path):
    video = write_video(tmp_path / "in.mp4", [portrait()[:64, :64]] * 5, rate=25)
    assert run(video, tmp_path / "new/out.mov", "--magnifier", "none", "--mode", "dynamic") == 0
    images, _, rate = read_video(tmp_path / "new/out.mov")
    assert len(images) == 5 and rate == 25


def test_colours_are_kept_in_standard_and_high_definition(tmp_path):
    for height in (240, 720):
        patches = np.array([[(200, 40, 40), (40, 200, 40)], [(40, 40, 200), (180, 180, 60)]], np.uint8)
        frame = patches.repeat(height // 2, 0).repeat(160, 1)
        folder = write_folder(tmp_path / str(height), [frame] * 2)
        assert run(folder, tmp_path / f"{height}.mp4", "--magnifier", "none") == 0
        assert run(tmp_path / f"{height}.mp4", tmp_path / f"{height}-again.mp4", "--magnifier", "none") == 0
        for name in (f"{height}.mp4", f"{height}-again.mp4"):
            again = read_video(tmp_path / name)[0][0]
            assert np.abs(again.astype(int) - frame).max(-1)[5:-5, 5:-5].mean() < 4


@pytest.mark.parametrize(
    ("out", "flags", "message"),
    [
        ("out.gif", [], "kind .mp4"),
        ("in", [], "kind .mp4"),
        ("out.mp4", ["--alpha", "nan"], "finite"),
        ("out.mp4", ["--alpha", "-3"], "at least 0"),
        ("out.mp4", ["--magnifier", "nothing"], "unknown magnifier"),
        ("out.mp4", ["--band", "1", "5"], "no temporal filter"),
        ("out.mp4", ["--band", "1", "500", "--magnifier", "phase"], "half the frame rate"),
        ("out.mp4", ["--band", "1", "5", "--mode", "dynamic"], "no reference frame"),
        ("out.mp4", ["--limit", "-1"], "positive number of seconds"),
        ("out.mp4", ["--limit", "nan"], "positive number of seconds"),
        ("out.mp4", [], "sides of at least 32 px"),
        ("in/1.png/out.mp4", [], "cannot write"),
    ],
)
def test_bad_settings_are_named(tmp_path, capsys, out, flags, message):
    folder = write_folder(tmp_path / "in", [smile(0)[:20, :40]] * 2)
    assert run(folder, tmp_path / out, *flags) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*out*"))


def test_of_one_frame_it_is_said_that_nothing_moved(tmp_path, capsys):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".out.{dead.pid}-0a.tmp.mp4").touch()  # of a process that was killed
    folder = write_folder(tmp_path / "in", [portrait()[:64, :64]])
    assert run(folder, tmp_path / "out.mp4", "--magnifier", "none") == 0
    assert "one frame shows no motion" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out.mp4"}


def test_the_input_is_not_overwritten(tmp_path, capsys):
    video = write_video(tmp_path / "in.mp4", [portrait()[:64, :64]] * 2)
    assert run(video, video) == 2
    assert re.search("is the input", capsys.readouterr().err)
