"""AWS, whole: real boto3 and real HTTP against a loopback AWS, with credentials and without."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest

from builders import aws_wire as wire
from builders.aws_server import Answer, AwsServer, aws_environment, aws_server
from builders.offers import book_of, offer_row
from builders.patient_client import PATIENT, patient_client
from trainfare_core.errors import CannotTellError, InputError, PricesUnavailableError
from trainfare_core.prices.accept import accept
from trainfare_core.prices.book import PriceProvider
from trainfare_providers.aws import DEFAULT_REGIONS, AwsPrices
from trainfare_providers.aws.price_list import EC2_FILTERS
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.disk.cached_book import read_book
from trainfare_providers.http.answer import Limits
from trainfare_providers.http.client import HttpClient
from trainfare_providers.refresh import FetchedRows, LiveSource, refresh

NOW = datetime(2026, 8, 2, 3, tzinfo=timezone.utc)
GOLDEN = Path(__file__).parents[2] / "golden" / "aws_rows.csv"
SHOWN = [
    "service",
    "instance_type",
    "region",
    "zone",
    "purchase_option",
    "usd_per_hour",
    "currency",
    "observed_on",
    "accelerator",
    "accelerator_count",
    "accelerator_memory_gib",
    "vcpus",
    "memory_gib",
    "network_gbit_per_s",
    "sku",
    "interruption_band",
    "caveat",
    "source",
]


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials of the machine that runs the tests, and no look at its metadata address."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in aws_environment("http://127.0.0.1:9").items():
        if "KEY" not in name and "URL" not in name:
            monkeypatch.setenv(name, value)
    monkeypatch.delenv("TRAINFARE_AWS_REGIONS", raising=False)
    monkeypatch.delenv("TRAINFARE_AWS_SAVINGS_FILES", raising=False)


@pytest.fixture
def server() -> Iterator[AwsServer]:
    with aws_server() as server:
        yield server


def sign_in(monkeypatch: pytest.MonkeyPatch, server: AwsServer) -> None:
    for name, value in aws_environment(server.url).items():
        monkeypatch.setenv(name, value)


def source(server: AwsServer, *regions: str, plan_files: bool = False) -> AwsPrices:
    return AwsPrices(
        regions=regions or ("us-east-1",), plan_files=plan_files, sites=server.sites, now=lambda: NOW
    )


def fetch(
    server: AwsServer, *regions: str, plan_files: bool = False, limits: Limits = PATIENT
) -> tuple[FetchedRows, ...]:
    with patient_client("aws", limits=limits) as http:
        return source(server, *regions, plan_files=plan_files).fetch(http)


def rows_of(fetched: tuple[FetchedRows, ...]) -> pl.DataFrame:
    return pl.concat([rows.rows for rows in fetched])


def list_offered(fetched: tuple[FetchedRows, ...]) -> set[tuple[str, str, str]]:
    """(type, option, price) of what passes the intake."""
    frame = accept(rows_of(fetched), origin="aws").rows
    return {
        (name, option, f"{usd:g}")
        for name, option, usd in frame.select("instance_type", "purchase_option", "usd_per_hour").iter_rows()
    }


def notes(fetched: tuple[FetchedRows, ...]) -> str:
    return "\n".join(note for rows in fetched for note in rows.notes)


PUBLIC = {
    ("p4d.24xlarge", "on_demand", "21.9576"),
    ("p4d.24xlarge", "reserved_1y", "13.9211"),
    ("p4d.24xlarge", "reserved_3y", "9.17"),
    ("p5.48xlarge", "on_demand", "55.04"),
    ("g5.xlarge", "on_demand", "1.006"),
    ("g5.xlarge", "reserved_1y", "0.63378"),
    ("g6f.xlarge", "on_demand", "0.2421"),
    ("trn1.32xlarge", "on_demand", "21.5"),
    ("ml.p5.48xlarge", "on_demand", "113.068"),
    ("ml.p4d.24xlarge", "on_demand", "37.688"),
    ("ml.g5.xlarge", "on_demand", "1.4084"),
}
PLANS = {
    ("p4d.24xlarge", "savings_1y", "15.986"),
    ("p4d.24xlarge", "savings_3y", "10.9788"),
    ("ml.p5.48xlarge", "savings_1y", "82.5396"),
}


def test_public_files_need_no_credentials(server: AwsServer) -> None:
    """On-demand and reserved of EC2, training of SageMaker; missing parts are noted, and no account is used."""
    fetched = fetch(server)
    assert list_offered(fetched) == PUBLIC
    assert (
        "there are no AWS credentials: spot prices, Capacity Blocks, training plans and quotas are left out"
        in notes(fetched)
    )
    assert "machines with an accelerator that trainfare does not know are left out: g99.xlarge" in notes(
        fetched
    )
    assert server.calls == []


def test_public_savings_plans_are_read_when_asked_for(server: AwsServer) -> None:
    """Some GB more, so only on request."""
    assert list_offered(fetch(server, plan_files=True)) == PUBLIC | PLANS


@pytest.mark.parametrize(("value", "is_read"), [("1", True), ("0", False), ("yes", False), ("", False)])
def test_the_environment_asks_for_public_savings_plans(
    server: AwsServer, monkeypatch: pytest.MonkeyPatch, value: str, *, is_read: bool
) -> None:
    """By the value 1 and no other; without it a note says so."""
    monkeypatch.setenv("TRAINFARE_AWS_SAVINGS_FILES", value)
    with patient_client("aws") as http:
        fetched = AwsPrices(regions=["us-east-1"], sites=server.sites, now=lambda: NOW).fetch(http)
    assert list_offered(fetched) == (PUBLIC | PLANS if is_read else PUBLIC)
    assert ("Savings Plans are left out" in notes(fetched)) is not is_read


@dataclass(frozen=True)
class Seen:
    """One fetch with an account: what came, and what the server saw."""

    fetched: tuple[FetchedRows, ...]
    server: AwsServer


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    """Made once, of two regions, since boto3 takes half a second for its clients."""
    with pytest.MonkeyPatch.context() as patch, aws_server() as server:
        sign_in(patch, server)
        yield Seen(fetch(server, "us-east-1", "us-west-2"), server)


def test_account_adds_spot_blocks_plans_and_quotas(seen: Seen) -> None:
    """One way to ask each, no public offer file, and the same list prices."""
    added = {
        ("p4d.24xlarge", "spot", "13.9933"),
        ("p4d.24xlarge", "spot", "11.787"),
        ("p4d.24xlarge", "spot", "8.0087"),
        ("p5.48xlarge", "spot", "55.04"),
        ("trn1.32xlarge", "spot", "7.5346"),
        ("p4d.24xlarge", "capacity_block", "11.8"),
        ("p5.48xlarge", "capacity_block", "41.528"),
        ("ml.p5.48xlarge", "capacity_block", "47.7571"),
    }
    assert list_offered(seen.fetched) == PUBLIC | PLANS | added
    said = "this account may run in us-east-1, vCPUs at once: G and VT on-demand 64; P on-demand 384; P4, P3 and P2 spot 0"
    assert said in notes(seen.fetched)
    assert seen.server.paths == ["/spot-advisor-data.json"]


def test_several_offers_of_one_machine_are_one_price(
    server: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS answers with up to three offers a machine and zone; at two rates each, the higher one is the price."""
    sign_in(monkeypatch, server)
    server.blocks = (*wire.CAPACITY_BLOCKS, {**wire.CAPACITY_BLOCKS[0], "UpfrontFee": "300.00"})
    server.training_plans = (*wire.TRAINING_PLANS, {**wire.TRAINING_PLANS[0], "UpfrontFee": "1200.00"})
    blocks = {offer for offer in list_offered(fetch(server)) if offer[1] == "capacity_block"}
    assert blocks == {
        ("p4d.24xlarge", "capacity_block", "12.5"),
        ("p5.48xlarge", "capacity_block", "41.528"),
        ("ml.p5.48xlarge", "capacity_block", "50"),
    }


def test_capacity_blocks_where_there_are_none_are_no_error(seen: Seen) -> None:
    """us-west-2 of this server answers with an error about the parameter, as a region without them does."""
    frame = rows_of(seen.fetched).filter(pl.col("purchase_option") == "capacity_block")
    assert set(frame["region"]) == {"us-east-1"}


def test_filters_leave_one_row_a_machine(seen: Seen) -> None:
    """All filters of the spec are sent: of the eight p4d products one comes back."""
    reasons = {tally.reason for tally in seen.fetched[0].filtered}
    assert not {"a capacity reservation's row", "software in the price", "a licence in the price"} & reasons
    text = next(call.body for call in seen.server.calls if call.action == "pricing:GetProducts")
    for name, value in {"regionCode": "us-east-1", **EC2_FILTERS}.items():
        assert f'"Field": "{name}", "Value": "{value}"' in text
    assert set(EC2_FILTERS) == {
        "operatingSystem",
        "tenancy",
        "preInstalledSw",
        "capacitystatus",
        "marketoption",
        "licenseModel",
    }


def test_parsed_rows_are_as_recorded(seen: Seen) -> None:
    """Every column of every row that our fixtures give, golden."""
    frame = accept(rows_of(seen.fetched), origin="aws").rows
    shown = frame.select(SHOWN).with_columns(
        pl.col("source").str.replace_all(r"http://127\.0\.0\.1:\d+", "https://aws")
    )
    out = io.StringIO()
    shown.sort(SHOWN[:5]).write_csv(out)
    if os.environ.get("TRAINFARE_UPDATE_GOLDEN") == "1":
        GOLDEN.write_text(out.getvalue(), encoding="utf-8")
    assert out.getvalue() == GOLDEN.read_text(encoding="utf-8")


def test_rules_hold_when_filters_do_not(
    seen: Seen, monkeypatch: pytest.MonkeyPatch, server: AwsServer
) -> None:
    """Were AWS to ignore every filter, no $0, dedicated or Windows row would become a price; none is lost."""
    sign_in(monkeypatch, server)
    server.filtering = False
    fetched = fetch(server)
    assert list_offered(fetched) == list_offered(seen.fetched)
    sent = {
        "ec2": sum(max(1, len(product.terms)) for product in wire.EC2_PRODUCTS),
        "sagemaker": len(wire.SAGEMAKER_PRODUCTS),
    }
    sent["ec2"] += len(wire.SPOT) + len(wire.CAPACITY_BLOCKS) + len(wire.PLAN_RATES)
    sent["sagemaker"] += len(wire.TRAINING_PLANS) + len(wire.PLAN_RATES)
    for rows in fetched:
        ended = rows.rows.height + sum(tally.rows for tally in (*rows.filtered, *rows.quarantined))
        assert ended == sent[rows.service]


def test_refresh_keeps_what_loads_again(seen: Seen, tmp_path: Path) -> None:
    """From the wire to the disk and back, through sanity: two prices of one zone end in quarantine."""

    class Fetched(AwsPrices):
        def fetch(self, http: HttpClient) -> tuple[FetchedRows, ...]:
            return seen.fetched

    cache = BookCache(tmp_path)
    with patient_client("aws") as http:
        result = refresh(Fetched(), cache=cache, now=NOW, http=http)
    assert result.refreshed, result.problem
    cached = read_book(cache, "aws")
    assert cached is not None
    assert len(cached.book) == result.rows
    ec2 = next(intake for intake in result.intakes if intake.service == "ec2")
    reasons = {tally.reason: tally.rows for tally in ec2.quarantined}
    assert reasons["two different prices for one machine, region, zone and option"] == 2
    assert reasons["currency is not USD"] == 1


def test_parts_that_are_not_allowed_are_notes(server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is read; each note names its permission; public files replace the price list, no row twice."""
    sign_in(monkeypatch, server)
    denied = {
        "pricing:GetProducts": "the public price files are read instead",
        "ec2:DescribeSpotPriceHistory": "spot prices are left out",
        "ec2:DescribeCapacityBlockOfferings": "Capacity Blocks are left out",
        "sagemaker:SearchTrainingPlanOfferings": "training plans are left out",
        "servicequotas:ListServiceQuotas": "quotas of ec2 are left out",
    }
    server.denied = frozenset(denied)
    fetched = fetch(server)
    for action, instead in denied.items():
        assert re.search(
            rf"these credentials may not call {action} \([A-Za-z]+\): {instead} \(docs/permissions.md\)",
            notes(fetched),
        )
    assert list_offered(fetched) == PUBLIC | PLANS
    assert (
        sum(
            row == ("p5.48xlarge", "on_demand")
            for row in rows_of(fetched).select("instance_type", "purchase_option").iter_rows()
        )
        == 1
    )


def test_account_without_permissions_reads_the_public_files(
    seen: Seen, server: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notes, and the public prices."""
    sign_in(monkeypatch, server)
    server.denied = frozenset(seen.server.actions())
    assert list_offered(fetch(server)) == PUBLIC


def test_no_price_at_all_is_an_error(server: AwsServer) -> None:
    """An empty list must not replace good prices."""
    server.products["AmazonEC2"] = (wire.machine("M5LARGEUSE100001", "m5.large", wire.Term("0.0960000000")),)
    with pytest.raises(PricesUnavailableError, match="not one on-demand price"):
        fetch(server)


def test_price_carries_its_provenance(server: AwsServer) -> None:
    """SKU, day of effect, currency and source; a refresh adds the time of the fetch."""
    row = fetch(server)[0].rows.row(0, named=True)
    assert row["sku"] == "H7NGEAC6UEHNTKSJ"
    assert (row["observed_on"], row["currency"]) == ("2026-07-01", "USD")
    assert row["source"] == f"{server.url}/offers/v1.0/aws/AmazonEC2/20260715000000/us-east-1/index.csv"


def test_region_that_an_offer_does_not_have_is_a_note(
    server: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of asking say so, and the other regions come."""
    assert "AmazonEC2 is not offered in eu-central-1: left out" in notes(
        fetch(server, "us-east-1", "eu-central-1")
    )
    sign_in(monkeypatch, server)
    fetched = fetch(server, "us-east-1", "eu-central-1")
    assert "AmazonSageMaker is not offered in eu-central-1: left out" in notes(fetched)
    assert set(rows_of(fetched)["region"]) == {"us-east-1"}


def test_attribute_that_aws_dropped_stops_the_refresh(
    server: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without marketoption the filter would let $0 rows in, or nothing at all."""
    sign_in(monkeypatch, server)
    server.products["AmazonEC2"] = tuple(
        wire.Product(
            product.sku,
            product.family,
            {name: value for name, value in product.attributes.items() if name != "marketoption"},
            product.terms,
        )
        for product in wire.EC2_PRODUCTS
    )
    with pytest.raises(
        PricesUnavailableError, match="AmazonEC2 no longer has marketoption; update trainfare"
    ):
        fetch(server)


def test_missing_bands_leave_spot_prices(server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Spot Advisor is a help, not a price."""
    sign_in(monkeypatch, server)
    server.faults["/spot-advisor-data.json"] = [Answer(404)]
    fetched = fetch(server)
    spot = fetched[0].rows.filter(pl.col("purchase_option") == "spot")
    assert spot.height == 7
    assert spot["interruption_band"].null_count() == 7
    assert "how often spot machines are interrupted is not known" in notes(fetched)


def test_empty_list_is_noted(server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """No spot price and no plan may be the truth, or a filter that AWS no longer understands."""
    sign_in(monkeypatch, server)
    server.spot, server.rates = (), ()
    said = notes(fetch(server))
    assert "not one spot price came for us-east-1" in said
    assert "not one AWSComputeSavingsPlan rate came for us-east-1" in said


def test_regions_that_aws_does_not_list_are_asked_all_the_same(
    server: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of regions is a help; a region without a price then says so itself."""
    sign_in(monkeypatch, server)
    server.faults["pricing:GetAttributeValues"] = [Answer(400, b'{"__type": "InvalidParameterException"}')]
    fetched = fetch(server, "us-east-1", "eu-central-1")
    assert list_offered(fetched) >= PUBLIC
    assert "not one price of AmazonSageMaker came for eu-central-1" in notes(fetched)


def test_load_is_offline_and_empty_before_the_first_refresh(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An installed provider costs nothing until it is used."""
    monkeypatch.setenv("TRAINFARE_PRICE_CACHE", str(tmp_path / "none"))
    provider = AwsPrices()
    assert len(provider.load()) == 0
    assert isinstance(provider, PriceProvider)
    assert isinstance(provider, LiveSource)
    assert provider.regions == DEFAULT_REGIONS


def test_regions_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commas between, spaces allowed, twice is once."""
    monkeypatch.setenv("TRAINFARE_AWS_REGIONS", " eu-west-1, us-west-2,eu-west-1 ,")
    assert AwsPrices().regions == ("eu-west-1", "us-west-2")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mars", "'mars' is not the name of an AWS region"),
        ("us-east-1/..", "not the name"),
        ("cn-north-1", "sells in CNY"),
    ],
)
def test_invalid_region_is_refused(name: str, says: str) -> None:
    """The name becomes a part of a URL."""
    with pytest.raises(InputError, match=says):
        AwsPrices(regions=[name])
    with pytest.raises(InputError, match="at least one region"):
        AwsPrices(regions=[])


def test_quotas_can_be_asked_for_alone(server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """EC2's in vCPUs, SageMaker's in machines of those with prices; none without an account or without its leave."""
    machines = ("p4d.24xlarge", "p5.48xlarge", "ml.p4d.24xlarge")
    prices = book_of(*(offer_row(instance_type=name) for name in machines))
    with patient_client("aws") as http, pytest.raises(CannotTellError, match="quotas belong to an account"):
        source(server).quotas(http, prices)
    sign_in(monkeypatch, server)
    with patient_client("aws") as http:
        limits = source(server).quotas(http, prices).limits
    assert [(quota.family, quota.count()) for quota in limits] == [
        (("p",), ("vcpus", 384.0)),
        (("p4d",), ("vcpus", 0.0)),
        (("ml.p4d.24xlarge",), ("machines", 2.0)),
        (("ml.p4d.24xlarge",), ("machines", 0.0)),
    ]
    assert [quota.purchase == ("spot",) for quota in limits] == [False, True, False, True]
    server.denied = frozenset({"servicequotas:ListServiceQuotas"})
    with patient_client("aws") as http, pytest.raises(CannotTellError, match=r"may not call servicequotas"):
        source(server).quotas(http, prices)


def test_quotas_that_were_not_read_are_said(server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A region that refuses, a quota that is not listed and a region that was not asked are not "no limit".

    ListServiceQuotas: "If the applied quota value is not available for a quota, the quota is not retrieved."
    """
    sign_in(monkeypatch, server)
    machines = ("p4d.24xlarge", "trn1.32xlarge", "ml.p4d.24xlarge", "ml.p5.48xlarge")
    offers = [
        offer_row(instance_type=name, service="sagemaker" if name.startswith("ml.") else "ec2")
        for name in machines
    ]
    prices = book_of(*offers, offer_row(region="us-west-2"), offer_row(region="eu-west-1"))
    with patient_client("aws") as http:
        assert source(server, "us-east-1", "us-west-2").quotas(http, prices).notes == (
            "aws: in one region or more, no quota was read of ml.p5, trn1; it is not known there",
            "aws: quotas of us-east-1, us-west-2 alone (TRAINFARE_AWS_REGIONS); other regions with prices: 1",
        )
    server.denied = frozenset({"servicequotas:ListServiceQuotas@us-west-2"})
    with patient_client("aws") as http:
        quotas = source(server, "us-east-1", "us-west-2").quotas(http, prices)
    assert {limit.region for limit in quotas.limits} == {"us-east-1"}
    refused = "aws: these credentials may not call servicequotas:ListServiceQuotas (AccessDeniedException)"
    assert [note.startswith(refused) for note in quotas.notes] == [True, True, False, False]
    assert "no quota was read of ml.p5, p4d, trn1" in quotas.notes[2]


def test_file_path_outside_the_folder_is_refused(server: AwsServer) -> None:
    """The region index says where files are, and may say it only below its own folder."""
    index = b'{"regions": {"us-east-1": {"regionCode": "us-east-1", "currentVersionUrl": "/../../etc/index.json"}}}'
    server.faults["/offers/v1.0/aws/AmazonEC2/current/region_index.json"] = [Answer(200, index)]
    with pytest.raises(PricesUnavailableError, match="its path for us-east-1 is not one"):
        fetch(server)
