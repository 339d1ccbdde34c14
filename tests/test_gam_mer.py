"""GAM-MER: shapes, gradients, invariants, agreement with torch-geometric, refused settings."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch_geometric.nn import DenseGATConv

from gammer_lightning.errors import GammerError
from gammer_lightning.faces.graph import PAPER_REGIONS, adjacency
from gammer_lightning.models.gam_mer import GamMer, GraphAttention, LocalFeatureExtraction


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("layer", ["gat", "gcn"])
@pytest.mark.parametrize("regions", [PAPER_REGIONS, ("all",), ("eyes",)])
def test_logits_and_a_gradient_for_every_parameter(depth, layer, regions):
    network = GamMer(5, regions, "optimised", layer, depth, heads=2, width=8, patch_size=8, channels=6)
    logits = network(torch.randn(3, 68, 6, 8, 8))
    logits.square().sum().backward()
    assert logits.shape == (3, 5)
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_only_the_chosen_regions_count():
    network, patches = GamMer(3), torch.randn(2, 68, 3, 16, 16)
    other = patches.clone()
    other[:, :17] = 0  # contour
    assert torch.equal(network(patches), network(other))
    other[:, 48] = 0  # a lip corner
    assert not torch.allclose(network(patches), network(other))


def test_clips_do_not_depend_on_their_batch():
    network, patches = GamMer(3).eval(), torch.randn(4, 68, 3, 16, 16)
    alone = torch.cat([network(patches[i : i + 1]) for i in range(4)])
    assert torch.allclose(network(patches), alone, atol=1e-5)


def test_local_features_are_the_three_convolutions():
    cnn, patches = LocalFeatureExtraction(16, 3, 8, 12), torch.randn(2, 5, 3, 16, 16)
    x = patches.flatten(0, 1)
    for linear, size in ((cnn.conv1, 4), (cnn.conv2, 2), (cnn.conv3, 2)):
        kernel = linear.weight.unflatten(1, (size, size, -1)).movedim(3, 1)
        x = functional.conv2d(x, kernel, linear.bias, stride=size)
        x = x if linear is cnn.conv3 else x.relu()
    assert torch.allclose(cnn(patches), x.reshape(2, 5, 12), atol=1e-5)


def test_graph_attention_is_torch_geometrics():
    layer, graph = GraphAttention(8, 4, 3), torch.from_numpy(adjacency(PAPER_REGIONS, "optimised"))
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 36, 8)
    assert torch.allclose(layer(x, graph), DenseGATConv.forward(layer, x, graph), atol=1e-5)


def test_attention_is_over_edges_and_sums_to_one():
    network = GamMer(3, heads=2)
    attention = network.attention(torch.randn(2, 68, 3, 16, 16))
    assert attention.shape == (2, 2, 36, 36)
    assert torch.allclose(attention.sum(-1), torch.ones(2, 2, 36), atol=1e-5)
    assert torch.equal((attention > 0).all(0).all(0), network.adjacency > 0)


def test_a_gcn_has_no_attention():
    with pytest.raises(GammerError, match="gat"):
        GamMer(3, layer="gcn").attention(torch.randn(1, 68, 3, 16, 16))


def test_a_patch_costs_less_than_a_quarter_of_a_megaflop():
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        GamMer(5)(torch.randn(2, 68, 3, 16, 16))
    assert counter.get_total_flops() / (2 * 36) < 0.25e6


def test_it_has_no_batch_statistics_and_exports():
    network = GamMer(3).eval()
    assert not any(isinstance(module, nn.modules.batchnorm._NormBase) for module in network.modules())
    patches = torch.randn(2, 68, 3, 16, 16)
    exported = torch.export.export(network, (patches,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    assert torch.allclose(exported.module()(patches), network(patches), atol=1e-5)
    assert not any("scatter" in str(node.target) for node in exported.graph.nodes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "gin"}, "gat, gcn"),
        ({"depth": 0}, "1 to 4"),
        ({"depth": 5}, "1 to 4"),
        ({"heads": 3}, "width 32 with 3 heads"),
        ({"heads": 0}, "0 heads"),
        ({"patch_size": 12}, "multiple of 8"),
        ({"dropout": 1.0}, "probability"),
        ({"graph": "full"}, "raw, optimised"),
        ({"regions": ["chin"]}, "chin"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(GammerError, match=message):
        GamMer(3, **settings)
