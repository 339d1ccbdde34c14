"""TensorRT: whether its parser and builder accept every graph, and which plans are refused.

TensorRT-RTX builds for a GPU that is not there; only running a plan needs one. Its acceptance is strong evidence for
full TensorRT, whose parser is the same, and no proof.
"""

import json
from types import SimpleNamespace

import pytest
import torch
from exported_run import add_preset

from gammer_lightning.deploy import tensorrt as engines
from gammer_lightning.deploy.graphs import make_graphs
from gammer_lightning.deploy.onnx_files import export_onnx, file_name
from gammer_lightning.errors import GammerError
from gammer_lightning.export.job import PROFILE
from gammer_lightning.models.gam_mer import GamMer
from gammer_lightning.models.st_memm import STMEMM

FACTS = {
    "format": 1,
    "package": "tensorrt_rtx",
    "version": "1.7.1",
    "precision": "fp16",
    "capability": "SM86",
    "gpu": None,
    "batch": [1, 1, 1],
    "inputs": {"x": [-1, 3]},
    "outputs": {"y": [-1, 3]},
}


@pytest.fixture
def plan(tmp_path):
    """A plan that only looks like one, in RUN/export, with its description."""
    path = tmp_path / "run/export/net.fp16.tensorrt-rtx.plan"
    path.parent.mkdir(parents=True)
    engines._write(path, b"plan", **{key: value for key, value in FACTS.items() if key != "format"})
    return path


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(GammerError, match=r"pip install 'tensorrt>=11'"):
        engines.import_tensorrt("tensorrt")
    with pytest.raises(GammerError, match="unknown package 'trt'"):
        engines.import_tensorrt("trt")


def test_a_description_belongs_to_its_plan(plan):
    assert engines.read_description(plan)["precision"] == "fp16"
    plan.write_bytes(b"another plan")
    with pytest.raises(GammerError, match=r"is not the plan that .*json describes"):
        engines.read_description(plan)
    engines.description_path(plan).write_text("{")
    with pytest.raises(GammerError, match="is damaged"):
        engines.read_description(plan)
    engines.description_path(plan).unlink()
    with pytest.raises(GammerError, match=r"no file .*plan\.json"):
        engines.read_description(plan)


@pytest.mark.parametrize(
    ("here", "said"),
    [
        (("1.8.0", "NVIDIA A10", "SM86"), "built by tensorrt_rtx 1.7.1, and 1.8.0 is installed"),
        (("1.7.1", "NVIDIA L4", "SM89"), r"built for SM86, and this GPU is NVIDIA L4 \(SM89\)"),
    ],
)
def test_a_plan_of_another_version_or_gpu_is_refused_with_the_command_that_rebuilds_it(plan, here, said):
    facts = engines.read_description(plan)
    engines.refuse_elsewhere(plan, facts, "1.7.1", "NVIDIA A10", "SM86")
    engines.refuse_elsewhere(plan, facts, "1.7.1", "NVIDIA RTX A4000", "SM86")  # RTX builds for a capability
    with pytest.raises(GammerError, match=said) as refused:
        engines.refuse_elsewhere(plan, facts, *here)
    assert refused.value.next_step == f"gammer export {plan.parent.parent} --to tensorrt-rtx --precision fp16"


def test_a_plan_of_full_tensorrt_is_for_one_model_of_gpu(plan):
    facts = FACTS | {"gpu": "NVIDIA A10", "package": "tensorrt", "batch": [1, 1, 8]}
    with pytest.raises(GammerError, match="built for NVIDIA A10, and this GPU is NVIDIA RTX A4000") as refused:
        engines.refuse_elsewhere(plan, facts, "1.7.1", "NVIDIA RTX A4000", "SM86")
    assert refused.value.next_step.endswith("--to tensorrt --precision fp16 --batch dynamic")


def test_without_a_gpu_a_runner_says_what_to_use(plan, monkeypatch):
    monkeypatch.setattr(engines, "import_tensorrt", lambda package: SimpleNamespace(__version__="1.7.1"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(GammerError, match=r"runs on a GPU \(SM86\), and there is none here") as refused:
        engines.Runner(plan)
    assert "--backend onnx" in refused.value.next_step


def test_full_tensorrt_builds_only_on_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "import_tensorrt", lambda package: SimpleNamespace(__version__="11.4"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(GammerError, match="there is no CUDA GPU here"):
        engines.build_plan(tmp_path / "net.onnx", "fp32", "tensorrt")
    with pytest.raises(GammerError, match="unknown precision 'int8'"):
        engines.build_plan(tmp_path / "net.onnx", "int8")


def test_shapes_of_a_profile():
    assert engines.fits((2, 3), [-1, 3], [1, 2, 4])
    assert not engines.fits((5, 3), [-1, 3], [1, 2, 4])
    assert not engines.fits((2, 4), [-1, 3], [1, 2, 4])
    assert not engines.fits((2,), [-1, 3], [1, 2, 4])


def test_the_precision_of_an_engine_is_that_of_its_layers(plan):
    def layer(kind):
        return {"Name": "x", "Outputs": [{"Name": "y", "Format/Datatype": kind}]}

    half = engines.engine_types(
        json.dumps({"Layers": [layer("Row major linear FP16 format"), layer("Half"), layer("Float")]})
    )
    assert half == {"HALF": 2, "FLOAT": 1}
    single = engines.engine_types(json.dumps({"Layers": [layer("Float"), layer("Int64"), "only a name"]}))
    facts = engines.read_description(plan)
    assert engines.refuse_other_engine(plan, facts, half) == half
    with pytest.raises(GammerError, match=r"says fp16, and its layers' results are \{'FLOAT': 1\}"):
        engines.refuse_other_engine(plan, facts, single)
    assert engines.refuse_other_engine(plan, facts | {"precision": "fp32"}, single) == single
    for types in (half, {"HALF": 1}, {}):  # {}: an inspector that says nothing proves nothing
        with pytest.raises(GammerError, match="says fp32"):
            engines.refuse_other_engine(plan, facts | {"precision": "fp32"}, types)


@pytest.fixture(scope="module")
def onnx_files(tmp_path_factory):
    """Every graph at any batch, random weights: the whole network of the preset `small` at fp32, others shallow."""
    folder = tmp_path_factory.mktemp("onnx")
    with pytest.MonkeyPatch.context() as monkeypatch:
        add_preset(monkeypatch)
        for precision in engines.PRECISIONS:
            for name, graph in graphs(precision, "tiny").items():
                is_shipped_size = (name, precision) == ("st_memm", "fp32")
                graph = graphs(precision)[name] if is_shipped_size else graph
                export_onnx(graph, folder / file_name(name, precision), None, {})
    return folder


def graphs(precision="fp32", preset="small"):
    settings = {"num_classes": 5, "patch_size": 16, "channels": 3}
    torch.manual_seed(0)
    return make_graphs(STMEMM(preset), GamMer(**settings), settings, precision)


@pytest.mark.tensorrt
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["st_memm", "st_memm_encoder", "st_memm_decoder", "gam_mer"])
def test_tensorrt_rtx_accepts_every_graph(onnx_files, name, precision):
    """Built for the paper's A10 without a GPU, at the batches of an export whose batch is free."""
    pytest.importorskip("tensorrt_rtx", reason="pip install 'tensorrt-rtx>=1.7'")
    plan = engines.build_plan(onnx_files / file_name(name, precision), precision, "tensorrt_rtx", PROFILE, "SM86")
    assert plan.name == f"{name}.{precision}.tensorrt-rtx.plan"
    facts = engines.read_description(plan)
    assert (facts["precision"], facts["capability"], facts["gpu"], facts["tf32"]) == (precision, "SM86", None, False)
    assert set(facts["multiplications"]) == {engines.PRECISIONS[precision]}
    assert {shape[0] for shape in facts["inputs"].values()} == {-1} and facts["batch"] == [1, 1, 8]
    assert facts["onnx"] == file_name(name, precision) and facts["bytes"] == plan.stat().st_size


@pytest.mark.tensorrt
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_plan_of_a_fixed_batch(tmp_path, precision):
    pytest.importorskip("tensorrt_rtx", reason="pip install 'tensorrt-rtx>=1.7'")
    path = tmp_path / file_name("gam_mer", precision)
    export_onnx(graphs(precision)["gam_mer"], path, 2, {})
    facts = engines.read_description(engines.build_plan(path, precision, "tensorrt_rtx", (2, 2, 2), "SM86"))
    assert facts["inputs"] == {"patches": [2, 68, 3, 16, 16]} and facts["outputs"] == {"logits": [2, 5]}


@pytest.mark.tensorrt
def test_what_tensorrt_refuses_is_quoted(onnx_files, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="pip install 'tensorrt-rtx>=1.7'")
    with pytest.raises(GammerError, match=r"gam_mer\.onnx is not fp16: .* [0-9]+ in FLOAT"):
        engines.build_plan(onnx_files / "gam_mer.onnx", "fp16", "tensorrt_rtx")
    with pytest.raises(GammerError, match=r"does not build for SM90\n.*it knows SM75, .*SM86"):
        engines.build_plan(onnx_files / "gam_mer.onnx", "fp32", "tensorrt_rtx", capability="SM90")
    with pytest.raises(GammerError, match=r"refuses unknown\.onnx: node 0 \w* \(Frobnicate\)"):
        engines.build_plan(unknown_operator(tmp_path / "unknown.onnx"), "fp32", "tensorrt_rtx")
    with pytest.raises(GammerError, match=r"no file .*none\.onnx"):
        engines.build_plan(tmp_path / "none.onnx", "fp32", "tensorrt_rtx")


def unknown_operator(path):
    """Write an ONNX file with an operator that nobody knows."""
    import onnx

    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3]) for name in "xy"]
    node = onnx.helper.make_node("Frobnicate", ["x"], ["y"], domain="nobody")
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), path)
    return path


@pytest.mark.gpu
@pytest.mark.tensorrt
@pytest.mark.skipif(not torch.cuda.is_available(), reason="running a plan needs a CUDA GPU")
@pytest.mark.parametrize("package", engines.REQUIREMENTS)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 2e-2)])
def test_a_plan_computes_what_torch_does(onnx_files, package, precision, tolerance):
    pytest.importorskip(package, reason=f"pip install '{engines.REQUIREMENTS[package]}'")
    runner = engines.Runner(engines.build_plan(onnx_files / file_name("gam_mer", precision), precision, package))
    patches = torch.rand(1, 68, 3, 16, 16) * 2 - 1
    logits = runner({"patches": patches})["logits"].cpu()
    torch.testing.assert_close(logits, graphs()["gam_mer"](patches=patches), atol=tolerance, rtol=tolerance)
    with pytest.raises(GammerError, match="no input 'patches'"):
        runner({})
    with pytest.raises(GammerError, match="the plan was built for"):
        runner({"patches": patches[:, :60]})
