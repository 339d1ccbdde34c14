"""The lease on which a supervisor holds its rows on a server; each heartbeat that arrives renews it.

Rows pause before the lease ends, whether the storage fails, a query hangs or Ctrl-Z stops the supervisor. Only
`kill -STOP` lets rows run on beside those who took them up.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gammer_lightning.sweep.queue.storage import GRACE, HEARTBEAT

FENCE = GRACE - HEARTBEAT
"""So long after the last heartbeat that arrived, s, rows pause: soon another supervisor may take them up."""
WATCH = 1.0
"""Time between two looks at how long ago that was, s."""


class Lease:
    """When this supervisor's last heartbeat arrived, and what follows from it."""

    def __init__(self) -> None:
        self.renewed = time.monotonic()

    def renew(self, at: float) -> None:
        """Note that the heartbeats that were sent after a time of `time.monotonic` have arrived."""
        self.renewed = at

    @property
    def is_due(self) -> bool:
        """Whether it is time for a heartbeat."""
        return time.monotonic() - self.renewed > HEARTBEAT

    @property
    def has_lapsed(self) -> bool:
        """Whether rows have to pause."""
        return time.monotonic() - self.renewed > FENCE

    @contextmanager
    def watched(self, pause: Callable[[bool], None]) -> Iterator[None]:
        """Pause the rows before others may take this supervisor for dead, so that none runs twice.

        Args:
            pause: Pauses the rows; called from a thread of its own, since a query may hang, again and again while the
                lease has lapsed. It gets whether this is the first time since then.
        """
        is_over = threading.Event()

        def watch() -> None:
            had_lapsed = False
            while not is_over.wait(WATCH):
                has_lapsed = self.has_lapsed
                if has_lapsed:
                    pause(not had_lapsed)
                had_lapsed = has_lapsed

        self.renew(time.monotonic())
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
