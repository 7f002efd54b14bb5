"""
AWS's price list: one record a price, and the rules that say which records are prices of a training machine.

The same records come from `GetProducts` (JSON) and from the public offer files (CSV, `bulk_csv`), and one set of
rules judges both. What each rule keeps out was once sold as a price: the $0 row of a Capacity Block, the unused
capacity reservation, dedicated tenancy at +10 %, Windows, a machine with software in its price.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from trainfare_providers.aws.sift import PriceRow, Reading, Sift
from trainfare_providers.aws.wire import at, day_of, named, text, train_type
from trainfare_providers.http.strict_json import parse_json

__all__ = ["EC2_FILTERS", "PriceRecord", "read_products", "sift_ec2", "sift_sagemaker"]

EC2_FILTERS: Final[Mapping[str, str]] = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
    "licenseModel": "No License required",
}
"""Attributes of the one Linux row a machine and region has; also what the rules below demand of every record."""

_INSTANCE_FAMILIES: Final = ("Compute Instance", "Compute Instance (bare metal)")
_ACCELERATED: Final = ("GPU instance", "Machine Learning ASIC Instances")
_TERMS: Final = {"1yr": "reserved_1y", "3yr": "reserved_3y", "1 yr": "reserved_1y", "3 yr": "reserved_3y"}
_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,30}\.[a-z0-9-]{1,30}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PriceRecord:
    """One price dimension of one product, every field as AWS wrote it; empty where it wrote nothing."""

    sku: str = ""
    term: str = ""
    unit: str = ""
    price: str = ""
    currency: str = ""
    effective: str = ""
    lease: str = ""
    upfront: str = ""
    offering_class: str = ""
    product_family: str = ""
    instance_type: str = ""
    instance_family: str = ""
    gpu: str = ""
    location_type: str = ""
    region: str = ""
    operating_system: str = ""
    tenancy: str = ""
    software: str = ""
    capacity_status: str = ""
    market_option: str = ""
    license_model: str = ""
    operation: str = ""
    usage_type: str = ""


def sift_ec2(record: PriceRecord, sift: Sift, reading: Reading) -> None:
    """Judge one record of the AmazonEC2 offer; it ends in `sift` exactly once."""
    rule = _ec2_rule(record, reading.region)
    if rule is not None:
        sift.leave_out(rule)
        return
    option = "on_demand" if record.term == "OnDemand" else _TERMS.get(record.lease)
    fault = _fault(record) or (None if option else "a reservation of a term that is neither 1 nor 3 years")
    if fault is not None:
        sift.set_aside(fault)
        return
    accelerated = record.instance_family in _ACCELERATED or record.gpu.strip("0") not in ("", "NA")
    if option and sift.accepts_machine(reading.machines, record.instance_type, accelerated=accelerated):
        caveat = (
            ""
            if option == "on_demand"
            else "standard reservation without upfront payment: paid whether used or not"
        )
        sift.keep(_row(record, sift, record.instance_type, option, reading, caveat))


def sift_sagemaker(record: PriceRecord, sift: Sift, reading: Reading) -> None:
    """Judge one record of the AmazonSageMaker offer: its own training SKUs, never EC2 times a factor."""
    instance_type = train_type(record.usage_type)
    if instance_type is None:
        sift.leave_out("not a training instance (hosting, notebooks, processing, storage, ...)")
    elif record.term != "OnDemand":
        sift.leave_out("not an on-demand price")
    elif record.region != reading.region:
        sift.leave_out("another region, or a local or wavelength zone")
    elif (fault := _fault(record, instance_type.removeprefix("ml."))) is not None:
        sift.set_aside(fault)
    elif sift.accepts_machine(
        reading.machines,
        instance_type.removeprefix("ml."),
        accelerated=record.gpu.strip("0") not in ("", "NA", "N/A"),
    ):
        sift.keep(_row(record, sift, instance_type, "on_demand", reading, ""))


def read_products(price_list: Iterable[object]) -> Iterator[PriceRecord | None]:
    """
    Yield the records of a `PriceList` of `GetProducts`, which is a list of JSON texts.

    None stands for a text that cannot be read. A product without a price is one record with no term.
    """
    for item in price_list:
        try:
            product = parse_json(item.encode()) if isinstance(item, str) else None
        except ValueError:
            product = None
        if not isinstance(at(product, "product", "attributes"), Mapping):
            yield None
            continue
        found = False
        for record in _prices(product):
            found = True
            yield record
        if not found:
            yield _record(product, "", {}, None, "", "")


def _prices(product: object) -> Iterator[PriceRecord]:
    for term, offers in named(product, "terms"):
        for _, offer in named(offers):
            for _, dimension in named(offer, "priceDimensions"):
                prices = list(named(dimension, "pricePerUnit")) or [("", "")]
                for currency, price in prices:
                    yield _record(product, term, offer, dimension, currency, price)


def _record(
    product: object, term: str, offer: object, dimension: object, currency: str, price: object
) -> PriceRecord:
    attributes = at(product, "product", "attributes")
    return PriceRecord(
        sku=text(product, "product", "sku"),
        term=term,
        unit=text(dimension, "unit"),
        price=price if isinstance(price, str) else "",
        currency=currency,
        effective=text(offer, "effectiveDate"),
        lease=text(offer, "termAttributes", "LeaseContractLength"),
        upfront=text(offer, "termAttributes", "PurchaseOption"),
        offering_class=text(offer, "termAttributes", "OfferingClass"),
        product_family=text(product, "product", "productFamily"),
        instance_type=text(attributes, "instanceType"),
        instance_family=text(attributes, "instanceFamily"),
        gpu=text(attributes, "gpu") or text(attributes, "physicalGpu"),
        location_type=text(attributes, "locationType"),
        region=text(attributes, "regionCode"),
        operating_system=text(attributes, "operatingSystem"),
        tenancy=text(attributes, "tenancy"),
        software=text(attributes, "preInstalledSw"),
        capacity_status=text(attributes, "capacitystatus"),
        market_option=text(attributes, "marketoption"),
        license_model=text(attributes, "licenseModel"),
        operation=text(attributes, "operation"),
        usage_type=text(attributes, "usagetype"),
    )


def _ec2_rule(record: PriceRecord, region: str) -> str | None:
    """Return the first rule that leaves a record out, or None."""
    if record.product_family not in _INSTANCE_FAMILIES:
        return "not a machine (storage, traffic, dedicated hosts, ...)"
    if record.term not in ("OnDemand", "Reserved"):
        return "a product without an on-demand or reserved price"
    if record.location_type != "AWS Region" or record.region != region:
        return "another region, or a local or wavelength zone"
    if record.market_option == "CapacityBlock" or record.operation.endswith(":CB"):
        return "a Capacity Block's usage row: what it costs is the block's own fee"
    demanded = {
        "not Linux": (record.operating_system, "operatingSystem"),
        "dedicated tenancy or a dedicated host": (record.tenancy, "tenancy"),
        "software in the price": (record.software, "preInstalledSw"),
        "a capacity reservation's row": (record.capacity_status, "capacitystatus"),
        "not an on-demand market row": (record.market_option, "marketoption"),
        "a licence in the price": (record.license_model, "licenseModel"),
    }
    for rule, (value, attribute) in demanded.items():
        if value != EC2_FILTERS[attribute]:
            return rule
    if record.term == "Reserved" and (record.upfront != "No Upfront" or record.offering_class != "standard"):
        return "a reservation that is paid upfront or convertible"
    return None


def _fault(record: PriceRecord, instance_type: str | None = None) -> str | None:
    """Return why a record that should be a price is none; the price itself is judged by `price_intake`."""
    if not _TYPE.fullmatch(record.instance_type if instance_type is None else instance_type):
        return "no instance type"
    if record.unit.lower() not in ("hrs", "hour", "hours"):
        return "the unit is not an hour"
    return None if day_of(record.effective) else "no date from which the price holds"


def _row(
    record: PriceRecord, sift: Sift, instance_type: str, option: str, reading: Reading, caveat: str
) -> PriceRow:
    return PriceRow(
        service=sift.service,
        instance_type=instance_type,
        region=reading.region,
        purchase_option=option,
        usd_per_hour=record.price,
        currency=record.currency,
        effective_on=day_of(record.effective),
        sku=record.sku,
        source=reading.source,
        caveat=caveat,
    )
