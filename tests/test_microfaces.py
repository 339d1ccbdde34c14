"""microfaces: layout, bytes, resuming, exact truth and bad inputs, on two subjects in small frames."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from openpyxl import load_workbook
from PIL import Image

from gammer_lightning.cli import main
from gammer_lightning.data.microfaces import generate as microfaces
from gammer_lightning.data.microfaces import portraits
from gammer_lightning.data.microfaces.contact_sheet import contact_sheet
from gammer_lightning.data.microfaces.facial_actions import CLASSES, COLUMNS, EYES, PROTOTYPES, perform, unit_moves
from gammer_lightning.data.microfaces.generate import synthesize
from gammer_lightning.data.microfaces.spec import MicrofacesSpec
from gammer_lightning.data.microfaces.truth import displacement, load_performance, load_subject, render_pair
from gammer_lightning.data.microfaces.workbook import HEADER, WORKBOOK
from gammer_lightning.data.resumable import claimed
from gammer_lightning.errors import GammerError
from gammer_lightning.faces.alignment import find_face
from gammer_lightning.faces.graph import MIRROR
from gammer_lightning.files import read_image
from gammer_lightning.processes import python_command

SPEC = MicrofacesSpec(subjects=2, clips_per_class=1, width=140, height=170, fps=50, benchmark=1)
ONE_CLIP = ["--subjects", "1", "--clips-per-class", "1"]
SMALL = ["--benchmark", "1", *ONE_CLIP, "--size", "140x170", "--fps", "20", "--workers", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("microfaces")
    return root, synthesize(root, SPEC)


@pytest.fixture
def copied(made, tmp_path):
    return Path(shutil.copytree(made[0], tmp_path / "copy"))


def fingerprint(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_layout_is_that_of_casme2(made):
    root, clips = made
    sheet = load_workbook(root / WORKBOOK).active
    assert [cell.value or "" for cell in sheet[1]] == list(HEADER)
    assert sheet.max_row == 1 + len(clips) == 1 + 2 * len(CLASSES)
    for clip in clips:
        assert clip.frames[0].parent == root / "Cropped" / f"sub{clip.subject}" / clip.name
        assert clip.frames[0].name == f"reg_img{clip.numbers[0]}.jpg"
        assert clip.numbers == tuple(range(clip.numbers[0], clip.numbers[-1] + 1))
        assert 1 < clip.numbers[0] < clip.onset < clip.apex < clip.offset < clip.numbers[-1]
        assert 0.15 <= (clip.offset - clip.onset) / SPEC.fps <= 0.55
        assert read_image(clip.frames[0]).shape == (SPEC.height, SPEC.width, 3)
    for subject in ("01", "02"):
        assert sorted(clip.emotion for clip in clips if clip.subject == subject) == sorted(CLASSES)


def test_microfaces_1_stays_as_it_is(made):
    """Numbers of the first release of this benchmark; frames may differ by a grey level between machines."""
    root, clips = made
    rows = [tuple(cell or "" for cell in row) for row in load_workbook(root / WORKBOOK).active.values][1:]
    assert rows[:2] == [
        ("01", "EP01_01", "", 233, 239, 245, "", "2+5", "surprise"),
        ("01", "EP01_02", "", 58, 65, 81, "", "4+24", "others"),
    ]
    assert rows[-1] == ("02", "EP03_01", "", 252, 263, 271, "", "17", "repression")
    acted = load_performance(root, "sub01/EP01_01")
    assert acted.coefficients.shape == (22, 36)
    expected = [-0.00242, -0.00058, 0.04193, 0.077, -0.00165, 0.00122, 0.06359, 0.08193]
    np.testing.assert_allclose(acted.at(acted.apex)[:8], expected, atol=1e-5)
    np.testing.assert_allclose(acted.at(acted.apex)[-4:], [-0.00012, 0.00124, 0.00003, -0.00063], atol=1e-5)
    means = [read_image(frame).mean((0, 1)) for frame in clips[0].frames]
    np.testing.assert_allclose(np.mean(means, 0), [123.014, 99.985, 77.34], atol=0.3)
    grey = read_image(clips[-1].frame(clips[-1].apex))[::34, ::35].mean(-1)
    expected = [[143, 32, 40, 20], [142, 179, 211, 182], [148, 140, 207, 80], [140, 88, 120, 97], [141, 106, 149, 90]]
    np.testing.assert_allclose(grey, expected, atol=3)
    manifest = json.loads((root / "microfaces.json").read_text())
    settings = ["subjects", "clips_per_class", "width", "height", "fps", "seed"]
    assert list(manifest) == ["microfaces", *settings, "faces", "photographs"] and manifest["microfaces"] == 1


def test_landmarks_of_truth_agree_with_the_face_pipeline(made):
    root, clips = made
    for clip in clips[:: len(CLASSES)]:
        face = find_face(read_image(clip.frame(clip.onset)), clip.key)
        landmarks = load_subject(root, clip.subject).landmarks
        mapped = landmarks @ face.matrix[:, :2].T + face.matrix[:, 2]
        assert np.linalg.norm(mapped - face.landmarks, axis=1).mean() < 6  # px of 96 between the eyes


def test_same_seed_same_bytes_with_any_number_of_workers(made, tmp_path):
    synthesize(tmp_path / "again", SPEC, workers=2)
    assert fingerprint(tmp_path / "again") == fingerprint(made[0])


def test_other_seed_other_faces_and_motion(made, tmp_path):
    synthesize(tmp_path / "other", replace(SPEC, seed=1, subjects=1))
    ours, others = fingerprint(made[0]), fingerprint(tmp_path / "other")
    shared = [name for name in ours if name in others and "truth" in name]
    assert shared and all(ours[name] != others[name] for name in shared)


def test_a_stopped_run_goes_on_to_the_same_bytes(made, copied):
    clips = sorted((copied / "Cropped" / "sub01").iterdir())
    for frame in list(clips[0].iterdir())[3:]:
        frame.unlink()
    next(clips[1].iterdir()).write_bytes(b"")
    shutil.rmtree(clips[2])
    shutil.rmtree(copied / "truth" / "sub02")
    scrap = copied / "Cropped" / "sub01" / ".EP01_01.1-ab.tmp"
    scrap.mkdir()
    (scrap / "reg_img5.jpg").write_bytes(b"half")
    (copied / WORKBOOK).unlink()
    synthesize(copied, SPEC)
    assert fingerprint(copied) == fingerprint(made[0])


def cut(path):
    path.write_bytes(path.read_bytes()[:-60])


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def change_motion(path, **changes):
    """Write other values into a clip's truth."""
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez_compressed(path, **arrays | {name: make(arrays[name]) for name, make in changes.items()})


def change_face(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


TRUTH = "truth/sub01/EP01_01.npz"
DAMAGES = {
    "zeros in the manifest": lambda root: (root / "microfaces.json").write_bytes(b"\0" * 100),
    "an empty manifest": lambda root: (root / "microfaces.json").write_bytes(b""),
    "a cut truth": lambda root: cut(root / TRUTH),
    "an empty truth": lambda root: (root / TRUTH).write_bytes(b""),
    "a truth that is no archive": lambda root: (root / TRUTH).write_bytes(b"\0" * 4000),
    "another clip's truth": lambda root: shutil.copy(root / "truth/sub01/EP02_01.npz", root / TRUTH),
    "motion that is not finite": lambda root: change_motion(root / TRUTH, coefficients=lambda x: x * np.float32("nan")),
    "motion of fewer columns": lambda root: change_motion(root / TRUTH, coefficients=lambda x: x[:, 1:]),
    "an apex behind the offset": lambda root: change_motion(root / TRUTH, apex=lambda x: x + 1000),
    "an emotion that is a number": lambda root: change_motion(root / TRUTH, emotion=lambda x: np.int64(3)),
    "a cut face": lambda root: cut(root / "truth/sub01/face.png"),
    "a face of another size": lambda root: Image.new("RGB", (9, 9)).save(root / "truth/sub01/face.png"),
    "a cut record of a face": lambda root: cut(root / "truth/sub01/face.json"),
    "nested JSON": lambda root: (root / "truth/sub01/face.json").write_text("[" * 100_000),
    "too few landmarks": lambda root: change_face(root / "truth/sub01/face.json", landmarks=[[1, 2]]),
    "an absurd size": lambda root: change_face(root / "truth/sub01/face.json", size=[10**9, 10**9]),
    "a cut frame": lambda root: cut(next((root / "Cropped/sub01/EP01_01").iterdir())),
    "zeros in a frame": lambda root: next((root / "Cropped/sub01/EP01_01").iterdir()).write_bytes(b"\0" * 3000),
    "a pipe for a frame": lambda root: pipe(next((root / "Cropped/sub01/EP01_01").iterdir())),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("small") / "set"
    assert main(["data", "synthesize", "--out", str(root), *SMALL]) == 0
    return root


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_made_again(small, tmp_path, damage):
    copied = Path(shutil.copytree(small, tmp_path / "copy"))
    DAMAGES[damage](copied)
    assert main(["data", "synthesize", "--out", str(copied), *SMALL]) == 0
    assert fingerprint(copied) == fingerprint(small)


def test_damaged_truth_is_named_where_it_is_needed(small, tmp_path):
    copied = Path(shutil.copytree(small, tmp_path / "copy"))
    cut(copied / TRUTH)
    with pytest.raises(GammerError, match=r"EP01_01\.npz is damaged[^$]*run the command again that made"):
        render_pair(copied, "01/EP01_01", (5,))


def test_a_damaged_manifest_does_not_claim_a_folder_of_others(small, tmp_path, capsys):
    copied = Path(shutil.copytree(small, tmp_path / "copy"))
    (copied / "microfaces.json").write_bytes(b"")
    (copied / "thesis.txt").write_text("precious")
    before = fingerprint(copied)
    assert main(["data", "synthesize", "--out", str(copied), *SMALL]) == 2
    assert "is not empty" in capsys.readouterr().err and fingerprint(copied) == before


def test_a_second_process_is_refused_and_leaves_the_temporaries_of_the_first(small, tmp_path, capsys):
    copied = Path(shutil.copytree(small, tmp_path / "copy"))
    manifest = json.loads((copied / "microfaces.json").read_text())
    with claimed(copied / "microfaces.json", manifest, microfaces.CONTENTS) as is_ours:
        assert is_ours
        temporary = copied / "Cropped/sub01/.EP01_01.1-ab.tmp"
        temporary.mkdir()
        command = python_command("-m", "gammer_lightning.cli", "data", "synthesize", "--out", str(copied), *SMALL)
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert second.returncode == 2 and f"process {os.getpid()} on " in second.stderr
        assert temporary.is_dir()
    assert main(["data", "synthesize", "--out", str(copied), *SMALL]) == 0
    assert fingerprint(copied) == fingerprint(small), "the lock is gone, and so are the temporaries"


def test_a_finished_run_is_left_alone(made, monkeypatch):
    def never(*_):
        raise AssertionError("made again")

    monkeypatch.setattr(microfaces, "_film", never)
    monkeypatch.setattr(microfaces, "cast", never)
    assert synthesize(made[0], SPEC) == made[1]


def test_full_disk_leaves_no_half_written_clip(tmp_path, monkeypatch):
    write, written = Path.write_bytes, []

    def fails_at_the_30th(path, data):
        written.append(path)
        if len(written) > 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fails_at_the_30th)
    with pytest.raises(GammerError, match=r"No space left.*\n.*\n.*run the same command again"):
        synthesize(tmp_path / "full", SPEC)
    place = next((tmp_path / "full" / "Cropped").glob("*/*"))
    frames = len(load_performance(tmp_path / "full", f"{place.parent.name}/{place.name}").coefficients)
    assert frames < 30 and len(list(place.iterdir())) == frames
    assert not list((tmp_path / "full").rglob(".*"))


def test_workbook_has_no_time_of_writing(made):
    with zipfile.ZipFile(made[0] / WORKBOOK) as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
        assert archive.read("docProps/core.xml").count(b"1980-01-01T00:00:00Z") == 2


def test_alpha_zero_is_the_onset_and_alpha_one_the_apex(made):
    root, clips = made
    for clip in clips[:3]:
        onset, apex, magnified, mask = render_pair(root, clip.key, (0, 1, 10))
        assert onset.shape == (3, SPEC.height, SPEC.width) and magnified.shape == (3, *onset.shape)
        np.testing.assert_array_equal(magnified[0], onset)
        np.testing.assert_allclose(magnified[1], apex, atol=1e-4)
        assert np.abs(magnified[2] - onset)[:, mask].mean() > 3 * np.abs(apex - onset)[:, mask].mean()
        assert magnified.min() >= 0 and magnified.max() <= 1


def test_rendered_truth_is_what_the_camera_recorded(made):
    root, clips = made
    for clip in clips:
        rendered = render_pair(root, clip.key, ())[:2]
        for image, number in zip(rendered, (clip.onset, clip.apex), strict=True):
            recorded = read_image(clip.frame(number)).transpose(2, 0, 1) / 255
            assert np.abs(image - recorded).mean() < 5 / 255  # flicker, noise and JPEG


def test_displacement_is_proportional_to_alpha_but_for_the_eyes(made):
    root, clips = made
    for clip in clips:
        acted, subject = (
            load_performance(root, f"sub{clip.subject}/{clip.name}"),
            load_subject(root, clip.subject),
        )
        stopped = 10 * acted.magnified(1) - 9 * acted.magnified(0) - acted.magnified(10)
        np.testing.assert_allclose(np.delete(stopped, np.r_[EYES]), 0, atol=1e-4)
        one, ten = displacement(root, clip.key), displacement(root, clip.key, 10)
        eyes = subject.displacement(np.where(np.isin(np.arange(len(stopped)), np.r_[EYES]), stopped, 0))
        np.testing.assert_allclose(ten + eyes.transpose(2, 0, 1), 10 * one, atol=2e-3)
        assert 0.05 < np.linalg.norm(one, axis=0).max() < 4
        assert not displacement(root, clip.key, 0).any()


def test_mask_leaves_out_the_eyes_and_keeps_brows_nose_and_mouth(made):
    root, clips = made
    mask = render_pair(root, clips[0].key, (5, 20))[3]
    across, down = np.rint(load_subject(root, clips[0].subject).landmarks).astype(int).T
    assert not mask[down[36:48], across[36:48]].any()
    kept = [*range(17, 27), *range(30, 36), *range(48, 68)]
    assert mask[down[kept], across[kept]].mean() > 0.9


def test_nothing_folds_outside_the_eyes(made):
    root, clips = made
    for clip in clips:
        subject = load_subject(root, clip.subject)
        motion = load_performance(root, f"sub{clip.subject}/{clip.name}").magnified(20)
        motion[EYES] = 0
        assert subject.stretch(motion).min() > 0


@pytest.mark.parametrize("emotion", CLASSES)
def test_a_class_acts_its_own_prototypes(emotion):
    acted = [perform(emotion, 200, np.random.default_rng(seed)) for seed in range(30)]
    units = [tuple(int(unit.strip("LR")) for unit in clip.action_units.split("+")) for clip in acted]
    assert set(units) == set(PROTOTYPES[emotion])
    for clip, shown in zip(acted, units, strict=True):
        assert clip.first < clip.onset < clip.apex < clip.offset < clip.first + len(clip.coefficients)
        motion = np.abs(clip.at(clip.apex) - clip.at(clip.onset))[: EYES.start]
        strongest = COLUMNS[int(np.argmax(motion))]
        assert int(strongest[2:-1]) in shown


def test_left_and_right_action_units_mirror_each_other():
    moves = unit_moves()
    right, left = moves[::2, :68], moves[1::2, :68]
    np.testing.assert_allclose(right[:, list(MIRROR)] * [-1, 1], left)


def test_photo_mirror_keeps_landmark_order():
    photo = portraits.embedded_photos()[0]
    seen, expected = portraits.detect(photo.mirrored().pixels)[0], photo.mirrored().landmarks
    assert np.linalg.norm(seen - expected, axis=1).mean() < 4


def test_contact_sheet_has_a_row_per_class(made, tmp_path):
    contact_sheet(made[0], tmp_path / "sheet.png")
    assert read_image(tmp_path / "sheet.png").shape == (5 * SPEC.height, 5 * SPEC.width, 3)


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for photo in portraits.embedded_photos():
        Image.fromarray(photo.pixels[:400, :400]).save(folder / f"{photo.name.split()[1]}.png")
    return folder


def test_command_makes_one_subject_per_photograph(photographs, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["data", "synthesize", "--out", str(out), "--portraits", str(photographs), *SMALL]
    assert main(arguments) == 0
    assert "5 clips of 1 subjects" in capsys.readouterr().out
    assert (out / "contact_sheet.png").is_file()
    assert main(arguments) == 0


def test_too_few_portraits_names_the_unusable(photographs, tmp_path, capsys):
    (photographs / "notes.jpg").write_text("no image")
    Image.new("RGB", (200, 200), "grey").save(photographs / "wall.png")
    arguments = ["data", "synthesize", "--out", str(tmp_path / "out"), "--portraits", str(photographs)]
    assert main([*arguments, *SMALL, "--subjects", "3"]) == 2
    message = capsys.readouterr().err
    assert "2 usable portraits" in message and "notes.jpg" in message and "wall.png: no faces" in message
    assert "--subjects 2" in message and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "28x"], "size is '28x'"),
        (["--size", "20x20"], "width is 20"),
        (["--subjects", "0"], "--subjects: '0'"),
        (["--clips-per-class", "0"], "--clips-per-class: '0'"),
        (["--size", "100000x100000"], "100000"),
        (["--size", "280x100000"], "100000"),
        (["--subjects", "1000000000"], "1000000000"),
        (["--clips-per-class", "1000000000"], "1000000000"),
        (["--fps", "1000000000"], "1000000000"),
        (["--seed", str(2**70)], str(2**70)),
        (["--fps", "1"], "--fps: '1'"),
        (["--seed", "-1"], "--seed: '-1'"),
        (["--portraits", "nowhere"], "no folder of portraits at nowhere"),
    ],
)
def test_bad_options_are_named(options, message, tmp_path, capsys):
    assert main(["data", "synthesize", "--out", str(tmp_path / "out"), *SMALL, *options]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_empty_folder_of_portraits(tmp_path, capsys):
    (tmp_path / "none").mkdir()
    arguments = ["--out", str(tmp_path / "out"), "--portraits", str(tmp_path / "none"), *SMALL]
    assert main(["data", "synthesize", *arguments]) == 2
    assert "0 usable portraits" in capsys.readouterr().err


def test_foreign_folder_is_refused_untouched(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("precious")
    assert main(["data", "synthesize", "--out", str(tmp_path), *SMALL]) == 2
    message = capsys.readouterr().err
    assert "is not empty" in message and "--out" in message and "rm -r" in message
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_folder_of_another_spec_is_refused(copied):
    before = fingerprint(copied)
    with pytest.raises(GammerError, match="not made with these settings"):
        synthesize(copied, replace(SPEC, seed=5))
    assert fingerprint(copied) == before


@pytest.mark.parametrize("clip", ["01/EP99_01", "09/EP01_01", "EP01_01"])
def test_truth_of_an_unknown_clip(made, clip):
    with pytest.raises(GammerError, match="exact truth exists only"):
        render_pair(made[0], clip, (5,))
