"""Who acts what: the clips of every subject."""

from dataclasses import dataclass

import numpy as np

from gammer_lightning.data.microfaces.facial_actions import CLASSES
from gammer_lightning.data.microfaces.spec import MicrofacesSpec
from gammer_lightning.data.microfaces.streams import ORDER


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
    """Every clip of every subject, its classes in random order."""
    listed = []
    for subject in range(1, spec.subjects + 1):
        rng = np.random.default_rng((spec.seed, ORDER, subject))
        emotions = rng.permutation(CLASSES * spec.clips_per_class).tolist()
        listed += [Script(subject, take, emotion) for take, emotion in enumerate(emotions)]
    return listed
