"""Prediction on videos, folders and cameras through the real command: numbers, files, page, and bad inputs."""

import csv
import json
import re
import subprocess
import sys
import weakref
from fractions import Fraction
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from browser import browse
from face_videos import CLASSES, face_frames, made_bundle, portrait, read_video, smile, write_folder, write_video
from PIL import Image

import gammer_lightning
from gammer_lightning.cli import main
from gammer_lightning.data.inputs.catalogue import INPUTS
from gammer_lightning.deploy import backends
from gammer_lightning.deploy.bundle import load_bundle
from gammer_lightning.errors import GammerError
from gammer_lightning.faces.alignment import crop, cut_patches, find_face, find_landmarks
from gammer_lightning.faces.graph import PAPER_REGIONS, nodes_of
from gammer_lightning.inference import pipeline
from gammer_lightning.inference.spotting import movement, spans, spot
from gammer_lightning.inference.tracking import Shot, Tracker
from gammer_lightning.inference.video import Frame, VideoFile, VideoSource, open_video
from gammer_lightning.magnifiers import load_magnifier

NOISE = np.random.default_rng(0).integers(0, 255, portrait().shape, np.uint8)
OUTPUTS = {"predictions.json", "predictions.csv", "magnified.mp4", "timeline.png", "index.html"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return made_bundle(tmp_path_factory.mktemp("bundle") / "made")


@pytest.fixture(scope="module")
def done(bundle, tmp_path_factory):
    """The outputs for 0.9 s of video at 20 frames a second, with an apex at frame 9."""
    folder = tmp_path_factory.mktemp("done")
    video = write_video(folder / "clip.mp4", face_frames(18, apex=9))
    assert main(["predict", str(bundle), str(video), "--out", str(folder / "out")]) == 0
    return folder / "out/clip"


def said(folder):
    return json.loads((folder / "predictions.json").read_text())


def raw(bundle, tmp_path, given, *flags):
    """Predict at alpha 1, which needs no network but GAM-MER."""
    return main(["predict", str(bundle), *map(str, given), "--alpha", "1", "--out", str(tmp_path / "out"), *flags])


def test_a_video_gives_every_output(done):
    assert {path.name for path in done.iterdir()} == OUTPUTS
    facts = said(done)
    assert (facts["frames"], facts["size"], facts["alpha"], facts["stopped"]) == (18, [260, 240], 5.0, False)
    assert [window["start"] for window in facts["windows"]] == [0, 0.25, 0.5]
    for window in facts["windows"]:
        assert sum(window["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert window["start"] <= window["onset"]["time"] < window["apex"]["time"] <= window["end"]
        assert window["onset"]["time"] == pytest.approx(window["onset"]["frame"] / 20)
    strongest = max(facts["windows"], key=lambda window: window["strength"])
    assert strongest["apex"]["frame"] in (8, 9) and strongest["head_motion"] < 3
    assert np.shape(strongest["landmarks"]) == (68, 2)


def test_the_table_says_what_the_json_says(done):
    rows = list(csv.DictReader((done / "predictions.csv").open()))
    for row, window in zip(rows, said(done)["windows"], strict=True):
        assert (float(row["onset_s"]), int(row["apex_frame"])) == (window["onset"]["time"], window["apex"]["frame"])
        assert [float(row[f"p_{name}"]) for name in CLASSES] == list(window["probabilities"].values())
        assert [float(row["x67"]), float(row["y67"])] == window["landmarks"][67] and row["class"] == window["class"]


def test_the_video_has_both_faces_at_the_same_times(done):
    frames, times, rate = read_video(done / "magnified.mp4")
    assert len(frames) == 18 and rate == 20 and times == pytest.approx(np.arange(18) / 20)
    faces = np.stack(frames)[:, -256:].astype(int)
    assert faces.shape == (18, 256, 512, 3)
    original, magnified = faces[:, :, :256], faces[:, :, 256:]
    moved = [np.abs(side[8] - side[4])[150:220].mean() for side in (original, magnified)]
    assert moved[1] > 1.5 * moved[0]


def test_the_pictures_open(done):
    with Image.open(done / "timeline.png") as image:
        assert image.width == 1500


def test_the_page_asks_nothing_of_any_server(done):
    text = (done / "index.html").read_text()
    assert "default-src 'none'; img-src data:;" in text
    assert not re.search(r"https?:|url\(|@import|<link|<iframe", text)
    assert all(source.startswith("data:image/") for source in re.findall(r'src="([^"]*)"', text))


def test_the_slider_cuts_between_original_and_magnified(done, tmp_path):
    script = """
    const style = () => getComputedStyle(find("magnified")).clipPath;
    const before = style();
    find("cut").value = 80;
    find("cut").dispatchEvent(new Event("input"));
    const same = find("original").src === find("magnified").src;
    modes[0].click();
    const onset = find("original").src === find("magnified").src;
    chips[1].click();
    const loaded = [...document.images].every(image => image.naturalWidth > 0);
    document.title = JSON.stringify([before, style(), same, onset, chosen, loaded, chips.length,
                                     performance.getEntriesByType("resource").every(e => e.name.startsWith("data:"))]);
    """
    text = browse(done / "index.html", tmp_path, f"setTimeout(() => {{{script}}}, 300)")
    title = json.loads(re.search("<title>(.*?)</title>", text)[1])
    assert title == ["inset(0px 0px 0px 50%)", "inset(0px 0px 0px 80%)", False, True, 1, True, 3, True]


def test_given_frames_are_classified_as_in_training(bundle, tmp_path):
    """The same crop, magnification, rounding and patches as the DataModule's, hence the same probabilities."""
    frames = face_frames(8, apex=6)
    folder = write_folder(tmp_path / "frames", frames)
    flags = ["--onset", "2", "--apex", "6", "--fps", "20"]
    assert main(["predict", str(bundle), str(folder), "--out", str(tmp_path / "out"), *flags]) == 0
    face = find_face(frames[2], "frame")
    onset, apex = (torch.from_numpy(crop(frames[i], face)).permute(2, 0, 1)[None] / 255 for i in (2, 6))
    magnified = load_magnifier("st-memm-small")(onset, apex, [5])[0, 0]
    pixels = (magnified * 255).round().byte().permute(1, 2, 0).numpy()
    patches = INPUTS["apex"].network_input(torch.from_numpy(cut_patches(pixels, face.landmarks, 8)[None]))
    expected = load_bundle(bundle).networks()[1](patches).softmax(-1)[0]
    (window,) = said(tmp_path / "out/frames")["windows"]
    assert list(window["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-4)
    assert (window["onset"]["frame"], window["apex"]["frame"], window["start"]) == (2, 6, 0.1)
    assert len(read_video(tmp_path / "out/frames/magnified.mp4")[0]) == 6


def test_python_in_five_lines(bundle, tmp_path):
    video = write_video(tmp_path / "clip.webm", face_frames(8, apex=5), codec="libvpx")
    prediction = gammer_lightning.predict(bundle, video, alpha=1)
    (window,) = prediction.windows
    assert prediction.class_names[window.probabilities.argmax()] == prediction.name(window)
    assert not prediction.paths and [path.name for path in tmp_path.iterdir()] == ["clip.webm"]


@pytest.mark.parametrize("kind", ["difference", "both"])
def test_other_inputs_of_the_classifier(tmp_path, kind):
    made = made_bundle(tmp_path / "made", kind)
    folder = write_folder(tmp_path / "frames", face_frames(3, apex=2))
    assert raw(made, tmp_path, [folder], "--onset", "0", "--apex", "2") == 0


def test_variable_frame_rate_keeps_its_times(bundle, tmp_path):
    stamps = [0, 40, 70, 130, 170, 240, 290, 400, 410, 480, 530, 600]
    video = write_video(tmp_path / "clip.mp4", face_frames(12, apex=7), stamps=stamps)
    assert raw(bundle, tmp_path, [video]) == 0
    assert read_video(tmp_path / "out/clip/magnified.mp4")[1] == pytest.approx(np.array(stamps) / 1000)
    windows = said(tmp_path / "out/clip")["windows"]
    assert {w[k]["time"] for w in windows for k in ("onset", "apex")} <= {stamp / 1000 for stamp in stamps}


def test_joined_videos_go_on_at_the_frame_rate_where_their_times_jump_back(bundle, tmp_path):
    parts = [write_video(tmp_path / f"{name}.ts", face_frames(20, apex=9)) for name in "ab"]
    (video := tmp_path / "joined.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_video(video) as source:
        times = [frame.time for frame in source.frames()]
    assert times == pytest.approx(np.arange(40) / 20, abs=1e-4)
    assert source.notes == ["time stamps jump back at frame 20: times go on there at the frame rate"]
    assert raw(bundle, tmp_path, [video]) == 0
    facts = said(tmp_path / "out/joined")
    assert len(facts["windows"]) == 7 and source.notes[0] in facts["notes"]


def test_frames_of_one_time_are_a_frame_apart(tmp_path, monkeypatch):
    def decoded(self):
        return (SimpleNamespace(pts=pts) for pts in (0, 0, 0, None, 22500))

    video = write_video(tmp_path / "clip.ts", [portrait()] * 12)
    monkeypatch.setattr(VideoFile, "_decode", decoded)
    monkeypatch.setattr(VideoFile, "_upright", lambda self, picture: portrait())
    with open_video(video) as source:
        times = [frame.time for frame in source.frames()]
    assert times == pytest.approx([0, 0.05, 0.1, 0.15, 0.25]) and not source.notes


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_images_of_16_bits_are_read_at_8_and_said_to_be(tmp_path, kind):
    deep = np.random.default_rng(0).integers(0, 2**16, (40, 50, 3), np.uint16)
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.{kind}"), deep[..., ::-1])
    with open_video(tmp_path) as source:
        assert all((frame.image == deep >> 8).all() for frame in source.frames())
    assert source.notes == [f"0.{kind} has 16 bits a channel, of which the upper 8 are read"]
    cv2.imwrite(str(tmp_path / f"0.{kind}"), (deep >> 8).astype(np.uint8))
    with open_video(tmp_path) as source:
        list(source.frames())
    assert source.notes == [f"1.{kind} has 16 bits a channel, of which the upper 8 are read"]


def test_a_tagged_rotation_is_undone(bundle, tmp_path):
    lying = [np.ascontiguousarray(np.rot90(frame)) for frame in face_frames(5, apex=4)]
    video = write_video(tmp_path / "clip.mov", lying, rotation=90)
    assert raw(bundle, tmp_path, [video]) == 0
    assert said(tmp_path / "out/clip")["size"] == [260, 240]
    with open_video(video) as source:
        first = next(source.frames()).image
    assert np.abs(first.astype(int) - portrait()).mean() < 8


def test_grey_odd_avi_and_4k(bundle, tmp_path):
    grey = [cv2.cvtColor(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) for f in face_frames(4, apex=3)]
    odd = [frame[:239, :257].copy() for frame in grey]
    large = [cv2.copyMakeBorder(cv2.resize(f, None, fx=6, fy=6), 360, 360, 1140, 1140, 1) for f in face_frames(2, 1)]
    videos = [
        write_video(tmp_path / "grey.avi", grey, codec="mjpeg", pixels="yuvj420p"),
        write_video(tmp_path / "odd.avi", odd, codec="ffv1", pixels="gray"),
        write_video(tmp_path / "large.mp4", large, codec="mpeg4"),
    ]
    assert raw(bundle, tmp_path, videos) == 0
    sizes = [said(tmp_path / "out" / name)["size"] for name in ("grey", "odd", "large")]
    assert sizes == [[260, 240], [257, 239], [3840, 2160]]
    width = np.ptp([np.array(said(tmp_path / "out" / n)["windows"][0]["landmarks"])[:, 0] for n in ("odd", "large")], 1)
    assert width[1] / width[0] == pytest.approx(6, rel=0.05)


def test_a_face_that_leaves_and_returns(bundle, tmp_path, capsys):
    folder = write_folder(tmp_path / "frames", [smile(0)] * 6 + [NOISE] * 8 + [smile(1)] * 6)
    assert raw(bundle, tmp_path, [folder], "--fps", "10", "--window", "0.4", "--hop", "0.2") == 0
    notes = [window.get("note", "") for window in said(tmp_path / "out/frames")["windows"]]
    assert notes == ["", "", *["no face"] * 5, "", ""]
    assert len(read_video(tmp_path / "out/frames/magnified.mp4")[0]) == 20


def test_of_several_faces_a_point_says_which(bundle, tmp_path, capsys):
    two = [np.hstack([frame, portrait()]) for frame in face_frames(4, apex=3)]
    folder = write_folder(tmp_path / "frames", two)
    assert raw(bundle, tmp_path, [folder], "--fps", "10") == 2
    assert "--face X Y" in capsys.readouterr().err
    assert raw(bundle, tmp_path, [folder], "--fps", "10", "--face", "400", "100") == 0
    landmarks = np.array(said(tmp_path / "out/frames")["windows"][0]["landmarks"])
    assert (landmarks[:, 0] > 260).all()


def test_alpha_beyond_training_is_warned_of_once(bundle, tmp_path, capsys):
    folder = write_folder(tmp_path / "frames", face_frames(3, apex=2))
    flags = ["--out", str(tmp_path / "out"), "--alpha", "50", "--onset", "0", "--apex", "2"]
    assert main(["predict", str(bundle), str(folder), *flags]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("alpha 50 is outside 5 to 20") == 1
    assert any("alpha 50" in note for note in said(tmp_path / "out/frames")["notes"])


BAD = {
    "no input": ("nothing.mp4", "no input at"),
    "empty file": ("empty.mp4", "is empty"),
    "text": ("text.mp4", "cannot be read as a video"),
    "sound": ("sound.wav", "has no video stream"),
    "empty folder": ("nothing", "put images into it"),
    "changing size": ("sizes", "2.png measures 100x90 px"),
    "one frame": ("one.mp4", "has one frame"),
    "no face": ("noise", "no face found in noise"),
    "camera": ("97", "camera 97 cannot be opened"),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("This is no video.\n" * 100)
    import wave

    with wave.open(str(folder / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(800))
    (folder / "nothing").mkdir()
    write_folder(folder / "sizes", [portrait(), portrait()[:90, :100]])
    write_folder(folder / "noise", [NOISE[:120, :130]] * 3)
    write_video(folder / "one.mp4", [portrait()])
    return folder


@pytest.mark.parametrize("case", BAD)
def test_bad_inputs_are_named(bundle, bad, tmp_path, capsys, monkeypatch, case):
    monkeypatch.chdir(bad)
    given, message = BAD[case]
    assert raw(bundle, tmp_path, [given], "--fps", "10") == 2
    error = capsys.readouterr().err
    assert message in error and "next: " in error and "Traceback" not in error
    left = (
        [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] if (tmp_path / "out").exists() else []
    )
    assert not left


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--alpha", "-1"], "at least 0"),
        (["--alpha", "nan"], "finite"),
        (["--hop", "1"], "hop <= window"),
        (["--onset", "3"], "both are given or none"),
        (["--onset", "3", "--apex", "3"], "comes after"),
        (["--onset", "0", "--apex", "30"], "has 3 frames"),
        (["--fps", "0"], "0.01 to 100000"),
        (["--limit", "-2"], "positive"),
        (["--face", "nan", "9"], "a point in px"),
    ],
)
def test_bad_settings_are_named(bundle, tmp_path, capsys, flags, message):
    folder = write_folder(tmp_path / "frames", [smile(0)] * 3)
    command = ["predict", str(bundle), str(folder), "--out", str(tmp_path / "out"), "--alpha", "1", *flags]
    assert main(command) == 2
    assert message in capsys.readouterr().err


def test_an_output_that_cannot_be_written(bundle, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    folder = write_folder(tmp_path / "frames", [smile(0)] * 2)
    assert raw(bundle, tmp_path, [folder]) == 2
    assert "cannot write to" in capsys.readouterr().err


def test_the_video_of_a_killed_run_is_swept_away(bundle, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folder = write_folder(tmp_path / "frames", face_frames(3, apex=2))
    (left := tmp_path / f"out/frames/.magnified.{dead.pid}-0a.tmp.mp4").parent.mkdir(parents=True)
    left.touch()
    assert raw(bundle, tmp_path, [folder], "--fps", "10") == 0
    assert {path.name for path in left.parent.iterdir()} == OUTPUTS


def test_without_pyav_the_command_that_installs_it(bundle, tmp_path, capsys, monkeypatch):
    video = write_video(tmp_path / "clip.mp4", [portrait()] * 2)
    monkeypatch.setitem(sys.modules, "av", None)
    assert raw(bundle, tmp_path, [video]) == 2
    assert "pip install av" in capsys.readouterr().err


def test_one_bad_input_does_not_keep_the_others(bundle, bad, tmp_path, capsys):
    good = write_folder(tmp_path / "frames", face_frames(3, apex=2))
    assert raw(bundle, tmp_path, [bad / "text.mp4", good], "--fps", "10") == 2
    assert "cannot be read" in capsys.readouterr().err and (tmp_path / "out/frames/index.html").is_file()
    assert raw(bundle, tmp_path, [good, tmp_path / "other/frames.mp4"]) == 2
    assert "two inputs are called frames" in capsys.readouterr().err


def test_ctrl_c_leaves_what_was_done(bundle, tmp_path, monkeypatch, capsys):
    video = write_video(tmp_path / "clip.mp4", face_frames(20, apex=9))
    read = VideoFile._read

    def interrupted(self):
        for frame in read(self):
            if frame.index == 16:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(VideoFile, "_read", interrupted)
    assert raw(bundle, tmp_path, [video]) == 130
    facts = said(tmp_path / "out/clip")
    assert facts["stopped"] and len(facts["windows"]) == 2 and "stopped by Ctrl-C" in facts["notes"]
    assert len(read_video(tmp_path / "out/clip/magnified.mp4")[0]) > 8


def test_a_limit_stops_a_camera(bundle, tmp_path, monkeypatch):
    class FakeCapture:
        def __init__(self, number):
            self.frames = iter(face_frames(12, apex=6))

        def isOpened(self):
            return True

        def get(self, what):
            return 20.0

        def read(self):
            frame = next(self.frames, None)
            return frame is not None, frame if frame is None else frame[..., ::-1]

        def release(self):
            pass

    clock = iter(np.arange(100) / 20)
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr("gammer_lightning.inference.video.time.monotonic", lambda: float(next(clock)))
    assert raw(bundle, tmp_path, ["0"], "--limit", "0.4") == 0
    assert said(tmp_path / "out/camera0")["frames"] == 8


class FakeTracker:
    """Finds a face everywhere, keeps the whole frame, and knows which frames are in memory."""

    def __init__(self):
        self.kept, self.searched = [], []

    def search(self, frame):
        self.searched.append(frame.index)
        return np.zeros((68, 2))

    def keep(self, frame, landmarks=None):
        shot = Shot(frame.index, frame.time, frame.image, np.zeros(2), 1, frame.image.shape[:2], landmarks)
        self.kept = [ref for ref in self.kept if ref()] + [weakref.ref(shot)]
        return shot


def stream(times):
    return (Frame(index, time, np.zeros((1, 1, 3), np.uint8)) for index, time in enumerate(times))


def test_windows_hold_no_more_than_their_frames():
    tracker, shown, most = FakeTracker(), [], 0
    for span in spans(stream(np.arange(2000) / 100), tracker, 0.5, 0.25):
        most = max(most, len(tracker.kept))
        shown += [shot.index for shot in span.shown]
        assert span.shots[0].landmarks is not None and len(span.shots) <= 50
    assert most <= 101 and shown == list(range(2000)) and len(tracker.searched) == 80


class Alive:
    """Counts how many of the arrays that it was shown are in memory, and the most that were at once."""

    def __init__(self):
        self.now = self.most = 0

    def watch(self, array):
        self.now += 1
        self.most = max(self.most, self.now)
        weakref.finalize(array, self._gone)
        return array

    def _gone(self):
        self.now -= 1


class LongSource(VideoSource):
    """A face for 15 s, 40 frames a second."""

    def __init__(self, alive):
        super().__init__("long", Fraction(40), Fraction(1, 40), 600)
        self.alive = alive

    def _read(self):
        return (Frame(index, index / 40, self.alive.watch(portrait().copy())) for index in range(600))


@pytest.mark.parametrize("settings", [{}, {"onset": 0, "apex": 20}])
def test_predicting_a_long_video_holds_no_more_than_a_window(bundle, tmp_path, monkeypatch, settings):
    """Of 600 frames: as they are read, what is kept of them, and their crops; a window is 20 frames."""
    frames, kept, crops = Alive(), Alive(), Alive()
    (landmarks, _), keep, cut = find_landmarks(portrait(), "portrait"), Tracker.keep, Shot.crop

    def watched_keep(self, *given):
        shot = keep(self, *given)
        kept.watch(shot.image)
        return shot

    engine = SimpleNamespace(name="none", device=torch.device("cpu"), encode=lambda frame: frame)
    engine.magnify, engine.classify = (lambda onset, apex, alpha: apex), (lambda patches: torch.full((1, 3), 1 / 3))
    monkeypatch.setattr(backends, "open_backend", lambda *given: engine)
    monkeypatch.setattr(pipeline, "open_video", lambda *given: LongSource(frames))
    monkeypatch.setattr(Tracker, "_anywhere", lambda self, frame: landmarks)
    monkeypatch.setattr(Tracker, "_near", lambda self, image, near: near)
    monkeypatch.setattr(Tracker, "keep", watched_keep)
    monkeypatch.setattr(Shot, "crop", lambda self, face: crops.watch(cut(self, face)))
    prediction = pipeline.predict(bundle, "long", tmp_path / "out", **settings)
    assert prediction.frames == 600 and len(read_video(prediction.paths["video"])[0]) == 600
    assert frames.most <= 4 and kept.most <= 40 and crops.most <= 40


def test_windows_of_a_stream_with_gaps():
    times = [0, 0.1, 0.2, 0.3, 5.0, 5.1, 5.2, 9.9]
    made = list(spans(stream(times), FakeTracker(), 0.5, 0.25))
    assert [shot.index for span in made for shot in span.shown] == list(range(8))
    assert all(span.start - 1e-6 <= shot.time < span.end for span in made for shot in span.shots)
    assert all(span.shots[0].landmarks is not None for span in made)


@pytest.mark.parametrize("rate", [30, 200])
def test_onset_and_apex_are_spotted_in_a_head_that_drifts(rate):
    face = find_face(portrait(), "portrait")
    still = crop(portrait(), face)
    y, x = np.mgrid[:256, :256].astype(np.float32)
    far = ((np.stack([x, y], -1)[:, :, None] - face.landmarks[[48, 54]]) ** 2).sum(-1)
    corners = np.exp(-far / 200).sum(-1).astype(np.float32)
    times = np.arange(round(0.5 * rate)) / rate
    course, random = np.interp(times, [0.1, 0.25, 0.4], [0, 1.5, 0]), np.random.default_rng(0)

    def view(rise, drift):
        moved = cv2.remap(still, x + np.float32(drift), y + np.float32(rise) * corners, cv2.INTER_LINEAR)
        grey = cv2.GaussianBlur(cv2.cvtColor(moved, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 2)
        return grey + random.normal(size=grey.shape, scale=0.2).astype(np.float32)

    views = np.stack([view(*step) for step in zip(course, 4 * times, strict=True)])
    onset, apex, strength = spot(views, face.landmarks, times)
    assert times[onset] <= 0.14 and times[apex] == pytest.approx(0.25, abs=0.03) and strength > 0.5
    moved = movement(views, face.landmarks)[round(0.25 * rate)] - movement(views, face.landmarks)[0]
    corner = list(nodes_of(PAPER_REGIONS)).index(48)
    assert -1.6 < moved[corner].imag < -0.6 and abs(moved[corner].real) < 0.5  # less than 1.5: an average around it


def test_damaged_packets_are_noted(tmp_path):
    video = write_video(tmp_path / "clip.avi", [portrait()] * 6, codec="mjpeg", pixels="yuvj420p")
    data = bytearray(video.read_bytes())
    start = [match.start() for match in re.finditer(b"\xff\xd8\xff", data)][3]
    data[start : start + 700] = bytes(700)
    video.write_bytes(bytes(data))
    with open_video(video) as source:
        count = len(list(source.frames()))
    assert count == 5 and source.notes == ["1 damaged packets were skipped"]


def test_a_truncated_file_is_an_error_or_ends_early(tmp_path):
    video = write_video(tmp_path / "clip.mp4", [portrait()] * 6)
    video.write_bytes(video.read_bytes()[:2000])
    with pytest.raises(GammerError, match="cannot be read as a video"):
        open_video(video)
