"""``gammer data check``: whether a data set on disk is whole, and what in it would change a result."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from gammer_lightning.data.clips.action_units import objective_class, remarks, unit_faults
from gammer_lightning.data.clips.class_sets import canonical, class_set_sizes, clips_without_class
from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.data.clips.datasets import dataset_of, frame_note
from gammer_lightning.data.resumable import process_map
from gammer_lightning.errors import GammerError
from gammer_lightning.faces.alignment import find_face
from gammer_lightning.files import check_writable, content_hash, is_junk, read_image, replacing, write_json

SHOWN = 10  # lines of one kind on the terminal; the JSON has all
THUMBNAIL = 240  # px


@dataclass(frozen=True)
class Findings:
    """What is wrong with one clip's frames.

    Attributes:
        key: The clip.
        unreadable: Frames that are no whole images.
        face: Why its onset shows no usable face, or empty.
        assumed: Whether no face was detected in its tight crop.
        pixels: Hash of its onset, apex and last frame, equal for duplicates.
        dropped: How many frames between onset and offset are missing.
        sizes: Sizes of its frames, ``WxH``; more than one is a mistake.
    """

    key: str
    unreadable: tuple[str, ...]
    face: str
    assumed: bool
    pixels: str
    dropped: int
    sizes: tuple[str, ...]


@dataclass
class CheckReport:
    """What a check found.

    Attributes:
        dataset: Name of the data set.
        root: Its folder.
        clips: Clips that can be used.
        subjects: Clips of each subject by annotated emotion.
        emotions: Clips of each annotated emotion.
        class_sets: Clips and subjects that each class set keeps.
        problems: What would change a result, by kind.
        notes: What is worth knowing, by kind.
    """

    dataset: str
    root: str
    clips: int
    subjects: dict[str, Counter[str]]
    emotions: Counter[str]
    class_sets: dict[str, tuple[int, int]]
    problems: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)


def check(name: str, root: Path, pictures: Path | None = None, workers: int = 0) -> CheckReport:
    """Read a data set and every frame between onset and offset, one clip at a time in each process.

    Args:
        name: A data set, as in `dataset_of`.
        root: Its folder.
        pictures: Where pictures of onsets without a usable face go; None draws none.
        workers: Processes; 0 or 1 works in this one.

    Raises:
        GammerError: If the data set as a whole cannot be read.
    """
    errors: list[GammerError] = []
    clips = dataset_of(name).read(root, problems=errors)
    if pictures:
        check_writable(pictures.parent)
    with process_map(workers, partial(cv2.setNumThreads, 1)) as run:
        findings = list(tqdm(run(examine, clips), "check", len(clips), unit="clip"))
    subjects: dict[str, Counter[str]] = {clip.subject: Counter() for clip in clips}
    for clip in clips:
        subjects[clip.subject][canonical(clip.emotion)] += 1
    emotions: Counter[str] = sum(subjects.values(), Counter())
    report = CheckReport(name, str(root), len(clips), subjects, emotions, class_set_sizes(clips, name))
    unreadable_units, unreadable_learned_units, unit_words, derived_classes = _unit_findings(name, clips)
    report.problems = {
        "clips that cannot be used": [error.what for error in errors],
        "action units that cannot be read, needed for class set objective": unreadable_units,
        "other numbers than expected": _unexpected(report),
        "unreadable frames": [f"{f.key}: {', '.join(f.unreadable)}" for f in findings if f.unreadable],
        "frames of several sizes": [f"{f.key}: {', '.join(f.sizes)}" for f in findings if len(f.sizes) > 1],
        "no usable face": [f.face for f in findings if f.face],
        "duplicate clips": _duplicates(findings),
    }
    report.notes = {
        "annotations corrected or left out": list(chain.from_iterable(clip.notes for clip in clips)),
        "action units that cannot be read, needed by networks that learn them": unreadable_learned_units,
        "words among action units, which do not count": unit_words,
        "objective classes derived from action units, since none is published with the data": derived_classes,
        "folders without a row": _without_row(clips),
        "frames dropped between onset and offset": [f"{f.key}: {f.dropped}" for f in findings if f.dropped],
        "frames of more than 8 bits": [note for note in map(frame_note, clips) if note],
        "faces assumed in tight crops": [f.key for f in findings if f.assumed],
    }
    if pictures and report.problems["no usable face"]:
        _draw_onsets([clip for clip, f in zip(clips, findings, strict=True) if f.face], pictures)
    return report


def _unit_findings(name: str, clips: Sequence[Clip]) -> tuple[list[str], list[str], list[str], list[str]]:
    """Return what there is to say about the action units of a data set, a line for each clip.

    Returns:
        Units that cannot be read and are needed for an objective class; those that cannot be read and are not;
        words among units; objective classes that are derived from units.
    """
    faults = unit_faults(clips)
    unreadable: list[str] = []
    unreadable_learned: list[str] = []
    words: list[str] = []
    derived: list[str] = []
    for clip in clips:
        if clip.key in faults:
            lines = unreadable_learned if clip.objective_class else unreadable
            lines.append(f"{clip.key}: {faults[clip.key]}")
        elif remarks(clip.action_units):
            words.append(f"{clip.key}: {', '.join(remarks(clip.action_units))} in {clip.action_units!r}")
    if "objective" in dataset_of(name).class_sets:
        for clip in clips_without_class(clips):
            if clip.key not in faults:
                derived.append(f"{clip.key}: {clip.action_units} is {objective_class(clip.action_units)}")
    return unreadable, unreadable_learned, words, derived


def examine(clip: Clip) -> Findings:
    """Look at the frames of one clip, from its onset to its offset."""
    numbers = [number for number in clip.numbers if clip.onset <= number <= clip.offset]
    unreadable: list[str] = []
    sizes: set[str] = set()
    images: dict[int, np.ndarray] = {}
    for number in numbers:
        try:
            image = read_image(clip.frame(number))
        except GammerError:
            unreadable.append(clip.frame(number).name)
            continue
        sizes.add(f"{image.shape[1]}x{image.shape[0]}")
        if number in (clip.onset, clip.apex, numbers[-1]):
            images[number] = image
    face, assumed = _face(clip, images.get(clip.onset))
    return Findings(
        key=clip.key,
        unreadable=tuple(unreadable),
        face=face,
        assumed=assumed,
        pixels=content_hash(*images.values()),
        dropped=clip.offset - clip.onset + 1 - len(numbers),
        sizes=tuple(sorted(sizes)),
    )


def _face(clip: Clip, onset: np.ndarray | None) -> tuple[str, bool]:
    """Return why there is no usable face, or an empty text; and whether it is assumed, not detected."""
    if onset is None:
        return "", False
    try:
        return "", not find_face(onset, clip.key, clip.cropped).detected
    except GammerError as error:
        return error.what, False


def _unexpected(report: CheckReport) -> list[str]:
    lines = []
    for title, count, expected_count in _counts(report):
        if expected_count not in (count, ""):
            lines.append(f"{title}: {count}, {expected_count} expected")
    return lines


def _counts(report: CheckReport) -> list[tuple[str, str, str]]:
    """Return what is counted, its count, and the count that is expected, empty where any will do."""
    expected = dataset_of(report.dataset)
    emotions = {**report.emotions, **expected.emotions} if expected.emotions else report.emotions
    rows: list[tuple[str, int, int | str]]
    rows = [(name, report.emotions.get(name, 0), expected.emotions.get(name, 0)) for name in sorted(emotions)]
    rows += [("all clips", report.clips, sum(expected.emotions.values()))]
    rows += [("subjects", len(report.subjects), expected.subjects)]
    for name in {**report.class_sets, **expected.class_sets}:
        clips, subjects = report.class_sets.get(name, (0, 0))
        expected_clips, expected_subjects = expected.class_sets.get(name, ("", ""))
        rows += [(f"class set {name}, clips", clips, expected_clips)]
        rows += [(f"class set {name}, subjects", subjects, expected_subjects)]
    if not expected.emotions:
        return [(title, str(count), "") for title, count, _ in rows]
    return [(title, str(count), str(expected_count)) for title, count, expected_count in rows]


def _duplicates(findings: Sequence[Findings]) -> list[str]:
    """Return the keys of clips with the same pixels, a line for each such group."""
    groups: dict[str, list[str]] = {}
    for finding in findings:
        groups.setdefault(finding.pixels, []).append(finding.key)
    groups.pop(content_hash(), None)  # of clips without a readable frame
    return [" = ".join(keys) for keys in groups.values() if len(keys) > 1]


def _without_row(clips: Sequence[Clip]) -> list[str]:
    """Return folders beside those of the clips that no clip is read from."""
    clip_folders = {clip.frames[0].parent for clip in clips}
    unused: list[str] = []
    for parent in {folder.parent for folder in clip_folders}:
        for folder in parent.iterdir():
            if folder.is_dir() and not is_junk(folder.name) and folder not in clip_folders:
                unused.append(str(folder))
    return sorted(unused)


def _draw_onsets(clips: Sequence[Clip], path: Path) -> None:
    """Draw a contact sheet of onsets, each with its clip's name."""
    columns = min(6, len(clips))
    rows = math.ceil(len(clips) / columns)
    cell_height = THUMBNAIL + 16
    sheet = Image.new("RGB", (columns * THUMBNAIL, rows * cell_height), "white")
    for index, clip in enumerate(clips):
        row, column = divmod(index, columns)
        left = column * THUMBNAIL
        top = row * cell_height
        image = Image.fromarray(read_image(clip.frame(clip.onset)))
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        sheet.paste(image, (left, top))
        ImageDraw.Draw(sheet).text((left + 2, top + THUMBNAIL), clip.key, "black")
    with replacing(path) as temporary:
        sheet.save(temporary)


def write_report(report: CheckReport, path: Path) -> None:
    """Write all of a report as JSON."""
    write_json(path, vars(report))


def report_text(report: CheckReport) -> str:
    """Return a report for the terminal, the first few lines of each kind."""
    rows = [("", "found", "expected"), ("---", "---", "---"), *_counts(report)]
    lines = [f"{dataset_of(report.dataset).title} in {report.root}", ""]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += [""]
    for title, kinds in (("PROBLEM", report.problems), ("note", report.notes)):
        for kind, findings in kinds.items():
            if not findings:
                continue
            lines.append(f"{title}: {kind} ({len(findings)})")
            lines += [f"    {finding}" for finding in findings[:SHOWN]]
            if len(findings) > SHOWN:
                lines.append(f"    and {len(findings) - SHOWN} more")
    return "\n".join(lines)


def failed(report: CheckReport) -> bool:
    """Whether something was found that would change a result."""
    return any(report.problems.values())
