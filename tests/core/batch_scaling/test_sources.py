"""Where a critical batch comes from: the user, the noise scale, the token law, the prior, in this order."""

from __future__ import annotations

import doctest
import math
from importlib import import_module

import pytest

from trainfare_core.batch_scaling import (
    BatchPrior,
    CriticalBatchFit,
    choose_critical_batch,
    describe_source,
    judge_noise_scale,
    limit_by_tokens,
    load_critical_batch_fit,
    parse_critical_batch,
    predict_critical_batch,
)
from trainfare_core.errors import InputError

FIT = CriticalBatchFit(
    fitted_at="2026-01-31",
    data_sha256="",
    workloads=14,
    with_samples=BatchPrior(constant=8.0, per_log_base_batch=0.77, per_log_run_samples=0.26, log_sigma=1.3),
    without_samples=BatchPrior(constant=8.2, per_log_base_batch=0.7, per_log_run_samples=0.0, log_sigma=1.5),
)


@pytest.mark.parametrize("module", ["critical_batch", "prior", "sources", "not_predicted"])
def test_examples_run(module: str) -> None:
    found = doctest.testmod(import_module(f"trainfare_core.batch_scaling.{module}"))
    assert (found.failed, found.attempted > 0) == (0, True)


def test_the_prior_is_its_formula() -> None:
    critical = predict_critical_batch(3e7, 128, FIT)
    assert math.log(critical.median) == pytest.approx(8.0 + 0.26 * math.log(30) + 0.77 * math.log(0.5))
    assert (critical.log_sigma, critical.source, critical.at_least) == (1.3, "prior", 0.0)


def test_without_the_samples_of_the_run_the_prior_has_constants_of_its_own() -> None:
    critical = predict_critical_batch(None, 512, FIT)
    assert math.log(critical.median) == pytest.approx(8.2 + 0.7 * math.log(2))
    assert critical.log_sigma == 1.5


def test_the_prior_that_ships_is_dated_and_wide() -> None:
    fit = load_critical_batch_fit()
    assert len(fit.fitted_at) == 10
    assert fit.workloads == 14
    assert fit.without_samples.per_log_run_samples == 0.0
    for prior in (fit.with_samples, fit.without_samples):
        assert 1.0 < prior.log_sigma < 2.0
        assert 0.0 < prior.per_log_base_batch < 1.0


def test_the_prior_of_a_usual_job() -> None:
    """A batch of 256 in 1 M samples: about a quarter more samples at four times the batch, at most twice as many."""
    ratio = predict_critical_batch(1e6, 256).samples_ratio(256, [512, 1024, 2048, 4096])
    assert ratio.median.tolist() == pytest.approx([1.08, 1.25, 1.57, 2.23], abs=0.01)
    assert ratio.low.tolist() == pytest.approx([1.02, 1.05, 1.11, 1.23], abs=0.01)
    assert ratio.high.tolist() == pytest.approx([1.34, 2.03, 3.41, 6.16], abs=0.01)


@pytest.mark.parametrize(("samples", "base"), [(0.0, 8.0), (1e6, 0.0), (math.nan, 8.0), (None, math.inf)])
def test_a_run_of_nothing_has_no_prior(samples: float | None, base: float) -> None:
    with pytest.raises(InputError, match="give positive, finite numbers"):
        predict_critical_batch(samples, base)


def test_a_range_that_is_stated_is_the_80_percent_interval() -> None:
    interval = parse_critical_batch(" 400 .. 3,000 ").interval
    assert (interval.low_80, interval.mid, interval.high_80) == pytest.approx((400, math.sqrt(1.2e6), 3000))


def test_a_number_that_is_stated_is_known_within_a_factor_of_one_and_a_half() -> None:
    for text in ("900", "9e2", "0_900", "900.0"):
        interval = parse_critical_batch(text).interval
        assert (interval.low_80, interval.mid, interval.high_80) == pytest.approx((600, 900, 1350))


@pytest.mark.parametrize(
    "text",
    ["", "many", "-900", "0", "nan", "inf", "1e99", "400..", "..400", "400..400", "3000..400", "4..5..6", "400-3000", "1e13"],
)  # fmt: skip
def test_other_words_for_a_critical_batch_are_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(InputError, match=r"critical batch .*: write samples, such as 900, or .* 400\.\.3000"):
        parse_critical_batch(text)


def test_a_noise_scale_is_a_critical_batch_within_a_factor_of_4() -> None:
    interval = judge_noise_scale(177.0).interval
    assert (interval.low_80, interval.mid, interval.high_80) == pytest.approx((177 / 4, 177, 177 * 4))


@pytest.mark.parametrize("scale", [0.0, -3.0, math.nan, math.inf])
def test_a_noise_scale_that_is_no_figure_is_refused(scale: float) -> None:
    with pytest.raises(InputError, match=r"noise scale: .* leave it out, or measure more steps"):
        judge_noise_scale(scale)


def test_the_token_law_cuts_off_what_is_below_and_moves_a_prior_that_is() -> None:
    """0.58 D^0.571 of 10^11 tokens are 1.1 M tokens, 541 sequences of 2,048."""
    least = 0.58 * 1e11**0.571 / 2048
    above, below = (
        limit_by_tokens(predict_critical_batch(None, base, FIT), 1e11, 2048) for base in (4096, 8)
    )
    assert above.at_least == below.at_least == below.median == pytest.approx(least)
    assert above.median == predict_critical_batch(None, 4096, FIT).median
    for critical in (above, below):
        assert critical.source == "token_law"
        assert least < critical.interval.low_80 < critical.interval.mid < critical.interval.high_80
    assert below.interval.high_80 > 3 * below.interval.low_80
    assert above.interval.low_80 > predict_critical_batch(None, 4096, FIT).interval.low_80


@pytest.mark.parametrize(("tokens", "length"), [(0.0, 2048.0), (1e9, 0.0), (math.inf, 2048.0)])
def test_no_tokens_are_refused(tokens: float, length: float) -> None:
    with pytest.raises(InputError, match="give positive, finite numbers"):
        limit_by_tokens(predict_critical_batch(None, 8, FIT), tokens, length)


def test_the_best_source_is_taken() -> None:
    stated = parse_critical_batch("900")
    sources = {"stated": stated, "noise_scale_samples": 177.0, "scratch_tokens_per_sample": 2048}
    taken = []
    while True:
        critical = choose_critical_batch(base_batch=128, run_samples=1e7, **sources)
        taken.append(critical.source)
        if not sources:
            break
        sources.pop(next(iter(sources)))
    assert taken == ["stated", "noise_scale", "token_law", "prior"]
    assert choose_critical_batch(base_batch=128, run_samples=1e7, stated=stated) == stated
    assert choose_critical_batch(base_batch=128, run_samples=1e7) == predict_critical_batch(1e7, 128)


def test_each_source_is_said() -> None:
    prior = predict_critical_batch(1e6, 256)
    sources = (
        parse_critical_batch("900"),
        judge_noise_scale(900.0),
        limit_by_tokens(prior, 1e9, 2048),
        prior,
    )
    assert [describe_source(critical) for critical in sources] == [
        "as stated",
        "from the measured noise scale, a factor of 4 either way",
        "from 14 published workloads, and not below the best batch of its tokens",
        "from 14 published workloads, none measured here",
    ]


def test_the_token_law_needs_the_samples_of_the_run() -> None:
    critical = choose_critical_batch(base_batch=128, scratch_tokens_per_sample=2048)
    assert critical == predict_critical_batch(None, 128)
