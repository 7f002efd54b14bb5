"""Processors of machines: the table, and how a machine or a processor is found in it."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from trainfare_core.documents import data_rows
from trainfare_core.hardware.hosts import (
    describe_hosts,
    explain_unknown_host,
    find_host,
    number_hosts,
    usual_host,
)


def test_every_row_has_its_source_its_licence_and_its_date() -> None:
    """The table is derived from data under CC BY-SA, which asks for credit and the same licence."""
    rows = data_rows("hosts.csv")
    assert len(rows) > 150
    for row in rows:
        assert "Spare Cores" in row["source"]
        assert "CC BY-SA 4.0" in row["source"]
        assert row["observed_on"].startswith("2026-")
        assert row["threads_per_core"] in ("1", "2")
        share = float(row["vcpu_score"]) / float(row["thread_score"])
        # Threads that share a core are worth less than two cores; whole cores nearly as much as alone.
        assert share < (0.78 if row["threads_per_core"] == "2" else 1.05), row


@pytest.mark.parametrize(
    "name",
    ["g2-standard-12", "gcp:g2-standard-12@us-central1", "G2-Standard-12"],
)
def test_a_machine_is_found_by_its_name(name: str) -> None:
    """With cloud and region, as FareMeter takes it, or by the type alone."""
    host = find_host(name)
    assert host is not None
    assert (host.vcpus, host.threads_per_core, host.thread_score, host.vcpu_score) == (12, 2, 512, 304)


def test_a_processor_is_found_as_the_kernel_names_it() -> None:
    """/proc/cpuinfo names the processor of a host whose machine type is not stated; its score is less sure."""
    host, machine = find_host("Intel(R) Xeon(R) CPU @ 2.20GHz"), find_host("g2-standard-12")
    assert host is not None
    assert machine is not None
    assert math.isnan(host.vcpus)
    assert host.thread_score == pytest.approx(machine.thread_score, rel=0.05)
    assert host.log_sigma > machine.log_sigma
    assert find_host("ml.g5.xlarge") == find_host("g5.xlarge")  # SageMaker rents EC2's machines
    assert find_host("") is None
    assert find_host("c99.huge") is None
    assert "g2-standard-12" in explain_unknown_host("g2-standard-13")


def test_machines_are_numbered_by_their_processor() -> None:
    """Machines of one processor and score share a number; one that is not known is the usual host."""
    machines = pl.DataFrame(
        {
            "provider": ["aws", "aws", "azure", "gcp"],
            "instance_type": ["g6e.xlarge", "ml.g6e.2xlarge", "Standard_NC40ads_H100_v5", "new-type"],
        }
    )
    number = number_hosts(machines).fill_null(-1).to_numpy()
    assert number[0] == number[1] != number[2]
    assert number[3] == -1
    hosts = describe_hosts(number)
    assert hosts.vcpu_score[2] == 860
    assert hosts.vcpu_score[3] == usual_host().vcpu_score
    assert hosts.log_sigma[3] > 0.25 > hosts.log_sigma.min()
    assert np.all(describe_hosts(np.array([-1])).threads_per_core == 2)
