"""Where each row that AWS sent ends: kept, left out by a rule, or set aside because it cannot be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import polars as pl

from trainfare_core.prices.intake import BOOK_SCHEMA, Tally
from trainfare_providers.aws.machines import Machines

__all__ = ["ROW_COLUMNS", "Haul", "PriceRow", "Reading", "Service", "Sift"]

Service = Literal["ec2", "sagemaker"]

ROW_COLUMNS: Final = tuple(name for name in BOOK_SCHEMA if name != "origin")
_MAX_NAMED: Final = 12


@dataclass(frozen=True, slots=True)
class PriceRow:
    """
    One price as AWS wrote it, before `price_intake` judges it.

    Attributes:
        usd_per_hour: decimal text, in `currency`, of one machine.
        effective_on: the day it holds from, YYYY-MM-DD.
        zone: the availability zone's id (use1-az1), the same in every account; blank for the whole region.
    """

    service: Service
    instance_type: str
    region: str
    purchase_option: str
    usd_per_hour: str
    currency: str
    effective_on: str
    sku: str
    source: str
    zone: str = ""
    caveat: str = ""
    interruption_band: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """
    What is being read.

    Attributes:
        region: the one asked for, us-east-1.
        machines: which types have an accelerator, and which.
        source: address or API call, without secrets.
        today: the day of the question, YYYY-MM-DD, for prices that do not say since when they hold.
        zone_ids: from zone name (us-east-1a) to id (use1-az4), where the answer has only names.
    """

    region: str
    machines: Machines
    source: str
    today: str
    zone_ids: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class Sift:
    """Collects the rows of one service; `read` is always kept + filtered + quarantined."""

    service: Service
    rows: list[PriceRow] = field(default_factory=list[PriceRow])
    filtered: Counter[str] = field(default_factory=Counter[str])
    quarantined: Counter[str] = field(default_factory=Counter[str])
    unknown: set[str] = field(default_factory=set[str])

    @property
    def read(self) -> int:
        """Rows that came in."""
        return len(self.rows) + self.filtered.total() + self.quarantined.total()

    def keep(self, row: PriceRow) -> None:
        """Take a row as a price."""
        self.rows.append(row)

    def leave_out(self, rule: str, rows: int = 1) -> None:
        """Count rows that a rule leaves out: they are none of our business."""
        self.filtered[rule] += rows

    def set_aside(self, reason: str, rows: int = 1) -> None:
        """Count rows that claim to be a price and cannot be trusted."""
        self.quarantined[reason] += rows

    def accepts_machine(self, machines: Machines, instance_type: str, *, accelerated: bool) -> bool:
        """
        Return whether the machine is one that prices are kept for, and count the row where it is not.

        Args:
            machines: what is known of each type.
            instance_type: of EC2; SageMaker's ml.x is the machine x.
            accelerated: the row itself says that the machine has an accelerator.
        """
        if machines.get(instance_type) is not None:
            return True
        why = machines.why_refused(instance_type)
        if why is not None:
            self.set_aside(why)
        elif accelerated:
            self.leave_out("an accelerator machine that the table of machines does not know")
            if len(self.unknown) < 1000:
                self.unknown.add(instance_type[:60])
        else:
            self.leave_out("machine without an accelerator")
        return False

    def tallies(self, kind: Literal["filtered", "quarantined"]) -> tuple[Tally, ...]:
        """Return the counts of one kind, by reason."""
        counts = self.filtered if kind == "filtered" else self.quarantined
        return tuple(Tally(reason, rows) for reason, rows in sorted(counts.items()) if rows)

    def unknown_note(self) -> str | None:
        """Return the machines left out because nobody has said what is in them."""
        if not self.unknown:
            return None
        names = sorted(self.unknown)
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        return (
            f"{self.service}: machines with an accelerator that trainfare does not know are left out: "
            f"{', '.join(names[:_MAX_NAMED])}{more}"
        )

    def frame(self, machines: Machines, *, fetched_at: str) -> pl.DataFrame:
        """
        Return the kept rows as the columns of `BOOK_SCHEMA`; prices stay decimal text.

        Args:
            machines: where accelerators, vCPUs and memory come from.
            fetched_at: ISO 8601, UTC.
        """
        records = [_record(row, machines, fetched_at) for row in self.rows]
        texts = {name: pl.String if kind is pl.Float64 else kind for name, kind in BOOK_SCHEMA.items()}
        return pl.DataFrame(records, schema={name: texts[name] for name in ROW_COLUMNS}, orient="row")


@dataclass(slots=True)
class Haul:
    """
    What one refresh collects.

    Attributes:
        today: its day, YYYY-MM-DD.
        notes: sentences for people.
    """

    today: str
    ec2: Sift = field(default_factory=lambda: Sift("ec2"))
    sagemaker: Sift = field(default_factory=lambda: Sift("sagemaker"))
    notes: list[str] = field(default_factory=list[str])

    def of(self, service: Service) -> Sift:
        """Return where a service's rows end."""
        return self.ec2 if service == "ec2" else self.sagemaker

    def note(self, sentence: str | None) -> None:
        """Say something once."""
        if sentence and sentence not in self.notes:
            self.notes.append(sentence)


def _record(row: PriceRow, machines: Machines, fetched_at: str) -> tuple[object, ...]:
    machine = machines.get(row.instance_type.removeprefix("ml."))
    values: dict[str, object] = {
        "provider": "aws",
        "service": row.service,
        "instance_type": row.instance_type,
        "region": row.region,
        "zone": row.zone or None,
        "usd_per_hour": row.usd_per_hour,
        "purchase_option": row.purchase_option,
        "observed_on": row.effective_on,
        "observed_on_estimated": False,
        "source": row.source,
        "source_class": "price_api",
        "sku": row.sku or None,
        "currency": row.currency,
        "fetched_at": fetched_at,
        "caveat": row.caveat or None,
        "interruption_band": row.interruption_band or None,
    }
    if machine is not None:
        values |= {
            "accelerator": machine.accelerator,
            "accelerator_count": _text(machine.accelerator_count),
            "accelerator_memory_gib": _text(machine.accelerator_memory_gib),
            "vcpus": _text(machine.vcpus),
            "memory_gib": _text(machine.memory_gib),
            "network_gbit_per_s": _text(machine.network_gbit_per_s),
        }
    return tuple(values.get(name) for name in ROW_COLUMNS)


def _text(number: float | None) -> str | None:
    return None if number is None else f"{number:.10g}"
