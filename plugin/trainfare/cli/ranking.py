"""The options of a ranking of machines, and its answer in the format that is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final

import typer

from trainfare.cli.limit_options import RunLimits, option_of
from trainfare.cli.option_groups import Format
from trainfare.cli.options import DecisionPriceOptions, Force, LedgerOptions, Objectives, OutputFile
from trainfare.cli.output import check_writable, show_wait, warn, write_answer, write_report
from trainfare_core.errors import CannotTellError, InputError, NothingFitsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainfare.prices.sources import PriceChoice
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.ranking.pricing.request import Request


_MOST_ROWS: Final = 100_000
"""Chosen: no list of machines of today is as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingOptions(LedgerOptions):
    """How machines are ranked, and how the answer is shown."""

    objective: Annotated[
        Objectives | None,
        typer.Option(help="order of the ranking; default: best_value with --value-per-hour, else cheapest"),
    ] = None
    value_per_hour: Annotated[float | None, option_of("value_usd_per_hour")] = None
    value_per_month: Annotated[float | None, option_of("value_usd_per_month")] = None
    limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=_MOST_ROWS,
            help="rows of the table, shown with its details; 0: all; JSON and HTML also have the Pareto front and the "
            "best of each cloud",
        ),
    ] = None
    all_regions: Annotated[
        bool, typer.Option("--all-regions", help="list every region, not only the cheapest of each machine")
    ] = False
    details: Annotated[
        bool, typer.Option("--details", help="show the whole report, not only its first screen")
    ] = False
    output: Format = "table"
    out: OutputFile = None
    force: Force = False

    def answer(
        self, limits: RunLimits, prices: DecisionPriceOptions, profile_of: Callable[[], JobProfile],
        *, compare: bool = False, target: str | None = None,
    ) -> None:  # fmt: skip
        """
        Rank the machines for a job, and write the answer.

        Args:
            limits: of the run.
            prices: to rank with.
            profile_of: gives the job's profile; called after everything else that is asked for was checked.
            compare: see `rank_job`.
            target: the TARGET, for the JSON: what starts its script.

        Raises:
            NothingFitsError: no machine is left; the answer, which says why, is written.
            CannotTellError: the cost is not known, as where a step generates text; its phases are written.
        """
        from trainfare.export import export_named_plans, read_launch
        from trainfare.recommendation import rank_job
        from trainfare_core.ranking.pricing.request import DEFAULT_LIMIT, Request, objective_of

        constraints = limits.constraints(
            value_usd_per_month=self.value_per_month, value_usd_per_hour=self.value_per_hour
        )
        check_writable(self.out, force=self.force)
        choice = prices.choice()
        rows = _MOST_ROWS if self.limit == 0 else self.limit
        profile = profile_of()
        request = Request(
            constraints,
            objective_of(self.objective, constraints),
            rows or DEFAULT_LIMIT,
            limits.max_nodes,
            self.all_regions,
            earlier_runs=self.read_runs(profile, locked=choice.lock is not None),
        )
        if profile.rollout is not None:
            self._answer_phases(profile, request, choice)
            return
        with show_wait("pricing every machine"):
            ranking = rank_job(profile, request, choice, compare=compare, savings=True)
        warn(ranking.warnings)
        whole = self.details or self.limit is not None
        if self.output in ("json", "html") and target is not None:
            launch = read_launch(target)
            ranking = replace(ranking, answer=ranking.answer.model_copy(update={"launch": launch}))
        if self.output == "json":
            write_answer(ranking.answer.to_json(), self.out)
        elif self.output == "csv":
            from trainfare.report.rows import ranking_csv

            write_answer(ranking_csv(ranking.answer.options), self.out)
        else:
            from trainfare.ledger.earlier_runs import find_named_ledger, list_last_runs
            from trainfare.report import report_ranking

            last = () if self.ledger is None else list_last_runs([profile], find_named_ledger(self.ledger))
            details = whole or self.output != "table"
            files = tuple(export_named_plans(ranking.answer)) if self.output == "html" else ()
            report = report_ranking(
                ranking.answer, profile, ranking.as_of, rows=rows, details=details, last_runs=last, files=files
            )  # fmt: skip
            write_report(report, self.output, self.out)
        if not ranking.answer.options:
            because = ranking.answer.unknown_because or "no machine is left"
            # Every format but JSON and CSV begins with the reason: said once, it is read.
            raise NothingFitsError(
                because if self.output in ("json", "csv") else "no machine is left; the report says why"
            )

    def _answer_phases(self, profile: JobProfile, request: Request, choice: PriceChoice) -> None:
        """Write what the phases of a step that generates text take."""
        from trainfare.recommendation import estimate_job_rollout
        from trainfare.report.rollouts import report_rollout

        if self.output == "csv":
            raise InputError("--format csv: the phases of a step are no ranking; give --format json")
        with show_wait("predicting every machine"):
            found = estimate_job_rollout(profile, request, choice)
        warn(found.warnings)
        if self.output == "json":
            write_answer(found.answer.to_json(), self.out)
        else:
            shown = (
                report_rollout(found.answer)
                if self.limit is None
                else report_rollout(found.answer, request.limit)
            )
            write_report(shown, self.output, self.out)
        if found.answer.cost_unknown_because:
            raise CannotTellError(f"the cost is unknown: {found.answer.cost_unknown_because}")
