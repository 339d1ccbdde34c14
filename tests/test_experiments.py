"""Every shipped experiment, and every system's settings on top of one, parses through the real command."""

from pathlib import Path

import pytest
import yaml

from gammer_lightning import cli
from gammer_lightning.data.datamodule import MagnifiedClips
from gammer_lightning.evaluation.published import TABLES
from gammer_lightning.models.networks import NETWORKS
from gammer_lightning.sweep.spec import read_sweep

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))
MICROFACES = "experiments/recognize_microfaces.yaml"
OVERLAYS = sorted((ROOT / "experiments/baselines").glob("*.yaml"))
NOT_IN_THE_PAPER = {"STSTNet", "FGRMER-like"}
THREE_FOLDS = "GAM-MM-MER, three folds"
"""GAM-MER by the folds of the large networks."""


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


def settings_of(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*command.split()[1:], "--print_config"])
    assert stop.value.code == 0, command
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
class TestOverlay:
    """A system's settings, on top of microfaces' by the command that its header has."""

    def command(self, overlay):
        return f"gammer recognize fit -c {MICROFACES} -c experiments/baselines/{overlay.name}"

    def test_its_header_has_the_exact_command_and_the_rest(self, overlay):
        header = [line for line in overlay.read_text().splitlines() if line.startswith("#")]
        assert any(self.command(overlay) in line for line in header)  # large ones add fewer folds and seeds
        assert all(any(line.startswith(f"# {word}:") for line in header) for word in ("Departs", "Cost", "Expected"))

    def test_its_settings_arrive_and_leave_the_evaluation_alone(self, overlay, monkeypatch, capsys):
        monkeypatch.chdir(ROOT)
        parsed, base = settings_of(self.command(overlay), capsys), yaml.safe_load(Path(MICROFACES).read_text())
        settings = yaml.safe_load(overlay.read_text())
        assert set(settings) <= {"model", "data", "trainer"}
        for group, values in settings.items():
            assert values.items() <= parsed[group].items()
        assert {"protocol", "num_folds", "outer_fold", "seeds"}.isdisjoint(settings["model"])
        assert {"roots", "class_set", "clip_list", "cache"}.isdisjoint(settings.get("data", {}))
        assert parsed["data"]["roots"] == base["data"]["roots"] and parsed["model"]["seeds"] == base["model"]["seeds"]

    def test_its_network_is_known_and_takes_its_input(self, overlay, monkeypatch):
        from gammer_lightning.training import settings

        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(MagnifiedClips, "refuse_without_action_units", lambda *_: None)  # which reads the clips
        made = settings.SettingsCLI(settings.recognize(), "fit", self.command(overlay).split()[3:])
        name = made.model.hparams.network
        assert name in NETWORKS and name in (overlay.stem, "linear_svm", "rbf_svm")


def test_every_network_but_gam_mer_has_its_settings():
    shown = {yaml.safe_load(overlay.read_text())["model"]["network"] for overlay in OVERLAYS}
    assert shown == set(NETWORKS) - {"gam_mer"}


@pytest.mark.parametrize(("name", "classes"), [("table1", 3), ("table2", 5)])
def test_the_papers_tables_are_sweeps_with_a_row_for_every_system(name, classes):
    sweep = read_sweep(ROOT / f"sweeps/{name}.yaml")
    assert set(sweep.rows) == {*TABLES[classes], *NOT_IN_THE_PAPER, THREE_FOLDS} and set(sweep.published) == set(
        TABLES[classes]
    )
    assert sweep.rows[sweep.reference] == {} and sweep.reference == "GAM-MM-MER"
    large = {name for name, row in sweep.rows.items() if "model.protocol" in row}
    folds = [sweep.rows[name][key] for name in large for key in ("model.protocol", "model.num_folds")]
    assert THREE_FOLDS in large and folds == ["kfold", 3] * len(large)
    files = [row["config"] for row in sweep.rows.values() if "config" in row]
    assert len(set(files)) == len(files) and set(files) <= {str(path.relative_to(ROOT)) for path in OVERLAYS}


def test_every_systems_settings_are_in_a_table():
    sweeps = [read_sweep(ROOT / f"sweeps/{name}.yaml") for name in ("table1", "table2", "rivals")]
    rows = [row for sweep in sweeps for row in sweep.rows.values()]
    assert {str(path.relative_to(ROOT)) for path in OVERLAYS} == {row["config"] for row in rows if "config" in row}
