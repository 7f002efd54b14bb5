"""Prices and quotas that a user's AWS account may read; each method is one listing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from trainfare_core.errors import FetchError
from trainfare_providers.answer_values import items_of, text_at
from trainfare_providers.aws.account import Account, Call, NotAllowedError, NotOfferedError
from trainfare_providers.aws.blocks import capacity_block_row, offer_rows, training_plan_row
from trainfare_providers.aws.machines import Machines, parse_instance_types
from trainfare_providers.aws.price_list import EC2_FILTERS, ec2_row, read_products, sagemaker_row
from trainfare_providers.aws.quotas import Quota, TrainingQuota, read_quotas, read_training_quotas
from trainfare_providers.aws.rows import UNREADABLE, AwsRows, Service, SourceContext
from trainfare_providers.aws.savings import PLANS, PlanFile, plan_rate_row
from trainfare_providers.aws.spot import Bands, read_zone_ids, spot_rows

PRICING_REGION: Final = "us-east-1"
"""The region of the Pricing API that is used; each of its three has the prices of all regions."""

BLOCK_HOURS: Final = 24
"""The length of the Capacity Blocks and training plans that are priced: a day, the shortest there is."""

_FAMILIES: Final = ("p*", "g*", "trn*", "inf*", "dl*", "u-p*")
_OFFERS: Final[tuple[tuple[Service, str, Mapping[str, str]], ...]] = (
    ("ec2", "AmazonEC2", EC2_FILTERS),
    ("sagemaker", "AmazonSageMaker", {"productFamily": "ML Instance"}),
)
_PLAN_FILTERS: Final[Mapping[Service, Mapping[str, str]]] = {
    "ec2": {"productDescription": "Linux/UNIX", "tenancy": "shared"},
    "sagemaker": {},
}
_SERVICES: Final = Call("pricing:DescribeServices", "Services")
_VALUES: Final = Call("pricing:GetAttributeValues", "AttributeValues")
_PRODUCTS: Final = Call("pricing:GetProducts", "PriceList")
_TYPES: Final = Call("ec2:DescribeInstanceTypes", "InstanceTypes")
_SPOT: Final = Call("ec2:DescribeSpotPriceHistory", "SpotPriceHistory")
_ZONES: Final = Call("ec2:DescribeAvailabilityZones", "AvailabilityZones")
_BLOCKS: Final = Call("ec2:DescribeCapacityBlockOfferings", "CapacityBlockOfferings")
_TRAINING_PLANS: Final = Call("sagemaker:SearchTrainingPlanOfferings", "TrainingPlanOfferings")
_PLAN_RATES: Final = Call(
    "savingsplans:DescribeSavingsPlansOfferingRates", "searchResults", next_page="nextToken"
)
_QUOTAS: Final = Call("servicequotas:ListServiceQuotas", "Quotas")


@dataclass(frozen=True, slots=True)
class Listing:
    """
    Reads listings with an account; what its credentials may not read becomes a note.

    Attributes:
        now: an aware datetime.
        found: where the rows and notes go.
    """

    account: Account
    now: datetime
    found: AwsRows

    def machines(self, region: str) -> Machines:
        """
        Return the machines that `DescribeInstanceTypes` describes in a region; none where that is not permitted.

        Raises:
            FetchError: no answer.
        """
        filters = [{"Name": "instance-type", "Values": list(_FAMILIES)}]
        described = self._list_entries(
            "machines are described by trainfare's own table, and no Capacity Block is looked for",
            self.account.pages(_TYPES, region, Filters=filters, MaxResults=100),
        )
        return parse_instance_types(described)

    def price_list(self, regions: Sequence[str], machines: Machines) -> bool:
        """
        Read on-demand and reserved prices; return False where the credentials may not.

        Raises:
            FetchError: no answer, or AWS has dropped an attribute that our filters need.
        """
        trial = AwsRows(self.found.today)
        try:
            self._read_offers(regions, machines, trial)
        except NotAllowedError as error:
            self._note_refused(error, "the public price files are read instead")
            return False
        self.found.ec2, self.found.sagemaker = trial.ec2, trial.sagemaker
        for note in trial.notes:
            self.found.note(note)
        return True

    def spot(self, region: str, machines: Machines, bands: Bands) -> None:
        """
        Read the newest spot price of every machine and zone of a region.

        Raises:
            FetchError: no answer.
        """
        history = self._list_entries(
            "spot prices are left out",
            self.account.pages(
                _SPOT,
                region,
                StartTime=self.now,
                EndTime=self.now,
                ProductDescriptions=["Linux/UNIX"],
                Filters=[{"Name": "instance-type", "Values": list(machines.names())}],
                MaxResults=1000,
            ),
            if_none=f"not one spot price came for {region}",
        )
        zone_ids: dict[str, str] = {}
        if any(not text_at(entry, "AvailabilityZoneId") for entry in history):
            zone_ids = self._zone_ids(region)
        context = self._context(_SPOT, region, machines, zone_ids=zone_ids)
        self.found.ec2.add(spot_rows(history, bands, context))

    def blocks(self, region: str, described: Machines, machines: Machines) -> None:
        """
        Read Capacity Blocks and SageMaker training plans of a day, machine by machine.

        Args:
            region: where.
            described: the machines of `DescribeInstanceTypes` there, which says which can be booked.
            machines: the machines that prices are kept for.

        Raises:
            FetchError: no answer.
        """
        names = described.blocks()
        if not names:
            return
        zone_ids = self._zone_ids(region)
        offers = self._bookable(_BLOCKS, region, names, CapacityDurationHours=BLOCK_HOURS)
        blocks = self._list_entries("Capacity Blocks are left out", offers)
        context = self._context(_BLOCKS, region, machines, zone_ids=zone_ids)
        self.found.ec2.add(offer_rows(blocks, capacity_block_row, context))
        offers = self._bookable(
            _TRAINING_PLANS,
            region,
            [f"ml.{name}" for name in names],
            DurationHours=BLOCK_HOURS,
            TargetResources=["training-job"],
        )
        plans = self._list_entries("training plans are left out", offers)
        context = self._context(_TRAINING_PLANS, region, machines, zone_ids=zone_ids)
        self.found.sagemaker.add(offer_rows(plans, training_plan_row, context))

    def savings(self, region: str, machines: Machines) -> None:
        """
        Read the hourly rates of Savings Plans without upfront payment.

        Raises:
            FetchError: no answer.
        """
        context = self._context(_PLAN_RATES, region, machines)
        for plan in PLANS:
            none = f"not one {plan.code} rate came for {region}"
            rates = self._list_entries("Savings Plans are left out", self._rates(plan, region), if_none=none)
            self.found.of(plan.service).add(plan_rate_row(rate, plan, context) for rate in rates)

    def quotas(self, region: str) -> tuple[Quota, ...]:
        """
        Return the vCPUs that the account may run at once.

        Raises:
            FetchError: no answer.
        """
        return read_quotas(self._quotas("ec2", region), region=region)

    def training_quotas(self, region: str) -> tuple[TrainingQuota, ...]:
        """
        Return how many machines of each type SageMaker's training jobs of the account may take at once.

        Raises:
            FetchError: no answer.
        """
        return read_training_quotas(self._quotas("sagemaker", region), region=region)

    def _quotas(self, service: str, region: str) -> list[object]:
        return self._list_entries(
            f"quotas of {service} are left out",
            self.account.pages(_QUOTAS, region, ServiceCode=service, MaxResults=100),
        )

    def _read_offers(self, regions: Sequence[str], machines: Machines, trial: AwsRows) -> None:
        for service, offer, filters in _OFFERS:
            self._check_attributes(offer, tuple(filters))
            offered = self._regions_of(offer)
            for region in regions:
                if offered and region not in offered:
                    trial.note(f"{offer} is not offered in {region}: left out")
                    continue
                self._read_products(service, offer, {"regionCode": region, **filters}, machines, trial)

    def _regions_of(self, offer: str) -> set[str]:
        """Return the regions that an offer has prices of; none where AWS does not list them."""
        try:
            return {
                text_at(value, "Value")
                for value in self._pricing(_VALUES, ServiceCode=offer, AttributeName="regionCode")
            }
        except NotOfferedError:
            return set()

    def _check_attributes(self, offer: str, needed: Sequence[str]) -> None:
        """Raise where an attribute of our filters is gone: such a filter would match every row, or none."""
        listed = self._pricing(_SERVICES, ServiceCode=offer, FormatVersion="aws_v1")
        known = {name for service in listed for name in items_of(service, "AttributeNames")}
        absent = [name for name in needed if name not in known]
        if absent:
            msg = f"the price list of {offer} no longer has {', '.join(absent)}; update trainfare"
            raise FetchError("aws", msg)

    def _read_products(
        self,
        service: Service,
        offer: str,
        product_filters: Mapping[str, str],
        machines: Machines,
        trial: AwsRows,
    ) -> None:
        region, sink = product_filters["regionCode"], trial.of(service)
        context = self._context(_PRODUCTS, region, machines, said=f" {offer} {region}")
        filters = [
            {"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in product_filters.items()
        ]
        products = self._pricing(_PRODUCTS, ServiceCode=offer, Filters=filters, FormatVersion="aws_v1")
        before, row_of = sink.rows_read, ec2_row if service == "ec2" else sagemaker_row
        records = self.account.count_items(read_products(products), f"reading {offer}", region)
        sink.add(UNREADABLE if record is None else row_of(record, context) for record in records)
        if sink.rows_read == before:
            trial.note(f"not one price of {offer} came for {region}")

    def _pricing(self, call: Call, **arguments: object) -> Iterator[object]:
        return self.account.pages(call, PRICING_REGION, MaxResults=100, **arguments)

    def _bookable(
        self, call: Call, region: str, instance_types: Sequence[str], **arguments: object
    ) -> Iterator[object]:
        """Yield the offerings of one machine of each type that can be booked in a region."""
        for name in instance_types:
            with suppress(NotOfferedError):
                yield from self.account.pages(call, region, InstanceType=name, InstanceCount=1, **arguments)

    def _rates(self, plan: PlanFile, region: str) -> Iterator[object]:
        filters = {"region": region, **_PLAN_FILTERS[plan.service]}
        return self.account.pages(
            _PLAN_RATES,
            PRICING_REGION,
            savingsPlanPaymentOptions=["No Upfront"],
            savingsPlanTypes=[plan.plan_type],
            products=["EC2" if plan.service == "ec2" else "SageMaker"],
            serviceCodes=[plan.service_code],
            filters=[{"name": name, "values": [value]} for name, value in filters.items()],
            maxResults=1000,
        )

    def _zone_ids(self, region: str) -> dict[str, str]:
        zones = self.account.pages(_ZONES, region)
        return read_zone_ids(self._list_entries("prices of zones without an id are set aside", zones))

    def _context(
        self,
        call: Call,
        region: str,
        machines: Machines,
        *,
        zone_ids: Mapping[str, str] = MappingProxyType({}),
        said: str = "",
    ) -> SourceContext:
        """Return where the prices of a call are from; `said` is what the call asked for."""
        region_called = region if call.service in ("ec2", "sagemaker") else PRICING_REGION
        operation = call.action.partition(":")[2]
        source = f"{self.account.endpoint(call.service, region_called)} {operation}{said}"
        return SourceContext(region, machines, source, self.found.today, zone_ids)

    def _list_entries(self, instead: str, pages: Iterator[object], *, if_none: str = "") -> list[object]:
        """
        Return all entries of a listing; none, with a note, where the credentials may not make the call.

        Args:
            instead: what follows where they may not.
            pages: the entries, of which none has been asked for.
            if_none: the note for an empty list, which may come from a filter that AWS no longer understands.
        """
        try:
            entries = list(pages)
        except NotAllowedError as error:
            self._note_refused(error, instead)
            return []
        if not entries:
            self.found.note(if_none)
        return entries

    def _note_refused(self, error: NotAllowedError, instead: str) -> None:
        self.found.note(f"{error}: {instead} (docs/permissions.md)")
