"""`gammer` in processes forked from one that has done all imports, which spares each test their seconds."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from gammer_lightning.processes import end_with_my_parent, end_with_parent

MODULES = (
    "torch",
    "pytorch_lightning",
    "pandas",
    "cv2",
    "av",
    "gammer_lightning.cli",
    "gammer_lightning.training.fit",
    "gammer_lightning.evaluation.audit",
    "gammer_lightning.commands.magnify_compare",
    "gammer_lightning.data.clips.check",
    "gammer_lightning.data.motion.write_set",
    "gammer_lightning.tasks.magnify",
    "gammer_lightning.tasks.recognize",
    "gammer_lightning.data.datamodule",
    "gammer_lightning.inference.pipeline",
    "gammer_lightning.deploy.bundle",
    "gammer_lightning.commands.bench_export",
    "gammer_lightning.sweep.queue.study",
    "gammer_lightning.sweep.queue.supervisor",
)


class Process:
    """One `gammer` in a session of its own; what it prints lies in ``folder / "output"``."""

    def __init__(self, server: "Server", pid: int, folder: Path):
        self.server, self.pid, self.folder = server, pid, folder
        self.code = None

    @property
    def output(self) -> str:
        """What it has printed so far, both streams."""
        return (self.folder / "output").read_text(errors="replace")

    def wait_for(self, ready, seconds: float = 120) -> None:
        """Wait until ``ready(self)``, which must be before it ends."""
        limit = time.monotonic() + seconds
        while not ready(self):
            assert time.monotonic() < limit, f"not at work after {seconds} s:\n{self.output}"
            assert psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE, f"it ended at once:\n{self.output}"
            time.sleep(0.02)

    def descendants(self) -> list[psutil.Process]:
        """Return all processes below it."""
        return psutil.Process(self.pid).children(recursive=True)

    def interrupt(self) -> None:
        """Send SIGINT to its whole group, as a terminal does at Ctrl-C."""
        os.killpg(self.pid, signal.SIGINT)

    def terminate(self) -> None:
        """Send SIGTERM to it alone, as `kill` does."""
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to it alone."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, seconds: float = 120) -> int:
        """Return its exit code, negative where a signal killed it."""
        gone = time.monotonic() + seconds
        while psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < gone, f"it goes on for {seconds} s:\n{self.output}"
            time.sleep(0.02)
        self.code = self.server.ask(reap=self.pid)
        return self.code


class Server:
    """Starts processes of `gammer`."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=end_with_parent(),
        )
        self.started: list[Process] = []

    def ask(self, **request):
        """Send a request to the process that forks and return its answer."""
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def start(self, folder: Path, *words) -> Process:
        """Start `gammer` with these words in a folder."""
        (folder / "output").write_text("")
        pid = self.ask(folder=str(folder), words=[str(word) for word in words])
        self.started.append(Process(self, pid, folder))
        return self.started[-1]

    def close(self) -> None:
        """Kill what was started and still runs."""
        for process in self.started:
            if process.code is None:
                os.killpg(process.pid, signal.SIGKILL)
        self.process.stdin.close()
        self.process.wait()


def _serve() -> list[str]:
    """Answer requests until stdin closes; return the words of `gammer` in each forked process."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        if "reap" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["reap"], 0)[1])
        elif (answer := os.fork()) == 0:
            answers.close()
            _become(Path(request["folder"]))
            return request["words"]
        print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)


def _become(folder: Path) -> None:
    end_with_my_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    os.setsid()
    (temporary := folder / "tmp").mkdir(exist_ok=True)
    os.environ["TMPDIR"] = str(temporary)
    os.chdir(folder)
    nothing, output = os.open(os.devnull, os.O_RDONLY), os.open("output", os.O_WRONLY | os.O_APPEND)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)


if __name__ == "__main__":
    for module in MODULES:
        importlib.import_module(module)
    words = _serve()
    from gammer_lightning import cli
    from gammer_lightning.sweep.queue import child

    child.ENTRY = (sys.executable, str(Path(__file__).with_name("fake_fit.py")))
    sys.exit(cli.main(words))
