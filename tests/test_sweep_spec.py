"""Sweeps as YAML: rows and grids become fit commands, and what cannot be right is refused before anything starts."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from gammer_lightning import cli, training
from gammer_lightning.data.recognition import MagnifiedClips
from gammer_lightning.errors import GammerError
from gammer_lightning.sweep.check import check_sweep
from gammer_lightning.sweep.spec import read_sweep

ROOT = Path(__file__).parents[1]
BASE = "experiments/recognize_microfaces.yaml"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a sweep, from the checkout's folder, where the experiments are."""
    monkeypatch.chdir(ROOT)
    path = tmp_path / "sweep.yaml"

    def write(text="", **content):
        path.write_text(text or yaml.safe_dump({"study": "s", "base": BASE} | content, sort_keys=False))
        return str(path)

    return write


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_row_of_a_shipped_sweep_is_a_possible_fit(path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(MagnifiedClips, "refuse_without_action_units", lambda *_: None)  # which reads the clips
    assert cli.main(["sweep", "run", "--dry-run", str(path)]) == 0
    sweep, printed = read_sweep(path), capsys.readouterr().out
    assert sweep.study == path.stem
    titles = [line for line in printed.splitlines() if re.match("# [^ ]", line)]
    assert titles == ([f"# {row}" for row in sweep.commands()] if not sweep.search else titles[:1])


def test_rows_become_flags_of_fit(write):
    sweep = read_sweep(write(seeds=[4], rows={"a b": {"model.depth": 3, "data.train_alphas": [1, 2.5]}, "base": {}}))
    start = ["gammer", "recognize", "fit", "-c", BASE, "--name", "s", "--model.seeds=[4]"]
    assert sweep.commands() == {"a b": [*start, "--model.depth=3", "--data.train_alphas=[1, 2.5]"], "base": start}


def test_a_row_may_have_a_yaml_and_seeds_of_its_own(write):
    rows = {"a": {"model.depth": 3, "config": "x.yaml", "model.seeds": [7]}, "b": {}}
    sweep = read_sweep(write(seeds=[4, 5], common={"data.eval_alpha": 8}, rows=rows))
    flags = sweep.commands()["a"][7:]
    assert flags == ["--config=x.yaml", "--model.seeds=[7]", "--data.eval_alpha=8", "--model.depth=3"]
    assert sweep.seeds_of("a") == [7] and sweep.seeds_of("b") == [4, 5] and sweep.files == [BASE, "x.yaml"]


def test_rows_can_be_left_out(write, capsys):
    path = write(rows={"a": {}, "b": {}, "c": {}}, published={"b": {"casme2_3": [0.9, None]}}, reference="a")
    assert cli.main(["sweep", "run", "--dry-run", path, "--skip", "b", "--skip", "c"]) == 0
    assert re.findall("# .*", capsys.readouterr().out) == ["# a"]
    assert cli.main(["sweep", "run", "--dry-run", path, "--skip", "d"]) == 2
    assert "its rows are a, b, c" in capsys.readouterr().err


def test_the_papers_tables_are_published_figures_by_name(write):
    rows = {"Graph-TCN": {}, "LBP-TOP": {}, "another": {}}
    three, five = (read_sweep(write(rows=rows, published=name)).published for name in ("table1", "table2"))
    assert three["Graph-TCN"] == {"casme2_3": [0.8648, 0.8871], "samm_3": [0.805, 0.7657], "smic_3": [None, None]}
    assert three["LBP-TOP"]["metrics"] == "UF1 / UAR of MEGC 2019" and set(three) == {"Graph-TCN", "LBP-TOP"}
    assert five["LBP-TOP"] == {"casme2_5": [0.3968, 0.3589], "samm_5": [0.3556, 0.3589]}


def test_a_grid_is_every_combination(write):
    sweep = read_sweep(write(grid={"model.depth": [1, 2], "model.layer": ["gat", "gcn"]}))
    assert list(sweep.commands()) == [f"depth {d}, layer {layer}" for d in (1, 2) for layer in ("gat", "gcn")]
    assert shlex.join(sweep.commands()["depth 2, layer gcn"]).endswith("--model.depth=2 --model.layer=gcn")


def test_the_parser_is_built_once_for_all_rows_and_nothing_passes_from_one_to_the_next(write, monkeypatch):
    built, saved = [], []
    add, check = training.SettingsCLI.add_arguments_to_parser, training.SettingsCLI.instantiate_classes
    monkeypatch.setattr(training.SettingsCLI, "add_arguments_to_parser", lambda *a: built.append(add(*a)))
    monkeypatch.setattr(
        training.SettingsCLI, "instantiate_classes", lambda cli: (check(cli), saved.append(cli.saved_config()))
    )
    rows = {"a": {"model.depth": 3, "data.train_alphas": [5, 8]}, "b": {"model.width": 8}, "c": {}}
    sweep = read_sweep(write(rows=rows))
    check_sweep(sweep)
    assert len(built) == 1
    alone = [training.SettingsCLI(training.recognize(), "fit", command[3:]) for command in sweep.commands().values()]
    assert saved[:3] == [cli.saved_config() for cli in alone]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.dept": 3}, "row 'odd' of s: .*--model.dept"),
        ({"model.depth": "three"}, "row 'odd' of s: .*model.depth"),
        ({"model.depth": 9}, "row 'odd' of s: depth 9"),
        ({"data.eval_alpha": 7}, "row 'odd' of s: .*eval_alpha 7"),
        ({"trainer.callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitor": "test_uf1"}}]}, "test_uf1"),
    ],
)
def test_a_row_that_cannot_run_is_named(write, settings, message, capsys):
    assert cli.main(["sweep", "run", "--dry-run", write(rows={"fine": {}, "odd": settings})]) == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.err.replace("\n", " ")) and not printed.out.startswith("# ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "exactly one of them"),
        ({"rows": {"a": {}}, "grid": {"model.depth": [1]}}, "exactly one of them"),
        ({"rows": {"a": 3}}, "each has a name, and maps settings"),
        ({"rows": ["a"]}, "each has a name, and maps settings"),
        ({"grid": {"model.depth": 3}}, "list of values"),
        ({"grid": ["model.depth"]}, "list of values"),
        ({"rows": {"a": {}}, "seeds": "0"}, "list of whole numbers"),
        ({"rows": {"a": {}}, "study": "a/b"}, "without slashes"),
        ({"rows": {5: {"data.eval_alpha": 5}}}, "each has a name"),
        ({"rows": {"a": {"out": "x"}}}, "each has a name, and maps settings"),
        ({"grid": {"model.depth": [1, "1"]}}, "no value occurs twice"),
        ({"rows": {"a": {"model.outer_fold": 2}}, "metric": "val_uf1"}, "model.outer_fold varies"),
        ({"rows": {"a": {}}, "mode": "up"}, "max or min"),
        ({"rows": {"a": {}}, "mode": ["max", "min"]}, "one for each metric"),
        ({"rows": {"a": {}}, "metric": ["x", "y"], "mode": ["max", "min"]}, "only a search takes two"),
        ({"rows": {"a": {}}, "devices_per_trial": 0}, "a number above 0"),
        ({"rows": {"a": {}}, "common": [3]}, "it maps settings to values"),
        ({"rows": {"a": {}}, "reference": "b"}, "'b': it names no row|it names no row"),
        ({"rows": {"a": {}}, "published": {"b": {"casme2_3": [0.9, 0.9]}}}, "it names no row"),
        ({"rows": {"a": {}}, "published": {"a": {"casme2_3": 0.9}}}, "two figures"),
        ({"rows": {"a": {}}, "published": {"a": {"casme2_3": [0.9]}}}, "two figures"),
        ({"rows": {"a": {}}, "published": "table9"}, "table1 or table2"),
        ({"rows": {"a": {}}, "base": "experiments/other.yaml"}, "recognize or magnify"),
        ({"rows": {"a": {}}, "raws": {}}, "keys are base, common, "),
        ({"text": "study: s\nbase: b\nrows: {a: {}, a: {}}"}, "'a' occurs twice"),
        ({"text": "study: [s"}, "cannot be read"),
        ({"text": "- 1"}, "has the keys none"),
    ],
)
def test_a_sweep_that_is_none_is_refused(write, content, message):
    with pytest.raises(GammerError, match=message):
        read_sweep(write(**content))


def test_a_missing_file_is_refused(capsys):
    assert cli.main(["sweep", "run", "--dry-run", "gone.yaml"]) == 2
    assert "no sweep gone.yaml" in capsys.readouterr().err
