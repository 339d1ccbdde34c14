"""The graph networks that the paper compares with: what they compute, count, learn, and refuse."""

import layouts
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from fake_clips import FakeClips

from gammer_lightning.data.datamodule import MagnifiedClips
from gammer_lightning.data.inputs import flow_patches as features
from gammer_lightning.errors import GammerError
from gammer_lightning.models.baselines.au_gacn import AuGacn, Pooling, co_occurrence
from gammer_lightning.models.networks import build_without_memory, network_class
from gammer_lightning.models.recognizer import UNITS, count_parameters
from gammer_lightning.tasks.members import run_members, seeded, stack, unstack
from gammer_lightning.tasks.recognize import RecognizeTask

SHAPES = {"graph_tcn": (68, 3, 7, 7), "au_gacn": (3, 28, 28), "gacnn": (68, 6, 7, 7), "fgrmer": (68, 3, 7, 7)}
INPUT = {"graph_tcn": "apex", "au_gacn": "flow", "gacnn": "flow_patches", "fgrmer": "apex"}
names = pytest.mark.parametrize("name", SHAPES)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def fit(name, data, epochs, **settings):
    torch.manual_seed(0)  # of dropout
    task = RecognizeTask(network=name, seeds=[0], **settings)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, datamodule=data)
    return task


def shown(name, count=4):
    """Return inputs, and the action units where they are shown in training."""
    units = (torch.rand(count, len(UNITS)) < 0.3).float()
    return torch.randn(count, *SHAPES[name]), *([units] if network_class(name).has_own_loss else [])


@names
def test_logits_and_a_gradient_for_every_parameter_that_learns(name):
    network = network_class(name)(5, SHAPES[name])
    network.see_action_units(torch.ones(1, len(UNITS)))  # all are linked, or none would attend to another
    output = network(*shown(name))
    logits, further = output if network.has_own_loss else (output, torch.zeros(4))
    (logits.square().sum() + further.sum()).backward()
    assert logits.shape == (4, 5) and further.shape == (4,)
    for parameter, weight in network.named_parameters():
        assert not weight.requires_grad or weight.grad.abs().sum() > 0, parameter


@names
def test_evaluation_gives_logits_alone_and_a_clip_does_not_depend_on_its_batch(name):
    network, inputs = network_class(name)(3, SHAPES[name]).eval(), shown(name)[0]
    alone = torch.cat([network(inputs[i : i + 1]) for i in range(4)])
    assert torch.allclose(network(inputs), alone, atol=1e-5)


@names
def test_stacked_networks_give_what_each_gives_alone(name):
    settings = {"num_classes": 3, "input_shape": list(SHAPES[name])}
    networks = [seeded(seed, settings, name).eval() for seed in range(3)]
    for network in networks:
        network.see_action_units((torch.rand(30, len(UNITS)) < 0.4).float())
    members, inputs = stack(networks), shown(name)
    stacked = run_members(members, dict(members.named_parameters()), *inputs)
    for index, network in enumerate(networks):
        own = network(*inputs)
        for a, b in zip(stacked, own, strict=True) if network.has_own_loss else [(stacked, own)]:
            assert torch.allclose(a[index], b, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "classes", "number"),
    [
        ("fgrmer", 3, 1_046_588),  # of the authors' code, in which the units' graph counts 81 more
        ("graph_tcn", 5, 61_905),
        ("au_gacn", 5, 194_735),
        ("gacnn", 5, 36_485),
    ],
)
def test_number_of_parameters(name, classes, number):
    assert count_parameters(network_class(name)(classes, SHAPES[name])) == number


@names
def test_learns_a_separable_set(name):
    data = FakeClips(input=INPUT[name], shape=SHAPES[name], subjects=2, batch_size=12, noise=0.2)
    network = fit(name, data, 20, lr=3e-3).deployed().eval()
    assert network(data.patches).argmax(1).tolist() == data.labels


@names
@pytest.mark.parametrize("shape", [(68, 3, 16, 16), (3, 32, 32)])
def test_another_input_is_refused_before_anything_is_computed(name, shape):
    with pytest.raises(GammerError, match=r"is shown (68x3x16x16|3x32x32).*\n.*it takes"):
        build_without_memory(name, 3, shape)


@pytest.mark.parametrize("name", ["au_gacn", "fgrmer"])
def test_smic_has_no_action_units_and_is_refused_before_anything_starts(name, tmp_path):
    layouts.smic(tmp_path, [(s, e, 1) for s in (1, 2) for e in ("negative", "positive", "surprise")])
    settings = {"patch_size": 7} if INPUT[name] == "apex" else {"alphas": [1], "train_alphas": [1], "eval_alpha": 1}
    data = MagnifiedClips(
        {"smic": str(tmp_path)}, "three", input=INPUT[name], cache=str(tmp_path / "cache"), **settings
    )
    with pytest.raises(GammerError, match=rf"smic has no action units[^$]*{name} learns them"):
        fit(name, data, 1)
    assert not (tmp_path / "cache").exists()


class OtherUnits(FakeClips):
    """The same clips, but for the action units of one subject."""

    tampered = "microfaces/02"

    @property
    def action_units(self):
        units = super().action_units
        units[[subject == self.tampered for subject in self.subjects]] = 1
        return units


@pytest.mark.parametrize("name", ["au_gacn", "fgrmer"])
def test_action_units_of_the_held_out_subject_do_not_change_its_member(name):
    kinds = {"input": INPUT[name], "shape": SHAPES[name], "repeats": 1}
    one, two = (fit(name, data, 1) for data in (FakeClips(**kinds), OtherUnits(**kinds)))
    changed = []
    for member in range(4):
        weights = [dict(unstack(task.members, member).named_parameters()) for task in (one, two)]
        changed.append(any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0]))
    assert one.names[1].endswith(OtherUnits.tampered) and changed == [True, False, True, True]


def test_co_occurrence_is_the_conditional_share():
    shares = co_occurrence(torch.tensor([[1.0, 1, 0], [1, 0, 0], [1, 1, 0]]))
    assert torch.allclose(shares, torch.tensor([[1, 2 / 3, 0], [1, 1, 0], [0, 0, 1]]))


def test_units_that_never_occur_together_do_not_attend_to_each_other():
    network = AuGacn(3, SHAPES["au_gacn"]).eval()
    network.see_action_units(torch.eye(len(UNITS)))
    graph = network._among(torch.ones(1, len(UNITS), dtype=torch.bool))
    attention = network.layers[0].attention(torch.randn(1, len(UNITS), network.width), graph)
    assert torch.allclose(attention, torch.eye(len(UNITS)).expand_as(attention))


def test_pooling_keeps_the_best_and_drops_none_twice():
    pool, graph, alive = Pooling(8, 3), torch.ones(6, 6), torch.ones(2, 6, dtype=torch.bool)
    alive[0, :2] = False
    x, stays = pool(torch.randn(2, 6, 8), graph, alive)
    assert stays.sum(1).tolist() == [3, 3] and not (stays & ~alive).any()
    assert (x[~stays] == 0).all() and (x[stays] != 0).any(1).all()


def test_regions_of_both_sides_are_mirror_images():
    cells = AuGacn(3, SHAPES["au_gacn"]).cells.reshape(len(UNITS), 2, 7, 7)
    rows, columns = cells // 28, cells % 28
    assert torch.equal(rows[:, 0], rows[:, 1])
    assert (columns[:, 0].flip(-1) + columns[:, 1] - 27).abs().max() <= 1  # rounding
    assert rows[UNITS.index(12), 0].float().mean() > rows[UNITS.index(1), 0].float().mean() + 10  # mouth, brow


class MovingClip:
    """What `flow_patches` needs of a clip."""

    landmarks = np.tile(np.array([[60.0, 128.0]], np.float32), (68, 1))
    landmarks[54] = (190, 150)
    pair = np.zeros((2, 256, 256, 3), np.uint8)
    flow_estimator = "tv-l1"


def test_flow_patches_hold_flow_place_and_a_side_that_grows_with_the_flow(monkeypatch):
    flow = np.zeros((2, 256, 256), np.float32)
    flow[0, :, 128:] = 1
    monkeypatch.setattr(features, "dense_flow", lambda onset, apex, estimator: flow)
    patches = features.flow_patches(MovingClip(), 7)
    assert patches.shape == (68, 6, 7, 7) and patches.dtype == np.float32
    still, moved = patches[0], patches[54]
    assert (still[:3] == 0).all() and (still[5] == 8 / 32).all()
    assert np.allclose(moved[:3].mean((1, 2)), (1, 1, 0), atol=1e-5) and np.allclose(moved[5], 24 / 32)
    assert np.allclose(moved[3:5, 0, 0], (0.62, 0.98))


def test_patches_at_the_border_are_replicated():
    strength = np.full((256, 256), 9.0, np.float32)
    corners = np.array([[-3.0, 0], [255, 258]])
    assert features.patch_sides(strength, corners).tolist() == [32, 32]
    assert (features._cut(np.dstack([strength] * 3), corners[1], 32, 7) == 9).all()
