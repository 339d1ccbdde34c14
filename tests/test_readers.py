"""Readers of CASME II, SAMM and SMIC-HS on small copies of their layouts, quirks included."""

from pathlib import Path

import layouts
import pytest
from openpyxl import load_workbook

from gammer_lightning.data.clips.action_units import ActionUnit, objective_class, parse_action_units
from gammer_lightning.data.clips.casme2 import read_casme2
from gammer_lightning.data.clips.class_sets import class_labels
from gammer_lightning.data.clips.samm import read_samm
from gammer_lightning.data.clips.smic import read_smic
from gammer_lightning.errors import GammerError

HAPPY = ("01", "EP02_01f", 46, 59, 86, 12, "happiness")


def test_casme2_rows_without_an_apex_are_read_and_said(tmp_path):
    layouts.casme2(
        tmp_path, [HAPPY, ("04", "EP12_01f", 3, "/", 9, "4", "disgust"), (5, "EP01_2", 7, 7, 20, "?", "fear")]
    )
    first, slash, equal = read_casme2(tmp_path)
    assert (first.apex, first.apex_origin, first.notes, first.action_units) == (59, "annotated", (), "12")
    assert [slash.apex, equal.apex] == [None, None] and {slash.apex_origin, equal.apex_origin} == {"none"}
    assert "no apex is annotated" in slash.notes[0] and "onset itself" in equal.notes[0]
    assert equal.key == "casme2/05/EP01_2" and equal.numbers == (7, 8, 20)


@pytest.mark.parametrize("name", ["EP01_2", "EP08_1", "EP06_02_01", "EP09f"])
def test_casme2_odd_names_and_raw_frames(tmp_path, name):
    layouts.casme2(tmp_path, [(17, name, 98, 100, 102, "R14", "repression")], "CASME2_RAW_selected")
    (clip,) = read_casme2(tmp_path)
    assert (clip.name, clip.subject, clip.numbers) == (name, "17", (98, 99, 100, 102))


def test_columns_are_found_by_header_in_any_order_row_and_sheet(tmp_path):
    layouts.casme2(tmp_path, [HAPPY])
    rows = [("About",), (), ("estimated emotion", "Offset Frame", "apexframe", "onset_frame", "FILENAME", "Subject ")]
    rows[2] += ("Action Units", "New")
    rows += [(), ("Happiness", 86, 59, 46.0, "EP02_01f", 1, "12", "x"), ()]
    path = tmp_path / "CASME2-coding-20140508.xlsx"
    layouts.write_book(path, rows)
    book = load_workbook(path)
    book.create_sheet("Notes", 0)["A1"] = "Subject"
    book.save(path)
    (clip,) = read_casme2(tmp_path)
    assert (clip.onset, clip.apex, clip.offset, clip.emotion, clip.subject) == (46, 59, 86, "happiness", "01")


def test_merged_subject_cells_count_for_each_row(tmp_path):
    clips = [("02", f"EP0{n}_01", 1, 3, 5, "4", "disgust") for n in (1, 2, 3)]
    layouts.casme2(tmp_path, clips)
    path = tmp_path / "CASME2-coding-20140508.xlsx"
    book = load_workbook(path)
    book.active.merge_cells("A2:A4")
    book.save(path)
    assert [clip.subject for clip in read_casme2(tmp_path)] == ["02"] * 3


def test_samm_corrects_the_known_slips_and_says_so(tmp_path):
    layouts.samm(
        tmp_path,
        [
            ("006", "006_1_2", 5562, 5588, 5632, "4+7", "Anger"),
            ("013", "013_1_9", 5700, 5720, 5793, "12", "Other"),
            ("028", "028_4_1", 1090, 1000, 1110, "12 or 14", "Others"),
            ("030", "030_1_1", 70, 70, 80, "4", "Fear"),
        ],
    )
    plain, offset, apex, equal = read_samm(tmp_path)
    assert (plain.key, plain.onset, plain.apex, plain.offset) == ("samm/006/006_1_2", 5562, 5588, 5632)
    assert plain.notes == () and plain.emotion == "anger"
    assert offset.offset == 5739 and "offset 5793" in offset.notes[0]
    assert (apex.apex, apex.apex_origin) == (1105, "estimate of MEB") and "apex 1000" in apex.notes[0]
    assert (equal.apex, equal.apex_origin) == (None, "none") and "onset itself" in equal.notes[0]


@pytest.mark.parametrize("tree", ["SAMM", ""])
def test_samm_unpadded_frames_and_both_roots(tmp_path, tree):
    layouts.samm(tmp_path, [("007", "007_3_1", 99, 100, 101, "4", "Fear")], digits=1, tree=tree)
    (clip,) = read_samm(tmp_path)
    assert clip.numbers[:3] == (99, 100, 101) and clip.frame(100).name == "007_100.jpg"


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("tree", ["HS", "SMIC_all_cropped/HS", "SMIC_all_raw/HS"])
def test_smic_has_no_apex_and_leaves_non_micro_out(tmp_path, tree, padded, monkeypatch):
    layouts.smic(tmp_path, [(1, "negative", 1), (11, "surprise", 2), (1, "positive", 1)], tree, padded, digits=8)
    clips = read_smic(tmp_path)
    assert [(clip.subject, clip.emotion) for clip in clips] == [
        ("01", "negative"), ("01", "positive"), ("11", "surprise"),
    ]  # fmt: skip
    first = clips[0]
    assert (first.onset, first.apex, first.offset, first.apex_origin) == (8, None, 10, "none")
    assert {clip.cropped for clip in clips} == {"cropped" in tree}
    monkeypatch.chdir(tmp_path / Path(tree).parent)
    assert [(clip.key, clip.cropped) for clip in read_smic(".")] == [(clip.key, clip.cropped) for clip in clips]
    assert "non_micro" not in str([clip.frames for clip in clips])


def size(clips):
    return len(clips), len({(clip.dataset, clip.subject) for clip in clips})


def test_published_counts_of_every_class_set(tmp_path):
    casme2, samm, smic = (tmp_path / name for name in ("casme2", "samm", "smic"))
    layouts.casme2(casme2, layouts.published_casme2())
    layouts.samm(samm, layouts.published_samm())
    layouts.smic(smic, layouts.published_smic())
    clips = {"casme2": read_casme2(casme2), "samm": read_samm(samm), "smic": read_smic(smic)}
    clips["composite"] = [clip for dataset in ("casme2", "samm", "smic") for clip in clips[dataset]]
    found = {
        (name, classes): size(class_labels(clips[name], classes)[0])
        for name, classes in [
            ("casme2", "five"), ("casme2", "three"), ("samm", "five"), ("samm", "three"), ("smic", "three"),
            ("composite", "three"), ("casme2", "objective"), ("samm", "objective"),
        ]
    }  # fmt: skip
    assert found == {
        ("casme2", "five"): (246, 26),
        ("casme2", "three"): (145, 24),
        ("samm", "five"): (136, 27),
        ("samm", "three"): (133, 28),
        ("smic", "three"): (164, 16),
        ("composite", "three"): (442, 68),
        ("casme2", "objective"): (185, 26),
        ("samm", "objective"): (68, 21),
    }
    _, labels, names = class_labels(clips["composite"], "three")
    assert names == ("negative", "positive", "surprise")
    assert [labels.count(k) for k in range(3)] == [88 + 92 + 70, 32 + 26 + 51, 25 + 15 + 43]


@pytest.fixture
def composite(tmp_path):
    """CASME II and SMIC, and MEGC 2019's list of their clips."""
    layouts.casme2(
        tmp_path / "casme2",
        [HAPPY, ("04", "EP12_01f", 3, "/", 9, "4", "disgust"), ("02", "EP01_11f", 1, 2, 3, "1", "repression")],
    )
    layouts.smic(tmp_path / "smic", [(1, "surprise", 1)], padded=False)
    listed = tmp_path / "list.csv"
    listed.write_text("casme2,sub01,EP02_01f,1\nCASME2,sub02,EP01_11f,0\nsmic,s01,s01_su_01,2\nsamm,006,006_1_2,0\n")
    return read_casme2(tmp_path / "casme2") + read_smic(tmp_path / "smic"), listed


def test_the_official_list_gives_the_same_clips_as_the_rule(composite):
    clips, listed = composite
    assert class_labels(clips, "three", listed) == class_labels(clips, "three")
    listed.write_text(listed.read_text().replace("EP02_01f,1", "EP02_01f,2"))
    with pytest.raises(
        GammerError, match="0 clips are not in the data sets, 1 are of another class there: casme2/1/ep02_1f"
    ):
        class_labels(clips, "three", listed)
    listed.write_text("casme2,sub09,EP09_01,0\n")
    with pytest.raises(GammerError, match="1 clips are not in the data sets"):
        class_labels(clips, "three", listed)


def test_a_mapping_of_ones_own(composite, tmp_path):
    clips, _ = composite
    path = tmp_path / "mine.yaml"
    path.write_text("good: [happiness]\nbad: [disgust, Repression]\n")
    kept, labels, names = class_labels(clips, str(path))
    assert (names, labels) == (("good", "bad"), [0, 1, 1]) and len(kept) == 3
    for text, message in [
        ("good: [joy]\nbad: [repression]\n", "leaves good without any"),
        ("good: happiness\nbad: [fear]\n", "maps two classes"),
        ("good: [fear]\nbad: [fear]\n", "each emotion once"),
        ("good: [fear\n", "cannot be read"),
    ]:
        path.write_text(text)
        with pytest.raises(GammerError, match=message):
            class_labels(clips, str(path))


@pytest.mark.parametrize(
    ("class_set", "message"),
    [
        ("seven", "three, five, objective"),
        ("five", "SMIC has none"),
        ("no.yaml", "does not exist"),
    ],
)
def test_class_sets_that_do_not_fit_are_refused(composite, class_set, message):
    with pytest.raises(GammerError, match=message):
        class_labels(composite[0][1:], class_set)


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("4+L10", [(4, "", True), (10, "L", True)]),
        ("R14", [(14, "R", True)]),
        ("12 or 14", [(12, "", False), (14, "", False)]),
        ("4+7 OR 9", [(4, "", True), (7, "", False), (9, "", False)]),
        ("AU12A + l2?", [(12, "", True), (2, "L", False)]),
        ("?", []),
        ("", []),
    ],
)
def test_action_units(text, units):
    assert parse_action_units(text) == tuple(ActionUnit(*unit) for unit in units)


def test_action_units_that_are_none_are_refused():
    with pytest.raises(GammerError, match=r"'SMILE' in 'smile'"):
        parse_action_units("smile")
    assert [objective_class(text) for text in ("12", "4+L10", "4+7", "?", "2+1", "15")] == [
        "I", "VII", "III", "VII", "II", "V",
    ]  # fmt: skip


def test_problems_are_gathered_where_asked_for(tmp_path):
    layouts.casme2(
        tmp_path, [HAPPY, ("02", "EP01_01", 1, 9, 5, "4", "fear"), ("02", "EP01_01", 1, 2, 5, "4", "fear")][:2]
    )
    problems = []
    assert [clip.key for clip in read_casme2(tmp_path, problems=problems)] == ["casme2/01/EP02_01f"]
    assert "apex 9 lies outside onset 1 .. offset 5" in str(problems[0])


def test_wrong_roots_say_what_is_expected_and_what_is_there(tmp_path):
    (tmp_path / "photos").mkdir()
    for read, expected in ((read_casme2, "Cropped"), (read_samm, "006"), (read_smic, "micro")):
        with pytest.raises(GammerError, match=rf"which holds photos\n.*{expected}"):
            read(tmp_path)
        with pytest.raises(GammerError, match="which is no folder"):
            read(tmp_path / "gone")


def test_a_clip_annotated_twice_is_refused(tmp_path):
    layouts.casme2(tmp_path, [HAPPY])
    path = tmp_path / "CASME2-coding-20140508.xlsx"
    book = load_workbook(path)
    book.active.append([1, "EP02_01f", None, 46, 59, 86, None, "12", "happiness"])
    book.save(path)
    with pytest.raises(GammerError, match="casme2/01/EP02_01f is annotated twice"):
        read_casme2(tmp_path)


def test_paths_with_spaces_letters_beyond_ascii_and_links(tmp_path):
    layouts.casme2(tmp_path / "Données à part", [HAPPY])
    (tmp_path / "link").symlink_to(tmp_path / "Données à part", target_is_directory=True)
    assert len(read_casme2(tmp_path / "link")) == 1
