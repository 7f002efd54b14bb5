"""
`strategy_answer`: trace the user's module under every strategy, price each, and decide.

For each strategy and setting: trace -> plan (samples to target) -> candidates -> prediction -> run cost -> ranking,
as for any other job; the cheapest machine for that strategy counts. A strategy that cannot be traced is unknown, with
the reason.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from trainfare.job import TrainingJob
from trainfare.prices.constraints import Names, constraints_of, used_prices, with_book_names
from trainfare.strategy.request import filled_from
from trainfare_core.errors import CannotTellError, InputError, TrainfareError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.facts import PriceBookFacts
from trainfare_core.ranking.rank import rank
from trainfare_core.ranking.request import Request
from trainfare_core.recommendation import Constraints, Option
from trainfare_core.strategy.amounts import Amount, amount_of
from trainfare_core.strategy.answer import StrategyAnswer
from trainfare_core.strategy.draws import Found, Priced, ReachedBy
from trainfare_core.strategy.knobs import Variant, best_variant, eight_bit_adam, knob_lines
from trainfare_core.strategy.lines import answer_of
from trainfare_core.strategy.question import Question
from trainfare_core.strategy.situation import task_of
from trainfare_core.strategy.strategies import STRATEGIES, STRATEGY_NAMES, Strategy

__all__ = ["Market", "prices_of", "strategy_answer"]

ACTIVATIONS_WORTH_RECOMPUTING = 0.2
"""Recomputation is tried where saved activations are at least this part of a device's memory use. Chosen: below it the
memory saved cannot change which machines fit by much, and each try costs a trace."""
_MOST_STEPS = 10**15
"""Largest number of optimizer steps that a job profile accepts."""


@dataclass(frozen=True)
class Market:
    """
    Machines that may be rented.

    Args:
        book: prices.
        providers, regions, purchase: names as users type them; None is all (on_demand and spot).
        max_nodes: largest number of machines in one run.
        notes: remarks on the prices, shown with the answer.
    """

    book: PriceBook
    providers: Names = None
    regions: Names = None
    purchase: Names = None
    max_nodes: int = 4
    notes: tuple[str, ...] = ()


def prices_of(market: Market) -> PriceBook:
    """
    Return the prices that a question is about.

    Raises:
        UnknownNameError, NoOffersError: see `with_book_names`.
    """
    return used_prices(market.book, _limits(Question(), market))


def _limits(question: Question, market: Market) -> Constraints:
    asked = constraints_of(
        max_usd=question.max_usd,
        deadline_hours=question.deadline_hours,
        confidence=question.confidence,
        providers=market.providers,
        regions=market.regions,
        purchase=market.purchase,
    )
    return with_book_names(asked, market.book)


def strategy_answer(
    job: TrainingJob,
    question: Question,
    market: Market,
    *,
    pilots: Mapping[Strategy, ReachedBy] | None = None,
    pilot_notes: Sequence[str] = (),
    say: Callable[[str], None] = lambda _text: None,
) -> StrategyAnswer:
    """
    Answer how to train a job.

    Args:
        job: the user's job; its own plan is taken as full fine-tuning's.
        question: the question.
        market: the machines that may be rented.
        pilots: final values predicted from pilots, by strategy.
        pilot_notes: limits of the pilots, in sentences.
        say: called with progress messages.

    Raises:
        InputError: a name that no price has, or a number out of range.
        NoOffersError: no price matches the filters.
    """
    from trainfare_core._version import __version__

    question, assumed = filled_from(question, job)
    limits = _limits(question, market)
    impossible = question.impossible()
    tracer = _Tracer(job, question, say)
    found: list[Found] = []
    books: tuple[PriceBookFacts, ...] = ()
    for strategy in reversed(STRATEGY_NAMES):
        if strategy in impossible:
            found.append(Found(strategy, impossible_because=impossible[strategy]))
            continue
        try:
            one, facts = _found(strategy, tracer, question, market, limits)
        except TrainfareError as error:
            one, facts = Found(strategy, unknown_because=str(error)), ()
        found.append(one)
        books = books or facts
    return answer_of(
        question,
        found,
        name=tracer.name,
        tool_version=__version__,
        pilots=pilots,
        pilot_notes=pilot_notes,
        price_books=books,
        assumptions=(*assumed, *market.notes),
    )


class _Tracer:
    """Traces of one job, each made once and shared by strategies with the same step."""

    def __init__(self, job: TrainingJob, question: Question, say: Callable[[str], None]) -> None:
        self._job, self._question, self._say = job, question, say
        self._known: dict[tuple[Strategy, str, bool], JobProfile | TrainfareError] = {}
        self.name = "job"

    def variants(self, strategy: Strategy) -> list[Variant]:
        """
        Return the variants to try, those with the fewest settings first.

        Raises:
            TrainfareError: the strategy cannot be traced as the job stands.
        """
        made: list[Variant] = []
        packs = STRATEGIES[strategy].packs_weights
        own = self._job.precision
        for precision in (own, "bf16-mixed") if own == "32-true" else (own,):
            knobs = () if precision == own else (f"precision {precision}",)
            plain = self._profile(strategy, precision, recompute=False)
            made.append(Variant(plain, knobs, needs_nvidia=packs))
            if _worth_recomputing(plain):
                with contextlib.suppress(
                    InputError, CannotTellError
                ):  # no repeated blocks: nothing to recompute
                    again = self._profile(strategy, precision, recompute=True)
                    knobs = (*knobs, "recompute the blocks in backward")
                    made.append(Variant(again, knobs, needs_nvidia=packs))
        return made + [smaller for variant in made if (smaller := eight_bit_adam(variant)) is not None]

    def _profile(self, strategy: Strategy, precision: str, *, recompute: bool) -> JobProfile:
        key = (STRATEGIES[strategy].traced_as or strategy, precision, recompute)
        if key not in self._known:
            self._say(f"tracing {key[0]}, {precision}{', blocks recomputed' if recompute else ''}")
            try:
                self._known[key] = self._traced(*key)
            except TrainfareError as error:
                self._known[key] = error
        known = self._known[key]
        if isinstance(known, TrainfareError):
            raise known
        return known

    def _traced(self, strategy: Strategy, precision: str, recompute: bool) -> JobProfile:  # noqa: FBT001 - a key
        from trainfare.prelaunch import trace_changed
        from trainfare.strategy.module_changes import ModuleChange

        writes = task_of(self._question.domain) in ("instruction", "pretraining", "text-generation")
        change = ModuleChange(
            strategy,
            precision,
            lora_rank=self._question.lora_rank,
            head=self._question.head,
            trains_head=not writes,
            recompute=recompute,
        )
        profile = trace_changed(replace(self._job, precision=precision), change)
        self.name = profile.name
        return profile


def _worth_recomputing(profile: JobProfile) -> bool:
    memory = profile.memory
    rest = profile.parameter_bytes + memory.gradient_bytes + profile.optimizer.state_bytes
    held = memory.saved_activation_bytes
    return held > ACTIVATIONS_WORTH_RECOMPUTING * (rest + held)


def _found(
    strategy: Strategy, tracer: _Tracer, question: Question, market: Market, limits: Constraints
) -> tuple[Found, tuple[PriceBookFacts, ...]]:
    variants = tracer.variants(strategy)
    amount = amount_of(question, strategy, _planned(variants[0].profile))
    if amount is None:
        return Found(strategy, profile=variants[0].profile, notes=variants[0].profile.notes), ()
    options: list[tuple[Variant, Option]] = []
    books: tuple[PriceBookFacts, ...] = ()
    why = "no machine can hold it"
    for variant in variants:
        planned = replace_plan(variant, amount, question)
        # The budget covers all learning-rate trials; one run may cost its share.
        option, books, reason = _cheapest(planned, market, limits, question.learning_rate_trials)
        if option is None:
            why = reason or why
        else:
            options.append((planned, option))
    best = best_variant(options)
    if best is None:
        return Found(strategy, profile=variants[0].profile, unknown_because=why), books
    variant, option = best
    nvidia_only = ("bitsandbytes' kernels: NVIDIA GPUs only",) if variant.needs_nvidia else ()
    priced = Priced(
        strategy,
        profile=variant.profile,
        option=option,
        amount=amount,
        knobs=knob_lines(variant, option),
        notes=(*variant.profile.notes, *nvidia_only),
    )
    return priced, books


def _planned(profile: JobProfile) -> float | None:
    """Return the samples that the user's own plan trains on."""
    steps, each = profile.plan.optimizer_steps, profile.global_samples_per_step
    return None if steps is None or not each else float(steps * each)


def replace_plan(variant: Variant, amount: Amount, question: Question) -> Variant:
    """Return the variant with the number of steps for its samples to target, and validation in proportion."""
    profile = variant.profile
    each = profile.global_samples_per_step
    if not each:
        raise CannotTellError(
            "samples in one optimizer step are not known, so their number to the target is not"
        )
    steps = min(_MOST_STEPS, max(1, math.ceil(amount.samples / each)))
    own = profile.plan.optimizer_steps
    more = steps / own if own else 1.0
    validation = round(profile.plan.validation_batches * more)
    epochs = None if question.samples is None else amount.samples / question.samples
    plan = profile.plan.model_copy(
        update={
            "optimizer_steps": steps,
            "unknown_because": None,
            "epochs": epochs,
            "validation_batches": validation,
            "max_time_s": None,
        }
    )
    return Variant(profile.model_copy(update={"plan": plan}), variant.knobs, variant.needs_nvidia)


def _cheapest(
    variant: Variant, market: Market, limits: Constraints, trials: int
) -> tuple[Option | None, tuple[PriceBookFacts, ...], str | None]:
    """Return the cheapest machine within the limits, else without them: the answer states the chance to keep them."""
    one_run = limits.model_copy(
        update={
            "max_usd": None if limits.max_usd is None else limits.max_usd / trials,
            "deadline_hours": None if limits.deadline_hours is None else limits.deadline_hours / trials,
        }
    )
    reason: str | None = None
    books: tuple[PriceBookFacts, ...] = ()
    for asked in (one_run, one_run.model_copy(update={"max_usd": None, "deadline_hours": None})):
        answer = rank(variant.profile, market.book, Request(asked, limit=200, max_nodes=market.max_nodes))
        books = answer.price_books
        for option in answer.options:
            if not option.needs_porting and (
                not variant.needs_nvidia or accelerator(option.accelerator).vendor == "nvidia"
            ):
                return option, books, None
        reason = answer.unknown_because or "only machines that its kernels do not run on can hold it"
    return None, books, reason
