"""AWS's public files: offers (AmazonEC2, AmazonSageMaker), Savings Plans, the Spot Advisor. No credentials."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from trainfare_core.errors import FetchError
from trainfare_providers.answer_values import items_of, object_of, text_at
from trainfare_providers.aws.bulk_csv import read_offer_csv
from trainfare_providers.aws.machines import Machines
from trainfare_providers.aws.price_list import PriceRecord, ec2_row, sagemaker_row
from trainfare_providers.aws.rows import UNREADABLE, AwsRows, SourceContext
from trainfare_providers.aws.savings import PLANS, plan_file_rows
from trainfare_providers.aws.spot import Bands, read_bands
from trainfare_providers.http.answer import BULK_LIMITS
from trainfare_providers.http.client import HttpClient
from trainfare_providers.http.download import Download
from trainfare_providers.source_rows import Refused, RowSink, SourceRow


@dataclass(frozen=True, slots=True)
class Sites:
    """Where the public files are."""

    price_list: str = "https://pricing.us-east-1.amazonaws.com"
    advisor: str = "https://spot-bid-advisor.s3.amazonaws.com/spot-advisor-data.json"


def read_offer_files(
    http: HttpClient, sites: Sites, regions: Sequence[str], machines: Machines, rows: AwsRows
) -> None:
    """
    Read the offer file of every region row by row while it arrives, first EC2's, then SageMaker's.

    Raises:
        PricesUnavailableError: a file is incomplete, or not an offer file.
    """
    for offer, sink, row_of in (
        ("AmazonEC2", rows.ec2, ec2_row),
        ("AmazonSageMaker", rows.sagemaker, sagemaker_row),
    ):
        for region, url in _list_files(http, sites, f"offers/v1.0/aws/{offer}", offer, regions, rows):
            context = SourceContext(region, machines, url, rows.today)
            rows_of = partial(_offer_rows, offer=offer, row_of=row_of, context=context)
            _read_into(sink, http, url, rows_of, f"reading {offer}", region)


def read_plan_files(
    http: HttpClient, sites: Sites, regions: Sequence[str], machines: Machines, rows: AwsRows
) -> None:
    """
    Read the Savings Plan file of every region, as `read_offer_files` does.

    Raises:
        PricesUnavailableError: as there.
    """
    for plan in PLANS:
        for region, url in _list_files(
            http, sites, f"savingsPlan/v1.0/aws/{plan.code}", plan.code, regions, rows
        ):
            context = SourceContext(region, machines, url, rows.today)
            rows_of = partial(plan_file_rows, plan=plan, context=context)
            _read_into(rows.of(plan.service), http, url, rows_of, f"reading {plan.code}", region)


def read_advisor(http: HttpClient, sites: Sites, rows: AwsRows) -> Bands:
    """Return the interruption bands; where there are none, add a note."""
    try:
        bands = read_bands(http.get_json(sites.advisor, must_have=("spot_advisor", "ranges")))
    except FetchError as error:
        rows.note(f"ec2: how often spot machines are interrupted is not known: {error}")
        return Bands({})
    if not len(bands):
        rows.note(
            "ec2: the Spot Advisor's file has changed, its interruption bands are left out; update trainfare"
        )
    return bands


def _offer_rows(
    chunks: Iterable[bytes],
    *,
    offer: str,
    row_of: Callable[[PriceRecord, SourceContext], SourceRow | Refused],
    context: SourceContext,
) -> Iterator[SourceRow | Refused]:
    records = read_offer_csv(chunks, offer=offer)
    return (UNREADABLE if record is None else row_of(record, context) for record in records)


def _read_into(
    sink: RowSink,
    http: HttpClient,
    url: str,
    rows_of: Callable[[Iterator[bytes]], Iterable[SourceRow | Refused]],
    what: str,
    region: str,
) -> None:
    """Add the rows of a file, all of them at its end: one that changes meanwhile is read again from its beginning."""

    def parse_file(file: Download) -> RowSink:
        part = RowSink(sink.provider, sink.service)
        part.add(file.count_items(rows_of(file.chunks())))
        return part

    sink.join(http.read(url, parse_file, limits=BULK_LIMITS, what=what, region=region))


def _list_files(
    http: HttpClient, sites: Sites, folder: str, offer: str, regions: Sequence[str], rows: AwsRows
) -> Iterator[tuple[str, str]]:
    """Yield each region and the URL of its CSV, in the version that the region index names."""
    index_url = f"{sites.price_list}/{folder}/current/region_index.json"
    index = http.get_json(index_url, must_have=("regions",))
    # Offers have an object by region code, Savings Plans a list.
    listed = [*(object_of(index, "regions") or {}).values(), *items_of(index, "regions")]
    paths = {
        text_at(entry, "regionCode"): text_at(entry, "currentVersionUrl") or text_at(entry, "versionUrl")
        for entry in listed
    }
    for region in regions:
        path = paths.get(region)
        if path is None:
            rows.note(f"{offer} is not offered in {region}: left out")
            continue
        if not re.fullmatch(
            rf"/{re.escape(folder)}/[0-9]{{8,20}}/{re.escape(region)}/index\.json", path, re.ASCII
        ):
            raise http.refusal("not JSON", index_url, f" (its path for {region} is not one)")
        yield region, f"{sites.price_list}{path.removesuffix('.json')}.csv"
