"""
Stage 1: `JobProfile`, the operations of one optimizer step on one device, and the number of steps.

The profile is the contract between the machine that traced or measured a run and the machine that prices it.
It holds counts, sizes and times; never weights, data, paths or host names. All sizes are bytes, all times
seconds, and one FLOP is one floating-point operation (a multiply-add is two).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, ValidationError, model_validator

from trainfare_core import documents
from trainfare_core.documents import Count, Flops, KeptDocument, Record, check_text, first_problem
from trainfare_core.errors import ProfileError
from trainfare_core.job_profile.fields import Axis, Bytes, Seconds, Text
from trainfare_core.job_profile.rollout import Rollout
from trainfare_core.job_profile.run import FREE_KINDS, BatchFacts, LoaderTime, ParallelFacts, RunPlan

SCHEMA_VERSION: Final = 1

QUANTISED_BYTES: Final = 1.5
"""Bytes a frozen weight below which it is stored in 8 or 4 bits: between 1 and 2 bytes."""

Phase: TypeAlias = Literal["forward", "backward", "optimizer"]
OperationKind: TypeAlias = Literal[
    "matmul",
    "grouped_matmul",
    "convolution",
    "attention",
    "recurrent",
    "normalization",
    "softmax",
    "activation",
    "elementwise",
    "reduction",
    "embedding",
    "pooling",
    "loss",
    "dropout",
    "copy",
    "indexing",
    "fft",
    "optimizer",
    "other",
    "unknown",
]

SHAPE_AXES: dict[str, tuple[str, ...]] = {
    "matmul": ("batch", "m", "n", "k"),
    "grouped_matmul": ("groups", "m", "n", "k"),
    "convolution": (
        "batch",
        "c_in",
        "c_out",
        "groups",
        "kernel_d",
        "kernel_h",
        "kernel_w",
        "out_d",
        "out_h",
        "out_w",
        "stride",
        "channels_last",
    ),
    "attention": ("batch", "heads", "kv_heads", "q_len", "kv_len", "head_dim", "causal"),
    "recurrent": ("batch", "steps", "input", "hidden", "layers", "directions"),
    "normalization": ("rows", "cols"),
    "softmax": ("rows", "cols"),
}
"""What the numbers in `OperationGroup.shape` mean, by kind. Kinds that are absent carry `("elements",)`:
the number of elements of the largest tensor touched by one launch. In a matmul, `batch` products of
(m x k) @ (k x n); `m` of a `grouped_matmul` is the total over its groups."""

REDUCTION_KINDS: Final[frozenset[OperationKind]] = frozenset(
    ("normalization", "softmax", "reduction", "loss")
)
"""Kinds that are pointwise but for a reduction of rows."""
POINTWISE_KINDS: Final[frozenset[OperationKind]] = frozenset(
    (*REDUCTION_KINDS, "elementwise", "activation", "dropout", "copy")
)
"""Kinds that a compiler fuses with their neighbours of these kinds into one kernel."""
USUAL_FUSED_BYTES_SHARE: Final = 0.58
"""Of the bytes of pointwise operations, what moves where they are fused and a profile does not say it: in older
profiles, and on devices behind a graph compiler, which also fuses them into products. A chosen value: 0.29 to 0.89 in
the compiled networks of `benchmarks/workloads/`."""

SPARSE_TENSOR: Final = "aten._sparse_coo_tensor"
"""Start of the names of the operations that make a sparse tensor of its parts, which they keep and do not copy."""


_ONCE_A_STEP: Final = frozenset(("aten._to_copy", "aten.add_"))
"""Fused trainers cast weights once a step and their products add to gradients: the fitted rows' passes have neither."""


class OperationGroup(Record):
    """All launches of one operation that share kind, phase, dtype and shape, within one optimizer step."""

    kind: OperationKind = Field(description="'unknown': no FLOP formula, reported as missing coverage")
    name: Text = Field(description="the operation as torch names it, e.g. 'aten.mm'")
    phase: Phase
    dtype: Text = Field(
        description="compute type: fp32, tf32, fp16, bf16, fp8, mxfp8, fp4, int8, fp64, int64, bool, ..."
    )
    shape: tuple[Axis, ...] = Field(default=(), description="see SHAPE_AXES")
    launches: Count = Field(description="how often it runs in one optimizer step")
    flops: Flops = Field(description="FLOPs of all launches together")
    bytes_read: Bytes = Field(description="bytes of all launches together")
    bytes_written: Bytes = Field(description="bytes of all launches together")
    bytes_fixed: Bytes = Field(
        default=0,
        description="the part of bytes_read + bytes_written that is parameters, gradients or optimizer state "
        "and does not shrink with the batch",
    )
    fused_bytes_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = Field(
        default=None,
        description="of bytes_read + bytes_written, what still moves where a compiler fuses pointwise operations with "
        "their neighbours; None: not known, or of another kind",
    )
    recomputed: bool = Field(
        default=False, description="a forward operation run again in backward (activation checkpointing)"
    )
    in_block: bool = Field(
        default=False,
        description="a forward operation of a block that repeats, which activation checkpointing would run again",
    )

    @property
    def bytes_moved(self) -> int:
        """Bytes read plus bytes written."""
        return self.bytes_read + self.bytes_written

    @property
    def left_where_fused(self) -> float:
        """Share of the bytes that moves where a compiler fuses pointwise operations; 1 for other kinds."""
        if self.kind not in POINTWISE_KINDS:
            return 1.0
        return USUAL_FUSED_BYTES_SHARE if self.fused_bytes_share is None else self.fused_bytes_share

    @model_validator(mode="after")
    def _check_fixed(self) -> OperationGroup:
        if self.bytes_fixed > self.bytes_moved:
            msg = f"bytes_fixed ({self.bytes_fixed}) exceeds bytes_read + bytes_written ({self.bytes_moved})"
            raise ValueError(msg)
        return self


class ModuleWork(Record):
    """Work of one submodule in one phase of an optimizer step; all of them add up to the operations."""

    module: Text = Field(
        description="dotted name, repeated blocks as one: 'encoder.layers.*.mlp'; '' is the step outside of submodules"
    )
    phase: Phase
    flops: Flops
    bytes_moved: Bytes = Field(description="bytes read plus bytes written")


class ParameterGroup(Record):
    """Parameters that share a dtype and are all trainable or all frozen; shared weights are counted once."""

    dtype: Text
    trainable: bool
    count: Count = Field(description="number of scalars")
    parameter_bytes: Bytes


class OptimizerFacts(Record):
    """Optimizer: its state and its implementation."""

    names: tuple[Text, ...] = Field(description="class names, e.g. ('AdamW',)")
    state_bytes: Bytes = Field(description="moments and other tensors kept between steps, on one device")
    implementation: Literal["fused", "foreach", "for_loop", "mixed", "unknown"] = "unknown"


class MemoryMoment(Record):
    """A possible peak: memory in use at one instant beside weights, buffers, optimizer state and batch."""

    phase: Phase
    activation_bytes: Bytes = Field(description="scales with the micro-batch: activations, their gradients")
    fixed_bytes: Bytes = Field(default=0, description="does not scale: weights cast for mixed precision, ...")
    gradient_bytes: Bytes = Field(
        default=0, description="gradients of parameters that are there already, or still"
    )
    optimizer_bytes: Bytes = Field(default=0, description="what the update allocates beside all of that")


class BlockFacts(Record):
    """What activation checkpointing of the blocks that repeat, such as a transformer's layers, would change."""

    classes: tuple[Text, ...] = Field(description="names of the blocks' classes, e.g. ('LlamaDecoderLayer',)")
    count: Annotated[int, Field(ge=1, le=10**9)] = Field(description="blocks that one forward runs")
    saved_activation_bytes: Bytes = Field(
        description="of the saved activations, those that only the blocks hold and that are not their inputs"
    )
    input_bytes: Bytes = Field(
        default=0, description="inputs of the blocks that are not saved activations already"
    )
    largest_bytes: Bytes = Field(
        description="most that one block saves, and the gradients of its largest operation"
    )

    def scale(self, factor: float) -> BlockFacts:
        """Return the facts of a micro-batch of another size."""
        names = ("saved_activation_bytes", "input_bytes", "largest_bytes")
        return self.model_copy(update={name: round(factor * getattr(self, name)) for name in names})


class MemoryFacts(Record):
    """Device memory of one micro-batch on one device, before any sharding."""

    saved_activation_bytes: Bytes = Field(
        description="tensors autograd keeps for backward, each storage once"
    )
    gradient_bytes: Bytes
    buffer_bytes: Bytes = Field(default=0, description="non-parameter module state, e.g. running statistics")
    input_bytes: Bytes = Field(default=0, description="the micro-batch itself")
    largest_temporary_bytes: Bytes = Field(
        default=0, description="largest operands plus result of one operation that are not kept for backward"
    )
    moments: Annotated[tuple[MemoryMoment, ...], Field(max_length=64)] = Field(
        default=(), description="highest instants of one micro-batch and its update; empty: not watched"
    )
    blocks: BlockFacts | None = Field(
        default=None, description="None: no blocks repeat, or not known, as in older profiles"
    )


class Quantiles(Record):
    """A measured time, in seconds."""

    median_s: Seconds
    p10_s: Seconds
    p90_s: Seconds


class MeasuredStep(Record):
    """Wall-clock times of real optimizer steps on the device that ran them."""

    device_name: Text = Field(description="the driver's string, or 'cpu'")
    device_kind: Literal["cpu", "cuda", "xla", "mps", "other"]
    steps: Annotated[int, Field(ge=1, le=10**9)] = Field(description="optimizer steps measured")
    step: Quantiles = Field(description="end to end, per optimizer step, validation subtracted")
    data_wait: Quantiles | None = None
    transfer: Quantiles | None = None
    forward: Quantiles | None = None
    backward: Quantiles | None = None
    optimizer: Quantiles | None = None
    validation_batch: Quantiles | None = Field(default=None, description="one validation batch")
    work_ratio: Annotated[float, Field(gt=0, le=1e3, allow_inf_nan=False)] = Field(
        default=1.0, description="work of the median measured step over that of the profile's mean step"
    )
    peak_memory_bytes: Bytes | None = Field(default=None, description="max_memory_reserved; None on a CPU")
    loader_workers: Count | None = Field(default=None, description="worker processes of the training loader")
    machine: Text = Field(
        default="",
        description="its type, as gcp:g2-standard-12@us-central1, else its processor; empty: not known",
    )
    software: Text = Field(default="", description="torch and Lightning versions")
    _leave_out_machine = documents.leave_out_empty("machine")


class ProfileSource(Record):
    """Origin of the operations: measured or traced, and with which versions."""

    how: Literal["real", "fake"] = Field(description="the step ran on real tensors, or on fake ones")
    tool_version: Text
    torch_version: Text = ""
    compiled: bool = Field(
        default=False, description="the user's step runs under torch.compile; the trace is eager"
    )
    fused: bool = Field(
        default=False,
        description="a trainer with fused kernels of its own, not known which, runs the language model",
    )
    loop: Text = Field("", description="huggingface, keras, plain; else it is left out")
    in_loop: bool = Field(
        default=False,
        description="the step was read in the script's own loop, whose own time counts beside its kernels",
    )
    _leave_out_loop = documents.leave_out_empty("loop", "in_loop")


class StepInPrecision(Record):
    """The profile's step as another precision makes it."""

    precision: Text = Field(description="as in the profile")
    operations: Annotated[tuple[OperationGroup, ...], Field(max_length=100_000)]
    parameters: tuple[ParameterGroup, ...]
    optimizer: OptimizerFacts
    memory: MemoryFacts


class JobProfile(KeptDocument):
    """One training job: operations, memory, batch, plan, and measured times where there are any."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Text
    source: ProfileSource
    precision: Text = Field(description="Lightning's word: 32-true, bf16-mixed, 16-mixed, bf16-true, ...")
    operations: Annotated[tuple[OperationGroup, ...], Field(max_length=100_000)]
    modules: Annotated[tuple[ModuleWork, ...], Field(max_length=100_000)] = Field(
        default=(), description="the operations by submodule; empty: not known, as in older profiles"
    )
    parameters: tuple[ParameterGroup, ...]
    optimizer: OptimizerFacts
    memory: MemoryFacts
    batch: BatchFacts
    parallel: ParallelFacts = ParallelFacts()
    plan: RunPlan
    measured: MeasuredStep | None = None
    work_note: Text | None = Field(default=None, description="what a step is, where steps differ")
    precisions: Annotated[tuple[StepInPrecision, ...], Field(max_length=16)] = Field(
        default=(), description="the same step traced in other precisions, for plans that may change it"
    )
    untraced_precisions: tuple[Text, ...] = Field(default=(), description="that cannot be traced: see notes")
    untraced_because: Text | None = Field(default=None, description="why there are no operations")
    notes: tuple[Text, ...] = Field(default=(), description="what was assumed or could not be seen")
    rollout: Rollout | None = Field(
        default=None,
        description="what is generated before steps of reinforcement learning; else it is left out",
    )
    _leave_out_rollout = documents.leave_out_empty("rollout")

    @property
    def work_log_sigma(self) -> float:
        """Standard deviation of ln(work of the mean step); 0 where all steps do the same."""
        return 0.0 if self.batch.variation is None else self.batch.variation.work_log_sigma

    @property
    def step_flops(self) -> int:
        """FLOPs of one optimizer step on one device, recomputation included (hardware FLOPs)."""
        return sum(group.flops for group in self.operations)

    @property
    def model_step_flops(self) -> int:
        """FLOPs of one optimizer step without recomputation (model FLOPs, the numerator of MFU)."""
        return sum(group.flops for group in self.operations if not group.recomputed)

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all parameters, frozen ones included."""
        return sum(group.parameter_bytes for group in self.parameters)

    @property
    def trainable_parameters(self) -> int:
        """Number of trainable scalars."""
        return sum(group.count for group in self.parameters if group.trainable)

    @property
    def has_quantised_weights(self) -> bool:
        """Whether frozen weights are stored in 8 or 4 bits."""
        return any(
            g.count and g.parameter_bytes < QUANTISED_BYTES * g.count
            for g in self.parameters
            if not g.trainable
        )

    @property
    def operations_as_run(self) -> tuple[OperationGroup, ...]:
        """Operations, but for those of weights and gradients that a trainer with fused kernels runs in no pass."""
        if not self.source.fused:
            return self.operations
        return tuple(
            group for group in self.operations
            if group.phase == "optimizer" or group.name not in _ONCE_A_STEP or group.bytes_fixed < group.bytes_moved
        )  # fmt: skip

    @property
    def unknown_operations(self) -> tuple[OperationGroup, ...]:
        """Operations with no FLOP formula: their bytes are counted, their FLOPs are not known to be zero."""
        return tuple(group for group in self.operations if group.kind == "unknown")

    @property
    def coverage(self) -> float:
        """Share of all bytes moved that belongs to operations with a known FLOP formula, 0..1."""
        unknown = sum(group.bytes_moved for group in self.unknown_operations)
        total = sum(group.bytes_moved for group in self.operations)
        return 1.0 if total == 0 else max(0.0, 1.0 - unknown / total)

    @property
    def global_samples_per_step(self) -> int | None:
        """Samples per optimizer step over all devices, or None where the batch size is not known."""
        per_device = self.batch.samples_per_step
        return None if per_device is None else per_device * self.parallel.data_parallel_size

    def with_loader_time(self, time: LoaderTime | None) -> JobProfile:
        """Return the profile with what its loader took where it was traced.

        ``None`` takes it away, and samples that lie ready in memory keep none.
        """
        is_free = self.batch.input is not None and self.batch.input.kind in FREE_KINDS
        kept = {"loader_time": None if is_free else time}
        return self.model_copy(update={"batch": self.batch.model_copy(update=kept)})

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "profile") -> JobProfile:
        """
        Read a profile.

        >>> from pathlib import Path
        >>> profile = JobProfile.from_json(Path("docs/examples/llama-7b.json").read_bytes())
        >>> profile.name, profile.plan.optimizer_steps, f"{profile.step_flops:.2e} FLOP"
        ('Llama7B', 305175, '1.55e+15 FLOP')
        >>> JobProfile.from_json(profile.to_json()) == profile
        True

        Args:
            text: JSON as written by `to_json`.
            where: what to call it in an error, e.g. the file's name.

        Raises:
            ProfileError: not JSON, not a profile, a key twice, a value out of range, or no schema or a newer one.
        """
        try:
            profile = cls.model_validate_json(text)
            check_text(text, profile)
        except ValueError as error:
            problems = error.error_count() if isinstance(error, ValidationError) else 1
            msg = (
                f"{where}: not a trainfare job profile of schema {SCHEMA_VERSION}: {first_problem(error)} "
                f"({problems} problems). Write it again with `trainfare profile` or FareMeter."
            )
            raise ProfileError(msg) from error
        return profile
