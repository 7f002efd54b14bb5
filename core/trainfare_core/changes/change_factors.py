"""
What can differ between two profiles of a job, one factor at a time, and profiles that take some factors from each.

| factor | is |
|---|---|
| prices | the price book |
| steps | optimizer steps of the run |
| global_batch | samples per optimizer step over all devices |
| devices | whether the batch follows the devices: `devices="auto"`, or the launcher's number |
| strategy | devices, nodes, accumulation and Lightning's strategy of the profile |
| precision | Lightning's precision |
| model | operations, parameters, optimizer, synchronized norms: FLOPs and bytes of a sample |
| memory_fit | peak memory of a device, and so which machines and plans fit |
| validation | validation samples in the whole run |
| checkpoints | size and interval |
| compilation | torch.compile |
| trace | what is left in the operations when nothing above differs |
| base_measurement, head_measurement | a measured step, which corrects the predicted one; left out in between |

The operations of a profile cannot be divided, so they belong to one factor: to `model` where FLOPs, bytes or parameters
of a sample differ, else to the precision, the global batch or the strategy, whichever differs first. Where model and
precision both differ, a profile with the model of one and the precision of the other is the first with every floating
type replaced by the one which most bytes of that kind and phase have in the second, and its bytes scaled by the size.

Steps and global batch of a job whose batch follows the devices are compared on the devices of the other job: what they
are on one device is no change of the script (`compare_on_same_devices`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from trainfare_core.batch_scaling import launch_on, scale_run
from trainfare_core.candidates import CandidateTable
from trainfare_core.errors import InputError
from trainfare_core.job_profile import EpochFacts, JobProfile, OperationGroup, OperationKind, Phase, RunPlan
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.ranking.pricing.plan_search import Predictor

Factor: TypeAlias = Literal[
    "base_measurement",
    "prices",
    "steps",
    "global_batch",
    "devices",
    "strategy",
    "precision",
    "model",
    "memory_fit",
    "validation",
    "checkpoints",
    "compilation",
    "trace",
    "head_measurement",
]
FACTORS: Final[tuple[Factor, ...]] = get_args(Factor)

SAME_FLOPS: Final = 1e-3
"""Relative difference of FLOPs per sample up to which two models are the same: what does not scale with the batch, such
as a loss's last sum, is far below."""

SAME_BYTES: Final = 0.02
"""The same for bytes: random states, masks and indices do not scale with the batch; a changed layer moves more."""

_BYTES: Final = {"fp64": 8, "fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "mxfp8": 1}
"""Size of a floating type; other types are left as they are."""


_OTHER_DEVICES: Final = np.array([1, 8])
"""On which steps by epochs are not those that are stated. Chosen: one machine of each usual size."""


def compare_on_same_devices(base: JobProfile, head: JobProfile) -> tuple[JobProfile, JobProfile]:
    """Return base and head, that one whose batch follows the devices as it is on those of the other."""
    if follows_devices(head):
        return base, _launch_as(head, base)
    return (_launch_as(base, head) if follows_devices(base) else base), head


def follows_devices(profile: JobProfile) -> bool:
    """Return whether each device of a job has the batch of one, as the script stands."""
    return profile.batch.scales == "per_device"


def _launch_as(profile: JobProfile, other: JobProfile) -> JobProfile:
    layout = other.parallel
    if profile.parallel.replicas or layout.replicas:
        return profile
    try:
        launched = launch_on(profile, layout.devices, layout.num_nodes)
    except InputError:  # an epoch has no step there
        return profile
    scales = profile.batch.scales
    return launched.model_copy(update={"batch": launched.batch.model_copy(update={"scales": scales})})


@dataclass(frozen=True)
class MixedProfiles:
    """Base and head of a change on the same devices, and the profiles between them."""

    base: JobProfile
    head: JobProfile

    @cached_property
    def changed(self) -> tuple[Factor, ...]:
        """Factors that differ between the profiles, in the order of `FACTORS`; prices are not theirs."""
        base, head = self.base, self.head
        both_follow = follows_devices(base) and follows_devices(head)
        split = base.parallel != head.parallel or base.batch.micro_batch_size != head.batch.micro_batch_size
        differs: dict[Factor, bool] = {
            "steps": _count_steps(base, both_follow) != _count_steps(head, both_follow),
            "global_batch": base.global_samples_per_step != head.global_samples_per_step,
            "devices": follows_devices(base) != follows_devices(head),
            "strategy": split,
            "precision": base.precision != head.precision,
            "model": not _same_model(base, head),
            "memory_fit": _resident(base) != _resident(head),
            "validation": _validation(base) != _validation(head),
            "checkpoints": _checkpoints(base) != _checkpoints(head),
            "compilation": base.source.compiled != head.source.compiled,
            "trace": _drop_other_factors(base) != _drop_other_factors(head),
            "base_measurement": base.measured != head.measured,
            "head_measurement": base.measured != head.measured,
        }
        if not (differs["model"] or differs["precision"]):
            differs["memory_fit"] = False  # the same memory, traced with another micro-batch
        if any(differs[name] for name in ("model", "precision", "global_batch", "strategy")):
            differs["trace"] = False
        if self.shared_batch and not (differs["strategy"] and self._owner(differs) == "strategy"):
            differs["strategy"] = False  # plans share the global batch over the devices of each machine
        return tuple(name for name in FACTORS if differs.get(name))

    @cached_property
    def shared_batch(self) -> bool:
        """Whether both global batches are known, so that one profile can be priced with the other's."""
        return None not in (self.base.global_samples_per_step, self.head.global_samples_per_step)

    @cached_property
    def owner(self) -> Factor:
        """The factor that the operations belong to."""
        return self._owner(dict.fromkeys(self.changed, True))

    def _owner(self, differs: dict[Factor, bool]) -> Factor:
        order: tuple[Factor, ...] = ("model", "precision", "global_batch", "strategy", "trace")
        for name in order:
            if differs.get(name):
                return name
        return "trace"

    def mix(self, taken: frozenset[Factor]) -> JobProfile | str:
        """Return the profile with the given factors of head and the others of base, or why there is none."""
        side = self._side(self.owner, taken)
        other = self.head if side is self.base else self.base
        operations = side.operations
        precision = side.precision
        if self.owner != "precision" and self._side("precision", taken).precision != precision:
            operations, precision = _with_precision(side.operations, other.operations), other.precision
        batch, parallel = side.batch, side.parallel
        if self.shared_batch:
            samples = self._side("global_batch", taken).global_samples_per_step or 0
            share, left = divmod(samples, side.parallel.data_parallel_size)
            if left or not share:
                return (
                    f"a global batch of {samples:,} cannot be shared by the {side.parallel.data_parallel_size} devices "
                    "of the profile"
                )
            batch = batch.model_copy(
                update={"samples_per_step": share, "scales": self._side("devices", taken).batch.scales}
            )
        elif self.owner != "strategy":
            layout = self._side("strategy", taken).parallel
            parallel = parallel.model_copy(
                update={
                    name: getattr(layout, name) for name in ("devices", "num_nodes", "strategy", "replicas")
                }
            )
        steps, saves = self._side("steps", taken).plan, self._side("checkpoints", taken).plan
        validation = self._side("validation", taken)
        validation_batches = _validation_batches(validation, side)
        plan = side.plan.model_copy(
            update={
                "optimizer_steps": steps.optimizer_steps,
                "unknown_because": steps.unknown_because,
                "max_time_s": steps.max_time_s,
                "epochs": steps.epochs,
                "epoch": _mix_epoch(steps, validation.plan, validation_batches, saves),
                "validation_batches": validation_batches,
                "checkpoint_bytes": saves.checkpoint_bytes,
                "checkpoint_every_n_steps": saves.checkpoint_every_n_steps,
            }
        )
        compiled = self._side("compilation", taken).source.compiled
        measured = None if "base_measurement" in self.changed else side.measured
        return side.model_copy(
            update={
                "operations": operations,
                "precision": precision,
                "batch": batch,
                "parallel": parallel,
                "plan": plan,
                "source": side.source.model_copy(update={"compiled": compiled}),
                "measured": measured,
            }
        )

    def predictor(self, taken: frozenset[Factor], predict: Predictor) -> Predictor:
        """Return the predictor of that profile's time with the memory of the side that `memory_fit` names."""
        fit_profile = self._side("memory_fit", taken)
        if "memory_fit" not in self.changed or fit_profile is self._side(self.owner, taken):
            return predict

        def predict_mixed(
            profile: JobProfile, shapes: MachineShapes, candidates: CandidateTable
        ) -> PredictionTable:
            timed = predict(profile, shapes, candidates)
            micro = fit_profile.batch.micro_batch_size
            ratio = candidates.micro_batch / micro if micro and self.shared_batch else candidates.micro_ratio
            memory = predict(fit_profile, shapes, replace(candidates, micro_ratio=ratio))
            return replace(
                timed,
                memory_bytes=memory.memory_bytes,
                memory_log_sigma=memory.memory_log_sigma,
                usable_memory_bytes=memory.usable_memory_bytes,
                fits=memory.fits & np.isfinite(timed.step_s),
            )

        return predict_mixed

    def _side(self, factor: Factor, taken: frozenset[Factor]) -> JobProfile:
        return self.head if factor in taken else self.base


def sample_flops(profile: JobProfile) -> dict[tuple[OperationKind, Phase], float]:
    """Return FLOPs by kind and phase, per sample of a device where the batch is known, else per optimizer step."""
    flops: dict[tuple[OperationKind, Phase], float] = {}
    for group in profile.operations:
        key = (group.kind, group.phase)
        flops[key] = flops.get(key, 0.0) + group.flops / (profile.batch.samples_per_step or 1)
    return flops


def _same_model(base: JobProfile, head: JobProfile) -> bool:
    """Whether parameters, optimizer, synchronized norms, and FLOPs and bytes of a sample agree."""

    def batch_part(profile: JobProfile, amount: Callable[[OperationGroup], int]) -> float:
        groups = (group for group in profile.operations if group.phase != "optimizer")
        return sum(map(amount, groups)) / (profile.batch.samples_per_step or 1)

    def parameters(profile: JobProfile) -> tuple[int, int]:
        return sum(group.count for group in profile.parameters), profile.trainable_parameters

    flops = [batch_part(side, lambda group: group.flops) for side in (base, head)]
    moved = [batch_part(side, lambda group: group.bytes_moved - group.bytes_fixed) for side in (base, head)]
    return (
        parameters(base) == parameters(head)
        and base.optimizer.names == head.optimizer.names
        and base.batch.synchronized_norms == head.batch.synchronized_norms
        and math.isclose(*flops, rel_tol=SAME_FLOPS)
        and (base.precision != head.precision or math.isclose(*moved, rel_tol=SAME_BYTES))
    )


def _count_steps(profile: JobProfile, follows: bool) -> list[float | None]:  # noqa: FBT001 - of this module
    """Return the steps of a run, and those on other devices where its batch follows them: by epochs, or stated."""
    steps = profile.plan.optimizer_steps
    return [steps, *(scale_run(profile, _OTHER_DEVICES).steps.tolist() if follows and steps else [])]


def _resident(profile: JobProfile) -> tuple[object, ...]:
    return profile.memory, profile.parameters, profile.optimizer


def _drop_other_factors(profile: JobProfile) -> JobProfile:
    """Return a profile without what other factors are about, and without what no price depends on."""
    source = profile.source.model_copy(update={"tool_version": "", "compiled": False})
    batch = profile.batch.model_copy(update={"scales": None})
    plan = RunPlan(optimizer_steps=0)
    reset = {"name": "", "notes": (), "plan": plan, "measured": None, "source": source, "batch": batch}
    return profile.model_copy(update=reset)


def _checkpoints(profile: JobProfile) -> tuple[int, int | None]:
    return profile.plan.checkpoint_bytes, profile.plan.checkpoint_every_n_steps


def _validation(profile: JobProfile) -> int:
    """Return the validation samples of the whole run, batches where the size of a batch is not known."""
    batches = profile.plan.validation_batches * profile.parallel.data_parallel_size
    return batches * (profile.batch.micro_batch_size or 1)


def _validation_batches(source: JobProfile, own_profile: JobProfile) -> int:
    """Return one side's validation in batches per device of the other, to the nearest batch."""
    if not (source.batch.micro_batch_size and own_profile.batch.micro_batch_size):
        return source.plan.validation_batches
    return round(
        _validation(source) / (own_profile.batch.micro_batch_size * own_profile.parallel.data_parallel_size)
    )


def _mix_epoch(
    steps: RunPlan, validation: RunPlan, validation_batches: int, saves: RunPlan
) -> EpochFacts | None:
    """
    Return what a mixed length is counted from on other devices, each fact from the plan that says it here.

    Args:
        steps: gives the epoch and its end.
        validation: gives how often it validates.
        validation_batches: of its whole run, in those of the mixed profile.
        saves: gives how often it saves.
    """
    if steps.epoch is None:
        return None
    validated, saved = validation.epoch or steps.epoch, saves.epoch or steps.epoch
    ratio = validation_batches / validation.validation_batches if validation.validation_batches else 1.0
    return steps.epoch.model_copy(
        update={
            "validation_batches": round(validated.validation_batches * ratio),
            "validation_shared": validated.validation_shared,
            "validate_every_n_steps": validated.validate_every_n_steps,
            "validate_every_n_epochs": validated.validate_every_n_epochs,
            "validations_in_epoch": validated.validations_in_epoch,
            "checkpoint_every_n_epochs": saved.checkpoint_every_n_epochs,
        }
    )


def _with_precision(
    operations: tuple[OperationGroup, ...], like: tuple[OperationGroup, ...]
) -> tuple[OperationGroup, ...]:
    """Return operations with the floating types of others, by kind and phase, and bytes to match."""
    moved: dict[tuple[OperationKind, Phase], dict[str, int]] = {}
    for group in like:
        if group.dtype in _BYTES:
            types = moved.setdefault((group.kind, group.phase), {})
            types[group.dtype] = types.get(group.dtype, 0) + group.bytes_moved

    def change_precision(group: OperationGroup) -> OperationGroup:
        types = moved.get((group.kind, group.phase))
        if not types or group.dtype not in _BYTES:
            return group
        dtype = max(sorted(types), key=types.__getitem__)
        size, before = _BYTES[dtype], _BYTES[group.dtype]
        read, written, fixed = (
            bytes_ * size // before for bytes_ in (group.bytes_read, group.bytes_written, group.bytes_fixed)
        )
        return group.model_copy(
            update={
                "dtype": dtype,
                "bytes_read": read,
                "bytes_written": written,
                "bytes_fixed": min(fixed, read + written),
            }
        )

    return tuple(change_precision(group) for group in operations)
