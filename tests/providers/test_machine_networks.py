"""Published machine networks: known ones are right, unknown ones stay unknown."""

from __future__ import annotations

import csv
from importlib.resources import files

import pytest

from trainfare_providers.machine_types import network_gbit_per_s


@pytest.mark.parametrize(
    ("provider", "instance_type", "gbit_per_s"),
    [
        ("aws", "p3dn.24xlarge", 100),
        ("aws", "p4d.24xlarge", 400),
        ("aws", "p5.48xlarge", 3200),
        ("aws", "p5.4xlarge", 100),
        ("aws", "trn1.32xlarge", 800),
        ("aws", "trn1n.32xlarge", 1600),
        ("aws", "g5.xlarge", 2.5),
        ("aws", "ml.p4d.24xlarge", 400),
        ("azure", "Standard_ND40rs_v2", 100),
        ("azure", "Standard_ND96amsr_A100_v4", 1600),
        ("azure", "Standard_ND96isr_H100_v5", 3200),
        ("gcp", "a3-highgpu-8g", 800),
        ("gcp", "a3-megagpu-8g", 1600),
        ("gcp", "a2-highgpu-1g", 24),
        # EC2 DescribeInstanceTypes, NetworkInfo
        ("aws", "trn2.3xlarge", 200),
        ("aws", "trn2u.48xlarge", 3200),
        # aws.amazon.com/ec2/instance-types/p6: 28.8 Tbit/s an UltraServer of 72
        ("aws", "u-p6e-gb200x72", 28800),
        ("aws", "u-p6e-gb200x36", 14400),
        # learn.microsoft.com/azure/virtual-machines/sizes/gpu-accelerated/nd-gb300-v6-series: 4 x 800
        ("azure", "Standard_ND128isr_GB300_v6", 3200),
        # docs.cloud.google.com/compute/docs/gpus/gpu-network-bandwidth: 4 NICs of 400, of 800 for GPUs
        ("gcp", "a4x-highgpu-4g", 1600),
        ("gcp", "a4x-maxgpu-4g-metal", 3200),
        # docs.cloud.google.com/compute/docs/gpus/gpu-network-bandwidth: N1, 2 a vCPU up to the GPUs' limit
        ("gcp", "n1-standard-4+nvidia-tesla-t4x1", 8),
        ("gcp", "n1-standard-32+nvidia-tesla-t4x4", 64),
        ("gcp", "n1-standard-16+nvidia-tesla-v100x2", 32),
        ("gcp", "n1-standard-64+nvidia-tesla-v100x8", 100),
        ("gcp", "n1-standard-32+nvidia-tesla-p100x4", 32),
        ("gcp", "n1-standard-8+nvidia-tesla-p4x1", 16),
    ],
)
def test_published_rates(provider: str, instance_type: str, gbit_per_s: float) -> None:
    """Rates are per machine and direction: sustained ones where the cloud says "up to", accelerator cards only."""
    assert network_gbit_per_s(provider, instance_type) == gbit_per_s


@pytest.mark.parametrize(
    ("provider", "instance_type"),
    [
        ("gcp", "v5p-8"),
        ("azure", "Standard_NC24rs_v3"),
        ("aws", "p6e-gb200.36xlarge"),
        ("gcp", "p4d.24xlarge"),
    ],
)
def test_unpublished_rate_is_unknown(provider: str, instance_type: str) -> None:
    """No rate is invented for TPU slices, silent pages, contradicting sources, or another cloud's machine."""
    assert network_gbit_per_s(provider, instance_type) is None


def test_every_rate_has_its_source_once() -> None:
    """Each machine stands once, with a rate above 0 and a source."""
    text = (files("trainfare_core") / "data" / "networks.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len({(row["provider"], row["instance_type"]) for row in rows}) == len(rows) > 100
    assert all(float(row["network_gbit_per_s"]) > 0 and row["source"] for row in rows)
