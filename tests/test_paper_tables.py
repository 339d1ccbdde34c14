"""`gammer recognize table`: published rows beside runs, each in the table and column of its data set and classes."""

import json
from hashlib import sha256

import numpy as np
import pytest

from gammer_lightning import cli
from gammer_lightning.data.clips.class_sets import FIVE, OBJECTIVE, THREE
from gammer_lightning.evaluation.folds import LEAKY, PROTOCOLS
from gammer_lightning.evaluation.published import TABLES
from gammer_lightning.evaluation.run_results import RunResults


def write_run(folder, datasets, classes, protocol="loso", std=0.02):
    folder.mkdir()
    (folder / "config.yaml").write_text("model: {}\n")
    (folder / "env.json").write_text(json.dumps({"task": "recognize"}))
    results = RunResults(
        protocol=PROTOCOLS[protocol],
        datasets=datasets,
        clips=9,
        subjects=3,
        clips_sha256="",
        mean=dict(accuracy=0.5, uf1=0.4, uar=0.4),
        std=dict(accuracy=std, uf1=std, uar=std),
        seeds={},
        classes={name: {"f1": 0.4} for name in classes},
        confusion={"0": np.eye(len(classes), dtype=int).tolist()},
    )
    (folder / "results.json").write_text(json.dumps(results.as_dict()))
    return str(folder)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_run_is_in_its_table_and_column(here, capsys):
    runs = [
        write_run(here / "smic3", ["smic"], THREE),
        write_run(here / "samm5", ["samm"], FIVE["samm"], LEAKY, std=None),
        write_run(here / "all3", ["casme2", "samm", "smic"], THREE),
        write_run(here / "aus", ["casme2"], OBJECTIVE),
    ]
    assert cli.main(["recognize", "table", *runs]) == 0
    first, second = capsys.readouterr().out.split("Table 2, 5 classes")
    assert f"| {runs[0]} (leave one subject out) | - | - | - | - | 0.500 ± 0.020 | 0.400 ± 0.020 |" in first
    assert "| GAM-MM-MER (published) | 0.9157 | 0.9122 | 0.9125 | 0.9134 | 0.8622 | 0.8710 |" in first
    second, rest = second.split("Other runs:")
    assert ", LEAKY) | - | - | 0.500 | 0.400 |" in second and second.count("0.500") == 1
    assert f"{runs[2]}: accuracy" in rest and "on casme2, samm, smic, 3 classes" in rest and runs[3] in rest


def test_published_figures_are_as_they_were_when_held_against_the_paper():
    """All 25 rows were compared with the paper's text; a slip of a key must not change one."""
    assert sha256(json.dumps(TABLES).encode()).hexdigest().startswith("8706817f08127be0")


def test_without_runs_the_published_rows_are_printed(capsys):
    assert cli.main(["recognize", "table"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("(published)") == 12 + 13 and "UF1 and UAR of MEGC 2019" in printed
    assert printed.count("same figures of SSSN") == 2 and printed.count(".9024") == 1
    assert printed.count("* (published)") == 6 and printed.index("SelfME* (published)") < printed.index("Table 2")


def test_a_run_without_results_and_a_folder_that_is_no_run_are_refused(here, capsys):
    run = write_run(here / "run", ["samm"], THREE)
    (here / "run/results.json").unlink()
    assert cli.main(["recognize", "table", run]) == 2
    assert "has no results.json" in capsys.readouterr().err
    assert cli.main(["recognize", "table", "gone"]) == 2
