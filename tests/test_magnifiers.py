"""Magnifiers without training, and the band-pass: identities, true factors, any size, bad input; the comparison."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from gammer_lightning import cli
from gammer_lightning.data.microfaces.generate import synthesize
from gammer_lightning.data.microfaces.spec import MicrofacesSpec
from gammer_lightning.errors import GammerError
from gammer_lightning.magnifiers import load_magnifier, magnify_clip
from gammer_lightning.magnifiers.lagrangian import dense_flow, spread
from gammer_lightning.magnifiers.steerable_pyramid import SteerablePyramid
from gammer_lightning.magnifiers.temporal import BandPass

UNTRAINED = ("eulerian", "phase", "lagrangian")
WAVE = 16.0  # px


def waves(shift, height=96, width=112, wave=WAVE):
    """A frame ``(1, 3, H, W)`` of waves in both directions, moved to the right by ``shift`` px."""
    x, y = torch.arange(width) - shift, torch.arange(height)[:, None]
    frame = 0.5 + 0.15 * torch.sin(2 * math.pi * x / wave) + 0.15 * torch.cos(2 * math.pi * (y + 0.3 * x) / wave)
    return frame.expand(1, 3, height, width).clone()


def moved(frame, wave=WAVE):
    """By how many px the wave along x of a frame ``(1, 3, H, W)`` has moved to the right, inside."""
    line = frame[0, :, 16:80, 16:80].mean((0, 1))
    phase = torch.angle((line * torch.exp(-2j * math.pi * torch.arange(16, 80) / wave)).sum()).item() + math.pi / 2
    return -(math.remainder(phase, 2 * math.pi)) * wave / (2 * math.pi)


@pytest.mark.parametrize("size", [(48, 64), (67, 41), (17, 33)])
@pytest.mark.parametrize("name", UNTRAINED)
def test_alpha_0_is_the_onset_1_the_apex_at_any_size(name, size):
    torch.manual_seed(0)
    onset, apex = torch.rand(2, 2, 3, *size)
    zero, one, ten = load_magnifier(name)(onset, apex, [0, 1, 10])
    assert ten.shape == onset.shape and ten.isfinite().all() and ten.min() >= 0 and ten.max() <= 1
    torch.testing.assert_close(zero, onset, atol=0 if name == "lagrangian" else 1e-5, rtol=0)
    if name != "lagrangian":  # which shows only what the onset shows
        torch.testing.assert_close(one, apex, atol=1e-5, rtol=0)


def test_lagrangian_at_alpha_1_is_the_apex_where_only_motion_differs():
    onset, apex = waves(0), waves(0.7)
    (one,) = load_magnifier("lagrangian")(onset, apex, [1])
    assert (one - apex)[..., 8:-8, 8:-8].abs().mean() < 0.15 * (onset - apex).abs().mean()


@pytest.mark.parametrize(
    ("name", "alphas", "error"), [("phase", (0.5, 2, 5, 10), 0.1), ("lagrangian", (0.5, 5, 20), 0.1)]
)
def test_a_translation_is_magnified_by_alpha(name, alphas, error):
    frames = load_magnifier(name)(waves(0), waves(0.3), alphas)
    for alpha, frame in zip(alphas, frames, strict=True):
        assert moved(frame) == pytest.approx(0.3 * alpha, rel=error)


def test_eulerian_magnifies_by_alpha_what_is_coarse_enough():
    onset, apex = waves(0, 128, 128, wave=64.0), waves(0.3, 128, 128, wave=64.0)
    coarse = load_magnifier("eulerian")(onset, apex, [8])[0]
    assert moved(coarse, 64.0) == pytest.approx(0.3 * 8, rel=0.3)
    fine = load_magnifier("eulerian")(waves(0, wave=8.0), waves(0.3, wave=8.0), [8])[0]
    assert moved(fine, 8.0) < 0.3 * 4  # by less, or it would show as ghosts


def test_each_pair_of_a_batch_is_its_own():
    onset, apex = torch.cat([waves(0), waves(3)]), torch.cat([waves(0.3), waves(2.8)])
    for name in UNTRAINED:
        together = load_magnifier(name)(onset, apex, [5])
        alone = [load_magnifier(name)(onset[i : i + 1], apex[i : i + 1], [5]) for i in (0, 1)]
        torch.testing.assert_close(together, torch.cat(alone, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", UNTRAINED)
def test_a_flat_image_stays_as_it_is(name):
    flat = torch.full((1, 3, 40, 40), 0.4)
    torch.testing.assert_close(load_magnifier(name)(flat, flat, [0, 20]), flat.expand(2, -1, -1, -1, -1))


@pytest.mark.parametrize("name", [*UNTRAINED, "none", "st-memm-small"])
def test_bad_input_is_named(name):
    magnifier, frame = load_magnifier(name), torch.rand(1, 3, 40, 40)
    with pytest.raises(GammerError, match="of one size"):
        magnifier(frame, torch.rand(1, 3, 40, 42), [5])
    with pytest.raises(GammerError, match="at least 0"):
        magnifier(frame, frame, ["five"])
    tiny = torch.rand(1, 3, 8, 8)
    if name in ("eulerian", "none"):
        assert magnifier(tiny, tiny, [5]).shape == (1, 1, 3, 8, 8)
    else:
        with pytest.raises(GammerError, match="sides of at least"):
            magnifier(tiny, tiny, [5])


@pytest.mark.parametrize("size", [(16, 16), (37, 64), (96, 81)])
def test_the_pyramid_gives_the_frame_back(size):
    frame = torch.rand(2, 3, *size)
    pyramid = SteerablePyramid(size, 8, torch.device("cpu"))
    spectrum = pyramid.spectrum(frame)
    torch.testing.assert_close(pyramid.frames(spectrum, pyramid.coefficients(spectrum)), frame, atol=1e-5, rtol=0)


def test_flow_is_sub_pixel_and_what_is_uncovered_is_filled():
    flow = dense_flow(waves(0)[0], waves(0.3)[0])[:, 16:-16, 16:-16]
    assert flow[0].mean() == pytest.approx(0.3, abs=0.03) and flow[1].abs().mean() < 0.05
    block = torch.zeros(1, 2, 32, 40)
    block[:, 0, 8:24, 8:16] = 9.5
    carried = spread(block)
    assert carried.isfinite().all() and carried[0, 0, 16, 20:24].min() > 9  # in front of what stands still
    assert (carried[0, 0, 16, 27:] == 0).all() and carried[0, 0, 16, 9:15].min() >= 0


def swinging(hertz, frames=90, fps=30, amplitude=0.2):
    """A clip ``(T, 3, H, W)`` that swings from side to side."""
    return torch.cat([waves(amplitude * math.sin(2 * math.pi * hertz * t / fps), 80, 80) for t in range(frames)])


def swing(clip, hertz, fps=30):
    """The amplitude in px of a clip's motion at a frequency, over its last two seconds."""
    track = np.array([moved(frame[None]) for frame in clip])[-2 * fps :]
    times = np.arange(len(clip))[-2 * fps :] / fps
    return 2 * abs(np.mean(track * np.exp(-2j * math.pi * hertz * times)))


@pytest.mark.parametrize("name", ["eulerian", "phase"])
def test_a_band_magnifies_what_is_in_it_alone(name):
    magnifier, alpha = load_magnifier(name), 4
    slow, fast = swinging(2), swinging(8)
    inside = swing(magnify_clip(magnifier, slow, alpha, 30, (1.5, 2.7)), 2)
    outside = swing(magnify_clip(magnifier, fast, alpha, 30, (1.5, 2.7)), 8)
    assert inside == pytest.approx(0.2 * alpha, rel=0.35) and outside == pytest.approx(0.2, rel=0.1)
    one = magnify_clip(magnifier, slow[:5], 1, 30, (1.5, 2.7))
    torch.testing.assert_close(one, slow[:5], atol=1e-5, rtol=0)
    assert swing(magnify_clip(magnifier, slow, 0, 30, (1.5, 2.7)), 2) < 0.05


@pytest.mark.parametrize("name", [*UNTRAINED, "none"])
def test_a_clip_without_a_band_is_pairs_with_its_first_frame(name):
    clip, magnifier = swinging(2, frames=3), load_magnifier(name)
    pairs = magnifier(clip[:1].expand(3, -1, -1, -1), clip, [5])[0]
    torch.testing.assert_close(magnify_clip(magnifier, clip, 5, 30), pairs, atol=1e-4, rtol=0)


def test_bad_bands_are_named():
    clip = swinging(2, frames=2)
    for band in ((0, 2), (3, 2), (2, 15)):
        with pytest.raises(GammerError, match="half the frame rate"):
            magnify_clip(load_magnifier("phase"), clip, 5, 30, band)
    with pytest.raises(GammerError, match="lagrangian has no temporal filter"):
        magnify_clip(load_magnifier("lagrangian"), clip, 5, 30, (1, 2))


def test_the_band_pass_is_scipys_from_rest():
    from scipy.signal import butter, sosfilt

    signal = np.random.default_rng(0).normal(size=50)
    expected = sosfilt(butter(2, (2, 5), "bandpass", fs=30, output="sos"), signal - signal[0])
    keep = BandPass((2, 5), 30)
    np.testing.assert_allclose([float(keep(torch.tensor(value))) for value in signal], expected, atol=1e-9)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces") / "microfaces"
    synthesize(folder, MicrofacesSpec(subjects=1, clips_per_class=1, width=140, height=170, fps=50, benchmark=1))
    return folder


def compare(faces, out, *flags):
    settings = ["--root", str(faces), "--out", str(out), "--clips=1", "--scenes=2", "--size=32"]
    return cli.main(["magnify", "compare", *settings, *flags])


def test_compare_draws_and_scores_all(faces, tmp_path, capsys):
    assert compare(faces, tmp_path, "--magnifiers", "eulerian", "lagrangian", "none") == 0
    shown = capsys.readouterr().out
    assert "Sub-pixel test" in shown and "| lagrangian |" in shown and "recorded frames" in shown
    assert (tmp_path / "compare.md").read_text() in shown
    scores = pd.read_csv(tmp_path / "compare.csv", keep_default_na=False).set_index("magnifier")
    assert scores.groupby(["magnifier", "test"]).size().to_dict() == {
        (name, test): count
        for name in ("eulerian", "lagrangian", "none")
        for test, count in (("sub-pixel", 15), ("clean", 3), ("recorded", 3))
    }
    assert (scores.loc["none"].gain.astype(float) == 0).all() and (scores.ms.astype(float) > 0).all()
    assert scores.loc["lagrangian"].query("test == 'clean'").gain.astype(float).min() > 0
    assert (tmp_path / "compare.png").stat().st_size > 20000


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--magnifiers", "magnifier"], "unknown magnifier"),
        (["--clip", "01/EP99_99"], "no clip 01/EP99_99"),
        (["--clips", "0"], "a number from 1"),
        (["--root", "nowhere"], "nowhere"),
    ],
)
def test_compare_names_bad_settings(faces, tmp_path, capsys, flags, message):
    assert compare(faces, tmp_path, "--magnifiers", "none", *flags) == 2
    assert message in capsys.readouterr().err
