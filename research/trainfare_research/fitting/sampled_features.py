"""
Steps of R-GAT on sampled graphs: the network's step, or the reading of its features where that takes longer.

The features of all nodes (560 GB in 8 bits) lie in the devices of a machine, in those of all machines, or in the host's
memory, and those of the next batch are read while the network runs (NVIDIA's submissions: `WG_SHARDING_LOCATION`,
`WG_SHARDING_PARTITION`, `TRAIN_OVERLAP`). Drawing the neighbours reads a fiftieth of their features and is left out.
"""

from __future__ import annotations

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.columns import Run
from trainfare_core.prediction.network import collectives
from trainfare_core.prediction.network.collectives import CommunicationFit
from trainfare_research.fitting.one_plan import Plan, predict_plan
from trainfare_research.workloads.other.sampled_graph import FEATURE_TABLE_BYTES, feature_bytes

_MOST_FEATURES = 0.75
"""Of the devices' memory that features may take: the edges (5.8 billion in both directions, 4 bytes each, 47 GB), the
state and a batch's own nodes are there too. 0.5 of the memory of eight H200, 0.87 of that of eight H100: between
these two NVIDIA's submissions change from the devices to the host."""
_HOST_LINK_BYTES_PER_S = 64e9
"""PCIe 5 with 16 lanes, one direction, where the catalogue does not state a chip's own."""


def has_sampled_features(name: str) -> bool:
    """Return whether a step of a benchmark may wait for the features of a sampled graph."""
    return name == "rgat"


def predict_sampled_graph(run: Run, plan: Plan, seeds: int) -> tuple[float, float] | str:
    """
    Return predicted seconds and sigma of one optimizer step, or why there are none.

    Args:
        run: a prepared profile of one device's samples.
        plan: with the profile's micro-batch.
        seeds: labelled nodes of one device.
    """
    answer = predict_plan(run, plan)
    if isinstance(answer, str):
        return answer
    step_s, log_sigma = answer
    return max(step_s, feature_bytes(seeds) / _feature_rate(plan, run.fit.communication)), log_sigma


def _feature_rate(plan: Plan, fit: CommunicationFit) -> float:
    """Return the bytes/s at which one device reads features that are spread evenly, of a plan that has an answer."""
    device, devices, nodes = accelerator(plan.name), plan.devices, plan.nodes
    per_machine, fits = devices // nodes, FEATURE_TABLE_BYTES / (_MOST_FEATURES * device.memory_bytes)
    if fits > devices:
        return (device.pcie_bytes_per_s or _HOST_LINK_BYTES_PER_S) * fit.link_efficiency["pcie"]
    if fits <= per_machine:
        return collectives.link_of(device, fit).bytes_per_s * per_machine / max(per_machine - 1, 1)
    network = (plan.gbit_per_s or 0.0) / 8 * 1e9 * fit.network_efficiency / per_machine
    return network * nodes / (nodes - 1)
