"""
`recommend`: from a job and the prices at hand to the ranked answer; the same path for the callback and the
commands.

Prices come from plug-ins of the entry-point group `trainfare.providers`. Each is loaded by itself: a broken
one costs its own cloud, is named in the answer, and nothing else.
"""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from trainfare_core.errors import InputError, NoOffersError, PricesUnavailableError, TrainfareError

if TYPE_CHECKING:
    from trainfare.training_job import TrainingJob
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.offers import PriceBook
    from trainfare_core.recommendation import Constraints, Objective, Recommendation

    Job: TypeAlias = JobProfile | TrainingJob | str | Path

__all__ = [
    "PROVIDER_GROUP",
    "LoadedPrices",
    "ProviderEntry",
    "constraints_of",
    "load_price_book",
    "load_prices",
    "profile_of",
    "recommend",
    "with_names",
]

PROVIDER_GROUP = "trainfare.providers"
MAX_NODES = 16
"""`trainfare_core.candidates.NODE_COUNTS` ends here."""

Names: TypeAlias = "str | Sequence[str] | None"

_log = logging.getLogger("trainfare")


class ProviderEntry(Protocol):
    """An entry point, as `importlib.metadata` gives it."""

    @property
    def name(self) -> str:
        """Name of the plug-in."""
        ...

    def load(self) -> Any:
        """Import what the entry point names: a class or function that makes a `PriceProvider`."""
        ...


@dataclass(frozen=True, slots=True)
class LoadedPrices:
    """
    What the plug-ins gave.

    Attributes:
        book: all prices together.
        problems: a sentence for every plug-in that failed, sorted.
    """

    book: PriceBook
    problems: tuple[str, ...]


def load_prices(entries: Iterable[ProviderEntry] | None = None) -> LoadedPrices:
    """
    Load every price plug-in, each in its own `try`.

    Args:
        entries: the plug-ins; None takes the installed ones of the group `trainfare.providers`.

    Raises:
        PricesUnavailableError: no plug-in is installed, or none of them gave any price.
    """
    from trainfare_core.offers import PriceBook

    found = sorted(
        entry_points(group=PROVIDER_GROUP) if entries is None else entries, key=lambda entry: entry.name
    )
    books: list[PriceBook] = []
    problems: list[str] = []
    for entry in found:
        book = _book_or_problem(entry)
        if isinstance(book, PriceBook):
            books.append(book)
        else:
            problems.append(book)
    if not any(len(book) for book in books):
        why = "; ".join(problems) or "no price source is installed: install trainfare again"
        msg = f"there are no prices: {why}"
        raise PricesUnavailableError(msg)
    return LoadedPrices(PriceBook.concat(books), tuple(problems))


def load_price_book(entries: Iterable[ProviderEntry] | None = None) -> PriceBook:
    """
    Load every price plug-in and log those that fail; see `load_prices`.

    Raises:
        PricesUnavailableError: there are no prices at all.
    """
    loaded = load_prices(entries)
    for problem in loaded.problems:
        _log.warning("%s", problem)
    return loaded.book


def recommend(
    job: Job,
    providers: Names = None,
    regions: Names = None,
    purchase: Names = None,
    max_usd: float | None = None,
    deadline_hours: float | None = None,
    objective: Objective = "cheapest",
    *,
    confidence: float = 0.9,
    limit: int = 30,
    max_nodes: int = 4,
    all_regions: bool = False,
    price_book: PriceBook | None = None,
) -> Recommendation:
    """
    Rank every machine that could run a job, with dollars, hours and how sure they are.

    Args:
        job: a profile, a `TrainingJob` (traced now), a profile file, or a TARGET such as `train.py:job`.
        providers: clouds; None is all.
        regions: regions; None is all.
        purchase: purchase options; None is on_demand and spot. Reserved prices only when named.
        max_usd: budget of the whole run, USD.
        deadline_hours: hours within which it must end.
        objective: "cheapest" or "fastest": what comes first.
        confidence: chance with which budget and deadline must be kept together, 0.5 <= c < 1.
        limit: options to list, besides the cost-time front and the first of every cloud service.
        max_nodes: largest number of machines in one run, 1 to 16.
        all_regions: list every region; else each machine once, at its cheapest.
        price_book: prices; None loads the plug-ins.

    Returns:
        The ranked answer. Where nothing is feasible `options` is empty and `unknown_because` says why.

    Raises:
        InputError: a number out of range, or a word that is none of its choices.
        UnknownNameError: a provider, region or purchase option that the prices do not have, with near names.
        PricesUnavailableError: no price source gave anything.
        NoOffersError: no price matches the filters.
        ProfileError: a profile file that is not one.
        TraceError: a training step that cannot be traced without hardware.
    """
    from trainfare import __version__
    from trainfare_core.ranking import rank

    _check_choice("objective", objective, ("cheapest", "fastest"))
    _check_range("limit", limit, 1, 100_000)
    _check_range("max_nodes", max_nodes, 1, MAX_NODES)
    limits = constraints_of(max_usd=max_usd, deadline_hours=deadline_hours, confidence=confidence)
    loaded = load_prices() if price_book is None else LoadedPrices(price_book, ())
    asked = with_names(limits, loaded.book, providers=providers, regions=regions, purchase=purchase)
    return rank(
        profile_of(job),
        loaded.book,
        constraints=asked,
        objective=objective,
        limit=limit,
        max_nodes=max_nodes,
        all_regions=all_regions,
        notes=loaded.problems,
        tool_version=__version__,
    )


def profile_of(job: object) -> JobProfile:
    """
    Return the profile of whatever `recommend` takes as a job.

    Raises:
        ProfileError, TargetError, TraceError: see `recommend`.
        InputError: something that is no job.
    """
    from trainfare.training_job import TrainingJob
    from trainfare_core.job_profile import JobProfile

    if isinstance(job, JobProfile):
        return job
    if isinstance(job, TrainingJob):
        from trainfare.job_trace import trace_job

        return trace_job(job)
    if isinstance(job, (str, Path)):
        from trainfare.profile_input import read_profile

        return read_profile(str(job))
    msg = f"job: expected a JobProfile, a TrainingJob or a path, got {type(job).__name__}"
    raise InputError(msg)


def constraints_of(*, max_usd: float | None, deadline_hours: float | None, confidence: float) -> Constraints:
    """
    Check the numbers a user gave.

    Raises:
        InputError: not finite, negative, or a confidence outside [0.5, 1).
    """
    from trainfare_core.recommendation import Constraints

    for name, value in (("max_usd", max_usd), ("deadline_hours", deadline_hours)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            msg = f"{name}: {value} is not a limit; give a finite number that is not negative"
            raise InputError(msg)
    if not 0.5 <= confidence < 1:
        msg = f"confidence: {confidence} is not between 0.5 and 1; 0.9 means nine runs in ten"
        raise InputError(msg)
    return Constraints(max_usd=max_usd, deadline_hours=deadline_hours, confidence=confidence)


def with_names(
    limits: Constraints, book: PriceBook, *, providers: Names, regions: Names, purchase: Names
) -> Constraints:
    """
    Add the names a user typed, as the price book spells them.

    Raises:
        UnknownNameError: a name that the book does not have; a region must be one of the chosen providers'.
        NoOffersError: all names are known, and no price has all of them.
    """
    from trainfare_core.ranking import DEFAULT_PURCHASE

    clouds = book.resolve("provider", _several(providers))
    there = book.filter(providers=clouds)
    places = there.resolve("region", _several(regions))
    terms = book.resolve("purchase_option", _several(purchase))
    if not len(there.filter(regions=places, purchase=terms or DEFAULT_PURCHASE)):
        wanted = ", ".join([*(clouds or ()), *(places or ()), *(terms or DEFAULT_PURCHASE)])
        has = ", ".join(there.filter(regions=places).names("purchase_option"))
        msg = f"no price matches {wanted}; the purchase options there are: {has}"
        raise NoOffersError(msg)
    return limits.model_copy(update={"providers": clouds, "regions": places, "purchase": terms})


def _book_or_problem(entry: ProviderEntry) -> PriceBook | str:
    """Load one plug-in; what is wrong with it comes back as a sentence."""
    try:
        return _book_of(entry)
    except TrainfareError as error:
        return f"price source {entry.name!r} gave nothing: {error}"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code: a plug-in may fail in any way
        # Only the kind of the error: a foreign message may hold a URL with its key.
        return f"price source {entry.name!r} is broken ({type(error).__name__}): update or remove it"


def _book_of(entry: ProviderEntry) -> PriceBook:
    from trainfare_core.offers import PriceBook

    book: object = entry.load()().load()
    if not isinstance(book, PriceBook):
        msg = f"it returned {type(book).__name__} instead of a PriceBook"
        raise PricesUnavailableError(msg)
    return book


def _several(names: Names) -> tuple[str, ...] | None:
    if names is None:
        return None
    return (names,) if isinstance(names, str) else tuple(names)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        msg = f"{name}: {value!r} is not one of {', '.join(choices)}" + (
            f"; did you mean {near[0]}?" if near else ""
        )
        raise InputError(msg)


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        msg = f"{name}: {value} is not between {low} and {high}"
        raise InputError(msg)
