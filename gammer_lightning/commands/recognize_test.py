"""``gammer recognize test``: evaluate a recognition run again."""

from collections.abc import Sequence

from gammer_lightning.training import settings
from gammer_lightning.training.fit import test


def main(argv: Sequence[str]) -> int:
    """Run ``gammer recognize test``; its options are settings of the task."""
    return test(settings.recognize(), argv)
