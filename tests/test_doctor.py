"""`gammer doctor` says what is there, what is missing, and what to do."""

import hashlib

import pytest
from packaging.requirements import Requirement

from gammer_lightning import cli
from gammer_lightning.commands import doctor


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """One shipped weights file with its card."""
    content = b"weights"
    (tmp_path / "st_memm_small.safetensors").write_bytes(content)
    (tmp_path / "st_memm_small.md").write_text(f"sha256: {hashlib.sha256(content).hexdigest()}")
    monkeypatch.setattr(doctor, "WEIGHTS", tmp_path)
    return tmp_path


def test_a_whole_installation_passes(weights, capsys):
    assert cli.main(["doctor"]) == 0
    table = capsys.readouterr().out
    for item in (
        "Python",
        "torch",
        "GPU",
        "TensorRT",
        "TV-L1 flow",
        "landmark model",
        "weights st_memm_small",
        "W&B",
        "free disk",
    ):
        assert item in table
    assert "MISSING" not in table


def test_altered_weights_fail_with_advice(weights, capsys):
    (weights / "st_memm_small.safetensors").write_bytes(b"altered")
    assert cli.main(["doctor"]) == 1
    assert "not in its card" in capsys.readouterr().out


def test_missing_weights_are_missing(weights):
    (weights / "st_memm_small.safetensors").unlink()
    (finding,) = doctor.shipped_weights()
    assert finding.required and "reinstall" in finding.advice


def test_packages_missing_or_out_of_bounds_are_told_how_to_install():
    absent = doctor._package(Requirement("no-such-package-at-all>=1"))
    assert absent.value == "missing" and "pip install" in absent.advice
    assert "needs" in doctor._package(Requirement("numpy<1")).advice
    assert doctor._package(Requirement("numpy>=1")).advice == ""


def test_a_check_that_cannot_import_is_a_finding():
    def landmark_model():
        raise ImportError("No module named 'dlib'")
        yield

    (finding,) = doctor.findings(landmark_model)
    assert finding.required and "dlib" in finding.value and finding.advice
