"""``gammer magnify test``: sub-pixel and noise protocol of a magnifier run."""

from collections.abc import Sequence

from gammer_lightning.training import settings
from gammer_lightning.training.fit import test


def main(argv: Sequence[str]) -> int:
    """Run ``gammer magnify test``; its options are settings of the task."""
    return test(settings.magnify(), argv)
