"""Energy and carbon: published runs and nodes, the table of factors, and what is not known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from trainfare_core.clouds.facts import CLOUDS
from trainfare_core.documents import Interval, data_rows
from trainfare_core.energy import (
    RentedMachines,
    RunEnergy,
    add_measured,
    compute_carbon,
    compute_energy,
    estimate_energy,
    estimate_power,
)
from trainfare_core.hardware.accelerators import accelerator


def exact(value: float) -> Interval:
    return Interval(mid=value, low_80=value, high_80=value)


H100_NODE = RentedMachines(accelerator("H100-SXM-80GB"), 8, 1, math.nan, "aws", "us-east-1")


def rent(name: str, count: float) -> RentedMachines:
    return replace(H100_NODE, device=accelerator(name), count=count)


@pytest.mark.parametrize(
    ("device_hours", "mwh", "tonnes"),
    [(82_432, 36, 14), (135_168, 59, 23), (530_432, 233, 90), (1_022_362, 449, 173)],
)
def test_the_figures_of_llama(device_hours: float, mwh: float, tonnes: float) -> None:
    """Table 15 of arXiv 2302.13971, with its own factors: 400 W, PUE 1.1, 385 g/kWh."""
    kwh = compute_energy(exact(device_hours), exact(400), exact(1.1))
    assert kwh.mid / 1000 == pytest.approx(mwh, rel=0.02)
    assert compute_carbon(kwh, exact(385)).mid / 1000 == pytest.approx(tonnes, rel=0.02)


@pytest.mark.parametrize(
    ("name", "count", "kw"),
    [
        pytest.param("H100-SXM-80GB", 8, (7.7, 8.4), id="arXiv 2412.08602 and 2506.14551"),
        # 12,127,904 J of alternating current in 29.10069 minutes, Llama 2 70B LoRA
        pytest.param("H100-SXM-80GB", 8, (6.946, 6.946), id="MLPerf Training 4.0, SMC, immersed, verified"),
        # 330 W of each V100 of GPT-3, with memory, network, fans and host
        pytest.param("V100-SXM2-32GB", 8, (2.64, 2.64), id="arXiv 2104.10350, table 4"),
        pytest.param("TPU-v3", 4, (1.152, 1.24), id="arXiv 2104.10350, table 4: GShard and T5"),
    ],
)
def test_the_interval_holds_measured_nodes(name: str, count: int, kw: tuple[float, float]) -> None:
    power = estimate_power(rent(name, count))
    assert not isinstance(power, str)
    low, high = (sum(n * getattr(f.value, end) for n, f in zip((count, 1), power, strict=True)) / 1000
                 for end in ("low_80", "high_80"))  # fmt: skip
    assert low <= kw[0] <= kw[1] <= high < 1.5 * low


def test_accelerators_that_wait_or_are_unused_draw_less() -> None:
    busy, waiting, unused = (
        estimate_energy(exact(1), node).kwh
        for node in (H100_NODE, replace(H100_NODE, waiting=0.8), replace(H100_NODE, used=0.25))
    )
    assert busy is not None
    assert waiting is not None
    assert unused is not None
    assert unused.high_80 < busy.low_80
    assert waiting.low_80 < 0.7 * busy.low_80
    assert waiting.mid < busy.mid
    assert waiting.high_80 >= busy.mid


def test_many_vcpus_are_the_host_of_a_small_gpu() -> None:
    small, large = (estimate_power(replace(rent("T4-16GB", 1), vcpus=vcpus)) for vcpus in (4, 64))
    assert not isinstance(small, str)
    assert not isinstance(large, str)
    assert small[1].value.mid == pytest.approx(0.44 * 70)
    assert large[1].value.mid == pytest.approx(2.1 * 64)


@pytest.mark.parametrize(
    ("machines", "kwh_known", "because"),
    [
        (rent("TPU-v5p", 4), False, "the power of TPU-v5p is not published"),
        (replace(H100_NODE, cloud="lambda"), False, "no PUE of lambda is at hand"),
        (replace(H100_NODE, region="ca-west-1"), True, "no figure of the grid of aws ca-west-1 is at hand"),
        (H100_NODE, True, ""),
    ],
)
def test_what_is_not_known_is_said(machines: RentedMachines, kwh_known: bool, because: str) -> None:
    energy = estimate_energy(exact(10), machines)
    assert (energy.kwh is not None, energy.unknown_because) == (kwh_known, because)
    assert (energy.kg_co2e is None) == bool(because)
    assert RunEnergy.model_validate_json(energy.model_dump_json()) == energy
    names = ["accelerator_w", "host_w", "pue", "grid_g_per_kwh"]
    assert [factor.name for factor in energy.factors] == names[: len(energy.factors)]
    assert all(factor.source and factor.year >= 2021 for factor in energy.factors)


def test_a_measured_accelerator_takes_the_place_of_the_planned_one() -> None:
    energy = add_measured(2, replace(H100_NODE, nodes=3), 500, 2026)
    watts = energy.factors[0]
    assert (watts.value.mid, watts.year, watts.source) == (500, 2026, "measured by NVML")
    assert energy.kwh is not None
    assert energy.kwh.mid == pytest.approx(2 * 3 * (8 * 500 + 2464) * 1.15 / 1000, rel=1e-3)
    unknown = add_measured(2, RentedMachines(None, 1, 1, math.nan, "", ""), 500, 2026)
    assert (unknown.kwh, unknown.factors[0].value.mid) == (None, 500)


def test_the_interval_of_a_product_adds_squares_of_logarithms() -> None:
    twice = Interval(mid=1, low_80=0.5, high_80=2)
    kwh = compute_energy(twice, twice, exact(1000))
    assert (kwh.mid, kwh.low_80, kwh.high_80) == pytest.approx((1, 2 ** -(2**0.5), 2 ** (2**0.5)), rel=1e-3)
    assert compute_energy(Interval(mid=1, low_80=0, high_80=2), twice, exact(1)).low_80 == 0


def test_every_factor_is_dated_ordered_and_licensed() -> None:
    rows, sources = data_rows("energy_factors.csv"), data_rows("energy_sources.csv")
    assert {row["source"] for row in rows} == {source["id"] for source in sources}
    assert all(source["title"] and source["where"] and source["licence"] for source in sources)
    keys = [(row["factor"], row["cloud"], row["place"]) for row in rows]
    assert len(set(keys)) == len(keys)
    for row in rows:
        assert 0 <= float(row["low"]) <= float(row["mid"]) <= float(row["high"])
        assert 2021 <= int(row["year"]) <= 2026
    regions = {(name, region) for name, cloud in CLOUDS.items() for region in cloud.country_of_region}
    grids = {(row["cloud"], row["place"]) for row in rows if row["factor"] == "grid"}
    # Alberta's grid is not Canada's: a country's mean would be wrong by a factor of three.
    assert regions - grids == {("aws", "ca-west-1")}
    assert grids <= regions
