"""Bundles, plans and ONNX files that were damaged, made by strangers, or hold weights that are not finite."""

import json
from types import SimpleNamespace

import onnx
import pytest
import torch
from face_videos import face_frames, made_bundle, write_folder
from safetensors.torch import load_file, save_file

from gammer_lightning.cli import main
from gammer_lightning.deploy import tensorrt as engines
from gammer_lightning.deploy.backends import check_model
from gammer_lightning.deploy.bundle import BUNDLE, WEIGHTS, _digest, load_bundle, read_facts
from gammer_lightning.deploy.facts import BundleFile
from gammer_lightning.deploy.onnx_files import Session, describe, read_model
from gammer_lightning.deploy.rules import RESULT_RULES
from gammer_lightning.deploy.values import check_values
from gammer_lightning.errors import GammerError
from gammer_lightning.export import artifacts
from gammer_lightning.export.card import _files
from gammer_lightning.files import sha256_of
from gammer_lightning.magnifiers import check_alphas
from gammer_lightning.magnifiers.trained import SHIPPED_WEIGHTS

DELETED = object()


def write_facts(folder, facts):
    """Write bundle.json with the digest that belongs to it."""
    (folder / BUNDLE).write_text(json.dumps(facts | {"digest": _digest(facts)}))


@pytest.fixture
def made(tmp_path):
    folder = made_bundle(tmp_path / "made")
    facts = json.loads((folder / BUNDLE).read_text())
    del facts["digest"]
    return folder, facts


def predict(folder, given, *flags):
    return main(["predict", str(folder), str(given), "--out", str(folder.parent / "out"), *flags])


DAMAGES = {
    "format": [DELETED, 2, "1", None, [1], 10**400],
    "classes": [
        DELETED,
        "happiness",
        3,
        [],
        ["one"],
        ["a", "a", "b"],
        ["a", "b", 3],
        ["a", "b\x1b[31m", "c"],
        {"a": 1},
    ],
    "alpha": [DELETED, "5", None, -1, 1e300, 10**400, True, [5]],
    "alpha_range": [DELETED, 5, [5], [20, 5], ["a", "b"], [5, 1e300], {}],
    "input": [DELETED, "apexes", 3, ["apex"]],
    "patch_size": [DELETED, "8", 0, 16, 10**9, 8.5],
    "channels": [DELETED, 6, "3", 10**9],
    "network": [DELETED, [], "GamMer", {}],
    "network.num_classes": [DELETED, 4, 10**9, "3", -1],
    "network.regions": [DELETED, "brows", ["brow"], [], [3], {}],
    "network.width": [10**9, 0, 33, 64, "32", None],
    "network.depth": [10**9, 0, 3, 2.0],
    "network.dropout": ["none", 7],
    "network.graph": ["other", 3],
    "network.unknown": [1],
    "magnifier": [DELETED, [], "st-memm-small"],
    "magnifier.preset": [DELETED, "large", 3, ["small"], "base"],
    "magnifier.fingerprint": [DELETED, 3],
    "run": [DELETED, [], None],
    "run.checkpoint": [DELETED, "../../last.ckpt", "/etc/passwd", "", "..", ".", "a/last.ckpt", "a\\b", "a\nb", 3],
    "run.checkpoint_sha256": [DELETED, "0", None],
    "commit": [3],
    "fp16": [[], {"a": 1}, {"a": {"clips": 1, "changed": 0, "probability": "0", "frame": 0}}],
    "files": [DELETED, [], "files", {"../made/gam_mer.safetensors": {}}, {"a": None}, {"a": {"sha256": 3}}],
}
"""Values of bundle.json by key, each with a digest that fits."""


def changed(facts, key, value):
    facts = json.loads(json.dumps(facts))
    *parts, last = key.split(".")
    inside = facts
    for part in parts:
        inside = inside[part]
    if value is DELETED:
        inside.pop(last)
    else:
        inside[last] = value
    return facts


@pytest.mark.parametrize("key", DAMAGES)
def test_a_damaged_bundle_is_one_error(made, key, capsys):
    folder, facts = made
    frames = write_folder(folder.parent / "frames", face_frames(3, apex=2))
    for value in DAMAGES[key]:
        write_facts(folder, changed(facts, key, value))
        assert predict(folder, frames) == 2, value
        said = capsys.readouterr().err
        assert said.startswith("error: ") and "next: " in said and len(said) < 1000, value
        assert BUNDLE in said or "st_memm.safetensors" in said or "gam_mer.safetensors" in said, said
    assert not (folder.parent / "out").exists()


@pytest.mark.parametrize("name", ["../made/gam_mer.safetensors", "/etc/passwd", "..", "a/b", "a\\b", ""])
def test_a_file_of_a_bundle_lies_in_its_folder(made, name, capsys):
    folder, facts = made
    facts["files"][name] = dict(facts["files"][WEIGHTS["gam_mer"]])
    with pytest.raises(GammerError, match="one path component"):
        load_bundle(folder).file(name)
    write_facts(folder, facts)
    assert predict(folder, "nothing.mp4") == 2
    said = capsys.readouterr().err
    assert f"{BUNDLE} is damaged: files" in said and "an object of file names" in said


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", '"text"', "[" * 100_000, '{"a":' * 100_000, '{"alpha": NaN, "digest": "x"}', "\xff"],
    ids=["empty", "cut", "list", "number", "null", "text", "deep lists", "deep objects", "NaN", "Latin-1"],
)
def test_what_is_no_bundle_json_is_one_error(made, text, capsys):
    folder, _ = made
    (folder / BUNDLE).write_text(text, "latin-1")
    assert predict(folder, "nothing.mp4") == 2
    said = capsys.readouterr().err
    assert f"{BUNDLE} was changed or damaged" in said and len(said) < 1000


def with_weights(made, graph, state, metadata=None):
    """Put other weights into a bundle, with their hash."""
    folder, facts = made
    path = folder / WEIGHTS[graph]
    save_file(state, path, metadata)
    facts["files"][path.name]["sha256"] = sha256_of(path)
    write_facts(folder, facts)
    return folder


@pytest.mark.parametrize("graph", ["gam_mer", "st_memm"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_before_anything_is_written(made, graph, value, capsys):
    state = load_file(made[0] / WEIGHTS[graph])
    name = next(name for name, tensor in sorted(state.items()) if tensor.is_floating_point())
    state[name].view(-1)[0] = value
    folder = with_weights(made, graph, state, {"preset": "small"})
    frames = write_folder(folder.parent / "frames", face_frames(3, apex=2))
    assert predict(folder, frames) == 2
    said = capsys.readouterr().err
    assert WEIGHTS[graph] in said and name in said and "NaN or infinite" in said
    assert not (folder.parent / "out").exists()


def test_a_magnifier_whose_weights_are_not_finite_writes_no_video(tmp_path, capsys):
    state = load_file(SHIPPED_WEIGHTS)
    next(iter(state.values())).view(-1)[0] = float("nan")
    save_file(state, tmp_path / "broken.safetensors", {"preset": "small"})
    frames = write_folder(tmp_path / "frames", face_frames(2, apex=1))
    flags = ["--magnifier", str(tmp_path / "broken.safetensors")]
    assert main(["magnify", "video", str(frames), str(tmp_path / "out.mp4"), *flags]) == 2
    assert "NaN or infinite" in capsys.readouterr().err and not (tmp_path / "out.mp4").exists()


def test_answers_that_are_not_finite_are_refused(made, capsys):
    """Finite weights, which overflow in the classifier."""
    state = load_file(made[0] / WEIGHTS["gam_mer"])
    folder = with_weights(made, "gam_mer", {name: torch.full_like(value, 3e38) for name, value in state.items()})
    frames = write_folder(folder.parent / "frames", face_frames(3, apex=2))
    assert predict(folder, frames, "--alpha", "1", "--onset", "0", "--apex", "2") == 2
    assert "probabilities that are not finite" in capsys.readouterr().err
    assert not [path for path in (folder.parent / "out").rglob("*") if path.is_file()]


def write_onnx(path, tensor, **metadata):
    """Write an ONNX file that adds a tensor to its input."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])],
        "sum",
        [value("x", onnx.TensorProto.FLOAT, [1, 2])],
        [value("y", onnx.TensorProto.FLOAT, [1, 2])],
        [tensor],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path


def external(name="w"):
    tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=[2])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def test_onnx_files_with_weights_in_other_files_are_refused_before_a_session_is_made(tmp_path):
    (tmp_path / "weights.bin").write_bytes(bytes(8))
    path = write_onnx(tmp_path / "a.onnx", external())
    for read in (read_model, describe, Session):
        with pytest.raises(GammerError, match=r"a\.onnx keeps the tensor 'w' in 'weights.bin'"):
            read(path)
    constant = onnx.helper.make_node("Constant", [], ["c"], value=external("hidden"))
    model = onnx.load(path, load_external_data=False)
    del model.graph.initializer[:]
    branch = onnx.helper.make_graph([constant], "branch", [], [])
    model.graph.node.append(onnx.helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(GammerError, match="keeps the tensor 'hidden'"):
        Session(path)


def test_onnx_files_whose_weights_are_not_finite_are_refused(tmp_path):
    tensor = onnx.numpy_helper.from_array(torch.tensor([1.0, float("nan")]).numpy(), "w")
    with pytest.raises(GammerError, match=r"a\.onnx: 1 of the 2 values of w are NaN or infinite"):
        describe(write_onnx(tmp_path / "a.onnx", tensor))


@pytest.mark.parametrize(
    "metadata",
    [{"exported": "3"}, {"exported": "[]"}, {"exported": '{"graph": []}'}, {"exported": "[" * 100_000}, {"a": "{"},
     {"exported": '{"graph": "gam_mer", "precision": "fp32"}', "magnifier": "3", "run": "[]"}],
)  # fmt: skip
def test_onnx_files_that_describe_themselves_strangely_are_of_another_model(made, tmp_path, metadata):
    tensor = onnx.numpy_helper.from_array(torch.ones(2).numpy(), "w")
    path = write_onnx(tmp_path / "gam_mer.onnx", tensor, **metadata)
    with pytest.raises(GammerError, match="is of another model"):
        check_model(path, read_facts(made[0]), "gam_mer", "fp32")


PLAN = {
    "format": 1, "package": "tensorrt", "version": "11.0", "precision": "fp16", "capability": "SM86", "gpu": None,
    "batch": [1, 1, 8], "inputs": {"frame": [-1, 3, 256, 256]}, "outputs": {"mix": [-1, 16, 64, 64]},
}  # fmt: skip


@pytest.mark.parametrize(
    "damage",
    [{"package": "os"}, {"version": 3}, {"precision": []}, {"capability": None}, {"gpu": 3}, {"batch": [1, 1]},
     {"batch": [8, 1, 1]}, {"batch": ["1", "1", "1"]}, {"inputs": []}, {"inputs": {"frame": "3"}}, {"outputs": {}},
     *({key: DELETED} for key in PLAN if key != "format")],
)  # fmt: skip
def test_a_damaged_description_of_a_plan_is_one_error(tmp_path, damage):
    (plan := tmp_path / "net.fp16.tensorrt.plan").write_bytes(b"plan")
    facts = PLAN | {"sha256": sha256_of(plan)}
    engines.description_path(plan).write_text(json.dumps(facts))
    assert engines.read_description(plan) == facts
    whole = {key: value for key, value in (facts | damage).items() if value is not DELETED}
    engines.description_path(plan).write_text(json.dumps(whole))
    with pytest.raises(GammerError, match=rf"is damaged: .*{next(iter(damage))}"):
        engines.read_description(plan)


@pytest.mark.parametrize("text", ["[]", "3", "[" * 100_000, '{"batch": NaN}', "\xff"])
def test_what_is_no_description_of_a_plan_is_one_error(tmp_path, text):
    (plan := tmp_path / "net.fp16.tensorrt.plan").write_bytes(b"plan")
    engines.description_path(plan).write_text(text, "latin-1")
    with pytest.raises(GammerError, match="json"):
        engines.read_description(plan)


@pytest.mark.parametrize(
    "damage",
    [{"mean": {"uf1": "0.5"}}, {"mean": []}, {"std": None}, {"seeds": 3}, {"seeds": {}}, {"datasets": ["nothing"]},
     {"clips": -1}, {"protocol": ["LOSO"]}, {"clips_sha256": None}],
)  # fmt: skip
def test_damaged_results_of_a_run_are_one_error(damage):
    results = {"protocol": "LOSO", "datasets": ["casme2"], "clips": 9, "subjects": 2, "clips_sha256": "a"}
    results |= {"mean": {"uf1": 0.5}, "std": {"uf1": None}, "seeds": {"0": {"uf1": 0.5}}}
    check_values(results, RESULT_RULES, "results.json", "again")
    with pytest.raises(GammerError, match=f"results.json is damaged: {next(iter(damage))}"):
        check_values(results | damage, RESULT_RULES, "results.json", "again")


def test_names_of_files_in_an_artifact_lie_below_its_folder():
    for name in ("../last.ckpt", "/etc/last.ckpt", "a/../../last.ckpt", "a\\b.ckpt", "last\n.ckpt"):
        artifact = SimpleNamespace(name="model", manifest=SimpleNamespace(entries={"config.yaml": 1, name: 1}))
        with pytest.raises(GammerError, match="one path component"):
            artifacts._check_entries(artifact)


def test_names_in_the_card_are_text():
    entry = BundleFile(graph="a|b", precision="fp32", bytes=1, sha256=64 * "0")
    assert "| <b>" not in (line := _files({"<b>.onnx": entry})[-1]) and "&lt;b&gt;.onnx" in line and "a\\|b" in line


@pytest.mark.parametrize("alphas", [[1e300], [-1], [float("nan")], [float("inf")], [1000.5], [], ["x"], [None]])
def test_alphas_out_of_range_say_the_range(alphas):
    assert check_alphas([0, 1, 250, 1000]) == (0, 1, 250, 1000)
    with pytest.raises(GammerError, match="at least 0 and at most 1000"):
        check_alphas(alphas)


def test_a_bundle_of_the_rules_opens(made):
    assert load_bundle(made[0]).class_names == ("happiness", "surprise", "disgust")
