"""ST-MEMM: what the paper's equations promise, at any size."""

import pytest
import torch
from timm.models.swin_transformer import SwinTransformerBlock

from gammer_lightning.errors import GammerError
from gammer_lightning.models.st_memm import STMEMM, Manipulator, warp
from gammer_lightning.models.swin import SwinLayer, reordering, shift_mask


@pytest.fixture(scope="module")
def network() -> STMEMM:
    torch.manual_seed(0)
    network = STMEMM("small").eval()
    for layer in (network.reconstruction.displacement, network.reconstruction.conv):
        torch.nn.init.normal_(layer.weight, std=0.02)  # as far from the identity as after training
    return network


def frames(*sizes: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.rand(2, 3, *size, generator=generator) for size in sizes)


@pytest.mark.parametrize("size", [(100, 128), (190, 230), (340, 280), (257, 301), (33, 47)])
def test_any_size_and_exact_identity_at_alpha_zero(network, size):
    onset, apex = frames(size, size)
    with torch.inference_mode():
        out = network(onset, apex, torch.tensor([[0.0, 0.0], [5.0, 20.0]]))
    assert out.shape == (2, 2, 3, *size)
    assert torch.equal(out[0], onset)
    assert not torch.allclose(out[1], onset, atol=1e-3)


def test_each_pair_has_its_own_alpha(network):
    onset, apex = frames((64, 64), (64, 64))
    with torch.inference_mode():
        together = network(onset, apex, torch.tensor([[2.0, 9.0]]))[0]
        alone = torch.cat(
            [network(onset[i : i + 1], apex[i : i + 1], torch.tensor([[a]]))[0] for i, a in enumerate((2.0, 9.0))]
        )
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_manipulator_is_equation_3():
    torch.manual_seed(0)
    manipulator = Manipulator(8)
    first, second = torch.randn(2, 1, 8, 6, 6)
    alpha = 7.0
    structure, motion = manipulator.structure(first), manipulator.difference(second - first)
    energy = torch.nn.functional.avg_pool2d(structure.square().mean(1, keepdim=True), 3, 1, 1, count_include_pad=False)
    scaled = manipulator.conv(alpha * motion * structure / (energy + 1e-2))  # alpha first, as in the equation
    expected = first + scaled + manipulator.residual(scaled)
    torch.testing.assert_close(first + alpha * manipulator(first, second), expected, atol=1e-4, rtol=1e-4)
    assert not manipulator(first, first).any()


def test_gradients_reach_every_weight(network):
    onset, apex = frames((32, 32), (32, 32))
    network.zero_grad()
    network(onset, apex, torch.full((1, 2), 3.0)).square().mean().backward()
    without = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not without


def test_shift_mask_separates_what_the_roll_brought_together():
    mask = shift_mask(16, 16, 4, torch.device("cpu"), torch.float32)
    assert mask.shape == (4, 64, 64)
    assert not mask[0].any()  # an inner window has one region
    assert len(mask[3].unique(dim=0)) == 4  # the last corner has four
    assert set(mask.unique().tolist()) == {-1e4, 0.0}


def test_attention_is_timms_on_shifted_windows_and_its_kept_bias_follows_the_weights():
    torch.manual_seed(0)
    layer = SwinLayer(8, 4, 2.0, shift=4).eval()
    x = torch.randn(2, 16, 24, 8)
    rows, shifted = reordering(16, 24, 4, None, x.device), reordering(16, 24, None, 4, x.device)
    for _ in range(2):
        with torch.inference_mode():
            expected = SwinTransformerBlock.forward(layer, x)
            for fused in (True, False):
                layer.attn.fused_attn = fused
                out = layer(x.flatten(1, 2)[:, shifted], 16, 24)[:, rows]
                torch.testing.assert_close(out.view_as(x), expected, atol=1e-5, rtol=0)
        with torch.no_grad():
            layer.attn.relative_position_bias_table.normal_()


def test_warp_moves_content_along_the_displacement():
    image = torch.zeros(1, 3, 32, 40)
    image[..., 10, 12] = 1
    displacement = torch.zeros(1, 2, 32, 40)
    displacement[:, 0], displacement[:, 1] = 5, -3
    assert warp(image, displacement)[0, 0, 7, 17] == pytest.approx(1, abs=1e-4)


def test_bad_input(network):
    with pytest.raises(GammerError, match="at least 32 px"):
        network.encode(torch.rand(1, 3, 31, 64))
    with pytest.raises(GammerError, match="known presets: small, base"):
        STMEMM("huge")


def test_base_has_the_papers_scale():
    assert 25e6 < sum(weight.numel() for weight in STMEMM("base").parameters()) < 40e6
