"""What would make a run cheaper, as blocks."""

from __future__ import annotations

from typing import Final

from trainfare.loops import format_plan
from trainfare.report.blocks import Block, Bullets, Column, Heading, Table, Text, Where
from trainfare.report.report import Report
from trainfare.report.wording import usd
from trainfare_core.number_format import hours_text
from trainfare_core.savings import LeverName, Saving, SavingGroup, Savings

_GROUPS: Final[dict[SavingGroup, str]] = {
    "same_result": "Changes nothing in the result",
    "rounding": "Changes how numbers are rounded",
    "interruption_or_term": "May be interrupted, or binds to a term",
    "training": "Changes what is trained",
}
_NAMES: Final[dict[LeverName, str]] = {
    "compile": "torch.compile",
    "plan": "another micro-batch or strategy",
    "recomputation": "recompute activations",
    "loader": "twice the loader's workers",
    "validation": "validate half as often",
    "checkpoints": "save half as often",
    "region": "any region",
    "service": "any service",
    "cloud": "any cloud",
    "precision": "another precision",
    "spot": "spot machines",
    "commitment": "a reservation or savings plan",
    "batch": "another global batch",
}
_COMPILE: Final = {
    "": "model = torch.compile(model) before the Trainer has it",
    "huggingface": "TrainingArguments(torch_compile=True)",
    "keras": "model.compile(..., jit_compile=True)",
    "plain": "model = torch.compile(model) before the loop",
}
"""Line of code by loop."""
_OPTIONS: Final[dict[LeverName, str]] = {
    "plan": "--allow plan",
    "recomputation": "--allow plan,checkpointing",
    "precision": "--allow precision",
    "batch": "--allow batch",
    "spot": "--purchase spot",
    "region": "without --region",
    "service": "without --service",
    "cloud": "without --provider",
}
"""Of `trainfare recommend`, which then ranks with the change."""
_OTHER_COMMANDS: Final = (
    "Fine-tuning with adapters: `trainfare strategy`. Waiting for lower prices: `trainfare decline wait`."
)


def report_savings(answer: Savings) -> Report:
    """Return the savings as a report."""
    return Report(lambda _width: build_savings(answer), f"{answer.job}: what would make it cheaper", 100)


def build_savings(answer: Savings) -> list[Block]:
    """Return the run as it is, a table of savings for each group, how each is made, and what was not priced."""
    title = Heading("What would make the run cheaper", level=1, where=Where.TITLED)
    before = answer.before
    if before.usd is None or before.hours is None:
        return [title, Text(f"The cost of the run is unknown: {answer.unknown_because}.", "no answer")]
    cost = f"{usd(before.usd.mid)} and {hours_text(before.hours.mid)} on {before.machine}"
    blocks: list[Block] = [title, Text(f"As it is, the run costs {cost}.", "answer")]
    if not answer.savings:
        blocks.append(Text("No change that could be priced makes it cheaper."))
    for group, words in _GROUPS.items():
        savings = [saving for saving in answer.savings if saving.group == group]
        if savings:
            blocks += [
                Heading(words),
                _build_table(savings),
                Bullets(tuple(_say_how(one, answer.loop) for one in savings)),
            ]
    if answer.together:
        blocks += [
            Heading("Two changes together"),
            Bullets(
                tuple(
                    f"{_NAMES[pair.levers[0]]} and {_NAMES[pair.levers[1]]}: {usd(pair.usd)} on {pair.machine}"
                    for pair in answer.together
                )
            ),
        ]
    if answer.saves_nothing:
        names = ", ".join(_NAMES[name] for name in answer.saves_nothing)
        blocks += [Heading("Priced, and saves nothing"), Bullets((names,))]
    if answer.not_priced:
        notes = tuple(f"{_name(item.what)}: {item.because}" for item in answer.not_priced)
        blocks += [Heading("Not priced"), Bullets(notes)]
    return [*blocks, Text(_OTHER_COMMANDS, "dim")]


def _name(what: str) -> str:
    return next((words for lever, words in _NAMES.items() if lever == what), what)


def _build_table(savings: list[Saving]) -> Table:
    columns = (
        Column("change", names_row=True),
        Column("saves", right=True),
        Column("80 %", right=True),
        Column("hours saved", right=True),
        Column("best machine then"),
    )
    return Table(columns, [_build_row(saving) for saving in savings])


def _build_row(saving: Saving) -> tuple[str, ...]:
    ends = saving.saved_usd_range
    name = _NAMES[saving.lever] + ("" if saving.well_known else " (not known well)")
    range_text = f"{_signed_usd(ends.low_80)} to {_signed_usd(ends.high_80)}"
    hours = f"{saving.saved_hours:.3g}"
    return name, usd(saving.saved_usd), range_text, hours, saving.after.machine or ""


def _signed_usd(amount: float) -> str:
    """
    Return dollars with their sign.

    >>> _signed_usd(-12.5)
    '-$12.50'
    """
    return f"-{usd(-amount)}" if amount < 0 else usd(amount)


def _say_how(saving: Saving, loop: str) -> str:
    """Return how a saving is made: a line of code, an option, and the plan where that changes; and what it rests on."""
    name = _NAMES[saving.lever]
    how = (
        _COMPILE.get(loop, _COMPILE["plain"]) if saving.lever == "compile" else _OPTIONS.get(saving.lever, "")
    )
    if saving.lever in ("plan", "recomputation", "precision", "batch") and saving.plan is not None:
        how = f"{format_plan(saving.plan)} ({how})"
    rests_on = (
        "what it does to a step was not scored on measured pairs of steps" if not saving.well_known else ""
    )
    if saving.well_known and saving.pairs is not None:
        rests_on = f"its interval rests on {saving.pairs:,} pairs of measured steps"
    doubt = "it may cost more" if saving.saved_usd_range.low_80 < 0 else ""
    return f"{name}: {'; '.join(filter(None, (how, rests_on, doubt)))}"
