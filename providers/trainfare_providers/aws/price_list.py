"""
AWS's price list: one record per price, and the rules that select the prices of a training machine.

Records come from `GetProducts` (JSON) and from the public offer files (CSV, `bulk_csv`); the same rules apply to both.
Each rule excludes rows that look like the price and are not: the $0 row of a Capacity Block, an unused capacity
reservation, dedicated tenancy at +10 %, Windows, a machine with software in its price.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from trainfare_providers.answer_values import day_of, object_of, text_at
from trainfare_providers.aws.rows import SourceContext, machine_row
from trainfare_providers.http.strict_json import parse_json
from trainfare_providers.source_rows import Refused, SourceRow

__all__ = ["EC2_FILTERS", "PriceRecord", "ec2_row", "read_products", "sagemaker_row", "training_type"]

EC2_FILTERS: Final[Mapping[str, str]] = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
    "licenseModel": "No License required",
}
"""Attributes of the one Linux row of a machine and region; the rules below require them of every record."""

_INSTANCE_FAMILIES: Final = ("Compute Instance", "Compute Instance (bare metal)")
_ACCELERATED: Final = ("GPU instance", "Machine Learning ASIC Instances")
_TERMS: Final = {"1yr": "reserved_1y", "3yr": "reserved_3y", "1 yr": "reserved_1y", "3 yr": "reserved_3y"}
_TRAINING: Final = re.compile(r"(?:[A-Z0-9]{2,8}-)?Train:(ml\.[a-z0-9.-]{3,60})", re.ASCII)
_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,30}\.[a-z0-9-]{1,30}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PriceRecord:
    """One price dimension of one product, each field as in AWS's list; empty where it is missing."""

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


def ec2_row(record: PriceRecord, context: SourceContext) -> SourceRow | Refused:
    """Return the row of one record of the AmazonEC2 offer, or why it is not kept."""
    rule = _ec2_rule(record, context.region)
    if rule is not None:
        return Refused(rule)
    option = "on_demand" if record.term == "OnDemand" else _TERMS.get(record.lease)
    accelerated = record.instance_family in _ACCELERATED or record.gpu.strip("0") not in ("", "NA")
    if option is None and _fault(record, record.instance_type) is None:
        return Refused("a reservation of a term that is neither 1 nor 3 years", quarantined=True)
    return _row(record, record.instance_type, option or "", context, accelerated=accelerated)


def sagemaker_row(record: PriceRecord, context: SourceContext) -> SourceRow | Refused:
    """Return the row of one record of the AmazonSageMaker offer: its own training SKUs, never EC2 times a factor."""
    instance_type = training_type(record.usage_type)
    if instance_type is None:
        return Refused("not a training instance (hosting, notebooks, processing, storage, ...)")
    if record.term != "OnDemand":
        return Refused("not an on-demand price")
    if record.region != context.region:
        return Refused("another region, or a local or wavelength zone")
    accelerated = record.gpu.strip("0") not in ("", "NA", "N/A")
    return _row(record, instance_type, "on_demand", context, accelerated=accelerated)


def training_type(usage_type: str) -> str | None:
    """Return the ml.* type of a usage type like USW2-Train:ml.p5.48xlarge; None for hosting, notebooks and others."""
    found = _TRAINING.fullmatch(usage_type)
    return found.group(1) if found else None


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
        if object_of(product, "product", "attributes") is None:
            yield None
            continue
        found = False
        for record in _prices(product):
            found = True
            yield record
        if not found:
            yield _record(product, "", {}, None, "", "")


def _prices(product: object) -> Iterator[PriceRecord]:
    for term, offers in (object_of(product, "terms") or {}).items():
        for offer in (object_of(offers) or {}).values():
            for dimension in (object_of(offer, "priceDimensions") or {}).values():
                prices = object_of(dimension, "pricePerUnit") or {"": ""}
                for currency, price in prices.items():
                    yield _record(product, term, offer, dimension, currency, price)


def _record(
    product: object, term: str, offer: object, dimension: object, currency: str, price: object
) -> PriceRecord:
    attributes = object_of(product, "product", "attributes")
    return PriceRecord(
        sku=text_at(product, "product", "sku"),
        term=term,
        unit=text_at(dimension, "unit"),
        price=price if isinstance(price, str) else "",
        currency=currency,
        effective=text_at(offer, "effectiveDate"),
        lease=text_at(offer, "termAttributes", "LeaseContractLength"),
        upfront=text_at(offer, "termAttributes", "PurchaseOption"),
        offering_class=text_at(offer, "termAttributes", "OfferingClass"),
        product_family=text_at(product, "product", "productFamily"),
        instance_type=text_at(attributes, "instanceType"),
        instance_family=text_at(attributes, "instanceFamily"),
        gpu=text_at(attributes, "gpu") or text_at(attributes, "physicalGpu"),
        location_type=text_at(attributes, "locationType"),
        region=text_at(attributes, "regionCode"),
        operating_system=text_at(attributes, "operatingSystem"),
        tenancy=text_at(attributes, "tenancy"),
        software=text_at(attributes, "preInstalledSw"),
        capacity_status=text_at(attributes, "capacitystatus"),
        market_option=text_at(attributes, "marketoption"),
        license_model=text_at(attributes, "licenseModel"),
        operation=text_at(attributes, "operation"),
        usage_type=text_at(attributes, "usagetype"),
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


def _fault(record: PriceRecord, instance_type: str) -> str | None:
    """Return why a record that should be a price is not one; `prices.intake` judges the price itself."""
    if not _TYPE.fullmatch(instance_type.removeprefix("ml.")):
        return "no instance type"
    if record.unit.lower() not in ("hrs", "hour", "hours"):
        return "the unit is not an hour"
    return None if day_of(record.effective) else "no date from which the price holds"


def _row(
    record: PriceRecord, instance_type: str, option: str, context: SourceContext, *, accelerated: bool
) -> SourceRow | Refused:
    fault = _fault(record, instance_type)
    if fault is not None:
        return Refused(fault, quarantined=True)
    reserved = "standard reservation without upfront payment: paid whether used or not"
    return machine_row(
        context,
        instance_type,
        accelerated=accelerated,
        purchase_option=option,
        usd_per_hour=record.price,
        currency=record.currency,
        observed_on=day_of(record.effective) or "",
        sku=record.sku,
        caveat="" if option == "on_demand" else reserved,
    )
