"""
What of a step depends on no coefficient: its operations as arrays, and the most that each device could do for them.

`times.py` makes seconds of both; the fit in `research/trainfare_research/fitting/one_device_rows.py` reads the
same classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Array, Flags
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.job_profile import POINTWISE_KINDS, USUAL_FUSED_BYTES_SHARE, JobProfile, OperationGroup
from trainfare_core.prediction.roofline.coefficients import Calibration, OverheadFit
from trainfare_core.prediction.roofline.features import (
    TENSOR_KINDS,
    Path,
    layout_of,
    serial_kernels,
    uses_winograd,
)

PHASES: Final = ("forward", "backward", "optimizer")

_TENSOR_DTYPES: Final = frozenset(("tf32", "fp16", "bf16", "fp8", "mxfp8", "fp4", "int8"))
_UNFITTED_DTYPES: Final = frozenset(("fp64", "fp8", "mxfp8", "fp4", "int8"))
"""No fitted step has its products in them; of fp8 only the best product of a few devices was timed."""
_PACKED: Final = {"float4_e2m1fn_x2": "products of 4-bit values packed in pairs have no known time"}
_UNFITTED_KINDS: Final = frozenset(("indexing", "fft", "grouped_matmul"))
"""No kernel of them was timed and no fitted step has more than little of them: their terms are those of the prior."""
_FALLBACK: Final[dict[str, tuple[str, ...]]] = {
    "tf32": ("fp32", "bf16"),
    "fp16": ("fp32",),
    "bf16": ("fp32",),
    "fp32": ("bf16",),
}
"""What runs instead where a device lacks a type. A GPU without bf16 or fp16 units computes in fp32; TF32 is
a permission, not a demand; XLA multiplies fp32 in one bf16 pass on devices without fp32 matrix units."""


class OfType(NamedTuple):
    """The operations of one type."""

    dtype: str
    rows: NDArray[np.int64]
    matrix_kind: str
    """Kind of the first one that is matrix work; "" where none is."""


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations of a profile as arrays of shape (operations,); sizes of one optimizer step as profiled."""

    groups: tuple[OperationGroup, ...]
    layout: str
    """Of its convolutions; see `layout_of`."""
    flops: Array
    bytes_batch: Array
    """Bytes that scale with the micro-batch."""
    bytes_fixed: Array
    """Those of weights, and of an optimizer, but for the rows of a batch that it looks up."""
    launches: Array
    kernels: Array
    """Kernels that run one after another: a recurrent layer waits for every time step in one launch."""
    phase: NDArray[np.int64]
    """Index of `PHASES`."""
    by_dtype: tuple[OfType, ...]
    """By the type as wanted; "fp32" for kinds that run on vector units."""
    tensor: Flags
    """Whether it is matrix work."""
    pointwise: Flags
    """Whether a compiler fuses it with its neighbours."""
    fused_bytes_share: Array
    """Of its bytes, what moves where a compiler fuses it; 1 of what is not pointwise."""
    product: Flags
    """Whether it is matrix work but no convolution."""
    recurrent: Flags
    winograd: Flags
    """Whether fewer multiplications may do, on vector units."""
    unfitted: Flags
    """Whether hardly any fitted row holds such work."""
    fused: bool
    """Whether a compiler fuses the pointwise operations on every device."""
    old_host: bool
    """Whether PyTorch 0.x or 1.x runs it: those hosts take longer to issue a launch."""

    @classmethod
    def of(cls, profile: JobProfile) -> Operations:
        """Read a profile."""
        old_host = profile.source.torch_version[:2] in ("0.", "1.")
        compiled = profile.source.compiled or profile.source.fused
        return cls.of_groups(profile.operations_as_run, compiled=compiled, old_host=old_host)

    @classmethod
    def of_groups(
        cls, groups: tuple[OperationGroup, ...], *, compiled: bool = False, old_host: bool = False
    ) -> Operations:
        """Read operations alone."""
        pointwise = np.array([g.kind in POINTWISE_KINDS for g in groups], dtype=np.bool_)
        tensor = np.array([g.kind in TENSOR_KINDS for g in groups], dtype=np.bool_)
        moved = np.array([g.bytes_moved for g in groups], dtype=np.float64)
        whole = [g.phase == "optimizer" and g.kind != "indexing" for g in groups]
        fixed = np.where(whole, moved, np.array([g.bytes_fixed for g in groups], dtype=np.float64))
        return cls(
            groups=groups,
            layout=layout_of(groups),
            flops=np.array([g.flops for g in groups], dtype=np.float64),
            bytes_batch=moved - fixed,
            bytes_fixed=fixed,
            launches=np.array([g.launches for g in groups], dtype=np.float64),
            kernels=np.array([serial_kernels(g) for g in groups], dtype=np.float64),
            phase=np.array([PHASES.index(g.phase) for g in groups], dtype=np.int64),
            by_dtype=_by_dtype(groups),
            tensor=tensor,
            pointwise=pointwise,
            fused_bytes_share=np.array([g.left_where_fused for g in groups], dtype=np.float64),
            product=tensor & ~np.array([g.kind == "convolution" for g in groups], dtype=np.bool_),
            recurrent=np.array([g.kind == "recurrent" for g in groups], dtype=np.bool_),
            winograd=np.array([uses_winograd(g) for g in groups], dtype=np.bool_),
            unfitted=np.array([_is_unfitted(g) for g in groups], dtype=np.bool_),
            fused=compiled,
            old_host=old_host,
        )

    def __len__(self) -> int:
        """Return the number of operations."""
        return len(self.groups)

    def flops_at(self, ratio: float) -> Array:
        """Return FLOPs at a micro-batch of `ratio` times the profile's; the optimizer's stay."""
        return self.flops * np.where(self.phase < 2, ratio, 1.0)

    def bytes_at(self, ratio: float) -> Array:
        """Return bytes at a micro-batch of `ratio` times the profile's."""
        return self.bytes_batch * ratio + self.bytes_fixed

    def bytes_a_launch(self, ratio: float) -> Array:
        """Return bytes of one kernel at a micro-batch of `ratio` times the profile's."""
        return self.bytes_at(ratio) / np.maximum(self.launches, 1.0)

    def by_phase(self, values: Array) -> Array:
        """Return sums over the operations of each phase; (..., operations) becomes (..., 3)."""
        return np.asarray(values @ (self.phase[:, None] == np.arange(3)).astype(np.float64))


def _by_dtype(groups: tuple[OperationGroup, ...]) -> tuple[OfType, ...]:
    matrix_kinds, members = dict[str, str](), dict[str, list[int]]()
    for i, group in enumerate(groups):
        matrix = group.kind in TENSOR_KINDS
        dtype = group.dtype if matrix else "fp32"
        members.setdefault(dtype, []).append(i)
        if matrix:
            matrix_kinds.setdefault(dtype, group.kind)
    return tuple(
        OfType(dtype, np.array(rows, dtype=np.int64), matrix_kinds.get(dtype, ""))
        for dtype, rows in members.items()
    )


def _is_unfitted(group: OperationGroup) -> bool:
    return group.kind in _UNFITTED_KINDS or (
        group.kind in TENSOR_KINDS and group.dtype in _UNFITTED_DTYPES and group.flops > 0
    )


@dataclass(frozen=True, slots=True)
class Roofline:
    """
    The most that one device can do for each operation of a profile; arrays of shape (operations,).

    Attributes:
        device: the accelerator.
        seconds_per_flop: 1 / dense peak of the type that runs; 0 for vector work of a type that it lacks.
        seconds_per_byte: 1 / bandwidth, one number.
        tensor_path: whether the type that runs belongs to the "tensor" path.
        winograd: fp32 convolutions on vector units that may need fewer multiplications.
        matrix_paths: paths that matrix work takes.
        emulated: whether a type is computed in another one.
        unknown_because: why this device has no prediction; "" where it has one.
        notes: assumptions, as sentences.
    """

    device: Accelerator
    seconds_per_flop: Array
    seconds_per_byte: float
    tensor_path: Flags
    winograd: Flags
    matrix_paths: frozenset[Path]
    emulated: bool
    unknown_because: str
    notes: tuple[str, ...]

    @classmethod
    def of(cls, device: Accelerator, operations: Operations) -> Roofline:
        """Return what `device` could do for every operation of a profile."""
        flop_s, tensor_path = np.zeros(len(operations)), np.zeros(len(operations), dtype=np.bool_)
        paths, notes = set[Path](), list[str]()
        emulated, unknown_because = False, ""
        for dtype, rows, matrix_kind in operations.by_dtype:
            used, peak = usable_dtype(device, dtype)
            if peak is None:
                if matrix_kind:
                    lacks = f"{device.name} has no {dtype} arithmetic for {matrix_kind}"
                    unknown_because = unknown_because or _PACKED.get(dtype, lacks)
                continue
            flop_s[rows] = 1.0 / peak
            tensor_path[rows] = used in _TENSOR_DTYPES
            if matrix_kind:
                paths.add("tensor" if used in _TENSOR_DTYPES else "vector")
                if used != dtype and not (dtype == "tf32" and used == "fp32"):
                    emulated = True
                    notes.append(
                        f"{device.name} has no {dtype} units: {dtype} operations are counted at its {used} rate"
                    )
        return cls(
            device, flop_s, 1.0 / device.memory_bandwidth_bytes_per_s, tensor_path,
            operations.winograd & ~tensor_path, frozenset(paths), emulated, unknown_because,
            tuple(dict.fromkeys(notes)),
        )  # fmt: skip

    def compute_unfitted_share(self, operations: Operations) -> float:
        """Return the share of the roofline's time in work that hardly any fitted row holds."""
        if not operations.unfitted.any():
            return 0.0
        time_s = np.maximum(
            operations.flops * self.seconds_per_flop, operations.bytes_at(1.0) * self.seconds_per_byte
        )
        total_s = float(time_s.sum())
        return float(time_s[operations.unfitted].sum()) / total_s if total_s else 0.0

    def is_measured(self, fit: Calibration) -> bool:
        """Whether every arithmetic path with matrix work was in the fit for this generation."""
        return all(fit.is_measured(self.device, path) for path in self.matrix_paths)


def bytes_share(operations: Operations, device: Accelerator) -> Array:
    """Return the share of each operation's eager bytes that a device moves, shape (operations,)."""
    if compiles_graphs(device):
        return np.where(operations.pointwise, USUAL_FUSED_BYTES_SHARE, 1.0)
    return operations.fused_bytes_share if operations.fused else np.ones(len(operations))


def launch_share(operations: Operations, overhead: OverheadFit) -> Array:
    """Return the share of each operation's eager launches that a compiler leaves, shape (operations,)."""
    return np.where(operations.pointwise & operations.fused, overhead.fused_launch_share, 1.0)


def usable_dtype(device: Accelerator, dtype: str) -> tuple[str, float | None]:
    """Return the type that really runs and its dense peak in FLOP/s; None where there is none."""
    known = dtype if dtype in ("fp64", "fp32", *_PACKED) or dtype in _TENSOR_DTYPES else "fp32"
    if known == "tf32" and device.vendor == "amd":
        known = "fp32"  # PyTorch's ROCm build takes the permission only where HIPBLASLT_ALLOW_TF32=1
    for candidate in (known, *_FALLBACK.get(known, ())):
        if peak := device.peak_flops_per_s(candidate):
            return candidate, peak
    return known, None


def mark_compiled_loops(operations: Operations, device: Accelerator) -> Flags:
    """Return which operations are recurrent layers that a graph compiler unrolls."""
    return operations.recurrent & compiles_graphs(device)


def compiles_graphs(device: Accelerator) -> bool:
    """Whether steps reach this device as compiled graphs, so that no host issues single launches."""
    return device.kind != "gpu"
