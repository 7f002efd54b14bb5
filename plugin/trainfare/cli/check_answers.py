"""The answers of `trainfare check`: for one TARGET with the limits of the command line, and for a policy."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainfare.cli.base import BaseOf, of_file
from trainfare.cli.check_options import PolicyOptions, Renderers
from trainfare.cli.limit_options import RunLimits
from trainfare.cli.output import output_width, warn
from trainfare.ledger.earlier_runs import find_named_ledger
from trainfare.ledger.place import LedgerPlace
from trainfare.policy import BaseTree, place_of, read_policy
from trainfare.policy.base_policy import rule_policy
from trainfare.policy.jobs import Pricing, check_jobs, check_one
from trainfare.policy.policy_file import PolicyFile
from trainfare.policy.traced_jobs import TracedJobs
from trainfare.prices.sources import LoadedPrices, PriceChoice, load_prices
from trainfare.report.escape import terminal_text
from trainfare.report.policy import build_policy_check, github_annotations, junit_xml, sarif_log
from trainfare.report.policy.text import build_check
from trainfare.report.render.text import format_lines, format_markdown
from trainfare_core.errors import InputError, PriceLockError
from trainfare_core.ledger.run_record import OFF
from trainfare_core.policy.check import (
    JobCheck,
    PolicyCheck,
    SourcePlace,
    join_checks,
    policy_check,
    report_policy_changes,
)
from trainfare_core.policy.policy import Policy, PolicyJob
from trainfare_providers.disk.toml_file import key_hint

if TYPE_CHECKING:
    from trainfare.report.blocks import Block
    from trainfare_core.changes.explain_change import PricedJob, UnknownJob
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.recommendation import Constraints

_NAME: Final = "check"
"""What the one job of the command line is called where a format wants a name."""


_LOG_WIDTH: Final = 120
"""Columns of tables in the log of a CI job. Chosen: what its pages show without scrolling."""


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """Exit code of an answer, and its text in each format."""

    exit_code: int
    renderers: Renderers


def target_answer(
    target: str,
    limits: RunLimits,
    options: PolicyOptions,
    choices: Sequence[PriceChoice],
    profile: Callable[[], JobProfile],
    base: BaseOf,
) -> CheckAnswer:
    """
    Check one TARGET with the limits of the command line.

    Args:
        target: the TARGET.
        limits: of the command line.
        options: what a check that cannot tell does, and whose last runs are shown.
        choices: see `choose_locks`.
        profile: returns the profile of the TARGET.
        base: returns the job before a change.

    Raises:
        InputError: a limit is out of range.
        TrainfareError: it cannot be checked.
    """
    constraints = limits.constraints()
    # A file's name may hold what no policy may: bytes that are no text, control characters.
    text = terminal_text(target).strip() or _NAME
    job = PolicyJob(target=text, max_usd=constraints.max_usd, max_hours=constraints.deadline_hours)
    policy = Policy(
        confidence=constraints.confidence,
        on_unknown=options.on_unknown or "fail",
        max_nodes=limits.max_nodes,
        jobs={_NAME: job},
    )
    ledger = None if options.ledger is None else find_named_ledger(options.ledger)
    trace, before = functools.cache(profile), _keep_bases(lambda _name, loaded: base(loaded))
    as_of: list[date] = []

    def check(choice: PriceChoice) -> tuple[JobCheck, ...]:
        loaded = load_prices(choice=choice)
        as_of.append(loaded.as_of)
        pricing = Pricing(loaded, choice, lambda _target: trace(), before, ledger)
        return (check_one(policy, _NAME, pricing, target, place_of(target, Path()), constraints),)

    (answered,) = _check_with_each_lock(choices, check)
    warn(finding.message for finding in answered.findings if finding.level == "warning")
    checked = answered.check
    if checked is None:  # only a job of a policy can be reported as not checked
        raise InputError(f"{target}: it was not checked")
    answer = policy_check([answered])
    return CheckAnswer(
        answer.exit_code,
        {
            **_renderers(answer),
            "json": checked.to_json,
            **_show_blocks(lambda: build_check(checked, as_of=as_of[0])),
        },
    )


def policy_answer(
    options: PolicyOptions,
    choice: PriceChoice,
    profile_of: Callable[[str, Constraints], JobProfile],
    base: Path | None,
    before: Callable[[str, Constraints], BaseOf],
    tree: BaseTree | None,
) -> CheckAnswer:
    """
    Check the jobs of a policy: by the base's where there is one.

    Args:
        options: which policy, and which of its jobs.
        choice: which prices.
        profile_of: returns the profile of a target, for what a job of it is asked for.
        base: folder with the profiles of jobs before a change, as NAME.json.
        before: returns the base of a target, where `base` is None; asked as above.
        tree: the files of the base.

    Raises:
        InputError: there is no policy, it is not valid, or it has no job of a name asked for.
        PricesUnavailableError: there are no prices at all.
    """
    traced = None if options.profiles is None else TracedJobs(options.profiles)
    file = read_policy(options.policy) if traced is None else traced.policy()
    if traced is not None:
        if tree is not None and base is None:
            raise InputError("--profiles with --compare-to: give --base FOLDER with the profiles of the base")
        here = Path() if options.policy is None else options.policy.parent
        tree = BaseTree("the base", traced.folder.resolve(), here.resolve())
    ruling = rule_policy(file, tree)
    policy = ruling.policy
    if options.on_unknown is not None:
        jobs_asked = {name: job.model_copy(update={"on_unknown": None}) for name, job in policy.jobs.items()}
        policy = policy.model_copy(update={"on_unknown": options.on_unknown, "jobs": jobs_asked})
    names = _choose_names(dataclasses.replace(file, policy=policy), options.only or [*policy.jobs])

    def base_of(name: str, loaded: LoadedPrices) -> PricedJob | UnknownJob | None:
        from trainfare_core.changes.explain_change import UnknownJob

        is_new = ruling.files is file or name not in ruling.files.policy.jobs
        if traced is not None and (base is None or is_new):
            return None
        if base is None:
            return before(file.target_of(name), policy.constraints_of(policy.jobs[name]))(loaded)
        path = base / f"{name}.json"
        return (
            of_file(path)(loaded) if path.is_file() else UnknownJob(str(base), f"it has no {path.name}", ())
        )

    @functools.cache
    def profile(target: str) -> JobProfile:
        if traced is not None:
            return traced.read(target)
        # What plans may change is asked of all jobs of a policy alike.
        return profile_of(target, policy.constraints_of(policy.jobs[names[0]]))

    keep_bases, ledger = _keep_bases(base_of), _find_ledger(options, file, policy)
    target_of = file.target_of if traced is None else traced.path_of

    def place_of_job(name: str) -> SourcePlace | None:
        """Return where the checkout defines a job; that of the base, where what was traced elsewhere is judged."""
        judged_here = traced is not None and name in ruling.files.policy.jobs
        return place_of((ruling.files if judged_here else file).target_of(name), Path())

    def check(chosen: PriceChoice) -> tuple[JobCheck, ...]:
        pricing = Pricing(load_prices(choice=chosen), chosen, trace, keep_bases, ledger)
        return check_jobs(policy, pricing, target_of=target_of, place_of_job=place_of_job, names=names)

    ruled = _choose_prices(ruling.files, choice)
    with _trace_ahead(profile, map(target_of, names), options.jobs) as trace:
        jobs = _check_with_each_lock(choose_locks(ruled, _choose_prices(file, choice), tree), check)
    source_place = place_of(str(file.path), Path())
    if ruling.changes:
        changes = report_policy_changes(policy, file.path.name, ruling.changes, source_place)
        jobs = (*jobs, changes)
    answer = policy_check(
        jobs, policy=None if source_place is None else source_place.path, notes=ruling.notes
    )
    return CheckAnswer(answer.exit_code, _renderers(answer))


def _find_ledger(options: PolicyOptions, file: PolicyFile, policy: Policy) -> LedgerPlace | None:
    """Return the ledger that is named; one of the policy may be a folder that only training machines have."""
    if options.ledger is not None:
        return find_named_ledger(options.ledger)
    named = policy.ledger.folder
    # What was traced elsewhere may bring a folder of that name, with any rows.
    if named in (None, OFF) or options.profiles is not None or not file.beside(named).is_dir():
        return None
    return find_named_ledger(file.beside(named))


@contextlib.contextmanager
def _trace_ahead(
    trace: Callable[[str], JobProfile], targets: Iterable[str], at_once: int
) -> Generator[Callable[[str], JobProfile], None, None]:
    """Give a function from a target to its profile; several targets are traced at once, each in its own process."""
    if at_once == 1:
        yield trace
        return
    executor = ThreadPoolExecutor(at_once)
    futures = {target: executor.submit(trace, target) for target in dict.fromkeys(targets)}
    try:
        yield lambda target: futures[target].result()
    finally:
        executor.shutdown(cancel_futures=True)


def choose_locks(choice: PriceChoice, head: PriceChoice, tree: BaseTree | None) -> tuple[PriceChoice, ...]:
    """
    Return the prices to check with: those of the base's lock and, where the change has another, those of its own.

    Args:
        choice: which prices; a lock of the change counts as the base's, where that has it.
        head: which prices the change itself asks for.
        tree: the files of the base.
    """
    ruled = choice
    if tree is not None and choice.lock is not None:
        ruled = dataclasses.replace(choice, lock=_find_lock(tree, choice.lock) or choice.lock)
    if head.lock is None or (ruled.lock is not None and _are_equal(ruled.lock, head.lock)):
        return (ruled,)
    return (ruled, dataclasses.replace(ruled, lock=head.lock))


def _find_lock(tree: BaseTree, lock: Path) -> Path | None:
    """Return the base's lock in the place of one of the change; None where it has none that can be read."""
    from trainfare.prices.lock import read_lock

    base = tree.find(lock)
    if base is None or _are_equal(base, lock):
        return base
    try:
        read_lock(base)
    except PriceLockError:
        return None
    return base


def _are_equal(first: Path, second: Path) -> bool:
    if first == second or not second.is_file():
        return first == second
    return first.read_bytes() == second.read_bytes()


def _check_with_each_lock(
    choices: Sequence[PriceChoice], check: Callable[[PriceChoice], tuple[JobCheck, ...]]
) -> tuple[JobCheck, ...]:
    first, *others = [check(choice) for choice in choices]
    for checks in others:
        first = tuple(join_checks(job, other) for job, other in zip(first, checks, strict=True))
    return first


def _keep_bases(
    base_of: Callable[[str, LoadedPrices], PricedJob | UnknownJob | None],
) -> Callable[[str, LoadedPrices], PricedJob | UnknownJob | None]:
    """Return a function that traces each base once, whatever the prices: both sides have the same."""
    kept: dict[str, PricedJob | UnknownJob | None] = {}

    def price(name: str, loaded: LoadedPrices) -> PricedJob | UnknownJob | None:
        from trainfare_core.changes.explain_change import PricedJob

        if name not in kept:
            kept[name] = base_of(name, loaded)
        base = kept[name]
        return dataclasses.replace(base, book=loaded.book) if isinstance(base, PricedJob) else base

    return price


def _renderers(answer: PolicyCheck) -> Renderers:
    return {
        **_show_blocks(lambda: build_policy_check(answer)),
        "json": answer.to_json,
        "sarif": lambda: sarif_log(answer),
        "junit": lambda: junit_xml(answer),
        "github": lambda: github_annotations(answer),
    }


def _show_blocks(build: Callable[[], list[Block]]) -> Renderers:
    """Return the formats that show blocks."""

    def show_page() -> str:
        from trainfare.report.render.page import format_page  # jinja2 is loaded where a page is asked for

        return format_page(build())

    return {
        "table": lambda: format_lines(build(), width=output_width(_LOG_WIDTH)),
        "markdown": lambda: format_markdown(build()),
        "html": show_page,
    }


def _choose_names(file: PolicyFile, names_asked: Sequence[str]) -> tuple[str, ...]:
    known = [*file.policy.jobs]
    for name in names_asked:
        if name not in known:
            raise InputError(f"--job {name}: {file.path} has no such job; {key_hint(name, known)}")
    return tuple(dict.fromkeys(names_asked))


def _choose_prices(file: PolicyFile, choice: PriceChoice) -> PriceChoice:
    """Return the prices of the command line, and what it leaves open from the policy."""
    policy = file.policy
    lock = choice.lock or (file.beside(policy.lock) if policy.lock else None)
    own_prices = choice.own_prices
    if own_prices is None and policy.own_prices and choice.lock is None:
        own_prices = file.beside(policy.own_prices)
    age, on_stale = choice.max_price_age_days, choice.on_stale
    return dataclasses.replace(
        choice,
        lock=lock,
        own_prices=own_prices,
        max_price_age_days=policy.max_price_age_days if age is None else age,
        on_stale=on_stale or policy.on_stale,
    )
