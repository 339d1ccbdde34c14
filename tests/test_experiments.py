"""Every shipped experiment parses through the real command, and says how to run it."""

from pathlib import Path

import pytest
import yaml

from gammer_lightning import cli

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))


def task_of(experiment):
    return experiment.name.split("_")[0]


def test_there_are_experiments_of_both_tasks():
    assert {task_of(experiment) for experiment in EXPERIMENTS} == {"magnify", "recognize"}


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda path: path.stem)
def test_it_parses_and_its_settings_arrive(experiment, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([task_of(experiment), "fit", "-c", str(experiment), "--print_config"])
    assert stop.value.code == 0
    parsed = yaml.safe_load(capsys.readouterr().out)
    for group, settings in yaml.safe_load(experiment.read_text()).items():
        if isinstance(settings, dict):
            assert settings.items() <= parsed[group].items()


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda path: path.stem)
def test_a_misspelt_setting_in_it_is_refused(experiment, tmp_path, capsys):
    misspelt = tmp_path / experiment.name
    misspelt.write_text(experiment.read_text() + "\nmodle: {lr: 1}\n")
    assert cli.main([task_of(experiment), "fit", "-c", str(misspelt)]) == 2
    assert "modle" in capsys.readouterr().err


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda path: path.stem)
def test_its_header_has_the_exact_command(experiment):
    header = "\n".join(line for line in experiment.read_text().splitlines() if line.startswith("#"))
    command = f"gammer {task_of(experiment)} fit -c experiments/{experiment.name}"
    assert command in header
