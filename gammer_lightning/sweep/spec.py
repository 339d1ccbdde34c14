"""What a sweep is: a YAML that names a base experiment and the settings in which its rows differ from it.

    study: table4_alpha
    base: experiments/recognize_microfaces.yaml
    seeds: [0, 1, 2]
    rows:                                  # or grid: setting -> list of values, every combination a row
      raw: {data.eval_alpha: 1, data.train_alphas: [1]}
      alpha 5: {data.eval_alpha: 5}

A setting is literally a flag of `fit`: `data.eval_alpha: 5` is `--data.eval_alpha=5`. A search draws its rows from
a space of settings instead (`Search`).
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from gammer_lightning.errors import GammerError
from gammer_lightning.paper_tables import TABLE_CLASSES, TEXTS, paper_figures
from gammer_lightning.shipped import find_yaml

TASKS = ("recognize", "magnify")
SAMPLERS = ("tpe", "random")
CONFIG = "config"
"""As a setting, a YAML of settings on top of the base's, e.g. that of a system: experiments/baselines/ststnet.yaml."""
SPLIT = (
    *("model.protocol", "model.outer_fold", "model.num_folds", "data.roots", "data.class_set", "data.clip_list"),
    CONFIG,  # which may set them
)
"""The same in all rows that a choice is made among, or it would be made on other clips, or on test clips."""
NO_SETTINGS = ("out", "resume", "name", "print_config")
"""Options of fit that say where a run lies, which the sweep does."""


@dataclass(frozen=True)
class Search:
    """How the rows of a search are drawn.

    Attributes:
        trials: Number of rows.
        space: What each setting is drawn from: a list of values, ``{low: 1, high: 4}`` (whole numbers if both are),
            ``{low: 1.0e-4, high: 1.0e-2, log: true}``, or ``{subset: [...]}``, any of them but none, each drawn by
            itself.
        sampler: ``tpe`` or ``random``.
        seed: Seed of the sampler.
        prune: Whether a row whose metric is below the median of the others at the same epoch is stopped.

    Raises:
        GammerError: If a value is of another kind.
    """

    trials: int
    space: Mapping[str, Any]
    sampler: str = "tpe"
    seed: int = 0
    prune: bool = True

    def __post_init__(self):
        for holds, what, rule in (
            (type(self.trials) is int and self.trials > 0, f"trials {self.trials!r}", "a whole number above 0"),
            (self.sampler in SAMPLERS, f"sampler {self.sampler!r}", f"one of {', '.join(SAMPLERS)}"),
            (type(self.seed) is int, f"seed {self.seed!r}", "a whole number"),
            (type(self.prune) is bool, f"prune {self.prune!r}", "true or false"),
            (isinstance(self.space, dict) and self.space, "space", "it maps settings to what they are drawn from"),
        ):
            _refuse_unless(holds, f"search.{what}", rule)
        for setting, choices in self.space.items():
            _refuse_unless(
                isinstance(setting, str) and _can_be_drawn(choices), f"search.space.{setting} {choices!r}", _DRAWN
            )


_DRAWN = "a list of values, {low: .., high: .., log: true} (log: above 0), or {subset: [..]}"


def _can_be_drawn(choices: Any) -> bool:
    if not isinstance(choices, dict):
        return isinstance(choices, list) and bool(choices)
    if "subset" in choices:
        return set(choices) == {"subset"} and isinstance(choices["subset"], list) and bool(choices["subset"])
    if not {"low", "high"} <= set(choices) <= {"low", "high", "log"}:
        return False
    low, high, log = choices["low"], choices["high"], choices.get("log", False)
    numbers = all(type(limit) in (int, float) and math.isfinite(limit) for limit in (low, high))
    return numbers and low <= high and type(log) is bool and (not log or low > 0)


@dataclass(frozen=True)
class Sweep:
    """A sweep as its YAML says it.

    Attributes:
        study: Its name, and that of its runs.
        base: The experiment that every row starts from; its name begins with the task, ``recognize`` or ``magnify``.
        metric: What ``best`` and a search choose by: a metric that the runs log, never one of a test; two for a
            search with two objectives.
        mode: ``max`` or ``min``, for each metric.
        seeds: Seeds of every row, ``model.seeds``; empty leaves those of the base.
        devices_per_trial: Devices that one row trains on.
        common: Settings of all rows.
        rows: Settings of each row by the row's name.
        grid: Values of each setting; every combination is a row.
        search: How rows are drawn. One of rows, grid and search is given.
        reference: Row that the others are compared with; the first one where it is not given.
        published: For each row accuracy and F1 in the paper, by data set and number of classes, e.g.
            ``{casme2_3: [.9157, .9122]}``, null where the paper has none; ``metrics`` beside them names what they are
            where that is something else. Or ``table1`` or ``table2``: what those tables of the paper say of the rows
            that bear their systems' names (`gammer_lightning.paper_tables`).

    Raises:
        GammerError: If a value is of another kind, or not exactly one of rows, grid and search is given.
    """

    study: str
    base: str
    metric: str | Sequence[str] = ""
    mode: str | Sequence[str] = "max"
    seeds: Sequence[int] = ()
    devices_per_trial: int = 1
    common: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    search: Search | None = None
    reference: str = ""
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self):
        if isinstance(self.search, dict):
            object.__setattr__(self, "search", _from_keys(Search, self.search, f"sweep {self.study!r}: search"))
        if self.published in list(TABLE_CLASSES):
            object.__setattr__(self, "published", paper_figures(self.published, self.rows))
        kinds = (self.rows, self.grid, self.search)
        for holds, what, rule in (
            (sum(map(bool, kinds)) == 1, "rows, grid and search", "exactly one of them is given"),
            (_is_name(self.study), f"study {self.study!r}", "a name without slashes"),
            (self.task in TASKS, f"base {self.base!r}", f"a file whose name begins with {' or '.join(TASKS)}"),
            (_are_integers(self.seeds), f"seeds {self.seeds!r}", "a list of whole numbers"),
            (_are_settings({"common": self.common}), "common", "it maps settings to values, e.g. {model.depth: 3}"),
            (
                _are_settings(self.rows),
                "rows",
                "each has a name, and maps settings to values: 'alpha 5': {model.depth: 3}",
            ),
            (_are_lists(self.grid), "grid", "each setting has a list of values, e.g. model.depth: [1, 2]"),
            (_is_count(self.devices_per_trial), f"devices_per_trial {self.devices_per_trial!r}", "a number above 0"),
            (_are_words(self.metrics), f"metric {self.metric!r}", "the name of a metric, or a list of two"),
            (set(self.modes) <= {"max", "min"}, f"mode {self.mode!r}", "max or min"),
            (len(self.modes) == max(len(self.metrics), 1), f"mode {self.mode!r}", "one for each metric"),
            (len(self.metrics) <= 2, f"metric {self.metric!r}", "one, or two for a search"),
            (self.search is None or self.metrics, "a search without a metric", "metric names what it raises or lowers"),
            (self.search or len(self.metrics) < 2, f"metric {self.metric!r}", "only a search takes two"),
            (
                _are_published(self.published),
                "published",
                f"{' or '.join(TABLE_CLASSES)}, or it maps rows to two figures or nulls each: {{casme2_3: [.91, .91]}}",
            ),
        ):
            _refuse_unless(holds, f"sweep {self.study!r}: {what}", rule)
        varied = {setting for settings in self.rows.values() for setting in settings} | set(self.grid)
        varied = set(self.search.space) if self.search else varied if self.metrics else set()
        for setting in sorted(varied & set(SPLIT)):
            rule = "rows that one is chosen from are judged on the same clips, and never on those of a test"
            _refuse_unless(False, f"sweep {self.study!r}: {setting} varies", f"{rule}; set it under `common`")
        product = math.prod(len(values) for values in self.grid.values())
        _refuse_unless(
            not self.grid or len(self.settings()) == product, f"sweep {self.study!r}: grid", "no value occurs twice"
        )
        if not self.search:
            for name in (self.reference, *self.published):
                known = self.settings()
                _refuse_unless(not name or name in known, f"sweep {self.study!r}: {name!r}", "it names no row")

    @property
    def task(self) -> str:
        """The task that the rows run: the first word of the base's name."""
        return Path(str(self.base)).name.split("_")[0]

    @property
    def metrics(self) -> list[str]:
        """The metrics as a list; empty where nothing is chosen."""
        return [self.metric] * bool(self.metric) if isinstance(self.metric, str) else list(self.metric)

    @property
    def modes(self) -> list[str]:
        """The mode of each metric."""
        return [self.mode] if isinstance(self.mode, str) else list(self.mode)

    def on(self, base: str) -> "Sweep":
        """Return the same sweep on another experiment, as a study of its own."""
        stem = Path(base).stem
        return replace(self, base=base, study=f"{self.study}-{stem.partition('_')[2] or stem}")

    def without(self, rows: Sequence[str]) -> "Sweep":
        """Return the same sweep without some of its rows.

        Raises:
            GammerError: If it has no such row, or would have none left.
        """
        for row in rows:
            _refuse_unless(row in self.rows, f"sweep {self.study!r}: {row!r}", f"its rows are {', '.join(self.rows)}")
        kept, figures = (
            {name: what for name, what in named.items() if name not in rows} for named in (self.rows, self.published)
        )
        return replace(self, rows=kept, published=figures)

    @property
    def files(self) -> list[str]:
        """The YAMLs that its rows are made of: the base, and what rows put on top of it."""
        tops = [self.common, *self.settings().values()]
        return list(dict.fromkeys([self.base, *(settings[CONFIG] for settings in tops if CONFIG in settings)]))

    def settings(self) -> dict[str, dict[str, Any]]:
        """Return the settings of each planned row by its name; a row of a grid is named after its values."""
        if self.search:
            return {f"trial {number}": {} for number in range(self.search.trials)}
        if self.rows:
            return {name: dict(settings) for name, settings in self.rows.items()}
        cells = (dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values()))
        return {", ".join(f"{_last(name)} {_words(value)}" for name, value in cell.items()): cell for cell in cells}

    def command(self, settings: Mapping[str, Any]) -> list[str]:
        """Return the command of a row: what reproduces it."""
        common = {"model.seeds": list(self.seeds)} if self.seeds else {}
        if self.devices_per_trial > 1:
            common["trainer.devices"] = self.devices_per_trial
        flags = _flags(common | dict(self.common) | dict(settings))
        flags.sort(key=lambda flag: not flag.startswith(f"--{CONFIG}="))  # first, since what comes later counts
        return ["gammer", self.task, "fit", "-c", self.base, "--name", self.study, *flags]

    def seeds_of(self, row: str) -> Sequence[int]:
        """Return the seeds that a row trains; empty where the base says them."""
        return (dict(self.common) | self.settings()[row]).get("model.seeds", self.seeds)

    def commands(self) -> dict[str, list[str]]:
        """Return the command of each row by its name."""
        return {row: self.command(settings) for row, settings in self.settings().items()}

    def plain(self) -> dict[str, Any]:
        """Return the sweep as plain values, from which `Sweep` makes it again."""
        return json.loads(json.dumps(asdict(self)))


def _refuse_unless(holds: object, what: str, rule: str) -> None:
    if not holds:
        raise GammerError(what, rule, "correct the sweep's YAML")


def _is_name(text: object) -> bool:
    return isinstance(text, str) and bool(text) and "/" not in text


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _are_words(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) and value for value in values)


def _are_integers(values: object) -> bool:
    return isinstance(values, list | tuple) and all(type(value) is int for value in values)


def _are_settings(rows: Any) -> bool:
    return isinstance(rows, dict) and all(
        isinstance(name, str) and name and isinstance(row, dict) and all(map(_is_setting, row))
        for name, row in rows.items()
    )


def _is_setting(name: object) -> bool:
    return isinstance(name, str) and name not in NO_SETTINGS


def _are_lists(grid: Any) -> bool:
    return isinstance(grid, dict) and all(isinstance(values, list) and values for values in grid.values())


def _are_published(published: Any) -> bool:
    if not _are_settings(published):
        return False
    figures = [pair for by_data in published.values() for key, pair in by_data.items() if key not in TEXTS]
    return all(isinstance(pair, list) and len(pair) == 2 and all(map(_is_figure, pair)) for pair in figures)


def _is_figure(value: object) -> bool:
    return value is None or type(value) is float


def _last(setting: str) -> str:
    return setting.rpartition(".")[2]


def _words(value: Any) -> str:
    return " + ".join(map(str, value)) if isinstance(value, list) else str(value)


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
    path = find_yaml(path, "sweeps")
    try:
        content = yaml.load(path.read_text(), _UniqueKeys)  # a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GammerError(f"the sweep {path} cannot be read: {error}", "it is a YAML file", "see sweeps/") from error
    return _from_keys(Sweep, content, f"the sweep {path}")


def _from_keys(kind: type, content: Any, where: str) -> Any:
    known = {entry.name: entry.default is entry.default_factory for entry in fields(kind)}
    needed = {name for name, has_no_default in known.items() if has_no_default}
    given = set(content) if isinstance(content, dict) else set()
    if given - set(known) or not needed <= given:
        raise GammerError(
            f"{where} has the keys {', '.join(map(str, sorted(given, key=str))) or 'none'}",
            f"keys are {', '.join(sorted(known))}; {' and '.join(sorted(needed))} must be there",
            "correct it; sweeps/ has examples",
        )
    return kind(**content)
