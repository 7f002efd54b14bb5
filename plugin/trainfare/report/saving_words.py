"""The words of savings: what a change is called, how it is made, and the sentence that names the first ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from trainfare.loops import format_plan
from trainfare.report.wording import usd
from trainfare_core.recommendation import LeverName, Saving

SAVING_NAMES: Final[dict[LeverName, str]] = {
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
_NAMED: Final = 3
"""Savings in a sentence."""


def describe_savings(savings: Sequence[Saving], *, said_elsewhere: Collection[LeverName] = ()) -> str:
    """
    Name the changes that save most, and the command that says how each is made; "" where there is none.

    A change that is not known well has no dollars here.
    """
    told = [saving for saving in savings if saving.lever not in said_elsewhere]
    known = sorted((saving for saving in told if saving.well_known), key=lambda saving: -saving.saved_usd)
    doubtful = [saving for saving in told if not saving.well_known]
    texts = [
        f"{SAVING_NAMES[saving.lever]}, {usd(saving.saved_usd)} {range_text(saving)}" for saving in known
    ]
    texts += [f"{SAVING_NAMES[saving.lever]}, not known well" for saving in doubtful]
    if not texts:
        return ""
    return f"To pay less: {'; '.join(texts[:_NAMED])}. `trainfare savings` says how."


def range_text(saving: Saving) -> str:
    """Return the central 80 % of what a change saves."""
    ends = saving.saved_usd_range
    return f"[{signed_usd(ends.low_80)} to {signed_usd(ends.high_80)}]"


def signed_usd(amount: float) -> str:
    """
    Return dollars with their sign.

    >>> signed_usd(-12.5)
    '-$12.50'
    """
    return f"-{usd(-amount)}" if amount < 0 else usd(amount)


def explain_saving(saving: Saving, loop: str) -> str:
    """Say how a saving is made: a line of code, an option, and the plan where that changes; and what it rests on."""
    name = SAVING_NAMES[saving.lever]
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
