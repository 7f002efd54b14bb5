"""`trainfare savings`: what would make a run cheaper, each change by itself."""

from __future__ import annotations

from dataclasses import replace

from trainfare.cli.limit_options import RunLimits
from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.options import (
    DecisionPriceOptions,
    Force,
    JobArgument,
    JobOptions,
    LedgerOptions,
    OutputFile,
)
from trainfare.cli.output import check_writable, show_wait, warn, write_answer, write_report
from trainfare.cli.target import TargetOptions, profile_of
from trainfare_core.errors import CannotTellError


@group_options
def savings(
    job: JobArgument = None,
    *,
    limits: RunLimits,
    prices: DecisionPriceOptions,
    target: TargetOptions,
    loader: JobOptions,
    ledger: LedgerOptions,
    output: Format = "table",
    out: OutputFile = None,
    force: Force = False,
) -> None:
    """Say what would make a run cheaper: each change by itself, what it saves, and how sure that is."""
    from trainfare.recommendation import find_job_savings
    from trainfare.report.savings import report_savings
    from trainfare_core.ranking.pricing.request import Request

    check_writable(out, force=force)
    request = Request(limits.constraints(), max_nodes=limits.max_nodes)
    choice = prices.choice()
    with profile_of(target.require_target(job), target, precisions=True) as traced:
        profile = loader.apply_to(traced())
    request = replace(request, earlier_runs=ledger.read_runs(profile, locked=choice.lock is not None))
    with show_wait("pricing each change"):
        found = find_job_savings(profile, request, choice)
    warn(found.warnings)
    if output == "json":
        write_answer(found.answer.to_json(), out)
    else:
        write_report(report_savings(found.answer), output, out)
    if found.answer.unknown_because:
        raise CannotTellError(found.answer.unknown_because)
