"""Long videos of microfaces: the command, resuming, the truth of every interval, and CAS(ME)2's layout."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from openpyxl import load_workbook
from test_microfaces import fingerprint

from gammer_lightning.cli import main
from gammer_lightning.data.microfaces.acting import draw_person
from gammer_lightning.data.microfaces.facial_actions import EYES, HEAD, LIPS, UNIT_COLUMNS
from gammer_lightning.data.microfaces.long_acting import perform_long
from gammer_lightning.data.microfaces.long_videos import WORKBOOK, true_intervals
from gammer_lightning.data.microfaces.realism import NAMES, Realism
from gammer_lightning.data.microfaces.truth import load_subject
from gammer_lightning.errors import GammerError

SMALL = ["--long", "--subjects", "1", "--minutes", "0.25", "--still-minutes", "0.1", "--size", "140x170"]
COMMAND = [*SMALL, "--workers", "1", "--seed", "4"]
PLACE = "s01/01_0101long1"
STILL = "s01/01_0102long2"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("long") / "set"
    assert main(["data", "synthesize", "--out", str(root), *COMMAND]) == 0
    return root


@pytest.fixture(scope="module")
def acted(made):
    """Four minutes of the subject, acted but not filmed, at strengths of nuisances."""
    subject = load_subject(made, "01")

    def act(minutes=4.0, is_still=False, realism=None, fps=30, seed=0):
        realism = realism or Realism()
        person = draw_person(realism, np.random.default_rng(seed))

        def rng_of(*stream):
            return np.random.default_rng((seed, *stream))

        return perform_long(60 * minutes, is_still, person, subject, fps, realism, rng_of)

    return act


def test_layout_is_that_of_casme_squared(made):
    assert len(list((made / "rawpic" / PLACE).glob("img*.jpg"))) == 450
    assert len(list((made / "rawpic" / STILL).glob("img*.jpg"))) == 180
    book = load_workbook(made / WORKBOOK)
    intervals, subjects, titles = (list(sheet.values) for sheet in book.worksheets)
    assert subjects == [(1, "01", 1)] and titles == [("0101", "long1"), ("0102", "long2")]
    expressions = [event for event in true_intervals(made, PLACE) if event.is_expression]
    assert len(intervals) == len(expressions) >= 2
    for row, event in zip(intervals, expressions, strict=True):
        assert row[0] == 1 and row[1].startswith("long1_")
        assert row[2] < row[3] < row[4] and row[7] == f"{event.kind}-expression"
        assert np.abs(np.array(row[2:5]) - [event.onset, event.apex, event.offset]).max() <= 5
    assert true_intervals(made, STILL) == []


def test_a_stopped_run_goes_on_to_the_same_bytes(made, tmp_path):
    copied = Path(shutil.copytree(made, tmp_path / "copy"))
    frames = copied / "rawpic" / PLACE
    for number in range(300, 451):
        (frames / f"img{number}.jpg").unlink()
    cut = frames / "img299.jpg"
    cut.write_bytes(cut.read_bytes()[:-2])
    (copied / WORKBOOK).unlink()
    (copied / "truth" / f"{STILL}.json").write_text("{}")
    motion = copied / "truth" / f"{STILL}.npz"
    motion.write_bytes(motion.read_bytes()[:500])
    untouched = (frames / "img100.jpg").stat().st_mtime_ns
    assert main(["data", "synthesize", "--out", str(copied), *COMMAND]) == 0
    assert (frames / "img100.jpg").stat().st_mtime_ns == untouched
    assert fingerprint(copied) == fingerprint(made)


def test_other_settings_need_another_folder(made, capsys):
    assert main(["data", "synthesize", "--out", str(made), *COMMAND, "--minutes", "0.3"]) == 2
    assert "was not made with these settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--long", "--benchmark", "1"], "--benchmark 1"),
        (["--long", "--counts", "casme2"], "--counts"),
        (["--long", "--clips-per-class", "2"], "--clips-per-class"),
        (["--long", "--minutes", "0"], "--minutes"),
        (["--long", "--minutes", "60", "--fps", "200"], "at most 200,000"),
        (["--long", "--still-minutes", "0.01"], "--still-minutes 0.01"),
        (["--minutes", "2"], "add --long"),
    ],
)
def test_bad_options_are_named(options, message, tmp_path, capsys):
    assert main(["data", "synthesize", "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_folder_without_truth_says_so(made, tmp_path):
    with pytest.raises(GammerError, match="gammer data synthesize --long"):
        true_intervals(made, "s09/none")


@pytest.mark.parametrize("fps", [30, 100])
def test_expressions_are_micro_up_to_half_a_second_and_macro_beyond(acted, fps):
    performance = acted(fps=fps)
    kinds = {}
    end = 0
    for event in performance.events:
        assert end < event.onset < event.apex < event.offset <= len(performance.coefficients)
        end = event.offset
        kinds.setdefault(event.kind, []).append((event.offset - event.onset + 1) / fps)
    assert len(kinds["micro"]) == 8 and len(kinds["macro"]) == 6 and len(kinds["speech"]) == 3
    assert max(kinds["micro"]) <= 0.5 + 1e-9 < min(kinds["macro"])
    covered = sum(sum(lengths) for lengths in kinds.values())
    assert covered < 0.2 * 240, "most of the time nothing happens"


def test_truth_is_where_the_face_moves_and_macros_are_stronger(acted):
    quiet = Realism(**dict.fromkeys(NAMES, 0.0))
    performance = acted(realism=quiet)
    moved = np.abs(performance.coefficients[:, : len(UNIT_COLUMNS)]).sum(1)
    inside = np.zeros(len(moved), bool)
    strongest = {"micro": [], "macro": []}
    for event in performance.events:
        inside[event.onset - 1 : event.offset] = True
        if event.is_expression:
            course = moved[event.onset - 1 : event.offset]
            assert moved[event.apex - 1] == pytest.approx(course.max()) and moved[event.apex - 1] > 0
            strongest[event.kind].append(moved[event.apex - 1])
    assert not moved[~inside].any()
    assert np.median(strongest["macro"]) > 2 * np.median(strongest["micro"])


def test_a_still_video_blinks_and_sways_but_shows_no_expression(acted):
    coefficients = acted(is_still=True).coefficients
    assert acted(is_still=True).events == ()
    blinks = coefficients[:, EYES.start]
    starts = np.flatnonzero((blinks[1:] > 0.4) & (blinks[:-1] <= 0.4))
    assert 25 < len(starts) < 90, "some 14 a minute"
    assert np.ptp(coefficients[:, list(HEAD)[:2]], axis=0).min() > 0.02
    assert not coefficients[:, LIPS].any()


def test_speech_opens_the_lips_several_times(acted):
    performance = acted()
    for event in performance.events:
        opening = performance.coefficients[event.onset - 1 : event.offset, LIPS]
        if event.kind == "speech":
            assert opening.max() > 0.005
            peaks = (opening[1:-1] > opening[:-2]) & (opening[1:-1] >= opening[2:]) & (opening[1:-1] > 0.002)
            assert peaks.sum() >= 3
        else:
            assert not opening.any()


def test_manifest_states_what_made_it(made):
    manifest = json.loads((made / "microfaces-long.json").read_text())
    assert manifest["fps"] == 30 and manifest["minutes"] == 0.25 and manifest["seed"] == 4
