"""``gammer recognize fit``: train and evaluate GAM-MER over subject folds."""

from collections.abc import Sequence

from gammer_lightning.training import settings
from gammer_lightning.training.fit import fit


def main(argv: Sequence[str]) -> int:
    """Run ``gammer recognize fit``; its options are settings of the task."""
    return fit(settings.recognize(), argv)
