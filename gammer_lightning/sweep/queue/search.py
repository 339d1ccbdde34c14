"""How a search draws the settings of its next row, and how an unpromising one is recognized."""

import json
from collections.abc import Mapping
from typing import Any

from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import Trial

from gammer_lightning.sweep.queue.study import Claim, Study
from gammer_lightning.sweep.spec import Search

SCALARS = (bool, int, float, str)


def draw(study: Study, search: Search, claim: Claim) -> dict[str, Any]:
    """Draw the settings of a claimed row of a search; those of a row that is tried again are the same."""
    trial = Trial(study.optuna(_sampler(search, claim.number)), claim.trial_id)
    return {setting: _draw_one(trial, setting, choices) for setting, choices in search.space.items()}


def _sampler(search: Search, number: int) -> BaseSampler:
    seed = (search.seed + 100_003 * number) % 2**32  # supervisors beside each other draw differently
    if search.sampler == "random":
        return RandomSampler(seed)
    return TPESampler(n_startup_trials=10, n_ei_candidates=24, multivariate=True, constant_liar=True, seed=seed)


def _draw_one(trial: Trial, setting: str, choices: Any) -> Any:
    if isinstance(choices, list):
        if all(isinstance(choice, SCALARS) for choice in choices):
            return trial.suggest_categorical(setting, choices)
        value = trial.suggest_categorical(setting, [json.dumps(choice) for choice in choices])
        return json.loads(str(value))
    if "subset" in choices:
        members = choices["subset"]
        subset = [m for m in members if trial.suggest_categorical(f"{setting}/{m}", [True, False])]
        return subset or list(members)
    return _draw_number(trial, setting, choices)


def _draw_number(trial: Trial, setting: str, limits: Mapping[str, Any]) -> float:
    low, high, log = limits["low"], limits["high"], limits.get("log", False)
    if type(low) is type(high) is int:
        return trial.suggest_int(setting, low, high, log=log)
    return trial.suggest_float(setting, low, high, log=log)


def pruner(search: Search) -> BasePruner:
    """Return the rule that stops a row: below the median of five others at the same epoch, after ten epochs."""
    return MedianPruner(n_startup_trials=5, n_warmup_steps=10) if search.prune else NopPruner()


def corners(search: Search) -> dict[str, dict[str, Any]]:
    """Return settings that between them hold every extreme value of the space, for a check before anything starts."""
    rows: dict[str, dict[str, Any]] = {}
    for setting, choices in search.space.items():
        if isinstance(choices, list):
            values = choices
        elif "subset" in choices:
            values = [choices["subset"], *([member] for member in choices["subset"])]
        else:
            values = [choices["low"], choices["high"]]
        rows |= {f"{setting} {value}": {setting: value} for value in values}
    return rows
