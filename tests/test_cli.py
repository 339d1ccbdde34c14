"""The `gammer` command: quick, and clear about mistakes."""

import errno
import os
import resource
import sqlite3
import subprocess
import sys

import pytest

from gammer_lightning import __version__, cli
from gammer_lightning.errors import GammerError

HEAVY = ("torch", "numpy", "pandas", "PIL", "cv2", "dlib", "matplotlib", "pytorch_lightning", "wandb")


def gammer(*words):
    return subprocess.run([sys.executable, "-m", "gammer_lightning.cli", *words], capture_output=True, text=True)


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_help_names_every_verb_within_a_second():
    """Seconds of the processor, so that a busy machine does not fail it."""
    before = cpu_seconds()
    result = gammer("--help")
    assert cpu_seconds() - before < 1
    assert result.returncode == 0
    assert all(verb in result.stdout for verb in cli.VERBS)


def test_neither_the_package_nor_help_imports_anything_heavy():
    code = (
        "import sys, gammer_lightning; from gammer_lightning import cli; cli.main(['--help']);"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "LOADED []"


def test_help_of_a_group_lists_its_verbs(capsys):
    assert cli.main(["magnify", "--help"]) == 0
    text = capsys.readouterr().out
    assert "magnify fit" in text and "magnify test" in text and "recognize" not in text


def test_version():
    assert gammer("--version").stdout.strip() == f"gammer-lightning {__version__}"


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (["magnfy", "fit"], "gammer magnify fit"),
        (["doktor"], "gammer doctor"),
        (["magnify"], "`gammer magnify fit` or `gammer magnify test`"),
        (["--nonsense"], "gammer --help"),
    ],
)
def test_an_unknown_verb_gets_a_suggestion_and_exit_code_2(words, suggestion, capsys):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown verb")
    assert suggestion in error


def test_a_mistake_is_one_block_without_traceback(monkeypatch, capsys):
    def fail(name, argv):
        raise GammerError("alpha -1", "alpha is 0 or more", "--alphas 5")

    monkeypatch.setattr(cli, "run_verb", fail)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "error: alpha -1\n  rule: alpha is 0 or more\n  next: --alphas 5\n"


def test_wrong_arguments_are_one_block_too(capsys):
    assert cli.main(["predict", "RUN", "video.mp4", "--alpha", "many"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: argument --alpha: invalid float value: 'many'\n  rule: gammer predict [-h]")
    assert error.endswith("\n  next: gammer predict --help says what each option takes\n") and error.count("\n") == 3


def test_a_fault_keeps_its_traceback_and_says_what_to_send(monkeypatch, capsys):
    def fail(name, argv):
        return {}["postgresql://u:SECRET@h/db\x1b[31m"]

    monkeypatch.setattr(cli, "run_verb", fail)
    assert cli.main(["doctor"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Traceback") and "KeyError" in error
    assert "this is a fault of gammer-lightning" in error and "gammer doctor" in error
    assert "SECRET" not in error and "\x1b" not in error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError(), 3, "out of memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 3, "fewer workers"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory\nmore"), 3, "fewer workers"),
        (RecursionError("maximum recursion depth exceeded"), 2, "nested less deeply"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 2, "runs/x: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), 2, "mend the permissions"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "runs/x"), 2, "a file is there where a folder"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 2, "check the path"),
        (sqlite3.OperationalError("database or disk is full"), 2, "free some space"),
        (RuntimeError("PytorchStreamWriter failed writing file data/1: file write failed"), 2, "free some space"),
    ],
)
def test_what_nothing_nearer_explains_is_one_block(error, code, words, monkeypatch, capsys):
    def fail(name, argv):
        raise error

    monkeypatch.setattr(cli, "run_verb", fail)
    assert cli.main(["doctor"]) == code
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and words in printed and "Traceback" not in printed
    assert printed.count("\n") == 3


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_ends_early_ends_gammer_quietly(unbuffered):
    process = subprocess.Popen(
        [sys.executable, "-m", "gammer_lightning.cli", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 141)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_into_a_full_disk_is_one_block_and_closed_output_none():
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "gammer_lightning.cli", "--help"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 3
    closed = subprocess.run(["bash", "-c", f"{sys.executable} -m gammer_lightning.cli --version >&- 2>&-"])
    assert closed.returncode == 0


@pytest.mark.parametrize("name", [name for name in cli.VERBS if hasattr(cli.verb_module(name), "add_arguments")])
def test_each_plain_verb_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*name.split(), "--help"])
    assert stop.value.code == 0
    assert f"usage: gammer {name}" in capsys.readouterr().out


def test_the_console_script_is_installed():
    script = os.path.join(os.path.dirname(sys.executable), "gammer")
    assert subprocess.run([script, "--version"], capture_output=True, text=True).stdout.strip().endswith(__version__)
