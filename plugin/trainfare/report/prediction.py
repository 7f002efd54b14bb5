"""The answer of `trainfare predict` as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from trainfare.report.escape import terminal_text
from trainfare_core.number_format import percent

if TYPE_CHECKING:
    from trainfare_core.documents import Interval
    from trainfare_core.prediction import MachinePrediction

_OPERATIONS_SHOWN = 12
"""Rows of device time by operation; few enough for one screen, and the JSON has all of them."""


def prediction_text(answer: MachinePrediction) -> str:
    """Return the prediction as text for a terminal."""
    machines = f"{answer.nodes} x " if answer.nodes > 1 else ""
    step, parts = answer.step_s, answer.parts
    lines = [
        f"{answer.job} on {machines}{answer.devices} x {answer.accelerator}, strategy {answer.strategy}"
        + (f", micro-batch {answer.micro_batch:g}" if answer.micro_batch else "")
        + (f", accumulate {answer.accumulate}" if answer.accumulate > 1 else ""),
        "",
        f"  {'step':<12} {seconds_text(step.mid):>10}   80 % interval: {_range(seconds_text, step)}",
    ]
    if answer.guess_because:
        lines.append(f"  a guess: {answer.guess_because}")
    for name, unit, rate in (("samples", "/s", answer.samples_per_s), ("tokens", "/s", answer.tokens_per_s)):
        if rate:
            lines.append(
                f"  {name:<12} {_number(rate.mid) + unit:>10}   80 % interval: {_range(_number, rate)}"
            )
    memory = answer.memory_bytes
    verdict = answer.verdict if answer.fits else f"{answer.verdict}: {_gib(answer.missing_bytes)} missing"
    lines.append(
        f"  memory       {_gib(memory.mid):>10}   80 % interval: {_range(_gib, memory)}"
        f"; usable {_gib(answer.usable_memory_bytes)}: {verdict}"
    )
    allocated = answer.allocated_bytes
    lines.append(
        f"  allocated    {_gib(allocated.mid):>10}   80 % interval: {_range(_gib, allocated)}; max_memory_allocated"
    )
    if answer.mfu is not None and answer.hfu is not None:
        lines.append(
            f"  utilisation  {percent(answer.mfu, 1):>10}   of dense peak (MFU); with recomputation "
            f"{percent(answer.hfu, 1)}"
        )
    lines += ["", "  where the step's time goes"]
    for label, seconds in (
        ("compute bound", parts.compute_bound_s),
        ("memory bound", parts.memory_bound_s),
        ("launches and host", parts.launch_s),
        ("communication, exposed", parts.communication_s),
        ("input pipeline", parts.input_s),
    ):
        lines.append(f"    {label:<24}{seconds_text(seconds):>10} {percent(seconds / step.mid, 1):>8}")
    if not (answer.input_known or parts.input_s):
        lines[-1] = f"    {'input pipeline':<24}{'unknown':>10}"
    lines += ["", "  device time by operation"]
    device_s = sum(part.device_s for part in answer.operations)
    for part in answer.operations[:_OPERATIONS_SHOWN]:
        share = part.device_s / device_s if device_s else 0.0
        lines.append(
            f"    {part.kind:<15}{part.phase:<10}{seconds_text(part.device_s):>9} {percent(share, 1):>8}"
        )
    lines += ["", "  where the memory goes"]
    lines += [
        f"    {name.removesuffix('_bytes'):<24}{_gib(size):>10}"
        for name, size in cast("dict[str, float]", answer.memory_parts.model_dump()).items()
    ]
    if answer.nearest_measured:
        lines += ["", f"  nearest measured: {answer.nearest_measured}"]
    lines += ["", f"  calibrated: {answer.calibrated}", *(f"  note: {note}" for note in answer.notes)]
    return "\n".join(terminal_text(line) for line in lines) + "\n"


def _range(text: Callable[[float], str], interval: Interval) -> str:
    return f"{text(interval.low_80)} to {text(interval.high_80)}"


def seconds_text(seconds: float) -> str:
    """Return seconds, or milliseconds of less than one, in three digits."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _gib(size_bytes: float) -> str:
    return f"{size_bytes / 2**30:.2f} GiB"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
