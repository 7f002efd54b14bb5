"""The machines for a run of reinforcement learning, by phase, as blocks."""

from __future__ import annotations

from typing import Final

from trainfare.report.blocks import Block, Bullets, Column, Heading, Table, Text, Where
from trainfare.report.report import Report
from trainfare.report.wording import usd
from trainfare_core.candidates.table import sharding_label
from trainfare_core.documents import Interval
from trainfare_core.number_format import figures, hours_text, quantify, time_unit
from trainfare_core.prediction.rollout import PhaseName
from trainfare_core.rollouts import RolloutAnswer, RolloutMachine

_ROWS: Final = 10
"""Machines of each table. A chosen value: the first screen."""
_GIB: Final = 2**30
_PHASES: Final[dict[PhaseName, str]] = {"generation": "generation", "scoring": "scoring", "update": "updates"}
_ENGINES: Final = {
    "transformers": "`generate` of transformers",
    "vllm-colocated": "vLLM on the devices that train",
    "vllm-server": "vLLM on devices of its own",
}
_INTERVALS: Final = {
    "chosen": "The interval of the time of generation is chosen, not measured. "
    "Those of scoring and updates are those of other training, and too narrow for this: published updates took longer.",
    "measured": "The interval of the time of generation is that of errors on published runs.",
}


def report_rollout(answer: RolloutAnswer, rows: int = _ROWS) -> Report:
    """
    Return the machines by phase as a report.

    Args:
        answer: of the estimate.
        rows: machines of each table, at most.
    """
    return Report(lambda _width: build_rollout(answer, rows), f"{answer.job}: phases of a step", 100)


def build_rollout(answer: RolloutAnswer, rows: int = _ROWS) -> list[Block]:
    """Return what the cost is, the time of each phase, its memory, and what both rest on."""
    fitting = sum(machine.fits for machine in answer.machines)
    cost = answer.cost_unknown_because
    first = f"The cost of the run is unknown: {cost}." if cost else _say_cost(answer)
    shown = list(answer.machines[:rows])
    blocks: list[Block] = [
        Heading("Machines by phase", level=1, where=Where.TITLED),
        Text(first, "no answer" if cost else "answer"),
        Text(_say_rollout(answer)),
        Heading("Time of one generation, its scoring and its updates, with central 80 % intervals"),
        _build_times(shown),
        Text(_INTERVALS[answer.interval_is]),
        Heading("Memory of one device in each phase, GiB: the largest decides"),
        _build_memory(shown, answer),
    ]
    if not fitting:
        blocks.append(Text("Every phase of the job fits on none of these machines."))
    if answer.machines_in_all > len(shown):
        count = f"{len(shown)} of {answer.machines_in_all} machines are shown"
        blocks.append(Text(f"{count}, those that fit first and by the price of an hour; --limit shows more."))
    refused = [f"{quantify(one.machines, 'machine shape')}: {one.because}" for one in answer.refused]
    if refused:
        blocks += [Heading("Without a prediction"), Bullets(tuple(refused))]
    return [*blocks, Heading("Assumed"), Bullets(answer.notes)]


def _say_cost(answer: RolloutAnswer) -> str:
    priced = [machine for machine in answer.machines if machine.fits and machine.run_usd is not None]
    if not priced:
        return "The cost of the run is unknown: no machine fits, or the length of the run is not known."
    best = min(priced, key=lambda machine: machine.run_usd.mid if machine.run_usd else 0.0)
    amount = best.run_usd or Interval(mid=0, low_80=0, high_80=0)
    interval = f"{usd(amount.low_80)} to {usd(amount.high_80)}"
    return (
        f"The steps of the run cost {usd(amount.mid)} ({interval}) on {_name(best)}, the cheapest that fits."
    )


def _say_rollout(answer: RolloutAnswer) -> str:
    rollout = answer.rollout
    tokens = f"{rollout.completion_tokens_low:,} to {rollout.completion_tokens_high:,} tokens"
    asleep = ", which sleeps while the policy trains" if rollout.vllm_sleeps else ""
    updates = quantify(round(answer.updates, 2), "optimizer step")
    return (
        f"One generation: {rollout.prompts:,} prompts, {quantify(rollout.completions, 'completion')} each, "
        f"of {tokens}, by {_ENGINES[rollout.engine]}{asleep}; then {updates}."
    )


def _build_times(machines: list[RolloutMachine]) -> Table:
    columns = (
        Column("machine", names_row=True),
        Column("USD/hour", right=True),
        *(Column(words, right=True) for words in _PHASES.values()),
        Column("together", right=True),
        Column("steps of the run", right=True),
    )
    return Table(columns, [_build_times_row(machine) for machine in machines])


def _build_times_row(machine: RolloutMachine) -> tuple[str, ...]:
    times = tuple(_span_s(phase.time_s) for phase in machine.phases)
    hours = "unknown" if machine.run_hours is None else hours_text(machine.run_hours.mid)
    return _name(machine), usd(machine.usd_per_hour), *times, _span_s(machine.round_s), hours


def _span_s(value: Interval) -> str:
    """
    Return seconds with the ends of their interval, in one unit.

    >>> _span_s(Interval(mid=30, low_80=12, high_80=75)), _span_s(Interval(mid=0, low_80=0, high_80=0))
    ('30 [12-75] s', 'none')
    """
    if not value.mid:
        return "none"
    unit, seconds = time_unit(value.mid)
    mid, low, high = (figures(end / seconds, 2) for end in (value.mid, value.low_80, value.high_80))
    return f"{mid} [{low}-{high}] {unit}"


def _build_memory(machines: list[RolloutMachine], answer: RolloutAnswer) -> Table:
    columns = (
        Column("machine", names_row=True),
        Column("of each"),
        Column("plan"),
        *(Column(words, right=True) for words in _PHASES.values()),
        Column("usable", right=True),
        Column("verdict"),
    )
    return Table(columns, [_build_memory_row(machine, answer) for machine in machines])


def _build_memory_row(machine: RolloutMachine, answer: RolloutAnswer) -> tuple[str, ...]:
    phases = tuple(f"{phase.memory_bytes.mid / _GIB:.3g}" for phase in machine.phases)
    verdict = "fits" if machine.fits else f"does not fit in {_PHASES[machine.worst_phase]}"
    strategy = "" if machine.strategy == "none" else f"{sharding_label(machine.strategy)}, "
    plan = f"{strategy}micro-batch {machine.micro_batch:g}"
    if answer.rollout.vllm_devices:
        plan += f", {machine.generating_devices} of {machine.devices} devices generate"
    devices = f"{machine.devices} x {machine.accelerator}"
    return _name(machine), devices, plan, *phases, f"{machine.usable_memory_bytes / _GIB:.3g}", verdict


def _name(machine: RolloutMachine) -> str:
    nodes = f"{machine.nodes} x " if machine.nodes > 1 else ""
    return f"{nodes}{machine.provider} {machine.instance_type}"
