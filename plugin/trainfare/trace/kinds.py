"""
The kind of an operation, its shape with the axes of `SHAPE_AXES`, and its compute type.

To give a new operation of torch a kind, add a row to `operator_kinds.csv`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, cast

import torch

from trainfare.trace import torch_private
from trainfare.trace.shapes import operation_shape
from trainfare_core.job_profile import OperationKind


def read_pairs(name: str) -> dict[str, str]:
    """Return the rows of a table of two columns beside this module, without its heads; the later row of a key holds."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return dict(csv.reader(text.splitlines()[1:]))


SKIPPED_NAMESPACES: Final = frozenset({
    "prim", "profiler", "c10d", "_c10d_functional", "c10d_functional", "_dtensor"
})  # fmt: skip
"""Not kernels of the model: metadata, profiler marks, and collectives, whose time the prediction adds per plan."""

_KINDS: Final = cast("dict[str, OperationKind]", read_pairs("operator_kinds.csv"))
"""By the name of an aten operation without the endings `_`, `_backward`, `_backward_data` and `_forward`."""
TRAITS: Final = read_pairs("operator_traits.csv")
"""
What is particular about an aten operation; in a name, `*` stands for any letters.

"no kernel": it runs on the host alone, or only makes the host wait for the device. "writes only": it overwrites its
first operand without reading it. "sizes only": it reads the sizes of its first operand, and not the operand. "gathers":
it reads from its first operand as many bytes as it returns, or a row for each index of a bag. "scatters": it changes a
few rows of its first operand. "costly": it is called like decompositions, solvers and products, which do much more
arithmetic than their bytes suggest: without a formula they are "unknown", and every other one is taken to be bound by
memory bandwidth.
"""
_COSTLY: Final = [pattern for pattern, trait in TRAITS.items() if trait == "costly"]
# Kinds whose time is decided by FLOPs: without a formula such an operation is "unknown".
_NEEDS_FORMULA: Final = frozenset(
    {"matmul", "grouped_matmul", "convolution", "attention", "recurrent", "fft"}
)

_DTYPES: Final = {
    "float64": "fp64",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "uint8": "int8",
}
"""Torch's names that a profile abbreviates, besides those of fp8."""


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype in a profile: fp32, bf16, fp8, int8, ..."""
    word = str(dtype).removeprefix("torch.")
    return "fp8" if word.startswith("float8") else _DTYPES.get(word, word)


def free_of_kernels(func: Any) -> bool:
    """Return whether an operation launches no kernel: a view, a metadata change, or an allocation."""
    name = str(func.overloadpacket.__name__)
    if name.startswith(("empty", "new_empty", "sym_")) or TRAITS.get(name) == "no kernel":
        return True
    return bool(func.is_view) or torch.Tag.inplace_view in func.tags


def classify(
    func: Any, args: Sequence[Any], out: Any, *, has_formula: bool
) -> tuple[OperationKind, tuple[int, ...]]:
    """
    Return the kind of an operation and its shape (`SHAPE_AXES`).

    Args:
        func: the `OpOverload`, or a higher-order operator.
        args: as dispatched.
        out: the result.
        has_formula: whether its FLOPs are known. Without a formula, an operation is "unknown" if it is not torch's
            own or may need many FLOPs per byte: zero FLOPs would be a wrong count.
    """
    packet = getattr(func, "overloadpacket", func)
    name = str(packet.__name__)
    kind = _kind(func, name, has_formula=has_formula)
    return kind, operation_shape(kind, name, args, out)


def _kind(func: Any, name: str, *, has_formula: bool) -> OperationKind:
    if getattr(func, "namespace", "") == "trainfare":
        return "elementwise"  # unpacks 4-bit weights (`trainfare.methods.four_bit_layer`)
    if getattr(func, "namespace", "") not in ("aten", "prims", "higher_order"):
        return "matmul" if has_formula else "unknown"
    known = _KINDS.get(name)
    if known is None:
        base = name
        for ending in ("_", "_backward", "_backward_data", "_forward", "_backward_no_training"):
            base = base.removesuffix(ending)
        known = _KINDS.get(base)
        if base.startswith("_fft"):
            known = "fft"
        elif base.startswith(("_foreach", "_fused")) and known is None:
            known = "optimizer"
    if known is not None:
        return "unknown" if known in _NEEDS_FORMULA and not has_formula else known
    tags = getattr(func, "tags", ())
    if torch.Tag.pointwise in tags:
        return "elementwise"
    if has_formula:
        return "matmul"
    if func.namespace == "higher_order" or any(fnmatchcase(name, pattern) for pattern in _COSTLY):
        return "unknown"
    return "elementwise" if name.endswith("_backward") else "other"


def compute_dtype(
    kind: OperationKind, name: str, tensors: Sequence[torch.Tensor], out: Sequence[torch.Tensor]
) -> str:
    """
    Return the type an operation computes in: that of its first floating operand, or of the result of a copy.

    Full-precision convolutions, recurrent layers and matrix products are "tf32" where torch's switches allow it on a
    CUDA device. Fused attention does not read them: in fp32 its kernel makes each product of several in TF32, and is
    timed as fp32. A product in fp8 whose scales are powers of two (e8m0, one for each block of 32 values) is "mxfp8".
    """
    first = (*out, *tensors) if kind == "copy" or not tensors else (*tensors, *out)
    chosen = next((t.dtype for t in first if t.is_floating_point() or t.is_complex()), None)
    if kind == "embedding" and not name.endswith("_backward"):
        chosen = out[0].dtype if out else chosen
    if chosen is None:
        chosen = first[0].dtype if first else torch.float32
    word = dtype_name(chosen)
    if word == "fp8" and kind == "matmul" and any("e8m0" in str(t.dtype) for t in tensors):
        return "mxfp8"
    if word == "fp32":
        if kind in ("convolution", "recurrent") and torch_private.tf32_convolution():
            return "tf32"
        if kind in ("matmul", "grouped_matmul") and torch_private.tf32_matmul():
            return "tf32"
    return word
