"""`RunPricer`: the runs of a request, timed and priced (between stages 5 and 6)."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from datetime import timezone
from typing import NamedTuple

import numpy as np
import polars as pl

from trainfare_core.arrays import Column, Rows, find_least, mark_rows, pair_rows
from trainfare_core.batch_scaling import CriticalBatch, explain_not_predicted, find_critical_batch
from trainfare_core.candidates import MAX_NODES, take
from trainfare_core.errors import InputError
from trainfare_core.job_profile import JobProfile
from trainfare_core.prices.commitments import CAPACITY_BLOCK
from trainfare_core.ranking.pricing.best_plans import quantise_times, worth_changing
from trainfare_core.ranking.pricing.data_costs import ModelRoutes, ObjectStorage
from trainfare_core.ranking.pricing.machines import (
    PricedMachines,
    PricedOffers,
    ServiceColumns,
    disk_prices_of,
    group_machines,
)
from trainfare_core.ranking.pricing.plan_search import PlanSearch, Predictor
from trainfare_core.ranking.pricing.price_doubt import Usable, charge_use
from trainfare_core.ranking.pricing.priced_runs import PricedRuns, SideCosts
from trainfare_core.ranking.pricing.quotas import machines_allowed
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.pricing.spot import hazards_of_offers, why_no_spot
from trainfare_core.recommendation import Constraints
from trainfare_core.run_cost.disks import disk_gib, disks_usd_per_hour
from trainfare_core.run_cost.model import checkpoint_bytes
from trainfare_core.run_cost.table import NOT_SPOT, S_PER_HOUR, RunTable
from trainfare_core.run_cost.timing import Rentals, RunTimer


class _TimedRuns(NamedTuple):
    """
    Every run that the quotas allow.

    Attributes:
        runs: r of them.
        machine: row of the machines of each, shape (r,).
        faster_plan: see `PricedRuns`, shape (r,).
        over_quota: see `PricedMachines`.
    """

    runs: RunTable
    machine: Rows
    faster_plan: Rows
    over_quota: Rows


@dataclass(frozen=True, slots=True)
class RunPricer:
    """
    Prices the runs of a request: every machine of the book is predicted once per number of nodes.

    Attributes:
        profile: the job.
        request: what is asked for.
        predict: the predictor.
    """

    profile: JobProfile
    request: Request
    predict: Predictor

    @property
    def applied_limits(self) -> Constraints:
        """The constraints that can be applied: a run of unknown length has no total to limit."""
        asked = self.request.constraints
        if self.profile.plan.optimizer_steps is not None:
            return asked
        unlimited = {"max_usd": None, "deadline_hours": None, "max_run_hours": sys.float_info.max}
        return asked.model_copy(update=unlimited)

    def price(self, usable: Usable) -> PricedRuns:
        """Price every run on the offers to rank."""
        asked, profile = self.request.constraints, self.profile
        jobs = tuple(
            variant.convert_saved_state(profile) for variant in self.request.plan_space.variants(profile)
        )
        routes = ModelRoutes.of(jobs, usable.book.frame, asked)
        stored = [ObjectStorage.of(job, asked) for job in jobs]
        shapes = usable.book.shapes()
        frame = self._add_columns(usable, routes)
        machines, machine_of_offer = group_machines(frame, shapes)
        offers = PricedOffers.of(frame, machine_of_offer)
        offered = mark_rows(len(shapes), machines["shape_id"].to_numpy())
        search = PlanSearch.of(profile, shapes, offered, self.request, self.predict)
        services = ServiceColumns.of(machines, asked.run_cost)
        timed = self._time_runs(search, machines, services)
        # Runs that end: on spot machines those that save checkpoints and get on between interruptions.
        saves = self.profile.plan.checkpoint_every_n_steps is not None
        possible = np.flatnonzero(timed.runs.gets_on & ((timed.runs.hazard == NOT_SPOT) | saves))
        priced = self._price_machines(machines, offers, timed, possible)
        runs, machine = _round_times(take(timed.runs, possible)), timed.machine[possible]
        nodes, variant = search.candidates.nodes[runs.plan], search.candidates.variant_or_none[runs.plan]
        rented, kept_usd = machines[machine], np.array([objects.kept_usd for objects in stored])
        return PricedRuns(
            offers=offers,
            machines=priced,
            search=search,
            runs=runs,
            side_costs=SideCosts(
                transfer_usd=rented["transfer_usd"].to_numpy().astype(np.float64),
                model_usd=routes.usd[rented["model_route"].to_numpy(), variant],
                kept_usd=kept_usd[variant] + stored[0].read_usd * nodes.astype(np.float64),
                disks_usd_per_hour=self._price_disks(
                    search, runs, rented, nodes, services.system_disk_gib[machine]
                ),
                checkpoints_usd_per_hour=self._price_disks(
                    search, runs, rented, 0 * nodes, np.zeros(len(nodes))
                ),
                waiting_hours=runs.waiting_s / S_PER_HOUR,
                object_usd_per_hour=stored[0].usd_per_hour,
            ),
            machine_of_run=machine,
            nodes=nodes,
            needs_porting=search.verdicts.needs_porting[search.candidates.shape[runs.plan]],
            faster_plan=timed.faster_plan[possible],
        )

    def _add_columns(self, usable: Usable, routes: ModelRoutes) -> pl.DataFrame:
        """Return the offers with what a region changes of a run; see `SPLIT_KEYS`."""
        asked, as_of = self.request.constraints, self.request.as_of
        frame = charge_use(usable.book.frame, asked.use)
        # The slack keeps quotients that are whole in decimal whole in binary.
        allowed = np.floor(np.minimum(machines_allowed(frame, asked.quotas), MAX_NODES) + 1e-9)
        return frame.with_columns(
            pl.Series("price_log_sigma", usable.log_sigma),
            pl.Series("hazard", hazards_of_offers(frame, as_of and as_of.astimezone(timezone.utc).date())),
            pl.Series("transfer_usd", usable.transfer_usd),
            pl.Series("model_route", routes.route),
            pl.Series("disk_usd_per_gib_month", disk_prices_of(frame, asked.run_cost)),
            pl.Series("quota_machines", allowed.astype(np.int64)),
        )

    def _time_runs(self, search: PlanSearch, machines: pl.DataFrame, services: ServiceColumns) -> _TimedRuns:
        """Time a run of each machine and number of nodes that the quotas allow, with the better of its plans."""
        asked, candidates = self.request.constraints, search.candidates
        fastest = search.choose_plans(self.profile, scripted_first=False)
        plans = fastest if "plan" in asked.allow else search.choose_plans(self.profile, scripted_first=True)
        machine, choice = pair_rows(machines["shape_id"].to_numpy(), candidates.shape[plans.usual])
        nodes = candidates.nodes[plans.usual[choice]]
        allowed = nodes <= machines["quota_machines"].to_numpy()[machine]
        over_quota = find_least(nodes[~allowed], machine[~allowed], len(machines))
        over_quota[machine[allowed]] = 0
        machine, choice = machine[allowed], choice[allowed]
        rentals = take(
            Rentals(
                service=machines["service"].cast(pl.String).to_numpy().astype(np.str_),
                hazard=machines["hazard"].to_numpy().astype(np.int64),
                billing_step_s=services.billing_step_s,
                billing_minimum_s=services.billing_minimum_s,
                in_block=(machines["purchase_option"] == CAPACITY_BLOCK).to_numpy(),
            ),
            machine,
        )
        timer = RunTimer(
            self.profile,
            search.shapes,
            candidates,
            search.prediction,
            asked.run_cost,
            asked.data_gb or 0.0,
            self._find_critical_batch(),
        )
        plan, faster = (
            worth_changing(option.usual[choice], option.changed[choice], timer, rentals)
            for option in (plans, fastest)
        )
        return _TimedRuns(
            timer.runs(plan, rentals),
            machine,
            worth_changing(plan, faster, timer, rentals),
            np.where(np.isinf(over_quota), 0, over_quota).astype(np.int64),
        )

    def _find_critical_batch(self) -> CriticalBatch | None:
        """
        Return what the samples of a larger batch are counted by, where runs are compared at the same quality.

        Raises:
            InputError: no critical batch is predicted for this job.
        """
        asked = self.request.constraints
        if asked.scale != "quality":
            return None
        critical = find_critical_batch(self.profile, asked.critical_batch)
        if critical is None or isinstance(critical, CriticalBatch):
            return critical
        raise InputError(
            f"scale quality: {explain_not_predicted(critical)}: give critical_batch, or scale samples"
        )

    def _price_machines(
        self, machines: pl.DataFrame, offers: PricedOffers, timed: _TimedRuns, possible: Rows
    ) -> PricedMachines:
        """Return the machines with their lowest prices, and what keeps the others from a run."""
        count = len(machines)
        lowest = find_least(offers.usd_per_hour, offers.machine, count)
        at_lowest = offers.usd_per_hour == lowest[offers.machine]
        impossible = ~mark_rows(len(timed.runs), possible)
        fitting, running = mark_rows(count, timed.machine), mark_rows(count, timed.machine[possible])
        refused = take(timed.runs, impossible & (timed.runs.hazard != NOT_SPOT))
        return PricedMachines(
            frame=machines,
            lowest_usd_per_hour=lowest,
            lowest_log_sigma=find_least(offers.log_sigma[at_lowest], offers.machine[at_lowest], count),
            over_quota=timed.over_quota,
            spot_refused=fitting & ~running,
            no_spot_because=why_no_spot(self.profile, refused),
        )

    def _price_disks(
        self, search: PlanSearch, runs: RunTable, machines: pl.DataFrame, nodes: Rows, system_disk_gib: Column
    ) -> Column:
        """Return dollars an hour of the disks of each run, whose machines have one row each, shape (r,)."""
        asked, plan = self.request.constraints, runs.plan
        saved_bytes = checkpoint_bytes(self.profile, search.candidates)[plan]
        gib = disk_gib(saved_bytes, asked.run_cost, nodes, system_disk_gib, asked.data_gb or 0.0)
        return disks_usd_per_hour(gib, machines["disk_usd_per_gib_month"].to_numpy())


def _round_times(runs: RunTable) -> RunTable:
    """Return the runs with times whose last bits are the same on every processor."""
    return replace(
        runs,
        hours=quantise_times(runs.hours),
        billed_hours=quantise_times(runs.billed_hours),
        waiting_s=quantise_times(runs.waiting_s),
        rounding_s=quantise_times(runs.rounding_s),
    )
