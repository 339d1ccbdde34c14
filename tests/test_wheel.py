"""The wheel, built from the source distribution and installed outside the checkout, runs in an empty folder."""

import os
import shutil
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COPIED = ("gammer_lightning", "experiments", "sweeps", "notebooks", "tests", ".ci")
SHIPPED = ("experiments/recognize_casme2_5.yaml", "experiments/baselines/ststnet.yaml", "sweeps/table4_alpha.yaml")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="the layout of a POSIX environment")]


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Return the folder with the source distribution and the wheel made of it, from a copy of the checkout."""
    source, dist = tmp_path_factory.mktemp("source") / "checkout", tmp_path_factory.mktemp("dist")
    for name in COPIED:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy(path, source)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, source]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return dist


@pytest.fixture(scope="module")
def python(dist, tmp_path_factory):
    """Return the interpreter of a new environment with the wheel, where this one's packages can be imported."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder)
    python = folder / "bin/python"
    (wheel,) = dist.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "of_the_tests.pth").write_text("\n".join(site.getsitepackages()))  # its own .pth files are not read
    return python


@pytest.fixture
def gammer(python, tmp_path, monkeypatch):
    """Return a function that runs the installed ``gammer`` in an empty folder."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return subprocess.run([python.with_name("gammer"), *arguments], check=True, capture_output=True, text=True)

    return run


def test_the_package_is_the_wheel_own(python, gammer):
    code = "import gammer_lightning; print(gammer_lightning.__file__)"
    path = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout
    assert Path(path).is_relative_to(python.parents[1])


def test_the_wheel_holds_the_shipped_files_and_no_tests(dist):
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    for folder in ("experiments", "sweeps", "notebooks"):
        files = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.[yi]*[lb]"))
        prefix = "gammer_lightning/shipped_files/"
        assert sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix + folder)) == files
    assert {name.split("/")[0].split("-")[0] for name in names} == {"gammer_lightning"}
    assert "gammer_lightning/weights/st_memm_small.safetensors" in names
    with tarfile.open(sdist) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "constraints.txt", "Makefile", "tests/test_wheel.py", *SHIPPED} <= sources


@pytest.mark.timeout(600)  # three commands that import torch, beside other tests
def test_a_sweep_and_a_fit_run_by_the_names_of_shipped_files(gammer):
    assert "recognize fit" in gammer("--help").stdout
    gammer("data", "synthesize", "--out", "data/microfaces", "--subjects", "2", "--clips-per-class", "1")
    planned = gammer("sweep", "run", "table4_alpha", "--dry-run")
    assert "gammer recognize fit -c experiments/recognize_microfaces.yaml" in planned.stdout
    assert "shipped_files/sweeps/table4_alpha.yaml" in planned.stderr
    fit = gammer(
        *("recognize", "fit", "-c", "recognize_microfaces", "--trainer.max_epochs=1", "--model.seeds=[0]"),
        *("--data.eval_alpha=1", "--data.train_alphas=[1]", "--out=run"),
    )
    assert "run folder: run" in fit.stdout
    assert Path("run/results.json").is_file()


def test_init_writes_what_a_sweep_can_run_from(gammer):
    gammer("init")
    for name in SHIPPED:
        assert Path(name).read_bytes() == (ROOT / name).read_bytes()
