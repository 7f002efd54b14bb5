"""`trainfare offers` and `trainfare prices status`: what they print, and how they end."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import date, datetime, timezone

import pytest

from builders.cli import capture_main
from builders.offers import book_of, offer_row, small_market
from trainfare.cli.options import moment
from trainfare.report.offers import accelerators_table, offers_csv, offers_table, status_table
from trainfare_core.errors import InputError, NoOffersError, UnknownNameError
from trainfare_core.prices.explain import PriceExplanation
from trainfare_core.prices.listing import OffersReport, Query, list_accelerators, select
from trainfare_core.prices.status import PricesStatus, price_status
from trainfare_providers.snapshot import SnapshotProvider

DAY = date(2026, 8, 1)
NOW = datetime(2026, 8, 1, 12, tzinfo=timezone.utc)
HOSTILE = "p4d\x1b[31m.evil\x07\u202e\nrow [bold]x[/bold] \x9b2J"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the real command line and return its exit code, standard output and standard error."""
    result = capture_main(capsys, *arguments)
    return result.exit_code, result.stdout, result.stderr


def test_table_shows_price_date_source_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """Each row has its price per machine and per accelerator, its date and source class; the foot says the rest."""
    code, out, err = run(
        capsys,
        "offers",
        "--accelerator",
        "h100",
        "--region",
        "us-east-1",
        "--purchase",
        "on_demand",
        "--machines",
        "--limit",
        "2",
    )
    assert (code, err) == (0, "")
    (line,) = (line for line in out.splitlines() if "aws:p5.4xlarge@us-east-1" in line)
    assert line.split()[:2] == ["6.8800", "6.8800"]
    assert "2026-0" in line
    assert "snapshot: " in line
    assert re.search(
        r"^2 of \d+ matching offers shown; USD; prices dated 2026-0\d\S* to 2026-1", out, re.MULTILINE
    )


def test_json_is_the_published_model(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON stands alone on standard output, is versioned, and reads back into the model."""
    code, out, _ = run(
        capsys, "offers", "--provider", "gcp", "--service", "tpu", "--limit", "3", "--format", "json"
    )
    assert code == 0
    report = OffersReport.model_validate_json(out)
    assert json.loads(out)["schema_version"] == 1
    assert (report.matched, report.shown, len(report.offers)) == (800, 3, 3)
    assert report.query.providers == ("gcp",)
    assert all(offer.vcpus is None and offer.observed_on_estimated for offer in report.offers)


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_no_name_is_broken_in_a_narrow_terminal(width: int) -> None:
    """Every table is as narrow as the terminal, and has each name whole: columns are left out, and said, before that."""
    book = SnapshotProvider().load()
    query = Query(accelerators=("H100-SXM-80GB",), regions=("us-east-1",), purchase=("on_demand",))
    wide, narrow = (
        (
            accelerators_table(list_accelerators(book, Query()), width=columns),
            offers_table(select(book, query), as_of=DAY, width=columns),
            status_table(price_status(book, as_of=NOW), width=columns),
        )
        for columns in (1000, width)
    )
    for whole, text in zip(wide, narrow, strict=True):
        table = re.split(r"\n(?:not shown|\[1\]|Reserved|as of)", text)[0]
        assert max(map(len, table.splitlines())) <= width
        # A word that the wide table does not have is a part of one.
        assert {word for word in table.split() if word.strip("─")} <= set(whole.split())


def test_offers_has_a_row_for_each_accelerator() -> None:
    """The lowest price of the whole device by purchase option; the cheapest cloud first, and its region."""
    book = book_of(
        offer_row(usd_per_hour=16.0),
        offer_row(region="eu-west-1", usd_per_hour=12.0, purchase_option="reserved_3y"),
        offer_row(provider="gcp", service="gce", instance_type="a2", region="us-west1", usd_per_hour=8.0),
        offer_row(purchase_option="spot", usd_per_hour=4.0),
    )
    (prices,) = list_accelerators(book, Query())
    assert prices.providers == ("gcp", "aws")
    row = accelerators_table([prices]).splitlines()[3]
    assert row.split() == ["A100-SXM-40GB", "40", "1.00", "0.50", "1.50", "3y", "gcp,", "aws", "us-west1"]


def test_instance_type_lists_its_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """It is a filter as of `recommend`, and lists rows; without it a row is of an accelerator."""
    code, out, _ = run(capsys, "offers", "--instance-type", "p5.48xlarge", "--limit", "3")
    assert code == 0
    assert out.count("aws:p5.48xlarge@") == 3
    code, out, _ = run(capsys, "offers", "--accelerator", "H100")
    assert code == 0
    assert "@" not in out
    assert {line.split()[0] for line in out.splitlines() if line.startswith(" H100")} == {
        "H100-SXM-80GB",
        "H100-NVL-94GB",
    }


def test_a_machine_under_two_names_is_one_row() -> None:
    """At one price in one place that with the faster network stays; another price, or a name asked for, is a row."""
    plain = offer_row(provider="azure", service="azure_vm", instance_type="ND96ams", network_gbit_per_s=None)
    fast = {**plain, "instance_type": "ND96amsr", "network_gbit_per_s": 1600.0}
    other = {**plain, "region": "westeurope", "usd_per_hour": 30.0}
    book = book_of(plain, fast, other)
    assert [(row.instance_type, row.region) for row in select(book, Query()).offers] == [
        ("ND96amsr", "us-east-1"),
        ("ND96ams", "westeurope"),
    ]
    (asked,) = select(book, Query(instance_types=("ND96ams",), regions=("us-east-1",))).offers
    assert asked.instance_type == "ND96ams"


def test_limit_zero_shows_all() -> None:
    """--limit 0 is no limit."""
    report = select(small_market(), Query(), limit=0)
    assert (report.matched, report.shown) == (7, 7)


def test_sort_by_memory_puts_the_largest_machine_first() -> None:
    """The order is the asked one, and names in the query are the book's."""
    report = select(small_market(), Query(sort="memory", accelerators=("h100", "a100-sxm-40gb")), limit=1)
    assert report.offers[0].machine == "aws:p5.48xlarge@us-east-1"
    assert report.query.accelerators == ("H100-SXM-80GB", "A100-SXM-40GB")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--provider", "awz"), 2, "near names: aws"),
        (("--region", "us-est-1"), 2, "near names: us-"),
        (("--accelerator", "H10"), 2, "H100-SXM-80GB"),
        (("--service", "ec3"), 2, "near names: ec2"),
        (("--purchase", "spots"), 2, "near names: spot"),
        (("--max-usd-per-hour", "nan"), 2, "above 0"),
        (("--max-usd-per-hour", "-1"), 2, "above 0"),
        (("--limit", "-1"), 2, "limit"),
        (("--provider", "aws", "--accelerator", "TPU-v5p"), 3, "matches provider aws, accelerator TPU-v5p"),
        (("--max-usd-per-hour", "0.001"), 3, "at most 0.001 USD per hour"),
    ],
)
def test_bad_questions_end_with_the_documented_code(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str
) -> None:
    """Unknown names and bad numbers are 2 with a hint, a fair question without an answer is 3."""
    ended, out, err = run(capsys, "offers", *arguments)
    assert (ended, out) == (code, "")
    assert words in err


def test_errors_are_ours() -> None:
    """The same ends as exceptions, for callers in Python."""
    with pytest.raises(UnknownNameError):
        select(small_market(), Query(regions=("mars",)))
    with pytest.raises(InputError):
        select(small_market(), Query(max_usd_per_hour=0.0))
    with pytest.raises(NoOffersError, match="drop a filter"):
        select(small_market(), Query(providers=("aws",), services=("tpu",)))


def test_caveats_and_estimated_dates_are_footnotes() -> None:
    """A doubtful price is marked in its row and explained once below the table."""
    doubts = {"caveat": "read off a napkin", "observed_on_estimated": True}
    book = book_of(offer_row(**doubts), offer_row(region="x", **doubts), offer_row(region="y"))
    text = offers_table(select(book, Query()), as_of=DAY)
    assert text.count("2026-07-20 est. [1]") == 2
    assert text.count("[1] read off a napkin") == 1
    assert "est.: the source gives no date" in text


def test_every_way_to_buy_and_the_interruption_band_are_shown() -> None:
    """Spot, reserved, savings plans and capacity blocks stand beside on demand, spot with its band where known."""
    ways = ("spot", "reserved_1y", "reserved_3y", "savings_1y", "savings_3y", "capacity_block")
    rows = [offer_row(purchase_option=way, usd_per_hour=5.0) for way in ways[1:]]
    book = book_of(*rows, offer_row(purchase_option="spot", usd_per_hour=9.0, interruption_band="10-15%"))
    text = offers_table(select(book, Query()), as_of=DAY)
    assert all(way in text for way in ways)
    assert "spot, interrupted 10-15%" in text


def test_hostile_names_cannot_draw_on_the_terminal() -> None:
    """Escapes, control bytes and bidirectional marks are gone, line breaks too, and rich markup is only text."""
    book = book_of(offer_row(instance_type=HOSTILE, caveat=HOSTILE, zone=HOSTILE), origin=HOSTILE)
    for text in (
        offers_table(select(book, Query()), as_of=DAY),
        status_table(price_status(book, as_of=NOW, problems=(HOSTILE,))),
    ):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
        assert "[bold]x[/bold]" in text
    assert offers_table(select(book, Query()), as_of=DAY).count("\n") == 5


@pytest.mark.parametrize("start", "=+-@")
def test_csv_cells_are_no_formulas(start: str) -> None:
    """A spreadsheet that opens the CSV calculates nothing, whatever a source or a user writes; numbers stay numbers."""
    text = f"{start}cmd('calc')"
    free = ("instance_type", "region", "zone", "source", "sku", "caveat")
    book = book_of(offer_row(**dict.fromkeys(free, text)), origin=text)
    (row,) = csv.DictReader(io.StringIO(offers_csv(select(book, Query()))))
    shown = {name: cell for name, cell in row.items() if "cmd" in cell}
    assert set(shown) >= {"instance_type", "region", "zone", "source", "caveat", "origin"}
    assert {name: cell[0] for name, cell in shown.items() if cell[0] != "'"}.keys() <= {"machine"}
    assert shown["caveat"] == f"'{text}"
    assert row["usd_per_hour"] == "21.957642"


def test_status_counts_and_ages(capsys: pytest.CaptureFixture[str]) -> None:
    """Each service has its rows, dates, age on the day asked for, and what became of the rows read."""
    code, out, _ = run(capsys, "prices", "status", "--as-of", "2026-11-26", "--format", "json")
    assert code == 0
    services = {(s.provider, s.service): s for s in PricesStatus.model_validate_json(out).services}
    azure = services["azure", "azure_vm"]
    assert (azure.newest, azure.age_days) == ("2026-11-18", 8)
    assert (azure.rows_read, azure.accepted, azure.filtered, azure.quarantined) == (1057, 1057, (), ())
    code, out, _ = run(capsys, "prices", "status", "--as-of", "2026-08-01", "--format", "json")
    google = {(s.provider, s.service): s for s in PricesStatus.model_validate_json(out).services}[
        "gcp", "gce"
    ]
    assert google.age_days == 0
    assert google.rows_after_as_of > 1400  # read on 2026-08-20 and later
    code, out, _ = run(capsys, "prices", "status", "--as-of", "2026-08-01")
    assert code == 0
    assert "as of 2026-08-01 23:59 UTC: 6,739 prices, " in out
    assert "azure/azure_vm" in out


def test_status_without_a_day_uses_today(capsys: pytest.CaptureFixture[str]) -> None:
    """The default is the clock's day: no age is negative, whatever it says."""
    code, out, _ = run(capsys, "prices", "status", "--format", "json")
    assert code == 0
    assert all(service.age_days >= 0 for service in PricesStatus.model_validate_json(out).services)


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "20260801T00"])
def test_status_refuses_a_malformed_date(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """A bad --as-of is bad usage."""
    code, out, err = run(capsys, "prices", "status", "--as-of", text)
    assert (code, out) == (2, "")
    assert "YYYY-MM-DD" in err


@pytest.mark.parametrize(("day", "age"), [("2026-08-19", 30), ("2026-08-20", 31), ("2019-01-01", 0)])
def test_old_is_over_thirty_days_or_from_the_future(day: str, age: int) -> None:
    """30 days is not old, 31 is; a price dated after today counts as old."""
    (service,) = price_status(book_of(offer_row(observed_on="2026-07-20")), as_of=moment(day)).services
    assert service.age_days == age
    assert service.old_rows == (0 if age == 30 else 1)
    assert service.fresh_rows == 0


def test_age_of_a_fetched_price() -> None:
    """The age counts from the fetch, however long the price has been in force; spot prices are fresh for one hour."""
    fetched = {"fetched_at": "2026-08-01T10:30:00Z", "observed_on": "2025-06-05"}
    book = book_of(offer_row(**fetched), offer_row(purchase_option="spot", usd_per_hour=9.0, **fetched))
    (service,) = price_status(book, as_of=NOW).services
    assert (service.fresh_rows, service.old_rows, service.age_days, service.oldest_age_days) == (1, 0, 0, 0)
    text = status_table(price_status(book, as_of=NOW))
    assert "test, fetched 2026-08-01T10:30:00Z" in text
    assert "partly stale" in text


def test_vague_date_counts_from_its_first_day() -> None:
    """A price of "March" may be of 1 March: its age is never understated."""
    (service,) = price_status(book_of(offer_row(observed_on="2026-03")), as_of=moment("2026-03-31")).services
    assert service.age_days == 30


def test_status_shows_rejected_rows_and_failed_sources() -> None:
    """A service whose every row was refused is still listed, with reasons, and so is a plug-in that failed."""
    book = book_of(offer_row(), offer_row(service="sagemaker", usd_per_hour=0.0), offer_row(accelerator=None))
    status = price_status(book, as_of=NOW, problems=("price source 'azure' is broken",))
    (refused,) = (service for service in status.services if service.service == "sagemaker")
    held = refused.model_dump(
        exclude={"provider", "service", "origin", "fetched_at", "filtered", "quarantined"}
    )
    expected = {"rows_read": 1, "degraded": True, "oldest": "", "newest": ""}
    assert {name: value for name, value in held.items() if value != 0} == expected
    text = status_table(status)
    assert "quarantined aws/sagemaker: 1 rows: price is not a finite number above 0" in text
    assert "filtered aws/ec2: 1 rows: machine without an accelerator" in text
    assert "degraded" in text
    assert "warning: price source 'azure' is broken" in text
    assert [(s.service, s.rows, s.rows_read) for s in status.services] == [("ec2", 1, 2), ("sagemaker", 0, 1)]


def test_same_question_same_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    """Output depends on the book and the question alone."""
    first, second = (
        run(capsys, "offers", "--sort", "price-per-accelerator", "--format", "json") for _ in range(2)
    )
    assert first == second


def test_why_shows_every_price_read_for_a_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """The table has each row with its interval, chance of a change, source and fate; JSON is the published model."""
    machine = "aws:p5.48xlarge@us-east-1"
    code, out, _ = run(capsys, "offers", "--why", machine, "--as-of", "2026-11-26")
    assert code == 0
    assert out.startswith(f"{machine}, ages counted to 2026-11-26\n")
    (listed,) = (line for line in out.splitlines() if "2026-11-09" in line)
    assert "55.04 to 55.04" in listed
    assert "used: the only row" in listed
    assert "no spot capacity when seen" in out
    code, out, _ = run(capsys, "offers", "--why", machine, "--as-of", "2026-11-26", "--format", "json")
    assert code == 0
    explanation = PriceExplanation.model_validate_json(out)
    assert explanation.machine == machine
    assert all(reading.used for reading in explanation.readings)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--why", "aws:p5.48xlarge@us-east-1", "--format", "csv"], "choose table or json"),
        (["--why", "p5.48xlarge"], "provider:instance_type@region"),
        (["--why", "aws:p5.48xlarge@mars"], "no price is known for"),
    ],
)
def test_why_refuses_what_it_cannot_show(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """Another format, another form of name and an unknown place are errors with exit code 2."""
    code, _, err = run(capsys, "offers", *arguments)
    assert code == 2
    assert said in err


def test_other_clouds_are_listed_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Off by default, on with --all-clouds or by name; a search that only they match says so."""
    wanted = (
        "offers",
        "--accelerator",
        "H100-SXM-80GB",
        "--purchase",
        "on_demand",
        "--limit",
        "0",
        "--format",
        "json",
    )
    listed = {
        extra: {
            offer.provider
            for offer in OffersReport.model_validate_json(run(capsys, *wanted, *extra)[1]).offers
        }
        for extra in ((), ("--all-clouds",), ("--provider", "lambda"))
    }
    assert listed[()] == {"aws", "azure", "gcp"}
    assert {"lambda", "runpod"} <= listed["--all-clouds",]
    assert listed["--provider", "lambda"] == {"lambda"}
    code, _, err = run(capsys, "offers", "--region", "global")
    assert code == 3
    assert "148 quotes of other clouds do: add --all-clouds" in err


def test_azure_ml_is_listed_without_a_workspace(capsys: pytest.CaptureFixture[str]) -> None:
    """Listed, counted, and beside the virtual machine where the prices of one machine are explained."""
    code, out, _ = run(capsys, "offers", "--service", "azure_ml", "--machines", "--limit", "1")
    assert code == 0
    assert "what your workspace may rent: set AZURE_SUBSCRIPTION_ID" in out
    _, out, _ = run(capsys, "prices", "status")
    assert "azure/azure_ml" in out
    _, out, _ = run(capsys, "offers", "--why", "azure:Standard_ND96isr_H100_v5@eastus")
    options = [line.split("  ")[0].strip() for line in out.splitlines()]
    assert options.count("on_demand (Azure ML)") == options.count("on_demand") == 1
