"""A Google Cloud project's quotas as they come over the wire, and prices of machines that count against them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from builders.offers import book_of, offer_row
from faults.server import FaultServer, json_script
from trainfare_core.prices.book import PriceBook
from trainfare_providers.gcp.quotas import QuotaSites

PROJECT = "a-project"
_ROOT = f"/compute/v1/projects/{PROJECT}"
PATHS = {
    "regions": f"{_ROOT}/regions",
    "project": _ROOT,
    "families": f"/v1/projects/{PROJECT}/locations/global/services/compute.googleapis.com/quotaInfos/"
    "GPUS-PER-GPU-FAMILY-per-project-region",
}


def quotas(limits: Mapping[str, object]) -> list[dict[str, Any]]:
    return [{"metric": metric, "limit": limit, "usage": 0.0} for metric, limit in limits.items()]


def region(name: str, **limits: object) -> dict[str, Any]:
    return {"kind": "compute#region", "name": name, "status": "UP", "quotas": quotas(limits)}


def info(value: object, locations: Iterable[str], **dimensions: str) -> dict[str, Any]:
    """An entry of the quota by family of GPUs; a number of 64 bits is text."""
    return {"dimensions": dimensions, "details": {"value": value}, "applicableLocations": list(locations)}


REGIONS = (
    region(
        "us-central1",
        CPUS=2400.0,
        NVIDIA_L4_GPUS=16.0,
        PREEMPTIBLE_NVIDIA_L4_GPUS=0.0,
        COMMITTED_NVIDIA_L4_GPUS=0.0,
        NVIDIA_A100_GPUS=8.0,
        PREEMPTIBLE_NVIDIA_A100_GPUS=32.0,
        NVIDIA_T4_VWS_GPUS=1.0,
        PREEMPTIBLE_NVIDIA_H100_GPUS=64.0,
    ),
    region("us-east5", NVIDIA_L4_GPUS=0.0),
)
WHOLE = {
    "kind": "compute#project",
    "name": PROJECT,
    "quotas": quotas({"NETWORKS": 5.0, "GPUS_ALL_REGIONS": 24.0}),
}
FAMILIES = {
    "quotaId": "GPUS-PER-GPU-FAMILY-per-project-region",
    "dimensionsInfos": [
        info("0", ["us-east5"], gpu_family="NVIDIA_H100"),
        info("8", ["us-central1"], gpu_family="NVIDIA_H100", region="us-central1"),
        info("5", ["us-central1", "us-east5"]),
    ],
}


def script_quotas(server: FaultServer) -> QuotaSites:
    """Put the project on a server."""
    server.script(PATHS["regions"], json_script({"items": list(REGIONS)}))
    server.script(PATHS["project"], json_script(WHOLE))
    server.script(PATHS["families"], json_script(FAMILIES))
    return QuotaSites(server.url(), server.url())


def gcp_prices(*regions: str) -> PriceBook:
    """On demand, spot and reserved, in each region: machines of three GPUs."""
    machines = {
        "g2-standard-4": ("L4-24GB", 1.0, 24.0),
        "g2-standard-24": ("L4-24GB", 2.0, 24.0),
        "a2-highgpu-8g": ("A100-SXM-40GB", 8.0, 40.0),
        "a3-highgpu-8g": ("H100-SXM-80GB", 8.0, 80.0),
    }
    return book_of(
        *(
            offer_row(
                provider="gcp",
                service="gce",
                instance_type=name,
                region=region,
                accelerator=accelerator,
                accelerator_count=count,
                accelerator_memory_gib=memory_gib,
                purchase_option=option,
            )
            for name, (accelerator, count, memory_gib) in machines.items()
            for region in regions
            for option in ("on_demand", "spot", "reserved_1y")
        )
    )
