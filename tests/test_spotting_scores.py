"""Scores of spotting against an independent brute-force oracle, and by hand where public code is wrong."""

import math

import numpy as np
import pytest

from gammer_lightning.data.clips.long_video import Interval, LongVideo
from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.megc_csv import megc_csv, read_megc_csv
from gammer_lightning.evaluation.spotting_scores import (
    Counts,
    Span,
    above,
    count,
    iou,
    match,
    nested_thresholds,
    precision_recall,
    strs,
    threshold_for_f1,
    threshold_for_rate,
    truths_of,
)

EMOTIONS = ("positive", "negative", "surprise")


def span(onset, offset, kind="micro", score=1.0, subject="1", video="a", emotion=""):
    return Span(subject, video, onset, offset, kind, score, emotion)


def random_case(seed):
    """Truths and spotted intervals in six videos of three subjects, some near to truths, scores with ties."""
    rng = np.random.default_rng(seed)
    videos = [(str(number % 3), f"v{number}") for number in range(6)]
    truths, spotted = [], []
    for subject, video in videos:
        for _ in range(rng.integers(0, 4)):
            onset = int(rng.integers(1, 80))
            truths.append(
                span(
                    onset,
                    onset + int(rng.integers(0, 25)),
                    str(rng.choice(["micro", "macro"])),
                    1.0,
                    subject,
                    video,
                    str(rng.choice(EMOTIONS)),
                )
            )
        own = [truth for truth in truths if truth.video == video]
        for _ in range(rng.integers(0, 6)):
            onset, offset = int(rng.integers(1, 80)), 0
            if own and rng.random() < 0.7:
                near = own[rng.integers(len(own))]
                onset = max(1, near.onset + int(rng.integers(-4, 5)))
                offset = near.offset + int(rng.integers(-4, 5))
            offset = max(onset, offset)
            score = int(rng.integers(0, 5)) / 4
            spotted.append(
                span(
                    onset, offset, str(rng.choice(["micro", "macro"])), score, subject, video, str(rng.choice(EMOTIONS))
                )
            )
    return truths, spotted, videos


def oracle(truths, spotted, kinds):
    """Count frame by frame, one video and one prediction after the other: tp, fp, fn and pairs of emotions."""
    wanted = [t for t in truths if t.kind in kinds]
    guesses = [s for s in spotted if s.kind in kinds]
    free = {number: True for number in range(len(wanted))}
    tp = fp = 0
    pairs = []
    while guesses:
        top = max(guess.score for guess in guesses)
        first = min((g for g in guesses if g.score == top), key=lambda g: (g.subject, g.video, g.onset, g.offset))
        guesses.remove(first)
        frames = set(range(first.onset, first.offset + 1))
        best_share, best_number = 0.0, None
        for number, truth in enumerate(wanted):
            if (truth.subject, truth.video) != (first.subject, first.video):
                continue
            true_frames = set(range(truth.onset, truth.offset + 1))
            share = len(frames & true_frames) / len(frames | true_frames)
            if share > best_share:
                best_share, best_number = share, number
        if best_number is not None and best_share >= 0.5 and free[best_number]:
            free[best_number] = False
            tp += 1
            pairs.append((wanted[best_number].emotion, first.emotion))
        else:
            fp += 1
    return tp, fp, sum(free.values()), pairs


@pytest.mark.parametrize("seed", range(60))
def test_counts_are_those_of_the_oracle(seed):
    truths, spotted, videos = random_case(seed)
    counts = count(truths, spotted, videos)
    for name, kinds in {"micro": ["micro"], "macro": ["macro"], "any": ["micro", "macro"]}.items():
        tp, fp, fn, _ = oracle(truths, spotted, kinds)
        assert counts[name] == Counts(tp, fp, fn)
    assert counts["both"] == counts["micro"] + counts["macro"]


@pytest.mark.parametrize("seed", range(20))
def test_curve_is_the_count_at_every_threshold(seed):
    truths, spotted, videos = random_case(seed)
    curve = precision_recall(truths, spotted, videos)
    assert list(curve.thresholds) == sorted({found.score for found in spotted}, reverse=True)
    for index, threshold in enumerate(curve.thresholds):
        counted = [found for found in spotted if found.score >= threshold]
        tp, fp, fn, _ = oracle(truths, counted, ["micro", "macro"])
        assert curve.precision[index] == pytest.approx(tp / (tp + fp))
        assert curve.recall[index] == pytest.approx(tp / (tp + fn))
        assert curve.f1[index] == pytest.approx(2 * tp / (2 * tp + fp + fn))


@pytest.mark.parametrize("seed", range(20))
def test_strs_is_the_product_of_the_oracles(seed):
    truths, spotted, videos = random_case(seed)
    tp, fp, fn, pairs = oracle(truths, spotted, ["micro", "macro"])
    result = strs(truths, spotted, videos)
    assert result["spotting_f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    names = {name for pair in pairs for name in pair}
    precisions = [np.mean([t == p for t, p in pairs if p == name] or [0]) for name in names]
    recalls = [np.mean([t == p for t, p in pairs if t == name] or [0]) for name in names]
    p, r = np.mean(precisions), np.mean(recalls)
    analysis = 2 * p * r / (p + r) if p + r else 0
    assert result["analysis_f1"] == pytest.approx(analysis)
    assert result["strs"] == pytest.approx(result["spotting_f1"] * analysis)


def test_iou_counts_frames_with_both_ends():
    assert iou(span(1, 10), span(1, 10)) == 1
    assert iou(span(1, 10), span(6, 15)) == pytest.approx(5 / 15)
    assert iou(span(1, 10), span(11, 20)) == 0, "public code adds a frame here"
    assert iou(span(1, 10), span(10, 20)) == pytest.approx(1 / 20)
    assert iou(span(1, 10), span(1, 5)) == 0.5


def test_a_truth_is_hit_once_by_the_surest():
    truths, videos = [span(10, 20)], [("1", "a")]
    spotted = [span(10, 20, score=0.2), span(10, 19, score=0.9)]
    assert count(truths, spotted, videos)["micro"] == Counts(1, 1, 0)
    assert match(truths, spotted, videos)[0] == (spotted[1], truths[0])


def test_one_spotted_interval_hits_one_of_two_overlapping_truths():
    truths = [span(10, 20), span(10, 22)]
    assert count(truths, [span(10, 21)], [("1", "a")])["micro"] == Counts(1, 0, 1)


def test_videos_without_expressions_and_missing_subjects_count():
    videos = [("1", "a"), ("1", "still"), ("2", "b")]
    truths = [span(10, 20), span(5, 9, subject="2", video="b")]
    spotted = [span(10, 20), span(3, 9, video="still")]
    counts = count(truths, spotted, videos)["micro"]
    assert counts == Counts(1, 1, 1)
    assert counts.precision == counts.recall == counts.f1 == 0.5


def test_intervals_elsewhere_are_refused():
    with pytest.raises(GammerError, match="video elsewhere of subject 1"):
        count([], [span(1, 2, video="elsewhere")], [("1", "a")])


def test_a_kind_apart_takes_nothing_of_the_other():
    counts = count([span(10, 20, "micro")], [span(10, 20, "macro")], [("1", "a")])
    assert counts["micro"] == Counts(0, 0, 1) and counts["macro"] == Counts(0, 1, 0)
    assert counts["both"] == Counts(0, 1, 1) and counts["any"] == Counts(1, 0, 0)


def test_nothing_true_and_nothing_spotted_has_no_score():
    counts = count([], [], [("1", "a")])["any"]
    assert math.isnan(counts.f1) and math.isnan(counts.precision) and math.isnan(counts.recall)
    assert len(precision_recall([], [], [("1", "a")]).thresholds) == 0
    assert threshold_for_f1([], [], [("1", "a")]) == math.inf
    assert strs([], [], [("1", "a")])["strs"] == 0


def test_threshold_of_a_rate_lets_no_more_alarms_pass():
    scores = [0.1, 0.5, 0.9, 0.5, 0.3]
    for rate, passing in ((0, 0), (0.4, 0), (0.5, 1), (1, 1), (1.5, 3), (2, 4), (2.5, 5), (9, 5)):
        threshold = threshold_for_rate(scores, 2, rate)
        passed = sum(score >= threshold for score in scores)
        assert passed <= rate * 2 and passed == passing
    with pytest.raises(GammerError):
        threshold_for_rate(scores, 0, 1)


def test_a_subjects_own_videos_have_no_part_in_its_threshold():
    videos = [("1", "a"), ("2", "b"), ("3", "c")]
    truths, spotted = [], []
    for (subject, video), score in zip(videos, (0.9, 0.5, 0.4), strict=True):
        truths.append(span(10, 20, subject=subject, video=video))
        spotted.append(span(10, 20, score=score, subject=subject, video=video))
        spotted.append(span(40, 50, score=score - 0.05, subject=subject, video=video))
    thresholds = nested_thresholds(truths, spotted, videos)
    for subject in "123":
        others = [s for s in spotted if s.subject != subject]
        assert thresholds[subject] == threshold_for_f1([t for t in truths if t.subject != subject], others, videos)
    assert thresholds == {"1": 0.4, "2": 0.4, "3": 0.5}
    assert [found.subject for found in above(spotted, thresholds)] == ["1", "1", "2", "2"]
    with pytest.raises(GammerError, match="1 subject"):
        nested_thresholds(truths[:1], spotted[:2], videos[:1])


def test_truths_of_long_videos(tmp_path):
    video = LongVideo("d", "1", "a", tmp_path, range(1, 50), 30, (Interval(3, None, 9, "macro", "4", "negative"),))
    assert truths_of([video]) == [span(3, 9, "macro", emotion="negative")]


def test_megcs_table_comes_back(tmp_path):
    spans = [span(3, 9, emotion="negative"), span(12, 30, subject="017", video="v,1")]
    path = tmp_path / "megc.csv"
    path.write_text("\ufeff" + megc_csv(spans))
    assert path.read_text().splitlines()[0].endswith("subject,video,onset,offset,emotion")
    assert read_megc_csv(path) == spans
    path.write_text("Video,subject,offset,onset,score,kind\na,1,9.0,3.0,.25,macro\n")
    assert read_megc_csv(path) == [span(3, 9, "macro", 0.25)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject,video,onset\n", "no column offset"),
        ("", "no column subject, video, onset, offset"),
        ("subject,video,onset,offset\n1,a,3,9\n1,a,x,9\n", "onset in row 3"),
        ("subject,video,onset,offset\n1,a,3.5,9\n", "onset in row 2"),
        ("subject,video,onset,offset\n1,a,3,2\n", "offset in row 2"),
        ("subject,video,onset,offset\n1,a,3\n", "offset in row 2"),
        ("subject,video,onset,offset,kind\n1,a,3,9,tiny\n", "kind in row 2"),
        ("subject,video,onset,offset,score\n1,a,3,9,nan\n", "score in row 2"),
    ],
)
def test_wrong_tables_are_named_by_row_and_column(text, message, tmp_path):
    path = tmp_path / "megc.csv"
    path.write_text(text)
    with pytest.raises(GammerError, match=message):
        read_megc_csv(path)


def test_spans_are_checked():
    for wrong in (
        {"onset": 5, "offset": 4},
        {"onset": 1, "offset": 2, "kind": "x"},
        {"onset": 1, "offset": 2, "score": math.nan},
    ):
        with pytest.raises(GammerError):
            span(**wrong)
