"""Large networks of other systems: shapes, gradients, sizes, what they learn, pretrained weights, refused inputs."""

import pytest
import pytorch_lightning as pl
import torch
from fake_clips import FakeClips
from timm.models.resnet import resnet18
from torch.nn import functional
from torchvision.models.video import r2plus1d_18

from gammer_lightning.errors import GammerError
from gammer_lightning.models.baselines.capsulenet import CapsuleNet, ClassCapsules, squash
from gammer_lightning.models.baselines.micron_bert import WIDTH, DiagonalMicroAttention
from gammer_lightning.models.baselines.resnet18 import ResNet18
from gammer_lightning.models.baselines.selfme import reconstruction_loss, symmetry_loss, warp
from gammer_lightning.models.networks import build_without_memory, network_class
from gammer_lightning.models.recognizer import count_parameters
from gammer_lightning.runs.checkpoints import read_weights
from gammer_lightning.tasks.members import start_from, unstack
from gammer_lightning.tasks.recognize import RecognizeTask

SHAPES = {
    "c3dbed": ("sequence", (10, 3, 16, 16)),
    "capsulenet": ("image", (1, 3, 136, 136)),
    "cnn_lstm": ("sequence", (10, 3, 64, 64)),
    "micron_bert": ("pair", (2, 3, 16, 16)),
    "r2plus1d": ("sequence", (10, 3, 16, 16)),
    "resnet18": ("flow", (3, 32, 32)),
    "selfme": ("pair", (2, 3, 32, 32)),
}
"""The smallest input of each."""
FULL = {
    "c3dbed": ((10, 3, 112, 112), 3_363_811),
    "capsulenet": ((1, 3, 224, 224), 13_842_496),  # that of the authors' code
    "cnn_lstm": ((10, 3, 64, 64), 4_234_760),
    "micron_bert": ((2, 3, 224, 224), 14_288_387),  # the authors' code has 27.5 M with its decoder
    "r2plus1d": ((10, 3, 112, 112), 31_301_664),  # torchvision's, of three classes
    "resnet18": ((3, 112, 112), 11_178_051),  # timm's and torchvision's, of three classes
    "selfme": ((2, 3, 128, 128), 2_488_709),
}
"""The input of the experiment, and parameters for three classes."""
NAMES = sorted(SHAPES)
WITH_OWN_LOSS = [name for name in NAMES if network_class(name).has_own_loss]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def build(name, num_classes=3):
    return network_class(name)(num_classes, SHAPES[name][1])


def shown(name, clips=3):
    return torch.rand(clips, *SHAPES[name][1]) * 2 - 1


def fit(run, name, epochs=1, **settings):
    """Train members in turn on clips that can be told apart; every class and subject is there once."""
    input, shape = SHAPES[name]
    task = RecognizeTask(network=name, seeds=[0], weight_decay=0.0, lr=3e-4, **settings)
    trainer = pl.Trainer(
        max_epochs=epochs,
        default_root_dir=run,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, datamodule=FakeClips(subjects=2, repeats=1, noise=0.1, input=input, shape=shape))
    return task


def trained_by(network, clips):
    """Return the sum of the losses that train it."""
    if network.has_own_loss:
        logits, own = network(clips, torch.zeros(len(clips), 1))
        assert own.shape == (len(clips),)
        return functional.cross_entropy(logits, torch.arange(len(clips)) % 3) + own.mean()
    return functional.cross_entropy(network(clips), torch.arange(len(clips)) % 3)


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_a_gradient_for_every_parameter(name):
    network = build(name)
    assert network.eval()(shown(name)).shape == (3, 3)
    trained_by(network.train(), shown(name)).backward()
    learnt = [weight for weight in network.parameters() if weight.requires_grad]
    assert all(weight.grad.abs().sum() > 0 for weight in learnt)
    assert not list(network.buffers())


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_as_many_as_it_says(name):
    shape, parameters = FULL[name]
    assert count_parameters(build_without_memory(name, 3, shape)) == parameters


@pytest.mark.parametrize("name", NAMES)
def test_clips_do_not_depend_on_their_batch(name):
    network, clips = build(name).eval(), shown(name)
    assert torch.allclose(network(clips)[1:2], network(clips[1:2]), atol=1e-4)


@pytest.mark.parametrize("name", WITH_OWN_LOSS)
def test_a_clips_own_loss_does_not_depend_on_its_batch(name):
    network, clips = build(name), shown(name)
    assert torch.allclose(network(clips, clips)[1][1:2], network(clips[1:2], clips)[1], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_what_can_be_separated(name):
    network, classes = build(name), torch.arange(3)
    clips = shown(name) + 0.1 * shown(name)
    optimizer = torch.optim.Adam(network.parameters(), 3e-4)
    for _ in range(60):
        optimizer.zero_grad()
        trained_by(network, clips).backward()
        optimizer.step()
        with torch.no_grad():
            if (network(clips).argmax(-1) == classes).all():
                return
    pytest.fail("it does not tell three clips apart")


def test_members_that_train_in_turn_learn(tmp_path):
    task = fit(tmp_path, "c3dbed", epochs=15)
    assert task.trainer.callback_metrics["train_accuracy"] == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "change",
    [lambda shape: (shape[0] + 1, *shape[1:]), lambda shape: (*shape[:2], 100, 100), lambda shape: shape[1:]],
    ids=["frames", "size", "axes"],
)
def test_another_shape_is_refused(name, change):
    with pytest.raises(GammerError, match=r"(?s)is shown .*it takes .*set (data.input \w+, )?data.size \d+"):
        build_without_memory(name, 3, change(SHAPES[name][1]))


@pytest.mark.parametrize("name", NAMES)
def test_another_input_is_refused(name):
    with pytest.raises(GammerError, match=f"experiments/baselines/{name}.yaml"):
        RecognizeTask(network=name).check_data(FakeClips())


def test_a_large_network_is_not_shown_what_it_holds_out(tmp_path, monkeypatch):
    shown = []
    forward = network_class("c3dbed").forward
    monkeypatch.setattr(network_class("c3dbed"), "forward", lambda self, x: shown.append(len(x)) or forward(self, x))
    fit(tmp_path, "c3dbed")
    assert shown == [3, 3, 6]  # two subjects are held out in turn, then nobody


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Return a ResNet-18 with statistics of its own, and its file."""
    torch.manual_seed(1)
    resnet, path = resnet18(), tmp_path_factory.mktemp("weights") / "resnet18.pth"
    with torch.no_grad():
        for name, values in resnet.named_buffers():
            if name.endswith(("mean", "var")):
                values.add_(torch.rand_like(values) / 2)
    torch.save(resnet.state_dict(), path)
    return resnet.eval(), path


def test_the_front_takes_pretrained_weights_and_is_that_resnet(pretrained):
    resnet, path = pretrained
    start_from(network := CapsuleNet(3, SHAPES["capsulenet"][1]), read_weights(path), path)
    image = torch.rand(2, 3, 136, 136)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = resnet.act1(resnet.bn1(resnet.conv1((image - mean[:, None, None]) / std[:, None, None])))
    expected = resnet.layer3(resnet.layer2(resnet.layer1(x)))
    assert torch.allclose(network.front(2 * image - 1), expected, rtol=1e-3, atol=1e-3)


def test_resnet18_takes_pretrained_weights_and_is_that_resnet(pretrained):
    resnet, path = pretrained
    start_from(network := ResNet18(3, (3, 64, 64)), read_weights(path), path)
    flow = torch.randn(2, 3, 64, 64)
    features = resnet.global_pool(resnet.forward_features(flow))
    assert torch.allclose(network(flow), network.fc(features), rtol=1e-3, atol=1e-3)


def test_r2plus1d_takes_pretrained_weights_and_is_that_network():
    published = r2plus1d_18(num_classes=3).eval()
    for name, values in published.named_buffers():
        if name.endswith(("mean", "var")):
            values.add_(torch.rand_like(values) / 2)
    start_from(network := build("r2plus1d"), published.state_dict(), "r2plus1d_18.pth")
    frames = torch.rand(2, 3, 10, 16, 16)  # Kinetics' order of axes, in [0, 1]
    mean, std = torch.tensor([0.43216, 0.394666, 0.37645]), torch.tensor([0.22803, 0.22145, 0.216989])
    expected = published((frames - mean[:, None, None, None]) / std[:, None, None, None])
    assert torch.allclose(network(2 * frames.transpose(1, 2) - 1), expected, rtol=1e-3, atol=1e-3)


def test_every_member_starts_from_pretrained_weights_and_keeps_their_statistics(pretrained, tmp_path):
    task = fit(tmp_path, "capsulenet", weights=str(pretrained[1]))
    statistics = pretrained[0].state_dict()["layer3.1.bn2.running_var"]
    for index in range(3):
        assert torch.equal(unstack(task.members, index).layer3[1].bn2.running_var, statistics)


def test_logits_are_the_log_odds_of_the_length_of_a_squashed_capsule():
    capsules = torch.randn(4, 3, 16)
    length = squash(capsules).norm(dim=-1)
    assert torch.allclose(capsules.square().sum(-1).log(), torch.logit(length), atol=1e-4)


def test_routing_follows_the_capsules_that_agree():
    layer = ClassCapsules(3, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, :, 0, 0] = torch.tensor([3.0, 3.0, 3.0])  # all three vote alike for the first class
        layer.weight[1, :, 0, 0] = torch.tensor([3.0, -3.0, 0.0])  # and against each other for the second
    lengths = layer(torch.ones(1, 3, 8)).norm(dim=-1)[0]
    assert lengths[0] > 4.6 > 1e-3 > lengths[1]  # even shares would give 4.5


def test_diagonal_attention_is_that_of_a_whole_attention():
    layer, onset, apex = DiagonalMicroAttention(), torch.randn(2, 9, WIDTH), torch.randn(2, 9, WIDTH)
    whole = (layer.query(apex) @ layer.key(onset).mT / WIDTH**0.5).softmax(-1)
    expected = layer.out(9 * whole.diagonal(dim1=1, dim2=2)[..., None] * layer.value(apex))
    assert torch.allclose(layer(onset, apex), expected, atol=1e-5)


def test_motion_that_is_right_reconstructs_the_apex():
    onset = functional.interpolate(torch.rand(2, 3, 8, 8), 64, mode="bicubic")
    right = torch.zeros(2, 2, 64, 64)
    right[:, 0] = -1.0  # the face moved by 1 px to the right
    apex = warp(onset, right)
    assert torch.allclose(apex[..., 1:], onset[..., :-1], atol=1e-5)
    still, right, wrong = (torch.full((2, 2, 32, 32), 0.0) for _ in range(3))
    right[:, 0], wrong[:, 0] = -1.0, 1.0
    of = [reconstruction_loss(motion, onset, apex) for motion in (right, still, wrong)]
    assert (of[0] < 0.01).all() and torch.allclose(of[1], torch.ones(2)) and (of[2] > 1.5).all()


def test_motion_is_learnt_from_reconstruction_alone():
    network = build("selfme")
    network.train()(shown("selfme"), torch.zeros(3, 1))[0].sum().backward()
    assert all(weight.grad is None for weight in network.motion.parameters())
    assert all(weight.grad is not None for weight in network.transformer.parameters())


def test_halves_that_mirror_each_other_have_no_symmetry_loss():
    features = torch.eye(16)[None]
    assert symmetry_loss(features, features).item() < 1e-2
    assert symmetry_loss(features, features.roll(1, 1)).item() > 5


def test_a_face_and_its_mirror_image_swap_their_halves():
    transformer, motion = network_class("selfme")(3, (2, 3, 32, 32)).transformer, torch.randn(2, 2, 16, 16)
    mirrored = motion.flip(-1) * torch.tensor([-1.0, 1.0])[:, None, None]
    for one, other in zip(transformer(motion), transformer(mirrored)[::-1], strict=True):
        assert torch.allclose(one, other, atol=1e-5)
