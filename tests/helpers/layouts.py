"""Small copies of the data sets' layouts, with their quirks, and workbooks with the published numbers of rows."""

from collections.abc import Iterable
from pathlib import Path

from openpyxl import Workbook

CASME2_HEADER = (
    "Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame", None, "Action Units", "Estimated Emotion",
)  # fmt: skip
SAMM_HEADER = (
    "Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame", "Offset Frame", "Duration", "Micro",
    "Action Units", "Estimated Emotion", "Objective Classes", "Notes",
)  # fmt: skip
CASME2_COUNTS = dict(others=99, disgust=63, happiness=32, repression=27, surprise=25, sadness=7, fear=2)
SAMM_COUNTS = dict(
    Anger=57, Happiness=26, Other=26, Surprise=15, Contempt=12, Disgust=9, Fear=8, Sadness=6
)  # fmt: skip
CASME2_OBJECTIVE = {1: 25, 2: 15, 3: 99, 4: 26, 5: 20, 6: 1, 7: 69}
SAMM_OBJECTIVE = {1: 24, 2: 13, 3: 20, 4: 8, 5: 3}
SMIC_COUNTS = dict(negative=70, positive=51, surprise=43)


def frames(folder: Path, names: Iterable[str]) -> None:
    """Write empty files in place of frames: readers look at names only."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()


def write_book(path: Path, rows: Iterable[Iterable], title: str = "Sheet1", blank: int = 0) -> None:
    """Write a workbook of one sheet, ``blank`` rows first."""
    book = Workbook()
    sheet = book.active
    sheet.title = title
    for index, row in enumerate(rows):
        for column, value in enumerate(row, 1):
            sheet.cell(1 + blank + index, column, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def casme2(root: Path, clips: Iterable[tuple], tree: str = "Cropped") -> None:
    """Write clips of (subject, name, onset, apex, offset, units, emotion[, objective class]); frames are not padded."""
    rows, classes = [CASME2_HEADER], [("Subject", "Filename", "Objective Class")]
    for subject, name, onset, apex, offset, units, emotion, *objective in clips:
        classes += [(int(subject), name, *objective)] * bool(objective)
        rows.append((subject, name, None, onset, apex, offset, None, units, emotion))
        prefix = "reg_img" if tree == "Cropped" else "img"
        numbers = {onset, offset, *([apex] if isinstance(apex, int) else []), onset + 1}
        frames(root / tree / f"sub{int(subject):02d}" / name, (f"{prefix}{n}.jpg" for n in numbers))
    write_book(root / "CASME2-coding-20140508.xlsx", rows)
    if len(classes) > 1:
        write_book(root / "CASME2-ObjectiveClasses.xlsx", classes)


def samm(root: Path, clips: Iterable[tuple], digits: int = 5, tree: str = "SAMM") -> None:
    """Write clips as `casme2` takes them, of objective class 3 if none is given, below thirteen rows of explanation."""
    rows = [("Explanation",)] * 13 + [SAMM_HEADER]
    for subject, name, onset, apex, offset, units, emotion, *objective in clips:
        row = (subject, name, 1, onset, apex, offset, "", "Micro - 1/2", units, emotion, *(objective or [3]), None)
        rows.append(row)
        keys = {number for number in (onset, apex, offset) if isinstance(number, int)}
        numbers = range(onset, onset + 3) if tree == "" else sorted(keys | {5739, 1105, 4945, 5130})
        frames(root / tree / f"{int(subject):03d}" / name, (f"{subject}_{n:0{digits}d}.jpg" for n in numbers))
    write_book(root / "SAMM_Micro_FACS_Codes_v2.xlsx", rows, "MICRO_ONLY")


def smic(root: Path, clips: Iterable[tuple], tree: str = "HS", padded: bool = True, digits: int = 6) -> None:
    """Write clips of (subject, emotion, number), each of three frames."""
    for subject, emotion, number in clips:
        s = f"s{subject:02d}" if padded else f"s{subject}"
        name = f"{s}_{emotion[:2]}_{number:02d}" if padded else f"{s}_{emotion[:2]}_{number}"
        folder = root / tree / s
        prefix = "reg_image" if "cropped" in tree else "image"
        frames(folder / "micro" / emotion / name, (f"{prefix}{n:0{digits}d}.bmp" for n in (8, 9, 10)))
        if number == 1:
            frames(folder / "non_micro" / f"{name}_non", [f"{prefix}{1:0{digits}d}.bmp"])


def published_casme2() -> list[tuple]:
    """Return as many clips for each class and subject as the table of 2014 has; the two without an apex too."""
    emotions = [emotion for emotion, count in CASME2_COUNTS.items() for _ in range(count)]
    # subjects without a clip of the three classes, so that 24 of the 26 are left, as published
    rest = [i for i, emotion in enumerate(emotions) if emotion == "others"]
    clips = []
    for index, emotion in enumerate(emotions):
        subject = (25, 26)[index % 2] if index in rest[:10] else index % 24 + 1
        clips.append([f"{subject:02d}", f"EP{index:03d}_01", 10, 12, 20, "4+L10", emotion])
    for subject, name, apex in (("04", "EP12_01f", "/"), ("05", "EP09_05f", 10)):
        index = next(i for i, clip in enumerate(clips) if clip[0] == subject and clip[6] == "disgust")
        clips[index][1], clips[index][3] = name, apex
    classes = [number for number, count in CASME2_OBJECTIVE.items() for _ in range(count)]
    return [(*clip, number) for clip, number in zip(clips, classes, strict=True)]


def published_samm() -> list[tuple]:
    """Return as many clips for each emotion as the table has, of 29 subjects."""
    emotions = [emotion for emotion, count in SAMM_COUNTS.items() for _ in range(count)]
    clips = []
    for index, emotion in enumerate(emotions):
        subject = _samm_subject(index, emotion)
        clips.append((f"{subject:03d}", f"{subject:03d}_{index}_1", 100, 105, 110, "4+7", emotion))
    classes = iter([number for number, count in SAMM_OBJECTIVE.items() for _ in range(count)])
    return [(*clip, next(classes, 7) if int(clip[0]) < 22 else 7) for clip in clips]  # of 21 subjects


def _samm_subject(index: int, emotion: str) -> int:
    if emotion == "Other" and index % 2:
        return 29  # a subject of one class that the three classes leave out
    if emotion in ("Disgust", "Fear", "Sadness") and index % 3 == 0:
        return 28 - index % 2  # subjects that the five classes leave out
    return index % 26 + 1


def published_smic() -> list[tuple]:
    """Return as many clips for each emotion as the data set has, of 16 subjects."""
    emotions = [emotion for emotion, count in SMIC_COUNTS.items() for _ in range(count)]
    return [(index % 16 + 1, emotion, index // 16 + 1) for index, emotion in enumerate(emotions)]
