"""Annotation tables as they really are, and as an attacker would write them: names, numbers, classes, action units."""

import json
import os
import re
import time
import zipfile
from pathlib import Path

import layouts
import pytest
from casme2_sample import write_sample, write_workbook
from openpyxl import load_workbook

from gammer_lightning import cli
from gammer_lightning.data.clips.action_units import ActionUnit, parse_action_units, unit_matrix
from gammer_lightning.data.clips.casme2 import read_casme2
from gammer_lightning.data.clips.class_sets import class_labels, class_set_notes
from gammer_lightning.data.clips.clip import Clip, list_frames
from gammer_lightning.data.clips.samm import read_samm
from gammer_lightning.data.clips.smic import read_smic
from gammer_lightning.errors import GammerError

HAPPY = ("01", "EP02_01f", 46, 59, 86, "12", "happiness")
ANGRY = ("02", "EP01_11f", 46, 59, 86, "4+7", "disgust")
CASME2_BOOK, SAMM_BOOK = "CASME2-coding-20140508.xlsx", "SAMM_Micro_FACS_Codes_v2.xlsx"
SHEET = "xl/worksheets/sheet1.xml"


def check(root, dataset, capsys):
    """Run the command; return its exit code, its report and what it printed."""
    code = cli.main(
        ["data", "check", dataset, "--root", str(root), "--workers", "1", "--out", str(root.parent / "out")]
    )
    record = root.parent / "out" / f"{dataset}.json"
    printed = capsys.readouterr()
    return code, json.loads(record.read_text()) if record.exists() else {}, printed.out + printed.err


# Names are one path component.


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("Filename", "../../../elsewhere/EP01_01"),
        ("Filename", "{root}/elsewhere/EP01_01"),
        ("Filename", ".."),
        ("Filename", "..\\EP01_01"),
        ("Subject", "01/../../../elsewhere"),
        ("Subject", "../01"),
    ],
)
def test_names_that_leave_the_folder_are_refused_by_row(tmp_path, column, value, capsys):
    rows = write_sample(tmp_path / "set")
    write_sample(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/Cropped/sub01/EP01_01").rename(tmp_path / "elsewhere/EP01_01")
    rows[1][column] = value.format(root=tmp_path)
    write_workbook(tmp_path / "set", rows)
    arguments = ["--root", str(tmp_path / "set"), "--cache", str(tmp_path / "cache"), "--magnifier", "eulerian"]
    assert cli.main(["premagnify", *arguments]) == 2
    assert re.search(
        rf"error: {column} in row 3 of the coding workbook is .*\n.*one path component", capsys.readouterr().err
    )
    assert not (tmp_path / "cache").exists()
    code, report, _ = check(tmp_path / "set", "microfaces", capsys)
    assert code == 1 and report["clips"] == 3
    assert f"{column} in row 3" in report["problems"]["clips that cannot be used"][0]


def test_samm_and_clips_themselves_refuse_such_names(tmp_path):
    layouts.samm(tmp_path, [("006", "006_1_2", 10, 12, 14, "4", "Anger")])
    book = load_workbook(tmp_path / SAMM_BOOK)
    book.active["B15"] = "../006/006_1_2"
    book.save(tmp_path / SAMM_BOOK)
    with pytest.raises(GammerError, match="Filename in row 15"):
        read_samm(tmp_path)
    for names in (("casme2", "01", "../x"), ("casme2", "/tmp", "x"), ("a/b", "01", "x"), ("casme2", "", "x")):
        with pytest.raises(GammerError, match="one path component"):
            Clip(*names, (tmp_path,), (1,), 1, None, 1, "", "fear")


# Objective classes are read where they are published.


def test_published_objective_classes_are_read_and_derived_ones_only_where_they_are_missing(tmp_path, capsys):
    layouts.casme2(
        tmp_path / "casme2",
        [
            ("01", "EP01_01", 46, 59, 86, "4+L10", "disgust", 4),
            ("02", "EP01_01", 46, 59, 86, "12", "happiness", 7),
            ("03", "EP01_01", 46, 59, 86, "4", "disgust", "II"),
            ("04", "EP01_01", 46, 59, 86, "4", "disgust"),
        ],
    )
    clips = read_casme2(tmp_path / "casme2")
    assert [clip.objective_class for clip in clips] == ["IV", "VII", "II", ""]
    classes, labels, names = class_labels(clips, "objective")
    assert [(clip.subject, names[label]) for clip, label in zip(classes, labels, strict=True)] == [
        ("01", "IV"), ("03", "II"), ("04", "III"),
    ]  # fmt: skip
    assert class_set_notes(clips, "objective") == [
        "casme2: of 4 objective classes, 1 are not published with the data but derived from action units"
    ]
    assert class_set_notes(clips, "five") == []
    _, report, printed = check(tmp_path / "casme2", "casme2", capsys)
    kind = "objective classes derived from action units, since none is published with the data"
    assert report["notes"][kind] == ["casme2/04/EP01_01: 4 is III"] and f"note: {kind} (1)" in printed
    assert "class set objective, clips: 3, 185 expected" in report["problems"]["other numbers than expected"]


def test_a_column_of_the_coding_workbook_counts_too(tmp_path):
    rows = write_sample(tmp_path)
    write_workbook(tmp_path, [row | {"Objective Class": 2} for row in rows])
    assert [clip.objective_class for clip in read_casme2(tmp_path)] == ["II"] * 4


@pytest.mark.parametrize("value", [0, 8, "2.5", "six"])
def test_an_objective_class_that_is_none_concerns_its_clip_alone(tmp_path, value):
    layouts.casme2(tmp_path, [(*HAPPY, 1), (*ANGRY, value)])
    problems = []
    assert len(read_casme2(tmp_path, problems=problems)) == 1
    assert f"objective class of sub02/EP01_11f is '{value}'" in str(problems[0])


def test_two_copies_of_the_classes_are_refused(tmp_path):
    layouts.casme2(tmp_path, [(*HAPPY, 1)])
    (tmp_path / "CASME2-ObjectiveClasses (1).xlsx").write_bytes(
        (tmp_path / "CASME2-ObjectiveClasses.xlsx").read_bytes()
    )
    with pytest.raises(GammerError, match=r"2 coding workbooks.*ObjectiveClasses"):
        read_casme2(tmp_path)


# SAMM's apexes: what is annotated stays.


@pytest.mark.parametrize(
    ("name", "apex", "read", "origin"),
    [
        ("028_4_1", 1100, 1100, "annotated"),
        ("028_4_1", 1000, 1105, "estimate of MEB"),
        ("028_4_1", "/", 1105, "estimate of MEB"),
        ("028_4_1", None, 1105, "estimate of MEB"),
        ("028_4_1", 1090, 1105, "estimate of MEB"),
        ("032_3_1", 4941, 4941, "annotated"),
        ("032_3_2", 99999, 5130, "estimate of MEB"),
    ],
)
def test_samm_apexes_in_range_stay_and_estimates_say_whose_they_are(tmp_path, name, apex, read, origin, capsys):
    onset, offset = {"028": (1090, 1110), "032_3_1": (4940, 4950), "032_3_2": (5120, 5140)}[
        name if "032" in name else "028"
    ]
    layouts.samm(tmp_path / "samm", [(name[:3], name, onset, apex, offset, "12", "Other")])
    (clip,) = read_samm(tmp_path / "samm")
    assert (clip.apex, clip.apex_origin) == (read, origin)
    assert [("MEB" in note) for note in clip.notes] == [True] * (origin != "annotated")
    if origin != "annotated":
        assert cli.main(["data", "apex", "samm", "--root", str(tmp_path / "samm")]) == 2
        assert "samm has no annotated apex" in capsys.readouterr().err


# The grammar of action units.


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("A12", [(12, "A", True)]),
        ("T23+B24", [(23, "T", True), (24, "B", True)]),
        ("L12B + 4C", [(12, "L", True), (4, "", True)]),
        ("12R", [(12, "R", True)]),
        ("12/14", [(12, "", False), (14, "", False)]),
        ("12 / 14+7", [(12, "", False), (14, "", False), (7, "", True)]),
        ("12 (or 14)", [(12, "", False), (14, "", False)]),
        ("12 (14)", [(12, "", False), (14, "", False)]),
        ("12A or AU14B", [(12, "", False), (14, "", False)]),
        ("12B/R14", [(12, "", False), (14, "R", False)]),
        ("L/R14", [(14, "L", False), (14, "R", False)]),
        ("(L or R) 14", [(14, "L", False), (14, "R", False)]),
        ("ref(4)", [(4, "", False)]),
        ("7 + ref (L12B)", [(7, "", True), (12, "L", False)]),
        ("ref(4) 12", [(12, "", True)]),
        ("39+43 + 61", [(39, "", True), (43, "", True), (61, "", True)]),
        ("4+soft focus", [(4, "", True)]),
        ("4＋7，9", [(4, "", True), (7, "", True), (9, "", True)]),
    ],
)
def test_action_units_as_the_tables_write_them(text, units):
    assert parse_action_units(text) == tuple(ActionUnit(*unit) for unit in units)


@pytest.mark.parametrize("text", ["soft focus", "4-7", "100", "12A14", "4+A", "2014-04-07 00:00:00", "(" * 5000 + "x"])
def test_what_is_no_action_unit_is_refused(text):
    with pytest.raises(GammerError, match="action unit '") as caught:
        parse_action_units(text)
    assert len(caught.value.what) < 200


def test_an_unreadable_cell_concerns_its_clip_alone(tmp_path, capsys):
    row = (46, 59, 86)
    layouts.casme2(
        tmp_path / "casme2",
        [("01", "a", *row, "4", "disgust"), ("02", "b", *row, "4-7", "disgust"), ("03", "c", *row, "12", "happiness")],
    )
    clips = read_casme2(tmp_path / "casme2")
    assert [clip.name for clip in class_labels(clips, "objective")[0]] == ["a", "c"]
    assert "casme2/02/b is left out: action unit '4-7' in '4-7'" in class_set_notes(clips, "objective")
    with pytest.raises(GammerError, match="'4-7'"):
        unit_matrix(clips)
    code, report, _ = check(tmp_path / "casme2", "casme2", capsys)
    kind = "action units that cannot be read, needed for class set objective"
    assert code == 1 and report["problems"][kind] == ["casme2/02/b: action unit '4-7' in '4-7'"]
    assert report["class_sets"]["objective"] == [2, 2]


def test_a_published_class_needs_no_action_units(tmp_path, capsys):
    cells = ["4-7", "4+soft focus"]
    layouts.samm(
        tmp_path / "samm", [("006", f"006_1_{i}", 10, 12, 14, cell, "Anger", 3) for i, cell in enumerate(cells, 1)]
    )
    _, report, _ = check(tmp_path / "samm", "samm", capsys)
    assert report["class_sets"]["objective"] == [2, 1]
    assert report["problems"]["action units that cannot be read, needed for class set objective"] == []
    assert report["notes"]["action units that cannot be read, needed by networks that learn them"] == [
        "samm/006/006_1_1: action unit '4-7' in '4-7'"
    ]
    assert report["notes"]["words among action units, which do not count"] == [
        "samm/006/006_1_2: SOFT FOCUS in '4+soft focus'"
    ]


@pytest.mark.parametrize("network", ["au_gacn", "fgrmer"])
def test_networks_that_learn_units_refuse_unreadable_ones_before_anything_is_computed(tmp_path, network, capsys):
    rows = write_sample(tmp_path / "set", subjects=3, clips=5)
    write_workbook(tmp_path / "set", [row | {"Action Units": "4-7" if i == 1 else "12"} for i, row in enumerate(rows)])
    arguments = [f"--data.roots.microfaces={tmp_path / 'set'}", f"--data.cache={tmp_path / 'cache'}"]
    arguments += ["--data.class_set=five", f"--out={tmp_path / 'run'}", "--wandb=disabled", "--trainer.accelerator=cpu"]
    config = Path(__file__).parents[1] / f"experiments/baselines/{network}.yaml"
    assert cli.main(["recognize", "fit", "-c", str(config), *arguments]) == 2
    printed = capsys.readouterr().err
    assert "the action units of 1 clips cannot be read: microfaces/01/EP02_01: action unit '4-7'" in printed
    assert not (tmp_path / "cache").exists()


def test_a_data_set_without_units_has_no_objective_classes(tmp_path):
    layouts.smic(tmp_path, [(1, "negative", 1)])
    with pytest.raises(GammerError, match=r"class set objective for smic\n.*SMIC has none"):
        class_labels(read_smic(tmp_path), "objective")


# Frames.


@pytest.mark.parametrize("layout", ["casme2", "samm", "smic"])
def test_files_of_operating_systems_are_no_frames(tmp_path, layout):
    clips = {"casme2": [HAPPY], "samm": [("006", "006_1_2", 46, 59, 86, "4", "Anger")], "smic": [(1, "negative", 1)]}
    getattr(layouts, layout)(tmp_path, clips[layout])
    read = {"casme2": read_casme2, "samm": read_samm, "smic": read_smic}[layout]
    plain = read(tmp_path)
    folder = plain[0].frames[0].parent
    for path in plain[0].frames:
        (folder / f"._{path.name}").write_bytes(b"\0")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".1.jpg"):
        (folder / name).write_bytes(b"\0")
    (folder / "img7.jpg").mkdir()
    (folder.parent / ".AppleDouble").mkdir()
    for name in (".0001.jpg", ".0002.jpg"):
        (folder.parent / ".AppleDouble" / name).touch()
    assert read(tmp_path) == plain


@pytest.mark.parametrize("twin", ["img046.jpg", "reg_img46.png", "reg_img46.JPG"])
def test_a_frame_number_twice_names_both_files(tmp_path, twin, capsys):
    layouts.casme2(tmp_path / "casme2", [HAPPY, ANGRY])
    (tmp_path / "casme2/Cropped/sub01/EP02_01f" / twin).touch()
    code, report, _ = check(tmp_path / "casme2", "casme2", capsys)
    (problem,) = report["problems"]["clips that cannot be used"]
    assert code == 1 and twin in problem and "reg_img46.jpg" in problem and "are both frame 46" in problem


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("OffsetFrame", 4_000_000_000, "offset of sub01/EP01_01 is '4000000000'"),
        ("OffsetFrame", 400_000_000, "offset 400,000,000, but its frames end at 11"),
        ("OffsetFrame", "1" * 5000, "offset of sub01/EP01_01 is"),
        ("OffsetFrame", "١١", "offset of sub01/EP01_01 is"),
        ("OnsetFrame", -9, "onset of sub01/EP01_01 is '-9'"),
        ("ApexFrame", 10**12, "apex of sub01/EP01_01 is '1000000000000'"),
        ("ApexFrame", 10**8, "apex 100000000 lies outside"),
    ],
)
def test_frame_numbers_that_no_recording_has_are_refused(tmp_path, column, value, message):
    rows = write_sample(tmp_path)
    rows[0][column] = value
    write_workbook(tmp_path, rows)
    with pytest.raises(GammerError, match=message):
        read_casme2(tmp_path)


def test_offsets_a_little_behind_the_last_frame_pass(tmp_path):
    rows = write_sample(tmp_path)
    rows[0]["OffsetFrame"] = 11 + 54
    write_workbook(tmp_path, rows)
    assert read_casme2(tmp_path)[0].offset == 65


# Layouts.


@pytest.mark.parametrize("layout", ["casme2", "samm"])
def test_one_folder_too_many_is_one_error_that_names_the_right_one(tmp_path, layout, capsys):
    root, tree = tmp_path / layout, {"casme2": "Cropped", "samm": "SAMM"}[layout]
    getattr(layouts, layout)(root, getattr(layouts, f"published_{layout}")())
    (root / tree).rename(tmp_path / "inner")
    (root / tree).mkdir()
    (tmp_path / "inner").rename(root / tree / "inner")
    if layout == "samm":
        (root / tree / "001").mkdir()
    code, report, printed = check(root, layout, capsys)
    assert code == 2 and not report
    assert re.search(rf"none of the (255|159) clips has its folder: no {root}/{tree}/\w+/\w+, but there is", printed)
    assert f"move what {root}/{tree}/inner holds into {root}/{tree}" in printed
    with pytest.raises(GammerError, match="none of the"):
        {"casme2": read_casme2, "samm": read_samm}[layout](root)


def test_frames_of_another_release_are_one_error_too(tmp_path):
    layouts.casme2(tmp_path, [HAPPY, ANGRY])
    for name in ("01", "02"):
        (tmp_path / f"Cropped/sub{name}").rename(tmp_path / f"Cropped/s{name}")
    with pytest.raises(GammerError, match=r"none of the 2 clips has its folder: no .*EP02_01f; holds s01, s02"):
        read_casme2(tmp_path)


def test_an_unreadable_clip_folder_is_said(tmp_path, monkeypatch):
    (tmp_path / "clip").mkdir(mode=0)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root reads every folder
        with pytest.raises(GammerError, match="clip folder clip cannot be read: Permission denied"):
            list_frames(Path("clip"))
    finally:
        os.seteuid(user)


# Workbooks are read within bounds.


def edit(path, change):
    book = load_workbook(path)
    change(book.active)
    book.save(path)


def read_parts(path):
    with zipfile.ZipFile(path) as book:
        return {name: book.read(name) for name in book.namelist()}


def write_parts(path, parts):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, content in parts.items():
            book.writestr(name, content)


def seconds_to_read(root):
    started = time.process_time()
    (clip,) = read_casme2(root)
    assert clip.key == "casme2/01/EP02_01f"
    return time.process_time() - started


@pytest.mark.parametrize(
    ("cell", "merge"), [("A1048576", None), ("XFD1048576", None), (None, "K5:XFD1048576"), (None, "A5:XFD1048576")]
)
def test_stray_cells_and_huge_merges_cost_seconds_at_most(tmp_path, cell, merge):
    layouts.casme2(tmp_path, [HAPPY])
    path = tmp_path / CASME2_BOOK
    parts = read_parts(path)
    sheet = parts[SHEET].decode()
    if cell:
        row = f'<row r="1048576"><c r="{cell}"><v>1</v></c></row></sheetData>'
        sheet = re.sub('<dimension ref="[^"]*"', f'<dimension ref="A1:{cell}"', sheet).replace("</sheetData>", row)
    else:
        sheet = sheet.replace(
            "</sheetData>", f'</sheetData><mergeCells count="1"><mergeCell ref="{merge}"/></mergeCells>'
        )
    write_parts(path, parts | {SHEET: sheet.encode()})
    assert seconds_to_read(tmp_path) < 8


def test_empty_rows_cost_seconds_at_most(tmp_path):
    layouts.casme2(tmp_path, [HAPPY])
    path = tmp_path / CASME2_BOOK
    parts = read_parts(path)
    rows = "".join(f'<row r="{number}" spans="1:9" ht="15" customHeight="1"/>' for number in range(3, 600_003))
    write_parts(path, parts | {SHEET: parts[SHEET].replace(b"</sheetData>", f"{rows}</sheetData>".encode())})
    assert seconds_to_read(tmp_path) < 8


@pytest.mark.parametrize("name", [SHEET, "xl/styles.xml"])
def test_a_workbook_that_unpacks_to_hundreds_of_megabytes_is_refused(tmp_path, name):
    layouts.casme2(tmp_path, [HAPPY])
    path = tmp_path / CASME2_BOOK
    parts = read_parts(path)
    write_parts(path, parts | {name: parts[name] + b" " * (70 * 2**20)})
    with pytest.raises(GammerError, match=r"unpacks to a sheet of [\d,]+ bytes"):
        read_casme2(tmp_path)


def test_more_rows_than_are_read_is_an_error(tmp_path):
    layouts.casme2(tmp_path, [HAPPY])
    path = tmp_path / CASME2_BOOK
    parts = read_parts(path)
    row = re.search('<row r="2".*?</row>', parts[SHEET].decode())[0]
    rows = "".join(re.sub('"([A-Z]?)2"', rf'"\g<1>{number}"', row) for number in range(3, 10_001))
    write_parts(path, parts | {SHEET: parts[SHEET].replace(b"</sheetData>", f"{rows}</sheetData>".encode())})
    with pytest.raises(GammerError, match="names clips down to row 10,000"):
        read_casme2(tmp_path)


def test_merged_cells_stop_where_they_end(tmp_path):
    layouts.casme2(tmp_path, [("02", f"EP0{n}_01", 1, 3, 5, "4", "disgust") for n in (1, 2, 3)])

    def change(sheet):
        sheet.merge_cells("A2:A3")
        sheet.merge_cells("I3:I4")

    edit(tmp_path / CASME2_BOOK, change)
    assert [(clip.subject, clip.emotion) for clip in read_casme2(tmp_path)] == [("02", "disgust")] * 3


def test_a_workbook_without_a_worksheet_is_refused(tmp_path):
    layouts.casme2(tmp_path, [HAPPY])
    path = tmp_path / CASME2_BOOK
    parts = read_parts(path)
    sheets = re.sub(b"<sheets>.*</sheets>", b"<sheets />", parts["xl/workbook.xml"])
    write_parts(path, parts | {"xl/workbook.xml": sheets})
    with pytest.raises(GammerError, match="has no worksheet"):
        read_casme2(tmp_path)


def test_a_workbook_damaged_within_a_sheet_or_a_pipe_is_refused(tmp_path):
    layouts.casme2(tmp_path, [HAPPY])
    path = tmp_path / CASME2_BOOK
    parts = read_parts(path)
    write_parts(path, parts | {SHEET: parts[SHEET][: len(parts[SHEET]) // 2]})
    with pytest.raises(GammerError, match="cannot be read"):
        read_casme2(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(GammerError, match="is a pipe"):
        read_casme2(tmp_path)


# Clip lists and mappings.


@pytest.fixture
def listed(tmp_path):
    layouts.casme2(tmp_path / "casme2", [HAPPY, ANGRY])
    return read_casme2(tmp_path / "casme2"), tmp_path / "combined_3class_gt.csv"


ROWS = "casme2,sub01,EP02_01f,1\ncasme2,sub02,EP01_11f,0\n"


@pytest.mark.parametrize(
    "text",
    [
        ROWS,
        "dataset,subject,clip,label\n" + ROWS,
        "\ufeff" + ROWS,
        ("\ufeffdb,sub,filename,class\n" + ROWS + "\n").replace("\n", "\r\n"),
        ROWS.replace("casme2", "CASME II"),
        ROWS.replace(",", " , "),
    ],
)
def test_clip_lists_circulate_with_header_byte_order_mark_and_carriage_returns(listed, text):
    clips, path = listed
    path.write_bytes(text.encode())
    assert class_labels(clips, "three", path) == class_labels(clips, "three")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROWS.replace("11f,0", "11f,9"), "row 2 of the clip list .* is 'casme2,sub02,EP01_11f,9'"),
        (ROWS.replace("11f,0", "11f,-1"), "row 2 .*,-1'"),
        (ROWS.replace("11f,0", "11f,x"), "row 2 .*,x'"),
        (ROWS.replace("01f,1", "01f,x"), "row 1 .*,x'"),
        (ROWS.replace("sub02,", ""), "row 2"),
        (ROWS.replace("casme2,sub02", "casme3,sub02"), "row 2 .*'casme3,"),
        (ROWS + "casme2,sub02,EP01_11f,2\n", "row 3"),
        ("dataset,subject,clip,label\n", "names no clip"),
        ("", "names no clip"),
    ],
)
def test_clip_lists_with_other_labels_or_rows_are_refused(listed, text, message):
    clips, path = listed
    path.write_text(text)
    with pytest.raises(GammerError, match=message):
        class_labels(clips, "three", path)


def test_a_mapping_may_write_other_or_others(tmp_path):
    layouts.samm(
        tmp_path / "samm",
        [("006", "006_1_1", 10, 12, 14, "4", "Other"), ("007", "007_1_1", 10, 12, 14, "4", "Others"),
         ("006", "006_1_2", 10, 12, 14, "4", "Anger")],
    )  # fmt: skip
    path = tmp_path / "mine.yaml"
    for others in ("[others]", "[Other]", "[other, others]"):
        path.write_text(f"rest: {others}\nanger: [anger]\n")
        assert class_labels(read_samm(tmp_path / "samm"), str(path))[1] == [0, 0, 1]


@pytest.mark.parametrize(
    "text", ["a: &a [x]\nb: [*a, " + "*a, " * 5000 + "y]\nc: &c [*a]\n", "[" * 1000, "x: !!python/name:os.system"]
)
def test_hostile_mappings_are_refused(listed, text):
    path = listed[1].with_suffix(".yaml")
    path.write_text(text)
    with pytest.raises(GammerError) as caught:
        class_labels(listed[0], str(path))
    assert len(str(caught.value)) < 2000
