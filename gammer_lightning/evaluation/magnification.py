"""Results of `gammer magnify test`: the sub-pixel and noise protocol, and true magnified apexes of microfaces."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure
from tqdm import tqdm

from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.data.microfaces.truth import render_pair, true_frames
from gammer_lightning.files import read_image, replacing
from gammer_lightning.magnifiers import Magnifier
from gammer_lightning.pixels import to_floats
from gammer_lightning.reports.tables import markdown_table

ALPHAS = (5.0, 10.0, 20.0)


def quality(frame: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """PSNR in dB and SSIM of each frame, ``(B,)`` each, of frames ``(B, 3, H, W)`` in [0, 1].

    Source: SSIM of Wang et al. 2004, Gaussian window of 11 px, sigma 1.5.
    """
    squared_error = ((frame - target) ** 2).mean((1, 2, 3))
    psnr = -10 * squared_error.clamp(min=1e-10).log10()
    ssim = structural_similarity_index_measure(frame, target, data_range=1.0, reduction="none")
    return psnr, ssim  # type: ignore[return-value]  # torchmetrics: a pair only with return_full_image=True


def protocol_row(frame: Tensor, batch: dict[str, Tensor]) -> dict[str, float]:
    """Score magnified frames of rendered motion pairs beside the floor, which is what the apex itself scores.

    Args:
        frame: ``(B, 3, H, W)`` in [0, 1].
        batch: As of `gammer_lightning.data.motion.render.render`, of one alpha.

    Returns:
        alpha; means of ssim, floor, gain, psnr and floor_psnr (dB), and the gain's standard deviation.
    """
    psnr, ssim = quality(frame, batch["magnified"])
    floor_psnr, floor = quality(batch["apex"], batch["magnified"])
    gain = ssim - floor
    return {
        "alpha": round(float(batch["alpha"][0]), 3),
        "ssim": float(ssim.mean()),
        "floor": float(floor.mean()),
        "gain": float(gain.mean()),
        "gain_std": float(gain.std()),
        "psnr": float(psnr.mean()),
        "floor_psnr": float(floor_psnr.mean()),
    }


def score_microfaces(magnifier: Magnifier, root: Path, clips: Sequence[Clip], device: torch.device) -> pd.DataFrame:
    """Compare a magnifier with the exact magnified apex of every clip.

    Two inputs: the exact onset and apex ("clean"), and the recorded frames with their flicker, noise and JPEG
    ("recorded"), at the true onset and apex. The floor is what the input's own apex scores. Eyes and folded places do
    not count.

    Returns:
        A row for each input and alpha: ssim, floor, gain, its standard deviation over clips, psnr and floor_psnr in dB.
    """
    rows = []
    for clip in tqdm(clips, desc="true apexes", unit="clip"):
        onset, apex, truth, mask = render_pair(root, clip.key, ALPHAS)
        recorded_onset, recorded_apex = (
            to_floats(read_image(clip.frame(number))).numpy() for number in true_frames(root, clip.key)
        )
        inputs = {"clean": (onset, apex), "recorded": (recorded_onset, recorded_apex)}
        for name, (input_onset, input_apex) in inputs.items():
            onset_batch = torch.from_numpy(input_onset)[None].to(device)
            apex_batch = torch.from_numpy(input_apex)[None].to(device)
            frames = magnifier(onset_batch, apex_batch, ALPHAS)[:, 0].cpu().numpy()
            for alpha, frame, target in zip(ALPHAS, frames, truth, strict=True):
                ssim, psnr = masked_quality(frame, target, mask)
                floor, floor_psnr = masked_quality(input_apex, target, mask)
                rows.append((name, alpha, ssim, floor, ssim - floor, psnr, floor_psnr))
    table = pd.DataFrame(rows, columns=["input", "alpha", "ssim", "floor", "gain", "psnr", "floor_psnr"])
    groups = table.groupby(["input", "alpha"])
    return groups.mean().assign(gain_std=groups["gain"].std()).reset_index()


def masked_quality(frame: np.ndarray, target: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """SSIM and PSNR in dB of frames ``(3, H, W)`` in [0, 1] where ``mask`` ``(H, W)`` is True.

    Source: SSIM of Wang et al. 2004, Gaussian window, sigma 1.5.
    """
    settings = dict(channel_axis=0, data_range=1.0, gaussian_weights=True, use_sample_covariance=False, full=True)
    _, ssim = structural_similarity(frame, target, **settings)
    squared_error = ((frame - target) ** 2)[:, mask].mean()
    psnr = -10 * np.log10(max(squared_error, 1e-10))
    return float(ssim[:, mask].mean()), float(psnr)


def write_protocol(folder: Path, protocol: pd.DataFrame, faces: pd.DataFrame) -> str:
    """Write protocol.csv, microfaces.csv, protocol.md and figures/protocol.png into a run folder; return the text."""
    for name, table in (("protocol.csv", protocol), ("microfaces.csv", faces)):
        with replacing(folder / name) as temporary:
            table.to_csv(temporary, index=False, float_format="%.5g")
    titles = {
        "motion": "Sub-pixel test: d px, alpha = 10 / d",
        "noise": "Noise test: d = .05 px, noise in grey levels",
    }
    parts = []
    for test, title in titles.items():
        rows = protocol[protocol.test == test].drop(columns="test")
        parts.append(f"{title}\n\n{as_text(rows)}")
    parts.append(f"microfaces, true magnified apexes (eyes left out)\n\n{as_text(faces)}")
    text = "\n\n".join(parts) + "\n"
    with replacing(folder / "protocol.md") as temporary:
        temporary.write_text(text)
    _draw(folder / "figures" / "protocol.png", protocol)
    return text


def as_text(table: pd.DataFrame) -> str:
    """A Markdown table with three decimals for SSIM, two for dB."""
    digits = {"psnr": 2, "floor_psnr": 2, "alpha": 1}
    rows = []
    for _, row in table.iterrows():
        cells = []
        for column, value in row.items():
            is_float = isinstance(value, float)
            cells.append(f"{value:.{digits.get(str(column), 3)}f}" if is_float else str(value))
        rows.append(cells)
    return "\n".join(markdown_table(list(table.columns), rows))


def _draw(path: Path, protocol: pd.DataFrame) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
    labels = ("motion d (px), alpha = 10 / d", "noise (grey levels) at d = .05 px")
    for axis, (_, rows), label in zip(axes, protocol.groupby("test", sort=False), labels, strict=True):
        axis.plot(rows.value, rows.ssim, "o-", label="magnified")
        axis.plot(rows.value, rows.floor, "--", color="grey", label="input (floor)")
        axis.set(xscale="log", xlabel=label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("SSIM with the true frame")
    axes[0].legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)
