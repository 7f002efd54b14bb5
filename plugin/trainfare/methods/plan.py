"""
`answer_methods`: trace the user's module under every method, price each, and decide.

For each method and setting: trace -> plan (samples to target) -> candidates -> prediction -> run cost -> ranking,
as for any other job; the cheapest machine for that method counts. A method that cannot be traced is unknown, with
the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias

from trainfare.loops import load_plan_writer
from trainfare.methods.request import MethodsRequest, fill_question
from trainfare.methods.step_change import DescribedJob, StepChange, Tracer
from trainfare.prices.constraints import read_constraints, with_book_names
from trainfare_core.errors import CannotTellError, InputError, InternalError, TargetError, TrainfareError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.limits.constraints import Constraints
from trainfare_core.limits.limit_fields import take_limits
from trainfare_core.methods.amounts import Amount, amount_of
from trainfare_core.methods.answer import MethodsAnswer
from trainfare_core.methods.draws import Found, Priced, ReachedBy
from trainfare_core.methods.knobs import (
    WORTH_IT,
    Variant,
    best_variant,
    eight_bit_adam,
    knob_lines,
    without_activations,
)
from trainfare_core.methods.lines import answer_of
from trainfare_core.methods.methods import METHOD_NAMES, METHODS, Method
from trainfare_core.methods.question import Question
from trainfare_core.methods.situation import task_of
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.facts import PriceBookFacts
from trainfare_core.ranking.pricing.price_doubt import offers_asked_for
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Option

ACTIVATIONS_WORTH_RECOMPUTING = 0.2
"""Recomputation is tried where saved activations are at least this part of a device's memory use. Chosen: below it the
memory saved cannot change which machines fit by much, and each try costs a trace."""
_Step: TypeAlias = tuple[Method, str, bool]
"""What makes two traces differ: method, precision, and whether blocks are recomputed."""
_ENDS_ALL = (TargetError, InternalError)
"""Errors after which no other method can be traced either: the process of the user's code has ended."""
_MOST_STEPS = 10**15
"""Largest number of optimizer steps that a job profile accepts."""


def prices_of(request: MethodsRequest, book: PriceBook) -> PriceBook:
    """
    Return the prices that a request is about.

    Raises:
        UnknownNameError, NoOffersError: see `with_book_names`.
    """
    return offers_asked_for(book, _limits(request, book))


def _limits(request: MethodsRequest, book: PriceBook) -> Constraints:
    return with_book_names(read_constraints(take_limits(Constraints, request)), book)


def answer_methods(
    job: DescribedJob,
    request: MethodsRequest,
    book: PriceBook,
    *,
    trace: Tracer,
    notes: Sequence[str] = (),
    as_of: datetime | None = None,
    pilots: Mapping[Method, ReachedBy] | None = None,
    pilot_notes: Sequence[str] = (),
    say: Callable[[str], None] = lambda _text: None,
) -> MethodsAnswer:
    """
    Answer how to train a job.

    Args:
        job: the user's job; its own plan is taken as full fine-tuning's.
        request: the question, and the machines that may be rented.
        book: prices.
        trace: traces a step of the job: `tracer_of(job)` in this process, or a process of the user's code.
        notes: remarks on the prices, shown with the answer.
        as_of: an aware moment to which the ages of prices are counted; None takes every price as of now.
        pilots: final values predicted from pilots, by method.
        pilot_notes: limits of the pilots, in sentences.
        say: called with progress messages.

    Raises:
        InputError: a name that no price has, or a number out of range.
        NoOffersError: no price matches the filters.
        TargetError: the user's code ended its process, or exceeded a limit.
    """
    from trainfare_core.installation import __version__

    question, assumed = fill_question(request.question, job)
    search = _Search(job, trace, question, book, _limits(request, book), request.max_nodes, as_of, say)
    impossible = question.impossible()
    found: list[Found] = []
    for method in reversed(METHOD_NAMES):
        if method in impossible:
            found.append(Found(method, impossible_because=impossible[method]))
            continue
        try:
            found.append(search.find(method))
        except _ENDS_ALL:
            raise
        except TrainfareError as error:
            found.append(Found(method, unknown_because=str(error)))
    return answer_of(
        question,
        found,
        name=search.name,
        tool_version=__version__,
        pilots=pilots,
        pilot_notes=pilot_notes,
        price_books=search.books,
        assumptions=(*assumed, *notes),
    )


@dataclass
class _Search:
    """
    Traces and machines of one job; each trace is made once and shared by methods with the same step.

    Args:
        job: the job.
        trace: traces a step of it.
        question: the question, completed from the job.
        book: prices.
        limits: of all learning-rate trials together.
        max_nodes: machines in one run.
        as_of: the moment to which the ages of prices are counted.
        say: called with progress messages.
    """

    job: DescribedJob
    trace: Tracer
    question: Question
    book: PriceBook
    limits: Constraints
    max_nodes: int | None
    as_of: datetime | None
    say: Callable[[str], None]
    name: str = "job"
    books: tuple[PriceBookFacts, ...] = ()
    _known: dict[_Step, JobProfile | TrainfareError] = field(
        default_factory=dict[_Step, "JobProfile | TrainfareError"]
    )

    def find(self, method: Method) -> Found:
        """
        Return the cheapest machine and settings for a method, or why there is none.

        Raises:
            TrainfareError: the method cannot be traced as the job stands.
        """
        own_precision = self.job.precision
        precisions = (own_precision, "bf16-mixed") if own_precision == "32-true" else (own_precision,)
        plain = self._profile(method, own_precision, recompute=False)
        amount = amount_of(self.question, method, _count_planned_samples(plain))
        if amount is None:
            return Found(method, profile=plain, notes=plain.notes)
        options: list[tuple[Variant, Option]] = []
        why = "no machine can hold it"
        for precision in precisions:
            for variant in self._variants(method, precision, options, amount):
                planned = replace_plan(variant, amount, self.question)
                option = self._cheapest(planned)
                if isinstance(option, Option):
                    options.append((planned, option))
                else:
                    why = option or why
        options.sort(key=lambda pair: any(knob.startswith("8-bit") for knob in pair[0].knobs))
        best = best_variant(options)
        if best is None:
            return Found(method, profile=plain, unknown_because=why)
        variant, option = best
        nvidia_only = ("bitsandbytes' kernels: NVIDIA GPUs only",) if variant.needs_nvidia else ()
        return Priced(
            method,
            profile=variant.profile,
            option=option,
            amount=amount,
            knobs=knob_lines(variant, option),
            notes=(*variant.profile.notes, *nvidia_only),
        )

    def _cheapest(self, variant: Variant) -> Option | str | None:
        """
        Return the cheapest machine within the limits, else without them, else the reason for which there is none.

        The budget covers all learning-rate trials, so that one run may cost its share; the answer states the chance to
        keep the limits.
        """
        trials, limits = self.question.learning_rate_trials, self.limits
        one_run = {
            "max_usd": None if limits.max_usd is None else limits.max_usd / trials,
            "deadline_hours": None if limits.deadline_hours is None else limits.deadline_hours / trials,
        }
        reason: str | None = None
        for update in (one_run, dict.fromkeys(one_run)):
            constraints = limits.model_copy(update=update)
            writer = load_plan_writer(variant.profile.source.loop)
            request = Request(
                constraints, limit=200, max_nodes=self.max_nodes, as_of=self.as_of, writer=writer
            )
            answer = rank(variant.profile, self.book, request)
            self.books = self.books or answer.price_books
            for option in answer.options:
                runs = not variant.needs_nvidia or accelerator(option.accelerator).vendor == "nvidia"
                if runs and not option.needs_porting:
                    return option
            reason = answer.unknown_because or "only machines that its kernels do not run on can hold it"
        return reason

    def _variants(
        self, method: Method, precision: str, priced: Sequence[tuple[Variant, Option]], amount: Amount
    ) -> Generator[Variant, None, None]:
        """
        Yield the variants to try in a precision, those with the fewest settings first.

        Args:
            method: the method.
            precision: of the run.
            priced: variants so far that a machine can run; the caller adds each that was yielded.
            amount: of samples.
        """
        packs = METHODS[method].packs_weights
        knobs = () if precision == self.job.precision else (f"precision {precision}",)
        plain = Variant(self._profile(method, precision, recompute=False), knobs, needs_nvidia=packs)
        yield plain
        smaller = eight_bit_adam(plain)
        chosen = best_variant([pair for pair in priced if len(pair[0].knobs) <= len(knobs)])
        if chosen is not None:
            # The others take less memory for as much work or more: none costs less than this one.
            least = replace_plan(without_activations(smaller or plain), amount, self.question)
            bound = self._cheapest(least)
            if isinstance(bound, Option) and bound.run_usd.mid >= WORTH_IT * chosen[1].run_usd.mid:
                return
        recomputed: Variant | None = None
        if _worth_recomputing(plain.profile):
            try:
                profile = self._profile(method, precision, recompute=True)
                recomputed = Variant(
                    profile, (*knobs, "recompute the blocks in backward"), needs_nvidia=packs
                )
            except _ENDS_ALL:
                raise
            except (InputError, CannotTellError):
                pass  # Without repeated blocks there is nothing to recompute.
        if recomputed is not None:
            yield recomputed
        if smaller is not None:
            yield smaller
        if recomputed is not None and (both := eight_bit_adam(recomputed)) is not None:
            yield both

    def _profile(self, method: Method, precision: str, *, recompute: bool) -> JobProfile:
        key = (METHODS[method].traced_as or method, precision, recompute)
        if key not in self._known:
            self.say(f"tracing {key[0]}, {precision}{', blocks recomputed' if recompute else ''}")
            writes = task_of(self.question.domain) in ("instruction", "pretraining", "text-generation")
            change = StepChange(
                *key[:2],
                lora_rank=self.question.lora_rank,
                head=self.question.head,
                trains_head=not writes,
                recompute=recompute,
            )
            try:
                self._known[key] = profile = self.trace(change)
                self.name = profile.name
            except TrainfareError as error:
                self._known[key] = error
        known = self._known[key]
        if isinstance(known, TrainfareError):
            raise known
        return known


def _worth_recomputing(profile: JobProfile) -> bool:
    memory = profile.memory
    rest = profile.parameter_bytes + memory.gradient_bytes + profile.optimizer.state_bytes
    saved_bytes = memory.saved_activation_bytes
    return saved_bytes > ACTIVATIONS_WORTH_RECOMPUTING * (rest + saved_bytes)


def _count_planned_samples(profile: JobProfile) -> float | None:
    """Return the samples that the user's own plan trains on."""
    steps, samples = profile.plan.optimizer_steps, profile.global_samples_per_step
    return None if steps is None or not samples else float(steps * samples)


def replace_plan(variant: Variant, amount: Amount, question: Question) -> Variant:
    """Return the variant with the number of steps for its samples to target, and validation in proportion."""
    profile = variant.profile
    samples = profile.global_samples_per_step
    if not samples:
        raise CannotTellError(
            "samples in one optimizer step are not known, so their number to the target is not"
        )
    steps = min(_MOST_STEPS, max(1, math.ceil(amount.samples / samples)))
    own_steps = profile.plan.optimizer_steps
    plan = profile.plan.model_copy(
        update={
            "optimizer_steps": steps,
            "unknown_because": None,
            "epochs": None if question.samples is None else amount.samples / question.samples,
            "validation_batches": round(
                profile.plan.validation_batches * (steps / own_steps if own_steps else 1.0)
            ),
            "max_time_s": None,
        }
    )
    return replace(variant, profile=profile.model_copy(update={"plan": plan}))
