"""Readers of CAS(ME)2 and SAMM Long Videos on small made copies of their layouts."""

import numpy as np
import pytest
from openpyxl import Workbook
from PIL import Image

from gammer_lightning.data.clips.casme_squared import read_casme_squared
from gammer_lightning.data.clips.long_datasets import read_long_videos
from gammer_lightning.data.clips.long_video import Interval, LongVideo, ordered
from gammer_lightning.data.clips.samm_long import read_samm_long
from gammer_lightning.errors import GammerError

CASME_ROWS = [
    (1, "disgustingteeth_1", 5, 8, 12, "4", "Negative", "micro-expression", "disgust"),
    (1, "disgustingteeth_2", 20, 25, 0, "4+9", "negative", "macro-expression", "disgust"),
    (2, "happymonkey_1", 2, 9, 30, "12", "positive", "macro-expression", "happiness"),
    (1, "disgustingteeth_3", 10, 11, 14, "4", "negative", "micro-expression", "disgust"),
]
SAMM_HEADER = ["Subject", "Filename", "Inducement Code", "Onset", "Apex", "Offset", "Duration", "Type", "Action Units"]
SAMM_ROWS = [
    (6, "006_1_1", 1, 5, 9, 20, 16, "Macro", "12"),
    (6, "006_1_2", 1, 25, 27, 30, 6, "Micro - 1/2", "4"),
    (7, "007_3_1", 3, 0, 4, 9, 10, "Macro", "1"),
]


def write_frames(folder, names):
    folder.mkdir(parents=True)
    for name in names:
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / name)


def save_book(path, *sheets):
    book = Workbook()
    book.remove(book.active)
    for rows in sheets:
        sheet = book.create_sheet()
        for row in rows:
            sheet.append(row)
    book.save(path)


@pytest.fixture
def casme(tmp_path):
    """A copy of CAS(ME)2's layout; the returned function writes its workbook."""
    for place in ("s15/15_0101disgustingteeth", "s15/15_0505funnyinnovations", "s16/16_0502happymonkey"):
        write_frames(tmp_path / "rawpic" / place, [f"img{number}.jpg" for number in range(1, 41)])

    def write(rows=CASME_ROWS):
        subjects = [(1, 15, 1), (2, 16, 2)]
        titles = [("0101", "disgustingteeth"), (502, "happymonkey"), ("0505", "funnyinnovations")]
        save_book(tmp_path / "CAS(ME)^2code_final(Updated).xlsx", rows, subjects, titles)
        return tmp_path

    return write


@pytest.fixture
def samm(tmp_path):
    """A copy of the layout of SAMM Long Videos; the returned function writes its workbook."""
    for name in ("006_1", "006_2", "007_3"):
        frames = [f"{name}_{number:04d}.jpg" for number in range(1, 41)]
        write_frames(tmp_path / "SAMM_longvideos" / name, frames)

    def write(rows=SAMM_ROWS):
        above = [("SAMM Long Videos",)] + [(None,)] * 8
        save_book(tmp_path / "SAMM_LongVideos_V3_Release.xlsx", [*above, SAMM_HEADER, *rows])
        return tmp_path

    return write


def test_casme_squared_is_read_with_videos_that_show_nothing(casme):
    videos = {video.name: video for video in read_casme_squared(casme())}
    assert list(videos) == ["15_0101disgustingteeth", "15_0505funnyinnovations", "16_0502happymonkey"]
    teeth = videos["15_0101disgustingteeth"]
    assert teeth.intervals == (
        Interval(5, 8, 12, "micro", "4", "negative"),
        Interval(10, 11, 14, "micro", "4", "negative"),
        Interval(20, 25, 25, "macro", "4+9", "negative"),
    )
    assert teeth.key == "casme_squared/15/15_0101disgustingteeth"
    assert teeth.fps == 30 and teeth.numbers == range(1, 41) and teeth.seconds == pytest.approx(40 / 30)
    assert "row 2: the offset is 0, and the apex 25 is taken for it" in teeth.notes
    assert "micro 10 to 14 overlaps micro 5 to 12; both count" in teeth.notes
    assert videos["15_0505funnyinnovations"].intervals == ()
    assert videos["16_0502happymonkey"].intervals[0].length == 29


def test_samm_long_is_read(samm):
    videos = {video.name: video for video in read_samm_long(samm())}
    assert videos["006_1"].intervals == (Interval(5, 9, 20, "macro", "12"), Interval(25, 27, 30, "micro", "4"))
    assert videos["006_1"].fps == 200 and videos["006_1"].subject == "006"
    assert videos["006_2"].intervals == ()
    assert videos["007_3"].intervals == ()
    assert videos["007_3"].notes == ("row 13: the onset is 0, and the expression is left out",)


def with_cell(rows, row, column, value):
    changed = [list(fields) for fields in rows]
    changed[row][column] = value
    return changed


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (0, 2, "five", "onset in row 1 of sheet Sheet of the coding workbook is 'five'"),
        (0, 2, 41, "onset in row 1"),
        (0, 3, 13, "apex in row 1"),
        (0, 4, 3, "offset in row 1"),
        (1, 2, -20, "onset in row 2"),
        (2, 0, 9, "subject in row 3"),
        (2, 1, "sadcat_1", "video in row 3"),
        (0, 1, "happymonkey_1", "video in row 1"),
        (2, 7, "mini", "type in row 3"),
        (2, 4, 10**12, "offset in row 3"),
    ],
)
def test_wrong_rows_of_casme_squared_are_named_by_row_and_column(casme, row, column, value, message):
    root = casme(with_cell(CASME_ROWS, row, column, value))
    with pytest.raises(GammerError, match=message):
        read_casme_squared(root)
    problems: list[GammerError] = []
    videos = read_casme_squared(root, problems=problems)
    assert len(problems) == 1 and message in problems[0].what
    assert sum(len(video.intervals) for video in videos) == len(CASME_ROWS) - 1


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [(0, 3, "x", "onset in row 11"), (1, 7, "Mirco", "type in row 12"), (1, 1, "009_1_1", "video in row 12")],
)
def test_wrong_rows_of_samm_long_are_named_by_row_and_column(samm, row, column, value, message):
    root = samm(with_cell(SAMM_ROWS, row, column, value))
    with pytest.raises(GammerError, match=message):
        read_samm_long(root)
    problems: list[GammerError] = []
    assert len(read_samm_long(root, problems=problems)) == 3
    assert [message in problem.what for problem in problems] == [True]


def test_a_layout_tells_its_data_set(casme, samm, tmp_path):
    root = casme()
    (tmp_path / "SAMM_longvideos").rename(tmp_path / "elsewhere")
    assert {video.dataset for video in read_long_videos(root)} == {"casme_squared"}
    (root / "microfaces-long.json").write_text('{"fps": 60}')
    assert {(video.dataset, video.fps) for video in read_long_videos(root)} == {("microfaces-long", 60)}


def test_samm_is_told_by_its_layout(samm):
    root = samm()
    assert {video.dataset for video in read_long_videos(root)} == {"samm_long"}


def test_an_empty_data_set_says_what_is_expected(tmp_path):
    for read in (read_casme_squared, read_samm_long, read_long_videos):
        with pytest.raises(GammerError, match="holds nothing"):
            read(tmp_path)
    (tmp_path / "rawpic" / "s15" / "15_0101x").mkdir(parents=True)
    save_book(tmp_path / "code_final.xlsx", [], [], [])
    with pytest.raises(GammerError, match="has no rows"):
        read_casme_squared(tmp_path)


def test_a_workbook_without_its_sheets_or_header_is_named(casme, samm, tmp_path):
    root = casme()
    save_book(root / "CAS(ME)^2code_final(Updated).xlsx", CASME_ROWS)
    with pytest.raises(GammerError, match=r"has 1 sheet\(s\)"):
        read_casme_squared(root)
    save_book(root / "SAMM_LongVideos_V3_Release.xlsx", SAMM_ROWS)
    with pytest.raises(GammerError, match="no header row"):
        read_samm_long(root)
    (root / "SAMM_LongVideos_V3_Release.xlsx").write_bytes(b"no workbook")
    with pytest.raises(GammerError, match="cannot be read"):
        read_samm_long(root)


def test_missing_frames_are_known(casme):
    root = casme()
    (root / "rawpic/s16/16_0502happymonkey/img7.jpg").unlink()
    numbers = read_casme_squared(root)[-1].numbers
    assert len(numbers) == 39 and 7 not in numbers


def test_what_stands_twice_counts_once():
    twice = [Interval(3, None, 9, "macro"), Interval(3, 4, 9, "macro"), Interval(3, 4, 9, "micro")]
    kept, notes = ordered(twice)
    assert [interval.kind for interval in kept] == ["macro", "micro"]
    assert any("annotated twice" in note for note in notes)


def test_records_are_checked(tmp_path):
    with pytest.raises(GammerError):
        Interval(5, 4, 9, "micro")
    with pytest.raises(GammerError):
        Interval(5, 6, 9, "tiny")
    with pytest.raises(GammerError):
        LongVideo("casme_squared", "../15", "x", tmp_path, range(1, 3), 30)
