"""The README: every command in it is one that the real parser accepts."""

import argparse
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from gammer_lightning import cli

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
COMMANDS = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.split("#")[0].strip()]


def test_the_two_commands_come_first():
    assert COMMANDS[:2] == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    assert "\ndemo:" in makefile and "\ntest:" in makefile


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("gammer")])
def test_command_parses(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    name, argv = cli.find_verb(shlex.split(command)[1:])
    verb = cli.VERBS[name]
    if isinstance(verb, cli.TaskVerb):
        if "RUN" in argv:  # takes a run folder, made by the command before it
            return
        with pytest.raises(SystemExit) as stop:
            cli.main([*name.split(), *argv, "--print_config"])
        assert stop.value.code == 0
    else:
        parser = argparse.ArgumentParser()
        getattr(import_module(f"gammer_lightning.{verb.module}"), verb.add_arguments)(parser)
        parser.parse_args(argv)


def test_files_it_links_to_exist():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target
