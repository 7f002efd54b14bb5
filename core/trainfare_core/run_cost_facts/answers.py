"""What the lookups return: an answer with its unit, source, date and doubt, or `Unknown` with the reason."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from trainfare_core.clouds import HOURS_PER_MONTH
from trainfare_core.errors import InputError
from trainfare_core.run_cost_facts.facts import Fact

RegionMatch: TypeAlias = Literal["exact", "everywhere", "other_regions"]
"""exact: a row of the region itself; everywhere: a row for all regions; other_regions: what the other regions have."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """
    There is no such fact.

    Attributes:
        because: the reason, as a sentence.
        known_in: regions for which the fact is known.
    """

    because: str
    known_in: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    A fact that is known.

    Attributes:
        unit: the unit of the numbers.
        region_match: how the rows fit the region asked for.
        rows: the rows that the answer is made of.
        unused: rows about the same that were not used, since a better one exists.
    """

    unit: str
    region_match: RegionMatch
    rows: tuple[Fact, ...]
    unused: tuple[Fact, ...] = ()

    @property
    def source(self) -> str:
        """Where the rows come from."""
        return "; ".join(dict.fromkeys(row.source.title for row in self.rows))

    @property
    def as_of(self) -> str:
        """The oldest date of the rows, as precise as it is known; a month counts as its first day."""
        return min(row.as_of for row in self.rows)

    @property
    def weak(self) -> bool:
        """Whether something speaks against one of the rows."""
        return any(row.weak for row in self.rows)

    @property
    def weak_because(self) -> str | None:
        """What speaks against the rows; None where nothing does."""
        return "; ".join(dict.fromkeys(row.weak_because for row in self.rows if row.weak)) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount(Answer):
    """A single number: `value` in `unit`."""

    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement(Answer):
    """A fact in words."""

    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span(Answer):
    """A range, `low` to `high` in `unit`; None is an end that is not known."""

    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota(Answer):
    """The quota called `name`: `value` in `unit` (vcpu, gpu or instance)."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class PriceTier:
    """The price of each GB from the first one, `from_gb`, to the next tier."""

    from_gb: float
    usd_per_gb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TieredPrice(Answer):
    """A price per GB that depends on the GB of the month; tiers in ascending order, the first from 0."""

    tiers: tuple[PriceTier, ...]

    def usd(self, gb: float, *, gb_before: float = 0.0) -> float:
        """
        Return the dollars of `gb`; of a price per GB and month those of one month.

        Args:
            gb: GB of the cloud's bill.
            gb_before: GB of the same month that are billed already and use up the first tiers.

        Returns:
            Dollars, not rounded.

        Raises:
            InputError: an amount is negative or not finite.
        """
        if not (math.isfinite(gb) and math.isfinite(gb_before) and gb >= 0 and gb_before >= 0):
            raise InputError(f"{gb:g} GB after {gb_before:g} GB: give amounts from 0 up")
        return self._first_usd(gb_before + gb) - self._first_usd(gb_before)

    def _first_usd(self, gb: float) -> float:
        """Return the dollars of the first `gb` of a month."""
        ends = (*(tier.from_gb for tier in self.tiers[1:]), math.inf)
        return math.fsum(
            tier.usd_per_gb * (min(gb, end) - tier.from_gb)
            for tier, end in zip(self.tiers, ends, strict=True)
            if gb > tier.from_gb
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskPrice(Answer):
    """The price of one kind of disk: `value` in `unit`, which is per GB, per GiB or, for one size, per month."""

    disk: str
    value: float

    def usd_per_month(self, size: float) -> float | None:
        """
        Return the dollars of a disk for a month.

        Args:
            size: in GB as the cloud bills them, in GiB where `unit` has GiB or the disk has one size.

        Returns:
            Dollars a month; None where the price is that of another size (the 1 TiB disks of Azure).
        """
        if self.unit == "usd_per_gb_month":
            return self.value * size
        if self.unit == "usd_per_gib_hour":
            return self.value * size * HOURS_PER_MONTH
        return self.value if size == _GIB_OF_FIXED_SIZE else None


_GIB_OF_FIXED_SIZE: Final = 1024.0
"""The disks that are priced as a whole (`...-1tib`) have 1 TiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptionBand(Answer):
    """
    Share of a machine type's spot machines that were taken back within a month, in the words of AWS's Spot Advisor.

    Of the region itself `lowest` and `highest` are the same band. Of other regions they are the ends of what those
    have: two regions of one machine have the same band in 36 % of the pairs, so one region says little about another.
    """

    lowest: str
    highest: str
