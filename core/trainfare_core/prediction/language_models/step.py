"""
How long one optimizer step of a large language model takes on many devices.

    pass = hold(software x (products + attention + vectors), host launches) / p + tensor and expert exchanges / p
    step = passes x pass x (longest stage / mean + (p - 1) / (passes x v)) + last stage + exposed gradients
         + update + passes x sharded blocks x unit

Products run at the measured ceiling of their device (the best matrix product that was timed there) times one fitted
share; t devices of a tensor-parallel group and c of a context-parallel one share a pass; p pipeline stages of v chunks
wait for one another (Narayanan et al. 2021), and for the last, which also holds the head. hold(a, b) is the root of the
sum of their squares. `software` is what runs the model on a GPU: 1, but for PyTorch, eager or compiled, which falls
behind a library of fused kernels on chips faster than an A100, and for Megatron of 2021 under DeepSpeed's engine.
Collectives are rings inside a machine and hierarchical across. All inputs are arrays of one shape, so n plans of one
profile and n measured rows of n profiles are the same call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Array, Flags
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.job_profile import USUAL_FUSED_BYTES_SHARE
from trainfare_core.prediction.language_models.coefficients import DecoderFit
from trainfare_core.prediction.language_models.sums import DecoderLedger
from trainfare_core.prediction.network.collectives import Links

DEVICE_LAUNCH_S = 2e-6
"""From the end of one kernel to the start of the next, where the next one already waits."""
_WIDE = 4096.0
"""Width from which a product counts as wide; narrower ones lose `narrow_slope` a halving. A chosen reference."""
_WIDE_SIDES = 16384.0
"""The same for experts, and for products in 8 and 4 bits, by the geometric mean of the sides of the larger matrix that
one device holds: 20,000 in the widest experts that were measured (Grok-1). A chosen reference."""
_BACKWARD_SHARE = 2.0 / 3.0
"""Of a pass: backward runs two products for each one of forward."""
_KINDS = ("gpu", "tpu", "trainium", "gaudi")
_A100_FLOPS_PER_S = 312e12
_MOST_DOUBLINGS = 2.85
"""From an A100 to a B200 (log2(2250 / 312)): no eager or compiled run was measured beyond."""


def doublings_of(device: Accelerator) -> float:
    """Return how often the 16-bit peak of `device` is twice an A100's, from 0 to what was measured."""
    peak = device.peak_flops_per_s("bf16") or _A100_FLOPS_PER_S
    return float(np.clip(np.log2(peak / _A100_FLOPS_PER_S), 0.0, _MOST_DOUBLINGS))


@dataclass(frozen=True, slots=True)
class DeviceRows:
    """Ceilings of the devices of n rows; arrays of shape (n,), FLOP/s, bytes/s and seconds."""

    half_per_s: Array
    bfloat_per_s: Array
    eight_per_s: Array
    integer_per_s: Array
    four_per_s: Array
    attention_per_s: Array
    bfloat_attention_per_s: Array
    bytes_per_s: Array
    link_per_s: Array
    link_latency_s: Array
    doublings: Array
    """Of the 16-bit peak over an A100's, within what was measured."""
    kind: NDArray[np.int64]
    slower: Array
    """Times its seconds, at least 1: what holds a device without rows at the efficiency of those with rows."""

    @classmethod
    def of(cls, devices: Sequence[Accelerator], links: Sequence[Links], fit: DecoderFit) -> DeviceRows:
        """Return the ceilings of each device; a type without matrix units runs at the next wider one."""
        half, brain, eight, integer, four, attention, wide_attention = (list[float]() for _ in range(7))
        for device in devices:
            full = device.peak_flops_per_s("fp32") or np.nan
            bfloat = device.peak_flops_per_s("bf16")
            sixteen = device.peak_flops_per_s("fp16") or bfloat
            narrow = device.peak_flops_per_s("fp8")
            ceiling = fit.ceiling(device, "bf16")
            half.append(sixteen * ceiling if sixteen else full)
            brain.append(bfloat * ceiling if bfloat else full)
            narrowest = device.peak_flops_per_s("fp4")
            eight.append(narrow * fit.ceiling(device, "fp8") if narrow else brain[-1])
            whole = device.peak_flops_per_s("int8")
            integer.append(whole * ceiling if whole else brain[-1])
            four.append(narrowest * fit.ceiling(device, "fp4") if narrowest else eight[-1])
            attention.append(sixteen or full)
            wide_attention.append(bfloat or full)
        return cls(
            np.array(half), np.array(brain), np.array(eight), np.array(integer), np.array(four),
            np.array(attention), np.array(wide_attention),
            np.array([device.memory_bandwidth_bytes_per_s for device in devices]),
            np.array([link.bytes_per_s for link in links]), np.array([link.latency_s for link in links]),
            np.array([doublings_of(device) for device in devices]),
            np.array([_KINDS.index(d.kind) if d.kind in _KINDS else 0 for d in devices], dtype=np.int64),
            np.ones(len(devices)),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spread:
    """
    How n rows are spread; arrays of shape (n,).

    Attributes:
        ratio: samples of one pass of a model replica over the profile's micro-batch.
        passes: forward passes of one optimizer step.
        per_machine, machines: devices with a link of their own, and how many such domains.
        network_per_s: bytes/s of one machine's network; NaN where there is one machine.
        sharded: weights, gradients and optimizer state are sharded over the data-parallel devices.
        sharded_optimizer: the optimizer's state is.
        overlap: gradients travel while backward goes on.
        hybrid: what is sharded is so over the devices of one machine; None: over all in every row.
        every_pass: gradients of weights that are not sharded are reduced after every backward; None: in no row.
        sequence_parallel: norms, dropout and sums between attention and feed-forward are split over `tensor` too; None:
            in every row.
    """

    ratio: Array
    passes: Array
    per_machine: Array
    machines: Array
    network_per_s: Array
    tensor: Array
    pipeline: Array
    virtual: Array
    context: Array
    expert: Array
    sharded: Flags
    sharded_optimizer: Flags
    overlap: Flags
    hybrid: Flags | None = None
    every_pass: Flags | None = None
    sequence_parallel: Flags | None = None

    @property
    def data(self) -> Array:
        """Model replicas."""
        world = self.per_machine * self.machines
        return np.maximum(world / (self.tensor * self.pipeline * self.context), 1.0)


@dataclass(frozen=True, slots=True)
class DecoderTimes:
    """Seconds of one optimizer step; arrays of shape (n,)."""

    compute_s: Array
    memory_s: Array
    launch_s: Array
    bubble_s: Array
    exposed_s: Array
    hidden_s: Array
    network_s: Array

    @property
    def step_s(self) -> Array:
        """The step."""
        return self.compute_s + self.memory_s + self.launch_s + self.bubble_s + self.exposed_s


def decoder_times(
    ledger: DecoderLedger, devices: DeviceRows, spread: Spread, fit: DecoderFit
) -> DecoderTimes:
    """Return the parts of the step of every row; see the module for the formula."""
    share = spread.ratio / (spread.tensor * spread.context)
    factor = np.array([1.0, *(fit.kind_factor.get(kind, 1.0) for kind in _KINDS[1:])])[devices.kind]
    factor = factor * _software_factor(ledger, devices, fit) * devices.slower
    product_s, head_s = _compute_s(ledger, devices, spread, fit)
    compute = product_s * share * factor
    memory = _memory_s(ledger, devices, spread, fit) * factor
    device_s = compute + memory + ledger.launches * DEVICE_LAUNCH_S
    host_s = (
        host_launches(ledger, spread.expert) * fit.host_launch_s * (devices.kind == 0)
        * np.where(spread.overlap, 1.0, fit.unfused_host_factor)
    )  # fmt: skip
    bound_s = np.hypot(device_s, host_s)
    exchanged, network_a = _model_exchange_s(ledger, devices, spread, fit)
    uneven, spare = _uneven(ledger, spread)
    one_pass = (bound_s + exchanged) / spread.pipeline
    bubble = one_pass * uneven * (spread.pipeline - 1) / spread.virtual
    block_s = (product_s - head_s) / np.maximum(ledger.blocks, 1.0)
    waiting = np.maximum(head_s - spare * block_s, 0.0) * (1 - 1 / spread.pipeline)
    last = waiting * share * factor * spread.passes
    idle = one_pass * (uneven - 1.0) * spread.passes
    traffic, network_b = _data_traffic_s(ledger, devices, spread, fit)
    window = bound_s / spread.pipeline * np.where(spread.sharded, spread.passes, _BACKWARD_SHARE)
    beyond = np.minimum(np.hypot(traffic, window) - window, traffic)  # Rounding: also where there is none.
    exposed = np.where(spread.overlap, np.maximum(fit.data_exposed * traffic, beyond), traffic)
    units_s = np.where(spread.sharded, fit.shard_unit_s * ledger.blocks * spread.passes, 0.0)
    update = _update_s(ledger, devices, spread, fit) * devices.slower
    times = spread.passes / spread.pipeline
    return DecoderTimes(
        compute_s=compute * times,
        memory_s=memory * times + update,
        launch_s=(bound_s - compute - memory) * times,
        bubble_s=bubble + last + idle,
        exposed_s=exchanged * times + exposed + units_s,
        hidden_s=traffic - exposed,
        network_s=np.where(spread.machines > 1, network_a * times + network_b, 0.0)
        * np.where(traffic > 0, exposed / np.maximum(traffic, 1e-30), 1.0),
    )  # fmt: skip


def _uneven(ledger: DecoderLedger, spread: Spread) -> tuple[Array, Array]:
    """
    Return the blocks of the longest stage over those of the mean one, and how many fewer the last stage has.

    Where blocks do not divide into chunks, the first and the last are the shorter ones: embedding and head count as a
    block each there.
    """
    chunks = spread.pipeline * spread.virtual
    whole = np.ceil(ledger.blocks / chunks - 1e-6) * chunks
    several = (spread.pipeline > 1) & (ledger.blocks > 0)
    uneven = np.where(several, whole / np.maximum(ledger.blocks, 1.0), 1.0)
    return np.asarray(uneven), np.asarray(np.where(several, (whole - ledger.blocks) / 2, 0.0))


def host_launches(ledger: DecoderLedger, expert: Array | float = 1.0) -> Array:
    """
    Return how many kernels the host starts in one pass.

    A library multiplies the experts of one device one by one, and casts the operands of each by itself (Transformer
    Engine's grouped linear layer); a profile has one grouped product of all, as PyTorch's own code starts.

    Args:
        ledger: of the profile.
        expert: devices among which the experts are spread.
    """
    experts_per_device = np.maximum(ledger.experts / expert, 1.0)
    return np.asarray(
        ledger.launches + (ledger.library > 0) * ledger.grouped_launches * (experts_per_device - 1.0)
    )


def _software_factor(ledger: DecoderLedger, devices: DeviceRows, fit: DecoderFit) -> Array:
    """Return how much longer a GPU takes under this software than under a library of fused kernels; 1 elsewhere."""
    factor = np.where(ledger.library > 0, 1.0, 2.0 ** (fit.framework_slope * devices.doublings))
    factor = factor * np.where(ledger.deepspeed > 0, fit.deepspeed_factor, 1.0)
    return np.where(devices.kind == 0, factor, 1.0)


def _memory_s(ledger: DecoderLedger, devices: DeviceRows, spread: Spread, fit: DecoderFit) -> Array:
    """
    Return seconds of pointwise operations and norms of one pass.

    A compiler leaves what the profile says of each operation, and so do kernels of a library and those of Megatron in
    2021 (bias with GELU, bias with dropout and addition, scaled softmax); a graph compiler, of what is not a GPU,
    leaves its usual share. A library casts a weight to 8 bits once a step, others in every pass.
    Without sequence parallelism (Korthikanti et al. 2022) each device of a tensor group runs all norms and dropout.
    """
    eager = ledger.vector_bytes - ledger.cast_bytes
    varying = np.where((ledger.fused > 0) | ~spread.overlap, ledger.fused_bytes, eager)
    varying = np.where(devices.kind > 0, eager * USUAL_FUSED_BYTES_SHARE, varying)
    varying = varying + ledger.cast_bytes * fit.cast_bytes_share
    if spread.sequence_parallel is not None:
        again = ledger.replicated_bytes * (spread.tensor - 1)
        varying = varying + np.where(spread.sequence_parallel, 0.0, again)
    weights = (
        ledger.cast_weight_bytes * fit.cast_bytes_share / np.where(ledger.library > 0, spread.passes, 1.0)
    )
    experts = np.where(ledger.expert_weight_bytes > 0, spread.expert, 1.0)
    fixed = (ledger.fixed_bytes - ledger.cast_weight_bytes + weights) / experts
    total = varying * spread.ratio / spread.context + fixed
    unpacked = ledger.unpacked_bytes / experts / fit.unpack_efficiency
    return np.asarray((total / fit.vector_efficiency + unpacked) / spread.tensor / devices.bytes_per_s)


def _compute_s(
    ledger: DecoderLedger, devices: DeviceRows, spread: Spread, fit: DecoderFit
) -> tuple[Array, Array]:
    """Return seconds of all products and attention of one whole pass on one device, and of the head alone."""
    shape = _narrow(ledger.width / spread.tensor * 4, fit.narrow_slope)
    expert = np.where(
        ledger.expert_width > 0, _narrow(ledger.expert_width, fit.expert_slope, _WIDE_SIDES), 1.0
    )
    bfloat = ledger.bfloat > 0
    peak = np.where(bfloat, devices.bfloat_per_s, devices.half_per_s)
    attention = np.where(bfloat, devices.bfloat_attention_per_s, devices.attention_per_s)
    sixteen = peak * fit.product_efficiency * shape
    integer = devices.integer_per_s * fit.integer_efficiency * shape
    sides = _narrow(ledger.width * (4 / spread.tensor) ** 0.5, fit.narrow_slope, _WIDE_SIDES)
    eight = np.where(ledger.integer > 0, integer, devices.eight_per_s * fit.product8_efficiency * sides)
    four = devices.four_per_s * fit.product8_efficiency * sides
    grouped = fit.grouped_efficiency * expert
    total = (
        ledger.product_flops / sixteen
        + ledger.product8_flops / eight
        + ledger.product4_flops / four
        + ledger.grouped_flops / (sixteen * grouped)
        + ledger.grouped8_flops / (eight * grouped)
        + ledger.grouped4_flops / (four * grouped)
        + ledger.batched_flops / (attention * fit.batched_efficiency)
        + ledger.misaligned_flops / (attention * fit.batched_efficiency * fit.misaligned_efficiency)
        + ledger.attention_flops / (attention * fit.attention_efficiency)
    )
    return np.asarray(total), np.asarray(ledger.head_flops / sixteen)


def _narrow(width: Array, slope: float, wide: float = _WIDE) -> Array:
    """Return the efficiency of a product of this width over that of a wide one."""
    return np.asarray(2.0 ** (slope * np.minimum(np.log2(np.maximum(width, 1.0) / wide), 0.0)))


def _model_exchange_s(
    ledger: DecoderLedger, devices: DeviceRows, spread: Spread, fit: DecoderFit
) -> tuple[Array, Array]:
    """Return seconds that one pass of all stages waits for tensor and expert exchanges, and the network's part."""
    share = spread.ratio / spread.context
    t = spread.tensor
    across = t > spread.per_machine
    network = (
        _find_network(spread, fit) * np.minimum(spread.per_machine, t) / np.maximum(spread.per_machine, 1.0)
    )
    rate = np.where(across, np.minimum(network, devices.link_per_s), devices.link_per_s)
    reduced = (2 * ledger.boundary_bytes + ledger.recomputed_bytes) * share
    messages = 4 * ledger.blocks  # forward and backward, two a block
    tensor_s = np.where(
        t > 1, 2 * (t - 1) / t * reduced / rate + messages * 2 * (t - 1) * devices.link_latency_s, 0.0
    )
    e = spread.expert
    near = np.where(spread.machines > 1, np.maximum(spread.per_machine / t, 1.0), e)
    inside = np.minimum(near, e)
    sent = 2 * ledger.expert_bytes * share / t
    local_s = sent * (inside - 1) / e / devices.link_per_s
    exchange_s = _find_network(spread, fit) / np.maximum(spread.per_machine, 1.0)
    remote_s = np.where(e > inside, sent * (e - inside) / e / exchange_s, 0.0)
    stages = np.where(
        (spread.pipeline > 1) & (spread.machines > 1),
        2 * ledger.hidden_bytes * share * (spread.pipeline - 1) * spread.virtual / t / exchange_s,
        0.0,
    )
    overlapped = (ledger.library > 0) & spread.overlap
    # A library gathers in 8 bits what products in 8 or 4 bits read: gathers are half of the exchange.
    tensor_s = tensor_s * np.where(overlapped, 1.0 - _narrow_share(ledger) / 4, 1.0)
    # It sends to the next stage while it works on another chunk: as with products, that hides a part.
    stages = stages * np.where(overlapped & (spread.virtual > 1), fit.tensor_exposed, 1.0)
    tensor_s = tensor_s * np.where(overlapped, fit.tensor_exposed, 1.0)
    waiting = tensor_s + fit.expert_exposed * (local_s + remote_s) + stages
    far = tensor_s * across + fit.expert_exposed * remote_s + stages
    return np.asarray(np.nan_to_num(waiting)), np.asarray(np.nan_to_num(far))


def _narrow_share(ledger: DecoderLedger) -> Array:
    """Return the share of the FLOPs of the blocks' products with weights, experts apart, in 8 or 4 bits."""
    narrow = ledger.product8_flops + ledger.product4_flops
    return np.asarray(narrow / np.maximum(narrow + ledger.product_flops - ledger.head_flops, 1.0))


def _data_traffic_s(
    ledger: DecoderLedger, devices: DeviceRows, spread: Spread, fit: DecoderFit
) -> tuple[Array, Array]:
    """Return seconds of gradient and weight traffic of one step, exposed or not, and the network's part."""
    replicas = spread.data * spread.context
    model = spread.tensor * spread.pipeline
    inside = np.clip(spread.per_machine / np.minimum(spread.tensor, spread.per_machine), 1.0, replicas)
    outside = replicas / inside
    gradients = ledger.gradient_bytes + ledger.expert_gradient_bytes / spread.expert
    weights = ledger.weight_bytes + ledger.expert_weight_bytes / spread.expert
    reduce = 2.0 * gradients / model
    shard = (2.0 * weights + gradients) / model * spread.passes
    if spread.every_pass is not None:  # gradients after every backward, what was updated once
        reduce = np.where(spread.every_pass, reduce / 2 * (spread.passes + 1), reduce)
    payload = np.where(spread.sharded, shard, reduce)
    far = payload
    if (
        spread.hybrid is not None
    ):  # machines reduce their shards, which together are all gradients, every backward
        far = np.where(spread.hybrid, reduce * spread.passes, payload)
    groups = np.maximum(spread.per_machine / inside, 1.0)
    local_s = payload * (inside - 1) / inside / devices.link_per_s
    remote_s = np.where(outside > 1, far * (outside - 1) / outside * groups / _find_network(spread, fit), 0.0)
    return np.asarray(np.where(replicas > 1, local_s + np.nan_to_num(remote_s), 0.0)), np.asarray(
        np.nan_to_num(remote_s)
    )


def _find_network(spread: Spread, fit: DecoderFit) -> Array:
    return spread.network_per_s * fit.network_efficiency


def _update_s(ledger: DecoderLedger, devices: DeviceRows, spread: Spread, fit: DecoderFit) -> Array:
    """Return seconds of the optimizer."""
    shards = np.where(spread.sharded | spread.sharded_optimizer, spread.data * spread.context, 1.0)
    if spread.hybrid is not None:
        shards = np.where(spread.hybrid, np.minimum(spread.per_machine, shards), shards)
    mine = np.where(ledger.expert_weight_bytes > 0, spread.expert, 1.0)
    shards = np.maximum(shards, np.minimum(mine, spread.data))
    moved = ledger.optimizer_bytes / (spread.tensor * spread.pipeline * shards)
    return np.asarray(moved / (devices.bytes_per_s * fit.vector_efficiency))
