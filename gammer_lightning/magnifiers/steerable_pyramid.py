"""Complex steerable pyramid: oriented band-pass images whose phase moves with what they show."""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

MARGIN = 16  # px; frames are mirrored by so much at their borders, since Fourier transforms wrap around


class Band(NamedTuple):
    """The filters of one scale, and how its spectrum is cut out of the whole one.

    Attributes:
        filters: One for each orientation, ``(K, h, w)``, zero at negative frequencies.
        inside: Rows and columns of the whole spectrum that it covers.
        place: Where these lie in its own, smaller spectrum.
    """

    filters: Tensor
    inside: tuple[Tensor, Tensor]
    place: tuple[Tensor, Tensor]


class SteerablePyramid:
    """Analysis and synthesis in the Fourier domain, for frames of one size; unchanged coefficients give the frame back.

    Args:
        size: Height and width of the frames in px.
        orientations: Orientations of each scale.
        device: Where the frames lie.

    Source: Portilla and Simoncelli, A Parametric Texture Model Based on Joint Statistics of Complex Wavelet
    Coefficients, IJCV 40, 2000: the scales are octaves, their radial windows cosines in log frequency. Below the
    coarsest, and above the highest frequency along an axis, the frame is kept as it is.
    """

    def __init__(self, size: tuple[int, int], orientations: int, device: torch.device) -> None:
        self.size = size
        self.margins = [min(MARGIN, side - 1) for side in size]
        padded = [next_fast_len(side + 2 * margin) for side, margin in zip(size, self.margins, strict=True)]
        self.after = [whole - side - m for whole, side, m in zip(padded, size, self.margins, strict=True)]
        rows, columns = (torch.fft.fftfreq(side, dtype=torch.float64) for side in padded)
        radius = 2 * torch.hypot(rows[:, None], columns)  # 1 at the highest frequency along an axis
        angle = torch.atan2(rows[:, None].expand_as(radius), columns.expand_as(radius))
        octaves = max(1, int(math.log2(min(size))) - 2)
        self.bands: list[Band] = []
        covered = torch.zeros_like(radius)
        for number in range(octaves):
            window = _window(radius, number)
            covered += window**2
            self.bands.append(_band(window, angle, orientations, 0.5 / 2**number, device))
        self.residual = (1 - covered).float().to(device)

    def spectrum(self, frames: Tensor) -> Tensor:
        """Transform frames ``(..., H, W)``, mirrored at their borders."""
        (top, left), (bottom, right) = self.margins, self.after
        padding = (left, min(right, left), top, min(bottom, top))
        frames = F.pad(frames, padding, mode="reflect")
        padding_back = (0, right - padding[1], 0, bottom - padding[3])
        if any(padding_back):
            frames = F.pad(frames, padding_back, mode="replicate")
        return torch.fft.fft2(frames, norm="forward")

    def coefficients(self, spectrum: Tensor) -> list[Tensor]:
        """Return each scale's complex coefficients ``(..., K, h, w)``, fine to coarse."""
        return [self._analyse(band, spectrum) for band in self.bands]

    @staticmethod
    def _analyse(band: Band, spectrum: Tensor) -> Tensor:
        rows, columns = band.inside
        down, across = band.place
        cut = spectrum.new_zeros(*spectrum.shape[:-2], *band.filters.shape[-2:])
        cut[..., down[:, None], across] = spectrum[..., rows[:, None], columns]
        return torch.fft.ifft2(cut[..., None, :, :] * band.filters, norm="forward")

    def frames(self, spectrum: Tensor, coefficients: Iterable[Tensor]) -> Tensor:
        """Put frames ``(..., H, W)`` together.

        Args:
            spectrum: Gives what lies above and below all scales.
            coefficients: Of each scale.
        """
        total = spectrum * self.residual
        for band, values in zip(self.bands, coefficients, strict=True):
            part = (torch.fft.fft2(values, norm="forward") * band.filters).sum(-3)
            rows, columns = band.inside
            down, across = band.place
            total[..., rows[:, None], columns] += 2 * part[..., down[:, None], across]  # 2: the negative frequencies
        whole = torch.fft.ifft2(total, norm="forward").real
        top, left = self.margins
        height, width = self.size
        return whole[..., top : top + height, left : left + width]


def _window(radius: Tensor, number: int) -> Tensor:
    """Radial window of a scale, counted from the finest; the squares of neighbours add up to 1."""
    distance = (radius.clamp(min=1e-9).log2() + 1 + number).abs()
    return torch.cos(math.pi / 2 * distance.clamp(max=1)) * (distance < 1)


def _band(window: Tensor, angle: Tensor, orientations: int, reach: float, device: torch.device) -> Band:
    """Make the filters of a scale; ``reach`` is its highest frequency in cycles a px."""
    inside: list[Tensor] = []
    place: list[Tensor] = []
    sides: list[int] = []
    for whole in window.shape:
        highest = min(math.ceil(reach * whole), (whole - 1) // 2)
        side = next_fast_len(2 * highest + 1)
        frequencies = torch.arange(-highest, highest + 1)
        inside.append(frequencies % whole)
        place.append(frequencies % side)
        sides.append(side)
    directions = torch.arange(orientations) * math.pi / orientations
    lobes = torch.cos(angle - directions[:, None, None]).clamp(min=0) ** (orientations - 1)
    power = orientations * math.comb(2 * orientations - 2, orientations - 1) / 4 ** (orientations - 1)
    whole_filters = lobes * window / power**0.5
    rows, columns = inside
    down, across = place
    filters = torch.zeros(orientations, *sides)
    filters[:, down[:, None], across] = whole_filters[:, rows[:, None], columns].float()
    return Band(
        filters.to(device),
        inside=(rows.to(device), columns.to(device)),
        place=(down.to(device), across.to(device)),
    )


@lru_cache(maxsize=4)
def steerable_pyramid(size: tuple[int, int], orientations: int, device: torch.device) -> SteerablePyramid:
    """Return the pyramid of a frame size, built once."""
    return SteerablePyramid(size, orientations, device)
