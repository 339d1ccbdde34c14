"""Processes: how Python children are started, how they end with their parent, and what a signal does."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

PR_SET_PDEATHSIG = 1


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived; whatever handles Ctrl-C handles it, too."""


def python_command(*arguments: str) -> list[str]:
    """Return the command of a Python child, e.g. of ``"-m", "gammer_lightning.cli"``.

    ``-P`` leaves the working folder out of ``sys.path``: a ``random.py`` that lies beside somebody's data is no module.
    """
    return [sys.executable, "-P", *arguments]


def python_environment() -> dict[str, str]:
    """Return this process's environment for a Python child whose own Python children leave the working folder out, too.

    They do not inherit ``-P``, e.g. those that Lightning starts for further devices. What PYTHONPATH names counts as
    before, but for an empty part, which would be the working folder.
    """
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    if path := os.environ.get("PYTHONPATH"):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path.split(os.pathsep)))
    return environment


def end_with_parent() -> Callable[[], None] | None:
    """Return a ``preexec_fn`` that makes Linux kill the child when this process dies; None elsewhere."""
    if sys.platform != "linux":
        return None
    parent, libc = os.getpid(), ctypes.CDLL(None)

    def ask_kernel() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask_kernel


def end_with_my_parent() -> None:
    """Make Linux kill this process when its parent dies; the initializer of a pool's workers."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Raise `Terminated` when SIGTERM arrives, so that what Ctrl-C cleans up is cleaned up; in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
