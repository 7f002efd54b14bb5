"""A change of cost splits exactly into its causes; NVIDIA's sales give 25.9 % a year."""

from __future__ import annotations

import math

import pytest

from trainfare_core.decline import DeclineError, LogRate, RunState, decimal_year, decompose, run_cost
from trainfare_core.decline.decomposition import PartLine

GPT2 = (
    RunState(decimal_year("2019-02-14"), 1.92e21, 8.0, 4.92e14, 0.2016, 43_008),
    RunState(decimal_year("2026-01-29"), 4.33078e19, 3.0, 9.894e14, 0.4997, 72.9964),
)
"""TPU v3-8 boards (4 chips of 123 TFLOP/s) against H100s at $3; Epoch AI and karpathy/nanochat."""
GPT3_QUALITY = (
    RunState(decimal_year("2020-05-28"), 3.14e23, 1.5, 1.25e14, 0.2240, 4.67262e6),
    RunState(decimal_year("2022-09-29"), 1.098e23, 2.0, 3.12e14, 0.4345, 450_000),
)
"""V100 against A100 at an assumed $2 an hour; Lambda Labs and MosaicML."""


def causes(earlier: RunState, later: RunState) -> dict[str, PartLine]:
    return {part.cause: part for part in decompose(earlier, later).parts}


@pytest.mark.parametrize(
    ("case", "factor", "shares"),
    [(GPT2, 589, (0.594, 0.154, 0.110, 0.142)), (GPT3_QUALITY, 10.4, (0.449, -0.123, 0.391, 0.283))],
    ids=["GPT-2", "GPT-3 quality"],
)
def test_worked_cases(
    case: tuple[RunState, RunState], factor: float, shares: tuple[float, float, float, float]
) -> None:
    """Shares of algorithm, price, hardware and utilisation to three digits, adding to 1."""
    split = causes(*case)
    assert split["total"].factor == pytest.approx(factor, rel=0.005)
    parts = [split[name] for name in ("algorithm", "price", "hardware", "utilisation")]
    assert tuple(part.share for part in parts) == pytest.approx(shares, abs=0.0006)
    assert math.fsum(part.share for part in parts) == pytest.approx(1, abs=1e-12)
    assert split["price_performance"].factor == pytest.approx(
        split["price"].factor * split["hardware"].factor
    )


def test_rates_of_the_parts_compose_to_the_total() -> None:
    """Each part's yearly rate; the A100-hour was more expensive, so its price rate is a rise."""
    split = causes(*GPT3_QUALITY)
    assert split["price"].decline_per_year < 0
    years = GPT3_QUALITY[1].year - GPT3_QUALITY[0].year
    total = LogRate.from_decline(split["total"].decline_per_year)
    assert total.log_per_year == pytest.approx(-math.log(split["total"].factor) / years)


def test_ark_split_by_log_share() -> None:
    """57 % and 47 % a year are 57 % and 43 % of the log decline."""
    hardware, software = (LogRate.from_decline(d).log_per_year for d in (0.57, 0.47))
    assert round(hardware / (hardware + software), 2) == 0.57


def test_cost_identity() -> None:
    """C = F p / (Pi u): a V100-year at 28 TFLOP/s and $1.50."""
    assert run_cost(3.14e23, 28e12, 1.0, 1.5) == pytest.approx(4.67e6, rel=0.001)


def test_contradictory_costs_are_refused() -> None:
    """A cost 3 % off its factors, impossible factors, the same date, and no change at all."""
    state = RunState(2020, 1e21, 2.0, 1e14, 0.5)
    with pytest.raises(DeclineError, match="not FLOP"):
        RunState(2020, 1e21, 2.0, 1e14, 0.5, state.cost_usd * 1.03)
    for bad in (
        (0, 2.0, 1e14, 0.5),
        (1e21, -1, 1e14, 0.5),
        (1e21, 2.0, math.inf, 0.5),
        (1e21, 2.0, 1e14, 1.1),
    ):
        with pytest.raises(DeclineError, match="above 0"):
            RunState(2020, *bad)
    with pytest.raises(DeclineError, match="not after"):
        decompose(state, state)
    with pytest.raises(DeclineError, match="did not change"):
        decompose(state, RunState(2021, 1e21, 2.0, 1e14, 0.5))


A100_2022 = 212_120, 66_883, 14_142.1
"""Chips sold, H100-equivalents, USD a chip: NVIDIA's first quarter of 2022. Epoch AI chip counts and price inputs."""
LAST_QUARTER_2025 = (
    (23_384, 23_384, 23_237.9),
    (417_621, 1_055_131, 36_742.3),
    (743_724, 1_879_039, 36_742.3),
)
"""The same for H100, B200 and B300."""


def test_nvidia_dollars_per_h100_equivalent() -> None:
    """T10: $44,851 in 2022Q1 to $14,611 in 2025Q4, 25.9 % a year."""
    first = A100_2022[0] * A100_2022[2] / A100_2022[1]
    last = sum(n * usd for n, _, usd in LAST_QUARTER_2025) / sum(h for _, h, _ in LAST_QUARTER_2025)
    assert first == pytest.approx(44_851, rel=1e-4)
    assert last == pytest.approx(14_611, rel=1e-3)
    assert round(100 * LogRate.from_points(2022.125, first, 2025.875, last).decline, 1) == pytest.approx(
        25.9, abs=0.11
    )
