"""Histograms of the blocks of a face, which keep where something lies."""

import numpy as np

BLOCKS = 5
"""Blocks down and across, as CASME II's baseline (Yan et al., PLOS ONE 2014) and Bi-WOOF have them."""


def block_of(size: int) -> np.ndarray:
    """Return which of the `BLOCKS` each of ``size`` rows or columns lies in, int ``(size,)``."""
    return np.arange(size) * BLOCKS // size


def block_sums(
    bins: np.ndarray, rows: np.ndarray, columns: np.ndarray, num_bins: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Count bins in each block.

    Args:
        bins: Bin of each place, int ``(..., H, W)``.
        rows: Block down of each of the H, as of `block_of`.
        columns: Block across of each of the W.
        num_bins: How many bins there are.
        weights: What each place counts ``(..., H, W)``; None: 1.

    Returns:
        ``(25, num_bins)``, block by block.
    """
    blocks = rows[:, None] * BLOCKS + columns
    bins_of_blocks = (blocks * num_bins + bins).ravel()
    flat_weights = None if weights is None else weights.ravel()
    sums = np.bincount(bins_of_blocks, flat_weights, BLOCKS**2 * num_bins)
    return sums.reshape(-1, num_bins)


def shares(counts: np.ndarray) -> np.ndarray:
    """Divide each block's counts ``(25, bins)`` by their sum, which becomes 1, or stays 0 where nothing counts."""
    sums = counts.sum(1, keepdims=True)
    return np.divide(counts, sums, out=np.zeros(counts.shape), where=sums > 0)
