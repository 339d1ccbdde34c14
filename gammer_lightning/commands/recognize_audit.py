"""``gammer recognize audit``: a fit, scored honestly and as much public code scores, side by side."""

from collections.abc import Sequence
from dataclasses import replace

from gammer_lightning.sweep.queue.report import row_callbacks
from gammer_lightning.tasks.audit import Audit
from gammer_lightning.training import settings
from gammer_lightning.training.fit import fit


def main(argv: Sequence[str]) -> int:
    """Train as ``gammer recognize fit``, and leave audit.json, audit.md and figures/audit.png beside its results.

    Raises:
        GammerError: As `fit` does; on the protocol that leaks by itself; on a run to resume that was none of an audit.
    """
    return fit(replace(settings.recognize(), verb="audit", callbacks=(Audit(), *row_callbacks())), argv)
