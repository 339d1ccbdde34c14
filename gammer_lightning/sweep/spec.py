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
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.published import TABLE_CLASSES, TEXTS, paper_figures
from gammer_lightning.files import check_name, read_yaml
from gammer_lightning.shipped import find_yaml

TASKS = ("recognize", "magnify")
Sampler = Literal["tpe", "random"]
CONFIG = "config"
"""As a setting, a YAML of settings on top of the base's, e.g. that of a system: experiments/baselines/ststnet.yaml."""
SPLIT = (
    *("model.protocol", "model.outer_fold", "model.num_folds", "data.roots", "data.class_set", "data.clip_list"),
    CONFIG,  # which may set them
)
"""The same in all rows that a choice is made among, or it would be made on other clips, or on test clips."""
NO_SETTINGS = ("out", "resume", "name", "print_config", "help", "c")
"""Options of fit that say where a run lies, which the sweep does, or that only print."""
SETTING = re.compile(r"[A-Za-z_][\w.-]*\+?")
"""The name of a setting: ``--NAME=VALUE`` is one option of fit."""
MAX_ROWS = 10_000
"""Rows of the largest study, and values of the largest space of a search, each of which is checked."""
MAX_DEVICES = 64
"""Devices of one row: those of a machine."""
MAX_TEXT = 2000
"""Characters of the longest text in a sweep's YAML; the parser of fit reads each as YAML, slowly."""
MAX_DEPTH = 20
"""Lists and mappings within each other in a value of a sweep's YAML."""
SEED_LIMIT = 2**31


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
    sampler: Sampler = "tpe"
    seed: int = 0
    prune: bool = True

    def __post_init__(self):
        samplers = get_args(Sampler)
        for holds, mistake, rule in (
            (_is_count(self.trials, MAX_ROWS), f"trials {self.trials!r}", f"a whole number from 1 to {MAX_ROWS:,}"),
            (self.sampler in samplers, f"sampler {self.sampler!r}", f"one of {', '.join(samplers)}"),
            (_is_seed(self.seed), f"seed {self.seed!r}", f"a whole number from 0 to {SEED_LIMIT - 1}"),
            (type(self.prune) is bool, f"prune {self.prune!r}", "true or false"),
            (isinstance(self.space, dict) and self.space, "space", "it maps settings to what they are drawn from"),
        ):
            _refuse_unless(holds, f"search.{mistake}", rule)
        for setting, choices in self.space.items():
            _refuse_unless(
                _is_setting(setting) and _can_be_drawn(choices), f"search.space.{setting} {_short(choices)}", _DRAWN
            )
        values = sum(_size(choices) for choices in self.space.values())
        _refuse_unless(values <= MAX_ROWS, f"search.space has {values:,} values", f"at most {MAX_ROWS:,}, each checked")


_DRAWN = "a setting has a list of values, {low: .., high: .., log: true} (up to 2**53; log: above 0), or {subset: [..]}"


def _can_be_drawn(choices: Any) -> bool:
    if not isinstance(choices, dict):
        return isinstance(choices, list) and bool(choices)
    if "subset" in choices:
        return set(choices) == {"subset"} and isinstance(choices["subset"], list) and bool(choices["subset"])
    if not {"low", "high"} <= set(choices) <= {"low", "high", "log"}:
        return False
    low, high, log = choices["low"], choices["high"], choices.get("log", False)
    numbers = all(type(limit) in (int, float) and abs(limit) <= 2**53 for limit in (low, high))
    return numbers and low <= high and type(log) is bool and (not log or low > 0)


def _size(choices: Any) -> int:
    """Return how many values of a setting of a space are checked."""
    return len(choices) if isinstance(choices, list) else 1 + len(choices.get("subset", "1"))


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
            that bear their systems' names (`gammer_lightning.evaluation.published`).

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
        check_name(self.study if isinstance(self.study, str) else "", f"study {self.study!r}: a sweep's `study`")
        self._refuse_unless(
            self.study == self.study.strip() and not self.study.startswith("-"),
            f"study {self.study!r}",
            "a name begins with no dash, and has no space at its ends",
        )
        for entry in fields(self):
            if entry.name != "search":
                _check_plain(getattr(self, entry.name), f"sweep {self.study!r}: {entry.name}")
        if isinstance(self.search, dict):
            _check_plain(self.search, f"sweep {self.study!r}: search")
            object.__setattr__(self, "search", _from_keys(Search, self.search, f"sweep {self.study!r}: search"))
        self._check_kinds()
        if isinstance(self.published, str):
            object.__setattr__(self, "published", paper_figures(self.published, self.rows))
        self._check_choice()
        self._check_rows()

    def _refuse_unless(self, holds: object, mistake: str, rule: str) -> None:
        _refuse_unless(holds, f"sweep {self.study!r}: {mistake}", rule)

    def _check_kinds(self) -> None:
        """Refuse values of another kind; what is said of later ones takes earlier ones for granted."""
        kinds = (self.rows, self.grid, self.search)
        for holds, mistake, rule in (
            (sum(map(bool, kinds)) == 1, "rows, grid and search", "exactly one of them is given"),
            (
                self.search is None or isinstance(self.search, Search),
                "search",
                "it has trials and a space: {trials: 9, space: {model.depth: [1, 2]}}",
            ),
            (
                isinstance(self.base, str) and self.task in TASKS,
                f"base {self.base!r}",
                f"a file whose name begins with {' or '.join(TASKS)}",
            ),
            (_are_seeds(self.seeds), f"seeds {_short(self.seeds)}", _SEEDS),
            (_are_settings({"common": self.common}), "common", "it maps settings to values, e.g. {model.depth: 3}"),
            (
                _are_settings(self.rows),
                "rows",
                "each has a name, and maps settings to values: 'alpha 5': {model.depth: 3}",
            ),
            (_are_lists(self.grid), "grid", "each setting has a list of values, e.g. model.depth: [1, 2]"),
            (
                _is_count(self.devices_per_trial, MAX_DEVICES),
                f"devices_per_trial {self.devices_per_trial!r}",
                f"a number above 0, at most {MAX_DEVICES}",
            ),
            (_are_words(self.metric), f"metric {self.metric!r}", "the name of a metric, or a list of two"),
            (_are_words(self.mode), f"mode {self.mode!r}", "max or min"),
            (isinstance(self.reference, str), f"reference {self.reference!r}", "the name of a row"),
            (
                self.published in list(TABLE_CLASSES) or _are_published(self.published),
                "published",
                f"{' or '.join(TABLE_CLASSES)}, or it maps rows to two figures from 0 to 1 or nulls each: "
                "{casme2_3: [.91, .91]}",
            ),
        ):
            self._refuse_unless(holds, mistake, rule)

    def _check_choice(self) -> None:
        """Refuse metrics that cannot be chosen by."""
        for holds, mistake, rule in (
            (set(self.modes) <= {"max", "min"}, f"mode {self.mode!r}", "max or min"),
            (len(self.modes) == max(len(self.metrics), 1), f"mode {self.mode!r}", "one for each metric"),
            (len(self.metrics) <= 2, f"metric {self.metric!r}", "one, or two for a search"),
            (self.search is None or self.metrics, "a search without a metric", "metric names what it raises or lowers"),
            (self.search or len(self.metrics) < 2, f"metric {self.metric!r}", "only a search takes two"),
        ):
            self._refuse_unless(holds, mistake, rule)
        varied = {setting for settings in self.rows.values() for setting in settings} | set(self.grid)
        varied = set(self.search.space) if self.search else varied if self.metrics else set()
        for setting in sorted(varied & set(SPLIT)):
            rule = "rows that one is chosen from are judged on the same clips, and never on those of a test"
            self._refuse_unless(False, f"{setting} varies", f"{rule}; set it under `common`")

    def _check_rows(self) -> None:
        """Refuse too many rows, before they are made, and names that are none of a row."""
        product = math.prod(len(values) for values in self.grid.values())
        for count, part in ((len(self.rows), "rows"), (product, "grid")):
            self._refuse_unless(count <= MAX_ROWS, f"{part} has {count:,} rows", f"a study has at most {MAX_ROWS:,}")
        settings = self.settings()
        self._refuse_unless(not self.grid or len(settings) == product, "grid", "no value occurs twice")
        for row in settings.values():
            options = dict(self.common) | row
            own_seeds, yaml_on_top = options.get("model.seeds", ()), options.get(CONFIG, "x")
            self._refuse_unless(_are_seeds(own_seeds), f"model.seeds {_short(own_seeds)}", _SEEDS)
            self._refuse_unless(
                isinstance(yaml_on_top, str) and yaml_on_top, f"{CONFIG} {_short(yaml_on_top)}", "the path of a YAML"
            )
        if not self.search:
            for name in (self.reference, *self.published):
                self._refuse_unless(not name or name in settings, f"{name!r}", "it names no row")

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
            self._refuse_unless(
                row in self.rows,
                f"--skip {row!r}",
                f"its rows are {listed(self.rows)}" if self.rows else "a grid or a search has no row to leave out",
            )
        if rows:
            self._refuse_unless(set(self.rows) - set(rows), "--skip leaves no row", "one row at least is run")
        remaining, figures = (
            {name: value for name, value in mapping.items() if name not in rows}
            for mapping in (self.rows, self.published)
        )
        return replace(self, rows=remaining, published=figures)

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
        common: dict[str, Any] = {"model.seeds": list(self.seeds)} if self.seeds else {}
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


def _refuse_unless(holds: object, mistake: str, rule: str) -> None:
    if not holds:
        raise GammerError(mistake, rule, "correct the sweep's YAML")


def _check_plain(value: Any, setting: str, depth: int = 0) -> None:
    """Refuse what is no value of JSON, and text that a terminal, a file or a command line would not show as it is.

    Raises:
        GammerError: At a date, NaN, infinity, a control character, or lists and mappings nested too deep.
    """
    rule = "values are text in one line without control characters, true, false, null, finite numbers, lists, mappings"
    if isinstance(value, Mapping | list | tuple):
        _refuse_unless(
            depth < MAX_DEPTH, f"{setting} is nested too deep", f"at most {MAX_DEPTH} lists or mappings deep"
        )
        keys = list(value) if isinstance(value, Mapping) else []
        for key in keys:
            _refuse_unless(isinstance(key, str), f"{setting} has the name {_short(key)}", "a name is text: 'alpha 5'")
        for item in [*keys, *(value.values() if isinstance(value, Mapping) else value)]:
            _check_plain(item, setting, depth + 1)
        return
    is_plain = value is None or type(value) in (bool, int)
    is_plain |= isinstance(value, str) and value.isprintable()
    is_short = not isinstance(value, str) or len(value) <= MAX_TEXT
    _refuse_unless(is_short, f"{setting} holds {_short(value)}", f"a text has at most {MAX_TEXT:,} characters")
    is_plain |= type(value) is float and math.isfinite(value)
    _refuse_unless(is_plain, f"{setting} holds {_short(value)}", rule)


def _is_count(value: object, most: int) -> bool:
    return type(value) is int and 0 < value <= most


def _is_seed(value: object) -> bool:
    return type(value) is int and 0 <= value < SEED_LIMIT


def _are_words(values: Any) -> bool:
    return isinstance(values, str) or (
        isinstance(values, list | tuple) and all(isinstance(value, str) and value for value in values)
    )


_SEEDS = f"a list of whole numbers from 0 to {SEED_LIMIT - 1}, none of them twice"


def _are_seeds(values: object) -> bool:
    if not isinstance(values, list | tuple):
        return False
    return all(map(_is_seed, values)) and len(set(values)) == len(values)


def _are_settings(rows: Any) -> bool:
    return isinstance(rows, Mapping) and all(
        isinstance(name, str) and name and isinstance(row, Mapping) and all(map(_is_setting, row))
        for name, row in rows.items()
    )


def _is_setting(name: object) -> bool:
    return isinstance(name, str) and name.rstrip("+") not in NO_SETTINGS and bool(SETTING.fullmatch(name))


def _are_lists(grid: Any) -> bool:
    return isinstance(grid, Mapping) and all(
        _is_setting(name) and isinstance(values, list) and values for name, values in grid.items()
    )


def _are_published(published: Any) -> bool:
    if not isinstance(published, Mapping) or not all(isinstance(by_data, Mapping) for by_data in published.values()):
        return False
    texts = [text for by_data in published.values() for key, text in by_data.items() if key in TEXTS]
    figures = [pair for by_data in published.values() for key, pair in by_data.items() if key not in TEXTS]
    return all(isinstance(text, str) for text in texts) and all(
        isinstance(pair, list) and len(pair) == 2 and all(map(_is_figure, pair)) for pair in figures
    )


def _is_figure(value: object) -> bool:
    return value is None or (type(value) is float and 0 <= value <= 1)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."


def listed(names: Iterable[str], most: int = 50) -> str:
    """Return names for a message: all, or the first ones and how many there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} others" if len(names) > most else "")


def _last(setting: str) -> str:
    return setting.rpartition(".")[2]


def _words(value: Any) -> str:
    return " + ".join(map(str, value)) if isinstance(value, list) else str(value)


def _flags(settings: Mapping[str, Any]) -> list[str]:
    return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in settings.items()]


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a name that occurs twice is an error, not the last one's."""

    def construct_mapping(self, node, deep=False):
        mapping = super().construct_mapping(node, deep)  # which refuses names that are lists or mappings
        if len(mapping) < len(node.value):
            names = Counter(self.construct_object(name, deep=True) for name, _ in node.value)
            raise yaml.YAMLError(f"{names.most_common(1)[0][0]!r} occurs twice")
        return mapping


def read_sweep(path: str | Path) -> Sweep:
    """Read a sweep's YAML.

    Raises:
        GammerError: If it cannot be read, has an unknown or no necessary key, or a value of another kind.
    """
    path = find_yaml(path, "sweeps")
    return _from_keys(Sweep, read_yaml(path, _UniqueKeys), f"the sweep {path}")


def sweep_of_plan(plan: Any, study: str) -> Sweep:
    """Return the sweep that a storage keeps as the plan of a study.

    Raises:
        GammerError: If it is none, or another study's.
    """
    is_plan = isinstance(plan, dict) and isinstance(plan.get("base_text"), str)
    sweep = _from_keys(Sweep, plan.get("sweep"), f"the plan of the study {study}") if is_plan else None
    if sweep is None or sweep.study != study:
        raise GammerError(
            f"the plan of the study {study} in the storage is damaged",
            "`gammer sweep run` writes it, and nothing else",
            "restore the storage, or start a new study: change `study` in the sweep's YAML",
        )
    return sweep


def _from_keys(kind: type, content: Any, part: str) -> Any:
    keys = {entry.name: entry.default is entry.default_factory for entry in fields(kind)}
    needed = {name for name, has_no_default in keys.items() if has_no_default}
    given_keys = set(content) if isinstance(content, dict) else set()
    if given_keys - set(keys) or not needed <= given_keys:
        raise GammerError(
            f"{part} has the keys {listed(sorted(map(str, given_keys))) or 'none'}",
            f"keys are {', '.join(sorted(keys))}; {' and '.join(sorted(needed))} must be there",
            "correct it; sweeps/ has examples",
        )
    return kind(**content)
