"""The `gammer` command: finds the verb, and imports only what that verb needs."""

import argparse
import atexit
import difflib
import os
import select
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from gammer_lightning import __version__
from gammer_lightning.errors import GammerError, OutOfMemoryError
from gammer_lightning.escapes import mask_tracebacks, printable, without_passwords
from gammer_lightning.machine import keep_freed_memory
from gammer_lightning.processes import Terminated, stop_signals
from gammer_lightning.training.launcher import check_launcher


class Parser(argparse.ArgumentParser):
    """A parser whose errors look like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the arguments."""
        usage = " ".join(self.format_usage().removeprefix("usage: ").split())
        raise GammerError(message, usage, f"{self.prog} --help says what each option takes")


VERBS = {
    "demo": "the whole pipeline on the embedded benchmark",
    "init": "write the package's experiments, sweeps and notebooks into a folder",
    "doctor": "what is installed, what is missing, what to do",
    "data list": "where the data sets are looked for, how to get them",
    "data check": "whether a data set is whole",
    "data apex": "how far found apexes are from annotated ones",
    "data synthesize": "write the embedded benchmark microfaces",
    "data synthesize-motion": "write motion pairs in the layout of Oh et al.'s set",
    "premagnify": "magnify every clip of a data set into the cache",
    "magnify fit": "train a magnifier, ST-MEMM or MagNet, on motion pairs",
    "magnify test": "sub-pixel and noise protocol of a magnifier run",
    "magnify compare": "all magnifiers side by side: the paper's Figs. 1 and 9, and their scores",
    "magnify video": "magnify a video's frames, of any size",
    "recognize fit": "train and evaluate GAM-MER over subject folds",
    "recognize test": "evaluate a recognition run again",
    "recognize audit": "fit, scored honestly and as much public code scores, side by side",
    "recognize table": "the paper's Tables 1 and 2, published rows beside runs",
    "sweep run": "run a sweep's rows on all devices of this machine",
    "sweep resume": "go on with a sweep that was stopped or killed",
    "sweep status": "how far a sweep is",
    "sweep table": "a study's table, figures and page, published rows beside it",
    "sweep sync": "upload a study's offline runs, models and summary to W&B",
    "sweep best": "the run folder of the best row",
    "predict": "find, magnify and classify expressions in videos or a camera",
    "export": "a finished run as ONNX and TensorRT, compared with PyTorch",
    "bench": "speed and memory of the parts",
    "bench export": "the paper's Table 5 on this machine: a run's latency",
}
"""What each verb does; its module is ``commands/VERB.py``, with ``_`` between its words."""

GROUPS = (["data"], ["magnify"], ["recognize"], ["sweep"])


def overview(group: str = "") -> str:
    """Return the text of ``gammer --help``, or of ``gammer GROUP --help``."""
    lines = [f"  {name:<22} {does}" for name, does in VERBS.items() if name.startswith(group)]
    return "\n".join(
        [
            "usage: gammer VERB [options]",
            "",
            "Micro-expression recognition by learned motion magnification.",
            "",
            *lines,
            "",
            "gammer VERB --help shows the options of a verb; gammer --version the version.",
        ]
    )


def find_verb(argv: Sequence[str]) -> tuple[str, list[str]]:
    """Split the command line into the verb and its arguments.

    Raises:
        GammerError: If no verb matches.
    """
    for words in (2, 1):
        name = " ".join(argv[:words])
        if name in VERBS:
            return name, list(argv[words:])
    typed = " ".join(word for word in argv[:2] if not word.startswith("-")) or argv[0]
    near = difflib.get_close_matches(typed, VERBS, n=1, cutoff=0.4)
    near = [name for name in VERBS if name.split()[0] == argv[0]] or near
    raise GammerError(
        f"unknown verb `{typed}`",
        f"verbs are: {', '.join(VERBS)}",
        f"did you mean {' or '.join(f'`gammer {name}`' for name in near)}?" if near else "gammer --help",
    )


def verb_module(name: str) -> Any:
    """Import the module of a verb, e.g. ``commands/data_check.py`` of ``data check``.

    It has ``main``, and ``add_arguments`` where the verb's options are not settings of a task.
    """
    return import_module(f"gammer_lightning.commands.{name.replace(' ', '_').replace('-', '_')}")


def verb_parser(name: str) -> Parser:
    """Return the parser of a verb that has ``add_arguments``."""
    parser = Parser(f"gammer {name}", description=VERBS[name])
    verb_module(name).add_arguments(parser)
    return parser


def run_verb(name: str, argv: Sequence[str]) -> int | None:
    """Import the verb's module, parse its arguments and run it."""
    check_launcher()
    module = verb_module(name)
    if hasattr(module, "add_arguments"):
        return module.main(verb_parser(name).parse_args(argv))
    return module.main(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gammer``.

    Returns:
        The exit code: 0; 1 where a check failed, or on a fault of gammer-lightning; 2 on a mistake the user can mend; 3
        where memory is short; 130 if stopped by the user, 143 by SIGTERM; 141 where nobody reads the output any more.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    mask_tracebacks()
    try:
        with stop_signals() as stops:
            try:
                code = _run(argv)
                code = 143 if code == 130 and signal.SIGTERM in stops else code
            except Exception as error:
                if _is_unread(error):
                    raise
                if stops and _explained(error) is None:  # a library turned the stop into an error of its own
                    raise (Terminated if signal.SIGTERM in stops else KeyboardInterrupt) from error
                code = _report(error)
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
            return code
    except OSError as error:  # of stdout: `gammer ... | head`, or a file on a full disk
        is_unread = _is_unread(error)
        _discard_output()
        return 141 if is_unread else _report(error)
    except KeyboardInterrupt as stop:
        return _report_stop(stop)
    except SystemExit as end:
        cause = end.__context__  # Lightning's Trainer exits so, with code 1
        if isinstance(cause, KeyboardInterrupt):
            return _report_stop(cause)
        raise
    finally:
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)  # no traceback of Python's own end


def _run(argv: list[str]) -> int:
    *words, last = argv or ["--help"]
    if last in ("-h", "--help", "help") and words in ([], *GROUPS):
        print(overview(*words))
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"gammer-lightning {__version__}")
        return 0
    keep_freed_memory()
    return run_verb(*find_verb(argv)) or 0


def _report_stop(stop: KeyboardInterrupt) -> int:
    print("stopped", file=sys.stderr)
    return 143 if isinstance(stop, Terminated) else 130


def _is_unread(error: Exception) -> bool:
    """Return whether the error is that nobody reads the output any more, not another pipe's."""
    if not isinstance(error, BrokenPipeError):
        return False
    poll = select.poll()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        poll.register(stream.fileno(), 0)
    return bool(poll.poll(0))


def _discard_output() -> None:
    """Send what cannot be written nowhere, or Python would complain about it at its end."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _report(error: Exception) -> int:
    """Print an error and return its exit code; of an unforeseen one, the traceback, too."""
    if explained := _explained(error):
        print(_for_terminal(f"error: {explained}"), file=sys.stderr)
        return explained.exit_code
    print(_for_terminal("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    print(f"error: this is a fault of gammer-lightning {__version__}", file=sys.stderr)
    print("  next: report it with the command, the lines above and what `gammer doctor` prints", file=sys.stderr)
    return 1


def _explained(error: Exception) -> GammerError | None:
    """Return the error of what the user can mend but nothing nearer to it has explained; None for any other."""
    from gammer_lightning.files import WRITE_ADVICE, disk_cause
    from gammer_lightning.machine import is_want_of_memory

    if isinstance(error, GammerError):
        return error
    if is_want_of_memory(error):
        what = str(error).partition("\n")[0] or "out of memory"
        return OutOfMemoryError(what, "the memory holds what is worked at", "use smaller settings or fewer workers")
    if isinstance(error, RecursionError):
        return GammerError(str(error), "files and settings are nested less deeply", "look at those that were given")
    if disk := disk_cause(error):
        names = " and ".join(str(name) for name in (disk.filename, disk.filename2) if name is not None)
        return GammerError(
            f"{names or 'a file'}: {disk.strerror or disk}",
            "files and folders can be read, written and made where this command needs them",
            WRITE_ADVICE.get(disk.errno, "check the path, then run the same command again"),
        )
    return None


def _for_terminal(text: str) -> str:
    return printable(without_passwords(text))


if __name__ == "__main__":
    sys.exit(main())
