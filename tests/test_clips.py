"""CASME II's layout and workbook: what is read, and what is refused."""

import shutil

import pytest
from casme2_sample import portrait, save, write_sample, write_workbook

from gammer_lightning.data.clips.casme2 import read_casme2
from gammer_lightning.errors import GammerError


@pytest.fixture
def sample(tmp_path):
    """A data set's root and the rows of its workbook."""
    return tmp_path, write_sample(tmp_path)


def test_clips_come_in_workbook_order_with_frames_in_numeric_order(sample):
    root, _ = sample
    clips = read_casme2(root, "tiny")
    assert [clip.key for clip in clips] == [
        f"tiny/{subject}/{name}" for subject in ("01", "02") for name in ("EP01_01", "EP02_01")
    ]
    first = clips[0]
    assert first.numbers == (9, 10, 11)
    assert [path.name for path in first.frames] == ["reg_img9.jpg", "reg_img10.jpg", "reg_img11.jpg"]
    assert (first.onset, first.apex, first.offset, first.action_units) == (9, 10, 11, "12")
    assert first.frame(10).name == "reg_img10.jpg"


def test_columns_are_found_by_name_and_subjects_may_be_numbers(sample):
    root, rows = sample
    renamed = [{"Unnamed": "", **dict(reversed(row.items())), "Subject": int(row["Subject"])} for row in rows]
    write_workbook(root, renamed)
    assert [clip.subject for clip in read_casme2(root)] == ["01", "01", "02", "02"]


def test_raw_frames_serve_where_no_cropped_ones_are(sample):
    root, _ = sample
    (root / "Cropped").rename(root / "CASME2_RAW_selected")
    assert "CASME2_RAW_selected" in str(read_casme2(root)[0].frames[0])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("ApexFrame", 12, "apex 12 lies outside onset 9 .. offset 11"),
        ("ApexFrame", "?", r"apex of sub01/EP01_01 is '\?' \(row 2"),
        ("OnsetFrame", "", "onset of sub01/EP01_01 is ''"),
        ("ApexFrame", "10.5", "'10.5'"),
        ("OnsetFrame", 8, "has no frame 8, only 9 to 11"),
        ("Filename", "EP09_09", "no clip folder"),
    ],
)
def test_bad_rows_are_refused(sample, column, value, message):
    root, rows = sample
    rows[0][column] = value
    write_workbook(root, rows)
    with pytest.raises(GammerError, match=message):
        read_casme2(root)


def test_clip_with_one_frame_is_refused(sample):
    root, _ = sample
    folder = root / "Cropped/sub01/EP01_01"
    shutil.rmtree(folder)
    save(portrait(), folder / "reg_img9.jpg")
    with pytest.raises(GammerError, match=r"holds 1 frame"):
        read_casme2(root)


def test_missing_and_empty_folders_are_refused(tmp_path):
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(GammerError, match="gammer data synthesize"):
            read_casme2(root)


def test_workbook_must_be_there_once_whole_and_with_its_columns(sample):
    root, rows = sample
    book = root / "CASME2-coding-sample.xlsx"
    write_workbook(root, [{key: row[key] for key in row if key != "ApexFrame"} for row in rows])
    with pytest.raises(GammerError, match="has no ApexFrame"):
        read_casme2(root)
    book.write_bytes(book.read_bytes()[:100])
    with pytest.raises(GammerError, match="cannot be read"):
        read_casme2(root)
    book.rename(root / "CASME2-coding-a.xlsx")
    shutil.copy(root / "CASME2-coding-a.xlsx", root / "CASME2-coding-b.xlsx")
    with pytest.raises(GammerError, match="2 coding workbooks"):
        read_casme2(root)
    for path in root.glob("*.xlsx"):
        path.unlink()
    with pytest.raises(GammerError, match="0 coding workbooks"):
        read_casme2(root)
