"""
The phases of every plan: generation by the engine, scoring by forward passes, updates as the step is predicted.

A generation feeds `updates` optimizer steps; times are those of one generation with what follows it. Memory is that of
one device in each phase, and the worst phase decides: what sleeps in a phase does not count in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Array, Flags
from trainfare_core.candidates import CandidateTable
from trainfare_core.errors import CannotTellError, UnknownNameError
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile, Rollout
from trainfare_core.prediction.engine import predict_run, prepare
from trainfare_core.prediction.memory.calibrated import MemoryPeak, memory_peak
from trainfare_core.prediction.memory.peak import COLLECTIVE_BYTES, CONTEXT_BYTES
from trainfare_core.prediction.memory.sharding import Shards
from trainfare_core.prediction.rollout.generation import (
    VLLM_STEP_S,
    VLLM_WORKSPACE_BYTES,
    Policy,
    Replicas,
    time_generation,
)
from trainfare_core.prediction.rollout.lengths import CompletionLengths
from trainfare_core.prediction.roofline.host import host_launch_s
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prediction.uncertainty import Z80
from trainfare_core.prices.shapes import MachineShapes

PhaseName: TypeAlias = Literal["generation", "scoring", "update"]
PHASES: Final[tuple[PhaseName, ...]] = get_args(PhaseName)
CHOSEN_SIGMA: Final = 0.7
"""Standard deviation of ln(generation time). Chosen, not measured: 80 % from 0.4 to 2.5 times."""
_SLEEPING_BYTES: Final = 2 * 2**30
"""Of a vLLM that sleeps: its context and CUDA graphs stay. A chosen value."""


@dataclass(frozen=True, slots=True)
class PhaseColumns:
    """
    Phases of every plan, in the order of `PHASES`; arrays of shape (3, n) unless said.

    Attributes:
        time_s: of one generation, its scoring and its updates; NaN where there is no prediction.
        log_sigma: standard deviation of ln(time_s).
        memory_bytes: of one device that trains; with vLLM on devices of its own, generation is that of those.
        memory_log_sigma: standard deviation of ln(memory_bytes).
        usable_memory_bytes: of one device, shape (n,).
        updates: optimizer steps that follow one generation.
        unknown_because: shape (n,); "" where there is a prediction.
    """

    time_s: Array
    log_sigma: Array
    memory_bytes: Array
    memory_log_sigma: Array
    usable_memory_bytes: Array
    updates: float
    unknown_because: NDArray[np.str_]

    @property
    def upper_bytes(self) -> Array:
        """Upper end of the central 80 % of the memory of each phase."""
        return np.asarray(self.memory_bytes * np.exp(Z80 * self.memory_log_sigma))

    @property
    def fits(self) -> Flags:
        """Whether the upper end of every phase is within the usable memory, shape (n,)."""
        within = (self.upper_bytes <= self.usable_memory_bytes).all(axis=0)
        return np.asarray(within & (self.unknown_because == ""))

    @property
    def total_s(self) -> Array:
        """One generation with what follows it, shape (n,)."""
        return np.asarray(self.time_s.sum(axis=0))

    @property
    def total_log_sigma(self) -> Array:
        """Of ln(total_s), shape (n,): generation errs by itself, scoring and updates together."""
        error_s = self.time_s * self.log_sigma
        return np.asarray(np.hypot(error_s[0], error_s[1] + error_s[2]) / self.total_s)


def predict_phases(profile: JobProfile, shapes: MachineShapes, plans: CandidateTable) -> PhaseColumns:
    """
    Predict the phases of every plan.

    Args:
        profile: of a job with a rollout.
        shapes: machines, with the devices that train.
        plans: of the updates, n rows, none of which changes the job or splits its model.

    Raises:
        CannotTellError: the profile does not know its batch, or its keys and values.
    """
    rollout, batch = profile.rollout, profile.global_samples_per_step
    if rollout is None or not batch or not profile.batch.micro_batch_size:
        raise CannotTellError(f"{profile.name}: the phases of a step need its rollout and its batch")
    update = profile.model_copy(update={"rollout": None})
    run = prepare(update)
    table = predict_run(run, shapes, plans)
    names, row = np.unique(np.asarray(shapes.accelerator)[plans.shape], return_inverse=True)
    devices = [_find_device(str(name)) for name in names]
    reason = np.where(
        table.unknown_because == "",
        np.array([_why_no_generation(device) for device in devices], dtype=np.str_)[row],
        table.unknown_because,
    )
    per_machine = np.maximum(plans.devices_of(shapes), 1.0)
    world: Array = per_machine * plans.nodes.astype(np.float64)
    peak = _find_peak(update, plans, per_machine, row, devices)
    updates = rollout.sequences / batch * rollout.update_epochs
    host = [
        0.0 if device is None else float(host_launch_s(run.operations, [device], run.fit)[0, 0])
        for device in devices
    ]
    host_s = np.array(host) / profile.parallel.accumulate_grad_batches
    generation = _Generation(rollout, update, devices, row, world, host_s)
    generated_s, generator_bytes, enough = generation.predict()
    scored_s = _score_s(update, rollout, table, updates)
    time_s = np.stack([generated_s, scored_s, updates * table.step_s])
    shards = Shards.of(plans.sharding, per_machine, world).weights
    memory_bytes, certain_bytes = _stack_memory(rollout, peak, shards, generator_bytes, world > 1)
    reason = np.where(
        (reason == "") & ~enough, "the policy does not fit into vLLM's share of a device", reason
    )
    unknown = reason != ""
    return PhaseColumns(
        time_s=np.where(unknown, np.nan, time_s),
        log_sigma=np.stack([np.full(len(plans), CHOSEN_SIGMA), table.log_sigma, table.log_sigma]),
        memory_bytes=np.where(unknown, np.nan, memory_bytes),
        memory_log_sigma=table.memory_log_sigma * (1.0 - certain_bytes / memory_bytes),
        usable_memory_bytes=table.usable_memory_bytes,
        updates=updates,
        unknown_because=reason,
    )


def _find_device(name: str) -> Accelerator | None:
    try:
        return accelerator(name)
    except UnknownNameError:  # the step says so, too
        return None


def _why_no_generation(device: Accelerator | None) -> str:
    if device is None or device.kind != "gpu":
        return "generation is predicted for GPUs alone"
    return "" if _find_peak_rate(device) else f"the rate of 16-bit products of {device.name} is not known"


def _find_peak_rate(device: Accelerator | None) -> float | None:
    """Return the dense FLOP/s in bf16, or in fp16 where a device has no bf16."""
    if device is None:
        return None
    return device.peak_flops_per_s("bf16") or device.peak_flops_per_s("fp16")


def _count_forward_flops(profile: JobProfile) -> int:
    return sum(g.flops for g in profile.operations if g.phase == "forward" and not g.recomputed)


def _score_s(profile: JobProfile, rollout: Rollout, table: PredictionTable, updates: float) -> Array:
    """Return seconds of the forward passes over all completions: the forward share of a step's FLOPs, without DDP."""
    share = _count_forward_flops(profile) / max(profile.step_flops, 1)
    passes = (int(rollout.scores_reference) + int(rollout.scores_old_policy)) / rollout.update_epochs
    return np.asarray(passes * updates * share * (table.compute_s + table.memory_s + table.launch_s))


class _Generation:
    """The generation of a rollout on every plan."""

    def __init__(
        self,
        rollout: Rollout,
        profile: JobProfile,
        devices: list[Accelerator | None],
        row: NDArray[np.int64],
        world: Array,
        host_s: Array,
    ) -> None:
        self._rollout, self._profile, self._devices, self._row = rollout, profile, devices, row
        self._world, self._host_s = world, host_s
        self.device_bytes = self._column([0.0 if d is None else float(d.memory_bytes) for d in devices])

    def _column(self, values: list[float]) -> Array:
        return np.array(values, dtype=np.float64)[self._row]

    def predict(self) -> tuple[Array, Array, Flags]:
        """Return seconds, bytes that the engine takes of one device, and whether one sequence fits into them."""
        rollout, profile = self._rollout, self._profile
        in_vllm = rollout.engine != "transformers"
        group = float(rollout.vllm_tensor_parallel if in_vllm else 1)
        world = np.full_like(self._world, rollout.vllm_devices) if rollout.vllm_devices else self._world
        copies = np.maximum(np.floor(world / group), 1.0)
        count = sum(part.count for part in profile.parameters)
        policy = Policy(
            weights_bytes=2.0 * count if in_vllm else float(profile.parameter_bytes),
            flops_per_token=_count_forward_flops(profile)
            / ((profile.batch.samples_per_step or 1) * self._sample_tokens),
            kv_bytes_per_token=float(rollout.kv_bytes_per_token),
        )
        share_bytes = rollout.vllm_memory_share * self.device_bytes
        result = time_generation(
            policy,
            rollout.prompt_tokens,
            CompletionLengths(rollout.completion_tokens_low, rollout.completion_tokens_high),
            Replicas(
                sequences=np.ceil(rollout.sequences / copies),
                # vLLM keeps the cache of a prompt for all of its completions.
                prompts=np.ceil((rollout.prompts if in_vllm else rollout.sequences) / copies),
                memory_bytes=group * (share_bytes - VLLM_WORKSPACE_BYTES),
                bytes_per_s=group * self._column(
                    [math.nan if d is None else d.memory_bandwidth_bytes_per_s for d in self._devices]
                ),
                flops_per_s=group * self._column([_find_peak_rate(d) or math.nan for d in self._devices]),
                host_s=np.full_like(self._world, VLLM_STEP_S) if in_vllm else self._host_s[self._row],
            ),
            continuous=in_vllm,
        )  # fmt: skip
        cache_bytes = result.needed_bytes - policy.weights_bytes  # the weights lie there to be trained
        if not in_vllm:
            return result.prefill_s + result.decode_s, cache_bytes, np.ones(len(cache_bytes), dtype=np.bool_)
        enough = (result.at_once >= 1) & (group <= world)
        return result.prefill_s + result.decode_s, share_bytes, np.asarray(enough)

    @property
    def _sample_tokens(self) -> int:
        return self._rollout.prompt_tokens + self._rollout.completion_tokens_high


def _find_peak(
    profile: JobProfile,
    plans: CandidateTable,
    per_machine: Array,
    row: NDArray[np.int64],
    devices: list[Accelerator | None],
) -> MemoryPeak:
    """Return the peak of the updates with its parts, as the engine predicts it."""
    world = per_machine * plans.nodes
    shards = Shards.of(plans.sharding, per_machine, world)
    cores = np.array([1.0 if device is None else float(device.cores) for device in devices])[row]
    return memory_peak(
        profile,
        plans.micro_ratio,
        world,
        shards.weights > 1,
        passes=plans.accumulate,
        shards=shards,
        cores=cores,
    )


def _stack_memory(
    rollout: Rollout,
    peak: MemoryPeak,
    shards: Array,
    engine_bytes: Array,
    several: Flags,
) -> tuple[Array, Array]:
    """
    Return bytes of one device in each phase and what of them is known without doubt, both of shape (3, n).

    Args:
        rollout: what is generated, and how.
        peak: of the updates.
        shards: devices that divide the weights, shape (n,).
        engine_bytes: that the engine takes of one device.
        several: whether several devices train.
    """
    parts = peak.parts
    reference = rollout.reference_bytes / shards
    own = CONTEXT_BYTES + np.where(several, COLLECTIVE_BYTES, 0.0)
    resting = parts.weights_bytes + parts.optimizer_bytes + own + reference
    nothing = np.zeros_like(resting)
    beside = nothing
    if rollout.engine == "vllm-colocated":
        beside = np.full_like(resting, _SLEEPING_BYTES) if rollout.vllm_sleeps else engine_bytes
    if rollout.engine == "vllm-server":
        generating = engine_bytes
    elif rollout.engine == "vllm-colocated":
        generating = resting + engine_bytes
    else:
        # Weights in shards are gathered whole before `generate`.
        generating = resting + engine_bytes + parts.weights_bytes * (shards - 1)
    scoring = resting + parts.temporary_bytes + beside
    update = peak.peak_bytes + reference + beside
    certain = nothing if rollout.engine == "transformers" else engine_bytes
    return np.stack([generating, scoring, update]), np.stack([certain, beside, beside])
