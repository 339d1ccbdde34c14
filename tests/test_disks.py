"""`recognize test`, `magnify test` and `data check` where the disk is full or read-only: one error, exit code 2."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from casme2_sample import write_sample
from fake_clips import FakeClips
from test_run_folder import FLAGS
from tiny_task import TinyData, TinyModule

from gammer_lightning import cli
from gammer_lightning.evaluation.magnification import write_protocol
from gammer_lightning.tasks.recognize import RecognizeTask
from gammer_lightning.training import settings

COMMANDS = {
    "recognize test": ["recognize", "test", "disk/recognize"],
    "magnify test": ["magnify", "test", "disk/magnify"],
    "data check": ["data", "check", "microfaces", "--root=set", "--workers=1", "--out=disk/check"],
}
MESSAGES = {
    errno.ENOSPC: ("No space left on device", "free some space"),
    errno.EROFS: ("Read-only file system", "choose a folder of a disk that is not mounted read-only"),
}


class Protocol(TinyModule):
    """Writes tables at the end of a test, as a magnifier's task does."""

    def on_test_end(self):
        table = pd.DataFrame({"test": ["motion", "noise"], "value": [0.5, 1.0], "psnr": [30.0, 31.0]})
        write_protocol(Path(self.trainer.default_root_dir), table, table)


@pytest.fixture
def tasks(monkeypatch):
    """Put small tasks behind the commands."""
    recognition = settings.Task("recognize", RecognizeTask, FakeClips, test_after_fit=True)
    monkeypatch.setattr(settings, "recognize", lambda: recognition)
    monkeypatch.setattr(settings, "magnify", lambda: settings.Task("magnify", Protocol, TinyData))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with a data set, and runs of both tasks in its folder disk."""
    folder = tmp_path_factory.mktemp("made")
    write_sample(folder / "set")
    flags = [*FLAGS, "--trainer.max_epochs=1"]
    small = ["--model.depth=1", "--model.heads=1", "--model.width=4"]
    with pytest.MonkeyPatch.context() as patch:
        tasks.__wrapped__(patch)
        assert cli.main(["recognize", "fit", *flags, *small, f"--out={folder}/disk/recognize"]) == 0
        assert cli.main(["magnify", "fit", *flags, f"--out={folder}/disk/magnify"]) == 0
    return folder


def check_refusal(argv, number, capsys):
    capsys.readouterr()
    assert cli.main(argv) == 2
    error = capsys.readouterr().err
    said, advice = MESSAGES[number]
    (first,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert said in first and "disk/" in first and "Traceback" not in error
    assert "\n  rule: " in error and f"\n  next: {advice}" in error
    assert error.endswith("\n") and len(error[error.index("error: ") :].splitlines()) == 3


@pytest.mark.parametrize("number", MESSAGES)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_cannot_be_written_is_one_error(command, number, made, tasks, tmp_path, monkeypatch, capsys):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def replace(source, target):
        raise OSError(number, os.strerror(number), source, None, target)

    monkeypatch.setattr(os, "replace", replace)
    check_refusal(COMMANDS[command], number, capsys)
    assert not list(tmp_path.rglob(".*.tmp*"))


@pytest.fixture
def disk(made, tmp_path, monkeypatch):
    """Mount a small disk on the folder disk, with the runs in it; return what mounts it again with other options."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made / "set", "set")
    Path("disk").mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "none", "disk"]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting is not permitted here")

    mount("size=16m")
    shutil.copytree(made / "disk", "disk", dirs_exist_ok=True)
    yield mount
    subprocess.run(["umount", "-l", "disk"], check=True)


@pytest.mark.parametrize("number", MESSAGES)
def test_a_real_disk_that_is_full_or_read_only_is_one_error(number, disk, tasks, capsys):
    if number == errno.EROFS:
        disk("remount,ro")
    else:
        filler = os.open("disk/filler", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError, match="No space left"):
            while True:
                os.write(filler, bytes(4096))
        os.close(filler)
    for argv in COMMANDS.values():
        check_refusal(argv, number, capsys)
