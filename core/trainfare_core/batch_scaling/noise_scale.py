"""
The simple noise scale of a run, from squared norms of its gradients over two sizes of batch.

`E|g_B|^2 = |G|^2 + tr(S) / B` (McCandlish et al. 2018, arXiv 1812.06162, appendix A.1): a small and a large batch of
one step give both terms without bias. Each is averaged over the steps before one is divided by the other, since a
quotient of single steps has no mean.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

LEAST_READINGS: Final = 10
"""Steps with two norms below which there is no figure. A chosen value: in fewer, a bootstrap says little."""
_BOOTSTRAPS: Final = 1000
_LOW: Final = 0.1
"""Of the bootstrapped |G|^2, the share below the value that must be positive: a gradient that is not told from its
noise gives no figure."""
_SIGNIFICANT: Final = 4


def estimate_noise_scale(small: ArrayLike, large: ArrayLike, times: ArrayLike) -> float | None:
    """
    Return the simple noise scale tr(S) / |G|^2, as a multiple of the small batch; None where the norms give no figure.

    Example:
        >>> estimate_noise_scale([3.0] * 10, [2.0] * 10, [2.0] * 10)  # |G|^2 = 1, tr(S) = 2 samples
        2.0
        >>> estimate_noise_scale([3.0] * 10, [1.5] * 10, [2.0] * 10) is None  # noise alone
        True

    Args:
        small: squared norms of the mean gradient of a small batch, one entry a step, at least one.
        large: the same of the whole batch.
        times: samples of the whole batch over those of the small one, above 1.
    """
    small, large, times = (np.asarray(values, dtype=np.float64) for values in (small, large, times))
    squared = (times * large - small) / (times - 1)
    noise = times * (small - large) / (times - 1)
    draws = np.random.default_rng(0).integers(len(squared), size=(_BOOTSTRAPS, len(squared)))
    if not (np.quantile(squared[draws].mean(axis=1), _LOW) > 0 and noise.mean() > 0):
        return None
    return float(f"{noise.mean() / squared.mean():.{_SIGNIFICANT}g}")
