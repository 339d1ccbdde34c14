"""A temporal band-pass that takes frame after frame, so that videos of any length stream through it."""

from torch import Tensor

from gammer_lightning.errors import GammerError

ORDER = 2


class BandPass:
    """Butterworth band-pass of a signal that comes tensor by tensor; it has its state and serves one signal.

    Causal, with no delay in the middle of the band. The first value counts as having stood still before.

    Args:
        band: Lower and upper cut-off in Hz.
        fps: Frames a second.

    Raises:
        GammerError: Not 0 < lower < upper < fps / 2.

    Source: Wu et al., Eulerian Video Magnification, SIGGRAPH 2012, Sec. 4 (IIR filters); there of order 1.
    """

    def __init__(self, band: tuple[float, float], fps: float) -> None:
        from scipy.signal import butter

        low, high = band
        if not 0 < low < high < fps / 2:
            raise GammerError(
                f"a band of {low:g} to {high:g} Hz at {fps:g} frames/s",
                "0 < lower < upper < half the frame rate",
                f"for example {fps / 100:g} {fps / 10:g}",
            )
        self.sections = butter(ORDER, band, "bandpass", fs=fps, output="sos").tolist()
        self.states: list[tuple] = [(0.0, 0.0)] * len(self.sections)
        self.first: Tensor | None = None

    def __call__(self, value: Tensor) -> Tensor:
        """Return what of the newest value lies in the band, of its shape."""
        self.first = value if self.first is None else self.first
        x = value - self.first
        for index, (b0, b1, b2, _, a1, a2) in enumerate(self.sections):
            near, far = self.states[index]
            y = b0 * x + near
            self.states[index] = b1 * x - a1 * y + far, b2 * x - a2 * y
            x = y
        return x
