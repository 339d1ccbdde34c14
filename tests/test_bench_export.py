"""`gammer bench export`: rows beside the paper's Table 5, each in a process of its own, or why they cannot run."""

import json

import pytest
from fake_clips import FakeClips
from test_recognize import fit, trainer

from gammer_lightning import cli
from gammer_lightning.export import bench
from gammer_lightning.export.bench_rows import ROWS
from gammer_lightning.run_folder import RunFolder

CONFIG = """
trainer: {max_epochs: 1}
data: {magnifier: st-memm-small, train_alphas: [5, 8], eval_alpha: 5, input: apex}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of a tiny GAM-MER, not exported."""
    folder, data = RunFolder(tmp_path_factory.mktemp("runs") / "tiny"), FakeClips()
    task = fit(folder.path, data, epochs=1, seeds=[0])
    folder.figures.mkdir(exist_ok=True)
    folder.config.write_text(CONFIG)
    folder.save_facts(task="recognize", name="tiny", finished=True)
    trainer(folder.path, 1).test(task, datamodule=data, verbose=False)
    return folder.path


def bench_export(run, *options):
    code = cli.main(["bench", "export", str(run), "--device=cpu", "--threads=1", "--repeats=2", "--rounds=2", *options])
    assert code == 0


def test_the_ladder_of_a_run_that_was_not_exported(run, tmp_path, capsys):
    bench_export(run, "--out", str(tmp_path), "--only", "SDPA", "ONNX Runtime, C", "TensorRT, fp16")
    report = json.loads((tmp_path / "bench.json").read_text())
    assert (report["device"], report["threads"], report["side"], report["batch"]) == ("cpu", 1, 256, 1)
    assert report["versions"]["torch"] and report["device_name"]
    rows = {(row["model"], row["name"]): row for row in report["rows"]}
    first = rows["st_memm", "PyTorch eager, attention without SDPA"]
    assert first["faster"] == 1 and first["published_ms"] == 156.4
    sdpa = rows["st_memm", "PyTorch eager, SDPA"]
    assert sdpa["faster"] == pytest.approx(first["ms"] / sdpa["ms"])
    assert sdpa["fastest"] <= sdpa["quartiles"][0] <= sdpa["ms"] <= sdpa["quartiles"][1] <= sdpa["slowest"]
    assert len(sdpa["round_medians"]) == 2 and sdpa["memory_mb"] > 50
    for model, faster in (("st_memm", 1.32), ("gam_mer", 1.24)):
        onnx = rows[model, "ONNX Runtime, CPU"]
        assert onnx["why"].startswith(f"no {model}.onnx; gammer export") and onnx["published_faster"] == faster
        assert "on a CUDA GPU" in rows[model, "TensorRT, fp16"]["why"]
    assert "products of queries" in rows["gam_mer", "PyTorch eager, SDPA"]["why"]
    said = capsys.readouterr().out
    assert "256x256, batch 1" in said and "may hold preprocessing" in said and "2.90 (18.5 ms)" in said
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")


def test_the_papers_ratios_are_those_of_its_table():
    rows = {m: bench.with_ratios(m, [{"published": row.published} for row in ROWS[m]]) for m in ROWS}
    found = {m: sorted({row["published_faster"] for row in rows[m] if row["published"]}) for m in ROWS}
    assert found == {"st_memm": [1, 1.32, 2.51, 3.56], "gam_mer": [1, 1.24, 2.12, 2.9]}


def test_a_row_whose_process_dies_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(bench.sys, "executable", "/bin/false")
    rows = bench.measure("gam_mer", bench.Place("none", "none", "cpu", 1, 5.0), 1, 1, ["no such row"])
    assert [row["why"] for row in rows] == ["its process ended with code 1"]
    assert bench.table(rows)[1].endswith("-- its process ended with code 1")


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--repeats=0"], "--repeats 0"), (["--threads=0"], "--threads 0"), (["--device=cuda"], "no CUDA GPU")],
)
def test_bad_input(run, options, said, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert cli.main(["bench", "export", str(run), *options]) == 2
    assert said in capsys.readouterr().err


def test_no_run(tmp_path, capsys):
    assert cli.main(["bench", "export", str(tmp_path / "none")]) == 2
    assert "is not a run folder" in capsys.readouterr().err
