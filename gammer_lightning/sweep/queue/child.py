"""One row as a process: the ordinary fit command in a run folder, what it logged, and how it ended."""

import csv
import io
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from gammer_lightning.errors import GammerError, OutOfMemoryError
from gammer_lightning.escapes import printable, without_passwords
from gammer_lightning.evaluation.run_results import RESULTS, RunResults
from gammer_lightning.files import read_json, read_text
from gammer_lightning.processes import end_with_parent, python_command, python_environment
from gammer_lightning.runs.folder import LOG, RunFolder
from gammer_lightning.runs.progress import CHUNK_ADVICE, PROGRESS

MAX_LOG_BYTES = 2**20
"""So much of the end of a log is read."""
PATIENCE = 10
"""How long processes may take to end when asked to, s."""
ENTRY = tuple(python_command("-m", "gammer_lightning.cli"))


class Child:
    """The process of a row.

    Args:
        task: ``recognize`` or ``magnify``.
        command: The row's command, which begins with ``gammer``.
        run: Its run folder.
        environment: What its environment has beside this process's.

    Raises:
        GammerError: If the run folder holds a run of another command.
    """

    def __init__(self, task: str, command: Sequence[str], run: Path, environment: Mapping[str, str]):
        self.run = RunFolder(run.absolute())
        self.started = time.monotonic()
        argv = self._arguments(task, [*command[1:], "--out", str(run), "--trainer.enable_progress_bar=false"])
        self.run.path.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None
        if argv:
            self._start(argv, {**python_environment(), **environment})

    def _arguments(self, task: str, new: list[str]) -> list[str]:
        """Return the arguments that start the run or go on with it; none if it is finished."""
        path = self.run.path / "command.txt"
        lines = read_text(path).splitlines() if path.is_file() else []
        command = lines[0] if lines else ""
        if command and command != shlex.join(["gammer", *new]):
            raise GammerError(
                f"{self.run.path} holds a run of another command: {command}",
                "a row goes on in its own run folder only",
                f"move that folder away, or change `study` in the sweep; this row is: gammer {shlex.join(new)}",
            )
        facts = _record(self.run.path / "env.json")  # one that a power cut damaged is not finished
        if isinstance(facts, dict) and facts.get("finished") is True:
            return []
        if self.run.last.is_file():
            return [task, "fit", "--resume", str(self.run.path), new[-1]]
        if self.run.path.is_dir():
            self.run.clear()
        return new

    def _start(self, argv: list[str], environment: dict[str, str]) -> None:
        log = self.run.path / LOG
        log.parent.mkdir(parents=True, exist_ok=True)
        command = shlex.join(["gammer", *argv])
        with log.open("ab") as lines:
            self._log_start = lines.tell()
            lines.write(f"== {time.strftime('%Y-%m-%d %H:%M:%S')} {command}\n".encode())
            lines.flush()
            self.process = subprocess.Popen(
                [*ENTRY, *argv],
                stdin=subprocess.DEVNULL,
                stdout=lines,
                stderr=subprocess.STDOUT,
                env=environment | {"TQDM_MININTERVAL": "30"},  # a log is no terminal
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )

    @property
    def exit_code(self) -> int | None:
        """The exit code; None while it runs; 0 if nothing was left to do."""
        return self.process.poll() if self.process else 0

    @property
    def is_short_of_memory(self) -> bool:
        """Whether it ended because the device's memory was full."""
        return self.exit_code == OutOfMemoryError.exit_code

    @property
    def is_a_mistake(self) -> bool:
        """Whether it ended with an error that another attempt would meet again."""
        return self.exit_code == GammerError.exit_code

    def progress(self) -> tuple[int, int] | None:
        """Return how many epochs are done, and of how many; None where its file does not say it, or is damaged."""
        progress = _record(self.run.path / PROGRESS)
        if not isinstance(progress, dict):
            return None
        epoch = progress.get("epoch")
        epochs = progress.get("of")
        if type(epoch) is not int or type(epochs) is not int:
            return None
        return (epoch, epochs) if 0 <= epoch <= epochs and epochs > 0 else None

    def values(self) -> dict[str, float]:
        """Return the last value of every metric that the run logged.

        Raises:
            GammerError: If metrics.csv is damaged.
        """
        path = self.run.path / "metrics.csv"
        last: dict[str, float] = {}
        if path.is_file():
            try:
                for row in csv.DictReader(io.StringIO(read_text(path), newline="")):
                    last |= {name: float(value) for name, value in row.items() if value}
            except (ValueError, TypeError, csv.Error) as error:
                raise GammerError(
                    f"{path} is damaged: {error}", "it is a table of numbers", "run the row anew"
                ) from error
        return last

    def results(self) -> dict[str, Any] | None:
        """Return what results.json says, as a study stores it, where the task writes one.

        Raises:
            GammerError: If it is damaged.
        """
        path = self.run.path / RESULTS
        if not path.is_file():
            return None
        results = RunResults.from_file(path, "run the row anew")
        return results.as_dict()

    def error(self) -> str:
        """Return in one line how it ended: by a signal, or with what its log says last."""
        code = self.exit_code
        if code is not None and code < 0:
            return f"killed by {_signal_name(-code)}"
        if not (self.run.path / LOG).is_file():
            return f"exit code {code}: its run folder is gone"
        lines = self._log_lines() or ["its log is empty"]
        last_line = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])
        message = printable(without_passwords(last_line.removeprefix("error: ")))
        return f"exit code {code}: {message[:300]}"

    def smaller_chunk(self) -> int | None:
        """Return how many members at once a run that was short of memory advises; None where it advises nothing."""
        log = "\n".join(self._log_lines())
        chunks = re.findall(CHUNK_ADVICE.format(r"(\d+)"), log)
        return int(chunks[-1]) if chunks else None

    def _log_lines(self) -> list[str]:
        """Return the lines that this process wrote to the log, without empty ones."""
        with (self.run.path / LOG).open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - MAX_LOG_BYTES))
            text = log.read().decode(errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()]

    def signal(self, number: int) -> None:
        """Send a signal to it and all processes that it started."""
        if self.process and self.process.poll() is None:
            with suppress(ProcessLookupError):  # it may be ended meanwhile by another thread
                os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End it at once, and whatever of the processes that it started still lives."""
        if self.process:
            kill_group(self.process.pid)
            self.process.wait()


def _record(path: Path) -> Any:
    """Return the content of a JSON file of a run; None where it is missing or damaged."""
    try:
        return read_json(path)
    except GammerError:
        return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def stop_all(children: Sequence[Child]) -> None:
    """End rows as Ctrl-C would, and those that take too long at once."""
    for child in children:
        child.signal(signal.SIGINT)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and any(child.exit_code is None for child in children):
        time.sleep(0.05)
    for child in children:
        child.kill()


def kill_group(leader: int) -> None:
    """Kill a process that leads a session, and all of that session."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
    for _ in range(100):
        if not any(_in_group(process, leader) for process in psutil.process_iter(["status"])):
            return
        time.sleep(0.02)


def _in_group(process: psutil.Process, leader: int) -> bool:
    try:
        return os.getpgid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE
    except ProcessLookupError:
        return False
