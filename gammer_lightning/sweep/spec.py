"""What a sweep is: a YAML that names a base experiment and the settings in which its rows differ from it.

    study: table4_alpha
    base: experiments/recognize_microfaces.yaml
    seeds: [0, 1, 2]
    rows:                                  # or grid: setting -> list of values, every combination a row
      raw: {data.eval_alpha: 1, data.train_alphas: [1]}
      alpha 5: {data.eval_alpha: 5}

A setting is literally a flag of `fit`: `data.eval_alpha: 5` is `--data.eval_alpha=5`.
"""

import argparse
import itertools
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from gammer_lightning.errors import GammerError

TASKS = ("recognize", "magnify")


@dataclass(frozen=True)
class Sweep:
    """A sweep as its YAML says it.

    Attributes:
        study: Its name, and that of its runs.
        base: The experiment that every row starts from; its name begins with the task, ``recognize`` or ``magnify``.
        seeds: Seeds of every row, ``model.seeds``; empty leaves those of the base.
        rows: Settings of each row by the row's name.
        grid: Values of each setting; every combination is a row. One of rows and grid is given.

    Raises:
        GammerError: If a value is of another kind, or both or none of rows and grid are given.
    """

    study: str
    base: str
    seeds: Sequence[int] = ()
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self):
        for holds, what, rule in (
            (bool(self.rows) != bool(self.grid), "rows and grid", "exactly one of them is given"),
            (_is_name(self.study), f"study {self.study!r}", "a name without slashes"),
            (self.task in TASKS, f"base {self.base!r}", f"a file whose name begins with {' or '.join(TASKS)}"),
            (_are_integers(self.seeds), f"seeds {self.seeds!r}", "a list of whole numbers"),
            (_are_settings(self.rows), "rows", "each row maps settings to values, e.g. {model.depth: 3}"),
            (_are_lists(self.grid), "grid", "each setting has a list of values, e.g. model.depth: [1, 2]"),
        ):
            if not holds:
                raise GammerError(f"sweep {self.study!r}: {what}", rule, "correct the sweep's YAML")

    @property
    def task(self) -> str:
        """The task that the rows run: the first word of the base's name."""
        return Path(str(self.base)).name.split("_")[0]

    def settings(self) -> dict[str, dict[str, Any]]:
        """Return the settings of each row by its name; a row of a grid is named after its values."""
        if self.rows:
            return {name: dict(settings) for name, settings in self.rows.items()}
        cells = (dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values()))
        return {", ".join(f"{_short(name)} {value}" for name, value in cell.items()): cell for cell in cells}

    def commands(self) -> dict[str, list[str]]:
        """Return the command of each row by its name: what reproduces the row."""
        seeds = {"model.seeds": list(self.seeds)} if self.seeds else {}
        return {
            row: ["gammer", self.task, "fit", "-c", self.base, "--name", self.study, *_flags(seeds | settings)]
            for row, settings in self.settings().items()
        }


def _is_name(text: object) -> bool:
    return isinstance(text, str) and bool(text) and "/" not in text


def _are_integers(values: object) -> bool:
    return isinstance(values, list | tuple) and all(type(value) is int for value in values)


def _are_settings(rows: Any) -> bool:
    return isinstance(rows, dict) and all(
        isinstance(row, dict) and all(isinstance(setting, str) for setting in row) for row in rows.values()
    )


def _are_lists(grid: Any) -> bool:
    return isinstance(grid, dict) and all(isinstance(values, list) and values for values in grid.values())


def _short(setting: str) -> str:
    return setting.rpartition(".")[2]


def _flags(settings: Mapping[str, Any]) -> list[str]:
    return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in settings.items()]


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a name that occurs twice is an error, not the last one's."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if repeated := [key for key in keys if keys.count(key) > 1]:
            raise yaml.YAMLError(f"{repeated[0]!r} occurs twice")
        return super().construct_mapping(node, deep)


def read_sweep(path: str | Path) -> Sweep:
    """Read a sweep's YAML.

    Raises:
        GammerError: If it cannot be read, has an unknown or no necessary key, or a value of another kind.
    """
    try:
        content = yaml.load(Path(path).read_text(), _UniqueKeys)  # a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GammerError(f"the sweep {path} cannot be read: {error}", "it is a YAML file", "see sweeps/") from error
    known = {entry.name for entry in fields(Sweep)}
    given = set(content) if isinstance(content, dict) else set()
    if given - known or not {"study", "base"} <= given:
        raise GammerError(
            f"the sweep {path} has the keys {', '.join(map(str, sorted(given, key=str))) or 'none'}",
            f"keys are {', '.join(sorted(known))}; study and base must be there",
            "correct it; sweeps/ has examples",
        )
    return Sweep(**content)


def check_rows(sweep: Sweep) -> None:
    """Send every row through the real parser and build its task and data, before anything starts.

    Raises:
        GammerError: Naming the first row with an unknown setting or a value that is not possible.
    """
    from gammer_lightning import training

    task = getattr(training, sweep.task)()
    for row, command in sweep.commands().items():
        try:
            training.SettingsCLI(task, "fit", command[3:])
        except GammerError as error:
            raise GammerError(f"row {row!r} of {sweep.study}: {error.what}", error.rule, error.next_step) from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer sweep plan``."""
    parser.add_argument("spec", metavar="SPEC", help="a sweep's YAML, e.g. sweeps/table4_alpha.yaml")


def main(arguments: argparse.Namespace) -> None:
    """Check every row and print its command."""
    sweep = read_sweep(arguments.spec)
    check_rows(sweep)
    for row, command in sweep.commands().items():
        print(f"# {row}\n{shlex.join(command)}")
