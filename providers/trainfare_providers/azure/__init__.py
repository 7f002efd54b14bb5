"""
Azure: virtual machine prices from the public Retail Prices API, and the machines of an Azure ML workspace.

The path: read the API page by page; `meters.py` classifies each item, and Linux machines with an accelerator become
rows. Where the environment names a workspace, `workspace.py` reads its sizes and quota, and `ml_rows.py` joins them
with the price of the same virtual machine: Azure ML adds no surcharge (`trainfare_providers.derived_rows` does it where
none is named). `usages.py` reads the quotas of virtual machines.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from itertools import chain
from typing import Final

from trainfare_core.errors import CannotTellError, MissingExtraError, PricesUnavailableError, TrainfareError
from trainfare_core.prices.book import PriceBook
from trainfare_core.recommendation import QuotaLimit
from trainfare_providers.azure.meters import Meter, caveat_of, read_item
from trainfare_providers.azure.ml_rows import ml_rows
from trainfare_providers.azure.sign_in import manager_token
from trainfare_providers.azure.usages import MANAGER, read_limits
from trainfare_providers.azure.workspace import Workspace, WorkspaceOffer, quota_limits, read_workspace
from trainfare_providers.derived_rows import NEEDS
from trainfare_providers.http.addresses import Secret
from trainfare_providers.http.client import HttpClient
from trainfare_providers.http.listing import read_pages
from trainfare_providers.refresh import FetchedQuotas, FetchedRows, load_last_good
from trainfare_providers.source_rows import Refused, RowSink

__all__ = ["ENDPOINT", "AzurePrices", "vm_rows"]

ENDPOINT: Final = "https://prices.azure.com/api/retail/prices"
API_VERSION: Final = "2023-01-01-preview"
"""The only version with savings plans; its filters are case-sensitive."""

_FILTER: Final = "serviceName eq 'Virtual Machines' and contains(armSkuName, 'Standard_N')"


class AzurePrices:
    """
    Prices of Azure's machines with accelerators, and of an Azure ML workspace's.

    Args:
        endpoint: of the Retail Prices API; national clouds have none.
        workspace: whose sizes are read; None takes that of the environment.
        read: reads a workspace, within the given seconds.
        manager: address of Azure Resource Manager, which is asked for quotas.
        token: returns a token for it, within the given seconds.
        clock: the time, to leave out prices that do not hold yet.
    """

    name = "azure"
    needs: tuple[str, ...] = NEEDS
    budget_s = 300.0

    def __init__(
        self,
        *,
        endpoint: str = ENDPOINT,
        workspace: Workspace | None = None,
        read: Callable[[Workspace, float], WorkspaceOffer] = read_workspace,
        manager: str = MANAGER,
        token: Callable[[float], Secret] = manager_token,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._endpoint, self._workspace, self._read, self._clock = endpoint, workspace, read, clock
        self._manager, self._token = manager, token

    def load(self) -> PriceBook:
        """Return the last good prices on disk; an empty book where there are none."""
        return load_last_good(self.name)

    def ping(self, http: HttpClient) -> None:
        """Ask for the first page of the price list; raises as `fetch`."""
        next(self._items(http), None)

    def fetch(self, http: HttpClient) -> tuple[FetchedRows, ...]:
        """
        Read all pages, then the workspace where there is one.

        Raises:
            FetchError: the Retail Prices API could not be read; a workspace that cannot be read is a note.
        """
        items = list(http.count_items(self._items(http), "reading the price list"))
        if not items:
            raise http.refusal("no prices", self._endpoint)
        source = f"{self._endpoint}?api-version={API_VERSION}"
        machines, meters = vm_rows(items, source=source, today=self._clock().strftime("%Y-%m-%d"))
        workspace = self._workspace or Workspace.from_environment(os.environ)
        if workspace is None:
            note = (
                "Azure ML: its documented sizes, at the prices of virtual machines; set "
                f"{', '.join(NEEDS)} to see what a workspace can rent"
            )
            return (machines.finish((*_write_notes(meters), note)),)
        try:
            offer = self._read(workspace, http.remaining_s)
        except (PricesUnavailableError, MissingExtraError) as error:
            return (
                machines.finish((*_write_notes(meters), f"Azure ML: the workspace was not read: {error}")),
            )
        sink, notes = ml_rows(offer, meters, source=source)
        return machines.finish(_write_notes(meters)), sink.finish(notes)

    def quotas(self, http: HttpClient, prices: PriceBook) -> FetchedQuotas:
        """
        Return the vCPUs that the subscription may use, for virtual machines and for Azure ML, by family of machines.

        A part that may not be read is a note where the other one is.

        Raises:
            CannotTellError: no subscription is named, or it has no quota of the machines.
            MissingExtraError: azure-identity is not installed.
            FetchError: no answer.
        """
        subscription_id = os.environ.get(NEEDS[0], "").strip()
        workspace = self._workspace or Workspace.from_environment(os.environ)
        parts: list[Callable[[], FetchedQuotas]] = []
        if subscription_id:
            parts.append(lambda: self._vm_quotas(http, subscription_id, prices))
        if workspace is not None:
            parts.append(
                lambda: FetchedQuotas(
                    quota_limits(self._read(workspace, http.remaining_s), prices.names("instance_type"))
                )
            )
        if not parts:
            raise CannotTellError(
                f"azure: set {NEEDS[0]} to read the quotas of virtual machines, and {', '.join(NEEDS[1:])} for "
                "those of Azure ML"
            )
        return _join_quotas(parts)

    def _vm_quotas(self, http: HttpClient, subscription_id: str, prices: PriceBook) -> FetchedQuotas:
        machines = prices.filter(services=["azure_vm"]).frame.select("instance_type", "region").unique()
        token = self._token(http.remaining_s)
        return read_limits(http, self._manager, subscription_id, token, machines.iter_rows())

    def _items(self, http: HttpClient) -> Iterator[object]:
        """Return the items of all pages; a page with another number of items than it states is an error."""
        query = {"api-version": API_VERSION, "$filter": _FILTER}
        return chain.from_iterable(
            read_pages(http, self._endpoint, "Items", "NextPageLink", query, count="Count")
        )


def vm_rows(items: Sequence[object], *, source: str, today: str) -> tuple[RowSink, tuple[Meter, ...]]:
    """
    Return the rows of virtual machines that items make; malformed items are counted.

    Returns:
        the rows and counts, and their meters. Rows read are the items and the entries of their savings plans.
    """
    sink = RowSink("azure", "azure_vm")
    reads = [sink.keep(read) for item in items for read in read_item(item, today=today)]
    primary = {(meter.machine, meter.region, meter.option) for meter in reads if meter and meter.is_primary}
    meters: list[Meter] = []
    for meter in reads:
        if meter is None:
            continue
        if not meter.is_primary and (meter.machine, meter.region, meter.option) in primary:
            sink.refuse(Refused("a nonprimary meter beside the primary one"))
            continue
        meters.append(meter)
        sink.rows.append(meter.row(source, caveat_of(meter.machine, meter.option)))
    return sink, tuple(meters)


def _join_quotas(parts: Sequence[Callable[[], FetchedQuotas]]) -> FetchedQuotas:
    """Return the quotas of all parts; the error of one is a note, and raised where no part has a quota."""
    limits: list[QuotaLimit] = []
    notes: list[str] = []
    errors: list[TrainfareError] = []
    for part in parts:
        try:
            quotas = part()
        except (PricesUnavailableError, MissingExtraError) as error:
            errors.append(error)
            notes.append(str(error))
            continue
        limits += quotas.limits
        notes += quotas.notes
    if not limits and errors:
        raise errors[0]
    if not limits:
        raise CannotTellError("; ".join(["azure: no quota of a machine of the prices was read", *notes]))
    return FetchedQuotas(tuple(limits), tuple(notes))


def _write_notes(meters: Sequence[Meter]) -> tuple[str, ...]:
    if meters and not any(meter.option.startswith("savings_") for meter in meters):
        return (f"no savings plan came with any price: the API no longer gives them as in {API_VERSION}",)
    return ()
