"""Sources of a critical batch that are better than the prior, and the choice between all of them."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from statistics import NormalDist
from typing import Final

from trainfare_core.batch_scaling.critical_batch import CriticalBatch
from trainfare_core.batch_scaling.prior import load_critical_batch_fit, predict_critical_batch
from trainfare_core.errors import InputError

_Z80: Final = NormalDist().inv_cdf(0.9)
"""Standard deviations from the median to either end of the central 80 %."""

STATED_FACTOR: Final = 1.5
"""Either way, the 80 % of a single number that a user states. Of the published workloads, nine in ten critical batches
move by less when any one of their batches is left out (research/docs/critical-batch.md), and no user measured more."""

NOISE_SCALE_FACTOR: Final = 4.0
"""Either way, the 80 % of a critical batch of which the simple noise scale of the gradients was measured: it was a
factor of 4 too high for MNIST (McCandlish et al. 2018), grows as the loss falls, and is not the critical batch under
Adam."""

TOKENS_FACTOR: Final = 0.58
TOKENS_POWER: Final = 0.571
"""The batch of least loss of decoders trained from scratch on D tokens, 0.58 D^0.571 tokens: Li et al., "Predictable
scale: Part I, step law", 2025, arXiv 2503.04715. A batch that loses nothing is not above the critical one."""

_MOST: Final = 1e12
"""Samples of a critical batch that a user may state: more than any data set has."""

_NUMBER: Final = r"\s*(\d[\d_,]*(?:\.\d+)?(?:e\d{1,2})?)\s*"
_STATED: Final = re.compile(rf"{_NUMBER}(?:\.\.{_NUMBER})?", re.IGNORECASE)


def parse_critical_batch(text: str) -> CriticalBatch:
    """
    Return the critical batch that a user states: one number of samples, or the ends of its 80 % interval.

    A single number is taken as known within a factor of 1.5 at 80 %, as a careful measurement is.

    Example:
        >>> interval = parse_critical_batch("400..3000").interval
        >>> round(interval.low_80), round(interval.mid), round(interval.high_80)
        (400, 1095, 3000)
        >>> round(parse_critical_batch("900").interval.low_80)
        600

    Raises:
        InputError: the text is neither, or its numbers are not positive, rising and below 10^12.
    """
    match = _STATED.fullmatch(text)
    advice = "write samples, such as 900, or both ends of what it is in 8 of 10 cases, such as 400..3000"
    if match is None:
        raise InputError(f"critical batch {text!r}: {advice}")
    low, high = (None if part is None else float(re.sub("[_,]", "", part)) for part in match.groups())
    if low is None or not 0 < low < _MOST or (high is not None and not low < high < _MOST):
        raise InputError(
            f"critical batch {text!r}: the numbers must be above 0, rising and below 10^12: {advice}"
        )
    if high is None:
        return CriticalBatch(low, math.log(STATED_FACTOR) / _Z80, "stated")
    return CriticalBatch(math.sqrt(low * high), math.log(high / low) / (2 * _Z80), "stated")


def judge_noise_scale(noise_scale_samples: float) -> CriticalBatch:
    """
    Return the critical batch of a run whose gradient noise scale was measured, within a factor of 4 at 80 %.

    The simple noise scale tr(S) / |G|^2 of McCandlish et al. 2018 (arXiv 1812.06162, equation 2.9) is near the
    critical batch where curvature is alike in all directions, and not known to be under Adam.

    Example:
        >>> interval = judge_noise_scale(900.0).interval
        >>> round(interval.low_80), round(interval.mid), round(interval.high_80)
        (225, 900, 3600)

    Raises:
        InputError: the scale is not positive and finite: the measurement gave no figure.
    """
    if not 0 < noise_scale_samples < math.inf:
        raise InputError(
            f"noise scale: {noise_scale_samples} samples are no measurement: leave it out, or measure more steps"
        )
    return CriticalBatch(noise_scale_samples, math.log(NOISE_SCALE_FACTOR) / _Z80, "noise_scale")


def limit_by_tokens(prior: CriticalBatch, run_tokens: float, tokens_per_sample: float) -> CriticalBatch:
    """
    Return the prior of a decoder trained from scratch, not below the best batch of its tokens.

    `0.58 D^0.571` tokens (the step law, arXiv 2503.04715) is a batch without loss; the critical one is at least that:
    the prior is cut off there. Where its median is lower, it is moved up to the bound first, so that it keeps a width.

    Example:
        >>> prior = CriticalBatch(median=100.0, log_sigma=1.3, source="prior")
        >>> limited = limit_by_tokens(prior, run_tokens=1e11, tokens_per_sample=2048)
        >>> round(limited.at_least), round(limited.interval.low_80), round(limited.interval.high_80)
        (541, 637, 4589)

    Args:
        prior: without the law.
        run_tokens: tokens that the run sees.
        tokens_per_sample: length of a sequence.

    Raises:
        InputError: the tokens are not positive and finite.
    """
    if not all(0 < value < math.inf for value in (run_tokens, tokens_per_sample)):
        raise InputError(
            f"critical batch: a run of {run_tokens} tokens, {tokens_per_sample} a sample: give positive, finite numbers"
        )
    least = TOKENS_FACTOR * run_tokens**TOKENS_POWER / tokens_per_sample
    return replace(prior, median=max(prior.median, least), source="token_law", at_least=least)


def choose_critical_batch(
    *,
    base_batch: float,
    run_samples: float | None = None,
    stated: CriticalBatch | None = None,
    noise_scale_samples: float | None = None,
    scratch_tokens_per_sample: float | None = None,
) -> CriticalBatch:
    """
    Return the critical batch of a run from its best source: stated, noise scale, token law, prior.

    Example:
        >>> choose_critical_batch(base_batch=128, run_samples=1e7, noise_scale_samples=900.0).source
        'noise_scale'
        >>> choose_critical_batch(base_batch=128, run_samples=1e7, scratch_tokens_per_sample=2048).source
        'token_law'
        >>> choose_critical_batch(base_batch=128).source
        'prior'

    Args:
        base_batch: samples a step of the run as it is, over all devices.
        run_samples: that it sees, all epochs counted; None: not known.
        stated: what the user says, see `parse_critical_batch`.
        noise_scale_samples: what FareMeter measured of this job.
        scratch_tokens_per_sample: length of a sequence of a decoder that is trained from scratch; None for any other
            model, and where weights are loaded.

    Raises:
        InputError: a number is not positive and finite.
    """
    if stated is not None:
        return stated
    if noise_scale_samples is not None:
        return judge_noise_scale(noise_scale_samples)
    prior = predict_critical_batch(run_samples, base_batch)
    if scratch_tokens_per_sample is None or run_samples is None:
        return prior
    return limit_by_tokens(prior, run_samples * scratch_tokens_per_sample, scratch_tokens_per_sample)


def describe_source(critical: CriticalBatch) -> str:
    """
    Return where a critical batch comes from, in words that follow its figures.

    >>> describe_source(parse_critical_batch("900")), describe_source(predict_critical_batch(1e6, 256))
    ('as stated', 'from 14 published workloads, none measured here')
    """
    published = f"from {load_critical_batch_fit().workloads} published workloads"
    return {
        "stated": "as stated",
        "noise_scale": f"from the measured noise scale, a factor of {NOISE_SCALE_FACTOR:g} either way",
        "token_law": f"{published}, and not below the best batch of its tokens",
        "prior": f"{published}, none measured here",
    }[critical.source]
