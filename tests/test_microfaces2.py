"""microfaces 2: the command, resuming, exact truth, and the size of every nuisance, on one subject in small frames."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from openpyxl import load_workbook
from test_microfaces import change_face, fingerprint

from gammer_lightning.cli import main
from gammer_lightning.data.clips.casme2 import read_casme2
from gammer_lightning.data.microfaces import annotation, camera
from gammer_lightning.data.microfaces.annotation import CASME2_COUNTS, acted, coded, scripts, unit_shares
from gammer_lightning.data.microfaces.appearance import Lips
from gammer_lightning.data.microfaces.facial_actions import (
    EXPOSURE,
    EYES,
    HEAD,
    IN_PLANE,
    JAW,
    LIPS,
    OUT_OF_PLANE,
    REAL_COLUMNS,
    SWALLOW,
    UNIT_COLUMNS,
    Performance,
)
from gammer_lightning.data.microfaces.generate import LARGEST_ALPHA, keep_one_to_one
from gammer_lightning.data.microfaces.realism import NAMES, Realism, parse_strengths
from gammer_lightning.data.microfaces.spec import MicrofacesSpec
from gammer_lightning.data.microfaces.truth import animated, load_performance, read_face, render_pair, true_frames
from gammer_lightning.data.microfaces.workbook import WORKBOOK
from gammer_lightning.evaluation.magnification import score_microfaces
from gammer_lightning.files import read_image
from gammer_lightning.magnifiers import load_magnifier

SMALL = ["--subjects", "1", "--clips-per-class", "1", "--size", "140x170", "--fps", "50", "--workers", "1"]
REAL = ["--benchmark", "2", *SMALL, "--seed", "3"]
OFF = Realism(**dict.fromkeys(NAMES, 0.0))
CASME2_PX = 103.6  # between the eyes in frames of 280x340


def spec_of(realism: Realism, **settings) -> MicrofacesSpec:
    return MicrofacesSpec(**{"subjects": 10, "width": 140, "height": 170, **settings}, benchmark=2, realism=realism)


def only(**strengths: float) -> Realism:
    return replace(OFF, **strengths)


@cache
def performances(realism: Realism, **settings) -> list[Performance]:
    """150 clips, acted but not filmed."""
    spec = spec_of(realism, **settings)
    return [acted(spec, script) for script in scripts(spec)]


def change(clip: Performance) -> np.ndarray:
    return clip.at(clip.apex) - clip.at(clip.onset)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("microfaces2") / "set"
    assert main(["data", "synthesize", "--out", str(root), *REAL]) == 0
    return root


@pytest.fixture(scope="module")
def face(made):
    """Make the subject's face at other strengths of shading, highlight and hair."""
    framing, source, landmarks, traits = read_face(made, "01")
    off = replace(traits, light=(0.6, -0.4), shading=0, highlight=0, hair=0)
    return lambda **strengths: animated(framing, source, landmarks, replace(off, **strengths))


def test_manifest_states_benchmark_counts_and_strengths(made, tmp_path):
    manifest = json.loads((made / "microfaces.json").read_text())
    assert manifest["microfaces"] == 2.1 and manifest["counts"] == "balanced"
    assert manifest["strengths"] == dict.fromkeys(NAMES, 1)
    assert main(["data", "synthesize", "--out", str(made), *REAL, "--strengths", "noise=0"]) == 2, "another set"


def test_a_stopped_run_goes_on_to_the_same_bytes(made, tmp_path):
    copied = Path(shutil.copytree(made, tmp_path / "copy"))
    shutil.rmtree(copied / "Cropped/sub01/EP01_01")
    (copied / "truth/sub01/EP02_01.npz").unlink()
    (copied / WORKBOOK).unlink()
    change_face(copied / "truth/sub01/face.json", traits={"light": [0, 0]})
    assert main(["data", "synthesize", "--out", str(copied), *REAL]) == 0
    assert fingerprint(copied) == fingerprint(made)


def test_command_makes_casme2s_counts_at_given_strengths(tmp_path, capsys):
    out = tmp_path / "unequal"
    options = ["--benchmark", "2", "--counts", "casme2", "--subjects", "1", "--size", "140x170", "--fps", "20"]
    strengths = ["--strengths", "all=0,jpeg=0.5"]
    assert main(["data", "synthesize", "--out", str(out), *options, *strengths, "--workers", "1"]) == 0
    assert "9 clips of 1 subjects" in capsys.readouterr().out
    strengths = json.loads((out / "microfaces.json").read_text())["strengths"]
    assert strengths.pop("jpeg") == 0.5 and set(strengths.values()) == {0}
    emotions = Counter(clip.emotion for clip in read_casme2(out, "microfaces"))
    assert emotions == {"others": 4, "disgust": 2, "happiness": 1, "repression": 1, "surprise": 1}
    for clip in read_casme2(out, "microfaces"):
        assert (clip.onset, clip.apex) == true_frames(out, clip.key)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--benchmark", "2", "--strengths", "head_tilt=1"], "head_tilt=1"),
        (["--benchmark", "2", "--strengths", "noise=loud"], "noise=loud"),
        (["--benchmark", "2", "--strengths", "noise=nan"], "noise=nan"),
        (["--benchmark", "2", "--strengths", "noise=1,noise=2"], "noise=2"),
        (["--benchmark", "2", "--strengths", "noise=4"], "noise is 4"),
        (["--benchmark", "2", "--counts", "casme2"], "--clips-per-class 1"),
        (["--benchmark", "1", "--strengths", "noise=0"], "--benchmark 2"),
        (["--benchmark", "3"], "--benchmark"),
    ],
)
def test_bad_options_are_named(options, message, tmp_path, capsys):
    assert main(["data", "synthesize", "--out", str(tmp_path / "out"), *SMALL, *options]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_strengths_are_parsed():
    assert parse_strengths("") == Realism()
    assert parse_strengths("all=0,head_turn=0.5") == only(head_turn=0.5)
    assert parse_strengths("noise=0, jpeg=2") == Realism(noise=0, jpeg=2)


def test_alpha_zero_is_the_onset_and_alpha_one_the_apex(made):
    for clip in read_casme2(made, "microfaces"):
        onset, apex, magnified, mask = render_pair(made, clip.key, (0, 1, 10))
        np.testing.assert_array_equal(magnified[0], onset)
        np.testing.assert_allclose(magnified[1], apex, atol=2e-4)
        assert magnified.min() >= 0 and magnified.max() <= 1
        assert 0.85 < mask.mean() < 0.97, "outside the eyes nearly all can be compared"
        assert np.abs(magnified[2] - onset)[:, mask].mean() > 2 * np.abs(apex - onset)[:, mask].mean()


def test_rendered_truth_is_what_the_camera_recorded(made):
    for clip in read_casme2(made, "microfaces"):
        rendered = render_pair(made, clip.key, ())[:2]
        for image, number in zip(rendered, true_frames(made, clip.key), strict=True):
            recorded = read_image(clip.frame(number)).transpose(2, 0, 1) / 255
            assert np.abs(image - recorded).mean() < 5 / 255  # flicker, noise and JPEG


def test_magnifiers_are_scored_at_the_true_onset_and_apex(made, tmp_path):
    copied = Path(shutil.copytree(made, tmp_path / "copy"))
    clips = read_casme2(copied, "microfaces")
    clip = next(clip for clip in clips if (clip.onset, clip.apex) != true_frames(copied, clip.key))
    for number in (clip.onset, clip.apex):
        if number not in true_frames(copied, clip.key):
            clip.frame(number).unlink()
    table = score_microfaces(load_magnifier("none"), copied, [clip], "cpu")
    assert set(table.input) == {"clean", "recorded"} and (table.gain.abs() < 1e-6).all()


def test_workbook_holds_the_coding_and_truth_the_truth(made):
    spec = MicrofacesSpec(1, 1, 140, 170, 50, 3, benchmark=2)
    rows = list(load_workbook(made / WORKBOOK).active.values)[1:]
    assert len(rows) == 5
    for row, script in zip(rows, scripts(spec), strict=True):
        true = load_performance(made, script.place)
        says = coded(spec, script, true)
        assert row[3:6] == (says.onset, says.apex, says.offset) and row[7] == says.action_units
        assert row[8] == true.emotion == script.emotion


def test_durations_and_apexes_are_casme2s():
    clips = performances(Realism(), subjects=26)
    durations = np.array([clip.offset - clip.onset for clip in clips])
    places = np.array([clip.apex - clip.onset for clip in clips]) / durations
    np.testing.assert_allclose(np.percentile(durations, [10, 50, 90]), [40, 60, 95], rtol=0.1)
    middle = np.abs(places - 0.5) * durations
    assert 7 < middle.mean() < 10, "taking the middle is 8.3 frames off on CASME II"
    np.testing.assert_allclose(np.percentile(places, [10, 50, 90]), [0.30, 0.51, 0.71], atol=0.03)


def test_faint_expressions_are_near_the_limit(face):
    subject = face()
    medians = []
    for faintness in (0, 1):
        clips = performances(only(faintness=faintness), subjects=4)
        kept = [keep_one_to_one(clip, subject, LARGEST_ALPHA[2]) for clip in clips]
        peaks = [np.linalg.norm(subject.displacement(change(clip)), axis=-1).max() for clip in kept]
        medians.append(np.median(peaks) / subject.framing.iod * CASME2_PX)
    assert 0.5 < medians[1] < 0.9 < medians[0] < 1.5  # px of a frame of 280x340


def nose_and_ear(subject, clips) -> np.ndarray:
    """How far nose tip and ear move from onset to apex with the head, ``(clips, 2, 2)``, px of a frame of 280x340."""
    places = np.rint(subject.landmarks[[30, 1]]).astype(int)
    moved = [subject.displacement(np.where(np.isin(range(len(REAL_COLUMNS)), HEAD), change(c), 0)) for c in clips]
    return np.array(moved)[:, places[:, 1], places[:, 0]] / subject.framing.iod * CASME2_PX


def test_head_turns_move_the_nose_more_than_the_ears(face):
    subject = face()
    shifted, turned = (
        nose_and_ear(subject, performances(only(**{name: 1}), subjects=4)) for name in ("head_shift", "head_turn")
    )
    parallax = np.linalg.norm(turned[:, 0] - turned[:, 1], axis=1)
    assert 0.06 < np.median(parallax) < 0.24
    assert np.linalg.norm(turned[:, 0], axis=1).mean() > 1.5 * np.linalg.norm(turned[:, 1], axis=1).mean()
    assert 0.04 < np.median(np.linalg.norm(shifted[:, 0], axis=1)) < 0.2
    still = nose_and_ear(subject, performances(OFF, subjects=1))
    assert not still.any()


def test_head_moves_half_as_far_as_the_expression(face):
    nose = nose_and_ear(face(), performances(Realism(), subjects=4))[:, 0]
    assert 0.16 < np.median(np.linalg.norm(nose, axis=1)) < 0.44


def test_head_drifts_over_the_whole_clip():
    clips = performances(only(head_drift=1), subjects=2)
    for clip in clips:
        steps = np.diff(clip.coefficients[:, list(HEAD)], axis=0)
        np.testing.assert_allclose(steps, np.tile(steps.mean(0), (len(steps), 1)), atol=1e-6)
    speeds = np.array([np.diff(clip.coefficients[:, list(HEAD)], axis=0)[0] for clip in clips]) * 200
    assert 0.3 < speeds[:, 0].std() * CASME2_PX < 1  # px a second


def test_muscles_have_a_tone():
    still, toned = (
        np.array([np.median(clip.coefficients[:, : EYES.start].std(0)) for clip in performances(realism)])
        for realism in (OFF, only(tone=1))
    )
    assert not still.any(), "most units rest"
    assert 0.003 < toned.mean() < 0.012  # shares of a full expression


def test_compressed_skin_darkens_and_stretched_skin_brightens(face):
    frown = np.zeros(len(REAL_COLUMNS), np.float32)
    frown[[UNIT_COLUMNS.index((4, side)) for side in "RL"]] = 0.1
    shaded = face(shading=1)
    column, row = np.rint((shaded.landmarks[21] + shaded.landmarks[22]) / 2 / 4).astype(int)
    assert 0.95 < shaded.appearance.gain(frown)[row, column] < 0.995
    assert 1.005 < shaded.appearance.gain(-frown)[row, column] < 1.05
    assert (face().appearance.gain(frown) == 1).all()
    plain, changed = face().render(frown), shaded.render(frown)
    assert 0.3 < np.abs(changed - plain).max() < 20


def test_head_that_turns_is_lit_from_another_side(face):
    turned = np.zeros(len(REAL_COLUMNS), np.float32)
    turned[REAL_COLUMNS.index("head yaw")] = 0.05
    right, left = (face(shading=1, light=(across, 0.0)).appearance for across in (0.8, -0.8))
    nose = slice(15, 30), slice(12, 24)
    assert right.gain(turned)[nose].mean() > 1.01 and left.gain(turned)[nose].mean() < 0.99


def test_hair_does_not_move_with_the_skin(face):
    raised = np.zeros(len(REAL_COLUMNS), np.float32)
    raised[[UNIT_COLUMNS.index((unit, side)) for unit in (1, 2) for side in "RL"]] = 0.1
    loose, fixed = (np.linalg.norm(face(hair=hair).displacement(raised), axis=-1) for hair in (0, 1))
    column, row = np.rint(face().landmarks[24]).astype(int)
    hairline = slice(5, 25), slice(50, 90)
    assert fixed[hairline].mean() < 0.5 * loose[hairline].mean()
    assert fixed[row, column] > 0.7 * loose[row, column] > 0.1


def share_that_moves(realism: Realism, column: int) -> float:
    return float(np.mean([np.ptp(clip.coefficients[:, column]) > 0.003 for clip in performances(realism)]))


@pytest.mark.parametrize(
    ("name", "column", "least", "most"),
    [("eyes", EYES.start, 0.05, 0.2), ("lips", LIPS, 0.15, 0.35), ("swallow", SWALLOW, 0.02, 0.12)],
)
def test_blinks_parting_lips_and_swallows_come_as_often_as_stated(name, column, least, most):
    assert share_that_moves(OFF, column) == 0
    assert least < share_that_moves(only(**{name: 1}), column) < most


def test_eyes_look_aside():
    clips = performances(only(eyes=1))
    gaze = np.array([np.ptp(clip.coefficients[:, EYES][:, 1]) for clip in clips])
    assert 0.2 < (gaze > 0.01).mean() < 0.6 and gaze.max() < 0.06


def test_the_lamps_reflection_stays_behind_when_the_eyes_turn(face):
    lit, dark = face(highlight=1), face()
    aside = np.zeros(len(REAL_COLUMNS), np.float32)
    aside[EYES] = 0, 0.04, 0
    centres = []
    for motion in (0 * aside, aside):
        glint = (lit.render(motion) - dark.render(motion)).sum(-1)
        glint[:, : glint.shape[1] // 2] = 0
        assert glint.max() > 50
        centres.append((glint.sum(0) @ np.arange(glint.shape[1])) / glint.sum())
    assert 0.3 < (centres[1] - centres[0]) / (0.04 * lit.framing.iod) < 0.7
    shut = aside * 0
    shut[EYES.start] = 1
    np.testing.assert_array_equal(lit.render(shut), dark.render(shut))


def test_parting_lips_show_what_is_dark_and_cannot_be_compared(face):
    subject = face()
    parted = np.zeros(len(REAL_COLUMNS), np.float32)
    parted[LIPS] = 0.05
    if subject.appearance.lips is None:  # this portrait smiles
        assert not subject.uncovered(parted).any()
        subject.appearance.lips = Lips(subject.landmarks[[60, 61, 62, 63, 64]], subject.framing)
    gap = subject.uncovered(parted)
    column = round(subject.landmarks[62, 0])
    assert 1.5 < gap[:, column].sum() < 6  # .05 IOD are 2.6 px
    away = 0 * parted
    away[HEAD[0]] = 1.3 * subject.framing.margin / subject.framing.iod
    assert subject.uncovered(away)[:, 0].all() and not subject.uncovered(away)[:, 20:].any()
    assert not subject.uncovered(0 * parted).any() and not subject.uncovered(-parted).any()
    assert subject.render(parted)[gap].mean() < 0.8 * subject.render(0 * parted)[gap].mean()


def test_people_have_a_style_and_a_resting_face_of_their_own():
    plain, own = (annotation.person(spec_of(realism), 1) for realism in (OFF, Realism()))
    assert (plain.strengths == 1).all() and not plain.rest.any() and not plain.companions.any()
    others = [annotation.person(spec_of(Realism()), subject) for subject in range(2, 60)]
    log_strengths = np.log([person.strengths for person in others])
    assert 0.25 < log_strengths.std() < 0.5
    sides = log_strengths[:, ::2] - log_strengths[:, 1::2]
    assert 0.2 < sides.std() < 0.6, "left and right differ"
    assert (own.companions.sum(1) < 0.31).all() and own.companions.any()
    rests = np.array([person.rest for person in others])
    assert ((rests > 0).sum(1) == 6).all() and 0.02 < rests.max(1).mean() < 0.3


def recorded(face, realism: Realism, frames: int = 60, fps: int = 200) -> np.ndarray:
    """A face that does not move, as it is recorded, ``(T, H, W, 3)``."""
    still = Performance("others", "4", 1, 1, 2, 3, np.zeros((frames, len(REAL_COLUMNS)), np.float32))
    light, noise = np.random.default_rng(1), np.random.default_rng(2)
    return np.stack(list(camera.recorded_real(still, face(), fps, realism, light, noise)))


def test_mains_flicker_beats_against_the_frame_rate(face):
    means = recorded(face, only(flicker=1)).mean((1, 2, 3))
    spectrum = np.abs(np.fft.rfft(means - means.mean()))
    assert spectrum[-3:].sum() > 3 * spectrum[1:-3].sum(), "100 Hz at 200 frames a second"
    assert 0.0004 < np.abs(means - means.mean()).max() / means.mean() < 0.006


def test_light_drifts_slowly(face):
    means = recorded(face, only(light_drift=3), 60, fps=50).mean((1, 2, 3))
    assert 0.005 < np.ptp(means) / means.mean() < 0.06
    assert np.abs(np.diff(means)).max() < 0.1 * np.ptp(means)
    steady = recorded(face, OFF, 3)
    assert (steady == steady[0]).all()


def test_exposures_differ_between_clips_and_scale_the_frame(face):
    clips = performances(only(exposure=1))
    assert np.ptp(clips[0].coefficients[:, EXPOSURE]) == 0
    assert 0.045 < np.std([clip.coefficients[0, EXPOSURE] for clip in clips]) < 0.075
    brighter = np.zeros(len(REAL_COLUMNS), np.float32)
    brighter[EXPOSURE] = np.log(0.9)
    np.testing.assert_allclose(face().render(brighter), 0.9 * face().render(0 * brighter), rtol=1e-3)


def test_noise_grows_with_the_light(face):
    frames = recorded(face, only(noise=1), 12).astype(float)
    clean = face().render(np.zeros(len(REAL_COLUMNS), np.float32))
    spread = frames.std(0)
    dark, bright = spread[clean < 40].mean(), spread[(clean > 150) & (clean < 220)].mean()
    assert 0.4 < dark < 1 < bright < 1.75
    fixed = frames.mean(0) - clean
    assert fixed[(clean > 40) & (clean < 220)].std() > 0.2, "a pattern stays"


def test_jpeg_loses_detail_and_colour(face):
    frame = recorded(face, OFF, 1)[0]
    files = [camera.encoded_real(frame, strength) for strength in (0, 1, 3)]
    assert len(files[0]) > 2 * len(files[1]) > 3 * len(files[2])
    errors = [np.abs(cv2.imdecode(np.frombuffer(f, np.uint8), 1)[..., ::-1] - frame.astype(float)) for f in files]
    assert errors[0].mean() < 1 < errors[1].mean() < errors[2].mean()
    samplings = [file[file.index(b"\xff\xc0") + 11] for file in files]
    assert samplings == [0x11, 0x22, 0x22], "4:4:4, then 4:2:0"


@cache
def codings(realism: Realism) -> list[tuple[Performance, annotation.Coding]]:
    spec = spec_of(realism)
    clips = [(script, acted(spec, script)) for script in scripts(spec)]
    return [(true, coded(spec, script, true)) for script, true in clips]


def test_coders_disagree_by_a_few_frames():
    exact, real = codings(OFF), codings(Realism())
    assert all((true.onset, true.apex, true.offset) == (c.onset, c.apex, c.offset) for true, c in exact)
    errors = np.array([(c.onset - t.onset, c.apex - t.apex, c.offset - t.offset) for t, c in real])
    assert (np.abs(np.median(errors, 0)) <= 1).all()
    np.testing.assert_allclose(errors.std(0), [2.1, 2.8, 4.2], rtol=0.2)  # frames at 200 a second
    for true, coding in real:
        last = true.first + len(true.coefficients) - 1
        assert true.first <= coding.onset < coding.apex < coding.offset <= last


def test_coders_miss_units_and_add_others():
    assert all(true.action_units == coding.action_units for true, coding in codings(OFF))
    pairs = [(units_of(true), units_of(coding)) for true, coding in codings(Realism())]
    assert all(coding for _, coding in pairs)
    missed, added = unit_errors(pairs)
    assert 0.005 < missed < 0.05 and added < 0.03, "the two settle on what one of them has overlooked"
    spec = spec_of(Realism())
    clips = [acted(spec, script) for script in scripts(spec)]
    one_coder = [annotation.readings(spec, script, true)[0] for script, true in zip(scripts(spec), clips, strict=True)]
    missed, added = unit_errors([(units_of(t), units_of(c)) for t, c in zip(clips, one_coder, strict=True)])
    assert 0.04 < missed < 0.15 and 0.05 < added < 0.16


def units_of(clip) -> set[str]:
    return set(clip.action_units.split("+"))


def unit_errors(pairs) -> tuple[float, float]:
    """Return the share of the true units that are missed, and the units too many of a clip."""
    missed = sum(len(true - coding) for true, coding in pairs) / sum(len(true) for true, _ in pairs)
    return missed, float(np.mean([len(coding - true) for true, coding in pairs]))


def test_two_coders_agree_on_as_many_units_as_casme2s():
    spec = spec_of(Realism())
    both = total = 0
    for script in scripts(spec):
        true = acted(spec, script)
        first, second = (set(coder.action_units.split("+")) for coder in annotation.readings(spec, script, true))
        both, total = both + 2 * len(first & second), total + len(first) + len(second)
    assert 0.82 < both / total < 0.9  # Yan et al. 2014: .846


def units_ceiling(counts, ambiguity):
    """Return the macro F1 of a perfect reader of action units, who names the class that shows them most often."""
    expected = {
        (emotion, units): counts[emotion] * share
        for emotion in counts
        for units, share in unit_shares(emotion, ambiguity).items()
    }
    named = {}
    for (emotion, units), count in expected.items():
        if count > expected.get((named.get(units, ""), units), 0):
            named[units] = emotion
    scores = []
    for emotion in counts:
        right = sum(count for (own, units), count in expected.items() if own == emotion == named[units])
        all_named = sum(count for (_, units), count in expected.items() if named[units] == emotion)
        scores.append(2 * right / (all_named + counts[emotion]))
    return float(np.mean(scores))


def test_a_perfect_reader_of_units_reaches_87_percent():
    assert units_ceiling(CASME2_COUNTS, 0) == 1
    assert units_ceiling(CASME2_COUNTS, 1) == pytest.approx(0.87, abs=0.005)
    assert units_ceiling(dict.fromkeys(CASME2_COUNTS, 1), 1) == pytest.approx(0.865, abs=0.01)


def test_the_ceiling_holds_for_the_clips_that_are_acted():
    spec = spec_of(Realism(), subjects=26, counts="casme2")
    clips = [acted(spec, script) for script in scripts(spec)]
    shown = [(clip.emotion, clip.action_units.replace("L", "").replace("R", "")) for clip in clips]
    counts = Counter(shown)
    named = {units: max(CASME2_COUNTS, key=lambda e, u=units: counts[e, u]) for _, units in shown}
    scores = []
    for emotion, number in CASME2_COUNTS.items():
        right = sum(e == emotion == named[units] for e, units in shown)
        scores.append(2 * right / (number + sum(named[units] == emotion for _, units in shown)))
    assert 0.83 < np.mean(scores) < 0.92
    assert {e for e, units in shown if units == "14"} == {"repression", "others", "happiness"}
    assert {e for e, units in shown if units == "4"} == {"disgust", "others"}


def test_classes_and_clips_per_subject_are_as_unequal_as_casme2s():
    listed = scripts(spec_of(Realism(), subjects=26, counts="casme2"))
    assert Counter(script.emotion for script in listed) == CASME2_COUNTS
    clips = Counter(script.subject for script in listed)
    assert len(clips) == 26 and min(clips.values()) == 1 and max(clips.values()) == 36
    assert len({script.place for script in listed}) == 246
    few = scripts(spec_of(Realism(), subjects=5, counts="casme2"))
    assert {script.subject for script in few} == {1, 2, 3, 4, 5}
    assert Counter(script.emotion for script in few).most_common(1)[0][0] == "others"


def test_balanced_set_has_every_class_of_every_subject():
    listed = scripts(spec_of(Realism(), subjects=3, clips_per_class=2))
    assert set(Counter((script.subject, script.emotion) for script in listed).values()) == {2}


UNITS = tuple(range(EYES.start))
MOVED_BY = {
    "faintness": UNITS, "head_shift": IN_PLANE, "head_turn": OUT_OF_PLANE, "head_drift": HEAD, "tone": (*UNITS, *JAW),
    "eyes": tuple(range(EYES.start, EYES.stop)), "lips": (LIPS,), "swallow": (SWALLOW,), "style": UNITS, "rest": UNITS,
    "exposure": (EXPOSURE,), "ambiguity": UNITS,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_strength_changes_nothing_but_its_own_nuisance(name):
    plain, changed = (performances(realism, subjects=4) for realism in (Realism(), Realism(**{name: 0.0})))
    moved = np.zeros(len(REAL_COLUMNS), bool)
    for one, other in zip(plain, changed, strict=True):
        assert (one.first, one.onset, one.apex, one.offset) == (other.first, other.onset, other.apex, other.offset)
        assert name == "ambiguity" or one.action_units == other.action_units
        moved |= (one.coefficients != other.coefficients).any(0)
    assert set(np.flatnonzero(moved)) <= set(MOVED_BY.get(name, ()))
    assert moved.any() == (name in MOVED_BY)
