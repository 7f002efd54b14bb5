"""
AWS's price list: one record per price, and the rules that select the prices of a training machine.

Records come from `GetProducts` (JSON) and from the public offer files (CSV, `bulk_csv`); the same rules apply to both.
Each rule excludes rows that look like the price and are not: the $0 row of a Capacity Block, an unused capacity
reservation, dedicated tenancy at +10 %, Windows, a machine with software in its price.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Final

from trainfare_providers.answer_values import day_of, object_of, text_of
from trainfare_providers.aws.rows import NOT_BEGUN, SourceContext, machine_row
from trainfare_providers.http.strict_json import parse_json
from trainfare_providers.source_rows import Refused, SourceRow

# Attribute of the one Linux row of a machine and region -> its value, and what a record with another one is.
_DEMANDED: Final[Mapping[str, tuple[str, str]]] = {
    "operatingSystem": ("Linux", "not Linux"),
    "tenancy": ("Shared", "dedicated tenancy or a dedicated host"),
    "preInstalledSw": ("NA", "software in the price"),
    "capacitystatus": ("Used", "a capacity reservation's row"),
    "marketoption": ("OnDemand", "not an on-demand market row"),
    "licenseModel": ("No License required", "a licence in the price"),
}
EC2_FILTERS: Final = {attribute: value for attribute, (value, _) in _DEMANDED.items()}
"""The attributes in a request; the rules below require them of every record."""

_NOT_A_LETTER: Final = re.compile(r"[^a-z0-9]", re.ASCII)
_OTHER_NAMES: Final[Mapping[str, str]] = {"instancetype": "instancename", "gpu": "physicalgpu"}
_INSTANCE_FAMILIES: Final = ("Compute Instance", "Compute Instance (bare metal)")
_ACCELERATED: Final = ("GPU instance", "Machine Learning ASIC Instances")
_TERMS: Final = {"1yr": "reserved_1y", "3yr": "reserved_3y", "1 yr": "reserved_1y", "3 yr": "reserved_3y"}
_TRAINING: Final = re.compile(r"(?:[A-Z0-9]{2,8}-)?Train:(ml\.[a-z0-9.-]{3,60})", re.ASCII)
_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,30}\.[a-z0-9-]{1,30}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PriceRecord:
    """
    One price dimension of one product; empty where a value is missing.

    Fields have AWS's own names by `column_name`, which are the same in its files and in its answers.
    """

    sku: str = ""
    termtype: str = ""
    unit: str = ""
    priceperunit: str = ""
    currency: str = ""
    effectivedate: str = ""
    leasecontractlength: str = ""
    purchaseoption: str = ""
    offeringclass: str = ""
    productfamily: str = ""
    instancetype: str = ""
    instancefamily: str = ""
    gpu: str = ""
    locationtype: str = ""
    regioncode: str = ""
    operatingsystem: str = ""
    tenancy: str = ""
    preinstalledsw: str = ""
    capacitystatus: str = ""
    marketoption: str = ""
    licensemodel: str = ""
    operation: str = ""
    usagetype: str = ""


COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    field.name: tuple(filter(None, (field.name, _OTHER_NAMES.get(field.name))))
    for field in fields(PriceRecord)
}
"""Names of each field of `PriceRecord`; the first that is there is taken."""


def ec2_row(record: PriceRecord, context: SourceContext) -> SourceRow | Refused:
    """Return the row of one record of the AmazonEC2 offer, or why it is not kept."""
    rule = _ec2_rule(record, context.region)
    if rule is not None:
        return Refused(rule)
    option = "on_demand" if record.termtype == "OnDemand" else _TERMS.get(record.leasecontractlength)
    accelerated = record.instancefamily in _ACCELERATED or record.gpu.strip("0") not in ("", "NA")
    if option is None and _fault(record, record.instancetype) is None:
        return Refused("a reservation of a term that is neither 1 nor 3 years", quarantined=True)
    return _build_row(record, record.instancetype, option or "", context, accelerated=accelerated)


def sagemaker_row(record: PriceRecord, context: SourceContext) -> SourceRow | Refused:
    """Return the row of one record of the AmazonSageMaker offer: its own training SKUs, never EC2 times a factor."""
    instance_type = training_type(record.usagetype)
    if instance_type is None:
        return Refused("not a training instance (hosting, notebooks, processing, storage, ...)")
    if record.termtype != "OnDemand":
        return Refused("not an on-demand price")
    if record.regioncode != context.region:
        return Refused("another region, or a local or wavelength zone")
    accelerated = record.gpu.strip("0") not in ("", "NA", "N/A")
    return _build_row(record, instance_type, "on_demand", context, accelerated=accelerated)


def column_name(name: str) -> str:
    """Return a column's or attribute's name in lower case, letters and digits only: alike in files and answers."""
    return _NOT_A_LETTER.sub("", name.lower())


def training_type(usage_type: str) -> str | None:
    """Return the ml.* type of a usage type like USW2-Train:ml.p5.48xlarge; None for hosting, notebooks and others."""
    match = _TRAINING.fullmatch(usage_type)
    return match.group(1) if match else None


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
        yield from list(_prices(product)) or [_record(product, "", {}, None, "", "")]


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
    parts = (
        object_of(product, "product", "attributes"),
        object_of(product, "product"),
        object_of(offer),
        object_of(offer, "termAttributes"),
        object_of(dimension),
    )
    values = {
        column_name(name): text_of(value) or "" for part in parts for name, value in (part or {}).items()
    }
    values |= {
        "termtype": term,
        "currency": currency,
        "priceperunit": price if isinstance(price, str) else "",
    }
    return PriceRecord(
        **{
            field: next((values[name] for name in names if values.get(name)), "")
            for field, names in COLUMNS.items()
        }
    )


def _ec2_rule(record: PriceRecord, region: str) -> str | None:
    """Return the first rule that leaves a record out, or None."""
    if record.productfamily not in _INSTANCE_FAMILIES:
        return "not a machine (storage, traffic, dedicated hosts, ...)"
    if record.termtype not in ("OnDemand", "Reserved"):
        return "a product without an on-demand or reserved price"
    if record.locationtype != "AWS Region" or record.regioncode != region:
        return "another region, or a local or wavelength zone"
    if record.marketoption == "CapacityBlock" or record.operation.endswith(":CB"):
        return "a Capacity Block's usage row: what it costs is the block's own fee"
    for attribute, (value, rule) in _DEMANDED.items():
        if getattr(record, column_name(attribute)) != value:
            return rule
    if record.termtype == "Reserved" and (
        record.purchaseoption != "No Upfront" or record.offeringclass != "standard"
    ):
        return "a reservation that is paid upfront or convertible"
    return None


def _fault(record: PriceRecord, instance_type: str) -> str | None:
    """Return why a record that should be a price is not one; `prices.intake` judges the price itself."""
    if not _TYPE.fullmatch(instance_type.removeprefix("ml.")):
        return "no instance type"
    if record.unit.lower() not in ("hrs", "hour", "hours"):
        return "the unit is not an hour"
    if record.termtype == "OnDemand" and (record.leasecontractlength or record.purchaseoption):
        return "an on-demand price with a reservation's term"
    return None if day_of(record.effectivedate) else "no date from which the price holds"


def _build_row(
    record: PriceRecord, instance_type: str, option: str, context: SourceContext, *, accelerated: bool
) -> SourceRow | Refused:
    fault = _fault(record, instance_type)
    if fault is not None:
        return Refused(fault, quarantined=True)
    day = day_of(record.effectivedate) or ""
    if day > context.today:
        return NOT_BEGUN
    reserved = "standard reservation without upfront payment: paid whether used or not"
    return machine_row(
        context,
        instance_type,
        accelerated=accelerated,
        purchase_option=option,
        usd_per_hour=record.priceperunit,
        currency=record.currency,
        observed_on=day,
        sku=record.sku,
        caveat="" if option == "on_demand" else reserved,
    )
