"""What to synthesize: the settings that every byte of a microfaces folder follows from."""

from dataclasses import dataclass
from pathlib import Path

from gammer_lightning.data.microfaces.portraits import Framing
from gammer_lightning.errors import GammerError

RANGES = {
    "subjects": (1, 1000),
    "clips_per_class": (1, 1000),
    "width": (80, 1920),
    "height": (80, 1920),
    "fps": (20, 2000),
    "seed": (0, 2**32 - 1),
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

    Raises:
        GammerError: If a value is out of range.
    """

    subjects: int = 12
    clips_per_class: int = 3
    width: int = 280
    height: int = 340
    fps: int = 200
    seed: int = 0
    portraits: Path | None = None

    def __post_init__(self):
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise GammerError(
                    f"{name.replace('_', ' ')} is {getattr(self, name)}",
                    f"it is a whole number from {least} to {most}",
                    "give another one; gammer data synthesize --help lists the options",
                )

    @property
    def framing(self) -> Framing:
        """Where the face sits in a frame."""
        return Framing(self.width, self.height)
