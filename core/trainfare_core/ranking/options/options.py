"""Make the `Option` of reports and JSON out of one priced run on one offer (part of stage 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import numpy as np
import polars as pl

from trainfare_core.arrays import Column
from trainfare_core.batch_scaling import CriticalBatch, find_critical_batch
from trainfare_core.candidates import take
from trainfare_core.energy import RentedMachines, RunEnergy, estimate_energy
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.hardware.earlier_runs import find_earlier_runs, find_figures
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import duration, percent, round_figure
from trainfare_core.prediction.distance import load_measured_groups
from trainfare_core.prediction.input_pipeline import input_pipeline
from trainfare_core.prediction.porting import Environment, find_basis
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.operations import usable_dtype
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.age_doubt import Z_80
from trainfare_core.prices.caveats import read_caveats
from trainfare_core.prices.commitments import CAPACITY_BLOCK, TERM_HOURS
from trainfare_core.prices.precedence import OWN_RATES
from trainfare_core.ranking.options.loaders import describe_loader
from trainfare_core.ranking.options.plans import (
    collect_plan_facts,
    explain_unused_devices,
    fp8_notes,
    plan_changes,
    plan_text,
    variant_changes,
)
from trainfare_core.ranking.pricing.chances import find_hours
from trainfare_core.ranking.pricing.priced_runs import PricedRuns
from trainfare_core.ranking.pricing.quotas import is_covered, quota_notes
from trainfare_core.ranking.pricing.spot import spot_notes, spot_outlook
from trainfare_core.recommendation import (
    Commitment,
    Constraints,
    CostParts,
    Interval,
    Note,
    NoteKind,
    Option,
    PlanWriter,
    QualityRatio,
    SpotOutlook,
    StepParts,
)
from trainfare_core.recommendation.note import NOTED_LOADER_RATE
from trainfare_core.run_cost import NOT_SPOT, book_block_hours
from trainfare_core.variants import JobVariant, find_compute_type

OLD_PRICE_MONTHS: Final = 12
"""A price so much older than the newest in its book gets a note. A chosen value."""

NOTED_SIGMA: Final = 0.04
"""Of ln(price): from an 80 % interval of about 5 % to either side an option says so. A chosen value."""

_INTERVAL: Final = np.array([0.1, 0.5, 0.9])
"""Chances of the median and of both ends of the central 80 %."""

_S_PER_HOUR: Final = 3600.0
_GIB: Final = 2.0**30
_OFFER_FIELDS: Final = ("provider", "service", "instance_type", "region", "zone", "purchase_option")
"""Columns of an offer that an option has under the same name."""
_SAME_MACHINE: Final = ("provider", "service", "instance_type", "region")


def predict_quality(critical: object, own: int | None, batch: int | None) -> QualityRatio | None:
    """
    Return the samples that a larger global batch needs to the quality of another, over those of that.

    Args:
        critical: of the job, as `find_critical_batch` says it; any other object: nothing is predicted.
        own: the batch whose quality counts, in samples.
        batch: the larger one; there is no ratio of one that is not.
    """
    if not batch or not own or batch <= own or not isinstance(critical, CriticalBatch):
        return None
    ratio = critical.samples_ratio(own, batch)
    low, *others = (float(end) for end in (ratio.low, ratio.median, ratio.high))
    mid, high = (None if math.isnan(end) else round_figure(end) for end in others)
    return QualityRatio(low=round_figure(low), mid=mid, high=high)


@dataclass(frozen=True, slots=True)
class OptionMaker:
    """
    Maker of options out of rows of `PricedRuns`.

    Attributes:
        profile: the job.
        priced: the runs and their offers.
        constraints: the limits to keep.
        newest: latest price date of the book.
        prices: offers with those on demand that a run on spot machines can change to.
        writer: of plans, in the words of the script's loop.
    """

    profile: JobProfile
    priced: PricedRuns
    constraints: Constraints
    newest: str
    prices: pl.DataFrame
    writer: PlanWriter

    def make(self, run: int, offer: dict[str, Any], *, rank: int, on_front: bool) -> Option:
        """
        Return one option.

        Args:
            run: row of `priced.runs`.
            offer: the offer's columns by name, a row of `priced.offers.frame`.
            rank: place in the list, from 1.
            on_front: see `Option.on_front`.
        """
        priced, search = self.priced, self.priced.search
        candidates, prediction, plan = search.candidates, search.prediction, int(priced.runs.plan[run])
        nodes = int(priced.nodes[run])
        usd_per_hour, price_sigma = float(offer["usd_per_hour"]) * nodes, float(offer["price_log_sigma"])
        row, price, doubt = (np.full(3, value) for value in (run, offer["usd_per_hour"], price_sigma))
        limits, chances = self.constraints, priced.compute_chances(row, price, doubt, self.constraints)
        asked = (limits.max_usd, limits.deadline_hours, limits.max_usd_per_hour)
        run_usd = _build_interval(priced.run_usd(row, price, doubt, _INTERVAL))
        spot = self._spot(run, offer)
        run_hours = _build_interval(find_hours(priced.runs, row, _INTERVAL))
        step_s = _make_interval(float(prediction.step_s[plan]), float(prediction.log_sigma[plan]))
        facts = collect_plan_facts(
            self.profile, candidates, plan, int(candidates.devices_of(search.shapes)[plan])
        )
        shape = int(candidates.shape[plan])
        device = accelerator(str(search.shapes.accelerator[shape]))
        seconds = {name: float(getattr(prediction, name)[plan]) for name in StepParts.model_fields}
        parts = StepParts(**{name: round_figure(value) for name, value in seconds.items()})
        ported = bool(priced.needs_porting[run])
        rests_on, is_measured = find_basis(self.profile, device) if ported else ("", True)
        return Option(
            rank=rank,
            **{name: offer[name] for name in _OFFER_FIELDS},
            accelerator=str(search.shapes.accelerator[shape]),
            accelerator_count=float(search.shapes.accelerator_count[shape]),
            nodes=nodes,
            sharding=facts.sharding,
            micro_batch_size=facts.micro_batch,
            accumulate_grad_batches=facts.accumulate,
            global_batch_size=self._samples_per_step(plan),
            batch_ratio=round_figure(float(candidates.batch_factor_or_one[plan])),
            optimizer_steps=self._count_steps(run),
            samples_ratio=self._compare_samples(run),
            checkpoint_every_n_steps=self._find_save_steps(run),
            quality_ratio=predict_quality(
                find_critical_batch(self.profile, self.constraints.critical_batch),
                self.profile.global_samples_per_step,
                self._samples_per_step(plan),
            ),
            plan_changes=(
                *plan_changes(self.profile, candidates, plan, facts, self.writer),
                *variant_changes(self.profile, candidates, prediction, plan),
            ),
            model_split=facts.split,
            trainer=self.writer.write_arguments(facts),
            step_s=step_s,
            samples_per_s=_throughput(self._samples_per_step(plan), step_s),
            loader_samples_per_s_per_vcpu=self._find_needed_rate(plan),
            loader=describe_loader(self.profile, search.shapes, candidates, prediction, plan),
            run_hours=run_hours,
            run_usd=run_usd,
            expected_usd=round_figure(float(priced.compute_expected_usd(row, price, doubt)[0])),
            usd_per_hour=round_figure(usd_per_hour),
            usd_per_hour_now=_make_interval(usd_per_hour, price_sigma),
            memory_gib=_make_interval(
                float(prediction.memory_bytes[plan]) / _GIB,
                float(prediction.memory_log_sigma[plan]),
            ),
            device_memory_gib=round_figure(device.memory_bytes / _GIB),
            bound_by=max(parts.seconds().items(), key=itemgetter(1))[0],
            mfu=self._compute_mfu(plan, device, step_s),
            accelerator_measured=calibration().is_known(device),
            step_parts=parts,
            cost_parts=self._cost_parts(run, usd_per_hour, run_usd.mid),
            probability_within=None if asked == (None,) * 3 else round_figure(float(chances[0])),
            needs_porting=ported,
            rests_on=rests_on,
            unmeasured_software=not is_measured,
            arm64_host=device.arm64_host,
            spot=spot,
            commitment=self._describe_commitment(str(offer["purchase_option"]), run, usd_per_hour),
            energy=self._estimate_energy(run, offer, run_hours, parts),
            on_front=on_front,
            price_observed_on=offer["observed_on"],
            price_source=offer["source"],
            price_source_class=offer["source_class"],
            price_fetched_at=offer["fetched_at"],
            price_by_contract=offer["origin"] == OWN_RATES,
            guess_because=_explain_guess(prediction, plan),
            notes=(
                *self._collect_notes(run, offer, spot),
                *(
                    [Note(kind="rests_on" if is_measured else "unmeasured_software", because=rests_on)]
                    if rests_on
                    else []
                ),
            ),
        )

    def _estimate_energy(
        self, run: int, offer: dict[str, Any], hours: Interval, parts: StepParts
    ) -> RunEnergy:
        """Return the energy while machines run: without the wait for spot capacity and what is billed and not used."""
        search, plan = self.priced.search, int(self.priced.runs.plan[run])
        shape = int(search.candidates.shape[plan])
        rented = float(search.shapes.accelerator_count[shape])
        waiting_hours, all_hours = (
            float(self.priced.runs.waiting_s[run]) / _S_PER_HOUR,
            float(self.priced.runs.hours[run]),
        )
        share = max(0.0, 1 - waiting_hours / all_hours) if 0 < all_hours < math.inf else 1.0
        machines = RentedMachines(
            device=accelerator(str(search.shapes.accelerator[shape])),
            count=rented,
            nodes=int(self.priced.nodes[run]),
            vcpus=float(search.shapes.vcpus[shape]),
            cloud=str(offer["provider"]),
            region=str(offer["region"]),
            used=min(1.0, int(search.candidates.devices_of(search.shapes)[plan]) / max(rented, 1.0)),
            waiting=(parts.launch_s + parts.communication_s + parts.input_s)
            / (sum(parts.seconds().values()) or 1.0),
        )
        return estimate_energy(
            Interval(mid=hours.mid * share, low_80=hours.low_80 * share, high_80=hours.high_80 * share),
            machines,
        )

    def _describe_commitment(self, purchase: str, run: int, usd_per_hour: float) -> Commitment | None:
        use = self.constraints.use
        if purchase in TERM_HOURS:
            hours, listed = TERM_HOURS[purchase], usd_per_hour * (use or 1.0)
            return Commitment(hours=hours, usd=round_figure(listed * hours), use=use)
        if purchase != CAPACITY_BLOCK:
            return None
        hours = float(book_block_hours(self.priced.runs.hours[[run]])[0])
        return Commitment(hours=hours, usd=round_figure(usd_per_hour * hours))

    def _compute_mfu(self, plan: int, device: Accelerator, step_s: Interval) -> float | None:
        candidates, profile = self.priced.search.candidates, self.profile
        splits = candidates.parallel is not None and not bool(candidates.parallel.is_none[plan])
        if int(candidates.variant_or_none[plan]) or splits or step_s.mid <= 0:
            return None
        passes = float(candidates.micro_ratio[plan]) * int(candidates.accumulate[plan])
        flops = profile.model_step_flops * passes / profile.parallel.accumulate_grad_batches
        mfu = device.compute_utilisation(profile.operations, flops / step_s.mid)
        return None if mfu is None else round_figure(mfu)

    def _find_needed_rate(self, plan: int) -> float | None:
        """Return the samples that each vCPU must load a second to keep up, None where something is not known."""
        search, samples = self.priced.search, self._samples_per_step(plan)
        computed_s = float(search.prediction.step_s[plan] - search.prediction.input_s[plan])
        shape, nodes = int(search.candidates.shape[plan]), int(search.candidates.nodes[plan])
        vcpus = float(search.shapes.vcpus[shape]) * nodes
        if samples is None or not vcpus > 0 or not computed_s > 0:
            return None
        return round_figure(samples / computed_s / vcpus)

    def _count_steps(self, run: int) -> float | None:
        return None if self.profile.plan.optimizer_steps is None else float(self.priced.runs.steps[run])

    def _find_save_steps(self, run: int) -> int | None:
        steps = float(self.priced.runs.save_steps[run])
        return None if math.isnan(steps) else round(steps)

    def _compare_samples(self, run: int) -> float | None:
        """Return the samples of a run over those of the script's; a last step that is not full counts as full."""
        samples, own = (
            self._samples_per_step(int(self.priced.runs.plan[run])),
            self.profile.global_samples_per_step,
        )
        steps, own_steps = self._count_steps(run), self.profile.plan.optimizer_steps
        if not samples or not own or steps is None or not own_steps:
            return None
        return round_figure(steps * samples / (own_steps * own))

    def _samples_per_step(self, plan: int) -> int | None:
        samples, factor = self.profile.global_samples_per_step, self.priced.search.candidates.batch_factor
        return samples if samples is None or factor is None else round(samples * float(factor[plan]))

    def _cost_parts(self, run: int, usd_per_hour: float, median_usd: float) -> CostParts:
        """Return parts that add up to the median; what interruptions take of it is what no other part does."""
        runs, side, usd_per_s = self.priced.runs, self.priced.side_costs, usd_per_hour / _S_PER_HOUR
        parts = ("training", "startup", "staging", "validation", "checkpoint", "interruption", "rounding")
        seconds = {part: float(getattr(runs, f"{part}_s")[run]) for part in parts}
        waiting_hours = float(side.waiting_hours[run])
        hours = float(runs.billed_hours[run])
        if runs.hazard[run] != NOT_SPOT:
            hourly_usd = usd_per_hour + float(side.usd_per_hour[run])
            hours = (median_usd - float(side.once_usd[run])) / hourly_usd if hourly_usd > 0 else 0.0
            known_s, hours_s = sum(seconds.values()) - seconds["interruption"], hours * _S_PER_HOUR
            # Half of the runs may be rounded by less than the mean: the parts still add up.
            scale = min(1.0, hours_s / known_s) if known_s > 0 else 1.0
            seconds = {part: scale * part_s for part, part_s in seconds.items()}
            seconds["interruption"] = max(0.0, hours_s - known_s)
        return CostParts(
            **{f"{part}_usd": round_figure(part_s * usd_per_s) for part, part_s in seconds.items()},
            storage_usd=round_figure(
                hours * float(side.disks_usd_per_hour[run])
                + waiting_hours * float(side.checkpoints_usd_per_hour[run])
            ),
            transfer_usd=round_figure(float(side.transfer_usd[run])),
            object_storage_usd=round_figure(
                (hours + waiting_hours) * float(side.objects_usd_per_hour[run]) + float(side.kept_usd[run])
            ),
            model_usd=round_figure(float(side.model_usd[run])),
        )

    def _collect_notes(self, run: int, offer: dict[str, Any], spot: SpotOutlook | None) -> tuple[Note, ...]:
        priced, search, plan = self.priced, self.priced.search, int(self.priced.runs.plan[run])
        notes: list[Note] = []

        def say(kind: NoteKind, *sentences: str) -> None:
            notes.extend(Note(kind=kind, because=sentence) for sentence in sentences)

        if guess := _explain_guess(search.prediction, plan):
            say("guess", guess)
        device = accelerator(str(offer["accelerator"]))
        known = search.earlier_runs
        both = (find_earlier_runs(known, device.silicon), find_figures(known, device.name))
        say("correction", *(evidence.describe() for evidence in both if evidence))
        if priced.needs_porting[run]:
            say("porting", Environment.of(self.profile).obstacle(device))
        if spot is not None:
            say("spot", *spot_notes(spot, self.profile, self._find_save_steps(run)))
        faster = int(priced.faster_plan[run])
        own_s, best_s = (float(search.prediction.step_s[row]) for row in (plan, faster))
        if best_s < own_s:
            name = plan_text(search.candidates, faster)
            notes.append(Note(kind="faster_plan", name=name, because=percent(1 - best_s / own_s)))
        rate, facts = self._find_needed_rate(plan), self.profile.batch.input
        decoded = facts is not None and facts.kind == "pictures"
        if (
            decoded
            and rate is not None
            and rate > NOTED_LOADER_RATE
            and not input_pipeline(self.profile).is_known
        ):
            notes.append(Note(kind="loader_rate", samples_per_s=rate))
        say(
            "unused_devices",
            *explain_unused_devices(self.profile, search, plan),
        )
        say("emulated", *_explain_emulation(self.profile, search.candidates.variant_of(plan), device))
        say("fp8", *fp8_notes(search.candidates, search.prediction, plan))
        if not is_covered(offer, self.constraints.quotas):
            notes += quota_notes(offer)
        if priced.nodes[run] > 1:
            say("nodes", f"{int(priced.nodes[run])} machines are needed together, in one zone")
        price_sigma = float(offer["price_log_sigma"])
        if price_sigma > NOTED_SIGMA:
            now = _make_interval(float(offer["usd_per_hour"]), price_sigma)
            say(
                "price_range",
                f"the price of {offer['observed_on']} may have moved: 80 % interval "
                f"{now.low_80:,.2f} to {now.high_80:,.2f} USD an hour for one machine",
            )
        if offer["observed_on_estimated"]:
            say("price_date", "the date of the price is an estimate of its source's age")
        if _months(self.newest) - _months(str(offer["observed_on"])) >= OLD_PRICE_MONTHS:
            say(
                "price_date",
                f"old price: of {offer['observed_on']}, while the newest in the book is of {self.newest}",
            )
        if offer["caveat"]:
            caveat = str(offer["caveat"])
            notes.append(Note(kind="caveat", because=caveat, caveats=read_caveats(caveat)))
        if offer["currency"] != "USD":
            notes.append(Note(kind="currency", name=str(offer["currency"])))
        stop_s = self.profile.plan.max_time_s
        needs_s = float(priced.runs.training_s[run] + priced.runs.validation_s[run])
        if stop_s is not None and self.profile.plan.optimizer_steps is not None and needs_s > stop_s:
            say(
                "max_time",
                f"the Trainer's max_time of {duration(stop_s)} stops this run early; "
                "it is priced to its last step",
            )
        return tuple(notes)

    def _spot(self, run: int, offer: dict[str, Any]) -> SpotOutlook | None:
        """Return what interruptions mean for the run; None where the machine is not taken back."""
        priced, limits = self.priced, self.constraints
        if priced.runs.hazard[run] == NOT_SPOT:
            return None
        same = [pl.col(name) == str(offer[name]) for name in _SAME_MACHINE]
        sure = self.prices.filter(pl.col("purchase_option") == "on_demand", *same)["usd_per_hour"].min()
        nodes = int(priced.nodes[run])
        return spot_outlook(
            self.profile,
            take(priced.runs, np.array([run])),
            deadline_hours=limits.deadline_hours,
            usd_per_hour=float(offer["usd_per_hour"]) * nodes,
            on_demand_usd_per_hour=float(sure) * nodes if isinstance(sure, float) else None,
            storage_usd_per_hour=float(priced.side_costs.usd_per_hour[run]),
        )


def _explain_emulation(profile: JobProfile, variant: JobVariant, device: Accelerator) -> tuple[str, ...]:
    """Return in which type a device computes a 16-bit precision that it has no units for; nothing where it has."""
    asked = find_compute_type(variant.precision or profile.precision)
    used, _ = usable_dtype(device, asked)
    if asked not in ("bf16", "fp16") or used == asked:
        return ()
    return (f"{asked} is emulated: {device.name} has no units for it and computes at its {used} rate",)


def _explain_guess(prediction: PredictionTable, plan: int) -> str:
    """Return why a plan's time and cost are a guess; "" where they are none."""
    nearest = int(prediction.nearest[plan])
    return load_measured_groups().groups[nearest].explain_guess() if prediction.is_guess[plan] else ""


def _months(date: str) -> int:
    """Return months since year 0 of a date as precise as its source; a year alone counts as its January."""
    year, _, rest = date.partition("-")
    month = rest[:2]
    return 12 * int(year) + (int(month) if month.isdigit() else 1) if year.isdigit() else 0


def _build_interval(quantiles: Column) -> Interval:
    """Return the interval of the quantiles of `_INTERVAL`."""
    low, mid, high = (round_figure(float(value)) for value in quantiles)
    return Interval(mid=mid, low_80=low, high_80=high)


def _make_interval(mid: float, log_sigma: float) -> Interval:
    """Return the interval of a log-normal quantity."""
    spread = math.exp(Z_80 * log_sigma)
    return Interval(
        mid=round_figure(mid), low_80=round_figure(mid / spread), high_80=round_figure(mid * spread)
    )


def _throughput(samples: int | None, step_s: Interval) -> Interval | None:
    if samples is None or step_s.low_80 <= 0:
        return None
    return Interval(
        mid=round_figure(samples / step_s.mid),
        low_80=round_figure(samples / step_s.high_80),
        high_80=round_figure(samples / step_s.low_80),
    )
