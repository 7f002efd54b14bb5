"""The critical batches of published workloads, the prior, and that nothing is scored by a fit that saw it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from trainfare_core.batch_scaling import BatchPrior, CriticalBatchFit
from trainfare_research.data.build_batch_points import BATCH_TABLES
from trainfare_research.fitting.critical_batch import (
    Curve,
    Observation,
    RatioScore,
    fit_critical_batches,
    fit_hyperbola,
    fit_prior,
    miss_largest,
    observe_critical_batch,
    predict_hyperbola,
    predict_power_law,
    read_curves,
    score_curve,
    score_left_out,
    summarize,
)
from trainfare_research.pages.critical_batch import PAGE, write_page
from trainfare_research.runners.fit_critical_batch import OUT, main

KNOWN = {
    "resnet": 47_000, "bert": 12_800, "ssd300": 5_100, "maskrcnn": 830, "rnnt": 3_700, "gpt3": 17_000, "unet3d": 440,
    "rgat": 116_000, "llama31_405b": 5_600, "oc20": 2_500, "deepcam": 830, "gpt_oss_20b": 72,
}  # fmt: skip
"""Critical batches by another fit to the same source, with plain means of the runs."""


def make_curve(
    name: str, critical: float, *, base: float = 64.0, least: float = 1e6, batches: int = 5
) -> Curve:
    sizes = base * 2.0 ** np.arange(batches)
    return Curve(name, sizes, least * (1 + sizes / critical))


@pytest.mark.parametrize("name", KNOWN)
def test_each_critical_batch_is_found_again(name: str) -> None:
    (curve,) = [
        curve for curve in read_curves(BATCH_TABLES / "published_points.csv") if curve.workload == name
    ]
    fitted = fit_hyperbola(curve)
    assert fitted.critical_batch == pytest.approx(KNOWN[name], rel=0.1)
    assert fitted.rms < 0.09
    samples = fitted.predict(np.linspace(1, 2 * curve.batches[-1], 50))
    assert np.all(np.diff(samples) > 0)


def test_a_hyperbola_is_found_exactly() -> None:
    fitted = fit_hyperbola(make_curve("made", 900.0, least=5e6))
    assert (fitted.critical_batch, fitted.least_samples) == pytest.approx((900.0, 5e6), rel=1e-4)
    assert fitted.rms == pytest.approx(0.0, abs=1e-6)


def test_the_largest_batch_is_missed_less_than_by_a_power_law() -> None:
    curves = read_curves(BATCH_TABLES / "published_points.csv")
    hyperbola, power = (miss_largest(curves, predict) for predict in (predict_hyperbola, predict_power_law))
    assert len(hyperbola) == 11
    assert np.median(list(hyperbola.values())) < 0.06
    assert np.median(list(power.values())) > 0.12
    assert miss_largest([make_curve("made", 900.0)], predict_hyperbola)["made"] == pytest.approx(0, abs=1e-6)


def made_workloads(scatter: float = 0.0) -> list[Curve]:
    """Workloads whose critical batch is 2,000 (E / 1e6)^0.3 (B0 / 256)^0.7, with some scatter."""
    rng = np.random.default_rng(1)
    curves = []
    for i in range(12):
        base, samples = 2.0 ** rng.integers(3, 12), 10.0 ** rng.uniform(5, 8)
        critical = (
            2000 * (samples / 1e6) ** 0.3 * (base / 256) ** 0.7 * np.exp(scatter * rng.standard_normal())
        )
        curves.append(make_curve(f"w{i}", critical, base=base, least=samples / (1 + base / critical)))
    return curves


def observe_all(scatter: float = 0.0) -> list[Observation]:
    return [observe_critical_batch(curve) for curve in made_workloads(scatter)]


def test_the_prior_finds_what_was_drawn() -> None:
    prior = fit_prior(observe_all(), by_samples=True)
    assert prior.constant == pytest.approx(np.log(2000), abs=0.01)
    assert (prior.per_log_run_samples, prior.per_log_base_batch) == pytest.approx((0.3, 0.7), abs=0.01)
    assert prior.log_sigma < 0.01
    without = fit_prior(observe_all(), by_samples=False)
    assert without.per_log_run_samples == 0.0
    assert without.log_sigma > 0.2


def test_the_width_is_that_of_workloads_left_out() -> None:
    """Twelve workloads with scatter of 1: errors of those left out are larger than the residuals of the fit."""
    assert 0.8 < fit_prior(observe_all(1.0), by_samples=True).log_sigma < 2.0


def test_a_workload_is_scored_by_a_fit_to_the_others() -> None:
    """The one that is a hundred times off lies outside, whatever it would do to a fit of its own."""
    curves = [*made_workloads(0.1), make_curve("odd", 20.0, base=256.0)]
    odd = [score for score in score_left_out(curves) if score.workload == "odd"]
    assert len(odd) == 4
    assert not any(score.is_inside for score in odd)
    others = fit_critical_batches(observe_all(0.1), "2026-01-31", "")
    assert odd == score_curve(curves[-1], others)


def test_ratios_are_scored_up_to_16_times_the_least_batch() -> None:
    prior = BatchPrior(constant=8.0, per_log_base_batch=0.7, per_log_run_samples=0.3, log_sigma=1.3)
    fit = CriticalBatchFit(
        fitted_at="", data_sha256="", workloads=1, with_samples=prior, without_samples=prior
    )
    scores = score_curve(make_curve("made", 900.0, batches=7), fit)
    assert [score.times for score in scores] == [2.0, 4.0, 8.0, 16.0]
    assert scores[1].measured == pytest.approx((1 + 256 / 900) / (1 + 64 / 900))


def test_the_summary_counts_what_is_inside_and_the_width_at_4_times() -> None:
    scores = [RatioScore("a", 2.0, 1.2, 1.0, 1.1, 1.3), RatioScore("a", 4.1, 2.0, 1.0, 1.5, 1.8)]
    summary = summarize(scores)
    assert (summary.ratios, summary.inside, summary.width_at_4) == (2, 0.5, 1.8)
    assert summary.median_error == pytest.approx((1 - 1.1 / 1.2 + 0.25) / 2)
    assert [score.is_judged() for score in (*scores, RatioScore("a", 3.0, 1, 1, 1, 1))] == [True, True, False]
    assert np.isnan(summarize(scores[:1]).width_at_4)


def test_the_constants_that_ship_are_fitted_without_the_judged_workloads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command is given a folder that has no other table than the fitted one."""
    shutil.copy(BATCH_TABLES / "published_points.csv", tmp_path)
    shipped = json.loads(OUT.read_text(encoding="utf-8"))
    main(["--data", str(tmp_path), "--date", shipped["fitted_at"], "--out", str(tmp_path / "fit.json")])
    assert json.loads((tmp_path / "fit.json").read_text(encoding="utf-8")) == shipped
    assert "rnnt  Bc     3,698" in capsys.readouterr().out


def test_the_page_is_current_and_says_which_bars_are_missed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == write_page(BATCH_TABLES)
    assert "| ratios inside the 80 % interval | 100 % | >= 75 % | met |" in page
    assert "| median error | 20.8 % | <= 20 % | **missed** |" in page
    assert "| median width at 4 times | 1.86 | <= 2.0 | met |" in page
