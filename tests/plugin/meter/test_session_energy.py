"""The energy of a metered session: what the counter tells, what is said, and what is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from tests.builders import contract
from trainfare.meter.nvml import read_energy_j
from trainfare.meter.services import MeterServices
from trainfare.meter.session_energy import SessionEnergy
from trainfare_core.ledger.run_record import RunMachine, RunRecord

NODE = RunMachine(cloud="aws", instance_type="p5.48xlarge", region="us-east-1", accelerator="H100-SXM-80GB",
                  accelerators=8, nodes=2)  # fmt: skip


def make_services(joules: Iterator[float | None], seconds: float = 3600.0) -> MeterServices:
    clock = count(step=seconds)

    def read(device: torch.device) -> float | None:
        return next(joules)

    return replace(MeterServices(), read_energy_j=read, now=lambda: float(next(clock)))


def test_the_counter_becomes_energy_and_carbon() -> None:
    session = SessionEnergy(make_services(iter([1e6, 1e6 + 500 * 3600])), torch.device("cpu"))
    found = session.end(NODE)
    assert found is not None
    energy, text = found
    assert energy.kwh is not None
    assert energy.kg_co2e is not None
    assert energy.kwh.mid == pytest.approx(2 * (8 * 500 + 2464) * 1.15 / 1000, rel=1e-3)
    assert text.startswith(
        "energy of this session: 500 W at an accelerator by NVML, 8 kWh at all 16; with host"
    )
    assert "kg CO2e" in text
    bare = SessionEnergy(make_services(iter([0.0, 3600.0])), torch.device("cpu")).end(RunMachine())
    assert bare is not None
    assert "not known, because" in bare[1]


@pytest.mark.parametrize("joules", [(None, None), (5.0, None), (5.0, 4.0)])
def test_a_counter_that_does_not_tell_or_was_reset_gives_no_energy(joules: tuple[float | None, ...]) -> None:
    assert SessionEnergy(make_services(iter(joules)), torch.device("cpu")).end(NODE) is None
    assert read_energy_j(torch.device("cpu")) is None


def test_a_run_says_and_records_its_energy() -> None:
    lines: list[str] = []
    records: list[RunRecord] = []

    def write_run(record: RunRecord, folder: Path) -> Path:
        records.append(record)
        return folder / record.file_name

    counter = make_services(count(step=1000.0)).read_energy_j
    services = contract.fake_services(say=lines.append, write_run=write_run, read_energy_j=counter)
    contract.fit([contract.meter(services)])
    assert [line for line in lines if "by NVML" in line]
    assert records[-1].energy is not None
    assert records[-1].energy.factors[0].source == "measured by NVML"
