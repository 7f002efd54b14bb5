"""Predict the phases of a run of reinforcement learning on every machine of a price book."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any, Final

import numpy as np
import polars as pl

from trainfare_core.candidates import SHARDINGS, CandidateTable, enumerate_candidates
from trainfare_core.documents import Interval
from trainfare_core.errors import CannotTellError
from trainfare_core.job_profile import JobProfile, Rollout
from trainfare_core.prediction.rollout import PHASES, PhaseColumns, predict_phases
from trainfare_core.prediction.uncertainty import Z80
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.pricing.price_doubt import usable_offers
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.recommendation import Constraints
from trainfare_core.rollouts.answer import Refusal, RolloutAnswer, RolloutMachine, RolloutPhase

COST_UNKNOWN: Final = (  # scores of `trainfare_research.runners.rollouts`
    "the interval of the time of generation is chosen, and that of updates held 1 of 10 published ones, which took "
    "1.6 times as long in the median"
)
_NOTES: Final = (
    "the time of the rewards is not known and is not counted; nor is moving new weights to vLLM",
    "completions are spread from the shortest to the longest with few long ones (log-uniform, chosen)",
)


def estimate_rollout(profile: JobProfile, book: PriceBook, request: Request) -> RolloutAnswer:
    """
    Return what the phases of a step take on each machine.

    A machine counts once, at its cheapest region, with the fewest nodes on which every phase fits and the fastest plan
    of those. Limits of the run's cost and time are not applied.

    Args:
        profile: of a job with a rollout.
        book: prices.
        request: filters of machines, and which plans are tried; the job itself is not changed.

    Raises:
        CannotTellError: no rollout or batch in the profile, or no machine has a prediction.
        NoOffersError: no price matches the filters.
    """
    rollout = profile.rollout
    if rollout is None:
        raise CannotTellError(f"{profile.name}: its step generates nothing")
    usable = usable_offers(book, request.constraints, request.as_of).book
    whole = usable.shapes()
    # Devices that only generate are paid, and do not train.
    shapes = replace(whole, accelerator_count=whole.accelerator_count - rollout.vllm_devices)
    space = replace(request.plan_space, checkpointing=False, precision=False, model_parallel=False)
    if rollout.engine == "vllm-server":
        space = replace(space, max_nodes=1)
    plans = enumerate_candidates(profile.model_copy(update={"rollout": None}), shapes, space)
    phases = predict_phases(profile, shapes, plans)
    best = _find_best(plans, phases)
    known = {shape: plan for shape, plan in best.items() if not phases.unknown_because[plan]}
    refused = Counter(
        str(phases.unknown_because[plan]) for plan in best.values() if plan not in known.values()
    )
    missing = len(whole) - len(best)
    if missing:
        refused["no plan shares the batch of a step among its devices"] += missing
    if not known:
        why = refused.most_common(1)[0][0] if refused else "no price matches the filters"
        raise CannotTellError(f"{profile.name}: no machine has a prediction: {why}")
    offers = _find_cheapest(usable.frame, known)
    machines = [
        _describe(offer, known[offer["shape_id"]], rollout, profile, plans, phases) for offer in offers
    ]
    machines.sort(key=lambda machine: (not machine.fits, machine.usd_per_hour))
    return RolloutAnswer(
        job=profile.name,
        rollout=rollout,
        updates=phases.updates,
        optimizer_steps=profile.plan.optimizer_steps,
        machines=tuple(machines[: request.limit]),
        machines_in_all=len(machines),
        refused=tuple(Refusal(because=why, machines=count) for why, count in refused.most_common()),
        interval_is="chosen",
        cost_unknown_because=COST_UNKNOWN,
        notes=(*_NOTES, *_list_limits(request.constraints), *profile.notes),
    )


def _list_limits(constraints: Constraints) -> tuple[str, ...]:
    """Return a note on limits that are not applied."""
    given = constraints.max_usd, constraints.deadline_hours
    return (
        () if given == (None, None) else ("limits of cost and time are not applied: the cost is not known",)
    )


def _find_best(plans: CandidateTable, phases: PhaseColumns) -> dict[int, int]:
    """Return the plan of each shape: of the fewest nodes on which one fits the fastest, else the least memory."""
    total_s = np.where(np.isnan(phases.total_s), math.inf, phases.total_s)
    worst_bytes = np.where(np.isnan(phases.total_s), math.inf, phases.upper_bytes.max(axis=0))
    order = np.lexsort((
        np.where(phases.fits, total_s, worst_bytes), plans.nodes * phases.fits, ~phases.fits, plans.shape
    ))  # fmt: skip
    shapes, first = np.unique(plans.shape[order], return_index=True)
    return {int(shape): int(order[place]) for shape, place in zip(shapes, first, strict=True)}


def _find_cheapest(offers: pl.DataFrame, known: dict[int, int]) -> list[dict[str, Any]]:
    """Return one offer of each machine type that has a prediction, in the cheapest region."""
    columns = (
        "provider",
        "service",
        "instance_type",
        "region",
        "accelerator",
        "accelerator_count",
        "shape_id",
    )
    chosen = offers.filter(pl.col("shape_id").is_in(list(known))).sort("usd_per_hour", "region")
    machines = chosen.unique(
        ("provider", "service", "instance_type", "shape_id"), keep="first", maintain_order=True
    )
    return machines.select(*columns, "usd_per_hour").to_dicts()


def _describe(
    offer: dict[str, Any], plan: int, rollout: Rollout, profile: JobProfile, plans: CandidateTable, phases: PhaseColumns
) -> RolloutMachine:  # fmt: skip
    nodes = int(plans.nodes[plan])
    return RolloutMachine(
        provider=offer["provider"],
        service=offer["service"],
        instance_type=offer["instance_type"],
        region=offer["region"],
        accelerator=offer["accelerator"],
        devices=int(offer["accelerator_count"]),
        generating_devices=rollout.vllm_devices,
        nodes=nodes,
        strategy=SHARDINGS[int(plans.sharding[plan])],
        micro_batch=float(plans.micro_batch[plan]),
        accumulate=int(plans.accumulate[plan]),
        phases=tuple(
            RolloutPhase(
                phase=name,
                time_s=_make_interval(phases.time_s[row, plan], phases.log_sigma[row, plan]),
                memory_bytes=_make_interval(
                    phases.memory_bytes[row, plan], phases.memory_log_sigma[row, plan]
                ),
            )
            for row, name in enumerate(PHASES)
        ),
        round_s=_make_interval(phases.total_s[plan], phases.total_log_sigma[plan]),
        worst_phase=PHASES[int(np.argmax(phases.upper_bytes[:, plan]))],
        usable_memory_bytes=float(phases.usable_memory_bytes[plan]),
        fits=bool(phases.fits[plan]),
        usd_per_hour=nodes * float(offer["usd_per_hour"]),
        run_hours=_find_hours(profile, phases, plan),
        run_usd=None,
    )


def _find_hours(profile: JobProfile, phases: PhaseColumns, plan: int) -> Interval | None:
    """Return the hours of the steps alone, without evaluation, checkpoints and start; None: how many is not known."""
    steps = profile.plan.optimizer_steps
    if steps is None:
        return None
    hours = phases.total_s[plan] * steps / phases.updates / 3600
    return _make_interval(hours, phases.total_log_sigma[plan])


def _make_interval(mid: float, log_sigma: float) -> Interval:
    factor = math.exp(Z80 * float(log_sigma))
    return Interval(mid=float(mid), low_80=float(mid) / factor, high_80=float(mid) * factor)
