"""Sweeps as YAML: rows and grids become fit commands, and what cannot be right is refused before anything starts."""

import os
import re
import shlex
from datetime import date
from pathlib import Path

import pytest
import yaml

from gammer_lightning import cli
from gammer_lightning.data.datamodule import MagnifiedClips
from gammer_lightning.errors import GammerError
from gammer_lightning.sweep.check import check_sweep
from gammer_lightning.sweep.spec import read_sweep
from gammer_lightning.training import settings

ROOT = Path(__file__).parents[1]
BASE = "experiments/recognize_microfaces.yaml"
BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
"""Nine aliases of nine aliases, eleven times."""


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
    assert cli.main(["sweep", "run", "--dry-run", path, *("--skip=" + row for row in "abc")]) == 2
    assert "--skip leaves no row" in capsys.readouterr().err
    assert cli.main(["sweep", "run", "--dry-run", write(grid={"model.depth": [1]}), "--skip", "d"]) == 2
    assert "a grid or a search has no row to leave out" in capsys.readouterr().err


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
    add, check = settings.SettingsCLI.add_arguments_to_parser, settings.SettingsCLI.instantiate_classes
    monkeypatch.setattr(settings.SettingsCLI, "add_arguments_to_parser", lambda *a: built.append(add(*a)))
    monkeypatch.setattr(
        settings.SettingsCLI, "instantiate_classes", lambda cli: (check(cli), saved.append(cli.saved_config()))
    )
    rows = {"a": {"model.depth": 3, "data.train_alphas": [5, 8]}, "b": {"model.width": 8}, "c": {}}
    sweep = read_sweep(write(rows=rows))
    check_sweep(sweep)
    assert len(built) == 1
    alone = [settings.SettingsCLI(settings.recognize(), "fit", command[3:]) for command in sweep.commands().values()]
    assert saved[:3] == [cli.saved_config() for cli in alone]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.dept": 3}, "row 'odd' of s: .*--model.dept"),
        ({"model.depth": "three"}, "row 'odd' of s: .*model.depth"),
        ({"model.depth": 9}, "row 'odd' of s: model.depth is 9"),
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
        ({"rows": {"a": {}}, "study": "a/b"}, "no slash"),
        ({"rows": {5: {"data.eval_alpha": 5}}}, "has the name 5"),
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
        ({"rows": {"a": {}}, "study": ".."}, "one path component"),
        ({"rows": {"a": {}}, "study": "x" * 300}, "220 characters more"),
        ({"rows": {"a": {}}, "study": "s\nt"}, "one path component"),
        ({"rows": {"a": {}}, "study": "-s"}, "no dash"),
        ({"rows": {"a": {}}, "study": 5}, "one path component"),
        ({"rows": {"a\nrm -r x": {}}}, "control characters"),
        ({"rows": {"a": {"model.layer": "\x1b[31m"}}}, "control characters"),
        ({"rows": {"a": {"model.lr": float("nan")}}}, "holds nan"),
        ({"rows": {"a": {"model.lr": float("-inf")}}}, "holds -inf"),
        ({"rows": {"a": {"model.lr": date(2020, 1, 1)}}}, "holds datetime.date"),
        ({"rows": {"a": {"model.regions": "[" * 20_000}}}, "at most 2,000 characters"),
        ({"rows": {"a": {"out=x": 1}}}, "each has a name, and maps settings"),
        ({"rows": {"a": {"help": 1}}}, "each has a name, and maps settings"),
        ({"rows": {"a": {"config": [1]}}}, "the path of a YAML"),
        ({"rows": {"a": {"model.seeds": "[1]"}}}, "list of whole numbers from 0"),
        ({"rows": {"a": {}}, "seeds": [2**70]}, "list of whole numbers from 0"),
        ({"rows": {"a": {}}, "seeds": [-1]}, "list of whole numbers from 0"),
        ({"rows": {"a": {}}, "seeds": [1, 1]}, "none of them twice"),
        ({"rows": {"a": {}}, "metric": 5}, "the name of a metric"),
        ({"rows": {"a": {}}, "mode": 5}, "max or min"),
        ({"rows": {"a": {}}, "mode": [["max"]]}, "max or min"),
        ({"rows": {"a": {}}, "reference": ["a"]}, "the name of a row"),
        ({"rows": 3, "published": "table1"}, "each has a name"),
        ({"rows": {"a": {}}, "published": {"a": {"casme2_3": [91.57, 0.9]}}}, "from 0 to 1"),
        ({"rows": {"a": {}}, "published": {"a": {"remark": 3}}}, "two figures"),
        ({"rows": {"a": {}}, "devices_per_trial": 10**9}, "at most 64"),
        ({"grid": {f"model.{letter}": list(range(10)) for letter in "abcdefghi"}}, "1,000,000,000 rows"),
        ({"search": 5, "metric": "val_uf1"}, "trials and a space"),
        ({"search": {"trials": 10**9, "space": {"a": [1]}}, "metric": "val_uf1"}, "from 1 to 10,000"),
        ({"search": {"trials": 1, "space": {"a": [1]}, "seed": 2**70}, "metric": "val_uf1"}, "search.seed"),
        ({"search": {"trials": 1, "space": {"a": {"low": 1, "high": 10**400}}}, "metric": "x"}, "search.space.a"),
        ({"search": {"trials": 1, "space": {"a": list(range(10_001))}}, "metric": "val_uf1"}, "at most 10,000"),
        (
            {"text": f"study: s\nbase: {BASE}\ncommon: {{x: {'[' * 50}{']' * 50}}}\nrows: {{a: {{}}}}"},
            "nested too deep",
        ),
        ({"text": "x: " + "[" * 100_000}, "cannot be read"),
        ({"text": BOMB}, "aliases"),
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


@pytest.mark.parametrize(
    ("text", "message"), [(BOMB, "aliases"), ("x: " + "[" * 100_000, "cannot be read"), (b"\xff\xfe", "cannot be read")]
)
def test_a_base_is_read_within_bounds_before_the_parser_has_it(write, tmp_path, capsys, text, message):
    base = tmp_path / "recognize_bomb.yaml"
    base.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert cli.main(["sweep", "run", "--dry-run", write(rows={"a": {}}, base=str(base))]) == 2
    error = capsys.readouterr().err
    assert "recognize_bomb.yaml" in error and message in error and len(error) < 2000


def test_a_pipe_is_no_sweep(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.yaml")
    assert cli.main(["sweep", "run", "--dry-run", str(tmp_path / "pipe.yaml")]) == 2
    assert "is a pipe, socket or device" in capsys.readouterr().err
    assert cli.main(["sweep", "run", "--dry-run", str(tmp_path / ("x" * 300))]) == 2
    assert "File name too long" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["0", "-1", "1000000000"])
def test_absurd_numbers_of_workers_are_refused(write, capsys, workers):
    assert cli.main(["sweep", "run", write(rows={"a": {}}), "--workers", workers]) == 2
    assert f"--workers {workers}" in capsys.readouterr().err
