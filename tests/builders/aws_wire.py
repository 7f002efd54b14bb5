"""
AWS's documented wire formats, written by ourselves with real values (us-east-1, July 2026 unless said).

Prices: on-demand, reserved and spot from the public copies named in the snapshot's README; SKUs of p4d from AWS's
price list of May 2024. Every row that looks like a price and is not is beside the true one.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from xml.sax.saxutils import escape


@dataclass(frozen=True)
class Term:
    """One price of a product."""

    price: str
    kind: str = "OnDemand"
    unit: str = "Hrs"
    currency: str = "USD"
    lease: str = ""
    upfront: str = ""
    offering_class: str = ""
    effective: str = "2026-07-01T00:00:00Z"


@dataclass(frozen=True)
class Product:
    """One SKU, by the names that the JSON uses."""

    sku: str
    family: str
    attributes: dict[str, str]
    terms: tuple[Term, ...] = ()
    extra: dict[str, str] = field(default_factory=dict)


def machine(sku: str, instance_type: str, *terms: Term, **changes: str) -> Product:
    """A Linux machine of us-east-1 as AmazonEC2 lists it."""
    accelerated = instance_type.split(".")[0].rstrip("0123456789") not in ("m", "c")
    attributes = {
        "servicecode": "AmazonEC2",
        "location": "US East (N. Virginia)",
        "locationType": "AWS Region",
        "instanceType": instance_type,
        "currentGeneration": "Yes",
        "instanceFamily": "GPU instance" if accelerated else "General purpose",
        "vcpu": "96",
        "memory": "1152 GiB",
        "tenancy": "Shared",
        "operatingSystem": "Linux",
        "licenseModel": "No License required",
        "usagetype": f"BoxUsage:{instance_type}",
        "operation": "RunInstances",
        "capacitystatus": "Used",
        "gpuMemory": "NA",
        "marketoption": "OnDemand",
        "preInstalledSw": "NA",
        "regionCode": "us-east-1",
        "servicename": "Amazon Elastic Compute Cloud",
        **({"gpu": "8"} if accelerated else {}),
    }
    return Product(sku, "Compute Instance", {**attributes, **changes}, terms)


def training(sku: str, instance_type: str, price: str, **changes: str) -> Product:
    """A machine of us-east-1 as AmazonSageMaker lists it for training."""
    attributes = {
        "servicecode": "AmazonSageMaker",
        "location": "US East (N. Virginia)",
        "locationType": "AWS Region",
        "instanceType": f"{instance_type}-Training",
        "instanceName": instance_type,
        "component": "Training",
        "physicalGpu": "8",
        "usagetype": f"USE1-Train:{instance_type}",
        "operation": "RunInstance",
        "regionCode": "us-east-1",
        "servicename": "Amazon SageMaker",
    }
    term = Term(price, effective="2025-02-01T00:00:00Z")
    return Product(sku, "ML Instance", {**attributes, **changes}, (term,))


def make_reserved(
    price: str, lease: str = "1yr", upfront: str = "No Upfront", kind: str = "standard", **changes: str
) -> Term:
    return Term(price, "Reserved", lease=lease, upfront=upfront, offering_class=kind, **changes)  # type: ignore[arg-type]


P4D = "p4d.24xlarge"
EC2_PRODUCTS = (
    machine(
        "H7NGEAC6UEHNTKSJ",
        P4D,
        Term("21.9576420000"),
        make_reserved("13.9210940000"),
        make_reserved("9.1700000000", "3yr"),
        make_reserved("6.5503000000", upfront="Partial Upfront"),
        make_reserved("57401", upfront="Partial Upfront", unit="Quantity"),
        make_reserved("15.0100000000", kind="convertible"),
    ),
    # Without the filter on marketoption this row says that a p4d is free.
    machine(
        "YSXJGN78QTXNVGDQ",
        P4D,
        Term("0.0000000000"),
        operation="RunInstances:CB",
        marketoption="CapacityBlock",
    ),
    machine("UNUSEDP4D0000001", P4D, Term("21.9576420000"), capacitystatus="UnusedCapacityReservation"),
    machine("ALLOCP4D00000001", P4D, Term("0.0000000000"), capacitystatus="AllocatedCapacityReservation"),
    machine("DEDICP4D00000001", P4D, Term("24.1534062000"), tenancy="Dedicated"),
    machine(
        "WINDOWSP4D000001",
        P4D,
        Term("26.3736420000"),
        operatingSystem="Windows",
        operation="RunInstances:0002",
    ),
    machine(
        "SQLP4D0000000001",
        P4D,
        Term("45.9576420000"),
        preInstalledSw="SQL Std",
        operation="RunInstances:0004",
    ),
    machine("BYOLP4D000000001", P4D, Term("21.0000000000"), licenseModel="Bring your own license"),
    machine("P5USE10000000001", "p5.48xlarge", Term("55.0400000000")),
    machine(
        "P5ATLANTA0000001",
        "p5.48xlarge",
        Term("55.0400000000"),
        locationType="AWS Local Zone",
        regionCode="us-east-1-atl-1",
        location="US East (Atlanta)",
    ),
    machine("G5XLUSE100000001", "g5.xlarge", Term("1.0060000000"), make_reserved("0.6337800000"), gpu="1"),
    machine("G6FXLUSE10000001", "g6f.xlarge", Term("0.2421000000"), gpu="1"),
    machine(
        "TRN1USE100000001",
        "trn1.32xlarge",
        Term("21.5000000000"),
        gpu="0",
        instanceFamily="Machine Learning ASIC Instances",
    ),
    machine("G99UNKNOWN000001", "g99.xlarge", Term("3.1400000000")),
    machine("M5LARGEUSE100001", "m5.large", Term("0.0960000000"), make_reserved("0.0600000000")),
    machine("P3CNY00000000001", "p3.2xlarge", Term("21.0000000000", currency="CNY")),
    machine("P3DNQUANTITY0001", "p3dn.24xlarge", Term("31.2120000000", unit="Quantity")),
    Product(
        "XWCTMRRUJM7TGYST",
        "Storage",
        {
            "servicecode": "AmazonEC2",
            "locationType": "AWS Region",
            "regionCode": "us-east-1",
            "volumeApiName": "gp3",
        },
        (Term("0.0800000000", unit="GB-Mo"),),
    ),
    Product(
        "HOSTP4D000000001",
        "Dedicated Host",
        {"servicecode": "AmazonEC2", "instanceType": "p4d", "regionCode": "us-east-1"},
    ),
)

SAGEMAKER_PRODUCTS = (
    training("SMP5TRAIN0000001", "ml.p5.48xlarge", "113.0680000000"),
    training("SMP4DTRAIN000001", "ml.p4d.24xlarge", "37.6880000000"),
    training("SMG5TRAIN0000001", "ml.g5.xlarge", "1.4084000000"),
    training("SMM5TRAIN0000001", "ml.m5.large", "0.1150000000", physicalGpu="0"),
    # The same machine, at other prices, for uses other than training.
    training(
        "SMP5HOST00000001",
        "ml.p5.48xlarge",
        "113.5000000000",
        usagetype="USE1-Host:ml.p5.48xlarge",
        component="Hosting",
    ),
    training(
        "SMP5CLUSTER00001",
        "ml.p5.48xlarge",
        "113.1000000000",
        usagetype="USE1-Cluster:ml.p5.48xlarge",
        component="Cluster",
    ),
    training(
        "SMNOTEBK00000001",
        "ml.g5.xlarge",
        "1.4080000000",
        usagetype="USE1-Notebk:ml.g5.xlarge",
        component="Notebook",
    ),
)


def product_json(product: Product) -> str:
    """One text of a `PriceList`."""
    terms: dict[str, dict[str, object]] = {}
    for index, term in enumerate(product.terms):
        code = f"{product.sku}.TERM{index}"
        described = {
            name: value
            for name, value in (
                ("LeaseContractLength", term.lease),
                ("PurchaseOption", term.upfront),
                ("OfferingClass", term.offering_class),
            )
            if value
        }
        dimension = {
            "rateCode": f"{code}.6YS6EN2CT7",
            "unit": term.unit,
            "beginRange": "0",
            "endRange": "Inf",
            "pricePerUnit": {term.currency: term.price},
            "appliesTo": [],
        }
        terms.setdefault(term.kind, {})[code] = {
            "sku": product.sku,
            "offerTermCode": f"TERM{index}",
            "effectiveDate": term.effective,
            "priceDimensions": {f"{code}.6YS6EN2CT7": dimension},
            "termAttributes": described,
        }
    return json.dumps(
        {
            "product": {
                "sku": product.sku,
                "productFamily": product.family,
                "attributes": product.attributes,
            },
            "serviceCode": product.attributes["servicecode"],
            "terms": terms,
            "version": "20260715000000",
            "publicationDate": "2026-07-15T00:00:00Z",
        }
    )


# JSON attribute -> the CSV's column, as AWS heads them.
_COLUMNS = {
    "servicecode": "serviceCode",
    "location": "Location",
    "locationType": "Location Type",
    "instanceType": "Instance Type",
    "currentGeneration": "Current Generation",
    "instanceFamily": "Instance Family",
    "vcpu": "vCPU",
    "memory": "Memory",
    "tenancy": "Tenancy",
    "operatingSystem": "Operating System",
    "licenseModel": "License Model",
    "usagetype": "usageType",
    "operation": "operation",
    "capacitystatus": "CapacityStatus",
    "gpu": "GPU",
    "gpuMemory": "GPU Memory",
    "marketoption": "MarketOption",
    "preInstalledSw": "Pre Installed S/W",
    "regionCode": "Region Code",
    "servicename": "serviceName",
    "component": "Component",
    "instanceName": "Instance Name",
    "physicalGpu": "Physical GPU",
}
_PRICE_COLUMNS = [
    "SKU",
    "OfferTermCode",
    "RateCode",
    "TermType",
    "PriceDescription",
    "EffectiveDate",
    "StartingRange",
    "EndingRange",
    "Unit",
    "PricePerUnit",
    "Currency",
    "RelatedTo",
    "LeaseContractLength",
    "PurchaseOption",
    "OfferingClass",
]


def offer_csv(products: tuple[Product, ...], offer: str) -> bytes:
    """An offer file, as pricing.us-east-1.amazonaws.com has it."""
    named = [name for name in _COLUMNS if any(name in product.attributes for product in products)]
    out = io.StringIO()
    write = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow
    for facts in (
        ["FormatVersion", "v1.0"],
        ["Disclaimer", "This pricing list is for informational purposes only."],
        ["Publication Date", "2026-07-15T00:00:00Z"],
        ["Version", "20260715000000"],
        ["OfferCode", offer],
        [*_PRICE_COLUMNS, "Product Family", *(_COLUMNS[name] for name in named)],
    ):
        write(facts)
    for product in products:
        for index, term in enumerate(product.terms):
            code = f"TERM{index}"
            price = [
                product.sku,
                code,
                f"{product.sku}.{code}.6YS6EN2CT7",
                term.kind,
                '$ per hour, "Linux"',
                term.effective[:10],
            ]
            price += [
                "0",
                "Inf",
                term.unit,
                term.price,
                term.currency,
                "",
                term.lease,
                term.upfront,
                term.offering_class,
            ]
            write([*price, product.family, *(product.attributes.get(name, "") for name in named)])
    return out.getvalue().encode()


PLAN_HEADER = [
    "SKU",
    "RateCode",
    "Unit",
    "EffectiveDate",
    "DiscountedRate",
    "Currency",
    "DiscountedSKU",
    "DiscountedServiceCode",
    "DiscountedUsageType",
    "DiscountedOperation",
    "PurchaseOption",
    "LeaseContractLength",
    "LeaseContractLengthUnit",
    "ServiceCode",
    "UsageType",
    "Operation",
    "Description",
    "Instance Family",
    "Location",
    "Location Type",
    "Granularity",
    "Product Family",
    "DiscountedRegionCode",
    "DiscountedInstanceType",
]


@dataclass(frozen=True)
class PlanRate:
    """One rate of a savings plan; rates of p4d as published for 1 year are not at hand: shape real, value ours."""

    sku: str
    rate: str
    usage: str
    operation: str = "RunInstances"
    payment: str = "No Upfront"
    years: str = "1"
    family: str = "ComputeSavingsPlans"
    service: str = "AmazonEC2"
    region: str = "us-east-1"
    currency: str = "USD"
    unit: str = "Hrs"


PLAN_RATES = (
    PlanRate("CSP1YRNOUPFRONT1", "15.9860000000", f"BoxUsage:{P4D}"),
    PlanRate("CSP3YRNOUPFRONT1", "10.9788000000", f"BoxUsage:{P4D}", years="3"),
    PlanRate("CSP1YRALLUPFRNT1", "14.9000000000", f"BoxUsage:{P4D}", payment="All Upfront"),
    PlanRate("CSP1YRNOUPFRONT1", "20.4020000000", f"BoxUsage:{P4D}", operation="RunInstances:0002"),
    PlanRate("CSP1YRNOUPFRONT1", "17.5846000000", f"DedicatedUsage:{P4D}"),
    PlanRate("CSP1YRNOUPFRONT1", "0.0700000000", "BoxUsage:m5.large"),
    PlanRate(
        "CSP1YRNOUPFRONT1",
        "0.0000133400",
        "Lambda-GB-Second",
        operation="Invoke",
        service="AWSLambda",
        unit="Lambda-GB-Second",
    ),
    PlanRate("EC2SP1YRP4D00001", "13.9210940000", f"BoxUsage:{P4D}", family="EC2InstanceSavingsPlans"),
    PlanRate(
        "MLSP1YRNOUPFRONT",
        "82.5396000000",
        "USE1-Train:ml.p5.48xlarge",
        "RunInstance",
        family="MachineLearningSavingsPlans",
        service="AmazonSageMaker",
    ),
    PlanRate(
        "MLSP1YRNOUPFRONT",
        "83.0000000000",
        "USE1-Host:ml.p5.48xlarge",
        "RunInstance",
        family="MachineLearningSavingsPlans",
        service="AmazonSageMaker",
    ),
)


def plan_csv(rates: tuple[PlanRate, ...], offer: str) -> bytes:
    """A Savings Plan file."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    for facts in (
        ["FormatVersion", "v1.0"],
        ["Disclaimer", "This pricing list is for informational purposes only, see aws.amazon.com"],
        ["Publication Date", "2026-07-11T18:44:47Z"],
        ["Version", "20260711184447"],
        ["OfferCode", offer],
        PLAN_HEADER,
    ):
        write(facts)
    for rate in rates:
        values = [
            rate.sku,
            f"{rate.sku}.X",
            rate.unit,
            "2026-06-05T18:51:13Z",
            rate.rate,
            rate.currency,
            "X",
            rate.service,
        ]
        values += [
            rate.usage,
            rate.operation,
            rate.payment,
            rate.years,
            "year",
            "ComputeSavingsPlans",
            "ComputeSP",
            "",
            "a plan",
        ]
        write(
            [
                *values,
                "",
                "Any",
                "AWS Region",
                "hourly",
                rate.family,
                rate.region,
                rate.usage.rpartition(":")[2],
            ]
        )
    return out.getvalue().encode()


def describe_row(
    name: str, vcpus: int, memory_gib: float, uses: tuple[str, ...] = ("on-demand", "spot"), **chips: object
) -> dict[str, object]:
    """An entry of `InstanceTypes`, by the API's names."""
    return {
        "InstanceType": name,
        "SupportedUsageClasses": list(uses),
        "VCpuInfo": {"DefaultVCpus": vcpus},
        "MemoryInfo": {"SizeInMiB": int(memory_gib * 1024)},
        **chips,
    }


def gpu(name: str, count: int, mib: int, share: float = 1.0) -> dict[str, object]:
    gpus = {"Name": name, "Manufacturer": "NVIDIA", "Count": count, "MemoryInfo": {"SizeInMiB": mib}}
    gpus |= {"LogicalGpuCount": count or 1, "GpuPartitionSize": share}
    return {"Gpus": [gpus], "TotalGpuMemoryInMiB": mib * (count or 1)}


def neuron(name: str, count: int, mib: int) -> dict[str, object]:
    return {"NeuronDevices": [{"Name": name, "Count": count, "MemoryInfo": {"SizeInMiB": mib}}]}


BLOCK = ("on-demand", "spot", "capacity-block")
INSTANCE_TYPES = (
    describe_row(P4D, 96, 1152, BLOCK, GpuInfo=gpu("A100", 8, 40960)),
    describe_row("p5.48xlarge", 192, 2048, BLOCK, GpuInfo=gpu("H100", 8, 81920)),
    describe_row("g5.xlarge", 4, 16, GpuInfo=gpu("A10G", 1, 22888)),
    describe_row("g6f.xlarge", 4, 16, GpuInfo=gpu("L4", 0, 2861, 0.125)),
    describe_row("g4dn.xlarge", 4, 16, GpuInfo=gpu("T4", 1, 16384)),
    describe_row("p3.2xlarge", 8, 61, GpuInfo=gpu("V100", 1, 16384)),
    describe_row("p3dn.24xlarge", 96, 768, GpuInfo=gpu("V100", 8, 32768)),
    describe_row("trn1.32xlarge", 128, 512, NeuronInfo=neuron("Trainium", 16, 32768)),
    describe_row(
        "trn2.48xlarge", 192, 2048, ("spot", "capacity-block"), NeuronInfo=neuron("Trainium2", 16, 524288)
    ),
    describe_row("trn2u.48xlarge", 192, 2048, ("on-demand", "capacity-block")),
    describe_row("g4ad.xlarge", 4, 16, GpuInfo=gpu("Radeon Pro V520", 1, 8192)),
)

ZONES = (
    {"ZoneName": "us-east-1a", "ZoneId": "use1-az4", "RegionName": "us-east-1", "State": "available"},
    {"ZoneName": "us-east-1b", "ZoneId": "use1-az6", "RegionName": "us-east-1", "State": "available"},
    {"ZoneName": "us-east-1c", "ZoneId": "use1-az1", "RegionName": "us-east-1", "State": "available"},
)


def spot(
    zone: str, name: str, price: str, moment: str, product: str = "Linux/UNIX", **more: str
) -> dict[str, object]:
    entry = {"AvailabilityZone": zone, "InstanceType": name, "ProductDescription": product}
    return {**entry, "SpotPrice": price, "Timestamp": moment, **more}


SPOT = (
    spot("us-east-1a", P4D, "13.993300", "2026-08-02T01:40:10.000Z"),
    spot("us-east-1a", P4D, "14.100000", "2026-08-01T21:46:09.000Z"),  # older: not the price
    spot("us-east-1b", P4D, "11.787000", "2026-08-02T00:58:38.000Z"),
    spot("us-east-1c", P4D, "8.008700", "2026-08-01T23:19:30.000Z"),
    spot(
        "us-east-1c", "p5.48xlarge", "55.040000", "2026-08-01T23:19:30.000Z"
    ),  # equal to on-demand, and real
    spot("us-east-1a", "trn1.32xlarge", "7.534600", "2026-08-02T01:00:00.000Z"),
    spot("us-east-1a", "p3dn.24xlarge", "4.547400", "2026-08-02T01:00:00.000Z"),
    spot("us-east-1a", "p3dn.24xlarge", "8.367700", "2026-08-02T01:00:00.000Z"),  # two prices of one moment
    spot("us-east-1a", P4D, "30.000000", "2026-08-02T01:40:10.000Z", "Windows"),
    spot("us-east-1x", P4D, "9.000000", "2026-08-02T01:40:10.000Z"),  # a zone that no mapping knows
)

CAPACITY_BLOCKS = (
    {
        "CapacityBlockOfferingId": "cb-0123456789abcdef0",
        "InstanceType": P4D,
        "AvailabilityZone": "us-east-1b",
        "InstanceCount": 1,
        "StartDate": "2026-08-05T11:30:00.000Z",
        "EndDate": "2026-08-06T11:30:00.000Z",
        "CapacityBlockDurationHours": 24,
        "UpfrontFee": "283.200000",  # 11.80 an hour, the published rate
        "CurrencyCode": "USD",
        "Tenancy": "default",
    },
    {
        "CapacityBlockOfferingId": "cb-0123456789abcdef1",
        "InstanceType": "p5.48xlarge",
        "AvailabilityZone": "us-east-1c",
        "InstanceCount": 1,
        "StartDate": "2026-08-07T11:30:00.000Z",
        "EndDate": "2026-08-08T11:30:00.000Z",
        "CapacityBlockDurationHours": 24,
        "UpfrontFee": "996.672000",  # 41.528 an hour
        "CurrencyCode": "USD",
        "Tenancy": "default",
    },
)

TRAINING_PLANS = (
    {
        "TrainingPlanOfferingId": "tpo-0123456789abcdef",
        "TargetResources": ["training-job"],
        "DurationHours": 24,
        "UpfrontFee": "1146.17",
        "CurrencyCode": "USD",
        "ReservedCapacityOfferings": [
            {
                "ReservedCapacityType": "Instance",
                "InstanceType": "ml.p5.48xlarge",
                "InstanceCount": 1,
                "AvailabilityZone": "us-east-1c",
                "DurationHours": 24,
                "StartTime": 1786102200,
            }
        ],
    },
)

QUOTAS = (
    {"QuotaCode": "L-417A185B", "QuotaName": "Running On-Demand P instances", "Value": 384.0, "Unit": "None"},
    {
        "QuotaCode": "L-DB2E81BA",
        "QuotaName": "Running On-Demand G and VT instances",
        "Value": 64.0,
        "Unit": "None",
    },
    {
        "QuotaCode": "L-7212CCBC",
        "QuotaName": "All P4, P3 and P2 Spot Instance Requests",
        "Value": 0.0,
        "Unit": "None",
    },
    {
        "QuotaCode": "L-1216C47A",
        "QuotaName": "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        "Value": 1280.0,
    },
    {"QuotaCode": "L-0263D0A3", "QuotaName": "EC2-VPC Elastic IPs", "Value": 5.0},
)

TRAINING_QUOTAS = (
    {"QuotaCode": "L-00000001", "QuotaName": "ml.p4d.24xlarge for training job usage", "Value": 2.0},
    {"QuotaCode": "L-00000002", "QuotaName": "ml.p4d.24xlarge for spot training job usage", "Value": 0.0},
    {"QuotaCode": "L-00000003", "QuotaName": "ml.p4d.24xlarge for training warm pool usage", "Value": 7.0},
    {"QuotaCode": "L-00000004", "QuotaName": "ml.p4d.24xlarge for endpoint usage", "Value": 8.0},
    {"QuotaCode": "L-00000005", "QuotaName": "Total volume size (GB) across all training jobs", "Value": 9.0},
)

ADVISOR = {
    "ranges": [
        {"index": 0, "label": "<5%", "dots": 0, "max": 5},
        {"index": 1, "label": "5-10%", "dots": 1, "max": 11},
        {"index": 2, "label": "10-15%", "dots": 2, "max": 16},
        {"index": 3, "label": "15-20%", "dots": 3, "max": 22},
        {"index": 4, "label": ">20%", "dots": 4, "max": 100},
    ],
    "instance_types": {P4D: {"emr": True, "cores": 96, "ram_gb": 1152.0}},
    "spot_advisor": {
        "us-east-1": {
            "Linux": {P4D: {"s": 53, "r": 4}, "p5.48xlarge": {"s": 65, "r": 1}},
            "Windows": {P4D: {"s": 1, "r": 0}},
        },
        "ca-west-1": {"Linux": [], "Windows": []},
    },
}


def xml_of(value: object, name: str = "") -> str:
    """EC2's XML: first letter small, lists as <item>s."""
    if isinstance(value, dict):
        return "".join(f"<{_tag(key)}>{xml_of(inner)}</{_tag(key)}>" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return "".join(f"<item>{xml_of(inner)}</item>" for inner in value)
    return escape(str(value).lower() if isinstance(value, bool) else str(value))


_TAGS = {
    "VCpuInfo": "vCpuInfo",
    "DefaultVCpus": "defaultVCpus",
    "InstanceTypes": "instanceTypeSet",
    "SpotPriceHistory": "spotPriceHistorySet",
    "AvailabilityZones": "availabilityZoneInfo",
    "CapacityBlockOfferings": "capacityBlockOfferingSet",
    "AvailabilityZone": "availabilityZone",
    "State": "zoneState",
}


def _tag(name: str) -> str:
    return _TAGS.get(name, name[:1].lower() + name[1:])
