"""The answers of `trainfare check`: for one TARGET with the limits of the command line, and for a policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainfare.cli.base import BaseOf, of_file
from trainfare.cli.check_outputs import Renderers
from trainfare.cli.limit_options import RunLimits
from trainfare.cli.output import output_width, warn
from trainfare.cli.policy_options import PolicyOptions
from trainfare.policy import PolicyFile, Pricing, check_jobs, check_one, place_of, read_policy
from trainfare.prices.sources import LoadedPrices, PriceChoice, load_prices
from trainfare.report.budget_check import build_check
from trainfare.report.policy import build_policy_check, github_annotations, junit_xml, sarif_log
from trainfare.report.render.lines import format_lines
from trainfare.report.render.markdown import format_markdown
from trainfare_core.errors import InputError
from trainfare_core.policy.check import PolicyCheck, policy_check
from trainfare_core.policy.policy import Policy, PolicyJob
from trainfare_core.policy.rules import OnUnknown
from trainfare_providers.disk.toml_file import key_hint

if TYPE_CHECKING:
    from trainfare.report.blocks import Block
    from trainfare_core.changes.explain_change import PricedJob, UnknownJob
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.recommendation import Constraints

_NAME: Final = "check"
"""What the one job of the command line is called where a format wants a name."""


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """Exit code of an answer, and its text in each format."""

    exit_code: int
    renderers: Renderers


def target_answer(
    target: str,
    limits: RunLimits,
    on_unknown: OnUnknown,
    choice: PriceChoice,
    profile: Callable[[], JobProfile],
    base: BaseOf,
) -> CheckAnswer:
    """
    Check one TARGET with the limits of the command line.

    Args:
        target: the TARGET.
        limits: of the command line.
        on_unknown: what a check that cannot tell does.
        choice: which prices.
        profile: returns the profile of the TARGET.
        base: returns the job before a change.

    Raises:
        InputError: a limit is out of range.
        TrainfareError: it cannot be checked.
    """
    constraints = limits.constraints()
    job = PolicyJob(target=target, max_usd=constraints.max_usd, max_hours=constraints.deadline_hours)
    policy = Policy(
        confidence=constraints.confidence,
        on_unknown=on_unknown,
        max_nodes=limits.max_nodes,
        jobs={_NAME: job},
    )
    loaded = load_prices(choice=choice)
    pricing = Pricing(loaded, choice, lambda _target: profile(), lambda _name, prices: base(prices))
    answered = check_one(policy, _NAME, pricing, target, constraints)
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
            **_show_blocks(lambda: build_check(checked, as_of=loaded.as_of)),
        },
    )


def policy_answer(
    options: PolicyOptions,
    choice: PriceChoice,
    profile_of: Callable[[str, Constraints], JobProfile],
    base: Path | None,
    before: Callable[[str, Path | None, Constraints], BaseOf],
) -> CheckAnswer:
    """
    Check the jobs of a policy.

    Args:
        options: which policy, and which of its jobs.
        choice: which prices.
        profile_of: returns the profile of a target, for what a job of it is asked for.
        base: folder with the profiles of jobs before a change, as NAME.json; a job without one has no base.
        before: returns the base of a target, with the lock file of the prices, where `base` is None; asked as above.

    Raises:
        InputError: there is no policy, it is not valid, or it has no job of a name asked for.
        PricesUnavailableError: there are no prices at all.
    """
    file = read_policy(options.policy)
    names = _choose_names(file, options.only or [*file.policy.jobs])
    policy = file.policy if options.on_unknown is None else _with(file.policy, options.on_unknown)
    chosen = _choose_prices(file, choice)

    def base_of(name: str, loaded: LoadedPrices) -> PricedJob | UnknownJob | None:
        if base is None:
            constraints = policy.constraints_of(policy.jobs[name])
            return before(file.target_of(name), chosen.lock, constraints)(loaded)
        path = base / f"{name}.json"
        return of_file(path)(loaded) if path.is_file() else None

    def profile(target: str) -> JobProfile:
        # What plans may change is asked of all jobs of a policy alike.
        return profile_of(target, policy.constraints_of(policy.jobs[names[0]]))

    pricing = Pricing(load_prices(choice=chosen), chosen, profile, base_of)
    jobs = check_jobs(policy, pricing, target_of=file.target_of, names=names)
    source_place = place_of(str(file.path), Path())
    answer = policy_check(jobs, policy=None if source_place is None else source_place.path)
    return CheckAnswer(answer.exit_code, _renderers(answer))


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
    return {
        "table": lambda: format_lines(build(), width=output_width()),
        "markdown": lambda: format_markdown(build()),
    }


def _choose_names(file: PolicyFile, names_asked: Sequence[str]) -> tuple[str, ...]:
    known = [*file.policy.jobs]
    for name in names_asked:
        if name not in known:
            raise InputError(f"--job {name}: {file.path} has no such job; {key_hint(name, known)}")
    return tuple(dict.fromkeys(names_asked))


def _with(policy: Policy, on_unknown: OnUnknown) -> Policy:
    jobs = {name: job.model_copy(update={"on_unknown": None}) for name, job in policy.jobs.items()}
    return policy.model_copy(update={"on_unknown": on_unknown, "jobs": jobs})


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
