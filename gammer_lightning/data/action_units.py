"""FACS action units as the data sets annotate them, and the objective classes made of them."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gammer_lightning.data.clips import Clip
from gammer_lightning.errors import GammerError
from gammer_lightning.models.recogniser import UNITS

UNIT = re.compile(r"(?:au)?\s*([lr]?)\s*(\d{1,2})\s*([a-e]?)\s*(\??)", re.IGNORECASE)


class ActionUnit(NamedTuple):
    """One action unit.

    Attributes:
        number: FACS number, e.g. 12 for the lip corner puller.
        side: ``"L"`` or ``"R"`` where only that side of the face moves, else empty.
        certain: False for a unit with a question mark, and for both sides of an "or".
    """

    number: int
    side: str = ""
    certain: bool = True


def parse_action_units(text: str) -> tuple[ActionUnit, ...]:
    """Parse an annotation such as ``4+L10``, ``R14``, ``AU12A``, ``12 or 14``, ``7?``; ``?`` alone is no unit.

    Raises:
        GammerError: If something in it is no action unit.
    """
    units = []
    for part in re.split(r"[+,;&]", text.strip()):
        alternatives = re.split(r"\s+or\s+", part.strip(), flags=re.IGNORECASE)
        for alternative in filter(None, (a.strip() for a in alternatives)):
            if alternative in "?/-":
                continue
            match = UNIT.fullmatch(alternative)
            if not match:
                raise GammerError(
                    f"action unit {alternative!r} in {text!r}",
                    "action units are numbers with an optional L or R, joined by +, e.g. 4+L10",
                    "correct the cell of the coding workbook",
                )
            units.append(ActionUnit(int(match[2]), match[1].upper(), not match[4] and len(alternatives) == 1))
    return tuple(units)


def unit_matrix(clips: Sequence[Clip]) -> np.ndarray:
    """Return which units each clip is annotated with, of whichever side: float32 ``(n, U)``, 1 or 0."""
    shown = [{unit.number for unit in parse_action_units(clip.action_units)} for clip in clips]
    return np.array([[unit in units for unit in UNITS] for units in shown], np.float32).reshape(-1, len(UNITS))


OBJECTIVE = {
    "I": "6 12 6+12 6+7+12 7+12",
    "II": "1+2 5 25 1+2+25 25+26 5+24",
    "III": "23 4 4+7 4+5 4+5+7 17+24 4+6+7 4+38",
    "IV": "10 9 4+9 4+40 4+5+40 4+7+9 4+9+17 4+7+10 4+5+7+9 7+10",
    "V": "1 15 1+4 6+15 15+17",
    "VI": "1+2+4 20",
}
"""Objective classes by their combinations of action units; all other combinations are class VII.

Source: Davison, Merghani and Yap, Objective classes for micro-facial expression recognition, J. Imaging 2018, Table 1.
"""
_CLASS_OF = {
    frozenset(map(int, combination.split("+"))): name for name, row in OBJECTIVE.items() for combination in row.split()
}


def objective_class(action_units: str) -> str:
    """Return the objective class ``"I"`` to ``"VII"`` of annotated action units, whatever their sides."""
    return _CLASS_OF.get(frozenset(unit.number for unit in parse_action_units(action_units)), "VII")
