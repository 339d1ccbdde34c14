"""How well expressions were spotted in long videos: F1 at an IoU of .5, precision-recall, thresholds, STRS.

The rules, in one place:
    * A spotted interval hits a true one if they share at least half of the frames that they cover together; frames are
      counted with onset and offset.
    * A truth is hit once. Spotted intervals are taken by falling score; each goes to the truth that it shares most
      with, and is a false alarm where that one is hit already (as in PASCAL VOC).
    * Counts are pooled over all videos that are named, also those without an expression (all found in them is a false
      alarm) and those in which nothing was spotted, whole subjects included (all that is true in them is missed).
    * Micro- and macro-expressions apart: only intervals of one kind are compared. ``both`` is the sum of the two
      counts, MEGC's "overall"; in ``any`` kinds do not matter.

What public code does otherwise: it leaves out videos without an expression and subjects for whom nothing was predicted,
drops predictions in other videos, and lets one prediction hit several truths.

Sources: Li et al., MEGC 2020; github.com/genbing99/STRS-Metric; Everingham et al., PASCAL VOC, IJCV 2010.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gammer_lightning.data.clips.long_video import KINDS, LongVideo
from gammer_lightning.errors import GammerError

IOU = 0.5
ANY, BOTH = "any", "both"

VideoName = tuple[str, str]
"""Subject and name of a video."""


@dataclass(frozen=True)
class Span:
    """A true or spotted interval; frames are numbered as the video's.

    Attributes:
        subject: As text.
        video: Its name.
        onset: First frame.
        offset: Last frame, ``onset <= offset``.
        kind: ``"micro"`` or ``"macro"``.
        score: How sure it is, if spotted: a higher one is surer.
        emotion: Class of the expression; may be empty.

    Raises:
        GammerError: If onset and offset are not in order, there is no such kind, or the score is not finite.
    """

    subject: str
    video: str
    onset: int
    offset: int
    kind: str = "micro"
    score: float = 1.0
    emotion: str = ""

    def __post_init__(self):
        if self.onset > self.offset or self.kind not in KINDS or not math.isfinite(self.score):
            raise GammerError(
                f"interval {self.onset} to {self.offset} of {self.video}, {self.kind}, score {self.score}",
                f"onset <= offset, a kind of {', '.join(KINDS)}, and a finite score",
                "correct it, or leave it out",
            )

    @property
    def place(self) -> VideoName:
        """Subject and name of its video."""
        return self.subject, self.video


@dataclass(frozen=True)
class Counts:
    """Hits, false alarms and misses.

    Attributes:
        hits: Spotted intervals that hit a truth.
        false_alarms: All other spotted intervals.
        misses: Truths that none hit.
    """

    hits: int = 0
    false_alarms: int = 0
    misses: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Return the pooled counts."""
        return Counts(self.hits + other.hits, self.false_alarms + other.false_alarms, self.misses + other.misses)

    @property
    def precision(self) -> float:
        """Share of the spotted intervals that hit; nan where nothing was spotted."""
        return _share(self.hits, self.hits + self.false_alarms)

    @property
    def recall(self) -> float:
        """Share of the truths that were hit; nan where there is none."""
        return _share(self.hits, self.hits + self.misses)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; nan where nothing is true and nothing was spotted."""
        return _share(2 * self.hits, 2 * self.hits + self.false_alarms + self.misses)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def truths_of(videos: Iterable[LongVideo]) -> list[Span]:
    """Return the annotated intervals of long videos."""
    truths = []
    for video in videos:
        for interval in video.intervals:
            span = Span(video.subject, video.name, interval.onset, interval.offset, interval.kind)
            truths.append(replace(span, emotion=interval.emotion))
    return truths


def iou(first: Span, second: Span) -> float:
    """Return the share of the frames of two intervals of one video that both cover, in [0, 1]."""
    common = min(first.offset, second.offset) - max(first.onset, second.onset) + 1
    if common <= 0:
        return 0.0
    lengths = (first.offset - first.onset + 1) + (second.offset - second.onset + 1)
    return common / (lengths - common)


def match(
    truths: Sequence[Span], spotted: Sequence[Span], videos: Collection[VideoName], least: float = IOU
) -> list[tuple[Span, Span | None]]:
    """Say of each spotted interval which truth it hits.

    Args:
        truths: True intervals.
        spotted: Spotted intervals.
        videos: All videos that are judged.
        least: IoU from which on a spotted interval hits.

    Returns:
        Spotted intervals by falling score (of equal scores the earlier first), each with the truth that it hits, or
        None where it is a false alarm.

    Raises:
        GammerError: If an interval lies in a video that is not judged.
    """
    check_videos([*truths, *spotted], videos)
    truths_in = defaultdict(list)
    for truth in truths:
        truths_in[truth.place].append(truth)
    hit: set[int] = set()
    matches: list[tuple[Span, Span | None]] = []
    for found in sorted(spotted, key=lambda span: (-span.score, span.place, span.onset, span.offset)):
        candidates = truths_in[found.place]
        best = max(candidates, key=lambda truth: iou(truth, found), default=None)
        if best is None or iou(best, found) < least or id(best) in hit:
            matches.append((found, None))
        else:
            hit.add(id(best))
            matches.append((found, best))
    return matches


def check_videos(spans: Iterable[Span], videos: Collection[VideoName]) -> None:
    """See that all intervals lie in videos that are judged.

    Raises:
        GammerError: If one does not.
    """
    known = set(videos)
    for span in spans:
        if span.place not in known:
            raise GammerError(
                f"an interval of video {span.video} of subject {span.subject}",
                f"intervals lie in the {len(known)} videos that are judged",
                "name all videos, also those without an expression, or correct the interval's video",
            )


def count(
    truths: Sequence[Span], spotted: Sequence[Span], videos: Collection[VideoName], least: float = IOU
) -> dict[str, Counts]:
    """Count hits, false alarms and misses over all videos.

    Args:
        truths: True intervals.
        spotted: Spotted intervals.
        videos: All videos that are judged, as subject and name; also those without an expression.
        least: IoU from which on a spotted interval hits.

    Returns:
        Counts of ``"micro"``, ``"macro"``, ``"both"`` (their sum) and ``"any"`` (whatever the kind).

    Raises:
        GammerError: If an interval lies in a video that is not judged.
    """
    counts = {}
    for kind in (*KINDS, ANY):
        kind_truths = of_kind(truths, kind)
        matches = match(kind_truths, of_kind(spotted, kind), videos, least)
        hits = sum(truth is not None for _, truth in matches)
        counts[kind] = Counts(hits, len(matches) - hits, len(kind_truths) - hits)
    counts[BOTH] = counts["micro"] + counts["macro"]
    return counts


def of_kind(spans: Iterable[Span], kind: str) -> list[Span]:
    """Return the intervals of a kind, or all for ``"any"``."""
    return [span for span in spans if kind in (ANY, span.kind)]


@dataclass(frozen=True)
class Curve:
    """Precision and recall by the score from which on a spotted interval counts; all ``(N,)``, by falling threshold.

    Attributes:
        thresholds: Each score that occurs.
        precision: Share of what counts that hits.
        recall: Share of the truths that are hit; nan where there is none.
        f1: Harmonic mean of both.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def precision_recall(
    truths: Sequence[Span],
    spotted: Sequence[Span],
    videos: Collection[VideoName],
    kind: str = ANY,
    least: float = IOU,
) -> Curve:
    """Return precision, recall and F1 at every threshold of the score.

    Args:
        truths: True intervals.
        spotted: Spotted intervals, also those with low scores.
        videos: All videos that are judged.
        kind: ``"micro"``, ``"macro"`` or ``"any"``.
        least: IoU from which on a spotted interval hits.

    Raises:
        GammerError: If an interval lies in a video that is not judged.
    """
    kind_truths = of_kind(truths, kind)
    # What a higher score took is taken at every lower threshold as well: one matching serves all of them.
    matches = match(kind_truths, of_kind(spotted, kind), videos, least)
    scores = np.array([found.score for found, _ in matches])
    hits = np.cumsum([truth is not None for _, truth in matches])
    is_last = np.diff(scores, append=-np.inf) != 0 if len(scores) else np.zeros(0, bool)
    counted = np.arange(1, len(scores) + 1)[is_last]
    hits = hits[is_last].astype(float)
    true_count = len(kind_truths)
    recall = hits / true_count if true_count else np.full(len(hits), np.nan)
    return Curve(scores[is_last], hits / counted, recall, 2 * hits / (counted + true_count))


def threshold_for_f1(
    truths: Sequence[Span], spotted: Sequence[Span], videos: Collection[VideoName], kind: str = ANY
) -> float:
    """Return the threshold of the score with the best F1, the highest of several; infinite where none finds anything.

    It is only honest for videos of other subjects than it is chosen on: `nested_thresholds`.
    """
    curve = precision_recall(truths, spotted, videos, kind)
    if not len(curve.f1) or curve.f1.max() == 0:
        return math.inf
    return float(curve.thresholds[curve.f1.argmax()])


def threshold_for_rate(scores: Iterable[float], minutes: float, rate: float = 1.0) -> float:
    """Return the lowest threshold that so many false alarms a minute do not exceed.

    Args:
        scores: Of what was spotted where nothing happens.
        minutes: Length of what was looked at, above 0.
        rate: False alarms a minute, 0 or more.

    Returns:
        A score; intervals count from it on. It lies just above the score of the first one too many.

    Raises:
        GammerError: If minutes or rate are out of range.
    """
    if not minutes > 0 or not rate >= 0:
        raise GammerError(
            f"{minutes:g} minutes, {rate:g} false alarms a minute",
            "a length above 0 and a rate of 0 or more",
            "give videos in which nothing happens",
        )
    falling = sorted(scores, reverse=True)
    allowed = math.floor(rate * minutes)
    return math.nextafter(falling[allowed], math.inf) if allowed < len(falling) else -math.inf


def nested_thresholds(
    truths: Sequence[Span], spotted: Sequence[Span], videos: Collection[VideoName], kind: str = ANY
) -> dict[str, float]:
    """Return for each subject the threshold with the best F1 on all other subjects.

    Raises:
        GammerError: If there is only one subject.
    """
    subjects = sorted({subject for subject, _ in videos})
    if len(subjects) < 2:
        raise GammerError(
            f"{len(subjects)} subject(s)",
            "a subject's threshold is chosen on others, so there are two or more",
            "give a threshold: --threshold",
        )
    thresholds = {}
    for left_out in subjects:
        other_truths = [span for span in truths if span.subject != left_out]
        other_spotted = [span for span in spotted if span.subject != left_out]
        other_videos = [place for place in videos if place[0] != left_out]
        thresholds[left_out] = threshold_for_f1(other_truths, other_spotted, other_videos, kind)
    return thresholds


def above(spotted: Iterable[Span], thresholds: Mapping[str, float]) -> list[Span]:
    """Return the spotted intervals whose score reaches their subject's threshold."""
    return [span for span in spotted if span.score >= thresholds[span.subject]]


def strs(
    truths: Sequence[Span], spotted: Sequence[Span], videos: Collection[VideoName], least: float = IOU
) -> dict[str, float]:
    """Score spotting and recognition together.

    Args:
        truths: True intervals with their emotions.
        spotted: Spotted intervals with predicted emotions.
        videos: All videos that are judged.
        least: IoU from which on a spotted interval hits.

    Returns:
        ``spotting_f1`` whatever the kind; of the hits ``analysis_f1``, MEGC's 2PR/(P + R) of the mean precision P and
        the mean recall R of the emotions that are true or predicted there, and ``analysis_uf1``, the mean of their F1;
        and ``strs``, spotting_f1 times analysis_f1. Without a hit all are 0.

    Raises:
        GammerError: If an interval lies in a video that is not judged.

    Source: github.com/genbing99/STRS-Metric, without its faults, which this module's text lists.
    """
    counts = count(truths, spotted, videos, least)[ANY]
    pairs = []
    for found, truth in match(truths, spotted, videos, least):
        if truth is not None:
            pairs.append((truth.emotion, found.emotion))
    if not pairs:
        return {"spotting_f1": 0.0, "analysis_f1": 0.0, "analysis_uf1": 0.0, "strs": 0.0}
    per_class = []
    for emotion in sorted({name for pair in pairs for name in pair}):
        right = sum(pair == (emotion, emotion) for pair in pairs)
        true_count = sum(truth == emotion for truth, _ in pairs)
        predicted = sum(guess == emotion for _, guess in pairs)
        per_class.append((right / max(predicted, 1), right / max(true_count, 1), 2 * right / (true_count + predicted)))
    precision, recall, uf1 = np.mean(per_class, 0).tolist()
    analysis = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {
        "spotting_f1": counts.f1,
        "analysis_f1": analysis,
        "analysis_uf1": uf1,
        "strs": counts.f1 * analysis,
    }
