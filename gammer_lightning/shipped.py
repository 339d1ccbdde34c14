"""Experiments, sweeps and notebooks that come with the package: found by name wherever a command runs.

In a checkout they are the folders `experiments/`, `sweeps/` and `notebooks/` at its top; an installed package
has copies in `gammer_lightning/shipped_files/` (setup.py). ``gammer init`` writes them out.
"""

import difflib
import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Literal

from gammer_lightning.errors import GammerError

FOLDERS = ("experiments", "sweeps", "notebooks")
_INSTALLED = Path(__file__).parent / "shipped_files"
ROOT = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[1]
"""The folder that holds `FOLDERS`."""

YamlFolder = Literal["experiments", "sweeps"]


def shipped_files(folder: str) -> Iterator[str]:
    """Yield the YAMLs and notebooks in one of `FOLDERS`, e.g. ``experiments/baselines/ststnet.yaml``."""
    for path in sorted((ROOT / folder).rglob("*")):
        if path.suffix in (".yaml", ".ipynb"):
            yield path.relative_to(ROOT).as_posix()


def shipped_name(name: str | Path, folder: YamlFolder) -> str | None:
    """Return which of the package's YAMLs a name means; None where it means none.

    ``experiments/baselines/ststnet.yaml``, ``baselines/ststnet`` and ``ststnet`` mean the same file.
    """
    name_without_suffix = PurePath(name).as_posix().removesuffix(".yaml").removeprefix(f"{folder}/")
    for file in shipped_files(folder):
        inside = file.removesuffix(".yaml").removeprefix(f"{folder}/")
        if name_without_suffix in (inside, PurePath(inside).name):
            return file
    return None


def look_up_yaml(name: str | Path, folder: YamlFolder) -> Path | None:
    """Return the file that a name means, or None.

    It is a path from the working folder; else one of the package's YAMLs, of which a copy in the working folder
    (``gammer init``, a checkout) comes before the package's own.
    """
    if Path(name).exists() and not Path(name).is_dir():
        return Path(name)
    file = shipped_name(name, folder)
    if file is None:
        return None
    return Path(file) if Path(file).is_file() else ROOT / file


def find_yaml(name: str | Path, folder: YamlFolder) -> Path:
    """Return the file that a name means, as `look_up_yaml`; print once to stderr where it is the package's own.

    Raises:
        GammerError: If there is none, with the names that are nearest.
    """
    path = look_up_yaml(name, folder)
    if path is None:
        kind = folder.removesuffix("s")
        stems = {PurePath(file).stem: None for file in shipped_files(folder)}
        stem = PurePath(name).stem
        longer = [file for file in stems if stem and file.startswith(stem)]
        near = longer or difflib.get_close_matches(stem, stems, n=3, cutoff=0.5)
        raise GammerError(
            f"no {kind} {name}",
            f"it is a path from the working folder, or one of the package's {folder}: {', '.join(stems)}",
            f"did you mean {' or '.join(near)}?" if near else f"gammer init DIR writes the package's {folder} to DIR",
        )
    if path.is_relative_to(ROOT) and path != Path(name):
        _say_whose(str(name), path)
    return path


@functools.cache
def _say_whose(name: str, path: Path) -> None:
    print(f"{name}: the package's own file {path}", file=sys.stderr)


def with_paths_of_configs(argv: Sequence[str]) -> list[str]:
    """Return the arguments of ``fit`` with the path of each experiment that ``-c`` or ``--config`` names.

    Raises:
        GammerError: If there is no such experiment.
    """
    words = list(argv)
    for position, word in enumerate(words):
        flag, equals, name = word.partition("=")
        if flag not in ("-c", "--config"):
            continue
        if equals:
            words[position] = f"{flag}={_path_of_config(name)}"
        elif position + 1 < len(words):
            words[position + 1] = _path_of_config(words[position + 1])
    return words


def _path_of_config(name: str) -> str:
    is_yaml_text = any(sign in name for sign in ":{\n")  # `-c 'model: {depth: 3}'`, which the parser takes as well
    return name if is_yaml_text else str(find_yaml(name, "experiments"))
