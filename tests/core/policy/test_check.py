"""One job against its limits, waivers and what 'cannot tell' does."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.policies import DAY, check_small_job, make_mixed_answer, make_priced_inputs, policy_of, waiver
from builders.profiles import gpt_profile, operation
from builders.recommendations import option
from builders.toy_market import book, offer_row, small_job
from trainfare_core.changes.explain_change import PricedJob
from trainfare_core.number_format import percent
from trainfare_core.policy.check import JobCheck, JobInputs, report_unchecked_job, worst_exit_code
from trainfare_core.policy.limit_findings import increase_findings, run_findings
from trainfare_core.policy.policy import JobLimits
from trainfare_core.recommendation import Constraints, Interval

AS_OF = datetime(2026, 11, 24, tzinfo=timezone.utc)


def statuses(job: JobCheck) -> dict[str, str]:
    return {finding.rule: finding.status for finding in job.findings}


def usd_of(job: JobCheck) -> float:
    assert job.check is not None
    assert job.check.best is not None
    return job.check.best.run_usd.mid


def middle_usd() -> float:
    return usd_of(check_small_job(max_usd=1e6))


def test_each_limit_is_reported_by_itself() -> None:
    """Of budget, duration and price of an hour, the one that is broken is named, and the others are kept."""
    check = check_small_job(max_usd=1e6, max_hours=1e-3, max_usd_per_hour=4.0)
    assert statuses(check) == {"max_usd": "kept", "max_hours": "broken", "max_usd_per_hour": "kept"}
    assert (check.verdict, check.exit_code) == ("over", 1)
    levels = {finding.rule: finding.level for finding in check.findings}
    assert levels == {"max_usd": "none", "max_hours": "error", "max_usd_per_hour": "none"}


def test_a_loader_that_the_policy_states_is_priced_before_and_after_a_change() -> None:
    """One sample a second on each of 12 vCPUs: 32 samples take 2.7 s, of the base too."""
    inputs = make_priced_inputs(offer_row())
    inputs = replace(inputs, base=PricedJob(inputs.profile, inputs.book, "base"))
    slow = check_small_job(
        job=inputs, max_usd=1e6, max_increase_percent=1.0, loader_samples_per_s_per_vcpu=1.0
    )
    assert usd_of(slow) > 10 * middle_usd()
    assert statuses(slow) == {"max_usd": "kept", "max_increase_percent": "kept"}
    assert slow.check is not None
    assert slow.check.best is not None
    assert slow.check.best.step_s.mid == pytest.approx(32 / 12, rel=0.01)


def test_the_price_of_an_hour_counts_all_machines() -> None:
    """A machine that is dear by the hour is passed over for one that is not; where none is left, the limit is broken."""
    fast = offer_row(instance_type="h100.1x", accelerator="H100-SXM-80GB", usd_per_hour=8.0)
    job = make_priced_inputs(offer_row(), fast)
    dear = check_small_job(job=job, max_hours=1e6, max_usd_per_hour=8.0)
    cheap = check_small_job(job=job, max_hours=1e6, max_usd_per_hour=7.99)
    assert dear.check is not None
    assert cheap.check is not None
    assert cheap.check.best is not None
    assert cheap.check.best.usd_per_hour == 4.0
    over = check_small_job(job=job, max_usd_per_hour=3.99)
    assert statuses(over) == {"max_usd_per_hour": "broken"}
    assert "4.00 USD an hour, limit 3.99" in over.findings[0].message


@pytest.mark.parametrize(
    ("on_unknown", "level", "code"), [("pass", "note", 0), ("warn", "warning", 0), ("fail", "error", 3)]
)
def test_what_cannot_be_told_does_what_the_policy_says(on_unknown: str, level: str, code: int) -> None:
    """A limit near the median, and a run of unknown length, pass, warn or end with 3; the verdict stays what it is."""
    for job, limit in ((make_priced_inputs(), middle_usd()), (make_priced_inputs(steps=None), 1e6)):
        check = check_small_job(job=job, max_usd=limit, on_unknown=on_unknown)
        assert check.verdict == "cannot_tell"
        assert (check.findings[0].level, check.exit_code) == (level, code)


@pytest.mark.parametrize(("share", "likely"), [(1.35, True), (1.32, False)])
def test_a_median_a_third_over_is_over_by_the_estimate(share: float, likely: bool) -> None:
    """It is not certain, so the verdict and the exit code stay; only the words change."""
    check = check_small_job(max_usd=middle_usd() / share, confidence=0.999999)
    assert (check.verdict, check.exit_code, check.findings[0].likely_over) == ("cannot_tell", 3, likely)
    assert check.check is not None
    assert check.check.likely_over is likely
    assert check.check.reason.startswith("over by the estimate, not certain, against") is likely


def test_on_unknown_never_excuses_a_broken_limit() -> None:
    """Over is over."""
    assert check_small_job(max_usd=0.01, on_unknown="pass").exit_code == 1


def test_a_waiver_passes_its_rule_and_no_other() -> None:
    """The waived limit is reported with owner, date and reason, and does not fail; the other one still does."""
    check = check_small_job(waiver(), max_usd=0.01)
    assert (check.verdict, check.exit_code) == ("waived", 0)
    assert "waived by ml-platform until 2026-11-24: first run" in check.findings[0].message
    both = check_small_job(waiver(), max_usd=0.01, max_hours=1e-3)
    assert statuses(both) == {"max_usd": "waived", "max_hours": "broken"}
    assert both.exit_code == 1


def test_the_other_limits_are_compared_with_the_machine_that_is_best_without_the_waived_one() -> None:
    """With the budget waived, the deadline is kept by a machine that a budget nobody can keep had not chosen."""
    alone = check_small_job(max_hours=1e6)
    assert alone.check is not None
    assert alone.check.best is not None
    hours = alone.check.best.run_hours.high_80 * 1.5
    slow = offer_row(
        instance_type="t4.1x", accelerator="T4-16GB", accelerator_memory_gib=16.0, usd_per_hour=0.01
    )
    job = make_priced_inputs(slow, offer_row())
    assert statuses(check_small_job(job=job, max_usd=1e-6, max_hours=hours))["max_hours"] == "broken"
    check = check_small_job(waiver(), job=job, max_usd=1e-6, max_hours=hours)
    assert statuses(check) == {"max_usd": "waived", "max_hours": "kept"}
    assert check.check is not None
    assert check.check.best is not None
    assert check.check.best.instance_type == "a100.1x"


@pytest.mark.parametrize("limit", [0.01, None])
def test_an_expired_waiver_fails_and_says_so(limit: float | None) -> None:
    """What it covered counts again, broken or not known, and the expiry is a finding of its own."""
    old = waiver(expires=DAY - timedelta(days=1))
    check = check_small_job(old, max_usd=middle_usd() if limit is None else limit)
    assert check.exit_code == (3 if limit is None else 1)
    rule, expiry = check.findings
    assert rule.level == expiry.level == "error"
    assert "waiver of max_usd by ml-platform expired after 2026-11-23 (first run)" in expiry.message


def test_an_expired_waiver_of_a_limit_that_is_kept_only_warns() -> None:
    """It is to be removed; the run itself keeps its limits."""
    check = check_small_job(waiver(expires=date(2020, 1, 1)), max_usd=1e6)
    assert (check.verdict, check.exit_code) == ("within", 0)
    assert check.findings[-1].level == "warning"
    assert check.findings[-1].message.endswith("it is not needed now: remove it")


@pytest.mark.parametrize("limit", [0.01, 1e6])
def test_a_waiver_without_a_near_end_is_a_warning(limit: float) -> None:
    """One year from the day, a leap year's 366 days, is without a word; from there on each check says it."""
    near = check_small_job(waiver(expires=DAY + timedelta(days=366)), max_usd=limit)
    assert [finding.rule for finding in near.findings] == ["max_usd"]
    for until in (DAY + timedelta(days=367), date(9999, 12, 31)):
        check = check_small_job(waiver(expires=until), max_usd=limit)
        assert (check.verdict, check.exit_code) == (near.verdict, 0)
        question = check.findings[-1]
        assert (question.rule, question.status, question.level) == ("waiver", "not_applied", "warning")
        assert f"of max_usd by ml-platform holds until {until}, for more than a year" in question.message


def test_old_prices_warn_or_are_waived() -> None:
    """A warning on prices is a finding that does not fail, and a waiver makes it a note."""
    job = make_priced_inputs(price_warnings=("9 of 9 prices are past the limit",))
    assert [(f.rule, f.level) for f in check_small_job(job=job, max_usd=1e6, age=1).findings][-1] == (
        "max_price_age_days",
        "warning",
    )
    check = check_small_job(waiver("max_price_age_days"), job=job, max_usd=1e6, age=1)
    assert check.findings[-1].status == "waived"
    assert check.exit_code == 0


def test_a_job_that_was_not_checked_names_its_expired_waiver() -> None:
    """Prices past their age, once covered by a waiver, say that it has expired."""
    policy = policy_of(waiver("max_price_age_days", expires=date(2020, 1, 1)), max_usd=5, age=1)
    check = report_unchecked_job(
        policy, "small", rule="max_price_age_days", message="old", exit_code=3, day=DAY
    )
    assert check.exit_code == 3
    assert "expired after 2020-01-01" in check.findings[-1].message


def test_a_run_that_cannot_be_priced_is_waived_only_with_all_its_limits() -> None:
    """Without a length no limit can be compared."""
    unknown = make_priced_inputs(steps=None)
    assert check_small_job(waiver(), job=unknown, max_usd=5).exit_code == 0
    assert check_small_job(waiver(), job=unknown, max_usd=5, max_hours=5).exit_code == 3


def test_increases_count_where_a_base_is_given() -> None:
    """Without a base they are not applied; with one they are broken above the limit, and kept without a change."""
    limits = {"max_increase_usd": 10.0, "max_increase_percent": 25.0}
    assert set(statuses(check_small_job(**limits)).values()) == {"not_applied"}
    assert check_small_job(**limits).exit_code == 0
    check = check_small_job(job=make_priced_inputs(base_steps=36_000), **limits)
    assert [finding.message.split(",")[0] for finding in check.findings] == ["no change in cost"] * 2
    costlier = check_small_job(
        job=make_priced_inputs(base_steps=18_000), max_increase_usd=1e6, max_increase_percent=5.0
    )
    assert statuses(costlier) == {"max_increase_usd": "kept", "max_increase_percent": "broken"}
    assert costlier.exit_code == 1
    assert costlier.check is not None
    assert costlier.check.change is not None
    assert [cause.cause for cause in costlier.check.change.causes] == ["steps"]


def test_a_base_without_a_cost_cannot_tell_an_increase() -> None:
    """What the base costs is unknown, so on_unknown decides about the increase."""
    check = check_small_job(job=make_priced_inputs(base_steps=None), max_usd=1e6, max_increase_usd=5)
    assert statuses(check) == {"max_usd": "kept", "max_increase_usd": "cannot_tell"}
    assert "the data has no length" in check.findings[1].message
    assert check.exit_code == 3


def test_a_waived_increase_passes_and_the_change_is_still_explained() -> None:
    """The waiver takes the limit out of the verdict, not the reasons out of the report."""
    check = check_small_job(
        waiver("max_increase_usd"), job=make_priced_inputs(base_steps=18_000), max_increase_usd=0.01
    )
    assert (check.verdict, check.exit_code) == ("waived", 0)
    assert check.check is not None
    assert check.check.change is not None


def test_dollars_and_hours_are_kept_together() -> None:
    """With a price that may have moved, both are kept less often than either: the tighter limit says so."""
    spot = offer_row(purchase_option="spot", observed_on="2026-11-20")
    alone = check_small_job(job=make_priced_inputs(spot, as_of=AS_OF), max_usd=1e6, max_hours=1e6)
    assert alone.check is not None
    assert alone.check.best is not None
    best = alone.check.best
    limits = {"max_usd": best.run_usd.high_80, "max_hours": best.run_hours.high_80}
    both = check_small_job(job=make_priced_inputs(spot, as_of=AS_OF), **limits)
    assert both.check is not None
    assert both.check.best is not None
    joint = both.check.best.probability_within
    assert joint is not None
    assert joint < 0.899
    assert both.check.verdict == both.verdict == "cannot_tell"
    assert sorted(statuses(both).values()) == ["cannot_tell", "kept"]
    (finding,) = [finding for finding in both.findings if finding.status == "cannot_tell"]
    assert (
        f"together with max_{'hours' if finding.rule == 'max_usd' else 'usd'} with a chance of {percent(joint, 1)}"
        in finding.message
    )


def make_layers_change(layers: int = 18) -> JobInputs:
    """Return a GPT of 12 blocks that gets more of them, and its prices."""
    prices = book(offer_row())
    base = PricedJob(gpt_profile(), prices, "base.json")
    constraints = Constraints(purchase=("on_demand",))
    return JobInputs(profile=gpt_profile(layers=layers), book=prices, asked=constraints, base=base)


def find_ends(job: JobInputs) -> tuple[float, float, float]:
    """Return the lower end, the median and the upper end of the change in percent."""
    check = check_small_job(job=job, max_increase_percent=1)
    assert check.check is not None
    change = check.check.change
    assert change is not None
    assert change.fraction_range is not None
    assert change.change_fraction is not None
    ends = (change.fraction_range.low_80, change.change_fraction, change.fraction_range.high_80)
    return ends[0] * 100, ends[1] * 100, ends[2] * 100


@pytest.mark.parametrize("on_unknown", ["pass", "warn", "fail"])
def test_a_limit_inside_the_interval_of_an_increase_cannot_be_told(on_unknown: str) -> None:
    """At confidence 0.9 the interval is the central 80 %: kept above its upper end, broken below the lower one."""
    job = make_layers_change()
    low, middle, high = find_ends(job)
    assert low < middle < high
    unknown_code = 3 if on_unknown == "fail" else 0
    for limit, status, code in (
        (high + 0.1, "kept", 0),
        (high - 0.1, "cannot_tell", unknown_code),
        (middle, "cannot_tell", unknown_code),
        (low + 0.1, "cannot_tell", unknown_code),
        (low - 0.1, "broken", 1),
    ):
        check = check_small_job(job=job, max_increase_percent=limit, on_unknown=on_unknown)
        assert statuses(check) == {"max_increase_percent": status}
        assert check.exit_code == code
        assert "kept with a chance of " in check.findings[0].message
        assert f"[{low:+.0f} % to {high:+.0f} %]" in check.findings[0].message


def test_a_lower_confidence_tells_an_increase() -> None:
    """At 0.6 a limit a little above the median is kept, a little below it broken: as with the other limits."""
    job = make_layers_change()
    _, middle, _ = find_ends(job)
    job = replace(job, asked=job.asked.model_copy(update={"confidence": 0.6}))
    above = check_small_job(job=job, max_increase_percent=middle + 2.5, confidence=0.6)
    below = check_small_job(job=job, max_increase_percent=middle - 2.5, confidence=0.6)
    assert statuses(above) == {"max_increase_percent": "kept"}
    assert statuses(below) == {"max_increase_percent": "broken"}


def test_the_same_job_keeps_every_limit_on_increases() -> None:
    """A clean tree passes a limit of zero, at any confidence."""
    job = make_layers_change(12)
    limits = {"max_increase_percent": 0.0, "max_increase_usd": 0.0}
    check = check_small_job(job=job, confidence=0.99, **limits)
    assert (check.verdict, check.exit_code) == ("within", 0)
    assert [finding.message.split(",")[0] for finding in check.findings] == ["no change in cost"] * 2


@given(base=st.floats(0.01, 1e6), change=st.floats(-0.9, 3.0), limit=st.floats(0, 300))
def test_percent_and_dollars_of_one_increase_agree(base: float, change: float, limit: float) -> None:
    """A limit in percent of the base and the same one in dollars have one answer, away from a cent's rounding."""
    usd = base * (1 + change)
    if abs(usd - base * (1 + limit / 100)) < 0.02:
        return
    limits = JobLimits(max_increase_percent=limit, max_increase_usd=base * limit / 100)
    dollars, percent = increase_findings(limits, usd, base)
    assert dollars.status == percent.status
    assert (dollars.status == "broken") == (usd > base * (1 + limit / 100) and usd - base >= 0.005)


@pytest.mark.parametrize(
    ("usd", "status", "words"),
    [
        (130.0, "kept", "from 100.00 to 130.00 USD"),
        (130.01, "broken", "from 100.00 to 130.01 USD"),
        (100.006, "kept", "from 100.00 to 100.01 USD"),
        (100.004, "kept", "no change in cost"),
        (99.996, "kept", "no change in cost"),
        (60.0, "kept", "from 100.00 to 60.00 USD"),
    ],
)
def test_an_increase_is_broken_by_more_than_its_limit(usd: float, status: str, words: str) -> None:
    """Of a base of 100 USD: exactly 30 more are within 30; half a cent either way is none; a saving is told as one."""
    for finding in increase_findings(JobLimits(max_increase_usd=30, max_increase_percent=30), usd, 100.0):
        assert finding.status == status
        assert finding.message.startswith(words)


def test_an_increase_from_nothing_is_above_every_percentage() -> None:
    """A base that costs nothing has no percentage; any cost is more."""
    (finding,) = increase_findings(JobLimits(max_increase_percent=1e9), 5.0, 0.0)
    assert finding.status == "broken"


@pytest.mark.parametrize(
    ("codes", "worst"),
    [([], 0), ([0, 0], 0), ([0, 3], 3), ([3, 1], 1), ([1, 2], 2), ([2, 4, 1], 4)],
)
def test_the_worst_exit_code(codes: list[int], worst: int) -> None:
    """4, 2, 1, 3, 0: a gate that does not work is worse than a limit that is broken, which is worse than not knowing."""
    assert worst_exit_code(codes) == worst


def test_the_answer_has_the_worst_code_and_equal_bytes() -> None:
    """All jobs are in the answer, whatever became of the others."""
    answer = make_mixed_answer()
    assert [job.verdict for job in answer.jobs] == ["within", "over", "waived", "not_checked"]
    assert answer.exit_code == 2
    assert answer.to_json() == make_mixed_answer().to_json()


def test_only_increase_limits_choose_the_cheapest_machine() -> None:
    """Without a limit on the run itself, its cost is that of the cheapest machine."""
    dear = offer_row(instance_type="h100.1x", accelerator="H100-SXM-80GB", usd_per_hour=80.0)
    assert usd_of(
        check_small_job(job=make_priced_inputs(dear, offer_row()), max_increase_usd=1)
    ) == pytest.approx(middle_usd())


@pytest.mark.parametrize(
    ("limit", "kept"),
    [(6.0, "with a chance of 10.0 %"), (10.0, "with a chance of 50.0 %"), (40.0, "with a chance of 90.0 %")],
)
def test_a_lopsided_interval_is_kept_as_often_as_its_ends_say(limit: float, kept: str) -> None:
    """Of a run on spot machines: 6 to 40 h about a median of 10 h; the chance of both limits says nothing of one alone."""
    best = option(run_hours=Interval(mid=10.0, low_80=6.0, high_80=40.0), probability_within=0.05)
    hours = run_findings(JobLimits(max_hours=limit, max_usd=0.01), best, 0.9)[1]
    assert kept in hours.message


@pytest.mark.parametrize("limit", [0.03, 0.3, 1.3])
def test_a_guess_keeps_and_breaks_no_limit_near_it(limit: float) -> None:
    """
    Lookups in tables fill the step, which no measured runs are like.

    Whether the run keeps its dollars ($0.19 to $0.55) and its hours (0.05 to 0.14) is unknown up to ten times beyond
    these intervals, and the finding names the nearest runs. The price of an hour is known.
    """
    lookups = operation(kind="embedding", name="aten.embedding", shape=(1,), flops=0, bytes_read=10**9)
    job = replace(make_priced_inputs(), profile=small_job(operations=(lookups,)))
    check = check_small_job(job=job, max_usd=limit, max_hours=limit, max_usd_per_hour=4.0)
    assert statuses(check) == {
        "max_usd": "cannot_tell",
        "max_hours": "cannot_tell",
        "max_usd_per_hour": "kept",
    }
    for finding in check.findings[:2]:
        assert "unknown, because nothing like it was measured: nearest is" in finding.message
    assert (check.verdict, check.exit_code) == ("cannot_tell", 3)
    assert check.check is not None
    assert check.check.verdict == "cannot_tell"
    assert "a guess, because nothing like it was measured" in check.check.reason
    assert check_small_job(job=job, max_usd_per_hour=4.0).verdict == "within"


@pytest.mark.parametrize(("limit", "verdict"), [(0.003, "over"), (100.0, "within")])
def test_a_limit_far_from_a_guess_is_decided(limit: float, verdict: str) -> None:
    """No measured run was off by so much: a run of 33 cents keeps $100."""
    lookups = operation(kind="embedding", name="aten.embedding", shape=(1,), flops=0, bytes_read=10**9)
    job = replace(make_priced_inputs(), profile=small_job(operations=(lookups,)))
    check = check_small_job(job=job, max_usd=limit, max_hours=limit)
    assert check.verdict == verdict
    assert check.check is not None
    assert check.check.verdict == verdict
    assert "a guess, because" in check.check.reason
