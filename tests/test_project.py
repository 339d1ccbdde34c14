"""What several files of the project say of it is the same: its version, Python, the tools' versions."""

import configparser
import re
import tomllib
from pathlib import Path

import yaml

import gammer_lightning

ROOT = Path(__file__).parents[1]


def pinned(name):
    return re.search(rf"^{name}==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == gammer_lightning.__version__
    assert citation["references"][0]["doi"] in (ROOT / "README.md").read_text()


def test_commits_are_checked_by_the_tests_ruff():
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repos[0]["rev"] == f"v{pinned('ruff')}"


def test_tools_and_continuous_integration_take_the_pythons_that_are_supported():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    pythons = re.findall(r"Python :: (3\.\d+)", config["metadata"]["classifiers"])
    assert config["options"]["python_requires"] == f">={pythons[0]}"
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert tools["mypy"]["python_version"] == pythons[0]
    assert tools["ruff"]["target-version"] == f"py{pythons[0].replace('.', '')}"
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]
    tested = steps["strategy"]["matrix"]["python"]
    assert tested[0] == pythons[0] and len(tested) > 1 and set(tested) <= set(pythons)
    assert {"run": ".ci/run"} in steps["steps"]
