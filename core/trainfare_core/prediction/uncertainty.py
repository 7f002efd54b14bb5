"""Width of a prediction's interval: the standard deviation of ln(measured / predicted), by cause."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Array
from trainfare_core.prediction.roofline.coefficients import SigmaFit

Z80 = 1.2816
"""Standard deviations from the median to either end of the central 80 % of a normal distribution."""


UNFITTED_SIGMA = 0.3
"""Added where no fitted row holds much of what runs, times its share of the step: products of a type, or a kind of
operation. A factor of 1.5 either way at 80 %; a chosen value."""


SYNCHRONIZED_SIGMA = 0.7
"""Of what SyncBatchNorm adds to a step: no run with it was measured beside the same without. A factor of 2.5 either way
at 80 %; a chosen value."""


@dataclass(frozen=True, slots=True)
class UncertaintyFactors:
    """Causes of uncertainty of each column; arrays of shape (columns,), shares between 0 and 1."""

    same_device: NDArray[np.bool_]
    corrected: NDArray[np.bool_]
    unmeasured: NDArray[np.bool_]
    """The generation or its arithmetic path was not in the fit."""
    unseen_device: NDArray[np.bool_]
    """Only other devices of its generation were in the fit."""
    unseen_generation: NDArray[np.bool_]
    """No path of the generation was in the fit."""
    emulated: NDArray[np.bool_]
    needs_porting: NDArray[np.bool_]
    launch_share: Array
    communication_share: Array
    network_share: Array
    """Share of the step that depends on the network between machines."""
    synchronized_share: Array
    """Share of the step that SyncBatchNorm adds."""
    several_devices: NDArray[np.bool_]
    several_nodes: NDArray[np.bool_]
    compiled: bool
    unknown_bytes_share: float
    unfitted_share: Array
    """Share of the kernels' time that is of types or kinds that no fitted row holds much of."""


def step_log_sigma(known: UncertaintyFactors, fit: SigmaFit) -> Array:
    """Return the standard deviation of ln(step time): the variances of all causes add."""
    base = np.where(known.same_device, fit.same_device, np.where(known.corrected, fit.corrected, fit.base))
    variance = base**2
    unseen = np.where(known.corrected, fit.corrected_unseen_device, fit.unseen_device)
    variance = variance + np.where(known.unseen_device & ~known.same_device, unseen**2, 0.0)
    variance += np.where(known.unmeasured, fit.unseen_path**2, 0.0)
    variance += np.where(known.unseen_generation, fit.unseen_generation**2, 0.0)
    variance += np.where(known.emulated, fit.emulated**2, 0.0)
    variance += np.where(known.needs_porting, fit.needs_porting**2, 0.0)
    variance += np.where(known.several_devices, fit.several_devices**2, 0.0)
    variance += np.where(known.several_nodes, fit.several_nodes**2, 0.0)
    variance += (known.communication_share * fit.several_devices * 2) ** 2
    variance += (known.network_share * fit.several_nodes * 2) ** 2
    variance += (known.synchronized_share * SYNCHRONIZED_SIGMA) ** 2
    variance += (known.launch_share * fit.launch_bound) ** 2
    variance += (known.unknown_bytes_share * fit.unknown_share) ** 2
    variance += (known.unfitted_share * UNFITTED_SIGMA) ** 2
    if known.compiled:
        variance += fit.compiled**2
    return np.asarray(np.sqrt(variance))


def widen_sigma(sigma: Array, known: UncertaintyFactors, fit: SigmaFit) -> Array:
    """
    Return a sigma that already counts devices and networks, widened by the causes that lie in the job.

    Emulated types, hosts that hold the step up, and operations without a formula.
    """
    variance = sigma**2 + np.where(known.emulated, fit.emulated**2, 0.0)
    variance += (known.launch_share * fit.launch_bound) ** 2
    variance += (known.unknown_bytes_share * fit.unknown_share) ** 2
    return np.asarray(np.sqrt(variance))


_ROUNDS = 4
"""Newton's steps from the left on a concave function: from the higher of the two quantiles, four give six digits."""
_FAR = 4.0
"""Standard deviations of both, apart by which one time alone is the longer one."""
_LEAST_SIGMA = 1e-6
"""Of a certain quantity, so that quotients by it are finite."""


def find_longer(
    first_s: Array, first_sigma: Array, second_s: Array, second_sigma: Array
) -> tuple[Array, Array]:
    """
    Return the median of the longer of two independent log-normal times, and the log-normal width of its upper side.

    >>> median, sigma = find_longer(np.ones(1), np.full(1, 0.1), np.ones(1), np.full(1, 0.1))
    >>> round(float(median[0]), 3), round(float(sigma[0]), 3)
    (1.056, 0.085)

    Args:
        first_s: medians, shape (n,).
        first_sigma: standard deviations of their logarithms.
        second_s: the same of the other time.
        second_sigma: the same.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.log(first_s / second_s)
    near = np.flatnonzero(np.abs(apart) < _FAR * (first_sigma + second_sigma))
    first = first_s >= second_s
    longer_s, sigma = np.where(first, first_s, second_s), np.where(first, first_sigma, second_sigma)
    if not len(near):
        return longer_s, sigma
    means = np.log(first_s[near]), np.log(second_s[near])
    sigmas = np.maximum(first_sigma[near], _LEAST_SIGMA), np.maximum(second_sigma[near], _LEAST_SIGMA)
    middle, upper = (_find_quantile(means, sigmas, chance, z) for chance, z in ((0.5, 0.0), (0.9, Z80)))
    longer_s[near], sigma[near] = np.exp(middle), (upper - middle) / Z80
    return longer_s, sigma


def _find_quantile(means: tuple[Array, Array], sigmas: tuple[Array, Array], chance: float, z: float) -> Array:
    """Return what the larger of two normal quantities does not exceed with a probability."""
    at = np.maximum(means[0] + z * sigmas[0], means[1] + z * sigmas[1])
    for _ in range(_ROUNDS):
        below, slope = np.zeros_like(at), np.zeros_like(at)
        for mean, sigma in zip(means, sigmas, strict=True):
            deviate = (at - mean) / sigma
            share = _find_share_below(deviate)
            below = below + np.log(share)
            slope = slope + np.exp(-(deviate**2) / 2) / (math.sqrt(2 * math.pi) * sigma * share)
        at = at + (math.log(chance) - below) / slope
    return at


def _find_share_below(deviate: Array) -> Array:
    """Return the share of a standard normal below, to 1e-7 (Abramowitz and Stegun 26.2.17)."""
    t = 1.0 / (1.0 + 0.2316419 * np.abs(deviate))
    terms = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    above = np.exp(-(deviate**2) / 2) / math.sqrt(2 * math.pi) * terms
    return np.where(deviate > 0, 1.0 - above, above)
