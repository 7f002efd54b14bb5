"""What a change of a job or of a policy costs, and what a policy says of it; see `builders.recorded`."""

from __future__ import annotations

import random
from datetime import date, timedelta
from typing import Any

from builders.policies import check_small_job, make_mixed_answer, make_priced_inputs, policy_of, waiver
from builders.profiles import gpt_profile, profile
from builders.recorded import answer_or_error, compare_with_recorded
from builders.toy_market import block_job, book, decoder_job, in_precisions, offer_row
from trainfare_core.changes.explain_change import PricedJob, UnknownJob, explain_change
from trainfare_core.job_profile import JobProfile, MeasuredStep, ModuleWork, ParallelFacts, Quantiles
from trainfare_core.policy.limit_findings import increase_findings
from trainfare_core.policy.policy import AllowList, JobLimits, Policy, PolicyJob
from trainfare_core.policy.policy_change import list_policy_changes, rule_by_base
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.recommendation import Constraints

OFFERS = (
    offer_row(instance_type="t4", accelerator="T4-16GB", accelerator_memory_gib=16.0, usd_per_hour=0.5),
    offer_row(),
    offer_row(instance_type="h100.8x", accelerator="H100-SXM-80GB", accelerator_count=8.0, usd_per_hour=40.0),
    offer_row(instance_type="l4", accelerator="L4-24GB", usd_per_hour=0.8, purchase_option="spot"),
)
HIGHER_PRICED = tuple({**row, "usd_per_hour": row["usd_per_hour"] * 1.3} for row in OFFERS)
REQUEST = Request(Constraints(max_usd=1e9, purchase=("on_demand", "spot")))


def with_plan(job: JobProfile, **fields: Any) -> JobProfile:
    return job.model_copy(update={"plan": job.plan.model_copy(update=fields)})


def with_modules(job: JobProfile, **flops: int) -> JobProfile:
    modules = tuple(
        ModuleWork(module=name.replace("_", "."), phase=phase, flops=count * (2 if phase == "backward" else 1), bytes_moved=count // 50)
        for name, count in flops.items()
        for phase in ("forward", "backward")
    )  # fmt: skip
    return job.model_copy(update={"modules": modules})


def make_measured(device: str, step_s: float) -> MeasuredStep:
    step = Quantiles(median_s=step_s, p10_s=step_s * 0.9, p90_s=step_s * 1.1)
    return MeasuredStep(device_name=device, device_kind="cuda", steps=10, step=step)


def list_jobs() -> dict[str, JobProfile]:
    gpt, resnet = gpt_profile(), profile(batch_size=128)
    return {
        "gpt": with_modules(gpt, head=10**11, layers_0=3 * 10**11, layers_1=3 * 10**11),
        "gpt of more layers": with_modules(
            gpt_profile(layers=16), head=10**11, layers_0=3 * 10**11, layers_1=4 * 10**11, layers_2=9 * 10**10
        ),
        "wider gpt": gpt_profile(width=1024, heads=16),
        "gpt of batch 16": gpt_profile(batch_size=16),
        "gpt fp32": gpt_profile(dtype="fp32"),
        "gpt with dropout": gpt_profile(attention="math", dropout=True),
        "gpt of long texts": gpt_profile(sequence=2048),
        "gpt on two devices": gpt.model_copy(update={"parallel": ParallelFacts(strategy="ddp", devices=2)}),
        "gpt accumulated": gpt.model_copy(update={"parallel": ParallelFacts(accumulate_grad_batches=4)}),
        "longer gpt": with_plan(
            gpt, optimizer_steps=150_000, validation_batches=9000, checkpoint_every_n_steps=500
        ),
        "gpt of no length": with_plan(gpt, optimizer_steps=None, unknown_because="no length"),
        "gpt in precisions": in_precisions(gpt, "32-true", "16-mixed"),
        "resnet": resnet,
        "resnet measured": resnet.model_copy(update={"measured": make_measured("Tesla T4", 0.5)}),
        "resnet measured again": resnet.model_copy(
            update={"measured": make_measured("NVIDIA A100-SXM4-80GB", 0.2)}
        ),
        "resnet fp16": profile(batch_size=128, dtype="fp16"),
        "decoder": decoder_job(),
        "blocks": block_job(steps=9000),
    }


def test_changes_between_jobs() -> None:
    draws, answers, jobs = random.Random(4), {}, list_jobs()
    names = list(jobs)
    pairs = [("gpt", name) for name in names] + [
        (draws.choice(names), draws.choice(names)) for _ in range(14)
    ]
    for index, (base, head) in enumerate(pairs):
        before, after = book(*OFFERS), book(*draws.choice([OFFERS, HIGHER_PRICED, OFFERS[:2]]))
        first: PricedJob | UnknownJob = PricedJob(jobs[base], before, "base", ("a note",))
        if index % 14 == 3:
            first = UnknownJob("base", "it was not traced", ("a note",))
        change = explain_change(first, PricedJob(jobs[head], after if index % 3 else before, "head"), REQUEST)
        answers[f"{index} {base} -> {head}"] = change
    compare_with_recorded("changes", answers)


def draw_policy(draws: random.Random) -> Policy:
    """Draw a policy of one to three jobs; limits are often the same as in another draw."""

    def sometimes(*values: Any) -> Any:
        return draws.choice([None, *values])

    jobs = {}
    for name in draws.sample(["small", "net", "large"], draws.choice([1, 2, 3])):
        limits = {
            "max_usd": sometimes(1.0, 10.0), "max_hours": sometimes(2.0, 20.0), "max_usd_per_hour": sometimes(3.0, 30.0),
            "max_increase_usd": sometimes(5.0), "max_increase_percent": sometimes(10.0), "confidence": sometimes(0.8, 0.95),
            "max_nodes": sometimes(2, 8), "on_unknown": sometimes("pass", "warn"),
        }  # fmt: skip
        limits["max_usd"] = limits["max_usd"] or 7.0
        jobs[name] = PolicyJob(
            target="train.py:job", allow=AllowList(providers=sometimes(("aws",))), **limits
        )
    given = {
        "max_price_age_days": sometimes(30.0, 90.0), "on_stale": sometimes("warn", "fail"), "lock": sometimes("prices.lock"),
        "max_nodes": sometimes(4, 16), "allow": draws.choice([AllowList(), AllowList(regions=("us-east-1",))]),
    }  # fmt: skip
    return Policy(
        jobs=jobs,
        confidence=draws.choice([0.8, 0.9]),
        on_policy_change=draws.choice(["warn", "fail"]),
        all_clouds=draws.random() < 0.3,
        allow_changes=draws.choice([(), ("plan",), ("plan", "precision")]),
        max_run_hours=draws.choice([100.0, 1440.0]),
        waivers=tuple(
            waiver(rule, job=draws.choice(list(jobs)), expires=date(2026, 11, draws.choice([1, 24, 28])))
            for rule in draws.sample(["max_usd"], draws.choice([0, 1]))
        ),
        **{name: value for name, value in given.items() if value is not None},
    )


def test_changes_of_policies() -> None:
    draws, answers = random.Random(5), {}
    for index in range(60):
        base, head = draw_policy(draws), draw_policy(draws)
        answers[str(index)] = list_policy_changes(base, head)
        if index % 6 == 0:
            answers[f"{index} ruled"] = rule_by_base(base, head)
            answers[f"{index} constraints"] = [
                base.constraints_of(job).model_dump(exclude_defaults=True) for job in base.jobs.values()
            ]
    answers["waivers"] = [
        [waiver(expires=date(2026, 11, 24)).has_expired(date(2026, 11, 24) + timedelta(days=days)) for days in (-1, 0, 1)],
        policy_of(waiver(), max_usd=1.0).waivers_of("small"),
    ]  # fmt: skip
    compare_with_recorded("policy_changes", answers)


def test_checks_of_drawn_limits() -> None:
    draws, answers = random.Random(6), {}
    rows = (
        offer_row(),
        offer_row(instance_type="t4", accelerator="T4-16GB", accelerator_memory_gib=16.0, usd_per_hour=0.5),
    )
    for index in range(50):
        limits = {
            name: draws.choice(values)
            for name, values in {
                "max_usd": (0.01, 2.0, 4.0, 10.0), "max_hours": (0.01, 0.8, 1.2, 9.0), "max_usd_per_hour": (0.5, 4.0),
                "max_increase_usd": (0.0, 1.0, 3.0), "max_increase_percent": (0.0, 20.0, 200.0), "confidence": (0.5, 0.99),
                "max_nodes": (1,),
            }.items()
            if draws.random() < (0.55 if name != "confidence" else 0.2)
        }  # fmt: skip
        if not set(limits) - {"confidence", "max_nodes"}:
            limits["max_usd"] = 5.0
        inputs = make_priced_inputs(
            *draws.choice([rows, rows[:1]]),
            steps=draws.choice([36_000, 36_000, 9000, None]),
            base_steps=draws.choice([0, 30_000, 36_000, None]),
            price_warnings=draws.choice([(), ("aws/ec2: 90 days old",)]),
        )
        waivers = [
            waiver(rule, expires=draws.choice([date(2026, 11, 23), date(2026, 11, 24)]))
            for rule in draws.sample(
                ["max_usd", "max_hours", "max_increase_usd", "max_price_age_days"], draws.choice([0, 0, 1, 2])
            )
        ]
        on_unknown = draws.choice(["pass", "warn", "fail"])
        check = answer_or_error(
            lambda waivers=waivers, inputs=inputs, limits=limits, on_unknown=on_unknown: check_small_job(
                *waivers, job=inputs, on_unknown=on_unknown, **limits
            )
        )
        if not isinstance(check, str):
            best = check.check.best if check.check else None
            check = {
                **check.model_dump(exclude={"check"}, exclude_none=True),
                "best": best and [best.instance_type, best.run_usd, best.run_hours, best.probability_within],
                "judged": check.check and check.check.model_dump(exclude={"best", "job"}, exclude_none=True),
            }
        answers[str(index)] = check
    answers["mixed"] = [make_mixed_answer().exit_code, [job.verdict for job in make_mixed_answer().jobs]]
    for usd, base_usd in (
        (0.0, 0.0),
        (1.0, 0.0),
        (110.0, 100.0),
        (110.001, 100.0),
        (150.0, 100.0),
        (99.0, 100.0),
        (5.0, None),
    ):
        answers[f"{usd} after {base_usd}"] = increase_findings(
            JobLimits(max_increase_percent=10, max_increase_usd=10), usd, base_usd
        )
    answers["unknown base"] = increase_findings(
        JobLimits(max_increase_percent=10), 1.0, None, "it was not traced"
    )
    compare_with_recorded("policy_checks", answers)
