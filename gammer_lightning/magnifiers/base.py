"""What every magnifier is: a module that is called as ``magnifier(onset, apex, alphas)``."""

from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor, nn


class Magnifier(nn.Module):
    """A module that magnifies the motion from onset to apex.

    alpha is the ratio of displacements from the onset: 0 gives the onset, 1 the apex, above 1 magnifies.

    Attributes:
        name: The name or path that it was loaded by.
        fingerprint: SHA-256 (hex) or text of all that decides its pixels; names its entries in caches.
    """

    name: str
    fingerprint: str

    def forward(self, onset: Tensor, apex: Tensor, alphas: Sequence[float]) -> Tensor:
        """Magnify pairs of frames.

        Args:
            onset: ``(B, 3, H, W)`` in [0, 1].
            apex: The same shape, on the same device.
            alphas: A magnification factors, each at least 0.

        Returns:
            ``(A, B, 3, H, W)`` in [0, 1].

        Raises:
            GammerError: If a frame or a factor cannot be magnified.
        """
        raise NotImplementedError


class TemporalMagnifier(Magnifier):
    """A magnifier that can also magnify only the motion in a band of frequencies."""

    def stream(self, frames: Iterable[Tensor], alpha: float, fps: float, band: tuple[float, float]) -> Iterator[Tensor]:
        """Magnify frame for frame, in memory that does not grow.

        Args:
            frames: Frames ``(B, 3, H, W)`` in [0, 1].
            alpha: Magnification factor: 0 removes the motion of the band, 1 changes nothing.
            fps: Frames per second.
            band: Lower and upper cut-off in Hz (see `BandPass`).

        Yields:
            As many frames.

        Raises:
            GammerError: If the band is out of range.
        """
        raise NotImplementedError
