"""How a search draws the settings of its next row, and how an unpromising one is recognized."""

import json
from typing import Any

from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import Trial

from gammer_lightning.sweep.queue.study import Claim, Study
from gammer_lightning.sweep.spec import Search

SCALARS = (bool, int, float, str)


def row_settings(study: Study, claim: Claim) -> dict[str, Any]:
    """Return the settings of a claimed row: those planned, or drawn by a search; tried again, it has the same."""
    search = study.sweep.search
    if search is None:
        return study.planned[claim.row]
    sampler = _sampler(search, claim.number)
    trial = Trial(study.optuna(sampler), claim.trial_id)
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
        subset = []
        for member in members:
            if trial.suggest_categorical(f"{setting}/{member}", [True, False]):
                subset.append(member)
        return subset or list(members)
    low = choices["low"]
    high = choices["high"]
    log = choices.get("log", False)
    if type(low) is int and type(high) is int:
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
            members = choices["subset"]
            values = [members, *([member] for member in members)]
        else:
            values = [choices["low"], choices["high"]]
        for value in values:
            rows[f"{setting} {value}"] = {setting: value}
    return rows
