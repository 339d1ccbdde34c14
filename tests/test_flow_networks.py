"""The networks shown optical flow: sizes, gradients, stacks, learning, refused inputs."""

import pytest
import torch
from fake_clips import FakeClips
from test_recognize import trainer
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from gammer_lightning.errors import GammerError
from gammer_lightning.models.networks import build_without_memory, network_class
from gammer_lightning.models.recognizer import count_parameters
from gammer_lightning.tasks.recognize import RecognizeTask

SIZES = {"off_apexnet": 28, "sssn": 67, "dssn": 67, "sssnet": 64, "ststnet": 28}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def build(name, classes=5):
    return network_class(name)(classes, shape(name))


def shape(name):
    return (3, SIZES[name], SIZES[name])


@pytest.mark.parametrize("name", SIZES)
def test_logits_and_a_gradient_for_every_parameter(name):
    network = build(name)
    logits = network(torch.randn(2, *shape(name)))
    logits.square().sum().backward()
    assert logits.shape == (2, 5)
    assert all(weight.grad.abs().sum() > 0 for weight in network.parameters())
    assert not list(network.buffers()), "folds share nothing that training changes"


@pytest.mark.parametrize(
    ("name", "classes", "size", "count", "published"),
    [
        ("ststnet", 3, 28, 1_667, 0.00167e6),
        ("sssn", 5, 227, 630_405, None),
        ("dssn", 5, 227, 972_805, None),
        ("off_apexnet", 3, 28, 2_664_475, None),
        ("sssnet", 3, 64, 1_349_251, None),
    ],
)
def test_they_have_the_stated_number_of_parameters(name, classes, size, count, published):
    assert count_parameters(build_without_memory(name, classes, (3, size, size))) == count
    assert published is None or count == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize("name", SIZES)
def test_a_network_in_a_stack_equals_the_network_alone(name):
    networks = [build(name).eval() for _ in range(2)]
    flow = torch.randn(2, *shape(name))
    stacked = vmap(lambda one: functional_call(networks[0], one, flow))(stack_module_state(networks)[0])
    torch.testing.assert_close(stacked, torch.stack([network(flow) for network in networks]), atol=1e-5, rtol=1e-4)


def test_each_is_shown_what_it_is_made_for():
    """A network looks at a part of the flow just if its paper does."""
    flow = torch.randn(2, 3, 67, 67)
    other_strain, turned = flow.clone(), flow.clone()
    other_strain[:, 2] += 1
    turned[:, :2] = flow[:, :2].flip(1)  # as long, in another direction
    looks = {}
    for name, size in SIZES.items():
        network = build(name).eval()
        seen = [network(given[..., :size, :size]) for given in (flow, other_strain, turned)]
        looks[name] = tuple(not torch.allclose(seen[0], changed, atol=1e-6) for changed in seen[1:])
    assert looks == {
        "off_apexnet": (False, True),
        "sssn": (False, False),
        "dssn": (True, False),
        "sssnet": (True, True),
        "ststnet": (True, True),
    }


def test_sssnet_has_the_published_layers_in_the_published_order():
    """Its authors' network, layer by layer, with a normalisation of each clip, given the same weights."""
    network, flow = build("sssnet").eval(), torch.randn(3, 3, 64, 64)
    published = nn.Sequential(
        nn.Conv2d(3, 32, 5),
        nn.ReLU(),
        nn.MaxPool2d(3, 3),
        nn.GroupNorm(1, 32),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.GroupNorm(1, 64),
        nn.Flatten(),
        nn.Linear(5184, 256),
        nn.ReLU(),
        nn.Linear(256, 5),
    )
    for weight, own in zip(published.parameters(), network.parameters(), strict=True):
        weight.data = own.data
    torch.testing.assert_close(network(flow), published(flow), atol=1e-5, rtol=1e-4)


def test_sssnet_drops_whole_channels():
    network = build("sssnet").train()
    dropped = network.dropout2d(torch.ones(8, 32, 4, 4)).flatten(2)
    assert (dropped == dropped[..., :1]).all() and 0.3 < (dropped == 0).float().mean() < 0.7


TWO_PHASES = {"off_apexnet": 28, "sssnet": 64, "ststnet": 28, "resnet18": 32}


@pytest.mark.parametrize("name", TWO_PHASES)
def test_flow_of_two_phases_is_seen_where_one_phase_is(name):
    """The strain of the second phase counts just if that of the first does; its u and v always do."""
    size = TWO_PHASES[name]
    network = network_class(name)(5, (6, size, size)).eval()
    flow = torch.randn(2, 6, size, size)
    logits = network(flow)
    seen = []
    for channel in range(6):
        changed = flow.clone()
        changed[:, channel] += torch.randn(size, size)
        seen.append(not torch.allclose(network(changed), logits, atol=1e-6))
    looks_at_strain = name != "off_apexnet"
    assert logits.shape == (2, 5) and seen == [True, True, looks_at_strain] * 2


def test_off_apexnets_streams_are_shown_one_direction_of_both_phases():
    network, flow = network_class("off_apexnet")(5, (6, 28, 28)).eval(), torch.randn(2, 6, 28, 28)
    shown = []
    for stream in (network.across, network.down):
        stream.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    network(flow)
    assert torch.equal(shown[0], flow[:, [0, 3]]) and torch.equal(shown[1], flow[:, [1, 4]])


@pytest.mark.parametrize("name", SIZES)
def test_they_learn_clips_that_can_be_told_apart(name, tmp_path):
    data = FakeClips(subjects=2, input="flow", shape=shape(name), batch_size=12, noise=0.2)
    lr, epochs = {"ststnet": (1e-2, 30), "sssn": (1e-3, 15), "sssnet": (1e-3, 15)}.get(name, (1e-3, 6))
    task = RecognizeTask(name, seeds=[0], lr=lr, protocol="kfold", num_folds=2)
    trainer(tmp_path, epochs).fit(task, datamodule=data)
    network = task.deployed().eval()
    assert (network(data.patches).argmax(1) == torch.tensor(data.labels)).all()


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("ststnet", (3, 30, 30), "STSTNet is shown 3x30x30[^$]*it takes 3x28x28[^$]*set data.size 28"),
        ("ststnet", (6, 30, 30), "STSTNet is shown 6x30x30[^$]*it takes 6x28x28[^$]*set data.size 28"),
        ("off_apexnet", (4, 28, 28), "OffApexNet is shown 4x28x28[^$]*it takes 3x28x28"),
        ("off_apexnet", (3, 64, 64), "OffApexNet is shown 3x64x64[^$]*it takes 3x28x28[^$]*set data.size 28"),
        ("sssnet", (3, 28, 28), "SSSNet is shown 3x28x28[^$]*it takes 3x64x64[^$]*set data.size 64"),
        ("sssn", (2, 3, 67, 67), "SSSN is shown 2x3x67x67[^$]*it takes 3xanyxany"),
        ("dssn", (3, 28, 28), "DSSN is shown 28 px[^$]*67 px or more[^$]*set data.size 67"),
    ],
)
def test_another_input_is_refused(name, given, message):
    with pytest.raises(GammerError, match=message):
        build_without_memory(name, 5, given)
