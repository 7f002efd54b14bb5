"""Numbers, names, dates and ages as text."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.recommendations import interval as make_interval
from builders.recommendations import option
from trainfare.report.price_age import PriceDate, price_age, price_ages
from trainfare.report.wording import (
    describe_unused_devices,
    duration,
    exact_usd,
    hardware_label,
    interval,
    short_count,
    usd,
)
from trainfare_core.clouds import service_label
from trainfare_core.recommendation import TrainerArguments

TODAY = date(2026, 11, 24)
NOON = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0.0, "$0"), (1e-12, "<1 cent"), (0.00075, "<1 cent"), (0.0099, "<1 cent"), (0.01, "$0.010"), (0.0314, "$0.031"), (0.42, "$0.42"), (12.4, "$12.40"),
     (99.99, "$99.99"), (99.996, "$100"), (412.35, "$412"), (1_234_567.0, "$1,234,567")],
)  # fmt: skip
def test_rounding_of_dollars(amount: float, shown: str) -> None:
    """Cents up to a hundred dollars, whole dollars above, two figures below ten cents, and none below one."""
    assert usd(amount) == shown


@settings(deadline=None)
@given(st.floats(min_value=1e-9, max_value=1e9))
def test_a_dollar_amount_reads_back_within_its_rounding(amount: float) -> None:
    """The shown amount is within 6 % of the real one, and no positive amount is shown as 0."""
    assert float(exact_usd(amount).strip("$").replace(",", "")) == pytest.approx(amount, rel=0.06)


@pytest.mark.parametrize(
    ("seconds", "unit", "shown"),
    [(0.0, "auto", "0.00 s"), (0.0123, "auto", "12.3 ms"), (1.0, "auto", "1.00 s"), (200.0, "auto", "3.33 min"), (60.0, "auto", "1.00 min"),
     (3600.0, "auto", "1.00 h"), (3600.0 * 27_778, "h", "27,778 h"), (47_520.0, "h", "13.2 h"), (36.0, "h", "0.01 h"),
     (0.0995, "s", "0.10 s"), (0.0994, "s", "0.099 s")],
)  # fmt: skip
def test_durations_have_three_figures_and_a_fitting_unit(seconds: float, unit: str, shown: str) -> None:
    """The unit follows the size, or the column it stands in."""
    assert duration(seconds, unit) == shown


def test_an_interval_below_a_cent_is_said_once() -> None:
    """Of two ends that read alike there is one."""
    assert interval(make_interval(0.001), "usd") == ("<1 cent", "<1 cent")


def test_intervals_name_their_unit_once() -> None:
    """The median, and the interval with one unit; two where the ends differ."""
    assert interval(make_interval(10.0), "h:h") == ("10.0 h", "7.74 – 12.9 h")
    assert interval(make_interval(1.0), "s") == ("1.00 s", "774 ms – 1.29 s")
    assert interval(make_interval(10.0), "usd") == ("$10.00", "$7.74 – $12.92")
    assert interval(make_interval(10.0), "gib") == ("10.0", "7.74 – 12.9")


def test_counts_and_names_in_words() -> None:
    """Large counts get a prefix, known clouds their names, unknown ones keep theirs, fractions show."""
    assert [short_count(count) for count in (7, 124_475_904, 7_010_000_000)] == ["7", "124 M", "7.01 B"]
    assert [short_count(count, "FLOP") for count in (7, 3.98e9, 1.5e15, 2.5e18)] == [
        "7 FLOP",
        "3.98 GFLOP",
        "1.50 PFLOP",
        "2.50 EFLOP",
    ]
    assert service_label("aws", "sagemaker") == "AWS SageMaker"
    assert service_label("lambda", "lambda") == "lambda"
    assert hardware_label(option(accelerator_count=0.25)) == "0.25 × L4-24GB"


@pytest.mark.parametrize(
    ("observed_on", "text", "stale"),
    [("2026-07-20", "127 days old", True), ("2026-11-23", "1 day old", True), ("2026-11-24", "0 days old", False),
     ("2026-10-24", "31 days old", True), ("2026-03", "8 months old", True), ("2026-11", "0 to 23 days old", True),
     ("2026-10", "24 to 54 days old", True), ("2025", "328 to 692 days old", True), ("2026-12-01", "dated after 2026-11-24", True),
     ("2026-07-20T10:00:00Z", "127 days old", True), ("2026-13", "age unknown", True), ("soon", "age unknown", True),
     ("٢٠٢٦-07-20", "age unknown", True)],
)  # fmt: skip
def test_age_of_a_date(observed_on: str, text: str, stale: bool) -> None:
    """A month counts as a range whose older end decides; an unreadable date is stale."""
    age = price_age(PriceDate(observed_on), TODAY)
    assert (age.text, age.stale) == (text, stale)


@pytest.mark.parametrize(
    ("hours", "option", "text", "stale"),
    [(0.5, "on_demand", "less than 1 hour old", False), (0.99, "spot", "less than 1 hour old", False), (1.5, "spot", "1 hour old", True),
     (24, "on_demand", "24 hours old", False), (24.5, "on_demand", "24 hours old", True), (47, "reserved_1y", "47 hours old", True),
     (48, "spot", "2 days old", True), (-0.5, "spot", "less than 1 hour old", False), (-2, "on_demand", "dated after 2026-11-24", True)],
)  # fmt: skip
def test_age_of_a_fetched_price(hours: float, option: str, text: str, stale: bool) -> None:
    """24 hours on demand, 1 hour spot; a fetch from the future is never fresh."""
    fetched = (NOON - timedelta(hours=hours)).isoformat()
    age = price_age(PriceDate("2020-01-01", fetched, option), NOON)
    assert (age.text, age.stale) == (text, stale)


def test_a_spot_price_with_only_a_date_is_stale_and_a_contract_is_not() -> None:
    """Today's date may be 23 hours ago; a negotiated rate of last year still holds."""
    assert price_age(PriceDate("2026-11-24", None, "spot"), NOON).stale
    assert not price_age(PriceDate("2025-01-01", by_contract=True), NOON).stale
    assert price_age(PriceDate("2026-11-24", "not a moment"), NOON).text == "age unknown"


@settings(deadline=None)
@given(st.dates(), st.dates(), st.sampled_from(["%Y-%m-%d", "%Y-%m", "%Y"]))
def test_ages_are_never_negative_and_old_is_never_fresh(observed: date, as_of: date, precision: str) -> None:
    """With the clock set to any day, no age is negative and nothing older than a day counts as fresh."""
    age = price_age(PriceDate(observed.strftime(precision).zfill(4)), as_of)
    assert not age.text.startswith("-")
    assert " -" not in age.text
    if as_of - observed > timedelta(days=1) or observed > as_of + timedelta(days=366):
        assert age.stale


def test_many_dates_become_one_phrase() -> None:
    """One date is one age; several are the oldest and the newest."""
    assert price_ages(frozenset({PriceDate("2026-07-20")}), TODAY) == "prices of 2026-07-20, 127 days old"
    dates = {PriceDate("2026-11-20"), PriceDate("2026-03"), PriceDate("2026-07-20")}
    both = price_ages(frozenset(dates), TODAY)
    assert both == "prices of 2026-03 (8 months old) to 2026-11-20 (4 days old)"
    fetched = price_ages(frozenset({*dates, PriceDate("2025-06-05", "2026-11-24T09:00:00Z")}), NOON)
    assert fetched == "prices of 2026-03 (8 months old) to 2026-11-24 (3 hours old)"


def test_accelerators_that_a_plan_leaves_unused_are_told() -> None:
    """Of each machine, where the plan is known."""

    def get_text(devices: int | None) -> str:
        trainer = None if devices is None else TrainerArguments(
            devices=devices, num_nodes=1, strategy="ddp", precision="32-true", accumulate_grad_batches=1, batch_size=1
        )  # fmt: skip
        return describe_unused_devices(option(accelerator_count=8.0, trainer=trainer))

    assert [get_text(devices) for devices in (None, 8, 4)] == [
        "",
        "",
        "It uses 4 of 8 accelerators of each machine.",
    ]
