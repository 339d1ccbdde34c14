"""Videos as cameras and other programs write them, and as nobody should: titles, pixels, turns, depths, names."""

import os
import struct
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import torch
from face_videos import face_frames, made_bundle, portrait, read_video, write_folder, write_video

from gammer_lightning.cli import main
from gammer_lightning.errors import GammerError
from gammer_lightning.inference.video import Camera, open_video, to_pixels
from gammer_lightning.machine import slow_bf16

SMALL = [frame[60:124, 60:140].copy() for frame in face_frames(3, apex=2)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return made_bundle(tmp_path_factory.mktemp("bundle") / "made")


def magnify(given, out, *flags):
    return main(["magnify", "video", str(given), str(out), "--magnifier", "none", *flags])


def predict(bundle, given, out, *flags):
    """Predict at alpha 1, which needs no network but GAM-MER."""
    return main(["predict", str(bundle), str(given), "--alpha", "1", "--out", str(out), *flags])


def read(path):
    with open_video(path) as source:
        return list(source.frames()), source.notes


def patched(path, old, new):
    """Replace bytes of a file by as many others."""
    content = path.read_bytes()
    assert old in content and len(old) == len(new)
    path.write_bytes(content.replace(old, new))
    return path


@pytest.mark.parametrize(("name", "codec", "pixels"), [("a.avi", "mjpeg", "yuvj420p"), ("a.mov", "libx264", "yuv420p"),
                                                      ("a.mkv", "libx264", "yuv420p")])  # fmt: skip
def test_titles_in_any_encoding(tmp_path, name, codec, pixels):
    with av.open(str(tmp_path / name), "w") as container:
        container.metadata["title"] = "Gesicht-FFF"
        stream = container.add_stream(codec, rate=20)
        stream.metadata["title"] = "Kamera-SSSS"
        stream.height, stream.width, stream.pix_fmt = 64, 80, pixels
        for image in SMALL:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=pixels)))
        container.mux(stream.encode(None))
    patched(tmp_path / name, b"Gesicht-FFF", b"Gesicht-\xe4\xf6\xfc")
    patched(tmp_path / name, b"Kamera-SSSS", b"Kamera-\xe4\xf6\xfc\xff")
    assert magnify(tmp_path / name, tmp_path / "out.mp4") == 0
    assert len(read_video(tmp_path / "out.mp4")[0]) == 3


def with_aspect(path, across, down):
    """Write a video that says its pixels measure ``across`` by ``down``."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.height, stream.width, stream.pix_fmt = 64, 80, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        for image in SMALL:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return patched(path, b"pasp" + struct.pack(">II", 2, 1), b"pasp" + struct.pack(">II", across, down))


@pytest.mark.parametrize(("aspect", "width"), [((1, 1), 80), ((3, 2), 120), ((1, 100_000), 80), ((40, 1), 80)])
def test_pixels_of_no_possible_shape_are_square(tmp_path, aspect, width):
    frames, notes = read(with_aspect(tmp_path / "a.mp4", *aspect))
    assert frames[0].image.shape == (64, width, 3)
    assert ["taken as square" in note for note in notes] == [True] * (width == 80 and aspect != (1, 1))


ONE, LAST = 1 << 16, 1 << 30
HALF = 46341
TURNS = {
    "half a turn": ((-ONE, 0, 0, -ONE), lambda image: image[::-1, ::-1]),
    "mirrored": ((-ONE, 0, 0, ONE), lambda image: image[:, ::-1]),
    "upside down": ((ONE, 0, 0, -ONE), lambda image: image[::-1]),
    "clockwise": ((0, ONE, -ONE, 0), lambda image: np.rot90(image, -1)),
    "anticlockwise": ((0, -ONE, ONE, 0), np.rot90),
    "transposed": ((0, ONE, ONE, 0), lambda image: image.swapaxes(0, 1)),
    "an eighth": ((HALF, HALF, -HALF, HALF), None),
    "flat": ((ONE, ONE, ONE, ONE), None),
    "nothing": ((0, 0, 0, 0), None),
}


@pytest.mark.parametrize("turn", TURNS)
def test_a_video_is_turned_and_mirrored_as_it_says(tmp_path, turn):
    (a, b, c, d), upright = TURNS[turn]
    video = write_video(tmp_path / "a.mp4", SMALL)
    stored = read(video)[0][0].image
    plain = struct.pack(">9i", ONE, 0, 0, 0, ONE, 0, 0, 0, LAST)
    start = video.read_bytes().index(b"tkhd")
    at = video.read_bytes().index(plain, start)
    content = bytearray(video.read_bytes())
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, LAST)
    video.write_bytes(content)
    frames, notes = read(video)
    expected = upright(stored) if upright else stored
    assert (frames[0].image == expected).all() and bool(notes) == (upright is None)


def deep(path, pixels, frames):
    """Write grey frames of 16 bits in a lossless pixel format."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=20)
        stream.height, stream.width, stream.pix_fmt = 64, 80, pixels
        for grey in frames:
            frame = av.VideoFrame.from_ndarray(grey.astype(np.uint16), "gray16le")
            container.mux(stream.encode(frame.reformat(format=pixels)))
        container.mux(stream.encode(None))
    return path


def test_twelve_bits_in_a_container_of_sixteen_are_refused(tmp_path, capsys):
    grey = SMALL[0].mean(-1) * 16
    assert magnify(deep(tmp_path / "a.mkv", "gray16le", [grey] * 2), tmp_path / "out.mp4") == 2
    said = capsys.readouterr().err
    assert "16 bits a channel, but no value above" in said and "val*16" in said
    assert {path.name for path in tmp_path.iterdir()} == {"a.mkv"}


def test_sixteen_bits_are_read_at_eight_also_where_a_later_frame_is_dark(tmp_path):
    grey = SMALL[0].mean(-1) * 257
    frames, notes = read(deep(tmp_path / "a.mkv", "gray16le", [grey, grey / 16]))
    assert np.abs(frames[0].image[..., 0] - grey / 257).max() < 2 and frames[1].image.max() < 20
    assert notes == ["it has 16 bits a channel, of which the upper 8 are read"]


@pytest.mark.parametrize("pixels", ["yuv420p10le", "gray12le", "gbrp12le"])
def test_formats_that_state_their_depth_are_read_at_eight_bits(tmp_path, pixels):
    grey = SMALL[0].mean(-1) * 257
    frames, notes = read(deep(tmp_path / "a.mkv", pixels, [grey] * 2))
    assert np.abs(frames[0].image.mean(-1) - grey / 257).mean() < 2
    assert notes == [f"it has {10 if '10' in pixels else 12} bits a channel, of which the upper 8 are read"]


def test_a_relative_path_with_a_colon_is_a_file(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "12:30.mp4", face_frames(8, apex=5))
    assert magnify("12:30.mp4", "out:1.mp4") == 0
    assert len(read_video(tmp_path / "out:1.mp4")[0]) == 8
    assert predict(bundle, "12:30.mp4", "a:b") == 0
    assert len(read_video(tmp_path / "a:b/12:30/magnified.mp4")[0]) == 8


def test_an_output_that_cannot_be_is_refused_before_the_input_is_opened(tmp_path, capsys):
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "file").touch()
    for out, message in {
        "folder.mp4": "is a folder",
        "pipe.mp4": "is a pipe or device",
        f"{300 * 'x'}.mp4": "at most 200 bytes",
        "out.ogv": "kind .mp4",
    }.items():
        assert magnify(tmp_path / "nothing.avi", tmp_path / out) == 2
        said = capsys.readouterr().err
        assert message in said
    video = write_video(tmp_path / "a.mp4", SMALL)
    os.link(video, tmp_path / "b.mp4")
    assert magnify(video, tmp_path / "b.mp4") == 2 and "is the input" in capsys.readouterr().err


def test_pipes_devices_and_absurd_cameras_are_refused(bundle, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.mp4")
    for given, message in {
        tmp_path / "pipe.mp4": "is a pipe, socket or device",
        "/dev/zero": "is a pipe, socket or device",
        "100": "0 to 99",
        5000 * "9": "File name too long",
    }.items():
        assert predict(bundle, given, tmp_path / "out") == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_camera_that_states_no_rate(monkeypatch):
    for stated, expected in ((float("nan"), 30), (-1, 30), (0, 30), (1e300, 30), (25, 25)):
        fake = SimpleNamespace(isOpened=lambda: True, get=lambda what, stated=stated: stated)
        monkeypatch.setattr(cv2, "VideoCapture", lambda number, fake=fake: fake)
        assert Camera(0).rate == expected


def test_a_codec_that_nobody_knows(tmp_path):
    video = write_video(tmp_path / "a.avi", SMALL, codec="mjpeg", pixels="yuvj420p")
    patched(video, b"MJPG", b"QQQQ")
    with pytest.raises(GammerError, match="its codec is unknown"):
        open_video(video)


def test_time_stamps_of_thousands_of_years(tmp_path):
    video = write_video(tmp_path / "a.mkv", SMALL, codec="ffv1", pixels="bgr0", stamps=[0, 2**50, 2**51])
    with pytest.raises(GammerError, match=r"frame 1 of a.mkv is said to come 1.13e\+12 s after the first"):
        read(video)


def test_frames_that_change_their_size(bundle, tmp_path, capsys):
    sizes = [[frame[:side, :side].copy() for frame in SMALL] for side in (48, 64)]
    parts = [write_video(tmp_path / f"{len(one[0])}.ts", one) for one in sizes]
    (video := tmp_path / "joined.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert magnify(video, tmp_path / "out.mp4") == 2
    assert "measures 64x64 px, those before it 48x48" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()


def test_a_picture_that_h264_cannot_hold(tmp_path, capsys):
    folder = write_folder(tmp_path / "wide", [np.zeros((2, 20_000, 3), np.uint8)] * 2)
    assert magnify(folder, tmp_path / "out.mp4") == 2
    assert "cannot be written" in capsys.readouterr().err and not (tmp_path / "out.mp4").exists()


def test_names_that_terminals_tables_and_figures_would_take_for_more(bundle, tmp_path, capsys):
    name = '=HYPERLINK("x")|<b>\x1b[31m$\\frac.mp4'
    video = write_video(tmp_path / "a.mp4", face_frames(8, apex=5)).rename(tmp_path / name)
    assert predict(bundle, video, tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err.replace("\x1b[A", "")
    (out,) = (tmp_path / "out").iterdir()
    assert out.name == '=HYPERLINK("x")|<b>_[31m$_frac'
    page, table = (out / "index.html").read_text(), (out / "predictions.csv").read_text()
    assert "<b>\\" not in page and "&lt;b&gt;\\x1b[31m$" in page and "\x1b" not in page + table


def test_a_name_that_is_the_folder_above(bundle, tmp_path, capsys):
    video = write_video(tmp_path / "a.mp4", SMALL).rename(tmp_path / "...mp4")
    assert predict(bundle, video, tmp_path / "deep/out") == 2
    assert "one path component" in capsys.readouterr().err and not (tmp_path / "deep").exists()


def test_a_name_that_is_no_utf8(bundle, tmp_path):
    video = write_video(tmp_path / "a.mp4", face_frames(8, apex=5)).rename(tmp_path / os.fsdecode(b"\xe4.mp4"))
    assert predict(bundle, video, tmp_path / "out") == 0
    assert (tmp_path / "out/_/index.html").is_file()


def test_a_video_of_one_frame_a_second_needs_longer_windows(bundle, tmp_path, capsys):
    video = write_video(tmp_path / "a.mp4", face_frames(4, apex=2), rate=1)
    assert predict(bundle, video, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "windows of 0.5 s hold one frame each" in said and "--window 4" in said and "no face" not in said
    folder = write_folder(tmp_path / "frames", [portrait()] * 3)
    assert predict(bundle, folder, tmp_path / "out", "--fps", "1") == 2
    assert "two frames" in (said := capsys.readouterr().err) and "--window 4" in said
    assert predict(bundle, video, tmp_path / "out", "--window", "4") == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--hop", "0.001"], "at most 10 windows begin within the time of one frame"),
        (["--hop", "1e-9"], "0.001 <= hop"),
        (["--window", "600"], "at most 10,000 frames"),
        (["--face", "300", "20"], "--face 300 20 lies outside the frames of a.mkv, which measure 260x240 px"),
        (["--face", "-1", "20"], "measure 260x240 px"),
        (["--face", "1e300", "20"], "measure 260x240 px"),
    ],
)
def test_settings_that_do_not_fit_the_video(bundle, tmp_path, capsys, flags, message):
    stamps = [0, 1, 2] if "600" in flags else None
    video = write_video(tmp_path / "a.mkv", [portrait()] * 3, codec="ffv1", pixels="bgr0", rate=20, stamps=stamps)
    assert predict(bundle, video, tmp_path / "out", *flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.*"))


def test_frames_that_are_not_finite_are_no_pixels():
    with pytest.raises(GammerError, match="the magnifier made a frame with values that are not finite"):
        to_pixels(torch.tensor([0.5, float("nan")]).repeat(1, 3, 2, 1), "the magnifier")


@pytest.mark.parametrize(
    ("flags", "precision", "device", "noted"),
    [
        ("fpu sse4_2 avx2 fma", "bf16", "cpu", True),
        ("fpu avx2", "bf16-mixed", "cpu", True),
        ("fpu avx2", "fp32", "cpu", False),
        ("fpu avx2", "bf16", "cuda", False),
        ("fpu avx2 avx512f avx512_bf16", "bf16", "cpu", False),
        ("fpu avx2 amx_bf16", "bf16", "cpu", False),
        ("fp asimd bf16", "bf16", "cpu", False),
    ],
)
def test_bf16_is_slow_where_a_processor_has_no_arithmetic_for_it(tmp_path, flags, precision, device, noted):
    (info := tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    assert ("nine times" in slow_bf16(precision, device, info)) == noted
    assert slow_bf16("bf16", "cpu", tmp_path / "none") == ""


def test_predict_says_so_before_it_starts(bundle, tmp_path, capsys):
    folder = write_folder(tmp_path / "frames", face_frames(3, apex=2))
    flags = ["--precision", "bf16", "--device", "cpu", "--onset", "0", "--apex", "2"]
    assert predict(bundle, folder, tmp_path / "out", *flags) == 0
    assert ("warning: this CPU has no bf16" in capsys.readouterr().err) == bool(slow_bf16("bf16", "cpu"))
