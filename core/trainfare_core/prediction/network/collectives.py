"""
How long devices exchange gradients and weights, and how much of that backward hides.

Alpha-beta models: a message costs a latency, a byte a share of the link's nominal rate. A ring all-reduce of B bytes
over n devices moves 2 (n-1)/n B over every link in 2 (n-1)
messages; a gather or a scatter half of it. Among more than 16 devices messages travel along both sides of a square, as
in a torus of TPUs. Over several machines it is hierarchical: a ring inside each
machine, then every device exchanges its n-th part with its peers, so that a machine's network carries 2
(m-1)/m B; latency grows with the depth of a tree, 2 log2(m).

The constants of links are fitted; `research/trainfare_research/fitting/links.py` writes the file. `link_efficiency` and
`link_latency_s` are keyed by a link of the catalogue ("pcie3") or by its family ("nvlink"); any other link is "other".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np

from trainfare_core.arrays import Array
from trainfare_core.documents import Record, data_text
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.job_profile import SPARSE_TENSOR, JobProfile, SynchronizedNorms


class CommunicationFit(Record):
    """Alpha-beta constants of collectives."""

    link_efficiency: dict[str, float]
    link_latency_s: dict[str, float]
    network_efficiency: float
    network_latency_s: float
    exposed_floor: float
    """Share of communication that is exposed even when there is enough compute to hide all of it."""
    straggler_share: float
    """Of the step, for every doubling of the devices in one machine, which wait for one another."""
    overlap_window: float
    """Share of backward (FSDP: of forward and backward) that can hide communication."""


class LinkCalibration(Record):
    """The constants with their provenance: date of the fit, hash of the data, rows by source."""

    schema_version: Literal[1]
    fitted_at: str
    data_sha256: str
    fitted_on: dict[str, int]
    several_devices_log_sigma: float
    """Of ln(measured / predicted) of a run on several devices whose run on one is known."""
    communication: CommunicationFit


@lru_cache(maxsize=1)
def link_calibration() -> LinkCalibration:
    """Return the constants that ship with trainfare, read once per process."""
    return LinkCalibration.model_validate_json(data_text("link_calibration.json"))


_MOMENT_BYTES: Final = 4
LONGEST_RING: Final = 16
"""Devices of the largest machine that was measured: losses by waiting grow no further beyond it."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that one device's optimizer step hands to collectives."""

    all_reduce_bytes: float
    """DDP: gradients of all trainable parameters, once an optimizer step."""
    gather_bytes: float
    """FSDP: the weights, gathered for forward and again for backward of every micro-batch."""
    scatter_bytes: float
    """FSDP: the gradients, reduced and scattered after every backward."""


@dataclass(frozen=True, slots=True)
class Links:
    """The links of one accelerator: sustained bytes/s of one direction, and seconds a message."""

    bytes_per_s: float
    latency_s: float
    unknown_because: str = ""


def traffic_of(profile: JobProfile) -> Traffic:
    """
    Return what data-parallel training of `profile` exchanges.

    DDP reduces gradients in their own type. FSDP casts weights and gradients to the compute type of a 16-bit
    precision before it sends them, and gathers frozen weights too.
    """
    gradients = float(profile.memory.gradient_bytes)
    weights = float(profile.parameter_bytes)
    half = profile.precision.startswith(("16", "bf16"))
    wide = sum(g.parameter_bytes for g in profile.parameters if g.dtype in ("fp32", "tf32"))
    gathered = weights - wide / 2 if half else weights
    trainable_wide = sum(
        g.parameter_bytes for g in profile.parameters if g.trainable and g.dtype in ("fp32", "tf32")
    )
    scattered = gradients - min(trainable_wide, gradients) / 2 if half else gradients
    return Traffic(all_reduce_bytes=gradients, gather_bytes=2.0 * gathered, scatter_bytes=scattered)


def has_sparse_gradients(profile: JobProfile) -> bool:
    """
    Return whether backward makes gradients that are sparse tensors, as those of `nn.Embedding(sparse=True)` are.

    NCCL has no sum of them (`ProcessGroupNCCL::allreduce_sparse` in PyTorch), and FSDP's flat parameters are dense. A
    sparse gradient has the rows of the batch and their numbers: fewer bytes than its table, or more.
    """
    is_sparse = any(
        group.phase == "backward" and group.name.startswith(SPARSE_TENSOR) for group in profile.operations
    )
    dense = sum(group.parameter_bytes for group in profile.parameters if group.trainable)
    return is_sparse and profile.memory.gradient_bytes != dense


def link_of(device: Accelerator, fit: CommunicationFit) -> Links:
    """
    Return the sustained link of `device` to its peers in one machine: its own link, or PCIe where it has
    none.
    """
    link, rate = device.link, device.link_bytes_per_s
    if not rate:
        link, rate = "pcie", device.pcie_bytes_per_s
    if not rate:
        return Links(np.nan, np.nan, f"the link between {device.name} devices is not known")
    names = (link, link.rstrip("0123456789."), "other")
    share = next(fit.link_efficiency[name] for name in names if name in fit.link_efficiency)
    return Links(rate * share, next(fit.link_latency_s[name] for name in names if name in fit.link_latency_s))


def collective_s(
    payload_bytes: Array, passes: float, devices: Array, nodes: Array, links: tuple[Array, Array],
    network: Array, fit: CommunicationFit,
) -> Array:  # fmt: skip
    """
    Return seconds of a collective, shape (columns,).

    Args:
        payload_bytes: bytes on every device.
        passes: 2 for an all-reduce, 1 for a gather or a scatter.
        devices: devices in one machine.
        nodes: machines.
        links: bytes/s and seconds a message inside a machine.
        network: nominal bytes/s of one machine's network; NaN (not known) makes the result NaN where nodes
        > 1.
        fit: the coefficients.
    """
    rate, latency_s = links
    inside = np.where(
        devices > 1,
        passes * (devices - 1) / devices * payload_bytes / rate + passes * _hops(devices) * latency_s,
        0.0,
    )
    across = np.where(
        nodes > 1,
        passes * (nodes - 1) / nodes * payload_bytes / (network * fit.network_efficiency)
        + passes * np.log2(np.maximum(nodes, 1)) * fit.network_latency_s,
        0.0,
    )
    return np.asarray(inside + across)


def moments_s(
    norms: SynchronizedNorms, devices: Array, nodes: Array, links: tuple[Array, Array], network: Array,
    fit: CommunicationFit,
) -> Array:  # fmt: skip
    """
    Return seconds of the exchanges of SyncBatchNorm in one forward and backward, shape (columns,).

    Forward gathers mean, deviation and count of every device, backward adds up two gradients a channel, all fp32
    (`torch/nn/modules/_functions.py` of PyTorch); the layer goes on after them, so nothing hides them.

    Args:
        norms: the modules.
        devices: devices in one machine.
        nodes: machines.
        links: see `collective_s`.
        network: see `collective_s`.
        fit: the coefficients.
    """
    channels = norms.channels / norms.modules
    gathered = (2.0 * channels + 1.0) * _MOMENT_BYTES * devices * nodes
    added = np.full(len(devices), 2.0 * channels * _MOMENT_BYTES)
    return norms.modules * (
        collective_s(gathered, 1.0, devices, nodes, links, network, fit)
        + collective_s(added, 2.0, devices, nodes, links, network, fit)
    )


def _hops(devices: Array) -> Array:
    """Return the length of the chain of messages that connects every device with every other."""
    return np.asarray(np.minimum(devices - 1, np.maximum(LONGEST_RING - 1, 2 * (np.sqrt(devices) - 1))))


def compute_exposed_s(communication_s: Array, window_s: Array, fit: CommunicationFit) -> Array:
    """
    Return the part of `communication_s` that the step waits for.

    All that does not fit into the window of compute it can overlap with, and never less than a floor: the
    last bucket has nothing left to hide behind, and collectives take bandwidth and multiprocessors from the
    kernels.
    """
    return np.asarray(
        np.maximum(fit.exposed_floor * communication_s, communication_s - fit.overlap_window * window_s)
    )
