"""Phase-based magnification: motion as the phase of a complex steerable pyramid."""

from collections.abc import Iterable, Iterator, Sequence

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from gammer_lightning.magnifiers.base import TemporalMagnifier
from gammer_lightning.magnifiers.checks import check_alphas, check_pair
from gammer_lightning.magnifiers.steerable_pyramid import SteerablePyramid, steerable_pyramid
from gammer_lightning.magnifiers.temporal import BandPass

SMALLEST = 16  # px a side: below there is no whole scale
ORIENTATIONS = 8
SMOOTHING = 2.0  # standard deviation, in coefficients of each scale


class Phase(TemporalMagnifier):
    """Multiplies by alpha the phase by which each coefficient of the apex differs from the onset's.

    Phases are smoothed, weighted by amplitude, since they are noise where there is no texture. Up to alpha 1 the
    coefficients are mixed, so that 0 gives the onset and 1 the apex but for rounding; from 1 on they are the apex's,
    shifted, as in the paper. A shift beyond about a quarter of a scale's wavelength shows as ghosts.

    Source: Wadhwa et al., Phase-Based Video Motion Processing, SIGGRAPH 2013, Sec. 3. Scales are octaves; the paper's
    half octaves took twice the time and were no better on microfaces. There only the luma is magnified; here the
    phases, found in all channels together, shift each of them, or colours would stay behind.
    """

    kernel: Tensor
    name = "phase"
    fingerprint = f"phase 1 orientations={ORIENTATIONS} smoothing={SMOOTHING}"

    def __init__(self) -> None:
        super().__init__()
        kernel = cv2.getGaussianKernel(2 * round(2 * SMOOTHING) + 1, SMOOTHING)
        self.register_buffer("kernel", torch.from_numpy(kernel).float().view(1, 1, -1, 1))

    def forward(self, onset: Tensor, apex: Tensor, alphas: Sequence[float]) -> Tensor:
        """Magnify pairs ``(B, 3, H, W)``, 16 px or more a side, to ``(A, B, 3, H, W)`` in [0, 1].

        Raises:
            GammerError: The frames differ in size or are too small, or an alpha is no factor.
        """
        check_pair(onset, apex, SMALLEST)
        pyramid = self._pyramid(onset)
        onset_spectrum = pyramid.spectrum(onset)
        apex_spectrum = pyramid.spectrum(apex)
        first = pyramid.coefficients(onset_spectrum)
        second = pyramid.coefficients(apex_spectrum)
        phases = []
        for a, b in zip(first, second, strict=True):
            phase, weight = _shift(a, b)
            phases.append(self._smooth(phase, weight))

        def magnify(alpha: float) -> Tensor:
            share = min(alpha, 1.0)
            spectrum = torch.lerp(onset_spectrum, apex_spectrum, share)
            mixed = (_between(a, b, phase, alpha, share) for a, b, phase in zip(first, second, phases, strict=True))
            return pyramid.frames(spectrum, mixed).clamp(0, 1)

        return torch.stack([magnify(alpha) for alpha in check_alphas(alphas)])

    def stream(self, frames: Iterable[Tensor], alpha: float, fps: float, band: tuple[float, float]) -> Iterator[Tensor]:
        """Magnify the motion of a band of frequencies in a stream of frames; see `magnifiers.magnify_clip`."""
        previous: list[Tensor] | None = None
        totals: list[Tensor | float] = []
        filters: list[BandPass] = []
        for frame in frames:
            check_pair(frame, frame, SMALLEST)
            pyramid = self._pyramid(frame)
            spectrum = pyramid.spectrum(frame)
            current = pyramid.coefficients(spectrum)
            if previous is None:
                previous = current
                totals = [0.0 for _ in current]
                filters = [BandPass(band, fps) for _ in current]
            phases = []
            for level, band_pass in enumerate(filters):
                step, weight = _shift(previous[level], current[level])
                total = step + totals[level]  # from frame to frame, so that no phase wraps
                totals[level] = total
                phases.append(self._smooth(band_pass(total), weight))
            shifted = (_turned(values, (alpha - 1) * phase) for values, phase in zip(current, phases, strict=True))
            yield pyramid.frames(spectrum, shifted).clamp(0, 1)
            previous = current

    def _pyramid(self, frame: Tensor) -> SteerablePyramid:
        height, width = frame.shape[-2:]
        return steerable_pyramid((height, width), ORIENTATIONS, frame.device)

    def _smooth(self, phase: Tensor, weight: Tensor) -> Tensor:
        """Average phases ``(B, 1, K, h, w)``, weighted by amplitude; 0 where there is none."""
        maps = torch.stack([phase * weight, weight]).view(-1, 1, *phase.shape[-2:])
        half = self.kernel.shape[2] // 2
        maps = F.conv2d(maps, self.kernel, padding=(half, 0))
        maps = F.conv2d(maps, self.kernel.mT, padding=(0, half))
        weighted, weights = maps.view(2, *phase.shape)
        return weighted / (weights + 1e-12)


def _shift(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Phase from one frame's coefficients ``(B, 3, K, h, w)`` to the other's, and its weight, ``(B, 1, K, h, w)``."""
    cross = (second * first.conj()).sum(1, keepdim=True)
    return cross.angle(), cross.abs()


def _turned(coefficients: Tensor, phase: Tensor) -> Tensor:
    return coefficients * torch.polar(torch.ones_like(phase), phase)


def _between(first: Tensor, second: Tensor, phase: Tensor, alpha: float, share: float) -> Tensor:
    """The onset's coefficients shifted by alpha, and the apex's by what it lacks to alpha, mixed by the share."""
    from_apex = _turned(second, (alpha - 1) * phase)
    if share == 1:
        return from_apex
    from_onset = _turned(first, alpha * phase)
    return torch.lerp(from_onset, from_apex, share)
