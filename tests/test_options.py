"""Every option of the plain verbs with values of the wrong kind, size and sign: one block, and nothing written."""

import argparse

import pytest
from casme2_sample import write_sample

from gammer_lightning import cli

VERBS = (
    "demo",
    "data list",
    "data check",
    "data apex",
    "data synthesize",
    "data synthesize-motion",
    "premagnify",
    "recognize table",
    "bench",
)
NO_NUMBERS = ("x", "", "-1", "1e400", "nan", "inf", str(10**10), str(2**70), "9" * 5000, "1.5.1")
NO_PATHS = ("x" * 300, "/proc/self/nothing", "/dev/null", "/dev/null/x", "\x1b[31m" + "y" * 300)
"""Texts that are no name and no path of anything that can be read or written, not even by root."""


def options(verb):
    """Return the options of a verb by their names, which are empty where they have none."""
    actions = [action for action in cli.verb_parser(verb)._actions if not isinstance(action, argparse._HelpAction)]
    return {next(iter(action.option_strings), ""): action for action in actions}


def is_text(action):
    return action.type is None and action.choices is None and action.option_strings != ["--size"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    write_sample(root, subjects=1, clips=1)
    return root


def needed(verb, clips):
    """Return options without which a verb does nothing, so that the one that is tested is what is wrong."""
    return {
        "data check": {"": "microfaces", "--root": clips, "--workers": 1},
        "data apex": {"": "casme2", "--root": clips},
        "data synthesize": {"--out": "out", "--workers": 1},
        "data synthesize-motion": {"--out": "out", "--samples": 1, "--workers": 1},
        "premagnify": {"--root": clips, "--magnifier": "eulerian", "--alphas": 5, "--cache": "out", "--device": "cpu"},
        "bench": {"": "startup", "--repeats": 1},
    }.get(verb, {})


def refuse(verb, option, value, clips, folder, capsys):
    """Run the verb with a value of an option; it must be refused in one block."""
    given = needed(verb, clips) | {option: value}
    words = [f"{name}={word}" if name else str(word) for name, word in given.items()]
    if option == "--objects":
        words.remove(f"--objects={value}")
        words += ["--objects", value, "7"]
    code = cli.main([*verb.split(), *words])
    error = capsys.readouterr().err
    assert (code, error.count("\x1b")) == (2, 0), (value[:80], error)
    assert len(blocks := error.split("error: ")) == 2 and blocks[1].count("\n") in (2, 3), (value[:80], error)
    assert list(folder.iterdir()) == [], value


NUMBERS = [(verb, name) for verb in VERBS for name, action in options(verb).items() if not is_text(action)]
TEXTS = [(verb, name) for verb in VERBS for name, action in options(verb).items() if is_text(action)]


@pytest.mark.parametrize(("verb", "option"), NUMBERS)
def test_what_is_no_number_or_choice_of_an_option_is_refused(verb, option, clips, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for value in NO_NUMBERS:
        refuse(verb, option, value, clips, tmp_path, capsys)


@pytest.mark.parametrize(("verb", "option"), TEXTS)
def test_what_is_no_name_or_path_is_refused(verb, option, clips, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for value in NO_PATHS:
        refuse(verb, option, value, clips, tmp_path, capsys)


def test_as_many_devices_and_workers_as_there_are(clips, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for option in ("--devices=99", "--workers=1000000000"):
        assert cli.main(["premagnify", "--root", str(clips), "--device=cpu", "--cache=out", option]) == 2
        assert "cores" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_is_not_there_is_one_block(clips, tmp_path, monkeypatch, capsys):
    import torch

    if torch.accelerator.is_available():
        pytest.skip("there is one")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["premagnify", "--root", str(clips), "--device=gpu", "--cache=out"]) == 2
    assert "no GPU that torch can use" in capsys.readouterr().err
    assert cli.main(["bench", "magnifier", "--device=cuda"]) == 2
    assert "no NVIDIA GPU" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
