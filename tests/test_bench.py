"""`gammer bench`: rows with medians and ratios, and the limits that are counts rather than times."""

import json

import pytest
import torch

from gammer_lightning import cli


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_bench_prints_and_writes_medians_and_ratios(tmp_path, capsys):
    report = tmp_path / "bench.json"
    assert cli.main(["bench", "magnifier", "pairs", "recognize", "--repeats=1", "--threads=1", f"--json={report}"]) == 0
    rows = {row["name"]: row for row in json.loads(report.read_text())}
    assert rows["pair, one alpha"]["GFLOP"] <= 8
    one, seven = rows["pair, one alpha, fp32"]["ms"], rows["pair, seven alphas, fp32"]["ms"]
    assert rows["seven alphas / one alpha"]["ratio"] == pytest.approx(seven / one)
    assert rows["26 folds in turn"]["ratio"] == 1 and rows["26 folds in one fit"]["ratio"] > 0
    assert rows["samples of 64 px"]["per second"] > 0
    assert "26 folds in one fit" in capsys.readouterr().out


def test_unknown_part(capsys):
    assert cli.main(["bench", "magnet"]) == 2
    assert "unknown part magnet" in capsys.readouterr().err


def test_bench_sweep_measures_the_supervisor(monkeypatch, capsys):
    from gammer_lightning.commands import bench_sweep as bench

    for name, value in {"SLEEP": 0.05, "ROWS": 4, "SLOTS": 2, "MANY": 20}.items():
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench, "ROW", bench.ROW.replace("time.sleep(1.0)", "time.sleep(0.05)"))
    assert cli.main(["bench", "sweep"]) == 0
    said = capsys.readouterr().out
    assert "throughput of 2 slots" in said and "20 rows, opened anew and listed" in said
