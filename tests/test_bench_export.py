"""`gammer bench export`: rows beside the paper's Table 5, each in a process of its own, or why they cannot run."""

import json
import shutil
from dataclasses import replace

import pytest
from fake_clips import FakeClips
from test_recognize import fit, trainer

from gammer_lightning import cli
from gammer_lightning.commands import bench_export as bench
from gammer_lightning.deploy.bundle import WEIGHTS
from gammer_lightning.deploy.facts import GraphFile, Training
from gammer_lightning.deploy.finished_run import open_finished_run
from gammer_lightning.deploy.graphs import make_graphs
from gammer_lightning.deploy.onnx_files import export_onnx
from gammer_lightning.errors import GammerError
from gammer_lightning.export import latency as bench_rows
from gammer_lightning.export.latency import ROWS
from gammer_lightning.export.write_bundle import save_networks, staging, write_bundle
from gammer_lightning.runs.folder import RunFolder

CONFIG = """
trainer: {max_epochs: 1}
data: {magnifier: st-memm-small, train_alphas: [5, 8], eval_alpha: 5, input: apex}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of a tiny GAM-MER."""
    folder, data = RunFolder(tmp_path_factory.mktemp("runs") / "tiny"), FakeClips()
    task = fit(folder.path, data, epochs=1, seeds=[0])
    folder.figures.mkdir(exist_ok=True)
    folder.config.write_text(CONFIG)
    folder.save_facts(task="recognize", name="tiny", finished=True)
    trainer(folder.path, 1).test(task, datamodule=data, verbose=False)
    return folder.path


def bench_export(run, *options):
    return cli.main(["bench", "export", str(run), "--device=cpu", "--threads=1", "--repeats=2", "--rounds=2", *options])


def test_the_ladder_of_a_run_of_which_half_was_exported(run, tmp_path, capsys):
    export_gam_mer(run)
    assert bench_export(run, "--out", str(tmp_path), "--only", "Runtime, CPU", "TensorRT, fp16") == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    assert (report["device"], report["threads"], report["side"], report["batch"]) == ("cpu", 1, 256, 1)
    assert report["versions"]["torch"] and report["load"] >= 0 and report["device_name"]
    rows = {(row["model"], row["name"]): row for row in report["rows"]}
    assert rows["st_memm", "PyTorch eager, attention without SDPA"]["published_ms"] == 156.4
    first, onnx = rows["gam_mer", "PyTorch eager"], rows["gam_mer", "ONNX Runtime, CPU"]
    assert first["faster"] == 1 and onnx["faster"] == pytest.approx(first["ms"] / onnx["ms"])
    assert onnx["fastest"] <= onnx["quartiles"][0] <= onnx["ms"] <= onnx["quartiles"][1] <= onnx["slowest"]
    assert len(onnx["round_medians"]) == 2 and onnx["memory_mb"] > 50 and onnx["published_faster"] == 1.24
    missing = rows["st_memm", "ONNX Runtime, CPU"]
    assert "has no st_memm.onnx; gammer export" in missing["why"] and missing["published_faster"] == 1.32
    assert rows["st_memm", "TensorRT, fp16"]["why"] == "needs --device cuda"
    said = capsys.readouterr().out
    assert "256x256, batch 1" in said and "may hold preprocessing" in said and "2.90 (18.5 ms)" in said
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")


def export_gam_mer(run, name="gam_mer.onnx"):
    """Make a bundle of which GAM-MER alone was exported, under some name."""
    source = open_finished_run(run)
    facts = replace(source.facts(), training=Training(clips=18, subjects=3))
    graph = make_graphs(source.magnifier.network, source.recognizer, facts.network)["gam_mer"]
    entries = {file: GraphFile(graph="gam_mer", precision="fp32", batch=1) for file in (name, *WEIGHTS.values())}
    with staging(run / "export") as staged:
        save_networks(source, staged)
        export_onnx(graph, staged / name, 1, facts.as_dict() | {"exported": entries[name].as_dict()})
        write_bundle(run / "export", staged, facts, entries)


def test_a_file_of_another_graph_or_of_no_bundle_is_not_opened(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    export_gam_mer(copy, "st_memm_encoder.onnx")
    with pytest.raises(GammerError, match=r"is of another model: it is gam_mer at fp32, not st_memm_encoder"):
        bench_rows.onnx_step("st_memm_encoder", bench.Place(copy, "cpu", 1, 5.0), "cpu")
    (copy / "export" / "bundle.json").unlink()
    with pytest.raises(GammerError, match=r"has no st_memm_encoder\.onnx"):
        bench_rows.onnx_step("st_memm_encoder", bench.Place(copy, "cpu", 1, 5.0), "cpu")


def test_ctrl_c_prints_what_was_measured(run, tmp_path, monkeypatch, capsys):
    asked, ask = [], bench.BenchProcess.ask

    def interrupted(child, request):
        asked.append(request)
        if len(asked) == 4:  # two rows are ready, and the first was measured once
            raise KeyboardInterrupt
        ask(child, request)

    monkeypatch.setattr(bench.BenchProcess, "ask", interrupted)
    assert bench_export(run, "--out", str(tmp_path), "--only", "Eager, SDPA") == 130
    said = capsys.readouterr()
    first, second = [line for line in said.out.splitlines() if line.startswith("  PyTorch eager")]
    assert first.split()[-1].isdecimal() and "-- stopped before it was measured" in second
    assert "GAM-MER" not in said.out and "nothing was written" in said.err and not list(tmp_path.iterdir())


def test_graph_attention_has_no_sdpa_row():
    (row,) = (row for row in ROWS["gam_mer"] if "SDPA" in row.name)
    with pytest.raises(GammerError, match="no products of queries"):
        row.prepare("gam_mer", bench.Place("none", "cpu", 1, 5.0))


def test_the_papers_ratios_are_those_of_its_table():
    rows = {m: bench.with_ratios(m, [{"published": row.published} for row in ROWS[m]]) for m in ROWS}
    found = {m: sorted({row["published_faster"] for row in rows[m] if row["published"]}) for m in ROWS}
    assert found == {"st_memm": [1, 1.32, 2.51, 3.56], "gam_mer": [1, 1.24, 2.12, 2.9]}


def test_a_row_whose_process_dies_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(bench.sys, "executable", "/bin/false")
    rows, _ = bench.measure("gam_mer", bench.Place("none", "cpu", 1, 5.0), 1, 1, ["no such row"])
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


def test_a_folder_that_cannot_be_written_is_refused_before_measuring(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "measure", lambda *settings: pytest.fail("it measured"))
    (tmp_path / "file").touch()
    assert cli.main(["bench", "export", str(run), f"--out={tmp_path / 'file/out'}"]) == 2
    assert "cannot write to" in capsys.readouterr().err


def test_no_run(tmp_path, capsys):
    assert cli.main(["bench", "export", str(tmp_path / "none")]) == 2
    assert "is not a run folder" in capsys.readouterr().err
