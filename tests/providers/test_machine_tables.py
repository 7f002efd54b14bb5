"""The tables of machines, regions and TPU slices: cells as the clouds document them, and why a machine has no price."""

from __future__ import annotations

import csv
import re
from functools import cache

import pytest

from trainfare_core.documents import data_text
from trainfare_core.errors import UnknownNameError
from trainfare_providers.gcp.machines import machines
from trainfare_providers.machine_types import network_gbit_per_s, table_rows
from trainfare_providers.snapshot import SnapshotProvider

SLICES = {
    f"{row['slices']}-{size}" for row in table_rows("gcp_tpu_zones.csv") for size in row["sizes"].split()
}
MACHINES = {
    (cloud, row["instance_type"]): row
    for cloud in ("aws", "azure", "gcp")
    for row in table_rows(f"{cloud}_machines.csv")
}


@cache
def reasons() -> dict[str, str]:
    rows = csv.DictReader(data_text("unpriced.csv").splitlines())
    return {name: row["reason"] for row in rows for name in row["names"].split()}


@cache
def list_priced() -> frozenset[str]:
    return frozenset(SnapshotProvider().load().frame["instance_type"].cast(str))


@pytest.mark.parametrize(
    ("cloud", "machine", "accelerator", "count", "vcpus", "memory_gib"),
    [
        # docs.aws.amazon.com/eks/latest/userguide/ml-eks-nvidia-ultraserver.html and aws.amazon.com/ec2/instance-types/p6
        ("aws", "p6e-gb200.36xlarge", "GB200-NVL-186GB", 4, 144, 960),
        # learn.microsoft.com/azure/virtual-machines/sizes/gpu-accelerated/nd-gb300-v6-series
        ("azure", "Standard_ND128isr_GB300_v6", "GB300-NVL-277GB", 4, 128, 864),
        # aspire.dev/reference/api/csharp/aspire.hosting.azure.kubernetes, class StandardNCADSA10v4
        ("azure", "Standard_NC8ads_A10_v4", "A10-24GB", 1, 8, 100),
        ("azure", "Standard_NC16ads_A10_v4", "A10-24GB", 1, 16, 200),
        ("azure", "Standard_NC32ads_A10_v4", "A10-24GB", 2, 32, 400),
        # the same list, class StandardNCdsRTXPRO6000BSEv6XL
        ("azure", "Standard_NC24lds_xl_RTXPRO6000BSE_v6", "RTXPRO6000-96GB", 0.25, 24, 72),
        ("azure", "Standard_NC36ds_xl_RTXPRO6000BSE_v6", "RTXPRO6000-96GB", 0.25, 36, 132),
        ("azure", "Standard_NC36lds_xl_RTXPRO6000BSE_v6", "RTXPRO6000-96GB", 0.25, 36, 72),
        ("azure", "Standard_NC72ds_xl_RTXPRO6000BSE_v6", "RTXPRO6000-96GB", 0.5, 72, 264),
        ("azure", "Standard_NC72lds_xl_RTXPRO6000BSE_v6", "RTXPRO6000-96GB", 0.5, 72, 132),
        ("azure", "Standard_NC144ds_xl_RTXPRO6000BSE_v6", "RTXPRO6000-96GB", 1, 144, 516),
        ("azure", "Standard_NC144lds_xl_RTXPRO6000BSE_v6", "RTXPRO6000-96GB", 1, 144, 264),
        ("azure", "Standard_NC288ds_xl_RTXPRO6000BSE_v6", "RTXPRO6000-96GB", 2, 288, 1032),
        ("azure", "Standard_NC288lds_xl_RTXPRO6000BSE_v6", "RTXPRO6000-96GB", 2, 288, 516),
        # docs.cloud.google.com/compute/docs/gpus
        ("gcp", "a4x-highgpu-4g", "GB200-NVL-186GB", 4, 140, 884),
        ("gcp", "a4x-maxgpu-4g-metal", "GB300-NVL-277GB", 4, 144, 960),
        ("gcp", "a4-highgpu-8g", "B200-SXM-180GB", 8, 224, 3968),
        ("gcp", "n1-standard-4+nvidia-tesla-p4x1", "P4-8GB", 1, 4, 15),
        ("gcp", "n1-standard-32+nvidia-tesla-p4x4", "P4-8GB", 4, 32, 120),
        ("gcp", "n1-standard-8+nvidia-tesla-p100x1", "P100-PCIE-16GB", 1, 8, 30),
        ("gcp", "n1-standard-32+nvidia-tesla-p100x4", "P100-PCIE-16GB", 4, 32, 120),
    ],
)  # fmt: skip
def test_documented_shapes(
    cloud: str, machine: str, accelerator: str, count: float, vcpus: float, memory_gib: float
) -> None:
    row = MACHINES[cloud, machine]
    assert row["accelerator"] == accelerator
    assert float(row["accelerator_count"]) == count
    assert (float(row["vcpus"]), float(row["memory_gib"])) == (vcpus, memory_gib)
    assert row["source"]


@pytest.mark.parametrize(
    ("machine", "count", "some"),
    [
        # docs.cloud.google.com/compute/docs/regions-zones/gpu-regions-zones
        ("a3-ultragpu-8g", 10, "asia-south1 europe-west1 europe-west4 us-east4 us-south1"),
        ("a4-highgpu-8g", 9, "asia-northeast1 asia-southeast1 europe-west4 us-west2 us-west3"),
        ("a4x-highgpu-4g", 1, "us-central1"),
        ("a4x-maxgpu-4g-metal", 2, "us-central1 us-east4"),
        (
            "n1-standard-8+nvidia-tesla-t4x1",
            23,
            "asia-east2 europe-central2 me-west1 northamerica-northeast1",
        ),
        ("n1-standard-8+nvidia-tesla-p4x1", 7, "asia-southeast1 europe-west4 us-west2"),
        ("n1-standard-8+nvidia-tesla-p100x1", 7, "asia-east1 europe-west1 us-west1"),
    ],
)
def test_documented_regions(machine: str, count: int, some: str) -> None:
    (regions,) = (known.regions for known in machines() if known.machine.instance_type == machine)
    assert len(regions) == count
    assert regions >= set(some.split())


def test_slices_of_tpu7x() -> None:
    """All configurations in two zones (docs.cloud.google.com/tpu/docs/regions-zones); four chips to 2,048."""
    rows = [row for row in table_rows("gcp_tpu_zones.csv") if row["slices"] == "tpu7x"]
    assert {row["zone"] for row in rows} == {"us-central1-ai1a", "us-central1-c"}
    assert {row["sizes"] for row in rows} == {"8 16 32 64 128 256 512 1024 2048 4096"}


def test_every_machine_has_a_price_or_the_reason_why_not() -> None:
    """No machine of our tables is silently without a price, and none that has one is said to have none."""
    listed = {machine for _, machine in MACHINES} | SLICES
    assert listed - list_priced() - set(reasons()) == set()
    assert list_priced() & set(reasons()) == set()
    assert all(reasons().values())


@pytest.mark.parametrize(
    ("column", "name", "words"),
    [
        (
            "instance_type",
            "p6e-gb200.36xlarge",
            "AWS rents it only within an UltraServer: see u-p6e-gb200x36",
        ),
        ("instance_type", "ND128isr_GB300_v6", "no cloud publishes a price of a machine with GB300"),
        ("instance_type", "a4x-highgpu-4g", "Google Cloud rents it by reservation only"),
        ("instance_type", "trn3", "AWS rents Trainium3 only as UltraServers of 64 or 144 chips"),
        ("accelerator", "MI355X", "neither AWS nor Azure nor Google Cloud rents a machine with it"),
        ("accelerator", "trainium3", "AWS rents Trainium3 only as UltraServers of 64 or 144 chips"),
    ],
)
def test_reason_is_told_instead_of_near_names(column: str, name: str, words: str) -> None:
    said = f"no price is known for {column.replace('_', ' ')} '{name}': {words}"
    with pytest.raises(UnknownNameError, match=re.escape(said)) as caught:
        SnapshotProvider().load().resolve(column, [name])
    assert "near names" not in str(caught.value)


NO_NETWORK = {
    "p6e-gb200.36xlarge": "AWS's pages disagree",
    "Standard_NC6s_v3 Standard_NC12s_v3 Standard_NC24s_v3 Standard_NC24rs_v3": "a retired series",
    "Standard_ND96ams_A100_v4 Standard_ND96is_H100_v5 Standard_ND96is_MI300X_v5 Standard_ND96is_flex_H100_v5 "
    "Standard_ND96is_noIB_H100_v5 Standard_ND96isf_H100_v5 Standard_ND96isrf_H100_v5": "on no page of sizes",
    "Standard_NC8ads_A10_v4 Standard_NC16ads_A10_v4 Standard_NC32ads_A10_v4": "no page of sizes is stored",
    "Standard_NC144ds_xl_RTXPRO6000BSE_v6 Standard_NC144lds_xl_RTXPRO6000BSE_v6 "
    "Standard_NC288ds_xl_RTXPRO6000BSE_v6 Standard_NC288lds_xl_RTXPRO6000BSE_v6": "only the preview's is stated",
}
"""Machines of which no rate is published, by why."""


@pytest.mark.parametrize(
    ("cloud", "machine"), [key for key, row in MACHINES.items() if float(row["accelerator_count"]) >= 1]
)
def test_machines_of_which_several_train_one_model_have_a_network(cloud: str, machine: str) -> None:
    unknown = {name for names in NO_NETWORK for name in names.split()}
    assert (network_gbit_per_s(cloud, machine) is None) == (machine in unknown)
