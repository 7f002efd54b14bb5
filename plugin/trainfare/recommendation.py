"""
`recommend`: rank the machines for a job with the available prices; used by the callback and by the commands.
`prices.sources` loads the prices.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, get_type_hints

from trainfare.loops import load_plan_writer
from trainfare.prices.constraints import load_requested_prices, read_constraints
from trainfare.prices.sources import PriceChoice
from trainfare_core.errors import CannotTellError, InputError, TrainfareError
from trainfare_core.limits.constraints import Constraints, LimitKeywords
from trainfare_core.limits.limit_fields import limits_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from trainfare.job import TrainingJob
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.prices.book import PriceBook
    from trainfare_core.ranking.alternatives.why_not import WhyNot
    from trainfare_core.ranking.pricing.request import Request
    from trainfare_core.recommendation import Objective, Recommendation
    from trainfare_core.rollouts import RolloutAnswer
    from trainfare_core.savings import Savings

    Job: TypeAlias = JobProfile | TrainingJob | str | Path

_TRACING: Final = threading.RLock()
"""Held while a job is traced, which sets what all threads of a process share: random states, standard output."""

_WHOLE_USD: Final = 100.0
"""From here on cents say nothing, as in a report."""

_log = logging.getLogger("trainfare")

_Function = TypeVar("_Function", bound=Callable[..., Any])


def with_limit_keywords(function: _Function) -> _Function:
    """Let a function's signature and docstring name each keyword of `**limits`, for `help` and notebooks."""
    own = inspect.signature(function)
    limits = limits_of(Constraints)
    *others, _ = own.parameters.values()
    types = get_type_hints(LimitKeywords)
    keywords = [
        inspect.Parameter(
            limit.keyword, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=types[limit.keyword]
        )
        for limit in limits
    ]
    function.__signature__ = own.replace(parameters=[*others, *keywords])  # type: ignore[attr-defined]
    lines = [f"            {limit.keyword}: {limit.text}" for limit in limits]
    text, after, rest = (function.__doc__ or "").partition("\n\n    Returns:")
    function.__doc__ = "\n".join([text, *lines]) + after + rest
    return function


@with_limit_keywords
def recommend(
    job: Job,
    constraints: Constraints | None = None,
    *,
    objective: Objective | None = None,
    limit: int = 30,
    max_nodes: int | None = None,
    all_regions: bool = False,
    price_book: PriceBook | None = None,
    lock: str | Path | None = None,
    own_prices: str | Path | None = None,
    allow_stale: bool = False,
    now: datetime | None = None,
    ledger: str | Path | None = None,
    **limits: Unpack[LimitKeywords],
) -> Recommendation:
    """
    Rank every machine that could run a job, with dollars and hours and their intervals.

    >>> answer = recommend("docs/examples/llama-7b.json", providers="aws", purchase="on_demand", deadline_hours=72)
    >>> best = answer.options[0]
    >>> best.provider, best.run_usd.low_80 < best.run_usd.mid < best.run_usd.high_80
    ('aws', True)
    >>> all(option.probability_within >= 0.9 for option in answer.options)  # of keeping the deadline
    True

    Args:
        job: a profile, a `TrainingJob` (traced now), a profile file, or a TARGET such as `train.py:job`.
        constraints: the limits; None is none.
        objective: "cheapest", "fastest" or "best_value": the order of the options; None: "best_value" where
            `value_usd_per_hour` is given, else "cheapest".
        limit: options to list, besides the cost-time front and the first of every cloud service.
        max_nodes: largest number of machines in one run, 1 to 64; None: 4, or the job's own number if larger.
        all_regions: list every region; else each machine once, at its cheapest.
        price_book: prices; None loads the plug-ins.
        lock: a `trainfare.lock`: rank its prices and no others.
        own_prices: a TOML file of discounts and rates; None takes the one that TRAINFARE_OWN_PRICES names.
        allow_stale: rank also with live prices that were fetched more than 30 days ago.
        now: an aware moment to count the age of prices to; None is now.
        ledger: folder of a ledger, whose runs of this working folder's project correct the steps; None: none does.
        limits: the limits by keyword, over those of `constraints`; names are one text or several, None is all of them.

    Returns:
        The ranked answer. Where nothing is feasible `options` is empty and `unknown_because` says why.

    Raises:
        InputError: a number out of range, or an unknown objective.
        UnknownNameError: a name that the prices do not have, with near names.
        PricesUnavailableError: no price source has prices, or live prices are too old to rank with.
        PriceLockError: the lock is damaged, edited or not there.
        NoOffersError: no price matches the filters.
        CannotTellError: the profile has no operations: a step that was measured and could not be traced.
        ProfileError: the profile file is invalid.
        TraceError: a training step that cannot be traced without hardware.
    """
    from trainfare_core.ranking.pricing.request import Request, objective_of

    if price_book is not None and not (lock is None and own_prices is None):
        raise InputError("price_book: with lock or own_prices it would not be used; give one of them")
    _check_is_constraints(constraints)
    asked = read_constraints(limits, constraints)
    request = Request(asked, objective_of(objective, asked), limit, max_nodes, all_regions)
    choice = PriceChoice(
        lock=None if lock is None else Path(lock),
        own_prices=None if own_prices is None else Path(own_prices),
        allow_stale=allow_stale,
        now=now or datetime.now(tz=timezone.utc),
    )
    if asked.any_precision:
        job = _in_precisions(job)
    ranking = rank_job(job, request, choice, price_book=price_book, ledger=ledger)
    for warning in ranking.warnings:
        _log.warning("%s", warning)
    return ranking.answer


def recommend_many(
    jobs: Iterable[Job], *, executor: Executor | None = None, **asked: Any
) -> tuple[Recommendation | TrainfareError, ...]:
    """
    Rank the machines for each of several jobs, on several processes where an executor has them.

    >>> many = recommend_many(["docs/examples/tiny.json", "absent.json"], providers="gcp")
    >>> [type(answer).__name__ for answer in many]
    ['Recommendation', 'ProfileError']

    Args:
        jobs: each as `recommend` takes it; what goes to another process must be picklable, as profiles and files are.
        executor: a `ThreadPoolExecutor`, or one of spawned processes, such as
            `ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))`, which the caller shuts down. None:
            one job after the other, here.
        asked: the other arguments of `recommend`, the same for every job.

    Returns:
        In the order of the jobs, the answer that `recommend` gives, or the error that it raises.

    Raises:
        InputError: the executor forks this process: a fork waits for ever for the threads that it does not have.
    """
    context = getattr(executor, "_mp_context", None)  # of a ProcessPoolExecutor
    if context is not None and context.get_start_method() == "fork":
        raise InputError(
            "executor: its processes are forks of this one and would hang; give "
            'ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))'
        )
    asked["now"] = asked.get("now") or datetime.now(tz=timezone.utc)
    if executor is None:
        return tuple(_recommend_or_error(job, asked) for job in jobs)
    futures = [_submit_job(executor, index, job, asked) for index, job in enumerate(jobs)]
    return tuple(future.result() for future in futures)


def _submit_job(
    executor: Executor, index: int, job: Job, asked: dict[str, Any]
) -> Future[Recommendation | TrainfareError]:
    if getattr(executor, "_mp_context", None) is not None:  # of processes
        from multiprocessing.reduction import ForkingPickler

        try:
            ForkingPickler.dumps(job)  # as the executor does, but of this job alone
        except Exception as error:  # noqa: BLE001 - what an object raises when it is pickled is its own
            what = f"jobs[{index}] cannot be sent to another process: {error}"
            refused: Future[Recommendation | TrainfareError] = Future()
            refused.set_result(
                InputError(f"{what}; give its profile (trace_job), a profile file or a TARGET")
            )
            return refused
    return executor.submit(_recommend_or_error, job, asked)


def _recommend_or_error(job: Job, asked: dict[str, Any]) -> Recommendation | TrainfareError:
    try:
        return recommend(job, **asked)
    except TrainfareError as error:
        return error


def _check_is_constraints(given: object) -> None:
    if not isinstance(given, Constraints | None):
        what = f"constraints: expected Constraints, got {type(given).__name__}"
        raise InputError(f"{what}; give a limit by its keyword, such as providers or max_usd")


@dataclass(frozen=True, slots=True)
class Explained:
    """
    Why a machine is not the answer, with the warnings about the prices.

    Attributes:
        answer: the same for the same prices and the same day.
        warnings: sentences on the age of the prices.
    """

    answer: WhyNot
    warnings: tuple[str, ...]


def why_not(job: Job, request: Request, choice: PriceChoice, machine: str) -> Explained:
    """
    Say why a machine is not the answer to a request.

    Args:
        job: see `recommend`, which also lists the errors.
        request: what was asked for; names as a person types them.
        choice: which prices to rank with.
        machine: an instance type, its family or an accelerator; `provider:` before and `@region` after it are optional.

    Raises:
        UnknownNameError: the prices do not have the machine.
    """
    from trainfare_core.ledger.noise_scale import with_noise_scale
    from trainfare_core.ranking.alternatives.why_not import why_not as explain

    loaded, constraints, warnings = load_requested_prices(request.constraints, choice)
    profile = profile_of(job)
    writer = load_plan_writer(profile.source.loop)
    request = replace(request, constraints=constraints, as_of=loaded.as_of, writer=writer)
    noted = with_noise_scale(profile, request.earlier_runs)
    return Explained(explain(noted, loaded.book, request, machine), warnings)


@dataclass(frozen=True, slots=True)
class FoundSavings:
    """
    What would make a run cheaper, with the warnings about the prices.

    Attributes:
        answer: the same for the same prices and the same day.
        warnings: sentences on the age of the prices.
    """

    answer: Savings
    warnings: tuple[str, ...]


def find_job_savings(job: Job, request: Request, choice: PriceChoice) -> FoundSavings:
    """
    Find what would make a run cheaper.

    Args:
        job: see `recommend`, which also lists the errors.
        request: what is asked for; names as a person types them.
        choice: which prices to rank with.

    Raises:
        CannotTellError: nothing can be predicted from the profile.
    """
    from trainfare_core.ledger.noise_scale import with_noise_scale
    from trainfare_core.savings import find_savings

    loaded, constraints, warnings = load_requested_prices(request.constraints, choice)
    profile = profile_of(job)
    _require_operations(profile)
    writer = load_plan_writer(profile.source.loop)
    request = replace(request, constraints=constraints, as_of=loaded.as_of, writer=writer)
    noted = with_noise_scale(profile, request.earlier_runs)
    return FoundSavings(find_savings(noted, loaded.book, request), warnings)


@dataclass(frozen=True, slots=True)
class FoundRollout:
    """
    The machines for a run of reinforcement learning, with the warnings about the prices.

    Attributes:
        answer: the same for the same prices and the same day.
        warnings: sentences on the age of the prices.
    """

    answer: RolloutAnswer
    warnings: tuple[str, ...]


def estimate_job_rollout(profile: JobProfile, request: Request, choice: PriceChoice) -> FoundRollout:
    """
    Predict the phases of a run of reinforcement learning on every machine.

    Args:
        profile: of a job with a rollout.
        request: what is asked for; names as a person types them.
        choice: which prices to rank with.

    Raises:
        CannotTellError: no machine has a prediction.
    """
    from trainfare_core.rollouts import estimate_rollout

    loaded, constraints, warnings = load_requested_prices(request.constraints, choice)
    _require_operations(profile)
    request = replace(request, constraints=constraints, as_of=loaded.as_of)
    return FoundRollout(estimate_rollout(profile, loaded.book, request), warnings)


def _require_operations(profile: JobProfile) -> None:
    if not profile.operations:
        why = profile.untraced_because
        what = "the profile has no operations, so nothing can be predicted from it"
        raise CannotTellError(f"{what}: {why}" if why else f"{what}: trace the step with `trainfare profile`")


@dataclass(frozen=True, slots=True)
class Ranked:
    """
    A recommendation, with the age of its prices.

    Attributes:
        answer: the same for the same prices and the same day.
        as_of: the moment to which a report counts ages.
        warnings: sentences on the age of the prices at the moment of the request.
    """

    answer: Recommendation
    as_of: datetime
    warnings: tuple[str, ...]


def rank_job(
    job: Job, request: Request, choice: PriceChoice, *, price_book: PriceBook | None = None, compare: bool = False,
    savings: bool = False, ledger: str | Path | None = None,
) -> Ranked:  # fmt: skip
    """
    Rank as `recommend` does, and keep what a report needs besides.

    Args:
        job: see `recommend`, which also lists the errors.
        request: what to rank for; names as a person types them.
        choice: which prices to rank with.
        price_book: prices to rank with instead.
        compare: an assumption says what other implementations of the model would cost.
        savings: price what would make the run cheaper, too; takes as long as the ranking, or a little longer.
        ledger: whose runs correct the steps, in place of those of the request.
    """
    from trainfare_core.ledger.noise_scale import with_noise_scale
    from trainfare_core.ranking.cost_outlook import with_outlook
    from trainfare_core.ranking.rank import rank
    from trainfare_core.variants import compare_implementations, why_no_precision

    loaded, constraints, warnings = load_requested_prices(request.constraints, choice, price_book)
    profile = profile_of(job)
    writer = load_plan_writer(profile.source.loop)
    request = replace(request, constraints=constraints, as_of=loaded.as_of, writer=writer)
    _require_operations(profile)
    if ledger is not None:
        from trainfare.ledger.earlier_runs import read_earlier_runs

        request = replace(request, earlier_runs=read_earlier_runs(profile, ledger))
    profile = with_noise_scale(profile, request.earlier_runs)
    if constraints.any_precision and (missing := why_no_precision(profile)):
        warnings = (*warnings, missing)
    compared = ""
    if compare:

        def price(other: JobProfile) -> str:
            best = rank(other, loaded.book, request).best("cheapest")
            if best is None:
                return "an unknown amount"
            return f"${best.run_usd.mid:,.{0 if best.run_usd.mid >= _WHOLE_USD else 2}f}"

        compared = compare_implementations(profile, "the cheapest run would cost", price)
    notes = (*loaded.problems, *loaded.notes, *filter(None, [compared]))
    answer = rank(profile, loaded.book, request, notes=notes)
    answer = answer.model_copy(update={"own_prices": loaded.own_prices, "implementations": compared})
    if answer.cheapest_rank is None:
        from trainfare_core.ranking.alternatives.nearest import with_alternatives

        answer = with_alternatives(answer, profile, loaded.book, request)
    elif savings:
        from trainfare_core.savings import list_savings

        answer = answer.model_copy(update={"savings": list_savings(profile, loaded.book, request)})
    return Ranked(with_outlook(answer).identify_plans(), loaded.as_of, warnings)


def _in_precisions(job: Job) -> Job:
    """Return a job that can be traced as its profile, with traces in other precisions; others as they are."""
    from trainfare.job import TrainingJob

    if not isinstance(job, TrainingJob):
        return job
    from trainfare.fake_step import trace_job
    from trainfare_core.variants import with_precisions

    with _TRACING:
        return with_precisions(trace_job(job), lambda precision: trace_job(replace(job, precision=precision)))


def profile_of(job: object) -> JobProfile:
    """
    Return the profile of a job in any form that `recommend` takes.

    Raises:
        ProfileError, TargetError, TraceError: see `recommend`.
        InputError: an object of another type.
    """
    from trainfare_core.job_profile import JobProfile

    if isinstance(job, JobProfile):
        return job
    if isinstance(job, (str, Path)):
        from trainfare.fake_step import read_profile

        with _TRACING:
            return read_profile(str(job))
    from trainfare.job import TrainingJob

    if isinstance(job, TrainingJob):
        from trainfare.fake_step import trace_job

        with _TRACING:
            return trace_job(job)
    msg = f"job: expected a JobProfile, a TrainingJob or a path, got {type(job).__name__}"
    raise InputError(msg)
