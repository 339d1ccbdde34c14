"""Who acts what, and what coders make of it.

In microfaces 2 the action units do not always tell the emotion, coders miss units and see others, and two coders read
onset, apex and offset, of which the workbook states the mean.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gammer_lightning.data.microfaces import streams
from gammer_lightning.data.microfaces.acting import Person, draw_person, perform_real
from gammer_lightning.data.microfaces.facial_actions import ACTION_UNITS, CLASSES, SIDES, Performance, perform
from gammer_lightning.data.microfaces.realism import Realism
from gammer_lightning.data.microfaces.spec import MicrofacesSpec

CASME2_COUNTS = {"happiness": 32, "surprise": 25, "disgust": 63, "repression": 27, "others": 99}
"""Clips of CASME II's five classes."""
CASME2_CLIPS = (
    36, 19, 17, 16, 14, 13, 12, 12, 11, 11, 10, 9, 9, 8, 7, 7, 7, 5, 4, 4, 4, 3, 3, 2, 2, 1,
)  # fmt: skip
"""Clips of each of 26 subjects, as unequal as CASME II's; their sum is that of the classes."""

# Action units of each class with their shares, where they tell the class...
CLEAR: dict[str, dict[tuple[int, ...], float]] = {
    "happiness": {(12,): 0.45, (6, 12): 0.55},
    "surprise": {(1, 2): 0.4, (1, 2, 5): 0.3, (2, 5): 0.3},
    "disgust": {(9,): 0.25, (10,): 0.25, (4, 9): 0.25, (4, 10): 0.25},
    "repression": {(15,): 0.2, (17,): 0.3, (15, 17): 0.25, (14, 17): 0.25},
    "others": {(4,): 0.27, (4, 7): 0.22, (14,): 0.13, (4, 14): 0.13, (24,): 0.1, (4, 24): 0.15},
}
# ... and those of other classes that look like "others", as in CASME II: AU 4 is disgust or others, AU 14 is
# repression, happiness or others. The shares are ours: with CASME II's counts a perfect reader of units reaches a macro
# F1 of .87, as in CASME II.
UNCLEAR: dict[str, dict[tuple[int, ...], float]] = {
    "disgust": {(4,): 0.15, (4, 7): 0.15},
    "happiness": {(14,): 0.25},
    "repression": {(14,): 0.3},
}
ONE_SIDED = {10: 0.3, 12: 0.1, 14: 0.4}  # how often a unit shows on one side alone

# Standard deviation of a coder's onset, apex and offset in s, and the chance to miss a unit and to see one too many:
# two coders then agree on .85 of the units, as in CASME II (Yan et al. 2014), before they settle on one reading.
CODER_ERRORS = (0.015, 0.02, 0.03)
MISSED, ADDED = 0.15, 0.11


@dataclass(frozen=True)
class Script:
    """One clip to act: subject and take count from 1 and 0, names are as in CASME II."""

    subject: int
    take: int
    emotion: str

    @property
    def place(self) -> str:
        """Folder of the clip below ``Cropped/`` and ``truth/``."""
        return f"sub{self.subject:02d}/{self.name}"

    @property
    def name(self) -> str:
        """Name of the clip: episode and take."""
        return f"EP{self.take // 2 + 1:02d}_{self.take % 2 + 1:02d}"


def scripts(spec: MicrofacesSpec) -> list[Script]:
    """Return every clip of every subject, its classes in random order."""
    if spec.counts == "casme2":
        return _scripts_like_casme2(spec)
    listed = []
    for subject in range(1, spec.subjects + 1):
        rng = np.random.default_rng((spec.seed, streams.ORDER, subject))
        emotions = rng.permutation(CLASSES * spec.clips_per_class).tolist()
        listed += [Script(subject, take, emotion) for take, emotion in enumerate(emotions)]
    return listed


def _scripts_like_casme2(spec: MicrofacesSpec) -> list[Script]:
    """Deal CASME II's clips to its 26 subjects; fewer or more subjects get the same shares."""
    rng = np.random.default_rng((spec.seed, streams.ORDER))
    places = np.rint(np.linspace(0, len(CASME2_CLIPS) - 1, spec.subjects)) if spec.subjects > 1 else [11]
    sizes = rng.permutation([CASME2_CLIPS[int(place)] for place in places])
    shares = sizes.sum() * np.array([CASME2_COUNTS[emotion] for emotion in CLASSES]) / sum(CASME2_COUNTS.values())
    counts = np.floor(shares).astype(int)
    largest = np.argsort(-(shares - counts), kind="stable")[: sizes.sum() - counts.sum()]
    counts[largest] += 1
    emotions = iter(rng.permutation(np.repeat(CLASSES, counts)).tolist())
    listed = []
    for subject, size in enumerate(sizes, 1):
        listed += [Script(subject, take, next(emotions)) for take in range(size)]
    return listed


def acted(spec: MicrofacesSpec, script: Script) -> Performance:
    """Act a script: the same spec and script give the same clip, but for what the subject's face cannot do."""
    if spec.benchmark == 1:
        rng = np.random.default_rng((spec.seed, streams.SCRIPT, script.subject, script.take))
        return perform(script.emotion, spec.fps, rng)
    rng_of = _streams(spec, script)
    units = draw_units(script.emotion, spec.realism.ambiguity, rng_of(streams.UNITS))
    return perform_real(script.emotion, units, person(spec, script.subject), spec.fps, spec.realism, rng_of)


def person(spec: MicrofacesSpec, subject: int) -> Person:
    """Return the style of a subject of microfaces 2, counted from 1."""
    return draw_person(spec.realism, np.random.default_rng((spec.seed, streams.PERSON, subject)))


def _streams(spec: MicrofacesSpec, script: Script) -> Callable[[int], np.random.Generator]:
    return lambda stream: np.random.default_rng((spec.seed, stream, script.subject, script.take))


def unit_shares(emotion: str, ambiguity: float) -> dict[tuple[int, ...], float]:
    """Return how often a class shows each combination of action units, in microfaces 2.

    Args:
        emotion: Class.
        ambiguity: Strength of `Realism.ambiguity`.
    """
    unclear = {units: ambiguity * share for units, share in UNCLEAR.get(emotion, {}).items()}
    unclear_share = sum(unclear.values())
    clear = {units: (1 - unclear_share) * share for units, share in CLEAR[emotion].items()}
    return clear | unclear


def draw_units(emotion: str, ambiguity: float, rng: np.random.Generator) -> list[tuple[int, str]]:
    """Draw the action units of a clip and their sides, ``"L"``, ``"R"`` or ``""`` for both."""
    shares = unit_shares(emotion, ambiguity)
    chosen = list(shares)[rng.choice(len(shares), p=list(shares.values()))]
    sides = [SIDES[rng.integers(2)] if rng.random() < ONE_SIDED.get(unit, 0) else "" for unit in chosen]
    return list(zip(chosen, sides, strict=True))


@dataclass(frozen=True)
class Coding:
    """What the workbook says of a clip."""

    onset: int
    apex: int
    offset: int
    action_units: str


def readings(spec: MicrofacesSpec, script: Script, true: Performance) -> list[Coding]:
    """Return what each of the two coders of microfaces 2 reads of a clip, the clip as it is acted given."""
    deviations = spec.realism.coders * spec.fps * np.array(CODER_ERRORS)
    result = []
    for coder in (0, 1):
        rng = np.random.default_rng((spec.seed, streams.CODERS, script.subject, script.take, coder))
        errors = np.rint(deviations * rng.standard_normal(3)).astype(int).tolist()
        onset, apex, offset = true.onset + errors[0], true.apex + errors[1], true.offset + errors[2]
        result.append(Coding(onset, apex, offset, _read_units(true.action_units, spec.realism, rng)))
    return result


def coded(spec: MicrofacesSpec, script: Script, true: Performance) -> Coding:
    """Return what the workbook says of a clip.

    In microfaces 1 that is the truth. In microfaces 2 it is the mean of two coders' onset, apex and offset, and the
    action units that they settle on, as in CASME II where they did not agree.

    Args:
        spec: Of the folder.
        script: Of the clip.
        true: The clip as it is acted; its frames bound the numbers.
    """
    if spec.benchmark == 1:
        return Coding(true.onset, true.apex, true.offset, true.action_units)
    first, second = readings(spec, script, true)
    last = true.first + len(true.coefficients) - 1
    onset = int(np.clip((first.onset + second.onset) // 2, true.first, last - 2))
    apex = int(np.clip((first.apex + second.apex) // 2, onset + 1, last - 1))
    offset = int(np.clip((first.offset + second.offset) // 2, apex + 1, last))
    return Coding(onset, apex, offset, _settled_units(first.action_units, second.action_units, true.action_units))


def _settled_units(first: str, second: str, true: str) -> str:
    """Return the units that two coders settle on: those that both see, and a unit of one of them where it is there.

    A unit that both miss stays missed, and one that both see and that is not there stays.
    """
    readings = [text.split("+") for text in (first, second)]
    true_units = true.split("+")
    seen = [unit for unit in true_units if any(unit in reading for reading in readings)]
    added_by_both = [unit for unit in readings[0] if unit in readings[1] and unit not in true_units]
    return "+".join([*seen, *added_by_both])


def _read_units(text: str, realism: Realism, rng: np.random.Generator) -> str:
    units = text.split("+")
    chances = rng.random(len(units))
    seen = [unit for unit, chance in zip(units, chances, strict=True) if chance >= MISSED * realism.unit_errors]
    seen = seen or [units[int(np.argmax(chances))]]  # no clip is coded without a unit
    others = [unit for unit in ACTION_UNITS if unit not in [int(name.strip("LR")) for name in units]]
    added = others[rng.integers(len(others))]
    return "+".join([*seen, str(added)] if rng.random() < ADDED * realism.unit_errors else seen)
