"""
Join predicted runs with offers, by column (between stages 5 and 6).

A prediction depends on a machine's shape, a price on the offer. Offers that differ only in region, zone and
price form one *machine*; each machine is timed once per number of nodes, and prices are joined to that
afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.arrays import Column, Rows
from trainfare_core.candidates import (
    MAX_NODES,
    CandidateTable,
    PlanSpace,
    enumerate_candidates,
    take,
)
from trainfare_core.cost_assumptions import CostAssumptions
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.book import MachineShapes, PriceBook
from trainfare_core.ranking.pricing.best_plans import best_plans, quantised, worth_changing
from trainfare_core.ranking.pricing.machines import machines_of
from trainfare_core.ranking.pricing.model_place import ModelRoutes
from trainfare_core.ranking.pricing.object_storage import ObjectStorage
from trainfare_core.ranking.pricing.quotas import machines_allowed
from trainfare_core.ranking.pricing.service_columns import ServiceColumns, disk_prices_of
from trainfare_core.ranking.pricing.shape_verdicts import Fitness, ShapeVerdicts, fitness_of, verdicts_of
from trainfare_core.ranking.pricing.spot import hazards_of_offers, why_no_spot
from trainfare_core.recommendation import QuotaLimit
from trainfare_core.run_cost import (
    NOT_SPOT,
    USUAL_CONFIDENCE,
    Rentals,
    RunTable,
    RunTimer,
    checkpoint_bytes,
    disk_gib,
    disks_usd_per_hour,
    steps_of,
)

__all__ = ["Predictor", "PricedRuns", "marked", "pairs", "price_runs", "sort_offers"]


class Predictor(Protocol):
    """Function that predicts plans: `trainfare_core.prediction.predict`, or a toy in tests."""

    def __call__(
        self, profile: JobProfile, shapes: MachineShapes, candidates: CandidateTable
    ) -> PredictionTable:
        """Predict every candidate."""
        ...


@dataclass(frozen=True, slots=True)
class PricedRuns:
    """
    Offers, the machines they rent, and the runs on those machines.

    Attributes:
        offers: the price book's rows, n of them.
        usd_per_hour: price of one machine, shape (n,).
        price_log_sigma: of ln(price now / price seen), shape (n,); also a column of `offers`.
        machine_of_offer: row of `machines`, shape (n,).
        machines: one row a machine, in the total order of `MACHINE_KEYS`, shape and `SPLIT_KEYS`.
        kind_of_machine: number of machines that differ only in `SPLIT_KEYS`, shape (m,).
        lowest_usd_per_hour: of each machine, shape (m,).
        lowest_log_sigma: of the surest offer at that price, shape (m,).
        machine_of_run: row of `machines`, shape (r,).
        runs: one row a machine x number of nodes that fits, r of them.
        nodes: of each run, shape (r,).
        needs_porting: of each run, shape (r,).
        faster_plan: row of `candidates` of the fastest plan of the run's machines that fits, or of the run's own where
            the whole run gains too little (`worth_changing`), shape (r,).
        spot_refused: spot machines that could run the job if they were never interrupted, shape (m,).
        no_spot_because: why those are refused; "" where none is.
        over_quota: how few machines could run the job where a quota allows fewer, else 0, shape (m,).
        transfer_usd: of bringing the data to the run's region, shape (r,).
        model_usd: of sending the trained model from the run's region, shape (r,).
        kept_usd: of object storage after the run, and of the requests that read the data, shape (r,).
        object_usd_per_hour: of the data in object storage while the run lasts.
        disks_usd_per_hour: disks for the checkpoints and of the machines, shape (r,).
        shapes, candidates, prediction, verdicts: what the runs were made from.
    """

    offers: pl.DataFrame
    usd_per_hour: Column
    price_log_sigma: Column
    machine_of_offer: Rows
    machines: pl.DataFrame
    kind_of_machine: Rows
    lowest_usd_per_hour: Column
    lowest_log_sigma: Column
    machine_of_run: Rows
    runs: RunTable
    nodes: Rows
    needs_porting: NDArray[np.bool_]
    faster_plan: Rows
    spot_refused: NDArray[np.bool_]
    no_spot_because: str
    over_quota: Rows
    transfer_usd: Column
    model_usd: Column
    kept_usd: Column
    object_usd_per_hour: float
    disks_usd_per_hour: Column
    shapes: MachineShapes
    candidates: CandidateTable
    prediction: PredictionTable
    verdicts: ShapeVerdicts

    @property
    def once_usd(self) -> Column:
        """Dollars of each run that do not grow with its hours, and are sure, shape (r,)."""
        return self.transfer_usd + self.model_usd + self.kept_usd

    @property
    def beside_usd_per_hour(self) -> Column:
        """Dollars an hour of disks and object storage beside the machines, shape (r,)."""
        return self.disks_usd_per_hour + self.object_usd_per_hour

    def run_usd_per_hour(self, run: Rows, usd_per_hour: Column) -> Column:
        """Return dollars an hour for all machines of each run and what is stored, shape (k,)."""
        return usd_per_hour * self.nodes[run] + self.beside_usd_per_hour[run]

    def run_usd(self, run: Rows, usd_per_hour: Column) -> Column:
        """Return dollars of each run at a price of one machine, shape (k,)."""
        return self.runs.billed_hours[run] * self.run_usd_per_hour(run, usd_per_hour) + self.once_usd[run]

    def expected_usd(self, run: Rows, usd_per_hour: Column, price_log_sigma: Column) -> Column:
        """Return the mean dollars of each run, which are more than the median where hours or price are not sure."""
        hours = self.runs.mean_billed_hours[run] * np.exp(price_log_sigma**2 / 2)
        return hours * self.run_usd_per_hour(run, usd_per_hour) + self.once_usd[run]

    @property
    def lowest_usd(self) -> Column:
        """Dollars of each run at its machine's lowest price, shape (r,)."""
        run = np.arange(len(self.runs))
        return self.run_usd(run, self.lowest_usd_per_hour[self.machine_of_run])

    def cheapest_offers(self, machines: Rows) -> pl.DataFrame:
        """
        Return the cheapest offer of each given machine, one row each, with columns `machine` and `row` (of
        `offers`).

        Equal prices are decided by how sure they are, region, zone, date (newest first) and source.
        """
        wanted = marked(len(self.machines), machines)
        lowest = self.usd_per_hour == self.lowest_usd_per_hour[self.machine_of_offer]
        rows = np.flatnonzero(wanted[self.machine_of_offer] & lowest)
        found = self.offers[rows].with_columns(
            pl.Series("machine", self.machine_of_offer[rows]), pl.Series("row", rows)
        )
        return sort_offers(found).unique(subset="machine", keep="first", maintain_order=True)


def marked(count: int, rows: Rows) -> NDArray[np.bool_]:
    """Return a mask of shape (count,) that is True in the given rows."""
    mask = np.zeros(count, dtype=np.bool_)
    mask[rows] = True
    return mask


def sort_offers(offers: pl.DataFrame) -> pl.DataFrame:
    """Sort offers of equal price: the surest first, then region, zone, date (newest first), source, SKU."""
    return offers.sort(
        pl.col("price_log_sigma"),
        pl.col("region").cast(pl.String),
        pl.col("zone").cast(pl.String),
        pl.col("observed_on").cast(pl.String),
        pl.col("source").cast(pl.String),
        pl.col("sku").cast(pl.String),
        descending=[False, False, False, True, False, False],
        nulls_last=False,
    )


def price_runs(
    profile: JobProfile,
    book: PriceBook,
    price_log_sigma: Column,
    *,
    transfer_usd: Column | None = None,
    sent: ModelRoutes | None = None,
    stored: tuple[ObjectStorage, ...] = (),
    assumed: CostAssumptions | None = None,
    data_gb: float = 0.0,
    space: PlanSpace,
    any_plan: bool = False,
    no_porting: bool = False,
    max_accelerators: int | None = None,
    quotas: tuple[QuotaLimit, ...] = (),
    confidence: float = USUAL_CONFIDENCE,
    predict: Predictor,
) -> PricedRuns:
    """
    Predict every machine of the book once per number of nodes and join the prices.

    Args:
        profile: the job.
        book: offers, already filtered.
        price_log_sigma: of ln(price now / price seen) of each offer, shape (offers,).
        transfer_usd: dollars of bringing the data to each offer's region, shape (offers,); None: nothing.
        sent: dollars of sending the trained model of each variant from each offer's region; None: nothing.
        stored: what lies in object storage with each variant; empty: nothing.
        assumed: see `RunTimer`.
        data_gb: see `RunTimer`.
        space: which plans are tried.
        any_plan: take the fastest plan that fits, not the script's own where that fits.
        no_porting: leave out machines that do not run the script as it is.
        max_accelerators: of all machines of a run together.
        quotas: what may be rented at a time.
        confidence: with which limits are to be kept; see `RunTimer`.
        predict: the predictor.
    """
    shapes, assumed = book.shapes(), assumed or CostAssumptions()
    offers = book.frame.with_columns(
        pl.Series("price_log_sigma", price_log_sigma),
        pl.Series("hazard", hazards_of_offers(book.frame)),
        pl.Series("transfer_usd", np.zeros(len(book)) if transfer_usd is None else transfer_usd),
        pl.Series("model_route", np.zeros(len(book), dtype=np.int64) if sent is None else sent.route),
        pl.Series("disk_usd_per_gib_month", disk_prices_of(book.frame, assumed)),
        pl.Series("quota_machines", _whole_machines(book.frame, quotas)),
    )
    machines, machine_of_offer = machines_of(offers, shapes)
    machine_shape = machines["shape_id"].to_numpy().astype(np.int64)
    offered = marked(len(shapes), machine_shape)
    names = [str(name) for name in np.unique(shapes.accelerator[offered])]
    devices = {name: fitness_of(profile, name, no_porting=no_porting) for name in names}
    candidates = _possible_candidates(profile, shapes, devices, offered, space)
    if max_accelerators is not None:
        devices_of = candidates.nodes * shapes.accelerator_count[candidates.shape]
        candidates = take(candidates, devices_of <= max_accelerators)
    prediction = predict(profile, shapes, candidates)
    verdicts = verdicts_of(profile, shapes, candidates, prediction, devices, offered, space)
    steps = steps_of(profile, candidates)
    fastest = best_plans(candidates, prediction, steps, scripted_first=False)
    plans = fastest if any_plan else best_plans(candidates, prediction, steps, scripted_first=True)
    usd_per_hour = offers["usd_per_hour"].to_numpy().astype(np.float64)
    lowest = np.full(len(machines), np.inf)
    np.minimum.at(lowest, machine_of_offer, usd_per_hour)
    surest = np.full(len(machines), np.inf)
    at_lowest = usd_per_hour == lowest[machine_of_offer]
    np.minimum.at(surest, machine_of_offer[at_lowest], price_log_sigma[at_lowest])
    machine_of_run, place = pairs(machine_shape, candidates.shape[plans.usual])
    nodes = candidates.nodes[plans.usual[place]]
    kept = nodes <= machines["quota_machines"].to_numpy()[machine_of_run]
    over_quota = _fewest_over_quota(len(machines), machine_of_run, nodes, kept)
    machine_of_run, place = machine_of_run[kept], place[kept]
    services = ServiceColumns.of(machines, assumed)
    rentals = take(
        Rentals(
            service=machines["service"].cast(pl.String).to_numpy().astype(np.str_),
            hazard=machines["hazard"].to_numpy().astype(np.int64),
            billing_step_s=services.billing_step_s,
            billing_minimum_s=services.billing_minimum_s,
        ),
        machine_of_run,
    )
    timer = RunTimer(profile, shapes, candidates, prediction, assumed, data_gb)
    plan, faster = (
        worth_changing(each.usual[place], each.changed[place], timer, rentals) for each in (plans, fastest)
    )
    faster = worth_changing(plan, faster, timer, rentals)
    runs = timer.runs(plan, rentals, confidence=confidence)
    safe = profile.plan.checkpoint_every_n_steps is not None
    keep = runs.gets_on & ((runs.hazard == NOT_SPOT) | safe)
    no_spot_because = why_no_spot(profile, take(runs, ~keep & (runs.hazard != NOT_SPOT)))
    fitting, running = (marked(len(machines), rows) for rows in (machine_of_run, machine_of_run[keep]))
    runs, machine_of_run, faster = take(runs, keep), machine_of_run[keep], faster[keep]
    runs = replace(
        runs,
        hours=quantised(runs.hours),
        waiting_s=quantised(runs.waiting_s),
        rounding_s=quantised(runs.rounding_s),
    )
    nodes, variant = candidates.nodes[runs.plan], candidates.variant_or_none[runs.plan]
    return PricedRuns(
        offers=offers,
        usd_per_hour=usd_per_hour,
        price_log_sigma=price_log_sigma,
        machine_of_offer=machine_of_offer,
        machines=machines,
        kind_of_machine=machines["machine_id"].to_numpy().astype(np.int64),
        lowest_usd_per_hour=lowest,
        lowest_log_sigma=surest,
        machine_of_run=machine_of_run,
        runs=runs,
        nodes=nodes,
        needs_porting=verdicts.needs_porting[candidates.shape[runs.plan]],
        faster_plan=faster,
        spot_refused=fitting & ~running,
        no_spot_because=no_spot_because,
        over_quota=over_quota,
        transfer_usd=machines["transfer_usd"].to_numpy().astype(np.float64)[machine_of_run],
        model_usd=np.zeros(len(nodes))
        if sent is None
        else sent.usd[machines["model_route"].to_numpy()[machine_of_run], variant],
        kept_usd=np.array([each.kept_usd for each in stored])[variant]
        + stored[0].read_usd * nodes.astype(np.float64)
        if stored
        else np.zeros(len(nodes)),
        object_usd_per_hour=stored[0].usd_per_hour if stored else 0.0,
        disks_usd_per_hour=disks_usd_per_hour(
            disk_gib(
                checkpoint_bytes(profile, candidates)[runs.plan],
                assumed,
                nodes,
                services.system_disk_gib[machine_of_run],
                data_gb,
            ),
            machines["disk_usd_per_gib_month"].to_numpy()[machine_of_run],
        ),
        shapes=shapes,
        candidates=candidates,
        prediction=prediction,
        verdicts=verdicts,
    )


def _whole_machines(offers: pl.DataFrame, quotas: tuple[QuotaLimit, ...]) -> Rows:
    """Return how many whole machines of each offer the quotas allow, at most as many as a run can have."""
    # The slack keeps quotients that are whole in decimal whole in binary.
    return np.floor(np.minimum(machines_allowed(offers, quotas), MAX_NODES) + 1e-9).astype(np.int64)


def _fewest_over_quota(machines: int, machine_of_run: Rows, nodes: Rows, kept: NDArray[np.bool_]) -> Rows:
    """Return the fewest machines that could run the job where all such runs are over quota, else 0."""
    most = np.iinfo(np.int64).max
    fewest = np.full(machines, most)
    np.minimum.at(fewest, machine_of_run[~kept], nodes[~kept])
    fewest[machine_of_run[kept]] = 0
    return np.where(fewest == most, 0, fewest)


def _possible_candidates(
    profile: JobProfile,
    shapes: MachineShapes,
    devices: dict[str, Fitness],
    offered: NDArray[np.bool_],
    space: PlanSpace,
) -> CandidateTable:
    possible = {name for name, fitness in devices.items() if not fitness.reason}
    usable = offered & np.array([str(name) in possible for name in shapes.accelerator], dtype=np.bool_)
    table = enumerate_candidates(profile, shapes, space)
    return take(table, usable[table.shape])


def pairs(left: Rows, right: Rows) -> tuple[Rows, Rows]:
    """Return the rows of every pair of equal values of `left` and `right`, which is sorted, in the order of `left`."""
    start = np.searchsorted(right, left, side="left")
    count = np.searchsorted(right, left, side="right") - start
    row = np.repeat(np.arange(len(left)), count)
    offset = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return row, np.repeat(start, count) + offset
