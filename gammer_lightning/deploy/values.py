"""Values of records from elsewhere (JSON, YAML): each checked by a rule before it is used."""

import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gammer_lightning.errors import GammerError

MAX_TEXT = 500
MISSING = object()


class Rule(NamedTuple):
    """A rule that a value has to fulfil.

    Attributes:
        holds: Returns whether a value fulfils it.
        text: The rule in words.
        needed: Whether there has to be a value.
    """

    holds: Callable[[Any], bool]
    text: str
    needed: bool = True


def is_text(value: Any) -> bool:
    """Whether a value is printable text of a line."""
    return isinstance(value, str) and value.isprintable() and len(value) <= MAX_TEXT


def is_name(value: Any) -> bool:
    """Whether a value is the name of a file: one path component."""
    return is_text(value) and value not in ("", ".", "..") and not set(value) & {"/", "\\"}


def is_number(value: Any, least: float = -math.inf, largest: float = math.inf) -> bool:
    """Whether a value is a finite number in a range; a truth value is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max and least <= value <= largest


def is_count(value: Any, least: int = 0, largest: int = 2**53) -> bool:
    """Whether a value is a whole number in a range."""
    return isinstance(value, int) and is_number(value, least, largest)


def is_sha256(value: Any) -> bool:
    """Whether a value is a SHA-256 in hex."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def is_list(value: Any, holds: Callable[[Any], bool], least: int = 0, largest: int = 1000) -> bool:
    """Whether a value is a list of ``least`` to ``largest`` items, and ``holds`` is true for each."""
    return isinstance(value, list | tuple) and least <= len(value) <= largest and all(map(holds, value))


def is_table(value: Any, holds: Callable[[Any], bool], least: int = 0, largest: int = 1000) -> bool:
    """Whether a value is an object of ``least`` to ``largest`` printable keys, and ``holds`` is true for each value."""
    if not isinstance(value, dict) or not least <= len(value) <= largest:
        return False
    return all(map(is_text, value)) and all(map(holds, value.values()))


def one_of(*values: str | None) -> Rule:
    """Return the rule of a value that is one of several."""
    text = f"one of {', '.join(map(str, values))}"
    return Rule(lambda value: isinstance(value, str | None) and value in values, text)


def check_values(record: Any, rules: Mapping[str, Rule], source: object, next_step: str) -> None:
    """Check a record's values.

    Args:
        record: What was read.
        rules: By key; ``"run.checkpoint"`` is the value ``checkpoint`` of the object ``run``.
        source: Its file, for the message.
        next_step: What to do where a value is not as it should be.

    Raises:
        GammerError: Naming the first such value.
    """
    for key, rule in rules.items():
        value = record
        for part in key.split("."):
            value = value.get(part, MISSING) if isinstance(value, dict) else MISSING
        if value is MISSING and rule.needed:
            raise GammerError(f"{source} is damaged: it has no {key}", f"{key} is {rule.text}", next_step)
        if value is not MISSING and not rule.holds(value):
            text = repr(value)
            text = text if len(text) <= 80 else f"{text[:80]}..."
            raise GammerError(f"{source} is damaged: {key} is {text}", f"{key} is {rule.text}", next_step)
