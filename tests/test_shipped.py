"""The package's experiments and sweeps are found by name in any folder; those of the working folder come first."""

from pathlib import Path

import pytest

from gammer_lightning import cli, shipped
from gammer_lightning.errors import GammerError
from gammer_lightning.shipped import FOLDERS, ROOT, find_yaml, shipped_files, with_paths_of_configs
from gammer_lightning.sweep.queue.study import text_of_files
from gammer_lightning.sweep.spec import read_sweep

STSTNET = "experiments/baselines/ststnet.yaml"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Run in an empty folder, as if nothing had been said on stderr yet."""
    monkeypatch.chdir(tmp_path)
    shipped._say_whose.cache_clear()
    return tmp_path


@pytest.mark.parametrize("name", [STSTNET, "baselines/ststnet", "ststnet.yaml", "ststnet", f"./{STSTNET}"])
def test_any_name_finds_the_package_own_file_and_says_so_once(name, capsys):
    assert find_yaml(name, "experiments") == find_yaml(name, "experiments") == ROOT / STSTNET
    assert capsys.readouterr().err == f"{name}: the package's own file {ROOT / STSTNET}\n"


@pytest.mark.parametrize("name", [STSTNET, "ststnet"])
def test_the_copy_in_the_working_folder_comes_first(name, capsys):
    copy = Path(STSTNET)
    copy.parent.mkdir(parents=True)
    copy.touch()
    assert find_yaml(name, "experiments") == copy
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "folder", "advice"),
    [
        ("recognize_casme2", "experiments", "did you mean recognize_casme2_3 or recognize_casme2_5?"),
        ("elsewhere/recogniz_smic_3.yaml", "experiments", "recognize_smic_3"),
        ("/ststnet.yaml", "experiments", "did you mean ststnet?"),
        ("../experiments/baselines/ststnet.yaml", "experiments", "ststnet"),
        ("table4", "sweeps", "did you mean table4_alpha?"),
        ("ststnet", "sweeps", "gammer init"),
        ("xyz", "experiments", "gammer init"),
        (".", "experiments", "gammer init"),
    ],
)
def test_what_is_not_there_is_refused_with_the_nearest_names(name, folder, advice):
    with pytest.raises(GammerError) as error:
        find_yaml(name, folder)
    assert advice in error.value.next_step
    assert name in error.value.what


def test_every_name_is_unique_within_its_folder():
    for folder in FOLDERS:
        stems = [Path(file).stem for file in shipped_files(folder)]
        assert stems and len(stems) == len(set(stems))


@pytest.mark.parametrize(
    ("argv", "resolved"),
    [
        (["-c", "ststnet", "--name", "ststnet"], ["-c", f"{ROOT / STSTNET}", "--name", "ststnet"]),
        (["--config=ststnet"], [f"--config={ROOT / STSTNET}"]),
        (["--config", "ststnet", "-c", "ststnet"], ["--config", f"{ROOT / STSTNET}", "-c", f"{ROOT / STSTNET}"]),
        (["-c", "model: {depth: 3}", "-c"], ["-c", "model: {depth: 3}", "-c"]),
    ],
)
def test_configs_among_the_arguments_get_their_paths(argv, resolved):
    assert with_paths_of_configs(argv) == resolved


def test_fit_takes_experiments_by_name(capsys):
    with pytest.raises(SystemExit):
        cli.main(["recognize", "fit", "-c", "recognize_casme2_5", "-c", "ststnet", "--print_config"])
    printed = capsys.readouterr()
    assert "network: ststnet" in printed.out and "class_set: five" in printed.out
    assert printed.err.count("the package's own file") == 2
    assert cli.main(["recognize", "fit", "-c", "recognize_casme"]) == 2
    assert "recognize_casme2_5" in capsys.readouterr().err


def test_a_sweep_and_its_experiments_are_found_by_name():
    sweep = read_sweep("table1")
    assert sweep.study == "table1"
    assert (ROOT / STSTNET).read_text() in text_of_files(sweep)
    assert sweep.on("recognize_casme2_5").study == "table1-casme2_5"
    assert (ROOT / "experiments/recognize_casme2_5.yaml").read_text() in text_of_files(sweep.on("recognize_casme2_5"))


def test_init_writes_all_files_and_keeps_those_that_are_there(capsys):
    changed = Path("mine", STSTNET)
    changed.parent.mkdir(parents=True)
    changed.write_text("mine")
    assert cli.main(["init", "mine"]) == 0
    assert "1 kept as they are" in capsys.readouterr().out
    assert changed.read_text() == "mine"
    files = [file for folder in FOLDERS for file in shipped_files(folder)]
    assert sorted(path.relative_to("mine").as_posix() for path in Path("mine").rglob("*.*")) == sorted(files)
    assert Path("mine/sweeps/table1.yaml").read_bytes() == (ROOT / "sweeps/table1.yaml").read_bytes()
