"""The temporal interpolation model (TIM): any number of frames from a clip, on a smooth curve through those it has."""

import numpy as np


def interpolate(frames: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` frames, evenly spread from the first to the last, both of which are kept.

    The model embeds the frames as a path graph, along whose Laplacian's eigenvectors cos(pi k (s + 1/2) / n) the clip
    is a curve, and maps that curve back to images. Of frames that are linearly independent, as the paper asks, the
    embedding is exact, so that both steps together are the clip's cosine series (DCT-II) in time, read between the
    frames; that is what is computed, and it does not need the independence.

    Args:
        frames: ``(n, ...)``, two or more.
        count: How many, two or more.

    Returns:
        float64 ``(count, ...)``.

    Source: Zhou, Zhao and Pietikainen, Towards a practical lipreading system, CVPR 2011, Sec. 3; used for
    micro-expressions by Pfister et al., Recognising spontaneous facial micro-expressions, ICCV 2011.
    """
    recorded = np.arange(len(frames))
    series = np.linalg.inv(_cosines(recorded, len(frames)))
    positions = np.linspace(0, len(frames) - 1, count)
    weights = _cosines(positions, len(frames)) @ series
    return np.tensordot(weights, frames, 1)


def _cosines(positions: np.ndarray, frames: int) -> np.ndarray:
    """Return the eigenvectors of the path graph, at any positions along it ``(positions, frames)``."""
    return np.cos(np.pi * np.arange(frames) * (positions[:, None] + 0.5) / frames)
