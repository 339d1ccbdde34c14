"""Ctrl-C, SIGTERM and SIGKILL against every verb: exit code, a word, no process and no half-written file left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from casme2_sample import write_sample
from face_videos import face_frames, made_bundle, write_video
from gammer_forks import Server

from gammer_lightning.locks import LOCK
from gammer_lightning.sweep.queue.storage import open_storage
from gammer_lightning.sweep.queue.study import join_study, text_of_files
from gammer_lightning.sweep.spec import Sweep

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SIGNALS = {"SIGINT": 130, "SIGTERM": 143}
TRAINER = ["--wandb=disabled", "--trainer.accelerator=cpu", "--trainer.max_epochs=100000"]


@pytest.fixture(scope="module")
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Clips enough to be at work for a while, a video, a bundle; and the runs that the tests make."""
    folder = tmp_path_factory.mktemp("data")
    write_sample(folder / "clips", subjects=4, clips=20)
    write_sample(folder / "few", subjects=2, clips=5)
    write_video(folder / "face.mp4", face_frames(20, 8) * 30)
    made_bundle(folder / "bundle")
    return folder


def motion(*flags):
    pairs = ["--data.sources=[embedded]", "--data.size=64", "--data.objects=[0, 1]", "--data.samples=24"]
    return [*pairs, *TRAINER, "--data.val_samples=12", *flags]


def recognition(data, *flags):
    clips = [f'--data.roots={{"casme2": "{data / "few"}"}}', f"--data.cache={data / 'cache'}", "--data.patch_size=8"]
    alphas = ["--data.alphas=[5]", "--data.train_alphas=[5]", "--data.eval_alpha=5"]
    return [*clips, *alphas, "--model.width=8", "--model.heads=2", "--model.seeds=[0]", *TRAINER, *flags]


# Verb -> its words, and when it is at work: a file that is there, or a word of its output.
def words(verb, data):
    magnify = ["--magnifier", "eulerian"]
    return {
        "demo": (["--out", "demo", "--subjects", "2"], "1/4"),
        "data check": (["microfaces", "--root", data / "clips", "--workers", "2"], "0/80"),
        "data apex": (["casme2", "--root", data / "clips"], "0/80"),
        "data synthesize": (["--out", "out", "--subjects", "9", "--workers", "2"], "out/truth/*/face.json"),
        "data synthesize-motion": (
            ["--out", "out", "--samples", "5000", "--objects", "0", "1", "--workers", "2"],
            "out/train/frameA/*.png",
        ),
        "premagnify": (
            ["--root", data / "clips", *magnify, "--alphas", "5", "--workers", "1", "--cache", "out"],
            "out/*/*/*/*/face.json",
        ),
        "magnify fit": (motion("--out=out", "--data.num_workers=1"), "out/checkpoints/last.ckpt"),
        "magnify test": (["out", "--data.test_scenes=50"], "checkpoint: "),
        "magnify compare": (
            ["--dataset=casme2", "--root", data / "few", "--clip=01/EP01_01", "--magnifiers=phase", "--scenes=90"],
            "sub-pixel test",
        ),
        "magnify video": ([data / "face.mp4", "out.mp4", *magnify], "/600"),
        "recognize fit": (recognition(data, "--out=out"), "out/checkpoints/last.ckpt"),
        "recognize test": (["out", *(word for word in recognition(data) if "wandb" not in word)], "checkpoint: "),
        "recognize audit": (recognition(data, "--out=out"), "out/checkpoints/last.ckpt"),
        "sweep resume": (["stopped", "--workers", "1"], "runs/**/command.txt"),
        "predict": ([data / "bundle", data / "face.mp4"], "/600"),
        "export": (["out"], "checkpoint: "),
        "bench export": (["out", "--threads", "1"], "row"),
        "bench": (["startup", "--repeats", "1000"], "rounds"),
    }[verb]


def at_work(sign):
    if sign.startswith(("out", "runs")):
        return lambda process: any(process.folder.glob(sign))
    return lambda process: sign in process.output


def members(process):
    """Return all processes of its session."""
    return [
        p for p in psutil.process_iter() if p.is_running() and session_of(p) == process.pid and p.pid != process.pid
    ]


def session_of(process):
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None


def stop(process, name):
    """Send the signal; check all that holds of every verb that is stopped."""
    workers = process.descendants()
    process.interrupt() if name == "SIGINT" else process.terminate()
    assert process.wait() == SIGNALS[name], process.output
    assert "stopped" in process.output and "Traceback" not in process.output, process.output
    assert psutil.wait_procs([*workers, *members(process)], timeout=3)[1] == []
    assert [*process.folder.rglob(".*.tmp*")] == []
    assert not (process.folder / "out" / LOCK).exists()  # of a run
    assert [path.name for path in (process.folder / "tmp").iterdir() if path.name != ".ses"] == []  # ONNX Runtime's


PLAIN = (
    "demo",
    "data check",
    "data apex",
    "data synthesize",
    "data synthesize-motion",
    "premagnify",
    "magnify compare",
    "magnify video",
    "recognize audit",
    "predict",
    "bench",
)


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("verb", PLAIN)
def test_a_signal_stops_it(verb, name, server, data, tmp_path):
    arguments, sign = words(verb, data)
    process = server.start(tmp_path, *verb.split(), *arguments)
    process.wait_for(at_work(sign))
    stop(process, name)


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("task", ["magnify", "recognize"])
def test_a_signal_stops_fit_which_can_be_resumed_and_what_needs_a_run(task, name, server, data, tmp_path):
    arguments, sign = words(f"{task} fit", data)
    process = server.start(tmp_path, task, "fit", *arguments)
    process.wait_for(at_work(sign))
    stop(process, name)
    last = (tmp_path / "out/checkpoints/last.ckpt").stat().st_mtime_ns
    process = server.start(tmp_path, task, "fit", "--resume", "out")
    process.wait_for(lambda p: (tmp_path / "out/checkpoints/last.ckpt").stat().st_mtime_ns != last)
    stop(process, name)
    if task == "recognize":  # make a finished run of it, for what needs one
        env = tmp_path / "out/env.json"
        env.write_text(env.read_text().replace('"finished": false', '"finished": true'))
        assert server.start(tmp_path, task, "test", "out").wait() == 0
    for verb in (f"{task} test", *(("export", "bench export") if task == "recognize" else ())):
        arguments, sign = words(verb, data)
        process = server.start(tmp_path, *verb.split(), *arguments)
        process.wait_for(at_work(sign))
        stop(process, name)


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_stops_a_sweep(name, server, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "magnify_x.yaml").write_text("model:\n  sleep: 0.01\n")
    sweep = Sweep("stopped", "magnify_x.yaml", rows={"a": {"model.sleep": 0.4}, "b": {}})
    join_study(open_storage(None, "stopped"), sweep, text_of_files(sweep))
    arguments, sign = words("sweep resume", data)
    process = server.start(tmp_path, "sweep", "resume", *arguments)
    process.wait_for(at_work(sign))
    stop(process, name)
    assert "gammer sweep resume stopped" in process.output


def heed_interrupts():
    """Undo that the background jobs of a shell ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


IMPORTS = ("demo", "data check", "magnify fit", "magnify compare", "recognize audit", "sweep run", "predict", "export")
"""Verbs that between them import all that takes long."""


@pytest.mark.parametrize("verb", IMPORTS)
def test_a_signal_during_imports_has_no_traceback(verb, tmp_path):
    name = list(SIGNALS)[IMPORTS.index(verb) % 2]
    command = [sys.executable, "-m", "gammer_lightning.cli", *verb.split(), "x"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)
    maps = Path(f"/proc/{process.pid}/maps")
    while "multiarray" not in (loaded := maps.read_text()) and process.poll() is None:
        time.sleep(0.005)
    assert loaded, process.communicate()
    process.send_signal(getattr(signal, name))
    _, error = process.communicate(timeout=120)
    has_ended = process.returncode == 2  # its words are wrong, which it may say before it is stopped
    assert has_ended or (process.returncode == SIGNALS[name] and error.endswith("stopped\n"))
    assert "Traceback" not in error and "fault" not in error


WORKERS = ("data synthesize", "data synthesize-motion", "data check", "premagnify", "magnify fit")


@pytest.mark.parametrize("verb", WORKERS)
def test_workers_end_with_a_parent_that_is_killed(verb, server, data, tmp_path):
    process = server.start(tmp_path, *verb.split(), *words(verb, data)[0])
    is_forked = verb in ("premagnify", "magnify fit")  # others have multiprocessing's resource tracker, too
    process.wait_for(lambda p: len(p.descendants()) >= (1 if is_forked else 2))
    time.sleep(0.3)
    workers = process.descendants()
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert psutil.wait_procs(workers, timeout=5)[1] == []


STOPPED_IN = """
import os, signal, sys, time
from gammer_lightning import cli

def stop(process=None):
    os.kill(process or os.getpid(), signal.SIG{name})
    time.sleep(0)

{run}

cli.run_verb = run
sys.exit(cli.main(["doctor"]))
"""
A_FINALIZER = """
class Finalized:
    def __del__(self):
        stop()

def run(name, argv):
    Finalized()
    time.sleep(30)
"""
"""Python ignores what is raised there."""
A_LIBRARY = """
def run(name, argv):
    try:
        stop()
    except KeyboardInterrupt:
        raise ValueError("could not determine the shape") from None
"""
"""It makes an error of its own of what is raised there, as safetensors does."""


A_CHILD = """
import subprocess

def run(name, argv):
    parent = os.getpid()
    subprocess.run(["false"], check=True, preexec_fn=lambda: stop(parent))
"""
"""The stop arrives while a child is started, and the child fails before it can be raised."""


@pytest.mark.parametrize("run", [A_FINALIZER, A_LIBRARY, A_CHILD], ids=["finalizer", "library", "child"])
@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_a_stop_that_is_not_raised_through_is_a_stop(name, run):
    command = [sys.executable, "-c", STOPPED_IN.format(name=name, run=run)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=heed_interrupts, timeout=25)
    assert (done.returncode, done.stderr) == (SIGNALS[f"SIG{name}"], "stopped\n")


A_FORK = """
import atexit, multiprocessing, subprocess
prepared = []
atexit.register(lambda: print(*prepared))

def prepare():
    stop()
    prepared.append("whole")

def run(name, argv):
    os.register_at_fork(before=prepare)
    {fork}
    time.sleep(30)
"""
WORKER = "multiprocessing.get_context('fork').Process(target=int).start()"
CHILD = "subprocess.run(['true'], preexec_fn=int)"


@pytest.mark.parametrize("fork", [WORKER, CHILD], ids=["worker", "child"])
@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_what_libraries_do_before_a_fork_is_done_before_a_stop(name, fork):
    command = [sys.executable, "-c", STOPPED_IN.format(name=name, run=A_FORK.format(fork=fork))]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=heed_interrupts, timeout=25)
    assert (done.returncode, done.stdout, done.stderr) == (SIGNALS[f"SIG{name}"], "whole\n", "stopped\n")


DROPPED = """
import socket, time
from multiprocessing import resource_sharer
from gammer_lightning.processes import start_loader_worker

start_loader_worker(0)
address, _ = resource_sharer.DupFd(0)._id
with socket.socket(socket.AF_UNIX) as parent:
    parent.connect(address)
time.sleep(0.5)
print("goes on")
"""


def test_a_worker_says_nothing_when_its_parent_drops_the_connection():
    done = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "goes on\n", "")
