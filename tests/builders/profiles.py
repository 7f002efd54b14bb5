"""Job profiles for tests: a ResNet-50 and a GPT, written out operation by operation from their shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainfare_core.job_profile import (
    BatchFacts,
    JobProfile,
    MemoryFacts,
    OperationGroup,
    OptimizerFacts,
    ParallelFacts,
    ParameterGroup,
    Phase,
    ProfileSource,
    RunPlan,
)

_SIZE = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}


def operation(**overrides: Any) -> OperationGroup:
    """Return one operation group: a large bf16 matrix product by default."""
    fields: dict[str, Any] = {
        "kind": "matmul",
        "name": "aten.mm",
        "phase": "forward",
        "dtype": "bf16",
        "shape": (1, 4096, 4096, 4096),
        "launches": 1,
        "flops": 2 * 4096**3,
        "bytes_read": 2 * 2 * 4096**2,
        "bytes_written": 2 * 4096**2,
        "bytes_fixed": 0,
    }
    return OperationGroup(**{**fields, **overrides})


def profile(**overrides: Any) -> JobProfile:
    """
    Return the profile of a ResNet-50 on 224 x 224 images, SGD with momentum, on one device.

    Args:
        overrides: `batch_size` (samples of one micro-batch, 256), `dtype` of the convolutions ("bf16"; "fp32" and
            "tf32" are full precision), and any field of `JobProfile` by name.
    """
    batch = overrides.pop("batch_size", 256)
    dtype = overrides.pop("dtype", "bf16")
    operations, saved_bytes, parameters = _resnet50(batch, dtype)
    fields: dict[str, Any] = {
        "name": "resnet50",
        "source": ProfileSource(how="fake", tool_version="0", torch_version="2.8.0"),
        "precision": {"fp32": "32-true", "tf32": "32-true", "fp16": "16-mixed"}.get(dtype, "bf16-mixed"),
        "operations": operations,
        "parameters": (
            ParameterGroup(dtype="fp32", trainable=True, count=parameters, parameter_bytes=4 * parameters),
        ),
        "optimizer": OptimizerFacts(names=("SGD",), state_bytes=4 * parameters, implementation="foreach"),
        "memory": MemoryFacts(
            saved_activation_bytes=saved_bytes,
            gradient_bytes=4 * parameters,
            buffer_bytes=4 * 53_120,
            input_bytes=batch * (4 * 3 * 224**2 + 8),
            largest_temporary_bytes=3 * batch * 64 * 112**2 * _SIZE[dtype],
        ),
        "batch": BatchFacts(micro_batch_size=batch, samples_per_step=batch),
        "parallel": ParallelFacts(),
        "plan": RunPlan(
            optimizer_steps=450_000,
            epochs=90,
            validation_batches=17_550,
            checkpoint_bytes=8 * parameters,
            checkpoint_every_n_steps=5_000,
        ),
    }
    return JobProfile(**{**fields, **overrides})


def gpt_profile(**overrides: Any) -> JobProfile:
    """
    Return the profile of a GPT-2-like decoder trained in bf16-mixed with AdamW, on one device.

    Args:
        overrides: `layers` (12), `width` (768), `heads` (12), `sequence` (1024), `vocabulary` (50304), `batch_size`
            (samples of one micro-batch, 8), `dtype` ("bf16"), `attention` ("flash", or "math": scores are written to
            memory), `dropout` (False), `head` (True: logits over the vocabulary), `checkpointing` (False: every layer
            runs forward again in backward), and any field of `JobProfile` by name.
    """
    layers, width = overrides.pop("layers", 12), overrides.pop("width", 768)
    heads, sequence = overrides.pop("heads", 12), overrides.pop("sequence", 1024)
    vocabulary, batch = overrides.pop("vocabulary", 50_304), overrides.pop("batch_size", 8)
    dtype, attention = overrides.pop("dtype", "bf16"), overrides.pop("attention", "flash")
    dropout, head = overrides.pop("dropout", False), overrides.pop("head", True)
    checkpointing = overrides.pop("checkpointing", False)
    parameters = 12 * layers * width**2 + vocabulary * width + sequence * width
    tokens = batch * sequence
    size = _SIZE[dtype]
    scores = batch * heads * sequence**2 * size if attention == "math" else 0
    layer_bytes = tokens * (17 * width * size + 4 * width) + (2 + dropout) * scores
    saved_bytes = layers * tokens * width * size + layer_bytes if checkpointing else layers * layer_bytes
    saved_bytes += head * tokens * vocabulary * (4 + size)
    fields: dict[str, Any] = {
        "name": "gpt",
        "source": ProfileSource(how="fake", tool_version="0", torch_version="2.8.0"),
        "precision": {"fp32": "32-true", "tf32": "32-true", "fp16": "16-mixed"}.get(dtype, "bf16-mixed"),
        "operations": _gpt(
            layers,
            width,
            heads,
            sequence,
            vocabulary,
            batch,
            dtype,
            attention=attention,
            dropout=dropout,
            head=head,
            checkpointing=checkpointing,
        ),
        "parameters": (
            ParameterGroup(dtype="fp32", trainable=True, count=parameters, parameter_bytes=4 * parameters),
        ),
        "optimizer": OptimizerFacts(names=("AdamW",), state_bytes=8 * parameters, implementation="foreach"),
        "memory": MemoryFacts(
            saved_activation_bytes=saved_bytes,
            gradient_bytes=4 * parameters,
            input_bytes=16 * tokens,
            largest_temporary_bytes=tokens * (vocabulary if head else 4 * width) * (4 + size),
        ),
        "batch": BatchFacts(micro_batch_size=batch, samples_per_step=batch, tokens_per_step=tokens),
        "parallel": ParallelFacts(),
        "plan": RunPlan(optimizer_steps=100_000, checkpoint_bytes=12 * parameters),
    }
    return JobProfile(**{**fields, **overrides})


def write_profile(folder: Path, profile: JobProfile, name: str = "job.json") -> str:
    """Write a profile as a file of a folder and return its path."""
    path = folder / name
    path.write_text(profile.to_json(), encoding="utf-8")
    return str(path)


def _resnet50(batch: int, dtype: str) -> tuple[tuple[OperationGroup, ...], int, int]:
    """Return the operations of one step, the bytes saved for backward and the number of parameters."""
    groups: list[OperationGroup] = []
    size = _SIZE[dtype]
    saved = parameters = 0
    for c_in, c_out, kernel, out, stride, count in _resnet50_convolutions():
        weights, inputs = c_in * c_out * kernel**2, batch * c_in * (out * stride) ** 2
        outputs = batch * c_out * out**2
        shape = (batch, c_in, c_out, 1, 1, kernel, kernel, 1, out, out, stride, 0)
        groups += _linear_like(
            "convolution", shape, dtype, count, 2 * outputs * c_in * kernel**2, inputs, weights, outputs
        )
        groups += _vector(
            "normalization", dtype, count, outputs, reads=(1, 2), saves_row=(outputs // c_out, c_out)
        )
        if kernel > 1 or c_out <= c_in:  # the others end in the residual sum, whose activation is below
            groups += _vector("activation", dtype, count, outputs, reads=(1, 2))
        saved += 2 * count * outputs * size
        parameters += count * (weights + 2 * c_out)
    for channels, out, blocks in ((256, 56, 3), (512, 28, 4), (1024, 14, 6), (2048, 7, 3)):
        elements = batch * channels * out**2
        groups += _vector("elementwise", dtype, blocks, elements, reads=(2, 1))
        groups += _vector("activation", dtype, blocks, elements, reads=(1, 2))
    groups += _vector("pooling", dtype, 1, batch * 64 * 112**2, reads=(1, 1))
    groups += _linear_like(
        "matmul",
        (1, batch, 1000, 2048),
        dtype,
        1,
        2 * batch * 2048 * 1000,
        batch * 2048,
        2048 * 1000,
        batch * 1000,
    )
    groups += _vector("loss", "fp32", 1, batch * 1000, reads=(1, 1))
    parameters += 2048 * 1000 + 1000
    groups += _optimizer(parameters, launches=6, passes_read=3, passes_written=2, dtype=dtype, tensors=161)
    return tuple(groups), saved, parameters


def _resnet50_convolutions() -> list[tuple[int, int, int, int, int, int]]:
    """Return rows of (c_in, c_out, kernel, out size, stride, how often) of torchvision's ResNet-50."""
    rows = [(3, 64, 7, 112, 2, 1)]
    c_in = 64
    for width, out, blocks in ((64, 56, 3), (128, 28, 4), (256, 14, 6), (512, 7, 3)):
        stride = 1 if width == 64 else 2
        rows += [
            (c_in, width, 1, out * stride, 1, 1),
            (width, width, 3, out, stride, 1),
            (width, 4 * width, 1, out, 1, blocks),
            (c_in, 4 * width, 1, out, stride, 1),
            (4 * width, width, 1, out, 1, blocks - 1),
            (width, width, 3, out, 1, blocks - 1),
        ]
        c_in = 4 * width
    return rows


def _gpt(
    layers: int, width: int, heads: int, sequence: int, vocabulary: int, batch: int, dtype: str, *,
    attention: str, dropout: bool, head: bool, checkpointing: bool,
) -> tuple[OperationGroup, ...]:  # fmt: skip
    tokens, elements, head_dim = batch * sequence, batch * sequence * width, width // heads
    groups: list[OperationGroup] = []
    for n, k, count in ((3 * width, width, layers), (width, width, layers), (4 * width, width, layers),
                        (width, 4 * width, layers)):  # fmt: skip
        groups += _linear_like(
            "matmul", (1, tokens, n, k), dtype, count, 2 * tokens * n * k, tokens * k, n * k, tokens * n
        )
    if attention == "flash":
        groups += _flash_attention(layers, (batch, heads, heads, sequence, sequence, head_dim, 1), dtype)
    else:
        groups += _math_attention(layers, (batch * heads, sequence, head_dim), dtype, dropout=dropout)
    groups += _vector("normalization", "fp32", 2 * layers, elements, reads=(1, 2), saves_row=(tokens, width))
    groups += _vector("activation", dtype, layers, 4 * elements, reads=(1, 2))
    groups += _vector("elementwise", "fp32", 2 * layers, elements, reads=(2, 1))
    groups += _vector("copy", dtype, 4 * layers, elements, reads=(1, 1))
    if dropout:
        groups += _vector("dropout", dtype, 2 * layers, elements, reads=(1, 1))
    if checkpointing:
        groups += [
            group.model_copy(update={"phase": "backward", "recomputed": True})
            for group in groups
            if group.phase == "forward"
        ]
    groups += _vector("normalization", "fp32", 1, elements, reads=(1, 2), saves_row=(tokens, width))
    groups += _vector("embedding", "fp32", 2, elements, reads=(1, 1))
    if head:
        groups += _linear_like(
            "matmul", (1, tokens, vocabulary, width), dtype, 1, 2 * tokens * vocabulary * width,
            tokens * width, vocabulary * width, tokens * vocabulary,
        )  # fmt: skip
        groups += _vector("loss", "fp32", 1, tokens * vocabulary, reads=(1, 1))
    parameters = 12 * layers * width**2 + vocabulary * width + sequence * width
    groups += _optimizer(
        parameters, launches=12, passes_read=4, passes_written=3, dtype=dtype, tensors=12 * layers + 4
    )
    return tuple(groups)


def _flash_attention(layers: int, shape: tuple[int, ...], dtype: str) -> list[OperationGroup]:
    batch, heads, _, sequence, _, head_dim, _ = shape
    elements = batch * heads * sequence * head_dim
    name = "aten._scaled_dot_product_flash_attention"
    phases: tuple[tuple[Phase, int, int, int], ...] = (("forward", 4, 3, 1), ("backward", 10, 5, 3))
    return [
        operation(
            kind="attention", name=name, phase=phase, dtype=dtype, shape=shape, launches=layers,
            flops=layers * flops * elements * sequence, bytes_read=layers * reads * elements * _SIZE[dtype],
            bytes_written=layers * writes * elements * _SIZE[dtype],
        )
        for phase, flops, reads, writes in phases
    ]  # fmt: skip


def _math_attention(
    layers: int, shape: tuple[int, int, int], dtype: str, *, dropout: bool
) -> list[OperationGroup]:
    products, sequence, head_dim = shape
    scores, elements = products * sequence**2, products * sequence * head_dim
    groups: list[OperationGroup] = []
    for n, k, right, out in (
        (sequence, head_dim, elements, scores),
        (head_dim, sequence, elements, elements),
    ):
        left = elements if k == head_dim else scores
        groups += [
            group.model_copy(update={"bytes_fixed": 0})
            for group in _linear_like(
                "matmul", (products, sequence, n, k), dtype, layers, 2 * scores * head_dim, left, right, out
            )
        ]
    groups += _vector(
        "softmax", dtype, layers, scores, reads=(1, 2), saves_row=(products * sequence, sequence)
    )
    if dropout:
        groups += _vector("dropout", dtype, layers, scores, reads=(1, 1))
    return groups


def _linear_like(
    kind: str,
    shape: tuple[int, ...],
    dtype: str,
    count: int,
    flops: int,
    inputs: int,
    weights: int,
    outputs: int,
) -> list[OperationGroup]:
    """Return forward and backward (input and weight gradient) of a weighted operation; sizes are in elements."""
    size = _SIZE[dtype]
    name = {"matmul": "aten.mm", "convolution": "aten.convolution"}[kind]
    forward = operation(
        kind=kind, name=name, phase="forward", dtype=dtype, shape=shape, launches=count, flops=count * flops,
        bytes_read=count * (inputs + weights) * size, bytes_written=count * outputs * size,
        bytes_fixed=count * weights * size,
    )  # fmt: skip
    backward = operation(
        kind=kind, name=f"{name}_backward", phase="backward", dtype=dtype, shape=shape, launches=2 * count,
        flops=2 * count * flops, bytes_read=count * (2 * outputs + weights + inputs) * size,
        bytes_written=count * (inputs + weights) * size, bytes_fixed=2 * count * weights * size,
    )  # fmt: skip
    return [forward, backward]


def _vector(
    kind: str,
    dtype: str,
    count: int,
    elements: int,
    *,
    reads: tuple[int, int],
    saves_row: tuple[int, int] | None = None,
) -> list[OperationGroup]:
    """Return forward and backward of an operation that only moves memory; `reads` are tensors read in each."""
    size = _SIZE[dtype]
    phases: tuple[tuple[Phase, int], ...] = (("forward", reads[0]), ("backward", reads[1]))
    return [
        operation(
            kind=kind, name=f"aten.{kind}", phase=phase, dtype=dtype, shape=saves_row or (elements,), launches=count,
            flops=count * elements * 2, bytes_read=count * read * elements * size,
            bytes_written=count * elements * size,
        )
        for phase, read in phases
    ]  # fmt: skip


def _optimizer(
    parameters: int, *, launches: int, passes_read: int, passes_written: int, dtype: str, tensors: int
) -> list[OperationGroup]:
    """Return the optimizer update and, in mixed precision, the casts of the weights to the compute type."""
    moved = 4 * parameters * (passes_read + passes_written)
    groups = [
        operation(
            kind="optimizer", name="aten._foreach_add_", phase="optimizer", dtype="fp32", shape=(parameters,),
            launches=launches, flops=4 * parameters, bytes_read=4 * parameters * passes_read,
            bytes_written=4 * parameters * passes_written, bytes_fixed=moved,
        )
    ]  # fmt: skip
    if dtype in ("bf16", "fp16"):
        for phase, read, written in (("forward", 4, 2), ("backward", 2, 4)):
            groups.append(
                operation(
                    kind="copy", name="aten._to_copy", phase=phase, dtype=dtype, shape=(parameters // tensors,),
                    launches=tensors // 3, flops=0, bytes_read=read * parameters, bytes_written=written * parameters,
                    bytes_fixed=(read + written) * parameters,
                )
            )  # fmt: skip
    return groups
