"""Numbers and names of the price book as text, the same in every output format."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, get_args

from trainfare_core.clouds import SERVICES, service_label
from trainfare_core.energy import FactorName, RunEnergy
from trainfare_core.number_format import TIME_UNITS, percent, time_unit
from trainfare_core.prices.caveats import CaveatKind
from trainfare_core.prices.commitments import CAPACITY_BLOCK
from trainfare_core.recommendation import Cause, Interval, Note, Option, Recommendation, TrainerArguments

_PURCHASE = {
    "on_demand": "on demand",
    "spot": "spot",
    "reserved_1y": "reserved 1 year",
    "reserved_3y": "reserved 3 years",
    "savings_1y": "savings plan 1 year",
    "savings_3y": "savings plan 3 years",
    "capacity_block": "capacity block",
}
_BOUND = {
    "compute": "compute",
    "memory": "memory bandwidth",
    "launch": "kernel launches",
    "communication": "communication",
    "input": "input pipeline",
}
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def purchase_label(purchase_option: str) -> str:
    """Return a purchase option as text, e.g. 'on demand'; an unknown one keeps its own name."""
    return _PURCHASE.get(purchase_option, purchase_option)


def has_caveat(option: Option, kind: CaveatKind) -> bool:
    """Return whether the price of an option has a caveat of a kind."""
    return any(kind in note.caveats for note in option.notes)


def note_sentence(note: Note) -> str:
    """Return a note as a sentence."""
    return f"{note.text[:1].upper()}{note.text[1:]}."


def terms_label(option: Option) -> str:
    """
    Return how an option is bought and for how much, e.g. 'on demand at $27.45/h'.

    A commitment states its whole price and term: 'reserved 1 year at $21.75 per used hour: $152,424 for the term, 80 %
    used', 'capacity block of 4 days at $17.71/h: $1,700, paid when booked'.
    """
    label, paid = purchase_label(option.purchase_option), option.commitment
    hourly = f"{usd(option.usd_per_hour)}/h"
    if has_caveat(option, "spot_or_flex_only"):
        label = "spot or flex-start only, listed"
    if paid is None:
        return f"{label} at {hourly}"
    if option.purchase_option == CAPACITY_BLOCK:
        return f"{label} of {paid.hours / 24:.0f} days at {hourly}: {usd(paid.usd)}, paid when booked"
    if paid.use is None:
        return f"{label} at {hourly}: {usd(paid.usd)} for the term, used or not"
    term = f"{usd(paid.usd)} for the term, {percent(paid.use)} used"
    return f"{label} at {usd(option.usd_per_hour)} per used hour: {term}"


def bound_label(bound_by: str) -> str:
    """Return what limits the step as text, e.g. 'memory bandwidth'."""
    return _BOUND.get(bound_by, bound_by)


_FACTOR_NAMES: Final[dict[FactorName, str]] = {
    "accelerator_w": "W of one {option.accelerator}",
    "host_w": "W of one {option.instance_type} beside them",
    "pue": "PUE of {option.provider} {option.region}",
    "grid_g_per_kwh": "g CO2e/kWh of the grid of {option.provider} {option.region}",
}
PART_NAMES: Final = tuple(bound_label(part) for part in get_args(Cause))


def machine_label(option: Option) -> str:
    """Return the number and type of machines, e.g. '2 × p5.48xlarge'."""
    return f"{option.nodes} × {option.instance_type}"


def place_label(option: Option) -> str:
    """Return the region, or the zone, with the region where the zone's name does not contain it."""
    if option.zone is None or option.zone == option.region:
        return option.region
    return option.zone if option.zone.startswith(option.region) else f"{option.region} {option.zone}"


def hardware_label(option: Option) -> str:
    """Return the accelerators of the whole option, e.g. '8 × H100-SXM-80GB × 2 nodes'."""
    per_node = f"{option.accelerator_count:,g} × {option.accelerator}"
    if option.trainer is not None and option.trainer.devices < option.accelerator_count:
        per_node += f" ({option.trainer.devices} used)"
    return per_node if option.nodes == 1 else f"{per_node} × {option.nodes} nodes"


def usd(amount: float) -> str:
    """Return dollars as people say them: whole from $100, in cents from $0.10, and no figure below one cent."""
    return "<1 cent" if 0 < amount < 0.01 else exact_usd(amount)


def exact_usd(amount: float) -> str:
    """Return dollars: whole from $100, in cents from $0.10, and with two significant figures below."""
    # the bounds are where rounding to the shown digits would carry: $99.995 is $100, $0.095 is $0.10
    if amount >= 99.995:
        return f"${amount:,.0f}"
    if amount >= 0.095:
        return f"${amount:.2f}"
    if amount < 1e-9:
        return "under $0.000000001" if amount else "$0"
    return f"${amount:.{1 - math.floor(math.log10(amount))}f}"


def duration(seconds: float, unit: str) -> str:
    """
    Return a duration with three significant figures.

    Args:
        seconds: the duration.
        unit: "h", "min", "s" or "ms"; "auto" takes the unit that suits the duration.
    """
    name, unit_s = time_unit(seconds) if unit == "auto" else (unit, TIME_UNITS[unit])
    return f"{_three_figures(seconds / unit_s)} {name}"


def _three_figures(value: float) -> str:
    # the bounds are where rounding to the shown digits would carry: 99.95 is 100, 9.995 is 10.0
    if value >= 99.95:
        return f"{value:,.0f}"
    if value >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.0995 or value == 0 else f"{value:.2g}"


def interval(value: Interval, unit: str) -> tuple[str, str]:
    """
    Return the median and the 80 % interval as text, e.g. ('$12.40', '$8.10 – $19.00').

    Args:
        value: dollars, hours, seconds, or what has no unit here.
        unit: "usd"; "h:min" for hours shown in minutes (also :s, :h, :auto); "s:ms" for seconds; "plain", "gib".
    """
    source, _, shown = unit.partition(":")
    scale = 3600.0 if source == "h" else 1.0

    def text(number: float) -> str:
        if source == "usd":
            return usd(number)
        return (
            _three_figures(number)
            if source in ("gib", "plain")
            else duration(number * scale, shown or "auto")
        )

    return text(value.mid), span(text(value.low_80), text(value.high_80))


def describe_interval(value: Interval, unit: str) -> str:
    """Return the median and the 80 % interval as one text, e.g. '$12.40 [$8.10 – $19.00]'; units as of `interval`."""
    median, both_ends = interval(value, unit)
    return f"{median} [{both_ends}]"


def describe_run(option: Option) -> str:
    """Return what a run costs and takes, e.g. '$5.15 [$3.60 – $7.37] in 13.2 h [10.2 – 17.1 h]'."""
    return f"{describe_interval(option.run_usd, 'usd')} in {describe_interval(option.run_hours, 'h:auto')}"


def describe_energy(energy: RunEnergy | None) -> str:
    """Return kWh and kg CO2e of a run with their intervals, or why one is not known; "" in older documents."""
    if energy is None:
        return ""
    unknown = f"not known, because {energy.unknown_because}"
    if energy.kwh is None:
        return unknown
    carbon = f"{describe_interval(energy.kg_co2e, 'plain')} kg CO2e" if energy.kg_co2e else f"CO2e {unknown}"
    return f"{describe_interval(energy.kwh, 'plain')} kWh, {carbon}"


def list_factors(option: Option) -> tuple[str, ...]:
    """Return each factor of the energy of an option with its interval, year and source."""
    return tuple(
        f"{_FACTOR_NAMES[factor.name].format(option=option)}: {describe_interval(factor.value, 'plain')} "
        f"({factor.source}, {factor.year})"
        for factor in (option.energy.factors if option.energy else ())
    )


def chance_text(probability: float | None) -> str:
    """Return the chance to keep the limits; empty where there are none."""
    return "" if probability is None else percent(probability)


def describe_machine_place(option: Option) -> str:
    """Return cloud, accelerators and place of an option."""
    return f"{cloud_label(option)}, {hardware_label(option)}, {place_label(option)}"


def describe_basis(recommendation: Recommendation) -> str:
    """Return what is added to a title where costs are for 1,000 steps, not for the whole run."""
    return " per 1,000 steps" if recommendation.basis == "per_1000_steps" else ""


def cloud_label(option: Option) -> str:
    """Return the cloud service that an option is rented from; "Azure or Azure ML" where two rent it at one price."""
    services = (option.service, *option.also_services)
    named = [name for name in SERVICES if name in services] if option.also_services else services
    return " or ".join(service_label(option.provider, name) for name in named)


def span(low: str, high: str) -> str:
    """Return 'low – high', with the unit only once where both have the same; one of two that are shown alike."""
    if low == high:
        return low
    number, _, unit = low.partition(" ")
    return f"{number if high.endswith(f' {unit}') else low} – {high}"


def short_count(count: float, unit: str = "") -> str:
    """
    Return a large count with a prefix, e.g. '124 M' or '7.01 B'.

    Args:
        count: 0 or more.
        unit: of a measured quantity, which takes SI prefixes: '3.98 GFLOP'. A plain count takes B for a billion.
    """
    for size, prefix in _PREFIXES:
        if count >= size * 0.9995:  # 999.5 k rounds to 1 M
            shown = "B" if prefix == "G" and not unit else prefix
            return f"{_three_figures(count / size)} {shown}{unit}"
    return f"{count:.0f} {unit}".rstrip()


def of_the_work(batch_flops: tuple[int, int] | None, work_note: str | None) -> tuple[str, str]:
    """
    Return how far the work of batches and of steps varies, for the place of their FLOPs; empty where all do the same.

    Args:
        batch_flops: of the smallest and the largest batch; None where all have one size.
        work_note: what a step is the mean of.
    """
    if batch_flops is None or batch_flops[0] == batch_flops[1] > 0:
        return "", work_note or ""
    low, high = (short_count(flops, "FLOP") for flops in batch_flops)
    vary = f"batches vary from {low} to {high}" if batch_flops[1] else "batches vary in size"
    return vary, work_note or ""


def plan_changes_text(option: Option) -> str:
    """Return the sentence on what an option changes of the job's plan; "" where it changes nothing."""
    return f"Plan changes: {'; '.join(option.plan_changes)}." if option.plan_changes else ""


def describe_unused_devices(option: Option) -> str:
    """Return the sentence on accelerators that an option's plan leaves unused; "" where it uses all."""
    if option.trainer is None or option.trainer.devices >= option.accelerator_count:
        return ""
    return f"It uses {option.trainer.devices} of {option.accelerator_count:,g} accelerators of each machine."


def has_other_batch(options: Iterable[Option]) -> bool:
    """Return whether an option trains with another global batch than the script as it is."""
    return any(option.global_batch_size is not None and option.batch_ratio != 1 for option in options)


def name_batch(option: Option) -> str:
    """Return the global batch of an option, e.g. "batch 1,024"; "" where it is not known."""
    return "" if option.global_batch_size is None else f"batch {option.global_batch_size:,}"


def batch_text(trainer: TrainerArguments) -> str:
    """Return the batch size that belongs to the Trainer's arguments, after a comma; "" where it is not known."""
    if trainer.batch_size is None:
        return ""
    if trainer.global_batch_size is not None:
        return f", micro_batch_size={trainer.batch_size}, global_batch_size={trainer.global_batch_size}"
    return f", batch size {trainer.batch_size} per {'replica' if trainer.script_needs else 'device'}"


def script_lines(trainer: TrainerArguments) -> tuple[str, ...]:
    """Return what the script must have beside the Trainer's arguments, in lines without a full stop."""
    hook = (f"In configure_model: {trainer.configure_model}",) if trainer.configure_model else ()
    return (*hook, *((trainer.script_needs,) if trainer.script_needs else ()))
