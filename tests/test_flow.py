"""Optical flow, its strain, and the cache of inputs; a system that is shown flow, by the real command."""

import json
import shutil
import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from casme2_sample import portrait, save, write_sample

from gammer_lightning.cli import main
from gammer_lightning.data.datamodule import MagnifiedClips
from gammer_lightning.data.inputs import catalogue as inputs
from gammer_lightning.data.inputs import flow
from gammer_lightning.data.inputs.catalogue import compute_inputs, read_inputs
from gammer_lightning.data.inputs.face_clip import FaceClip
from gammer_lightning.errors import GammerError

OVERLAY = Path(__file__).parents[1] / "experiments/baselines/ststnet.yaml"


def moved(image, u, v):
    """Return an image whose content has moved by u px across and v px down."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    return cv2.remap(
        image, columns - np.float32(u), rows - np.float32(v), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )


@pytest.fixture(scope="module")
def face():
    return portrait(96, 96)


def linear_flow(matrix, size=20):
    """Return the flow ``(2, size, size)`` whose gradient is ``[[u_x, u_y], [v_x, v_y]]`` everywhere."""
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    return np.einsum("ij,jhw->ihw", np.array(matrix, np.float32), np.stack([columns, rows]))


@pytest.mark.parametrize(("u", "v"), [(0.8, 0), (0, -0.6), (-1.2, 0.5)])
def test_flow_of_a_known_translation(face, u, v):
    inner = flow.dense_flow(face, moved(face, u, v))[:, 16:-16, 16:-16]
    assert inner.dtype == np.float32
    np.testing.assert_allclose(np.median(inner, (1, 2)), (u, v), atol=0.1)
    assert np.median(flow.optical_strain(inner)) < 0.01, "a rigid motion does not strain"


@pytest.mark.parametrize(
    ("gradient", "strain"),
    [
        ([[0, 0], [0, 0]], 0),
        ([[0.1, 0], [0, 0]], 0.1),
        ([[0.1, 0], [0, -0.2]], np.sqrt(0.01 + 0.04)),
        ([[0, 0.1], [0.3, 0]], 0.4 / np.sqrt(2)),
        ([[0, 0.1], [-0.1, 0]], 0),  # a rotation
    ],
)
def test_strain_is_as_the_formula_says(gradient, strain):
    np.testing.assert_allclose(flow.optical_strain(linear_flow(gradient)), strain, atol=1e-6)


@pytest.mark.parametrize(("u", "v"), [(0.8, 0), (-1.2, 0.5)])
def test_dis_finds_a_known_translation(face, u, v):
    inner = flow.dense_flow(face, moved(face, u, v), "dis")[:, 16:-16, 16:-16]
    assert inner.dtype == np.float32
    np.testing.assert_allclose(np.median(inner, (1, 2)), (u, v), atol=0.1)


def test_a_flat_image_has_neither_flow_nor_strain():
    flat = np.full((40, 40, 3), 128, np.uint8)
    found = flow.dense_flow(flat, flat)
    assert (found == 0).all() and (flow.optical_strain(found) == 0).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clip of each of three subjects."""
    root = tmp_path_factory.mktemp("casme2")
    write_sample(root, subjects=3, clips=1)
    return root


def quick_flow():
    """Let TV-L1 stop early: a tenth of a second for a clip."""
    create = partial(cv2.optflow.DualTVL1OpticalFlow.create, warps=1, outerIterations=2)
    return mock.patch.object(cv2.optflow, "DualTVL1OpticalFlow", SimpleNamespace(create=create))


def make(folder, **settings):
    defaults = dict(magnifier="eulerian", alphas=[5], train_alphas=[1], eval_alpha=1, input="flow", size=16)
    return MagnifiedClips({"casme2": str(folder)}, **(defaults | {"cache": str(folder / "cache")} | settings))


def ready(folder, **settings):
    data = make(folder, **settings)
    with quick_flow():
        data.prepare_data()
    data.setup()
    return data


def kept(folder, pattern="flow-*.npz"):
    """Return when each input of the cache was written, by path."""
    return {path: path.stat().st_mtime_ns for path in (folder / "cache").rglob(pattern)}


def test_a_batch_shows_flow_and_scaled_strain_of_the_whole_crop(folder):
    data = ready(folder)
    batch = next(iter(data.test_dataloader()))
    assert data.input_shape == tuple(batch["input"].shape[1:]) == (3, 16, 16)
    with quick_flow():
        maps = flow.dense_flow(*data.images(1, [1]))
    expected = [maps[0], maps[1], flow.STRAIN_SCALE * flow.optical_strain(maps)]
    for shown, whole in zip(batch["input"][1].numpy(), expected, strict=True):
        np.testing.assert_allclose(shown, whole.reshape(16, 16, 16, 16).mean((1, 3)), atol=1e-4)
    trained = next(iter(data.train_dataloader()))
    order = trained["clip"].argsort()
    assert torch.equal(trained["input"][order], batch["input"]), "training augments pictures only"


def test_two_phases_are_onset_to_apex_and_apex_to_the_last_frame(folder):
    one_phase = ready(folder)
    before = kept(folder)
    data = ready(folder, input="two_phase_flow")
    assert data.input_shape == data.inputs.shape[2:] == (6, 16, 16)
    np.testing.assert_array_equal(data.inputs[:, :, :3], one_phase.inputs)
    clip = data.clips[1]
    face = FaceClip(data.entries[1], 1)
    with quick_flow():
        second = flow.dense_flow(*face.frames([clip.apex, clip.offset]))
    expected = [second[0], second[1], flow.STRAIN_SCALE * flow.optical_strain(second)]
    for shown, whole in zip(data.inputs[1, 0, 3:], expected, strict=True):
        np.testing.assert_allclose(shown, whole.reshape(16, 16, 16, 16).mean((1, 3)), atol=1e-4)
    assert kept(folder) == before and len(kept(folder, "two_phase_flow-1-16-*.npz")) == 3


@pytest.mark.parametrize(("name", "size"), [("flow", 16), ("two_phase_flow", 16), ("flow_patches", 7), ("bi_woof", 64)])
def test_another_estimator_has_its_own_values_and_files(folder, name, size):
    settings = {"input": name, "size": size, "cache": str(folder / "estimators")}
    tv_l1 = ready(folder, **settings).inputs
    with mock.patch.object(cv2, "optflow", None):  # it needs no contributed modules
        dis = make(folder, flow_estimator="dis", **settings)
        dis.prepare_data()
    dis.setup()
    assert dis.inputs.shape == tv_l1.shape and not np.allclose(dis.inputs, tv_l1, atol=1e-3)
    assert len(list((folder / "estimators").rglob(f"{name}-dis-1-{size}-*.npz"))) == 3
    np.testing.assert_array_equal(ready(folder, **settings).inputs, tv_l1)


def test_an_unknown_estimator_is_refused(folder):
    with pytest.raises(GammerError, match=r"data.flow_estimator is 'farneback'[^$]*one of tv-l1, dis"):
        make(folder, flow_estimator="farneback")


def test_two_phases_are_not_magnified(folder):
    with pytest.raises(GammerError, match=r"two_phase_flow at alphas 1, 5[^$]*not magnified"):
        make(folder, input="two_phase_flow", eval_alpha=5)


def test_the_cache_is_used_again_and_a_damaged_file_done_again(folder):
    first = ready(folder).inputs
    written = kept(folder, "flow-*-16-alpha_1.npz")
    assert len(written) == 3
    damaged, cut = sorted(written)[:2]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:200] + bytes([whole[200] ^ 255]) + whole[201:])
    cut.write_bytes(cut.read_bytes()[:100])
    np.testing.assert_array_equal(ready(folder).inputs, first)
    again = kept(folder, "flow-*-16-alpha_1.npz")
    assert {path for path in written if again[path] != written[path]} == {damaged, cut}


def write(path, **arrays):
    with path.open("wb") as file:
        np.savez(file, **arrays)


def change(path, **changes):
    """Write an input again with other arrays; its key stays, so that its values alone are wrong."""
    with np.load(path) as stored:
        arrays = dict(stored)
    write(path, **{name: make(arrays["input"]) for name, make in changes.items()} | {"key": arrays["key"]})


def state_a_huge_shape(path):
    """Let the header of the array state 10**15 numbers, and the archive's checksum fit it."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    old = b"(3, 16, 16), }"
    assert old in members["input.npy"]
    members["input.npy"] = members["input.npy"].replace(old + b" " * 12, b"(3, 999999999999999), }   ")
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def encrypt(path):
    """Mark every member as encrypted."""
    data = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = -1
        while (at := data.find(signature, at + 1)) >= 0:
            data[at + flags] |= 1
    path.write_bytes(data)


def cut_stream(path):
    """Compress a member and cut its stream, while the directory of the archive is whole."""
    with np.load(path) as stored:
        arrays = dict(stored)
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    data = bytearray(path.read_bytes())
    data[150:200] = bytes(50)
    path.write_bytes(data)


DAMAGES = {
    "not a number": lambda path: change(path, input=lambda x: x * np.float32("nan")),
    "infinite": lambda path: change(path, input=lambda x: x + np.float32("inf")),
    "another shape": lambda path: change(path, input=lambda x: x[:2]),
    "a shape that would broadcast": lambda path: change(path, input=lambda x: x[:, :1]),
    "another dtype": lambda path: change(path, input=lambda x: x.astype(np.float64)),
    "text": lambda path: change(path, input=lambda x: x.astype(str)),
    "objects": lambda path: change(path, input=lambda x: x.astype(object)),
    "no input": lambda path: write(path, key="key"),
    "no key": lambda path: write(path, input=np.zeros((3, 16, 16), np.float32)),
    "a huge shape": state_a_huge_shape,
    "encrypted": encrypt,
    "a cut stream": cut_stream,
    "an empty archive": lambda path: zipfile.ZipFile(path, "w").close(),
    "a bare array": lambda path: np.save(path.open("wb"), np.zeros((3, 16, 16), np.float32)),
    "a member that is no array": lambda path: zipfile.ZipFile(path, "a").writestr("input.npy/x", b"123"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_wrong_file_of_the_cache_is_made_again(folder, damage):
    first = ready(folder).inputs
    path = sorted(kept(folder, "flow-*-16-alpha_1.npz"))[1]
    DAMAGES[damage](path)
    np.testing.assert_array_equal(ready(folder).inputs, first)
    with np.load(path) as stored:
        np.testing.assert_array_equal(stored["input"], first[1, 0])


def test_the_input_of_another_clip_or_alpha_is_made_again(folder):
    first = ready(folder, train_alphas=[1, 5]).inputs
    mine, neighbour = sorted(kept(folder, "flow-*-16-alpha_1.npz"))[:2]
    shutil.copy(neighbour, mine)
    shutil.copy(neighbour.with_name(neighbour.name.replace("alpha_1", "alpha_5")), neighbour)
    np.testing.assert_array_equal(ready(folder, train_alphas=[1, 5]).inputs, first)


def test_sizes_and_alphas_have_files_of_their_own(folder):
    ready(folder)
    before = kept(folder)
    other_size = ready(folder, size=20)
    magnified = ready(folder, train_alphas=[5], eval_alpha=5)
    after = kept(folder)
    assert before.items() <= after.items(), "what was there stays"
    assert other_size.inputs.shape == (3, 1, 3, 20, 20)
    assert np.abs(magnified.inputs).mean() > 1.5 * np.abs(ready(folder).inputs).mean()
    assert ready(folder, train_alphas=[1, 5]).inputs.shape == (3, 2, 3, 16, 16)
    assert kept(folder) == after


def test_several_workers_find_the_same_as_one(folder, monkeypatch):
    clips = [FaceClip(entry, 1) for entry in ready(folder).entries[:2]]
    compute_inputs(clips, "pair", 19)
    one = read_inputs(clips, "pair", 19)
    for path in kept(folder, "pair-*"):
        path.unlink()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    compute_inputs(clips, "pair", 19)
    np.testing.assert_array_equal(read_inputs(clips, "pair", 19), one)


def test_flow_does_not_depend_on_the_number_of_threads(face):
    threads, other = cv2.getNumThreads(), moved(face, 0.5, 0.5)
    try:
        cv2.setNumThreads(1)
        one = flow.dense_flow(face, other)
        cv2.setNumThreads(2)
        np.testing.assert_array_equal(flow.dense_flow(face, other), one)
    finally:
        cv2.setNumThreads(threads)


def test_a_missing_input_is_named(folder):
    data = ready(folder)
    with pytest.raises(GammerError, match=r"flow-1-17-alpha_1.npz is missing or damaged"):
        read_inputs([FaceClip(data.entries[0], 1)], "flow", 17)


def test_an_error_in_one_clip_is_raised_after_the_others_are_kept(folder, monkeypatch):
    def broken(self, clip, size):
        if clip.key == "casme2/02/EP01_01":
            raise GammerError("clip 2 is odd", "it is not", "look at it")
        return np.zeros((3, size, size), np.float32)

    monkeypatch.setattr(inputs.Input, "compute", broken)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    with pytest.raises(GammerError, match=r"clip 2 is odd\n[^$]*it is not"):
        make(folder, size=18).prepare_data()
    assert len(kept(folder, "flow-*-18-*.npz")) == 2


def test_an_input_of_the_recording_is_not_magnified(folder):
    with pytest.raises(GammerError, match=r"sequence at alphas 1, 5[^$]*not magnified"):
        make(folder, input="sequence", eval_alpha=5)


def command(folder, **settings):
    """Return the flags of a fit of STSTNet on the sample, as a user gives them."""
    settings = {
        "data.roots": f'{{"casme2": "{folder}"}}',
        "data.magnifier": "eulerian",
        "data.cache": folder / "cache",
        "model.seeds": [0, 1],
        "trainer.max_epochs": 2,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": False,
        "wandb": "disabled",
    } | settings
    return ["recognize", "fit", "-c", str(OVERLAY), *(f"--{name}={value}" for name, value in settings.items())]


def test_a_wrong_size_is_refused_before_anything_starts(folder, tmp_path, capsys):
    flags = command(folder, **{"data.size": 30, "data.cache": tmp_path / "cache", "out": tmp_path / "run"})
    assert main(flags) == 2
    assert "STSTNet is shown 3x30x30" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists() and not list(tmp_path.rglob("checkpoints/*"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of STSTNet on ten clips of two subjects, by the real command."""
    root = tmp_path_factory.mktemp("baseline")
    write_sample(root / "casme2", subjects=2, clips=5)
    with quick_flow():
        assert main(command(root / "casme2", out=root / "run")) == 0
    return root / "run"


def test_a_run_has_its_scores_and_costs(run):
    results = json.loads((run / "results.json").read_text())
    assert results["clips"] == 10 and set(results["mean"]) == {"uf1", "uar", "accuracy"}
    metrics = (run / "metrics.csv").read_text().splitlines()
    last = {}
    for line in metrics[1:]:
        last |= {name: value for name, value in zip(metrics[0].split(","), line.split(","), strict=True) if value}
    assert float(last["parameters"]) == 432 + 32 + 401 * 5
    assert 0 < float(last["latency_ms"]) < 1000 and 0 < float(last["input_ms"]) < 60_000


def test_testing_a_run_again_gives_the_same(run):
    before = (run / "results.json").read_text()
    with quick_flow():
        assert main(["recognize", "test", str(run)]) == 0
    assert (run / "results.json").read_text() == before


@pytest.mark.parametrize("verb", [("export",), ("predict", "frames")])
def test_only_runs_of_gam_mer_are_exported_and_predict(run, verb, tmp_path, capsys):
    save(portrait(), tmp_path / "frames/1.jpg")
    more = [str(tmp_path / name) for name in verb[1:]]
    assert main([verb[0], str(run), *more]) == 2
    said = capsys.readouterr().err
    assert "is a run of ststnet" in said and "only runs of GAM-MER" in said
    assert not (run / "export").exists()
