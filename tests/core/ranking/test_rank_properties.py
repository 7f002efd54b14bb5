"""What must hold for every price book: properties of the answer itself, against brute force where there is an oracle."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from builders.drawn_markets import EVERYTHING, MACHINES, TOY, Row, books, key, offer_key, rank_rows, unhurried
from builders.toy_market import GIB, ToyPredictor, block_job, book, in_precisions, offer_row, small_job
from trainfare.lightning.plan_code import WRITER
from trainfare_core.job_profile import BatchFacts, ParallelFacts
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.alternatives.why_not import why_not
from trainfare_core.ranking.options.named_options import uses_every_device
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, Objective, Option

OBJECTIVES = st.sampled_from(["cheapest", "fastest"])


@unhurried
@given(
    books(),
    st.integers(1, 64),
    st.integers(1, 4),
    st.sampled_from(["auto", "ddp", "fsdp"]),
    st.sampled_from([(), ("plan",)]),
)
def test_the_trainer_s_arguments_reproduce_the_global_batch(
    rows: list[Row], micro: int, accumulate: int, strategy: str, allow: Any
) -> None:
    """Devices x machines x batch size x accumulation is the script's global batch for every plan."""
    parallel = ParallelFacts(strategy=strategy, accumulate_grad_batches=accumulate)
    batch = BatchFacts(micro_batch_size=micro, samples_per_step=micro * accumulate)
    job = small_job(parallel=parallel).model_copy(update={"batch": batch})
    constraints = Constraints(allow=allow, purchase=("on_demand", "spot"))
    for option in rank_rows(rows, job=job, constraints=constraints, writer=WRITER).options:
        trainer = option.trainer
        assert trainer is not None
        assert trainer.batch_size is not None
        world = trainer.devices * trainer.num_nodes
        assert world * trainer.batch_size * trainer.accumulate_grad_batches == micro * accumulate
        assert trainer.num_nodes == option.nodes
        assert option.accelerator_count % trainer.devices == 0  # a part of a machine may be used
        assert trainer.strategy in ({"auto"} if world == 1 else {"ddp", "fsdp"})
        assert (option.plan_changes == ()) == (
            trainer.batch_size == micro
            and option.sharding in ("none", "ddp" if strategy != "fsdp" else "fsdp")
        )


def dominates(one: Option, other: Option) -> bool:
    if one.needs_porting and not other.needs_porting:
        return False
    ours, theirs = costs(one), costs(other)
    return ours != theirs and all(mine <= its for mine, its in zip(ours, theirs, strict=True))


def costs(option: Option) -> tuple[float, float, float]:
    """Return what the front compares, less is better: mean dollars, hours of nine in ten runs, chance of a miss."""
    assert option.expected_usd is not None
    chance = 1.0 if option.probability_within is None else round(option.probability_within, 3)
    return option.expected_usd, option.run_hours.high_80, -chance


RELAXED: tuple[tuple[str, Any, Any], ...] = (
    ("max_usd", 8.0, 16.0),
    ("max_usd", 8.0, None),
    ("deadline_hours", 1.0, 2.5),
    ("deadline_hours", 1.0, None),
    ("max_run_hours", 1.5, 30.0),
    ("max_usd_per_hour", 4.0, 9.0),
    ("providers", ("aws",), ("aws", "azure")),
    ("regions", ("us-east-1",), ("us-east-1", "eu-west-1")),
    ("residency", ("eu",), ("eu", "us")),
    ("instance_types", ("a100.1x",), None),
    ("accelerators", ("T4-16GB",), None),
    ("excluded", ("us-east-1", "gcp"), ("gcp",)),
    ("purchase", ("on_demand",), ("on_demand", "spot")),
    ("max_accelerators", 1, 8),
    ("min_network_gbit_per_s", 200.0, 50.0),
    ("no_porting", True, False),
    ("allow", (), ("checkpointing",)),
    ("allow", ("batch",), ("batch", "checkpointing")),
    ("allow", (), ("precision",)),
    ("allow", ("checkpointing",), ("checkpointing", "precision")),
    ("allow", ("precision",), ("precision", "plan")),
)
"""Constraints: a tight value, and one that allows all that the tight one does."""


@unhurried
@given(
    rows=books(), objective=OBJECTIVES, relaxed=st.sampled_from(RELAXED), budget=st.sampled_from([None, 12.0])
)
def test_relaxing_a_constraint_never_worsens_the_objective(
    rows: list[Row], objective: Objective, relaxed: tuple[str, Any, Any], budget: float | None
) -> None:
    """Whatever else is asked for, the best of more is at least as good, for drop-ins as for all."""
    name, tight, loose = relaxed

    def leads(value: Any) -> list[float]:
        options = rank_rows(
            rows,
            job=in_precisions(block_job(), "32-true", "bf16-true"),
            objective=objective,
            constraints=Constraints(**{"max_usd": budget, name: value}),
            predict=replace(TOY, activation_gib=20.0),
        ).options
        leads = [
            (option.needs_porting, option.run_usd.mid if objective == "cheapest" else option.run_hours.mid)
            for option in options
        ]
        drop_ins = [lead for porting, lead in leads if not porting]
        return [min((lead for _, lead in leads), default=float("inf")), min(drop_ins, default=float("inf"))]

    assert all(after <= before for before, after in zip(leads(tight), leads(loose), strict=True))


@settings(unhurried, max_examples=10)
@given(rows=books(), limit=st.sampled_from([None, 9.0, 3.0]), objective=OBJECTIVES)
def test_why_not_and_the_ranking_agree(rows: list[Row], limit: float | None, objective: Objective) -> None:
    """A machine has an option in the answer about it exactly where the ranking lists it, and it is the same one."""
    request = Request(Constraints(max_usd=limit), objective, EVERYTHING, 2)
    answer = rank(small_job(), book(*rows), request, predict=TOY)
    for name in {row["instance_type"] for row in rows}:
        mine = [option for option in answer.options if option.instance_type == name]
        result = why_not(small_job(), book(*rows), request, name, predict=TOY)
        assert (result.option is None) == (not mine)
        if result.option is not None:
            drop_ins = [option for option in mine if not option.needs_porting] or mine
            lead = (
                (lambda one: one.run_usd.mid)
                if objective == "cheapest"
                else (lambda one: one.run_hours.low_80)
            )
            assert lead(result.option) <= min(map(lead, drop_ins)) * (1 + 1e-9) or objective == "fastest"
            assert key(result.option) in map(key, mine)
        assert sum(item.count for item in result.rejections) <= result.offers


@settings(unhurried, max_examples=20)
@given(rows=books(), objective=OBJECTIVES, limit=st.sampled_from([1, EVERYTHING]))
def test_the_runner_up_is_the_best_of_another_accelerator_or_cloud(
    rows: list[Row], objective: Objective, limit: int
) -> None:
    """By brute force over the whole list; also where the list is cut to one line."""
    everything = rank_rows(rows, objective=objective)
    answer = rank_rows(rows, objective=objective, limit=limit)
    best = answer.best(objective) or next(iter(answer.options), None)

    def lead(one: Option) -> float:
        return one.run_usd.mid if objective == "cheapest" else one.run_hours.mid

    others = [
        lead(option)
        for option in everything.options
        if best is not None
        and (option.provider, option.accelerator) != (best.provider, best.accelerator)
        and option.needs_porting <= best.needs_porting
    ]
    value = None if answer.runner_up is None else lead(answer.options[answer.runner_up.rank - 1])
    assert value == min(others, default=None)


@unhurried
@given(rows=books(), pick=st.integers(0, 100), rise=st.integers(1, 60), objective=OBJECTIVES)
def test_raising_one_price_never_improves_its_rank(
    rows: list[Row], pick: int, rise: int, objective: Objective
) -> None:
    """Every option of the offer stays where it was or moves down."""
    changed = pick % len(rows)
    raised = [dict(row) for row in rows]
    raised[changed]["usd_per_hour"] += rise / 4
    before = {key(option): option.rank for option in rank_rows(rows, objective=objective).options}
    after = {key(option): option.rank for option in rank_rows(raised, objective=objective).options}
    row = rows[changed]
    ours = [
        place
        for place in before
        if place[:5]
        == (row["provider"], row["instance_type"], row["region"], row["zone"], row["purchase_option"])
    ]
    assert all(after[our] >= before[our] for our in ours)


@unhurried
@given(rows=books(), more=books())
def test_adding_an_offer_never_raises_the_best_cost(rows: list[Row], more: list[Row]) -> None:
    """More to choose from never costs more, for drop-ins as for all."""
    known = {offer_key(row) for row in rows}
    both = rows + [row for row in more if offer_key(row) not in known]
    for drop_in in (False, True):
        few = [o.run_usd.mid for o in rank_rows(rows).options if not (drop_in and o.needs_porting)]
        many = [o.run_usd.mid for o in rank_rows(both).options if not (drop_in and o.needs_porting)]
        assert min(many, default=float("inf")) <= min(few, default=float("inf"))


@unhurried
@given(
    rows=books(), factor=st.sampled_from([0.25, 2.0, 8.0]), objective=OBJECTIVES, gib=st.sampled_from([0, 50])
)
def test_scaling_all_prices_scales_the_cost_and_keeps_the_order(
    rows: list[Row], factor: float, objective: Objective, gib: int
) -> None:
    """All dollars but those for disks, whose price is not in the book, scale; without them so does the order."""
    job = small_job(checkpoint_bytes=gib * GIB)
    disks = CostAssumptions() if gib else CostAssumptions(system_disk_gib=0.0)
    scaled = [{**row, "usd_per_hour": row["usd_per_hour"] * factor} for row in rows]
    before, after = (
        rank_rows(fields, job=job, objective=objective, constraints=Constraints(run_cost=disks))
        for fields in (rows, scaled)
    )
    machine_usd = {
        key(option): option.run_usd.mid - option.cost_parts.storage_usd for option in before.options
    }
    for option in after.options:
        assert option.run_usd.mid - option.cost_parts.storage_usd == pytest.approx(
            factor * machine_usd[key(option)], rel=1e-7
        )
    if not gib:
        assert [key(option) for option in before.options] == [key(option) for option in after.options]


@unhurried
@given(rows=books(least=2), data=st.data(), objective=OBJECTIVES, every=st.booleans())
def test_permuting_rows_or_clouds_changes_nothing(
    rows: list[Row], data: st.DataObject, objective: Objective, every: bool
) -> None:
    """The same bytes come out whatever the order of the rows and of the clouds."""
    shuffled = data.draw(st.permutations(rows))
    assert rank_rows(rows, objective=objective, every=every).to_json() == (
        rank_rows(shuffled, objective=objective, every=every).to_json()
    )
    by_cloud = [book(*(row for row in rows if row["provider"] == cloud)) for cloud in ("gcp", "aws", "azure")]
    joined = PriceBook.concat(by_cloud)
    assume(len(joined) == len(rows))
    alone = PriceBook.concat([book(*rows)])
    assert rank_rows(joined, objective=objective, every=every).to_json() == (
        rank_rows(alone, objective=objective, every=every).to_json()
    )


@unhurried
@given(rows=books(), steps=st.integers(0, 10**7), gib=st.integers(0, 100))
def test_cost_is_time_times_price_times_count_to_the_cent(rows: list[Row], steps: int, gib: int) -> None:
    """Hours x dollars an hour of all machines, the disk, and what is billed and not used are the cost."""
    job = small_job(steps=steps, checkpoint_bytes=gib * GIB)
    price = {offer_key(row)[2:]: row["usd_per_hour"] for row in rows}
    for option in rank_rows(rows, job=job).options:
        each = price[(option.instance_type, option.region, option.zone, option.purchase_option)]
        parts = option.cost_parts
        expected = option.run_hours.mid * each * option.nodes + parts.storage_usd + parts.rounding_usd
        assert abs(option.run_usd.mid - expected) < 0.005
        assert option.run_usd.low_80 <= option.run_usd.mid <= option.run_usd.high_80


@unhurried
@given(rows=books(), fixed=st.floats(0.1, 200.0), activation=st.floats(0.1, 300.0))
def test_nothing_that_does_not_fit_is_ever_recommended(
    rows: list[Row], fixed: float, activation: float
) -> None:
    """The memory of every option is within its device, and the rest is counted."""
    toy = ToyPredictor(fixed_gib=fixed, activation_gib=activation, capacity_gib={"T4-16GB": 15.0})
    answer = rank_rows(rows, predict=toy)
    for option in answer.options:
        capacity = 15.0 if option.accelerator == "T4-16GB" else 64.0
        assert option.memory_gib.mid <= capacity * (1 + 1e-9)
        assert option.accelerator not in ("Inferentia2", "Nonesuch-9000")


@unhurried
@given(
    rows=books(),
    every=st.booleans(),
    max_usd=st.sampled_from([None, 8.0, 20.0]),
    hours=st.sampled_from([None, 1.0, 4.0]),
    old=st.booleans(),
)
def test_the_front_is_exactly_the_non_dominated_set(
    rows: list[Row], every: bool, max_usd: float | None, hours: float | None, old: bool
) -> None:
    """
    By brute force over all pairs; a machine that needs porting does not dominate a drop-in.

    Nothing dominated is on the front, and everything off it is dominated, in mean dollars, the hours of nine in ten
    runs and the chance to keep budget and deadline, also under prices of unequal age.
    """
    dated = [{**row, "observed_on": f"2026-0{1 + index % 7}-20"} for index, row in enumerate(rows)]
    options = rank_rows(
        dated,
        every=every,
        constraints=Constraints(max_usd=max_usd, deadline_hours=hours, confidence=0.5),
        as_of=datetime(2026, 8, 1, tzinfo=timezone.utc) if old else None,
    ).options
    for option in options:
        assert option.on_front == (not any(dominates(other, option) for other in options)), key(option)


@unhurried
@given(rows=books(), objective=OBJECTIVES)
def test_order_is_total_and_as_stated(rows: list[Row], objective: Objective) -> None:
    """Porting, objective, the other of dollars and hours, then names: sorting by that key again changes nothing."""
    options = rank_rows(rows, objective=objective).options

    def make_sort_key(option: Option) -> tuple[object, ...]:
        money, time = option.run_usd.mid, option.run_hours.mid
        first, second = (money, time) if objective == "cheapest" else (time, money)
        return (
            option.needs_porting,
            first,
            second,
            option.provider,
            option.service,
            option.instance_type,
            option.purchase_option,
            option.nodes,
            option.region,
            option.zone or "",
        )

    keys = [make_sort_key(option) for option in options]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    assert [option.rank for option in options] == list(range(1, len(options) + 1))


def may_be_as_fast(option: Option, first: Option) -> bool:
    """Whether an option is slower than the first with less than 80 %, 0.631 of the variances being one error."""
    log_ratio = math.log(option.run_hours.mid / first.run_hours.mid)
    same = option.accelerator == first.accelerator and count_devices(option) == count_devices(first)
    sigma, other = (
        math.log(hours.high_80 / hours.low_80) / 2.563 for hours in (option.run_hours, first.run_hours)
    )
    variance = sigma**2 + other**2 - 2 * 0.631 * sigma * other
    if same or variance <= 0:
        return log_ratio <= (0.01 if same else 0.0)
    return log_ratio <= 0.8416 * math.sqrt(variance)


def count_devices(option: Option) -> float:
    assert option.trainer is not None
    return option.trainer.devices * option.nodes


@unhurried
@given(rows=books(), objective=OBJECTIVES)
def test_cheapest_and_fastest_are_the_best_drop_ins(rows: list[Row], objective: Objective) -> None:
    """By brute force over every region; also where the list is cut to one line."""
    ready = [option for option in rank_rows(rows, objective=objective).options if not option.needs_porting]
    short = rank_rows(rows, objective=objective, every=False, limit=1)
    if not ready:
        assert (short.cheapest_rank, short.fastest_rank) == (None, None)
        return
    assert short.cheapest_rank is not None
    assert short.fastest_rank is not None
    cheapest, fastest = short.options[short.cheapest_rank - 1], short.options[short.fastest_rank - 1]
    assert cheapest.run_usd.mid == min(option.run_usd.mid for option in ready)
    first = min(ready, key=lambda option: option.run_hours.mid)
    tied = [option for option in ready if may_be_as_fast(option, first)]
    tied = [option for option in tied if uses_every_device(option)] or tied
    assert fastest.run_usd.mid == min(option.run_usd.mid for option in tied)
    assert not cheapest.needs_porting
    assert not fastest.needs_porting


@unhurried
@given(rows=books(), max_usd=st.floats(0, 60), hours=st.floats(0, 10), confidence=st.floats(0.5, 0.99))
def test_constraints_keep_what_is_likely_enough_and_offers_are_counted_once(
    rows: list[Row], max_usd: float, hours: float, confidence: float
) -> None:
    """The options are those whose own probability reaches the confidence; ranked and rejected offers are the book."""
    limits = Constraints(max_usd=max_usd, deadline_hours=hours, confidence=confidence)
    even = rank_rows(rows, constraints=limits.model_copy(update={"confidence": 0.5}))
    chances = {key(option): option.probability_within or 0.0 for option in even.options}
    assume(all(abs(chance - confidence) > 1e-9 for chance in chances.values()))
    answer = rank_rows(rows, constraints=limits)
    assert {key(option) for option in answer.options} == {
        place for place, chance in chances.items() if chance >= confidence
    }
    assert answer.options_total == len(answer.options)
    offers = {key(option)[:5] for option in answer.options}
    assert len(offers) + sum(item.count for item in answer.rejections) == len(rows)


@unhurried
@given(rows=books(least=3), objective=OBJECTIVES, limit=st.integers(1, 4))
def test_a_short_list_is_a_part_of_the_long_one(rows: list[Row], objective: Objective, limit: int) -> None:
    """Cutting changes neither order nor content, and the front and the first of every service stay."""
    long, short = (
        rank_rows(rows, objective=objective, every=False),
        rank_rows(rows, objective=objective, every=False, limit=limit),
    )
    kept = [key(option) for option in short.options]
    everything = [key(option) for option in long.options]
    assert kept[: min(limit, len(kept))] == everything[: min(limit, len(kept))]
    assert [place for place in everything if place in set(kept)] == kept
    assert {key(option) for option in long.options if option.on_front} <= set(kept)
    assert {(o.provider, o.service, o.purchase_option) for o in long.options} == {
        (o.provider, o.service, o.purchase_option) for o in short.options
    }
    assert short.options_total == long.options_total


def test_a_book_of_categoricals_ranks_like_one_of_strings() -> None:
    """How a provider stores its names does not matter."""
    rows = [offer_row(**machine) for machine in MACHINES]
    plain = book(*rows)
    frame = plain.rows.with_columns(pl.col("provider", "region").cast(pl.Categorical))
    assert [key(o) for o in rank_rows(PriceBook(frame)).options] == [key(o) for o in rank_rows(plain).options]


@pytest.mark.parametrize("objective", ["cheapest", "fastest"])
def test_equal_options_at_the_cut_fill_the_list(objective: Objective) -> None:
    """Six regions of the same price share the places that the list has: the first by name are in it, none is lost."""
    best = offer_row(instance_type="h100.1x", accelerator="H100-SXM-80GB", usd_per_hour=0.25)
    equal = [offer_row(region=f"r-{i}") for i in range(6)]
    for limit in range(1, 8):
        options = rank_rows([*equal, best], objective=objective, limit=limit, max_nodes=1).options
        places = max(limit, 2)  # a runner-up of another machine type is always listed
        assert [option.region for option in options] == ["us-east-1", *(f"r-{i}" for i in range(places - 1))]
