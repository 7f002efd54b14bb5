"""The headline of a report, and the facts beside the ranking."""

from __future__ import annotations

from datetime import date

from builders.profiles import profile
from builders.recommendations import costs, job, make_measured_step, no_answer, option, parts, recommendation
from builders.reports import render_html, render_markdown, render_terminal
from trainfare.report.blocks import Cards
from trainfare.report.facts import basis_note, constraints_text, job_facts, phase_lines
from trainfare.report.headline import headline, picks
from trainfare.report.price_age import price_date_of
from trainfare.report.rows import marks
from trainfare.report.sections.answer import build_answer_section
from trainfare.report.sections.beside import write_texts_beside
from trainfare.report.sections.breakdowns import describe_hidden, select_detailed_options
from trainfare.report.sections.ranking import build_ranking_rows, describe_order, select_rows
from trainfare.report.sections.reasons import calibration_notes, profile_notes
from trainfare.report.wording import interval, place_label
from trainfare_core.job_profile import ProfileSource, RunPlan
from trainfare_core.recommendation import Alternative, Constraints, TrainerArguments

TODAY = date(2026, 11, 24)


def test_the_answer_is_one_sentence() -> None:
    """Cheapest and fastest with machine, place, dollars, time, both intervals and the age of their prices."""
    assert headline(recommendation(), TODAY) == (
        "Cheapest: 1 × g6.2xlarge (AWS, 1 × L4-24GB, us-east-1c, spot): $5.15 [$3.60 – $7.37] in 13.2 h [10.2 – 17.1 h]; "
        "fastest: 2 × p5.48xlarge (AWS, 8 × H100-SXM-80GB × 2 nodes, us-east-1, on demand): "
        "$62.50 [$43.66 – $89.48] in 42.6 min [33.0 – 55.0 min]; prices of 2026-07-20 (127 days old) to 2026-11-20 (4 days old)."
    )


def test_the_objective_comes_first() -> None:
    """With the objective "fastest" the fastest option is named first."""
    assert headline(recommendation(objective="fastest"), TODAY).startswith("Fastest: 2 × p5.48xlarge")


def test_one_machine_can_be_both() -> None:
    """The same option is not named twice."""
    only = recommendation(options=(option(),), options_total=1, cheapest_rank=1, fastest_rank=1)
    assert headline(only, TODAY).startswith("Cheapest and fastest: 1 × g6.2xlarge")
    assert len(picks(only)) == 1


def test_machines_that_need_porting_have_titles_of_their_own() -> None:
    """Cheapest and fastest run the script unchanged; cheaper and faster TPUs stand beside them under their own title."""
    tpu = option(rank=1, accelerator="TPU-v5e", needs_porting=True, usd=3.0, hours=20.0)
    gpu, fast = option(rank=2, usd=9.0, hours=10.0), option(rank=3, usd=50.0, hours=1.0)
    faster = option(rank=4, accelerator="TPU-v5e", needs_porting=True, usd=60.0, hours=0.5)
    result = recommendation(options=(tpu, gpu, fast, faster), cheapest_rank=2, fastest_rank=3)
    assert [(title, option.rank) for title, option in picks(result)] == [
        ("cheapest", 2),
        ("fastest", 3),
        ("cheapest after porting", 1),
        ("fastest after porting", 4),
    ]
    assert headline(result, TODAY).count(";") == 3
    assert (
        "; cheapest after porting: 1 × g6.2xlarge (AWS, 1 × TPU-v5e, us-east-1, on demand): $3.00"
        in headline(result, TODAY)
    )


def test_only_machines_that_need_porting() -> None:
    """Where every machine needs porting, each title has the words 'after porting'."""
    only = option(accelerator="TPU-v5e", needs_porting=True)
    result = recommendation(options=(only,), options_total=1, cheapest_rank=None, fastest_rank=None)
    assert headline(result, TODAY).startswith("Cheapest and fastest after porting: 1 × g6.2xlarge")


def test_a_slow_expensive_machine_that_needs_porting_is_not_named() -> None:
    """A machine that needs porting is in the headline only where it is cheaper or faster."""
    assert [title for title, _ in picks(recommendation())] == ["cheapest", "fastest"]


def test_the_options_of_the_headline_are_marked_and_broken_down() -> None:
    """Their rows carry the title, and their step is among those broken down, whatever their rank."""
    options = tuple(option(rank=rank, usd=float(rank), hours=30.0 - rank) for rank in range(1, 21))
    found = recommendation(options=options, cheapest_rank=1, fastest_rank=20)
    rows = build_ranking_rows(found, TODAY)
    assert [row.marks[0] for row in rows if row.titles] == ["cheapest", "fastest"]
    assert [option.rank for option in select_detailed_options(found)] == [1, 20, 2, 3, 4, 5]


def test_a_zone_is_named_with_its_region() -> None:
    """A zone id that does not hold its region gets it; one that does stands alone."""
    zones = ("use1-az5", "us-east-1c")
    assert [place_label(option(zone=zone)) for zone in zones] == ["us-east-1 use1-az5", "us-east-1c"]


def test_no_options_is_no_answer_with_its_reason() -> None:
    """An empty ranking gives the reason instead of a machine."""
    assert headline(no_answer(), TODAY) == (
        "No answer, because no machine can hold the job: the nearest, H200-SXM-141GB, misses by 12.3 GiB."
    )
    bare = recommendation(options=(), cheapest_rank=None, fastest_rank=None, unknown_because=None)
    assert headline(bare, TODAY) == "No answer, because nothing is left to rank."


def test_an_unknown_length_is_in_every_title() -> None:
    """Hours and dollars of 1,000 steps are labelled as such everywhere."""
    result = recommendation(basis="per_1000_steps", job=job(optimizer_steps=None))
    plan = RunPlan(optimizer_steps=None, unknown_because="the dataset has no length")
    (cards,) = (block for block in build_answer_section(result, None, TODAY) if isinstance(block, Cards))
    titles = [card.title for card in cards.cards]
    assert titles == [f"{title} per 1,000 steps" for title in ("Cheapest", "Cheapest on demand", "Fastest")]
    assert headline(result, TODAY).startswith("Cheapest per 1,000 steps:")
    note = basis_note(result, profile(plan=plan))
    assert "unknown (the dataset has no length)" in note
    assert "not for the whole run" in note


def test_marks() -> None:
    """On front, spot, needs porting, own price and stale, each only where it holds."""
    rows = build_ranking_rows(recommendation(), TODAY)
    assert rows[0].marks == ("cheapest", "on front", "spot", "stale")
    assert rows[1].marks == ("on front", "needs porting", "stale")
    (fetched,) = (row for row in rows if row.price_age == "14 hours old")
    assert fetched.marks == ("on front",)
    assert price_date_of(fetched.option).text == "2026-11-24"
    assert any("own price" in row.marks for row in rows)


GIVEN = {
    "max_usd": 500,
    "deadline_hours": 24,
    "confidence": 0.8,
    "value_usd_per_hour": 2,
    "value_usd_per_month": 3,
    "providers": ("aws",),
    "services": ("ec2",),
    "regions": ("us-east-1",),
    "residency": ("us",),
    "instance_types": ("p5",),
    "accelerators": ("H100",),
    "excluded": ("gcp",),
    "purchase": ("spot", "reserved_1y"),
    "data_gb": 5,
    "run_cost": {"startup_s": 1.5},
    "max_accelerators": 8,
    "quotas": ({"provider": "aws", "family": ("p",), "vcpus": 96},),
    "min_network_gbit_per_s": 100,
    "no_porting": True,
    "use": 0.6,
    "scale": "quality",
    "critical_batch": "64..256",
}
SAID_ELSEWHERE = {
    "data_in": "with data_gb",
    **dict.fromkeys(("max_nodes", "keep_plan", "allow"), "the plan of each option, and what changes"),
    **dict.fromkeys(("max_run_hours", "max_usd_per_hour"), "what is rejected"),
    "all_clouds": "the clouds of the options",
}


def test_each_constraint_is_said_or_has_its_place_elsewhere() -> None:
    """A field without words would be applied in silence; one whose name is mistyped in the order would come last."""
    assert set(GIVEN) | set(SAID_ELSEWHERE) == set(Constraints.model_fields)
    assert constraints_text(Constraints.model_validate(GIVEN)) == (
        "at most $500; within 24 h; kept with a probability of at least 80 %; each hour less is worth $2.00; having "
        "the model a month earlier is worth $3.00; cloud: aws; service: ec2; region: us-east-1; residency: us; "
        "instance type: p5; accelerator: H100; without: gcp; purchase: spot, reserved 1 year; 5 GB of data; stated: "
        "startup_s = 1.5; at most 8 accelerators; 1 quota of your accounts; a network of at least 100 Gbit/s; only "
        "machines that run the script as it is; 60 % of a commitment's term used; more devices keep the quality; a "
        "critical batch of 64..256"
    )
    elsewhere = {
        "data_in": "aws:us-east-1",
        "data_gb": 5,
        "max_nodes": 2,
        "keep_plan": True,
        "allow": ("plan",),
    }
    elsewhere |= {"max_run_hours": 9, "max_usd_per_hour": 9, "all_clouds": True}
    assert set(elsewhere) - {"data_gb"} == set(SAID_ELSEWHERE)
    assert constraints_text(Constraints.model_validate(elsewhere)) == "5 GB of data in aws:us-east-1"


def test_constraints_are_shown() -> None:
    """Budget, deadline, confidence and filters as text; probabilities only where there are limits."""
    constraints = Constraints(max_usd=500, deadline_hours=24, providers=("aws",), purchase=("on_demand",))
    options = (option(probability_within=0.97),)
    assert constraints_text(constraints) == (
        "at most $500; within 24 h; kept with a probability of at least 90 %; cloud: aws; purchase: on demand"
    )
    found = recommendation(constraints=constraints, options=options)
    assert "limits kept: 97 %" in render_terminal(found, as_of=TODAY, details=False)
    for answer, said in ((found, True), (recommendation(), False)):
        for render in (render_markdown, render_html):
            assert ("within limits" in render(answer, as_of=TODAY)) is said


def test_limits_of_the_profile_are_listed() -> None:
    """Coverage, unmeasured phases, compilation, and the profile's own notes."""
    compiled = ProfileSource(how="real", tool_version="0", compiled=True)
    notes = profile_notes(
        recommendation(), profile(measured=make_measured_step(), source=compiled, notes=("a note",))
    )
    listed = tuple(note for note in notes if not note.startswith("Calibration of"))
    assert listed == (
        "Trace coverage: 99.9 % of the bytes moved belong to operations whose FLOPs are known.",
        "The step runs under torch.compile; the trace is of the uncompiled step.",
        "Not measured: transfer to the device, validation.",
        "a note",
    )
    unmeasured = profile_notes(recommendation(job=job(measured_on=None, measured_step_s=None)), None)
    assert any(note.startswith("No step was measured") for note in unmeasured)


def test_the_number_of_feasible_options_is_shown() -> None:
    """A shortened list gives the number of all feasible options."""
    assert describe_order(recommendation()) == "9 of 412 feasible options, cheapest first"


def test_calibration_of_the_ranked_devices() -> None:
    """Measured itself, only its generation measured, or neither: one sentence for each case."""
    names = ("V100-SXM2-16GB", "RTX-3080Ti-12GB", "RTX-5090-32GB", "an unknown device")
    options = tuple(option(rank=i + 1, accelerator=name) for i, name in enumerate(names))
    notes = calibration_notes(recommendation(options=options))
    assert len(notes) == 3
    for name, words in zip(
        names,
        ("that were measured", "but others of their generation were", "nor any other of their generation"),
        strict=False,
    ):
        assert any(words in note and name in note for note in notes), name


def test_an_arm64_host_is_in_the_headline() -> None:
    """An x86 image does not start on an arm64 host, so the headline and the marks name it."""
    graviton = option(rank=1, accelerator="T4G-16GB", arm64_host=True)
    only = recommendation(options=(graviton,), options_total=1, cheapest_rank=1, fastest_rank=1)
    assert "1 × T4G-16GB, arm64 host" in headline(only, TODAY)
    assert "arm64 host" in marks(graviton, TODAY)


def test_a_deadline_below_an_hour_is_in_minutes() -> None:
    """5 minutes, not 0.0833333 h."""
    assert constraints_text(Constraints(deadline_hours=5 / 60)).startswith("within 5 min;")


def test_a_run_that_is_mostly_start_up_says_so() -> None:
    """From half of the cost on."""
    half = costs(2.0).model_copy(update={"startup_usd": 1.0, "training_usd": 0.9})
    for spent, said in ((half, True), (costs(2.0), False)):
        answer = recommendation(options=(option(usd=2.0, cost_parts=spent),))
        text = " ".join(write_texts_beside(answer))
        assert ("50 % of its cost is start-up before the first step: faster machines" in text) is said


def test_what_is_not_known_of_a_job_is_not_said() -> None:
    """Samples and the measured step of the job are named where they are known."""
    known, unknown = (
        job_facts(summary) for summary in (job(), job(global_batch_size=None, measured_on=None))
    )
    assert known[-2:] == ("8 samples per step", "measured on NVIDIA RTX A4000: 612 ms per step")
    assert unknown == known[:-2]


def test_only_what_there_is_to_say_stands_beside_the_answer() -> None:
    """No empty line; the plan, and what it changes of the script only where it changes something."""
    trainer = TrainerArguments(
        devices=1,
        num_nodes=1,
        strategy="auto",
        precision="bf16-mixed",
        accumulate_grad_batches=1,
        batch_size=8,
    )
    for changes in ((), ("strategy ddp instead of fsdp",)):
        item = option(trainer=trainer, plan_changes=changes)
        beside = write_texts_beside(recommendation(options=(item,), cheapest_rank=1, fastest_rank=1))
        assert all(beside)
        (plan,) = [line for line in beside if line.startswith("Plan of #1, batch size 8 per device")]
        assert ("Plan changes: strategy ddp instead of fsdp." in plan) == bool(changes)


def test_a_long_list_shows_as_many_rows_as_are_usual_and_the_headline_s() -> None:
    """The options of the headline that rank below are added to the usual rows."""
    options = tuple(option(rank=rank, usd=float(rank), hours=20.0 - rank) for rank in range(1, 10))
    rows = build_ranking_rows(recommendation(options=options, cheapest_rank=1, fastest_rank=9), TODAY)
    assert [row.option.rank for row in select_rows(rows, 3)] == [1, 2, 3, 9]


def test_short_runs_are_shown_in_seconds_and_parts_that_are_hidden_by_name() -> None:
    """Minutes below an hour and seconds below a minute, beside hours; no hidden communication is "none"."""
    shown = [interval(option(hours=hours).run_hours, "h:auto")[0] for hours in (13.2, 1.0, 0.4, 0.015)]
    assert shown == ["13.2 h", "1.00 h", "24.0 min", "54.0 s"]
    alone, several = (
        describe_hidden(option(step_parts=parts(0.5, 0.5, 0.2, 0.1, share, 0.1))) for share in (0.0, 0.3)
    )
    assert (alone, several) == ("none", "50.0 ms")


def test_an_hour_that_is_worth_nothing_leaves_the_cheapest_the_best() -> None:
    """After porting too: a faster one that costs 50 cents more is no better value at 0 dollars an hour."""
    tpus = [
        option(rank=rank, accelerator="TPU-v5e", needs_porting=True, usd=usd, hours=hours)
        for rank, usd, hours in ((1, 3.0, 20.0), (2, 3.5, 10.0))
    ]
    constraints = Constraints(value_usd_per_hour=0.0)
    result = recommendation(
        options=tuple(tpus),
        objective="best_value",
        constraints=constraints,
        cheapest_rank=None,
        fastest_rank=None,
    )
    assert [(title, option.rank) for title, option in picks(result)] == [
        ("best value and cheapest after porting", 1),
        ("fastest after porting", 2),
    ]


def test_measured_phases_are_in_the_report() -> None:
    """Those that were measured, under their caption; none without a measurement."""
    measured = profile(measured=make_measured_step())
    assert ("forward", "188 ms") in [(name, median) for name, median, _ in phase_lines(measured)]
    assert "10 optimizer steps measured on NVIDIA RTX A4000\n" in render_terminal(
        recommendation(), profile=measured, as_of=TODAY
    )
    assert phase_lines(profile()) == ()


def test_spot_is_named_once() -> None:
    """Beside the answer, unless a spot machine is among the nearest runs already."""
    best = option(rank=1, usd=1.0, purchase_option="spot")
    for purchase, said in (("on_demand", True), ("spot", False)):
        near = Alternative(
            change="cheapest", flag="--purchase", option=option(rank=1, purchase_option=purchase)
        )
        result = recommendation(best_spot=best, alternatives=(near,))
        beside = " ".join(write_texts_beside(result))
        assert ("Spot is not ranked." in beside) is said, purchase


def test_what_spot_would_save_is_told_of_cheap_runs_too() -> None:
    """Of a run of 50 cents as of one of 50 dollars; a spot machine that saves nothing is only named."""
    for usd in (0.5, 50.0):
        for part, said in ((0.5, True), (1.0, False)):
            result = recommendation(
                options=(option(usd=usd),),
                cheapest_rank=1,
                fastest_rank=1,
                best_spot=option(usd=part * usd, purchase_option="spot"),
            )
            beside = " ".join(write_texts_beside(result))
            assert "Spot is not ranked." in beside
            assert ("50 % less than the cheapest above" in beside) is said
