"""What to synthesize: the settings that every byte of a microfaces folder follows from."""

from dataclasses import dataclass, field
from pathlib import Path

from gammer_lightning.data.microfaces.portraits import Framing
from gammer_lightning.data.microfaces.realism import Realism
from gammer_lightning.errors import GammerError
from gammer_lightning.ranges import MAX_SEED

BENCHMARKS = (1, 2)
COUNTS = ("balanced", "casme2")
RANGES = {
    "subjects": (1, 1000),
    "clips_per_class": (1, 1000),
    "width": (80, 1920),
    "height": (80, 1920),
    "fps": (20, 2000),
    "seed": (0, MAX_SEED),
}


@dataclass(frozen=True)
class MicrofacesSpec:
    """What to synthesize.

    Args:
        subjects: Number of subjects.
        clips_per_class: Clips per subject and class.
        width: Width of a frame in px.
        height: Height of a frame in px.
        fps: Frames a second.
        seed: Everything random follows from it.
        portraits: Folder of frontal photographs, one subject each; None makes pseudo-subjects of the two
            embedded portraits.
        benchmark: 1 or 2: microfaces 2 has the nuisances of real recordings.
        counts: ``"balanced"``, ``clips_per_class`` of each, or ``"casme2"``: classes, and clips of a subject, as
            unequal as CASME II's, with 26 subjects 246 clips; only in microfaces 2.
        realism: Strengths of the nuisances of microfaces 2.

    Raises:
        GammerError: If a value is out of range, or needs microfaces 2.
    """

    subjects: int = 12
    clips_per_class: int = 3
    width: int = 280
    height: int = 340
    fps: int = 200
    seed: int = 0
    portraits: Path | None = None
    benchmark: int = 2
    counts: str = "balanced"
    realism: Realism = field(default_factory=Realism)

    def __post_init__(self):
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise GammerError(
                    f"{name.replace('_', ' ')} is {getattr(self, name)}",
                    f"it is a whole number from {least} to {most}",
                    "give another one; gammer data synthesize --help lists the options",
                )
        if self.benchmark not in BENCHMARKS or self.counts not in COUNTS:
            raise GammerError(
                f"benchmark is {self.benchmark!r}, counts is {self.counts!r}",
                f"benchmark is one of {', '.join(map(str, BENCHMARKS))}, counts one of {', '.join(COUNTS)}",
                "give another one; gammer data synthesize --help lists the options",
            )
        if self.benchmark == 1 and (self.counts != "balanced" or self.realism != Realism()):
            raise GammerError(
                "microfaces 1 with counts like CASME II's or strengths of nuisances",
                "it is balanced and has none of the nuisances that can be set",
                "add --benchmark 2",
            )

    @property
    def framing(self) -> Framing:
        """Where the face sits in a frame."""
        return Framing(self.width, self.height)
