"""FACS action units as the data sets annotate them, and objective classes, published or made of them."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.errors import GammerError
from gammer_lightning.models.recognizer import UNITS

MEB_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17)
"""Action units of the class set ``"units"``: the twelve that MEB scores.

Source: github.com/tvaranka/meb, commit f731b0a; Varanka et al., arXiv 2211.11425.
"""
SIDE = "[LRATB]"
"""Left, right, asymmetric, top, bottom."""
UNIT = re.compile(rf"(?:AU)?\s*({SIDE}?)\s*0?([1-9][0-9]?)\s*([A-E]?)([LR]?)\s*(\??)")
OTHER_SIDE = re.compile(rf"(?<![A-Z0-9])({SIDE})\s*(?:/|OR)\s*({SIDE})\s*[)\]]?\s*([0-9]{{1,2}})")
"""``L/R14`` and ``(L or R) 14``."""
REFERENCE = re.compile(rf"(?<![A-Z])REF\s*\([^()]*\)(?=\s*{SIDE}?\s*[0-9])")
ALTERNATIVE = re.compile(r"[/()\[\]]|(?<![A-Z])(?:OR|REF)(?![A-Z])")
REMARK = re.compile(r"[A-Z][A-Z .'-]{2,}")


class ActionUnit(NamedTuple):
    """One action unit.

    Attributes:
        number: FACS number, e.g. 12 for the lip corner puller.
        side: ``"L"``, ``"R"``, ``"A"`` (asymmetric), ``"T"`` (top) or ``"B"`` (bottom) as annotated, else empty.
        certain: False for a unit with a question mark, in brackets or ``ref``, and for each alternative of an "or".
    """

    number: int
    side: str = ""
    certain: bool = True


def parse_action_units(text: str) -> tuple[ActionUnit, ...]:
    """Parse an annotation such as ``4+L10``, ``AU12A`` (intensity A), ``7?``; ``?`` alone is no unit.

    ``12 or 14``, ``12/14``, ``12 (14)`` and ``L/R14`` are alternatives, each of them returned; ``ref(4)`` is unit 4,
    and ``ref(4) 12`` unit 12. Words after a ``+`` are no units (see `remarks`).

    Source: the key above SAMM's table, and the cells of the tables of CASME II and SAMM.

    Raises:
        GammerError: If something else is in it.
    """
    return _parse(text)[0]


def remarks(text: str) -> tuple[str, ...]:
    """Return the words after a ``+`` that are no units, in capitals, e.g. ``SOFT FOCUS`` of ``4+soft focus``.

    Raises:
        GammerError: As `parse_action_units`.
    """
    return _parse(text)[1]


def _parse(text: str) -> tuple[tuple[ActionUnit, ...], tuple[str, ...]]:
    cell = REFERENCE.sub("", unicodedata.normalize("NFKC", text).upper())
    cell = OTHER_SIDE.sub(r"\1\3/\2\3", cell)
    units: list[ActionUnit] = []
    words: list[str] = []
    for index, part in enumerate(re.split(r"[+,;&]", cell)):
        alternatives = [alternative.strip() for alternative in ALTERNATIVE.split(part)]
        for alternative in alternatives:
            if alternative in ("", "?", "-"):
                continue
            match = UNIT.fullmatch(alternative)
            if match:
                side = match[1] or match[4]
                certain = len(alternatives) == 1 and not match[5]
                units.append(ActionUnit(int(match[2]), side, certain))
            elif index and REMARK.fullmatch(alternative):
                words.append(alternative)
            else:
                raise GammerError(
                    f"action unit {alternative[:40]!r} in {text[:80]!r}",
                    "action units are numbers, perhaps with a side (L, R, A, T, B) before and an intensity (A to E) "
                    "after, joined by + or, as alternatives, by / or `or`",
                    "correct the cell of the coding workbook",
                )
    return tuple(units), tuple(words)


def unit_faults(clips: Sequence[Clip]) -> dict[str, str]:
    """Return what is wrong with the action units of each clip that has unreadable ones, by its key."""
    faults = {}
    for clip in clips:
        try:
            parse_action_units(clip.action_units)
        except GammerError as error:
            faults[clip.key] = error.what
    return faults


def unit_matrix(clips: Sequence[Clip], units: Sequence[int] = UNITS) -> np.ndarray:
    """Return which units each clip is annotated with, of whichever side: float32 ``(n, U)``, 1 or 0.

    A unit that is annotated as uncertain or as an alternative counts.

    Args:
        clips: The n clips.
        units: The U units.

    Raises:
        GammerError: If those of a clip cannot be read.
    """
    units_of_clips = [{unit.number for unit in parse_action_units(clip.action_units)} for clip in clips]
    matrix = np.zeros((len(clips), len(units)), np.float32)
    for row, annotated in zip(matrix, units_of_clips, strict=True):
        row[:] = [unit in annotated for unit in units]
    return matrix


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


CLASS_NAMES = ("I", "II", "III", "IV", "V", "VI", "VII")


def objective_class(action_units: str) -> str:
    """Return the objective class ``"I"`` to ``"VII"`` derived from annotated action units, whatever their sides.

    Raises:
        GammerError: As `parse_action_units`.
    """
    combination = frozenset(unit.number for unit in parse_action_units(action_units))
    return _CLASS_OF.get(combination, "VII")


def published_class(text: str, clip: str) -> str:
    """Return the objective class of a table's cell, ``"I"`` to ``"VII"``; empty for an empty cell.

    Raises:
        GammerError: If the cell holds anything else than 1 to 7 or I to VII.
    """
    if text in ("", *CLASS_NAMES):
        return text
    if not re.fullmatch("[1-7]", text):
        raise GammerError(
            f"the objective class of {clip} is {text[:40]!r}", "it is 1 to 7, or I to VII", "correct the workbook"
        )
    return CLASS_NAMES[int(text) - 1]
