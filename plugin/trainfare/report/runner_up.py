"""How the runner-up differs from the answer, and what change of a price or a step time would make it the answer."""

from __future__ import annotations

from typing import Final, Literal

from trainfare.report.headline import list_named_options, runner_up_option
from trainfare.report.wording import machine_label
from trainfare_core.number_format import percent
from trainfare_core.ranking.options.named_options import SURE, chance_less, share_devices
from trainfare_core.recommendation import Option, Recommendation, RunnerUp

_LARGEST_CHANGE: Final = 1.0
"""A price or a time that has to more than double is no doubt that a reader has: it is left to the JSON. Chosen."""


def _find_both(recommendation: Recommendation) -> tuple[Option, Option] | None:
    named = list_named_options(recommendation)
    runner_up = runner_up_option(recommendation)
    return None if runner_up is None or not named else (named[0][1], runner_up)


def compare_runner_up(recommendation: Recommendation) -> str:
    """Explain by what the runner-up differs from the answer: dollars and hours, and what these consist of."""
    both = _find_both(recommendation)
    return "" if both is None else compare_options(recommendation, *both, "The runner-up")


def compare_options(recommendation: Recommendation, answer: Option, other: Option, name: str) -> str:
    """
    Explain by what an option differs from another: dollars and hours, and what these consist of.

    Args:
        recommendation: says by what options are ranked.
        answer: what the option is compared with.
        other: the option.
        name: of the option, at the start of a sentence.
    """
    cost = _describe_difference(other.run_usd.mid, answer.run_usd.mid)
    time = _describe_difference(other.run_hours.mid, answer.run_hours.mid, more="longer")
    hourly = _describe_difference(other.usd_per_hour, answer.usd_per_hour)
    step = _describe_difference(other.step_s.mid, answer.step_s.mid, more="longer")
    better = compute_chance_better(recommendation, answer, other)
    tie = "" if better is None else f" It is the better one with a probability of {percent(better)}."
    return f"{name} costs {cost} and takes {time}: an hour costs {hourly}, a step takes {step}.{tie}"


def compute_chance_better(recommendation: Recommendation, answer: Option, other: Option) -> float | None:
    """Return the chance that another option is better than the answer; None where the order is sure."""
    field: Literal["run_hours", "run_usd"] = (
        "run_hours" if recommendation.objective == "fastest" else "run_usd"
    )
    better = chance_less(other, answer, getattr(other, field), getattr(answer, field))
    return better if 1 - SURE < better < 1 and not share_devices(answer, other) else None


def describe_sensitivity(recommendation: Recommendation) -> str:
    """Say what change of a price or a step time would make the runner-up the answer."""
    found, both = recommendation.runner_up, _find_both(recommendation)
    changes = [] if found is None or both is None else list_changes(found, *both)
    return f"The runner-up wins if {', or if '.join(changes)}." if changes else ""


def list_changes(found: RunnerUp, answer: Option, other: Option) -> list[str]:
    """Return each change of the answer, or of another option, that makes both as good, in words."""
    return [
        f"{machine_label(option)} gets {' or '.join(how)}"
        for option, how in (
            (answer, _list_changes((found.price_higher, "more expensive"), (found.step_slower, "slower"))),
            (
                other,
                _list_changes(
                    (found.runner_up_price_cheaper, "cheaper"), (found.runner_up_step_faster, "faster")
                ),
            ),
        )
        if how
    ]


def _list_changes(*changes: tuple[float | None, str]) -> list[str]:
    """Return the changes that may come about in words, those of the same size under one number."""
    words: dict[str, list[str]] = {}
    for change, how in changes:
        if change is not None and change <= _LARGEST_CHANGE:
            words.setdefault(_describe_change(change), []).append(how)
    return [f"{change} {' or '.join(how)}" for change, how in words.items()]


def _describe_difference(value: float, other: float, *, more: str = "more") -> str:
    """Return by how much a value is more or less than another, in percent of that."""
    change = value / other - 1 if other > 0 else 0.0
    if abs(change) < 0.0005:
        return "the same"
    return f"{_describe_change(abs(change))} {more if change > 0 else 'less'}"


def _describe_change(share: float) -> str:
    """Return a relative change; a tenth of a percent matters below 10 %, and from 1000 % on it is a multiple."""
    if share < 0.0995:
        return percent(max(share, 0.001), 1)
    return percent(share) if share < 10 else f"{share:,.0f} times"
