"""What step and memory consist of on the machines that the headline names, and the work of each module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from trainfare.report.block_builders import build_bars
from trainfare.report.blocks import Block, Column, Heading, Table, Text, Where
from trainfare.report.headline import list_named_options
from trainfare.report.wording import describe_interval, duration, machine_label, short_count
from trainfare_core.errors import TrainfareError
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import percent
from trainfare_core.prediction import MachinePrediction, predict_machine
from trainfare_core.prediction.machine import MemoryBreakdown
from trainfare_core.recommendation import Option, Recommendation

_PHASES: Final = ("forward", "backward", "optimizer")
_MACHINES: Final = 4
"""Of the headline, for their memory. Chosen: each takes a prediction of its own, a few hundredths of a second."""

_ROWS: Final = 10
"""Kinds and modules, the largest first. Chosen: what is left has together a few percent."""

_SAME: Final = 0.01
"""Relative difference above which a prediction is not the one that was ranked, whose network, run cost and earlier runs
it does not have. Chosen: well below any interval."""

_UNKNOWN: Final = (
    "is not known here: the profile is not at hand, the plan splits the model, or it was ranked by more than the "
    "prediction of one machine has."
)


def build_machine_sections(recommendation: Recommendation, profile: JobProfile | None) -> list[Block]:
    """Return the memory by part, the step by kind of operation, and the work by module; a line where unknown."""
    options = [option for _, option in list_named_options(recommendation)][:_MACHINES]
    if not options:
        return []
    predictions = [(option, _predict(recommendation, profile, option)) for option in options]
    return [
        *_build_memory([(option, found) for option, found in predictions if found is not None]),
        *_build_kinds(*predictions[0]),
        *_build_modules(profile),
    ]


def _predict(
    recommendation: Recommendation, profile: JobProfile | None, option: Option
) -> MachinePrediction | None:
    """Return the prediction of an option's plan; None where it is not that of the ranking."""
    if profile is None or option.trainer is None or option.model_split is not None:
        return None
    alone = option.nodes * option.trainer.devices == 1
    sharding: Literal["auto", "none", "ddp", "fsdp", "zero1", "zero2", "hybrid"] = (
        "none" if alone else option.sharding
    )
    try:
        found = predict_machine(
            profile,
            option.accelerator,
            option.trainer.devices,
            option.nodes,
            sharding,
            micro_batch=option.micro_batch_size,
            accumulate=option.accumulate_grad_batches,
            # Of the step only what the device does is shown, which no network changes.
            network_gbit_per_s=100.0 if option.nodes > 1 else None,
            earlier=(*recommendation.earlier_runs, *recommendation.device_figures),
        )
    except TrainfareError:
        return None
    ranked, parts = option.step_parts, found.parts
    pairs = (
        (found.memory_bytes.mid / 2**30, option.memory_gib.mid),
        (parts.compute_bound_s + parts.memory_bound_s, ranked.compute_s + ranked.memory_s),
    )
    return found if all(abs(here - there) <= _SAME * there for here, there in pairs) else None


def _build_memory(predictions: Sequence[tuple[Option, MachinePrediction]]) -> list[Block]:
    what = "Memory of a device, by part, against its limit"
    title = Heading(what, where=Where.PAGE, on_paper=False)
    if not predictions:
        return [title, Text(f"What the memory consists of {_UNKNOWN}", "dim", Where.PAGE)]
    names = [name.removesuffix("_bytes") for name in MemoryBreakdown.model_fields]
    bars: list[tuple[str, list[float], str]] = []
    rows: list[tuple[str, ...]] = []
    for option, found in predictions:
        label, limit_gib = f"#{option.rank} {machine_label(option)}", option.device_memory_gib
        sizes_gib = [float(size) / 2**30 for size in found.memory_parts.model_dump().values()]
        text = f"{describe_interval(option.memory_gib, 'gib')} of {limit_gib:.3g} GiB"
        bars.append((label, [size_gib / max(limit_gib, sum(sizes_gib)) for size_gib in sizes_gib], text))
        rows.append((label, *(f"{size_gib:.3g}" for size_gib in sizes_gib), text))
    columns = (
        Column("machine", names_row=True),
        *(Column(name, right=True) for name in (*names, "GiB in all")),
    )
    caption = (
        "Expected peak of one device in GiB, and its 80 % interval. A whole bar is the memory that the device has; "
        "overhead is held without a tensor in it."
    )
    return [
        title,
        build_bars(what, names, bars, whole=1.0),
        Table(columns, rows, caption, where=Where.PAGE),
    ]


def _build_kinds(option: Option, found: MachinePrediction | None) -> list[Block]:
    title = Heading(
        f"Time of the step by kind of operation, on #{option.rank} {machine_label(option)}",
        where=Where.PAGE,
        on_paper=False,
    )
    if found is None:
        return [title, Text(f"What the operations take {_UNKNOWN}", "dim", Where.PAGE)]
    times: dict[str, dict[str, float]] = {}
    for part in found.operations:
        times.setdefault(part.kind.replace("_", " "), {})[part.phase] = part.device_s
    caption = "Predicted time of the device alone; its host, communication and input pipeline come beside it."
    return [title, *_build_split("kind", times, lambda seconds: duration(seconds, "auto"), caption)]


def _build_modules(profile: JobProfile | None) -> list[Block]:
    title = Heading("Work of the step by module", where=Where.PAGE, on_paper=False)
    if profile is None or not any(work.flops for work in profile.modules):
        return [title, Text("The profile does not say which module does what.", "dim", Where.PAGE)]
    flops: dict[str, dict[str, float]] = {}
    for work in profile.modules:
        flops.setdefault(work.module or "outside of modules", {})[work.phase] = float(work.flops)
    caption = (
        "FLOPs of one device; * stands for all repeated blocks. Time is predicted by kind of operation, not by "
        "module: work is what is known of one."
    )
    return [title, *_build_split("module", flops, lambda count: short_count(count, "FLOP"), caption)]


def _build_split(
    title: str, work: Mapping[str, Mapping[str, float]], write: Callable[[float], str], caption: str
) -> list[Block]:
    """Return the largest of what a step is split into, by phase, as bars and as a table."""
    whole = sum(sum(phases.values()) for phases in work.values())
    largest = sorted(work, key=lambda name: (-sum(work[name].values()), name))
    shown = {
        name: [work[name].get(phase, 0.0) for phase in _PHASES]
        for name in largest[:_ROWS]
        if any(work[name].values())
    }
    if rest := [work[name] for name in largest[_ROWS:] if any(work[name].values())]:
        shown[f"{len(rest)} others"] = [sum(phases.get(phase, 0.0) for phases in rest) for phase in _PHASES]
    rows = [
        (name, *(write(part) if part else "" for part in parts), percent(sum(parts) / whole))
        for name, parts in shown.items()
    ]
    bars = [(name, parts, percent(sum(parts) / whole)) for name, parts in shown.items()]
    columns = (Column(title, names_row=True), *(Column(name, right=True) for name in (*_PHASES, "share")))
    longest = max(sum(parts) for parts in shown.values())
    return [
        build_bars(f"By {title} and phase", _PHASES, bars, whole=longest),
        Table(columns, rows, caption, where=Where.PAGE),
    ]
