"""What all parsers of AWS's answers share: where an answer is from, and the row of one machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from trainfare_providers.aws.machines import Machines
from trainfare_providers.source_rows import Refused, RowSink, SourceRow

Service = Literal["ec2", "sagemaker"]

UNREADABLE = Refused("a row that cannot be read", quarantined=True)
NOT_BEGUN = Refused("a price that has not begun")


@dataclass(frozen=True, slots=True)
class SourceContext:
    """
    Where an answer is from, and what its parser needs to know beside it.

    Attributes:
        region: the one asked for, us-east-1.
        machines: which types have an accelerator, and which.
        source: address or API call, without secrets.
        today: the day of the request, YYYY-MM-DD, for prices that do not say since when they hold.
        zone_ids: from zone name (us-east-1a) to id (use1-az4), where the answer has only names.
    """

    region: str
    machines: Machines
    source: str
    today: str
    zone_ids: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class AwsRows:
    """
    The rows and notes of one refresh.

    Attributes:
        today: its day, YYYY-MM-DD.
        notes: sentences for people.
    """

    today: str
    ec2: RowSink = field(default_factory=lambda: RowSink("aws", "ec2"))
    sagemaker: RowSink = field(default_factory=lambda: RowSink("aws", "sagemaker"))
    notes: list[str] = field(default_factory=list[str])

    def of(self, service: Service) -> RowSink:
        """Return the rows of a service."""
        return self.ec2 if service == "ec2" else self.sagemaker

    def note(self, sentence: str | None) -> None:
        """Add a sentence once."""
        if sentence and sentence not in self.notes:
            self.notes.append(sentence)


def machine_row(
    context: SourceContext,
    instance_type: str,
    *,
    purchase_option: str,
    usd_per_hour: str,
    currency: str,
    observed_on: str,
    sku: str = "",
    accelerated: bool = False,
    zone: str = "",
    caveat: str = "",
    interruption_band: str = "",
) -> SourceRow | Refused:
    """
    Return the row of a price, or why no price of this machine is kept.

    Args:
        context: where the price is from.
        instance_type: p5.48xlarge, or ml.p5.48xlarge of SageMaker.
        purchase_option: of `PURCHASE_OPTIONS`.
        usd_per_hour: decimal text as AWS wrote it, in `currency`; `prices.intake` judges it.
        currency: as AWS wrote it.
        observed_on: the day from which the price holds, YYYY-MM-DD.
        sku: or an offering's id.
        accelerated: the price list itself says that the machine has an accelerator.
        zone: the availability zone's id (use1-az1), the same in every account; blank for the whole region.
        caveat: shown beside the price.
        interruption_band: of `INTERRUPTION_BANDS`.
    """
    machine = context.machines.find(instance_type.removeprefix("ml."), accelerated=accelerated)
    if isinstance(machine, Refused):
        return machine
    return SourceRow(
        machine=replace(machine, instance_type=instance_type),
        region=context.region,
        usd_per_hour=usd_per_hour,
        purchase_option=purchase_option,
        observed_on=observed_on,
        sku=sku or None,
        source=context.source,
        currency=currency,
        zone=zone or None,
        caveat=caveat or None,
        interruption_band=interruption_band or None,
    )
