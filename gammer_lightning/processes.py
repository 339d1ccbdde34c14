"""Processes: how Python children are started, how they end with their parent, and what a signal does."""

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from types import FrameType, TracebackType

from gammer_lightning.escapes import mask_tracebacks

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
    """Let this process, which multiprocessing or a launcher started, be killed when its parent dies.

    Linux does it at once; elsewhere, and where the parent died before this call, a thread sees it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def start_loader_worker(worker: int) -> None:
    """Initialise a worker of torch's DataLoader, as its ``worker_init_fn``: it ends with its parent, and in silence.

    A parent that is stopped while it fetches a batch drops the connection over which the worker hands the tensors'
    file descriptors on; multiprocessing would print a traceback about it.

    Args:
        worker: The worker's number, from 0; without effect.
    """
    end_with_my_parent()
    mask_tracebacks()
    report = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, EOFError | ConnectionError):
            report(kind, error, trace)

    sys.excepthook = hook


def start_worker(initializer: bytes) -> None:
    """Initialise a worker of a pool: it ends with its parent, even while it imports what ``initializer`` needs.

    Args:
        initializer: Pickled function without arguments.
    """
    end_with_my_parent()
    mask_tracebacks()
    pickle.loads(initializer)()


def _exit_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back from processes that are started meanwhile, for good, and from this one until the block ends.

    The terminal sends it to all of them; this process ends its workers once they have written what they are at.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


FORKING_FILES = (os.path.join("multiprocessing", "popen_fork.py"), "subprocess.py")
FORKING_FUNCTIONS = ("_launch", "_execute_child")
"""Files and functions of the standard library that fork."""
RETRY = 0.02
"""Seconds after which a stop that could not be raised is tried again."""


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Raise `Terminated` when SIGTERM arrives and KeyboardInterrupt at Ctrl-C; in the main thread only.

    During an import and a fork it is raised after it: NumPy and torch swallow what is raised while they load, or fail
    for good, and what libraries do around a fork must not be left half done. Where Python ignores what is raised (in
    finalizers), it is raised once more.

    Yields:
        The signals that arrived, where the block handles them and goes on.
    """
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return

    around = _imports(sys._getframe())
    process = os.getpid()
    waiting: dict[int, threading.Timer] = {}

    def send_again(number: int) -> None:
        waiting[number] = threading.Timer(RETRY, os.kill, (os.getpid(), number))
        waiting[number].daemon = True
        waiting[number].start()

    def stop(number: int, frame: FrameType | None) -> None:
        arrived.append(number)  # even if it is raised later: a child that it ends as well may fail before
        is_forking = os.getpid() == process and _is_forking(frame)  # a child stays in the call that forked it
        if is_forking or _imports(frame) > around:
            send_again(number)
            return
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell's background job ignores it
        numbers.append(signal.SIGINT)

    def unraisable(ignored: "sys.UnraisableHookArgs") -> None:
        if issubclass(ignored.exc_type, KeyboardInterrupt):
            if arrived:
                send_again(arrived.pop())
        elif not arrived:  # after a stop, objects that were not whole complain while they are deleted
            hook(ignored)

    before = {number: signal.signal(number, stop) for number in numbers}
    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    try:
        yield arrived
    finally:
        if not arrived:  # after a stop it stays: objects are deleted until the process ends
            sys.unraisablehook = hook
        for timer in waiting.values():
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_forking(frame: FrameType | None) -> bool:
    """Return whether a frame or one outwards of it forks this process: a worker, or a child with a ``preexec_fn``."""
    while frame:
        if frame.f_code.co_filename.endswith(FORKING_FILES) and frame.f_code.co_name in FORKING_FUNCTIONS:
            return True
        frame = frame.f_back
    return False


def _imports(frame: FrameType | None) -> int:
    """Return how many of the frames from this one outwards are of the import system."""
    count = 0
    while frame:
        count += frame.f_code.co_filename.startswith("<frozen importlib")
        frame = frame.f_back
    return count
