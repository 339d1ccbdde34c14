"""`gammer data list`, `check` and `apex` through the real command."""

import json
import shutil
from pathlib import Path

import cv2
import layouts
import numpy as np
import pytest
from casme2_sample import portrait, save, write_sample, write_workbook

from gammer_lightning import cli


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data set in CASME II's layout that is whole."""
    monkeypatch.chdir(tmp_path)
    write_sample(tmp_path / "set")
    return tmp_path / "set"


def check(root, dataset="microfaces"):
    code = cli.main(["data", "check", dataset, "--root", str(root), "--workers", "1"])
    return code, json.loads(Path(f"check/{dataset}.json").read_text())


def test_a_whole_data_set_passes(root, capsys):
    code, report = check(root)
    assert code == 0 and not any(report["problems"].values()) and not any(report["notes"].values())
    assert (report["clips"], report["class_sets"]["three"]) == (4, [4, 2])
    assert report["subjects"] == {"01": {"happiness": 1, "surprise": 1}, "02": {"disgust": 1, "repression": 1}}
    assert "| all clips | 4 |  |\n| subjects | 2 |  |\n" in capsys.readouterr().out


def test_frames_of_16_bits_are_noted_and_those_of_fewer_refused(root, capsys):
    folder = root / "Cropped/sub01/EP01_01"
    for path in sorted(folder.iterdir()):
        deep = cv2.imread(str(path)).astype(np.uint16) * 257
        cv2.imwrite(str(path.with_suffix(".png")), deep)
        path.unlink()
    code, report = check(root)
    note = "clip microfaces/01/EP01_01: reg_img9.png has 16 bits a channel, of which the upper 8 are read"
    assert code == 0 and report["notes"]["frames of more than 8 bits"] == [note]
    arguments = ["premagnify", "--dataset", "microfaces", "--root", str(root), "--cache", "cache", "--alphas", "5"]
    assert cli.main([*arguments, "--magnifier", "none", "--device", "cpu"]) == 0
    assert note in capsys.readouterr().out
    for path in folder.iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED) >> 4)
    code, report = check(root)
    assert code == 1 and "reg_img9.png" in report["problems"]["unreadable frames"][0]


def test_all_that_would_change_a_result_is_found_at_once(root, capsys):
    rows = write_sample(root.parent / "other")
    clips = root / "Cropped"
    (clips / "sub01/EP01_01/reg_img10.jpg").write_bytes(b"")
    save(np.full((170, 140, 3), 90, np.uint8), clips / "sub01/EP02_01/reg_img9.jpg")
    shutil.rmtree(clips / "sub02/EP02_01")
    shutil.copytree(clips / "sub02/EP01_01", clips / "sub03/EP01_01")
    (clips / "sub03/EP01_01/reg_img10.jpg").rename(clips / "sub03/EP01_01/reg_img12.jpg")
    save(portrait(width=100, height=128), clips / "sub03/EP01_01/reg_img11.jpg")
    (clips / "sub03/EP09_09").mkdir()
    rows += [
        rows[2] | {"Subject": "03", "OffsetFrame": 12, "ApexFrame": "/"},
        rows[2] | {"Subject": "04", "Filename": "EP01_01"},
    ]
    shutil.copytree(clips / "sub02/EP01_01", clips / "sub04/EP01_01")
    write_workbook(root, rows)
    code, report = check(root)
    problems, notes = report["problems"], report["notes"]
    assert code == 1
    assert "no clip folder" in problems["clips that cannot be used"][0]
    assert problems["unreadable frames"] == ["microfaces/01/EP01_01: reg_img10.jpg"]
    assert problems["duplicate clips"] == ["microfaces/02/EP01_01 = microfaces/04/EP01_01"]
    assert problems["frames of several sizes"] == ["microfaces/03/EP01_01: 100x128, 140x170"]
    assert notes["frames dropped between onset and offset"] == ["microfaces/03/EP01_01: 1"]
    assert "no apex is annotated" in notes["annotations corrected or left out"][0]
    assert notes["folders without a row"] == [str(clips / "sub03/EP09_09")]
    printed = capsys.readouterr().out
    assert "PROBLEM: duplicate clips (1)" in printed and "note: folders without a row (1)" in printed


def test_onsets_without_a_face_are_drawn(root):
    (root / "Cropped").rename(root / "CASME2_RAW_selected")
    save(np.full((170, 140, 3), 90, np.uint8), root / "CASME2_RAW_selected/sub01/EP01_01/reg_img9.jpg")
    code, report = check(root)
    assert code == 1 and "no face found in microfaces/01/EP01_01" in report["problems"]["no usable face"][0]
    assert (root.parent / "check/microfaces-no-face.png").stat().st_size > 1000


def test_numbers_are_held_against_those_expected(root):
    code, report = check(root, "casme2")
    assert code == 1
    found = report["problems"]["other numbers than expected"]
    assert {"others: 0, 99 expected", "subjects: 2, 26 expected", "class set three, clips: 4, 145 expected"} <= {*found}


@pytest.mark.parametrize("name", ["casme2", "samm", "smic"])
def test_published_numbers_are_those_expected(root, name):
    getattr(layouts, name)(root.parent / name, getattr(layouts, f"published_{name}")())
    code, report = check(root.parent / name, name)
    assert code == 1 and report["problems"]["unreadable frames"]  # its frames are empty files
    assert report["problems"]["other numbers than expected"] == []


def test_list_says_where_each_is_looked_for_and_how_to_get_it(root, monkeypatch, capsys):
    layouts.smic(root.parent / "smic", [(1, "negative", 1), (2, "positive", 1)])
    monkeypatch.setenv("GAMMER_SMIC", str(root.parent / "smic"))
    monkeypatch.setenv("GAMMER_SAMM", "gone")
    monkeypatch.delenv("GAMMER_CASME2", raising=False)
    assert cli.main(["data", "list"]) == 0
    printed = capsys.readouterr().out
    assert f"GAMMER_SMIC: {root.parent / 'smic'}: 2 clips of 2 subjects" in printed
    assert "GAMMER_CASME2: not set" in printed and "GAMMER_SAMM: gone: no clips in gone" in printed
    assert printed.count("get it: ") == 4


def test_found_apexes_are_compared_with_annotated_ones(root, monkeypatch, capsys):
    monkeypatch.setenv("GAMMER_MICROFACES", str(root))
    assert cli.main(["data", "apex", "microfaces"]) == 0
    assert "| spotted | 0.0 | 0.0 | 0 |\n| middle | 0.0 | 0.0 | 0 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "casme3"], "unknown data set 'casme3'"),
        (["check", "samm"], "no folder is given for SAMM"),
        (["check", "samm", "--root", "gone"], "which is no folder"),
        (["apex", "smic", "--root", "smic"], "smic has no annotated apex"),
    ],
)
def test_bad_arguments_are_refused(root, arguments, message, capsys, monkeypatch):
    monkeypatch.delenv("GAMMER_SAMM", raising=False)
    layouts.smic(root.parent / "smic", [(1, "negative", 1)])
    assert cli.main(["data", *arguments]) == 2
    assert message in capsys.readouterr().err
