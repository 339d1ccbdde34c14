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
TEST_SCORES = ("test_uf1", "test_macro_f1")
"""Main scores that rows of `recognize` log of their test: of classes, of action units."""
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
        num_values = 0
        for setting, choices in self.space.items():
            is_drawable = _is_setting(setting) and _can_be_drawn(choices)
            _refuse_unless(is_drawable, f"search.space.{setting} {_short(choices)}", _DRAWN)
            num_values += _size(choices)
        _refuse_unless(
            num_values <= MAX_ROWS, f"search.space has {num_values:,} values", f"at most {MAX_ROWS:,}, each checked"
        )


_DRAWN = "a setting has a list of values, {low: .., high: .., log: true} (up to 2**53; log: above 0), or {subset: [..]}"


def _can_be_drawn(choices: Any) -> bool:
    if not isinstance(choices, dict):
        return isinstance(choices, list) and bool(choices)
    if "subset" in choices:
        subset = choices["subset"]
        return len(choices) == 1 and isinstance(subset, list) and bool(subset)
    if not {"low", "high"} <= set(choices) <= {"low", "high", "log"}:
        return False
    low = choices["low"]
    high = choices["high"]
    log = choices.get("log", False)
    for limit in (low, high):
        if type(limit) not in (int, float) or not abs(limit) <= 2**53:  # NaN, too
            return False
    if type(log) is not bool or low > high:
        return False
    return low > 0 if log else True


def _size(choices: Any) -> int:
    """Return how many values of a setting of a space are checked."""
    if isinstance(choices, list):
        return len(choices)
    if "subset" in choices:
        return 1 + len(choices["subset"])
    return 2


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
            ``{casme2_3: [.9157, .9122]}``, null where the paper has none. Of objective classes it is
            ``casme2_objective``, of several data sets ``composite_3``. ``metrics`` beside them names what they are
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
            part = f"sweep {self.study!r}: search"
            _check_plain(self.search, part)
            search = _from_keys(Search, self.search, part)
            object.__setattr__(self, "search", search)
        self._check_kinds()
        if isinstance(self.published, str):
            object.__setattr__(self, "published", paper_figures(self.published, self.rows))
        self._check_choice()
        self._check_rows()

    def _refuse_unless(self, holds: object, mistake: str, rule: str) -> None:
        _refuse_unless(holds, f"sweep {self.study!r}: {mistake}", rule)

    def _check_kinds(self) -> None:
        """Refuse values of another kind. Each rule may rely on those before it."""
        num_sources = bool(self.rows) + bool(self.grid) + bool(self.search)
        for holds, mistake, rule in (
            (num_sources == 1, "rows, grid and search", "exactly one of them is given"),
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
        if not self.metrics:
            return
        varied = set(self.search.space) if self.search else set(self.grid).union(*self.rows.values())
        rule = "rows that one is chosen from are judged on the same clips, and never on those of a test"
        for setting in sorted(varied):
            self._refuse_unless(setting not in SPLIT, f"{setting} varies", f"{rule}; set it under `common`")

    def _check_rows(self) -> None:
        """Refuse too many rows, before they are made, and a reference or published figures of no row."""
        product = math.prod(len(values) for values in self.grid.values())
        for count, part in ((len(self.rows), "rows"), (product, "grid")):
            self._refuse_unless(count <= MAX_ROWS, f"{part} has {count:,} rows", f"a study has at most {MAX_ROWS:,}")
        settings = self.settings()
        self._refuse_unless(not self.grid or len(settings) == product, "grid", "no value occurs twice")
        for row in settings.values():
            options = dict(self.common) | row
            seeds = options.get("model.seeds", ())
            self._refuse_unless(_are_seeds(seeds), f"model.seeds {_short(seeds)}", _SEEDS)
            overlay = options.get(CONFIG, "x")
            is_path = isinstance(overlay, str) and overlay
            self._refuse_unless(is_path, f"{CONFIG} {_short(overlay)}", "the path of a YAML")
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
        if not self.metric:
            return []
        return [self.metric] if isinstance(self.metric, str) else list(self.metric)

    @property
    def modes(self) -> list[str]:
        """The mode of each metric."""
        return [self.mode] if isinstance(self.mode, str) else list(self.mode)

    def on(self, base: str) -> "Sweep":
        """Return the same sweep on another experiment, as a study of its own."""
        stem = Path(base).stem
        _, _, name = stem.partition("_")
        return replace(self, base=base, study=f"{self.study}-{name or stem}")

    def without(self, rows: Sequence[str]) -> "Sweep":
        """Return the same sweep without some of its rows.

        Raises:
            GammerError: If it has no such row, or would have none left.
        """
        rule = f"its rows are {listed(self.rows)}" if self.rows else "a grid or a search has no row to leave out"
        for row in rows:
            self._refuse_unless(row in self.rows, f"--skip {row!r}", rule)
        remaining = {name: settings for name, settings in self.rows.items() if name not in rows}
        published = {name: figures for name, figures in self.published.items() if name not in rows}
        if rows:
            self._refuse_unless(remaining, "--skip leaves no row", "one row at least is run")
        return replace(self, rows=remaining, published=published)

    @property
    def files(self) -> list[str]:
        """The YAMLs that its rows are made of: the base, and what rows put on top of it."""
        files = [self.base]
        for settings in (self.common, *self.settings().values()):
            if CONFIG in settings:
                files.append(settings[CONFIG])
        return list(dict.fromkeys(files))

    def settings(self) -> dict[str, dict[str, Any]]:
        """Return the settings of each planned row by its name; a row of a grid is named after its values."""
        if self.search:
            return {f"trial {number}": {} for number in range(self.search.trials)}
        if self.rows:
            return {name: dict(settings) for name, settings in self.rows.items()}
        rows = {}
        for values in itertools.product(*self.grid.values()):
            settings = dict(zip(self.grid, values, strict=True))
            parts = []
            for setting, value in settings.items():
                text = " + ".join(map(str, value)) if isinstance(value, list) else str(value)
                parts.append(f"{setting.rpartition('.')[2]} {text}")
            rows[", ".join(parts)] = settings
        return rows

    def command(self, settings: Mapping[str, Any]) -> list[str]:
        """Return the command of a row: what reproduces it."""
        common: dict[str, Any] = {"model.seeds": list(self.seeds)} if self.seeds else {}
        if self.devices_per_trial > 1:
            common["trainer.devices"] = self.devices_per_trial
        flags = []
        for name, value in (common | dict(self.common) | dict(settings)).items():
            text = value if isinstance(value, str) else json.dumps(value)
            flags.append(f"--{name}={text}")
        flags.sort(key=lambda flag: not flag.startswith(f"--{CONFIG}="))  # first, since what comes later counts
        return ["gammer", self.task, "fit", "-c", self.base, "--name", self.study, *flags]

    def seeds_of(self, row: str) -> Sequence[int]:
        """Return the seeds that a row trains; empty where the base says them."""
        settings = dict(self.common) | self.settings()[row]
        return settings.get("model.seeds", self.seeds)

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
        names = list(value) if isinstance(value, Mapping) else []
        for name in names:
            is_text = isinstance(name, str)
            _refuse_unless(is_text, f"{setting} has the name {_short(name)}", "a name is text: 'alpha 5'")
        items = value.values() if isinstance(value, Mapping) else value
        for item in (*names, *items):
            _check_plain(item, setting, depth + 1)
        return
    if isinstance(value, str):
        is_short = len(value) <= MAX_TEXT
        _refuse_unless(is_short, f"{setting} holds {_short(value)}", f"a text has at most {MAX_TEXT:,} characters")
        is_plain = value.isprintable()
    elif type(value) is float:
        is_plain = math.isfinite(value)
    else:
        is_plain = value is None or type(value) in (bool, int)
    _refuse_unless(is_plain, f"{setting} holds {_short(value)}", rule)


def _is_count(value: object, most: int) -> bool:
    return type(value) is int and 0 < value <= most


def _is_seed(value: object) -> bool:
    return type(value) is int and 0 <= value < SEED_LIMIT


def _are_words(values: Any) -> bool:
    if isinstance(values, str):
        return True
    return isinstance(values, list | tuple) and all(isinstance(value, str) and value for value in values)


_SEEDS = f"a list of whole numbers from 0 to {SEED_LIMIT - 1}, none of them twice"


def _are_seeds(values: object) -> bool:
    if not isinstance(values, list | tuple):
        return False
    return all(map(_is_seed, values)) and len(set(values)) == len(values)


def _are_settings(rows: Any) -> bool:
    if not isinstance(rows, Mapping):
        return False
    for name, settings in rows.items():
        if not isinstance(name, str) or not name or not isinstance(settings, Mapping):
            return False
        if not all(map(_is_setting, settings)):
            return False
    return True


def _is_setting(name: object) -> bool:
    return isinstance(name, str) and name.rstrip("+") not in NO_SETTINGS and bool(SETTING.fullmatch(name))


def _are_lists(grid: Any) -> bool:
    if not isinstance(grid, Mapping):
        return False
    for setting, values in grid.items():
        if not _is_setting(setting) or not isinstance(values, list) or not values:
            return False
    return True


def _are_published(published: Any) -> bool:
    if not isinstance(published, Mapping):
        return False
    return all(_is_published_row(row) for row in published.values())


def _is_published_row(row: Any) -> bool:
    if not isinstance(row, Mapping):
        return False
    for key, value in row.items():
        if key in TEXTS:
            is_valid = isinstance(value, str)
        else:
            is_valid = isinstance(value, list) and len(value) == 2 and all(map(_is_figure, value))
        if not is_valid:
            return False
    return True


def _is_figure(value: object) -> bool:
    return value is None or (type(value) is float and 0 <= value <= 1)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."


def listed(names: Iterable[str], most: int = 50) -> str:
    """Return names for a message: all, or the first ones and how many there are."""
    names = list(names)
    text = ", ".join(names[:most])
    if len(names) > most:
        text += f" and {len(names) - most} others"
    return text


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a name that occurs twice is an error, not the last one's."""

    def construct_mapping(self, node, deep=False):
        mapping = super().construct_mapping(node, deep)  # which refuses names that are lists or mappings
        if len(mapping) < len(node.value):
            names = Counter(self.construct_object(name, deep=True) for name, _ in node.value)
            most_frequent, _ = names.most_common(1)[0]
            raise yaml.YAMLError(f"{most_frequent!r} occurs twice")
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
    sweep = None
    if isinstance(plan, dict) and isinstance(plan.get("base_text"), str):
        sweep = _from_keys(Sweep, plan.get("sweep"), f"the plan of the study {study}")
    if sweep is None or sweep.study != study:
        raise GammerError(
            f"the plan of the study {study} in the storage is damaged",
            "`gammer sweep run` writes it, and nothing else",
            "restore the storage, or start a new study: change `study` in the sweep's YAML",
        )
    return sweep


def _from_keys(kind: type, content: Any, part: str) -> Any:
    valid_keys = {entry.name for entry in fields(kind)}
    # without a default, both attributes are dataclasses.MISSING
    required_keys = {entry.name for entry in fields(kind) if entry.default is entry.default_factory}
    keys = set(content) if isinstance(content, dict) else set()
    if not required_keys <= keys <= valid_keys:
        texts = sorted(map(str, keys))
        raise GammerError(
            f"{part} has the keys {listed(texts) or 'none'}",
            f"keys are {', '.join(sorted(valid_keys))}; {' and '.join(sorted(required_keys))} must be there",
            "correct it; sweeps/ has examples",
        )
    return kind(**content)
