"""Every setting of both tasks with values of the wrong kind, size and sign: one error, or rightly taken."""

import logging
import os
from pathlib import Path

import pytest
import torch

from gammer_lightning import cli
from gammer_lightning.errors import GammerError
from gammer_lightning.runs.loggers import check_wandb
from gammer_lightning.sweep.check import _cli_with_one_parser
from gammer_lightning.training import settings

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
BASE = {"recognize": "recognize_microfaces.yaml", "magnify": "magnify_small.yaml"}
WRONG = ("-1", "0", str(2**70), ".nan", "{a: 1}")
TEXT = set(WRONG)
OPTIONAL_END = {"0"}
TAKEN = {
    "seed_everything": {"0"},
    "model.weights": TEXT,
    "model.start_from": TEXT,
    "model.dropout": {"0"},
    "model.weight_decay": {"0"},
    "model.warmup": {"0"},
    "model.edge_weight": {"0"},
    "model.regulariser_weight": {"0"},
    "model.displacement_weight": {"0"},
    "data.roots": {"{a: 1}"},  # an unknown data set is an error of its reading
    "data.clip_list": TEXT,
    "data.magnifier": TEXT,
    "data.published": TEXT,
    "data.microfaces": TEXT,
    "data.cache": TEXT,
    "data.seed": {"0"},
    "data.num_workers": {"0"},
    "trainer.callbacks": set(),
    "trainer.max_epochs": set(),
    "trainer.fast_dev_run": {"0"},  # false
    "trainer.overfit_batches": {"0"},
    "trainer.min_epochs": {"0"},
    "trainer.max_steps": {"-1"},  # no limit
    "trainer.min_steps": {"0"},
    "trainer.limit_val_batches": {"0"},
    "trainer.limit_predict_batches": {"0"},
    "trainer.num_sanity_val_steps": {"-1", "0"},  # all, none
    "trainer.log_every_n_steps": {"0"},  # never
    "trainer.gradient_clip_val": {"0"},
    "trainer.reload_dataloaders_every_n_epochs": {"0"},
}
"""Values of `WRONG` that are right after all: texts that are paths, and numbers in range."""


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    logging.disable(logging.NOTSET)


def parsed(command, task, *argv):
    """Parse settings, build module, data and trainer, as a fit does before it reads data."""
    made = command(task, "fit", ["-c", str(EXPERIMENTS / BASE[task.name]), "--trainer.accelerator=cpu", *argv])
    made.instantiate_trainer(logger=False, default_root_dir=".", callbacks=[])
    return made


@pytest.mark.parametrize("name", BASE)
def test_every_setting_takes_or_refuses_values_of_the_wrong_kind_size_and_sign(name):
    task, command = getattr(settings, name)(), _cli_with_one_parser()
    logging.disable(logging.WARNING)
    config = parsed(command, task).config
    names = [f"{group}.{key}" for group in ("model", "data", "trainer") for key in vars(config[group])]
    assert len(names) > 50
    wrong = []
    for setting in ["seed_everything", *names]:
        taken = set()
        for value in WRONG:
            try:
                parsed(command, task, f"--{setting}={value}")
                taken.add(value)
            except GammerError as error:
                assert error.what and error.rule and error.next_step
            except Exception as error:
                wrong.append(f"{setting} {value}: {type(error).__name__}: {error}")
        if taken != TAKEN.get(setting, set()):
            wrong.append(f"{setting} takes {taken}")
    assert not wrong, "\n".join(wrong)
    assert not list(Path().rglob("*.yaml"))


UNTRAINED = [
    ["--trainer.max_epochs=0"],
    ["--trainer.max_steps=0"],
    ["--trainer.limit_train_batches=0"],
    ["--trainer.limit_train_batches=0.0"],
    ["--trainer.max_time=00:00:00:00"],
    ["--trainer.max_time={hours: 0}"],
    ["--trainer.max_time=soon"],
    ["--trainer.fast_dev_run=true"],
    ["--trainer.fast_dev_run=2"],
    ["--trainer.limit_test_batches=0"],
    ["--trainer.limit_test_batches=1"],
    ["--trainer.max_epochs=-1"],
    ["--trainer.max_epochs=null", "--trainer.max_time=00:01:00:00"],
    ["--trainer.max_epochs=3", "--trainer.min_epochs=4"],
    ["--trainer.max_steps=3", "--trainer.min_steps=4"],
    ["--trainer.overfit_batches=1"],
    ["--trainer.check_val_every_n_epoch=0"],
    ["--trainer.val_check_interval=0"],
    ["--trainer.enable_checkpointing=false"],
]


@pytest.mark.parametrize(("task", "verb"), [("recognize", "fit"), ("recognize", "audit"), ("magnify", "fit")])
def test_a_run_that_would_train_nothing_or_never_end_is_refused_before_data_are_read(task, verb, capsys):
    for flags in UNTRAINED:
        base = ["-c", str(EXPERIMENTS / BASE[task]), "--data.seed=7", "--wandb=disabled"]
        assert cli.main([task, verb, *base, *flags]) == 2, flags
        error = capsys.readouterr().err
        assert error.startswith(f"error: {flags[-1].partition('=')[0][2:]}") or "trainer.max_epochs" in error, error
        assert "rule: " in error and "next: " in error
    assert list(Path().iterdir()) == []


def test_a_whole_test_is_no_limit():
    parsed(_cli_with_one_parser(), settings.recognize(), "--trainer.limit_test_batches=1.0")


def test_recognition_refuses_what_its_own_optimisation_cannot_honour(capsys):
    base = ["recognize", "fit", "-c", str(EXPERIMENTS / BASE["recognize"])]
    for flags in (
        ["--trainer.accumulate_grad_batches=2"],
        ["--trainer.gradient_clip_val=1"],
        ["--trainer.max_epochs=null", "--trainer.max_steps=9"],
    ):
        assert cli.main([*base, *flags]) == 2
        assert flags[0].partition("=")[0][2:] in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_settings_of_a_yaml_are_read_within_bounds(capsys):
    os.mkfifo("pipe.yaml")
    Path("bomb.yaml").write_text(
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{new}: &{new} [{', '.join(['*' + old] * 10)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
        )
    )
    Path("resume.yaml").write_text("resume: runs/old\n")
    for name, message in (
        ("pipe.yaml", "is a pipe"),
        ("bomb.yaml", "values where its aliases are written out"),
        ("resume.yaml", "resume: runs/old in a YAML file"),
        ("/dev/zero", "device"),
    ):
        assert cli.main(["magnify", "fit", "-c", name]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", [["--name=../../x"], ["--name=a/b"], [f"--name={'x' * 300}"], ["--name="], ["--out="]]
)
def test_a_name_that_is_no_name_and_an_empty_folder_are_refused(flags, capsys):
    assert cli.main(["magnify", "fit", "-c", str(EXPERIMENTS / BASE["magnify"]), *flags]) == 2
    assert flags[0].partition("=")[0] in capsys.readouterr().err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(("name", "value"), [("RANK", "x"), ("WORLD_SIZE", ""), ("SLURM_NTASKS", "-4")])
def test_a_launchers_variable_that_is_no_number_is_named(name, value, monkeypatch, capsys):
    monkeypatch.setenv(name, value)
    assert cli.main(["magnify", "fit", "--help"]) == 2
    assert f"variable {name} is" in capsys.readouterr().err


def test_tasks_of_slurm_that_are_more_than_devices_are_one_error(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with pytest.raises(GammerError, match="SLURM"):
        parsed(_cli_with_one_parser(), settings.magnify())


@pytest.mark.parametrize(
    ("name", "value"),
    [("WANDB_MODE", "nonsense"), ("WANDB_MODE", ""), ("WANDB_TAGS", "x" * 65), ("WANDB_BASE_URL", "x")],
)
def test_a_variable_that_wandb_refuses_is_named_before_anything_is_written(name, value, monkeypatch, capsys):
    monkeypatch.setenv(name, value)
    assert cli.main(["magnify", "fit", "-c", str(EXPERIMENTS / BASE["magnify"]), "--wandb=offline"]) == 2
    error = capsys.readouterr().err
    assert f"error: the environment variable {name} " in error and "Traceback" not in error
    assert list(Path().iterdir()) == []


def test_wandb_online_without_a_key_is_one_error(monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "online")
    assert cli.main(["magnify", "fit", "-c", str(EXPERIMENTS / BASE["magnify"]), "--wandb=online"]) == 2
    error = capsys.readouterr().err
    assert "error: there is no W&B key" in error and "--wandb offline" in error
    assert list(Path().iterdir()) == []
    check_wandb("disabled")


def test_resume_without_a_value_is_one_error(capsys):
    assert cli.main(["magnify", "fit", "--resume"]) == 2
    assert "error: argument --resume" in capsys.readouterr().err
    assert cli.main(["magnify", "fit", "--resume="]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_a_file_where_a_folder_is_meant_and_a_long_path_are_one_error(capsys):
    Path("file").touch()
    for out in ("file", "file/run", "x" * 300):
        base = ["magnify", "fit", "-c", str(EXPERIMENTS / BASE["magnify"]), "--wandb=disabled"]
        assert cli.main([*base, f"--out={out}"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and out.split("/")[0] in error and "next: " in error
    assert torch.is_grad_enabled()
