"""How strong each nuisance of microfaces 2 is: 0 switches it off, 1 is the size that it has in real recordings."""

import math
from dataclasses import asdict, dataclass, fields

from gammer_lightning.errors import GammerError

LARGEST = 3.0


@dataclass(frozen=True)
class Realism:
    """Strengths of the nuisances, each from 0 (off) to 3; at 1 as real, at 2 twice that size or twice as often.

    Args:
        faintness: How near the expression is to what can be detected; 0 is as strong as microfaces 1.
        head_shift: Swaying of the head in the plane: across, down, roll and zoom.
        head_turn: Swaying of the head out of the plane, yaw and pitch, with the parallax of a face that has depth.
        head_drift: Steady motion of the head, in and out of the plane, over the whole clip.
        tone: Every muscle's small motion of its own.
        shading: Creases and bulges of the moved skin, and its tilt and the head's against one light.
        eyes: Blinks and gaze.
        highlight: The lamp's reflection in the eyes, which stays behind when they turn.
        lips: Lips that part and show what is dark between them.
        swallow: Swallowing.
        style: Own strength, balance of sides, companions and speed of each action unit of a person.
        rest: A person's resting face.
        hair: Hair, glasses and hats move with the head, not with the skin.
        flicker: Mains flicker of two lamps against the frame rate.
        light_drift: Slow drift of the light.
        exposure: Another exposure in each clip.
        noise: Noise of the sensor: of light, of reading, and a fixed pattern.
        jpeg: Blocks of JPEG, and colour at half the resolution (4:2:0).
        coders: By how many frames the two coders err.
        unit_errors: Action units that the coder misses or adds.
        ambiguity: Clips whose action units do not tell their emotion.

    Raises:
        GammerError: If a strength is out of range.
    """

    faintness: float = 1.0
    head_shift: float = 1.0
    head_turn: float = 1.0
    head_drift: float = 1.0
    tone: float = 1.0
    shading: float = 1.0
    eyes: float = 1.0
    highlight: float = 1.0
    lips: float = 1.0
    swallow: float = 1.0
    style: float = 1.0
    rest: float = 1.0
    hair: float = 1.0
    flicker: float = 1.0
    light_drift: float = 1.0
    exposure: float = 1.0
    noise: float = 1.0
    jpeg: float = 1.0
    coders: float = 1.0
    unit_errors: float = 1.0
    ambiguity: float = 1.0

    def __post_init__(self):
        for name, strength in asdict(self).items():
            if not 0 <= strength <= LARGEST:
                raise GammerError(
                    f"the strength of {name} is {strength:g}",
                    f"it is from 0 (off) to {LARGEST:g}; 1 is as in real recordings",
                    f"e.g. --strengths {name}=1",
                )


NAMES = tuple(field.name for field in fields(Realism))


def parse_strengths(text: str) -> Realism:
    """Parse strengths such as ``"head_turn=0,noise=0.5"``; ``all=0`` sets those that stand nowhere else.

    Args:
        text: NAME=STRENGTH, several of them with commas between; empty leaves all at 1.

    Raises:
        GammerError: If a name is unknown or there twice, or a strength is no number from 0 to 3.
    """
    given: dict[str, float] = {}
    for item in filter(None, text.split(",")):
        name, _, value = (part.strip() for part in item.partition("="))
        if name not in (*NAMES, "all") or name in given:
            raise _bad_strength(item, "a name stands once, and is one of: all, " + ", ".join(NAMES))
        try:
            given[name] = float(value)
        except ValueError:
            raise _bad_strength(item, f"a strength is a number from 0 to {LARGEST:g}") from None
        if not math.isfinite(given[name]):
            raise _bad_strength(item, f"a strength is a number from 0 to {LARGEST:g}")
    rest = given.pop("all", None)
    others = {} if rest is None else dict.fromkeys(NAMES, rest)
    return Realism(**others | given)


def _bad_strength(item: str, rule: str) -> GammerError:
    return GammerError(f"--strengths has {item[:60]!r}", rule, "e.g. --strengths head_turn=0,noise=0.5")
