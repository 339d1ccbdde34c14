"""`gammer export`: ONNX files that say what PyTorch says, in a bundle that nothing changes unnoticed."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from exported_run import add_preset, copy_run, write_magnifier, write_run

from gammer_lightning import cli
from gammer_lightning.deploy import bundle as bundles
from gammer_lightning.deploy import finished_run, onnx_files
from gammer_lightning.deploy import tensorrt as engines
from gammer_lightning.deploy.backends import open_backend, torch_graphs
from gammer_lightning.deploy.facts import Metrics, Training
from gammer_lightning.deploy.graphs import INTERFACE
from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.folds import PROTOCOLS
from gammer_lightning.evaluation.results import MICROFACES_NOTE
from gammer_lightning.export import job, load_bundle, parity
from gammer_lightning.export.card import model_card
from gammer_lightning.export.write_bundle import write_bundle
from gammer_lightning.files import sha256_of

HALF, SINGLE = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT


@pytest.fixture(scope="module", autouse=True)
def presets():
    with pytest.MonkeyPatch.context() as monkeypatch:
        add_preset(monkeypatch)
        yield


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Return a finished run that nothing was exported of."""
    return write_run(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def exported(bare):
    """Return the run exported twice: at fp32, then at fp16."""
    run = copy_run(bare, bare.parent / "exported")
    assert cli.main(["export", str(run)]) == 0
    first = sha256_of(run / "export" / "st_memm.onnx")
    assert cli.main(["export", str(run), "--precision", "fp16"]) == 0
    assert sha256_of(run / "export" / "st_memm.onnx") == first
    return run


@pytest.fixture
def reused(exported, monkeypatch):
    """Let exports of the same run take the files that are there already: what is exported is tested elsewhere."""
    files = exported / "export"
    monkeypatch.setattr(job, "export_onnx", lambda graph, path, *settings: shutil.copyfile(files / path.name, path))


@pytest.fixture
def copied(exported, tmp_path):
    """Return a copy of the exported run to spoil."""
    return copy_run(exported, tmp_path / "run")


def refusal(capsys, *words):
    """Return what a command says that refuses."""
    assert cli.main([str(word) for word in words]) == 2
    return capsys.readouterr().err


def change(folder, **facts):
    """Rewrite bundle.json as if it had been exported so."""
    facts = bundles.read_facts(folder).as_dict() | facts
    (folder / "bundle.json").write_text(json.dumps(facts | {"digest": bundles._digest(facts)}))


def test_the_bundle_has_every_graph_at_both_precisions_with_its_hash(exported):
    folder = exported / "export"
    bundle = load_bundle(exported)
    names = {f"{graph}{ending}" for graph in INTERFACE for ending in (".onnx", ".fp16.onnx")}
    assert set(bundle.facts.files) == names | {"st_memm.safetensors", "gam_mer.safetensors"}
    assert {path.name for path in folder.iterdir()} == {*bundle.facts.files, "bundle.json", "MODEL_CARD.md"}
    for name, entry in bundle.facts.files.items():
        assert entry.sha256 == sha256_of(folder / name) and entry.bytes == (folder / name).stat().st_size
    entry = bundle.facts.files["gam_mer.fp16.onnx"]
    assert (entry.graph, entry.precision, entry.batch, entry.opset) == ("gam_mer", "fp16", "dynamic", 20)
    assert not list(exported.glob(".export.*tmp*")) and not list(exported.glob("*.old"))


def test_the_facts_are_bundle_json_key_by_key(exported):
    record = json.loads((exported / "export" / "bundle.json").read_text())
    del record["digest"]
    facts = load_bundle(exported).facts.as_dict()
    assert facts == record and list(facts) == list(record)
    assert list(facts["files"]["gam_mer.onnx"]) == ["sha256", "bytes", "graph", "precision", "batch", "opset"]


def test_the_facts_say_how_input_is_made_and_what_was_measured(exported):
    bundle = load_bundle(exported / "export")
    results = json.loads((exported / "results.json").read_text())
    facts = bundle.facts
    assert bundle.class_names == ("happiness", "surprise", "disgust", "repression", "others")
    assert (bundle.alpha, bundle.alpha_range, bundle.patch_size, bundle.input) == (5, (5, 8), 8, "apex")
    assert facts.geometry["crop"] == 256 and len(facts.geometry["landmark_model_sha256"]) == 64
    assert np.shape(facts.adjacency) == (36, 36) and len(facts.nodes) == 36
    assert facts.metrics == Metrics(mean=results["mean"], std=results["std"], seeds=2)
    assert facts.datasets == ["casme2"] and facts.clips_sha256 == results["clips_sha256"]
    assert facts.run.checkpoint_sha256 == sha256_of(exported / "checkpoints" / "last.ckpt")
    assert facts.magnifier.preset == "tiny" and len(facts.magnifier.fingerprint) == 64


def test_the_report_names_tolerance_and_differences(bare, reused, tmp_path, capsys):
    assert cli.main(["export", str(copy_run(bare, tmp_path / "run")), "--precision", "fp16"]) == 0
    report = capsys.readouterr().out
    assert "tolerance 0.01" in report and "gam_mer, batch 3" in report and "st_memm_decoder, batch 1" in report
    assert "encoder + decoder against whole, batch 3" in report and "FAILED" not in report
    assert "of 10 predictions change" in report and "finite on every clip" in report
    assert "accuracy" not in report  # the exported member has trained on these clips
    headings = [line.split(" against PyTorch fp32")[0] for line in report.splitlines() if "tolerance 0.01" in line]
    assert headings[0] == "onnxruntime fp16 (on the CPU: weights at fp16, most arithmetic at fp32)"
    assert headings[1].startswith("PyTorch fp16 (half arithmetic, ") and f"classified by {headings[1]}" in report


def test_an_overflow_at_half_precision_is_found(bare, exported, tmp_path, monkeypatch, capsys):
    """Which onnxruntime does not: on a CPU it computes products at fp32, and what lies between two of them."""
    read, export = finished_run.deployed_model, job.export_onnx

    def with_large_features(checkpoint):
        network = read(checkpoint)
        layers = network.local_features
        with torch.no_grad():
            for layer, factor in ((layers.conv1, 300), (layers.conv2, 2000), (layers.conv3, 1e-3)):
                layer.weight *= factor
        return network

    def export_gam_mer(graph, path, *settings):
        if graph.name == "gam_mer":
            return export(graph, path, *settings)
        return shutil.copyfile(exported / "export" / path.name, path)

    monkeypatch.setattr(finished_run, "deployed_model", with_large_features)
    monkeypatch.setattr(job, "export_onnx", export_gam_mer)
    run = copy_run(bare, tmp_path / "run")
    assert cli.main(["export", str(run), "--precision", "fp16"]) == 1
    output = capsys.readouterr()
    onnxruntime, half = output.out.split("PyTorch fp16 (")
    assert "gam_mer, batch 3" in onnxruntime and "FAILED" not in onnxruntime and "nan" in half
    assert "PyTorch fp16 (half arithmetic" in output.err and "onnxruntime" not in output.err


def test_a_fixed_batch_takes_no_other(bare, exported, tmp_path):
    graph = torch_graphs(load_bundle(bare), "fp32")["st_memm_encoder"]
    path = tmp_path / "fixed.onnx"
    onnx_files.export_onnx(graph, path, 2, {})
    fixed, free = onnx_files.Session(path), onnx_files.Session(exported / "export" / "st_memm_encoder.onnx")
    frames = torch.rand(2, 3, 256, 256)
    assert (fixed(frame=frames) - free(frame=frames)).abs().max() < 1e-5
    with pytest.raises(GammerError, match="takes batches of 2, not of 1"):
        fixed(frame=frames[:1])


@pytest.mark.parametrize("graph", INTERFACE)
def test_an_onnx_file_describes_itself_and_no_machine(exported, graph):
    path = exported / "export" / f"{graph}.onnx"
    model = onnx.load(path)
    assert model.opset_import[0].version == onnx_files.OPSET == 20
    facts, shapes = onnx_files.describe(path)
    bundle = load_bundle(exported)
    assert facts["classes"] == list(bundle.class_names) and facts["alpha_range"] == [5, 8]
    assert facts["geometry"] == bundle.facts.geometry and facts["adjacency"] == bundle.facts.adjacency
    assert facts["commit"] == bundle.facts.commit
    inputs, output = INTERFACE[graph]
    assert facts["exported"]["graph"] == graph and tuple(shapes) == (*inputs, output)
    assert all(node.type.tensor_type.elem_type == SINGLE for node in (*model.graph.input, *model.graph.output))
    content = path.read_bytes()
    assert b"site-packages" not in content and str(Path.cwd()).encode() not in content
    assert str(exported.parent).encode() not in content and facts["magnifier"]["name"] == "tiny.safetensors"


@pytest.mark.parametrize("graph", INTERFACE)
def test_half_precision_is_half_inside(exported, graph):
    model = onnx.load(exported / "export" / f"{graph}.fp16.onnx")
    sizes = {HALF: 0, SINGLE: 0}
    for tensor in model.graph.initializer:
        if tensor.data_type in sizes:
            sizes[tensor.data_type] += int(np.prod(tensor.dims))
    assert sizes[HALF] > 50 * sizes[SINGLE]
    assert all(node.type.tensor_type.elem_type == SINGLE for node in (*model.graph.input, *model.graph.output))
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Conv", "Gemm")]
    assert products and {types[node.output[0]] for node in products if node.output[0] in types} == {HALF}
    for node in (node for node in model.graph.node if node.op_type == "GridSample"):
        assert {types.get(name, SINGLE) for name in (*node.input, *node.output)} == {SINGLE}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_one_mask_serves_all_shifted_windows(exported, precision):
    for name in ("st_memm", "st_memm_decoder"):
        ending = ".onnx" if precision == "fp32" else f".{precision}.onnx"
        model = onnx.load(exported / "export" / f"{name}{ending}")
        masks = [tensor for tensor in model.graph.initializer if np.prod(tensor.dims) == 64**3]
        assert len(masks) == 1


def test_backends_agree_and_a_bundle_needs_no_run(exported, tmp_path):
    alone = shutil.copytree(exported / "export", tmp_path / "alone")
    bundle = load_bundle(alone)
    eager, session = open_backend(bundle), open_backend(bundle, "onnx", device="cpu")
    assert (eager.name, session.name) == ("torch fp32 (cpu)", "onnx fp32 (CPUExecutionProvider)")
    frames = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(3))
    patches = torch.rand(3, 68, 3, 8, 8) * 2 - 1
    magnified, classes = [], []
    for backend in (eager, session):
        onset, apex = backend.encode(frames[:1]), backend.encode(frames[1:])
        magnified.append(backend.magnify(onset, apex, 6.5))
        classes.append(backend.classify(patches))
    assert (magnified[0] - magnified[1]).abs().max() < 1e-4 and (classes[0] - classes[1]).abs().max() < 1e-5
    assert classes[1].shape == (3, 5) and torch.allclose(classes[1].sum(1), torch.ones(3))
    assert magnified[1].min() >= 0 and magnified[1].max() <= 1 and not torch.equal(magnified[0], frames[1:])
    half = open_backend(bundle, "torch", "fp16", "cpu")
    shown = half.magnify(half.encode(frames[:1]), half.encode(frames[1:]), 6.5)
    assert shown.dtype == torch.float32 and 0 < (shown - magnified[0]).abs().mean() < 1e-2


def test_a_run_that_was_not_exported_is_a_bundle_for_pytorch(bare, exported):
    fresh, old = load_bundle(bare), load_bundle(exported)
    assert fresh.facts.files == {} and not (bare / "export").exists()
    for key in ("classes", "alpha", "network"):
        assert getattr(fresh.facts, key) == getattr(old.facts, key)
    patches = torch.rand(2, 68, 3, 8, 8)
    assert torch.equal(open_backend(fresh).classify(patches), open_backend(old).classify(patches))
    with pytest.raises(GammerError, match=r"has no st_memm_encoder\.onnx"):
        open_backend(fresh, "onnx")


def test_the_card_says_where_it_comes_from_and_what_is_not_allowed(exported):
    card = (exported / "export" / "MODEL_CARD.md").read_text()
    results = json.loads((exported / "results.json").read_text())
    for words in ("CASME II", "leave one subject out", "iBUG 300-W", "excludes commercial use", "licence agreement"):
        assert words in card
    assert f"{results['mean']['uf1']:.3f} ± {results['std']['uf1']:.3f}" in card
    assert "alpha 5 to 8" in card and "st_memm.fp16.onnx" in card and "microfaces" not in card
    facts = load_bundle(exported).facts
    ((name, change),) = facts.fp16.items()
    assert name.startswith("PyTorch fp16 (half arithmetic, ") and change.clips == 10
    assert f"| {name} | {change.changed} of 10 | {change.probability:.4f} |" in card
    assert "onnxruntime" in card and "computes most of an fp16 file at fp32 on a CPU" in card
    assert "Half" not in model_card(replace(facts, fp16={}))
    leaky = model_card(replace(facts, protocol=PROTOCOLS["paper_holdout"], datasets=["microfaces"]))
    assert "This protocol leaks" in leaky and "had not seen its subject" not in leaky and MICROFACES_NOTE in leaky


def test_the_card_says_what_the_exported_member_has_trained_on(bare, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(job.Job, "run", lambda self, target: [])
    outer = write_run(tmp_path, subjects=4, protocol="outer", num_folds=2)
    assert cli.main(["export", str(outer)]) == 0
    card = (outer / "export" / "MODEL_CARD.md").read_text()
    assert "- Data: 20 clips of 4 subjects, of which 10 were judged.\n" in card
    assert "10 clips of 2 subjects were judged" in card and "own score on them says nothing" in card
    facts = load_bundle(exported).facts
    assert facts.training == Training(clips=10, subjects=2)
    assert "10 clips of 2 subjects, which are those that were judged.\n" in model_card(facts)
    source = finished_run.open_finished_run(bare)
    source.config["model"] |= {"protocol": "inner", "num_folds": 2}
    inner = {"protocol": PROTOCOLS["inner"], "clips": 5, "training": job._trained_on(source, parity.open_clips(source))}
    card = model_card(replace(facts, **inner))
    assert "5 clips of 1 subjects, which are those that were judged; the subjects of one outer fold were" in card
    assert "This is validation: settings may have been chosen by it" in card


@pytest.mark.tensorrt
@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU, plans are built for it")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_plans_are_built_without_a_gpu_for_the_papers(bare, reused, tmp_path, capsys, precision):
    pytest.importorskip("tensorrt_rtx", reason="pip install 'tensorrt-rtx>=1.7'")
    run = copy_run(bare, tmp_path / "run")
    assert cli.main(["export", str(run), "--to", "tensorrt-rtx", "--precision", precision]) == 0
    said = capsys.readouterr().out
    assert "tensorrt-rtx: there is no GPU here, so plans are built for SM86, the paper's A10, and were not run" in said
    bundle = load_bundle(run)
    for graph in INTERFACE:
        name = f"{graph}.{precision}.tensorrt-rtx.plan"
        facts, entry = engines.read_description(bundle.file(name)), bundle.facts.files[name]
        assert (facts["capability"], facts["precision"], facts["batch"]) == ("SM86", precision, [1, 1, 8])
        assert entry.onnx_sha256 == facts["onnx_sha256"] == bundle.facts.files[facts["onnx"]].sha256
        assert f"{name}.json" in bundle.facts.files and f"| {name} |" in model_card(bundle.facts)


def test_plans_are_compared_where_there_is_a_gpu(bare, exported, tmp_path, monkeypatch, capsys):
    """The GPU and its runner are imitated: what is shown is which numbers count."""
    work = job.Job(finished_run.open_finished_run(bare), tmp_path, "fp32", None)
    plans = {name: exported / "export" / f"{name}.onnx" for name in INTERFACE}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A10")
    monkeypatch.setattr(job, "Runner", onnx_files.Session)
    monkeypatch.setattr(job, "runner_graph", lambda session, output: session)
    assert work._prove_plans(plans, "tensorrt") == []
    assert "tensorrt fp32 (NVIDIA A10) against PyTorch fp32" in capsys.readouterr().out
    monkeypatch.setattr(job, "runner_graph", lambda session, output: lambda **inputs: session(**inputs) + 1)
    failures = work._prove_plans(plans, "tensorrt")
    assert len(failures) == 10 and failures[0].startswith("tensorrt fp32 (NVIDIA A10): st_memm, batch 1")


def test_without_the_package_no_plan_is_tried(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setattr(finished_run, "open_finished_run", lambda *settings: pytest.fail("the work started"))
    assert "pip install 'tensorrt-rtx>=1.7'" in refusal(capsys, "export", tmp_path, "--to", "tensorrt-rtx")


def test_a_plan_of_an_older_onnx_file_is_removed_and_said_so(copied, reused, capsys):
    folder, plans = copied / "export", ("gam_mer.fp32.tensorrt-rtx.plan", "st_memm.fp32.tensorrt-rtx.plan")
    files = bundles.read_facts(folder).as_dict()["files"]
    for name, onnx_sha256 in zip(plans, (files["gam_mer.onnx"]["sha256"], "older"), strict=True):
        (folder / name).write_bytes(b"plan")
        files[name] = files["gam_mer.onnx"] | {"sha256": sha256_of(folder / name), "onnx_sha256": onnx_sha256}
    change(folder, files=files)
    assert cli.main(["export", str(copied)]) == 0
    assert (folder / plans[0]).is_file() and not (folder / plans[1]).exists()
    assert f"of an ONNX file that is new: {plans[1]}\n" in capsys.readouterr().out


def test_files_of_other_weights_do_not_stay_in_a_bundle(copied, tmp_path):
    write_magnifier(tmp_path / "other.safetensors", seed=1)
    facts = finished_run.open_finished_run(copied, str(tmp_path / "other.safetensors")).facts()
    (tmp_path / "staged").mkdir()
    (copied / "export" / "bench.json").write_text("{}")
    write_bundle(copied / "export", tmp_path / "staged", facts, {})
    assert load_bundle(copied).facts.magnifier.name == "other.safetensors"
    assert {path.name for path in (copied / "export").iterdir()} == {"bundle.json", "MODEL_CARD.md"}
    assert "trained on frames of another magnifier" in (copied / "export" / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_where_parity_fails_nothing_is_written(bare, reused, tmp_path, monkeypatch, capsys, precision):
    run = copy_run(bare, tmp_path / "run")
    monkeypatch.setitem(parity.TOLERANCE, precision, 0.0)
    assert cli.main(["export", str(run), "--precision", precision]) == 1
    output = capsys.readouterr()
    assert "FAILED" in output.out and "st_memm, batch 1" in output.out and "are not PyTorch's" in output.err
    assert f"{job.ONNXRUNTIME[precision]}: st_memm, batch 1" in output.err and "FAILED" in output.err
    assert {path.name for path in run.iterdir()} == {path.name for path in bare.iterdir()}


def test_a_value_that_is_not_finite_fails(bare, reused, tmp_path, monkeypatch, capsys):
    assert not parity.Result("gam_mer", float("nan"), 1.0).holds
    broken = parity.Change("", 10, 0, 0.0, 0.0, ("casme2/01/EP03_01",))
    monkeypatch.setattr(job, "measure_change", lambda *given: broken)
    assert cli.main(["export", str(copy_run(bare, tmp_path / "run")), "--precision", "fp16"]) == 1
    said = capsys.readouterr().err
    assert "error: the exported graphs" in said and "PyTorch fp16" in said and "not finite on casme2/01/EP03_01" in said


def test_changes_of_predictions_are_counted_clip_by_clip(exported, bare):
    source = finished_run.open_finished_run(bare)
    clips = parity.open_clips(source)
    eager = open_backend(load_bundle(exported))
    same = parity.measure_change(eager, eager, clips, 5.0, batch=4)  # 10 clips in batches of 4
    assert (same.clips, same.changed, same.probability, same.frame, same.broken) == (10, 0, 0.0, 0.0, ())

    def spoilt(patches):
        logits = eager.graphs["gam_mer"](patches=patches)
        spoilt.seen += 1
        return logits.flip(1) if spoilt.seen == 1 else logits * (torch.nan if spoilt.seen == 2 else 1)

    spoilt.seen = 0
    other = replace(eager, graphs={**eager.graphs, "gam_mer": spoilt})
    change = parity.measure_change(eager, other, clips, 5.0)
    assert change.changed >= 1 and change.probability > 0 and change.broken == (clips.clips[1].key,)
    assert "NOT FINITE" in str(change)


def test_an_export_that_breaks_off_leaves_the_old_bundle(copied, reused, monkeypatch, capsys):
    before = {path.name: sha256_of(path) for path in (copied / "export").iterdir()}

    def full(facts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gammer_lightning.export.card.model_card", full)
    assert "No space left on device" in refusal(capsys, "export", copied)
    assert {path.name: sha256_of(path) for path in (copied / "export").iterdir()} == before
    load_bundle(copied)


def test_what_a_killed_export_left_is_put_right(copied, reused):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (copied / f".export.{dead.pid}-0a.tmp").mkdir()
    (copied / f".export.{dead.pid}-0a.tmp" / "gam_mer.onnx").touch()
    (copied / "export").rename(copied / f".export.{dead.pid}-0b.tmp.old")  # killed between the two renames
    assert cli.main(["export", str(copied)]) == 0
    assert "st_memm.fp16.onnx" in load_bundle(copied).facts.files
    assert [path.name for path in copied.glob(".export.*")] == [".export.lock"]


def test_what_was_measured_of_the_same_weights_stays(copied, reused):
    (copied / "export" / "bench.json").write_text("{}")
    assert cli.main(["export", str(copied)]) == 0
    assert (copied / "export" / "bench.json").is_file() and "bench.json" not in load_bundle(copied).facts.files
    assert len(load_bundle(copied).facts.fp16) == 1  # measured by the export before this one
    shutil.rmtree(copied / "export")
    (copied / "export").mkdir()
    (copied / "export" / "bench.json").write_text("{}")  # measured before anything was exported
    assert cli.main(["export", str(copied)]) == 0
    assert (copied / "export" / "bench.json").is_file()


@pytest.mark.parametrize("name", ["gam_mer.onnx", "st_memm.safetensors", "bundle.json"])
def test_a_changed_file_is_noticed(copied, name):
    path = copied / "export" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(GammerError, match=rf"{name} was changed or damaged"):
        load_bundle(copied)


def test_a_file_left_behind_is_missed_where_it_is_needed(copied):
    (copied / "export" / "gam_mer.onnx").unlink()
    bundle = load_bundle(copied)
    with pytest.raises(GammerError, match=r"has no gam_mer\.onnx") as refused:
        open_backend(bundle, "onnx")
    assert "gam_mer.safetensors" in refused.value.rule and "gam_mer.onnx" not in refused.value.rule
    assert "gammer export RUN --to onnx" in refused.value.next_step
    open_backend(bundle, "onnx", "fp16")


def test_onnx_of_another_model_is_refused(copied, tmp_path):
    folder = copied / "export"
    files = bundles.read_facts(folder).as_dict()["files"]

    def with_file(name, content):
        (folder / name).write_bytes(content)
        change(folder, files=files | {name: files[name] | {"sha256": sha256_of(folder / name)}})
        with pytest.raises(GammerError, match="is of another model") as refused:
            open_backend(load_bundle(folder), "onnx")
        return str(refused.value)

    original = (folder / "gam_mer.onnx").read_bytes()
    assert "it is gam_mer at fp16" in with_file("gam_mer.onnx", (folder / "gam_mer.fp16.onnx").read_bytes())
    assert "it is st_memm at fp32" in with_file("gam_mer.onnx", (folder / "st_memm.onnx").read_bytes())
    foreign = onnx.load(folder / "st_memm.onnx")
    del foreign.metadata_props[:]
    assert "not of this project" in with_file("gam_mer.onnx", foreign.SerializeToString())
    (folder / "gam_mer.onnx").write_bytes(original)
    change(folder, files=files, classes=[f"other {name}" for name in bundles.read_facts(folder).classes])
    with pytest.raises(GammerError, match="another run's"):
        open_backend(load_bundle(folder), "onnx")


def test_a_checkpoint_newer_than_the_bundle_is_noticed(copied):
    with (copied / "checkpoints" / "last.ckpt").open("ab") as file:
        file.write(b" ")
    with pytest.raises(GammerError, match="is older than"):
        load_bundle(copied)


def test_a_newer_format_is_refused(copied):
    change(copied / "export", format=2)
    with pytest.raises(GammerError, match="has format 2"):
        load_bundle(copied)


def test_runs_that_cannot_be_exported(bare, tmp_path, capsys):
    assert "is not a run folder" in refusal(capsys, "export", tmp_path)
    run = copy_run(bare, tmp_path / "run")
    facts = json.loads((run / "env.json").read_text())

    def with_facts(**changed):
        (run / "env.json").write_text(json.dumps(facts | changed))
        return refusal(capsys, "export", run)

    assert "is not finished" in (said := with_facts(finished=False)) and f"gammer recognize fit --resume {run}" in said
    said = with_facts(task="magnify")
    assert "is a run of `magnify`" in said and f"gammer export RECOGNITION_RUN --magnifier {run}" in said
    with_facts(finished=False)
    (run / "env.json").write_text(json.dumps(facts))
    for name in ("env.json", "config.yaml", "results.json"):
        whole = (run / name).read_bytes()
        (run / name).write_bytes(whole[: len(whole) // 2] + b"\n{[")
        assert f"{run / name} is damaged" in refusal(capsys, "export", run)
        (run / name).write_bytes(whole)
    (run / "results.json").unlink()
    assert f"gammer recognize test {run}" in refusal(capsys, "export", run)
    (run / "checkpoints" / "last.ckpt").write_bytes(b"half")
    assert "cannot be read" in refusal(capsys, "export", run)
    (run / "checkpoints" / "last.ckpt").unlink()
    assert "has no checkpoint" in refusal(capsys, "export", run)
    with pytest.raises(GammerError, match="has no checkpoint"):
        load_bundle(run)


def test_arguments_that_are_refused(bare, capsys):
    for batch in ("0", "-1", "many", "1.5"):
        assert f"--batch {batch}" in refusal(capsys, "export", bare, "--batch", batch)
    assert "is not ST-MEMM" in refusal(capsys, "export", bare, "--magnifier", "eulerian")
    assert "unknown magnifier" in refusal(capsys, "export", bare, "--magnifier", "nowhere")


def test_clips_on_another_machine_are_asked_for(bare, reused, tmp_path, monkeypatch, capsys):
    run = copy_run(bare, tmp_path / "run")
    elsewhere = (run / "config.yaml").read_text().replace(str(bare.parent / "casme2"), "/nowhere/casme2")
    (run / "config.yaml").write_text(elsewhere)
    said = refusal(capsys, "export", run)
    assert "are not on this machine: casme2 (/nowhere/casme2)" in said
    assert "GAMMER_CASME2=/path/to/casme2 gammer export" in said and not (run / "export").exists()
    monkeypatch.setenv("GAMMER_CASME2", str(bare.parent / "casme2"))
    assert cli.main(["export", str(run)]) == 0


def test_other_clips_than_the_runs_are_refused(bare, tmp_path, capsys):
    run = copy_run(bare, tmp_path / "run")
    others = shutil.copytree(bare.parent / "casme2", tmp_path / "others")
    shutil.rmtree(others / "Cropped" / "sub02")
    rows = yaml.safe_load((run / "config.yaml").read_text())
    rows["data"]["class_set"] = "three"
    (run / "config.yaml").write_text(yaml.safe_dump(rows))
    assert "are not those of" in refusal(capsys, "export", run)


def test_a_missing_package_is_named_with_its_command(bare, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    said = refusal(capsys, "export", bare)
    assert "the package onnxruntime cannot be imported" in said
    assert "next: pip install -c constraints.txt onnxruntime" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_full_tensorrt_is_refused_before_the_work_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(finished_run, "open_finished_run", lambda *settings: pytest.fail("the work started"))
    said = refusal(capsys, "export", tmp_path, "--to", "tensorrt")
    assert "there is no CUDA GPU here" in said and "--to tensorrt-rtx" in said


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("keras",), "backend is 'keras'"),
        (("torch", "int8"), "precision is 'int8'"),
        (("torch", "fp32", "tpu"), "device is 'tpu'"),
    ],
)
def test_backends_that_there_are_not(exported, settings, words):
    with pytest.raises(GammerError, match=words):
        open_backend(load_bundle(exported), *settings)


def test_bf16_is_autocast_and_near(exported):
    bundle = load_bundle(exported)
    random = torch.Generator().manual_seed(0)
    frames = torch.nn.functional.interpolate(torch.rand(2, 3, 8, 8, generator=random), 256, mode="bicubic").clamp(0, 1)
    patches = torch.rand(1, 68, 3, 8, 8, generator=random)

    def outputs(precision):
        backend = open_backend(bundle, "torch", precision, "cpu")
        return backend.magnify(*map(backend.encode, frames.split(1)), 5.0), backend.classify(patches)

    (single, one), (half, other) = outputs("fp32"), outputs("bf16")
    assert half.dtype == torch.float32 and 0 < (half - single).abs().mean() < 0.01 and torch.equal(one, other)
    with pytest.raises(GammerError, match="bf16 with onnx"):
        open_backend(bundle, "onnx", "bf16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_session_never_falls_back_to_the_cpu_in_silence(exported):
    with pytest.raises(GammerError, match="no CUDA"):
        open_backend(load_bundle(exported), "onnx", "fp32", "cuda")
    with pytest.raises(GammerError, match="onnxruntime has no CUDA here"):
        onnx_files.Session(exported / "export" / "gam_mer.onnx", "cuda")
