"""What a change does to the cost of a run, and why."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from decimal import Decimal

from trainfare.report.batch_scaling import write_ratio, write_usd
from trainfare.report.block_builders import build_notes
from trainfare.report.blocks import Block, Column, Heading, Table, Text, Where
from trainfare_core.changes.cost_change import CostCause, CostChange, CostSide, ModuleChange
from trainfare_core.documents import Interval
from trainfare_core.number_format import hours_range, percent


def change_headline(change: CostChange) -> str:
    """
    Return the change in one sentence, e.g. '$412.00 -> $688.00 per run: +$276.00 (+67.0 % [+60 % to +74 %])'.

    A change that rounds to nothing is 'no change in cost'; one that is not known is 'unknown, because ...'.
    """
    rounded = _Rounded.of(change)
    if rounded is None:
        return f"unknown, because {change.unknown_because}"
    if rounded.base == rounded.head:
        apart = f" (less than ${rounded.step:f} apart)" if change.change_usd else ""
        return f"no change in cost: ${rounded.head:,f} per run{apart}"
    ends = "" if change.fraction_range is None else f" {change.fraction_range.to_percent()}"
    share = "" if change.change_fraction is None else f" ({_percent(change.change_fraction)}{ends})"
    total = _format_signed(rounded.head - rounded.base, "$")
    return f"${rounded.base:,f} -> ${rounded.head:,f} per run: {total}{share}"


def build_change_section(change: CostChange, *, job: str = "") -> list[Block]:
    """
    Return the change: the sentence, both sides, and the causes, whose rounded dollars add up exactly.

    Args:
        change: the change.
        job: its name, where there are several: a job without causes is one line then, and the notes are left out.
    """
    sentence = change_headline(change)
    blocks: list[Block] = [
        Text(f"CHANGE  {job}{': ' if job else ''}{sentence}", where=Where.TERMINAL),
        Heading(("Change in cost", *((" of ", job) if job else ())), where=Where.TITLED),
        Text(sentence, "answer", where=Where.TITLED),
    ]
    if job and not change.causes:
        return blocks
    blocks.append(Table((Column(""), Column("base"), Column("head")), tuple(_sides(change))))
    rows = _cause_rows(change)
    if rows:
        columns = (Column("cause"), Column("USD", right=True), Column("what differs"))
        blocks.append(Table(columns, tuple(rows)))
    notes = () if job else change_notes(change)
    return [*blocks, *build_notes(notes)]


@dataclass(frozen=True, slots=True)
class _Rounded:
    """Dollars of both sides and of the causes, rounded to `step` so that base + causes = head."""

    base: Decimal
    head: Decimal
    causes: tuple[Decimal, ...]
    step: Decimal

    @classmethod
    def of(cls, change: CostChange) -> _Rounded | None:
        """Round a change, each cause to the difference of two rounded running totals; None where it is unknown."""
        if change.base.usd is None or change.head.usd is None or change.change_usd is None:
            return None
        step = _step(change.base.usd, change.head.usd)
        base, head = (_to_step(side.mid, step) for side in (change.base.usd, change.head.usd))
        totals = [base]
        running_usd = change.base.usd.mid
        for cause in change.causes:
            running_usd += cause.usd
            totals.append(_to_step(running_usd, step))
        if change.causes:
            totals[-1] = head
        parts = tuple(after - before for before, after in itertools.pairwise(totals))
        return cls(base, head, parts, step)


def _step(*amounts: Interval) -> Decimal:
    """Return a cent, and below a dollar what leaves four significant figures."""
    largest = max((amount.mid for amount in amounts), default=0.0)
    digits = 2 if largest >= 1 or largest <= 0 else 3 - math.floor(math.log10(largest))
    return Decimal(1).scaleb(-digits)


def _to_step(amount: float, step: Decimal) -> Decimal:
    return Decimal(amount).quantize(step)


def _format_signed(amount: Decimal, unit: str = "") -> str:
    sign = "-" if amount < 0 else "+" if amount > 0 else ""
    return f"{sign}{unit}{abs(amount):,f}"


def _percent(fraction: float) -> str:
    return (
        percent(fraction, 1, sign=True) if abs(fraction) >= 0.0005 else "less than 0.1 %"
    )  # what rounds to 0.0 %


def _sides(change: CostChange) -> list[tuple[str, ...]]:
    """Return rows of what is compared, USD, hours and machine of both sides, and the dollars of the change."""
    step = _step(*(side.usd for side in (change.base, change.head) if side.usd is not None))
    names = ("compared", "USD, whole run", "time", "machine")
    rows = list(zip(names, *(_side_cells(side, step) for side in (change.base, change.head)), strict=True))
    rows += _batch_rows(change)
    rounded, ends = _Rounded.of(change), change.usd_range
    if rounded is None or ends is None or rounded.base == rounded.head:
        return rows
    low, high = (_format_signed(_to_step(end, step)) for end in (ends.low_80, ends.high_80))
    total = _format_signed(rounded.head - rounded.base)
    return [*rows, ("change, USD", "", f"{total} [{low} to {high}]")]


def _batch_rows(change: CostChange) -> list[tuple[str, ...]]:
    """Return rows of both global batches where they differ, and of what that of head costs to the quality of base."""
    base, head, quality = change.base, change.head, change.quality
    if not base.global_batch_size or not head.global_batch_size:
        return []
    if base.global_batch_size == head.global_batch_size:
        return []
    cells = (f"{side.global_batch_size:,} in {side.optimizer_steps or 0:,.0f} steps" for side in (base, head))
    rows: list[tuple[str, ...]] = [("global batch", *cells)]
    if quality is None:
        return rows
    text = quality.unknown_because or ""
    if quality.ratio is not None and quality.low_usd is not None:
        cost = write_usd(quality.low_usd, quality.high_usd)
        text = f"{cost}: {write_ratio(quality.ratio)} times the samples"
    return [*rows, (f"to the quality of {base.global_batch_size:,}", "", text)]


def _side_cells(side: CostSide, step: Decimal) -> tuple[str, ...]:
    if side.usd is None or side.hours is None or side.machine is None:
        return side.label, f"unknown, because {side.unknown_because}", "unknown", "unknown"
    mid, low, high = (_to_step(end, step) for end in (side.usd.mid, side.usd.low_80, side.usd.high_80))
    hours = hours_range(side.hours.mid, side.hours.low_80, side.hours.high_80)
    return side.label, f"{mid:,f} [{low:,f} to {high:,f}]", hours, side.machine


def _cause_rows(change: CostChange) -> list[tuple[str, ...]]:
    rounded = _Rounded.of(change)
    if rounded is None:
        return []
    return [
        (cause.cause.replace("_", " "), _format_signed(usd), _detail(cause))
        for cause, usd in zip(change.causes, rounded.causes, strict=True)
    ]


def _detail(cause: CostCause) -> str:
    flops = (
        f"{part.part} {part.base_flops / 1e9:,.4g} -> {part.head_flops / 1e9:,.4g} GFLOP"
        for part in cause.flops
    )
    return "; ".join((cause.detail, *(map(_module_text, cause.modules) if cause.modules else flops)))


def _module_text(change: ModuleChange) -> str:
    names = {None: "other modules", "": "outside of modules"}
    amounts = (
        (change.head_flops - change.base_flops, "FLOP"),
        (change.head_bytes - change.base_bytes, "B"),
    )
    texts = [_format_difference(amount, unit) for amount, unit in amounts if amount]
    return f"{names.get(change.module, change.module)}: {' and '.join(texts)}"


def _format_difference(amount: float, unit: str) -> str:
    """Return a difference with its sign in the largest decimal unit in which it is at least 1."""
    power = next((power for power in (4, 3, 2, 1) if abs(amount) >= 1000**power), 0)
    return f"{amount / 1000**power:+,.3g} {('', 'k', 'M', 'G', 'T')[power]}{unit}"


def change_notes(change: CostChange) -> tuple[str, ...]:
    """Return what a reader of a change has to know besides it."""
    if not change.change_usd:
        return change.notes
    note = (
        "brackets are central 80 % intervals; one method predicts both sides: that of the change leaves out the errors "
        "that they share"
    )
    return (note, *change.notes)
