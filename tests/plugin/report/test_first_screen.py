"""The first screen of a ranking."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from builders.profiles import profile
from builders.recommendations import hostile_recommendation, job, no_answer, option, recommendation
from builders.reports import render_terminal
from trainfare.report.first_screen_lines import MAX_LINES
from trainfare.report.headline import list_named_options
from trainfare_core.recommendation import (
    Alternative,
    Commitment,
    Constraints,
    CostParts,
    Note,
    Recommendation,
    RunnerUp,
    TrainerArguments,
)
from trainfare_core.recommendation.loader import LoaderFacts

TODAY = date(2026, 11, 24)
LONG = recommendation(
    options=tuple(
        option(
            rank=rank, usd=float(rank), hours=30.0 - rank, needs_porting=rank == 1, probability_within=0.97,
            instance_type=f"Standard_NC{rank}ads_" + "x" * 60, purchase_option="spot" if rank < 4 else "on_demand",
            plan_changes=("something long " * 20,),
            trainer=TrainerArguments(
                devices=8, num_nodes=2, strategy="s" * 90, precision="bf16-mixed", accumulate_grad_batches=1, batch_size=1
            ),
        )
        for rank in range(1, 26)
    ),
    cheapest_rank=2,
    fastest_rank=25,
    runner_up=RunnerUp(rank=3, price_higher=0.5, step_slower=0.51, runner_up_price_cheaper=0.3),
    best_spot=option(usd=0.5, purchase_option="spot", instance_type="y" * 90),
)  # fmt: skip
LARGE = recommendation(
    options=tuple(
        option(
            rank=rank,
            usd=331_374.0 * rank,
            hours=1_199.0 / rank,
            probability_within=0.998,
            instance_type=f"p{rank}",
        )
        for rank in (1, 2, 3)
    ),
    cheapest_rank=1,
    fastest_rank=3,
    runner_up=RunnerUp(rank=2),
)
NOTHING = recommendation(
    options=(),
    unknown_because="no " * 300,
    alternatives=tuple(
        Alternative(change=f"change {n} " * 9, flag="--deadline 22h", option=option()) for n in range(9)
    ),
)


def screen(answer: Recommendation) -> str:
    return render_terminal(answer, profile=profile(), as_of=TODAY, details=False)


def print_details(answer: Recommendation) -> str:
    return " ".join(render_terminal(answer, profile=profile(), as_of=TODAY).split())


@pytest.mark.parametrize(
    "answer",
    [recommendation(), LONG, LARGE, NOTHING, hostile_recommendation(), no_answer()],
    ids=["usual", "long", "large", "nothing", "hostile", "none"],
)
def test_it_has_at_most_24_lines_of_100_columns(answer: Recommendation) -> None:
    """Whatever is named how: no more than 24 lines, none wider than 100 columns, no control byte."""
    text = screen(answer)
    lines = text.splitlines()
    assert 3 < len(lines) <= MAX_LINES == 24
    assert max(map(len, lines)) <= 100
    assert text.replace("\n", "").isprintable()


def test_it_names_answer_runner_up_cheapest_on_demand_and_fastest() -> None:
    """Each of them with dollars, hours and both intervals; an option that is two of them is named once."""
    options = (
        option(rank=1, usd=5.0, hours=9.0, purchase_option="spot", instance_type="g6.xlarge"),
        option(rank=2, usd=6.0, hours=8.0, purchase_option="spot", instance_type="g5.xlarge"),
        option(rank=3, usd=7.0, hours=7.0, instance_type="g6.xlarge"),
        option(rank=4, usd=9.0, hours=1.0, instance_type="p5.48xlarge"),
    )
    answer = recommendation(
        options=options,
        cheapest_rank=1,
        fastest_rank=4,
        runner_up=RunnerUp(rank=2, price_higher=0.2, step_slower=0.2, runner_up_step_faster=0.167),
    )
    assert [(", ".join(titles), option.rank) for titles, option in list_named_options(answer)] == [
        ("cheapest", 1),
        ("runner-up", 2),
        ("cheapest on demand", 3),
        ("fastest", 4),
    ]
    text = screen(answer)
    starts = [line.split("   ")[0] for line in text.splitlines()]
    assert [
        option for option in ("Cheapest", "Runner-up", "Cheapest on demand", "Fastest") if option in starts
    ] == [
        "Cheapest",
        "Runner-up",
        "Cheapest on demand",
        "Fastest",
    ]
    said = " ".join(text.split())
    assert "Prices of 2026-07-20, 127 days old: `trainfare prices update`." in said
    assert "80 % intervals" in said
    assert "The runner-up" not in said
    assert (
        "The runner-up costs 20 % more and takes 11 % less: an hour costs 35 % more, a step takes the same. "
        "The runner-up wins if 1 x g6.xlarge gets 20 % more expensive or slower, or if 1 x g5.xlarge gets 17 % "
        "faster." in print_details(answer)
    )
    far = RunnerUp(rank=2, price_higher=0.2, step_slower=8.4)
    far_details = print_details(answer.model_copy(update={"runner_up": far}))
    assert "wins if 1 x g6.xlarge gets 20 % more expensive. " in far_details
    twice = answer.model_copy(update={"runner_up": RunnerUp(rank=4)})
    assert [", ".join(titles) for titles, _ in list_named_options(twice)] == [
        "cheapest",
        "runner-up, fastest",
        "cheapest on demand",
    ]


def test_the_chance_is_shown_whole() -> None:
    """Behind the time where there is room, else with the machine; never cut at its percent sign."""
    assert screen(LARGE).count("limits kept: 99.8 %\n") == 3


def compare(usd: float, **other: Any) -> tuple[str, str]:
    """Return the first screen of two options of which the second costs so much, and the whole report."""
    options = (option(rank=1, usd=5.0), option(rank=2, usd=usd, instance_type="g5.xlarge", **other))
    answer = recommendation(options=options, fastest_rank=1, runner_up=RunnerUp(rank=2))
    return screen(answer), print_details(answer)


def test_a_runner_up_that_may_be_better_has_its_probability() -> None:
    """
    From a fifth on, with the errors of both counted once where they are the same.

    ln(6 / 5) = 0.182 over 0.28 sqrt(2 - 2 x 0.631) = 0.241 is 0.757 deviations: 22 %. At 7 dollars it is 8 %, although
    the intervals overlap; at 60 they do not.
    """
    first, details = compare(6.0, accelerator="A10G-24GB")
    assert "   likely better: 22 %\n" in first
    assert "It is the better one with a probability of 22 %." in details
    for usd in (7.0, 60.0):
        first, details = compare(usd, accelerator="A10G-24GB")
        assert "better" not in first
        assert "the better one" not in details


def test_twins_of_one_accelerator_do_not_decide_by_chance() -> None:
    """Their errors are one and the same: the cheaper one is cheaper. It shares the answer's line."""
    first, details = compare(5.95)
    assert "better" not in first
    assert "the better one" not in details
    assert "also g5.xlarge, +19 %" in first


@pytest.mark.parametrize(
    ("machine", "answered", "command"),
    [
        ({}, {}, "torchrun"),
        ({"service": "sagemaker"}, {}, "sagemaker"),
        ({"service": "sagemaker"}, {"basis": "per_1000_steps"}, "torchrun"),
        ({"service": "azure_ml"}, {"objective": "fastest"}, "azureml --plan fastest"),
        ({"needs_porting": True}, {"cheapest_rank": None, "fastest_rank": None}, None),
    ],
)
def test_it_ends_with_what_to_do_next(
    machine: dict[str, Any], answered: dict[str, Any], command: str | None
) -> None:
    """The export that starts the answer, in one line where it is the cheapest; none for a plan that is to be ported."""
    answer = recommendation(options=(option(**machine),)).model_copy(update=answered)
    lines = screen(answer).splitlines()
    last = lines[-1] if not answered.get("objective") else " ".join(map(str.strip, lines[-2:]))
    start = f"To start it: --format json -o answer.json, then `trainfare export answer.json --to {command}`."
    assert (last == start) is (command is not None)
    assert ("export" in screen(answer)) is (command is not None)


def test_named_options_stand_in_their_order() -> None:
    """Cheapest, runner-up, best value, the script's own plan, fastest, after porting: six at most, none twice."""
    trainer = TrainerArguments(
        devices=8,
        num_nodes=2,
        strategy="fsdp",
        precision="bf16-mixed",
        accumulate_grad_batches=1,
        batch_size=1,
    )
    options = tuple(
        option(
            rank=rank, usd=float(rank), hours=10.0 - rank, instance_type=f"g{rank}", accelerator=accelerator
        )
        for rank, accelerator in enumerate(
            ("L4-24GB", "L4-24GB", "A10G-24GB", "T4-16GB", "A100-SXM-40GB"), start=1
        )
    )
    ported = option(rank=6, usd=0.5, hours=9.9, instance_type="v5e", needs_porting=True)
    own = option(rank=1, usd=7.0, hours=8.0, instance_type="p4d", trainer=trainer)
    answer = recommendation(
        options=(*options, ported), cheapest_rank=1, fastest_rank=5, best_value_rank=4, runner_up=RunnerUp(rank=3),
        own_plan=own,
    )  # fmt: skip
    titles = [titles for titles, _ in list_named_options(answer)]
    assert titles == [
        ("cheapest",), ("runner-up",), ("best value",), ("your own plan",), ("fastest",), ("cheapest after porting",)
    ]  # fmt: skip
    same = answer.model_copy(update={"own_plan": options[0], "best_value_rank": 5})
    assert [titles for titles, _ in list_named_options(same)] == [
        ("cheapest", "your own plan"), ("runner-up",), ("best value", "fastest"), ("cheapest after porting",)
    ]  # fmt: skip


def test_a_commitment_states_its_whole_price() -> None:
    """On its own line, with the use from which it pays; a ranked one and a block beside their dollars."""
    term = Commitment(hours=8760, usd=152_424, pays_from_use=0.634)
    reserved = option(purchase_option="reserved_1y", usd_per_hour=17.4, commitment=term)
    said = " ".join(screen(recommendation(best_commitment=reserved)).split())
    assert "reserved 1 year at $17.40/h: $152,424 for the term, used or not, pays from 63 % use" in said
    ranked = reserved.model_copy(update={"commitment": Commitment(hours=8760, usd=152_424, use=0.8)})
    block = option(
        rank=2, accelerator="H100-SXM-80GB", purchase_option="capacity_block", usd_per_hour=17.71,
        commitment=Commitment(hours=96, usd=1_700),
    )  # fmt: skip
    said = " ".join(
        screen(recommendation(options=(ranked, block), fastest_rank=1, runner_up=RunnerUp(rank=2))).split()
    )
    assert "reserved 1 year at $17.40 per used hour: $152,424 for the term, 80 % used" in said
    assert "capacity block of 4 days at $17.71/h: $1,700, paid when booked" in said


def test_what_else_than_training_costs_is_said() -> None:
    """With the setting that changes it: checkpoints every 7 steps that are 87 % of the cost."""
    costs_of_c = CostParts(
        training_usd=3_994,
        startup_usd=10,
        validation_usd=0,
        checkpoint_usd=26_942,
        interruption_usd=0,
        storage_usd=24,
    )
    slow = option(rank=1, usd=30_970.0, cost_parts=costs_of_c, checkpoint_every_n_steps=7)
    plan = profile().plan.model_copy(update={"checkpoint_every_n_steps": 7})
    saves_often = profile().model_copy(update={"plan": plan})
    answer = recommendation(options=(slow,), cheapest_rank=1, fastest_rank=1)
    text = " ".join(render_terminal(answer, profile=saves_often, as_of=TODAY, details=False).split())
    # 2 % of 3,994 is 80: a 337th of the writes, one in 2,361 steps; 3,000 save 26,942 (1 - 7 / 3,000)
    assert (
        "Cheapest: 87 % of its cost is writing checkpoints every 7 steps: every_n_train_steps=3000 saves"
        in text
    )
    assert "saves $26,879." in text
    assert "of its cost is" not in screen(recommendation())


def test_what_is_not_known_of_a_named_machine_is_said() -> None:
    """An accelerator without measurements, vCPUs that cannot load so much, a machine that is not sold on demand."""
    notes = (
        Note(kind="loader_rate", samples_per_s=272.0),
        Note(
            kind="caveat",
            because="Google creates this size only as spot or flex-start: listed, but perhaps not available",
            caveats=("spot_or_flex_only",),
        ),
    )
    answer = recommendation(
        options=(option(accelerator_measured=False, notes=notes, mfu=0.314),), cheapest_rank=1, fastest_rank=1
    )
    first = " ".join(screen(answer).split())
    assert "L4-24GB was never measured." in first
    assert "Each vCPU must load 272 samples a second" not in first  # a third line of doubt
    assert "spot or flex-start only, listed at" in first
    assert "on demand" not in first
    assert "MFU 31 %" in first
    details = print_details(answer)
    assert "No step was ever measured on L4-24GB: its time follows from its data sheet." in details
    assert "Each vCPU must load 272 samples a second" in details
    assert "g6.2xlarge: Google creates this size only as spot or flex-start: listed, but" in details


def test_a_loader_that_decides_is_named_everywhere() -> None:
    """On the first screen, in the report and by `why`: its workers, what would keep up, what more would give."""
    loader = LoaderFacts(
        basis="measured", kind="pictures", decides=True, workers=12, vcpus=40, samples_per_s_per_vcpu=30.0,
        more_workers=24, step_ratio_with_more=0.55,
    )  # fmt: skip
    first = option(rank=1, loader=loader, loader_samples_per_s_per_vcpu=85.0)
    said = (
        f"The loader decides on {first.instance_type}: 12 workers for 40 vCPUs load 30 samples a second per vCPU, "
        "85 would keep up; with 24 workers a step takes 45 % less."
    )
    answer = recommendation(options=(first,))
    assert said in " ".join(screen(answer).split())
    assert said in " ".join(print_details(answer).split())
    kept_up = option(rank=1, loader=loader.model_copy(update={"decides": False}))
    assert "The loader decides" not in screen(recommendation(options=(kept_up,)))
    faster = option(rank=2, hours=1.0, instance_type="fast.1x", loader=loader)
    both = recommendation(options=(kept_up, faster), fastest_rank=2)
    assert "The loader decides on fast.1x: " in screen(both), "of another machine that is named"
    published = loader.model_copy(update={"basis": "published", "decides": False})
    unmeasured = recommendation(options=(option(rank=1, loader=published),), job=job(input_known=False))
    assert "The loader was not measured: published rates of pictures." in " ".join(screen(unmeasured).split())


def test_a_guess_is_called_one() -> None:
    """Where nothing like a named run was measured; the whole report says what is nearest."""
    because = "nothing like it was measured: nearest is timm: matrix products on one device (261 runs)"
    answer = recommendation(options=(option(guess_because=because),), cheapest_rank=1, fastest_rank=1)
    assert "13.2 h [10.2 - 17.1 h]   a guess\n" in screen(answer)
    assert f"Cheapest is a guess: {because}." in print_details(answer)
    assert "a guess" not in screen(recommendation(options=(option(),), cheapest_rank=1, fastest_rank=1))


def test_doubt_takes_two_lines_at_most() -> None:
    """However much is not known: the brackets and the age of the prices come first, and the rest is left out."""
    notes = (Note(kind="loader_rate", samples_per_s=272.0),)
    options = tuple(
        option(
            rank=rank, usd=float(rank), hours=9.0 - rank, accelerator=f"X{rank}-24GB", accelerator_measured=False,
            notes=notes, price_observed_on=f"2026-0{rank}",
        )
        for rank in (1, 2, 3)
    )  # fmt: skip
    answer = recommendation(
        options=options,
        fastest_rank=3,
        runner_up=RunnerUp(rank=2),
        job=job(measured_on=None, input_known=False),
    )
    for width in (100, 80):
        text = render_terminal(answer, as_of=TODAY, details=False, width=width)
        doubt = text[text.index("Brackets: ") : text.index("--details shows")].splitlines()
        assert len(doubt) <= 2
        assert " ".join(map(str.strip, doubt)).startswith(
            "Brackets: 80 % intervals, no step was measured. The oldest price is of 2026-01, 10 months old: `trainfare "
            "prices update`."
        )
        assert ("X1-24GB and X2-24GB and X3-24GB were never measured." in text) is (width == 100)
        assert "counted as nothing" not in text


def test_a_quota_of_0_stands_with_the_answer_and_its_name_in_the_whole_report() -> None:
    """Four words beside the machine that a new account cannot start."""
    note = Note(kind="quota", name="P instances", source="a page")
    answer = recommendation(options=(option(notes=(note,)),), fastest_rank=1)
    assert "; new account: quota 0\n" in screen(answer)
    assert "P instances" not in screen(answer)
    assert (
        'New account: its quota "P instances" is 0, so ask for an increase first. Source: a page.'
        in print_details(answer)
    )
    assert "quota" not in screen(recommendation())


def test_more_machines_than_usual_are_said() -> None:
    said = screen(recommendation(raised_max_nodes=64))
    assert "up to 64 of one kind were tried" in " ".join(said.split())


def test_what_is_least_important_gives_way() -> None:
    """The Trainer's arguments and the certainty stay in a screen that is too full; rejections do not."""
    said = " ".join(screen(LONG).split())
    assert "Trainer(devices=8" in said
    assert "Brackets: 80 % intervals" in said
    assert "not ranked:" not in said


def test_machines_that_are_not_ranked_are_counted_by_reason() -> None:
    """Machine types, not prices, and only where they are known."""
    answer = recommendation()
    counted = tuple(
        rejection.model_copy(update={"machines": machines})
        for rejection, machines in zip(answer.rejections, (4, 2, 0), strict=True)
    )
    said = " ".join(screen(answer.model_copy(update={"rejections": counted})).split())
    assert "6 machine types are not ranked: does not fit in memory 4, cannot train 2." in said
    assert "not ranked" not in screen(answer)


def test_spot_that_saves_nothing_is_not_advertised() -> None:
    """A spot machine at the price of the answer is no offer."""
    options = (option(rank=1, usd=5.0), option(rank=2, usd=6.0, instance_type="g5.xlarge"))
    answer = recommendation(options=options, cheapest_rank=1, fastest_rank=1)
    said = [
        "Spot could cost"
        in screen(answer.model_copy(update={"best_spot": option(usd=usd, purchase_option="spot")}))
        for usd in (4.0, 5.0, 6.0)
    ]
    assert said == [True, False, False]


def test_the_plan_to_paste_is_that_of_the_answer() -> None:
    """Not that of another machine that is named."""
    options = tuple(
        option(
            rank=rank, usd=float(rank), hours=9.0 - rank, instance_type=f"g{rank}.xlarge",
            trainer=TrainerArguments(
                devices=rank, num_nodes=1, strategy="ddp", precision="bf16-mixed", accumulate_grad_batches=1, batch_size=8
            ),
        )
        for rank in (1, 2)
    )  # fmt: skip
    text = screen(recommendation(options=options, cheapest_rank=1, fastest_rank=2))
    assert "devices=1," in text
    assert "devices=2," not in text
    assert "Plan changes" not in text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            1000.0,
            "Train now: a month earlier is worth more than waiting saves, with a chance of 90 % or more.",
        ),
        (50.0, "Train now or wait: cannot tell: the saving of waiting may be above or below"),
    ],
)
def test_the_value_of_a_month_gets_its_answer(value: float, said: str) -> None:
    """With a stated value the screen says whether to train now or wait, why, and where waiting breaks even."""
    answer = recommendation(
        options=(option(usd=2000.0, hours=40.0),),
        fastest_rank=1,
        constraints=Constraints(value_usd_per_month=value),
    )
    text = " ".join(screen(answer).split())
    assert said in text
    assert "Waiting breaks even at a value of $58 a month [" in text
    unknown = " ".join(screen(answer.model_copy(update={"basis": "per_1000_steps"})).split())
    assert "Train now or wait: cannot tell, because the length of the run is not known." in unknown


def test_what_may_end_the_run_early_is_said() -> None:
    """The cost of a script with EarlyStopping is that of its last step."""
    note = "the first of 2 calls of Trainer.fit; EarlyStopping or max_time (60 s) may end it earlier: an upper bound"
    said = "EarlyStopping or max_time (60 s) may end the run earlier: hours and dollars are an upper bound."
    assert said in " ".join(screen(recommendation(job=job(steps_note=note))).split())
    assert "upper bound" not in screen(recommendation(job=job(steps_note="stopped at step 5")))


def test_own_prices_are_named() -> None:
    """Each discount and rate that the dollars depend on, however full the screen is."""
    own = (
        "price 'old' is not in force (it holds from the start to 2026-08-31)",
        "discount 'EDP': 12.5 % off 986 list prices",
        "rate 'deal': 20 USD per hour for aws:p5@x, spot",
    )
    text = " ".join(screen(LONG.model_copy(update={"own_prices": own})).split())
    assert (
        "Own prices: price 'old' is not in force (it holds from the start to 2026-08-31); discount 'EDP': 12.5 % off "
        "986 list prices; rate 'deal': 20 USD" in text
    )
    assert "Own prices" not in screen(recommendation())
