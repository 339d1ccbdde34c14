"""Linear Eulerian magnification, of a frame pair or of a band of frequencies in a clip."""

from collections.abc import Iterable, Iterator, Sequence

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from gammer_lightning.magnifiers.base import TemporalMagnifier
from gammer_lightning.magnifiers.checks import check_alphas, check_pair
from gammer_lightning.magnifiers.temporal import BandPass


class Eulerian(TemporalMagnifier):
    """onset + alpha * (apex - onset) per level of a Laplacian pyramid, alpha lowered at fine levels.

    A linear change of intensity shows motion only while alpha * displacement (in the paper's convention (1 + alpha) *
    displacement) stays below an eighth of the wavelength, so each level's factor is capped for an assumed onset-to-apex
    motion; up to alpha 1 nothing is capped.

    Args:
        motion: Displacement in px that the caps assume.
        levels: Levels of the pyramid.

    Source: Wu et al., Eulerian Video Magnification, SIGGRAPH 2012, Eq. 14; a pair has no temporal filter.
    """

    kernel: Tensor
    name = "eulerian"

    def __init__(self, motion: float = 0.5, levels: int = 5) -> None:
        super().__init__()
        self.motion = motion
        self.levels = levels
        self.fingerprint = f"eulerian 2 motion={motion} levels={levels}"
        kernel = torch.from_numpy(cv2.getGaussianKernel(5, 1.0)).float()
        self.register_buffer("kernel", (kernel @ kernel.T).expand(3, 1, 5, 5).clone())

    def forward(self, onset: Tensor, apex: Tensor, alphas: Sequence[float]) -> Tensor:
        """Magnify pairs ``(B, 3, H, W)`` to ``(A, B, 3, H, W)`` in [0, 1].

        Raises:
            GammerError: The frames differ in size, or an alpha is no factor.
        """
        check_pair(onset, apex)
        alphas = check_alphas(alphas)
        bands = self._laplacian(apex - onset)
        frames = [onset + self._sum(bands, alpha) for alpha in alphas]
        return torch.stack(frames).clamp(0, 1)

    def stream(self, frames: Iterable[Tensor], alpha: float, fps: float, band: tuple[float, float]) -> Iterator[Tensor]:
        """Magnify the motion of a band of frequencies in a stream of frames; see `magnifiers.magnify_clip`."""
        band_pass = BandPass(band, fps)
        for frame in frames:
            change = band_pass(frame)
            magnified = self._sum(self._laplacian(change), alpha)
            yield (frame - change + magnified).clamp(0, 1)

    def _laplacian(self, image: Tensor) -> list[Tensor]:
        """Bands at full resolution, fine to coarse; their sum is the image."""
        bands = []
        low = image
        for _ in range(self.levels - 1):
            if min(low.shape[-2:]) < 8:
                break
            padded = F.pad(low, (2, 2, 2, 2), mode="replicate")
            smaller = F.conv2d(padded, self.kernel, groups=3)[..., ::2, ::2]
            coarse = F.interpolate(smaller, low.shape[-2:], mode="bilinear", align_corners=False)
            bands.append(low - coarse)
            low = smaller
        return [*bands, low]

    def _sum(self, bands: list[Tensor], alpha: float) -> Tensor:
        total = torch.zeros_like(bands[-1])
        for level in reversed(range(len(bands))):
            wavelength = 4.0 * 2**level  # px, about the middle of the band
            factor = min(alpha, max(1.0, wavelength / (8 * self.motion)))
            total = F.interpolate(total, bands[level].shape[-2:], mode="bilinear", align_corners=False)
            total = total + factor * bands[level]
        return total
