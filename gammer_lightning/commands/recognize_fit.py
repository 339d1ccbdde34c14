"""``gammer recognize fit``: train and evaluate GAM-MER over subject folds."""

from collections.abc import Sequence
from dataclasses import replace

from gammer_lightning.sweep.queue.report import row_callbacks
from gammer_lightning.training import settings
from gammer_lightning.training.fit import fit


def main(argv: Sequence[str]) -> int:
    """Run ``gammer recognize fit``; its options are settings of the task."""
    return fit(replace(settings.recognize(), callbacks=row_callbacks()), argv)
