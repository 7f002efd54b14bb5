"""
Google Cloud: GPU machines and TPU slices, from the Cloud Billing catalogue.

The path: read all SKUs of two services; `skus.py` selects those that are parts of a price; `machines.py` adds host,
GPUs and local SSD up to a machine, and multiplies chip-hours to a slice. With a part missing there is no price.
`quotas.py` reads the quotas of GPUs of the project that `sign_in.py` finds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from itertools import chain
from typing import Final

from trainfare_core.errors import CannotTellError
from trainfare_core.prices.book import PriceBook
from trainfare_providers.gcp.machines import PartIndex, machine_rows, slice_rows
from trainfare_providers.gcp.quotas import QuotaSites, read_limits
from trainfare_providers.gcp.sign_in import SignIn, sign_in
from trainfare_providers.gcp.skus import Part, read_sku
from trainfare_providers.http.addresses import Secret
from trainfare_providers.http.client import HttpClient
from trainfare_providers.http.listing import read_pages
from trainfare_providers.refresh import FetchedQuotas, FetchedRows, load_last_good
from trainfare_providers.source_rows import Refused, RowSink

__all__ = ["ENDPOINT", "KEY_VARIABLE", "GcpPrices", "catalogue_rows"]

ENDPOINT: Final = "https://cloudbilling.googleapis.com"
KEY_VARIABLE: Final = "TRAINFARE_GCP_API_KEY"
_NO_KEY: Final = f"prices need an API key: set {KEY_VARIABLE} (free of charge, docs/permissions.md says how)"

_COMPUTE: Final = "6F81-5844-456A"  # machines, GPUs, TPU v5e and newer
_TPU: Final = "E000-3F24-B8AA"  # TPU v2 to v4


class GcpPrices:
    """
    Prices of Google Cloud's machines with GPUs and of TPU slices.

    Args:
        endpoint: of the Cloud Billing API.
        key: an API key; None takes that of the environment. Without one no request is made.
        clock: the time, to leave out prices that do not hold yet.
        sites: the APIs that are asked for quotas.
        sign_in: returns the project whose quotas are read, within the given seconds.
    """

    name = "gcp"
    needs: tuple[str, ...] = (KEY_VARIABLE,)
    budget_s = 180.0

    def __init__(
        self,
        *,
        endpoint: str = ENDPOINT,
        key: str | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        sites: QuotaSites | None = None,
        sign_in: Callable[[float], SignIn] = sign_in,
    ) -> None:
        self._endpoint, self._clock, self._sign_in = endpoint, clock, sign_in
        self._sites = sites or QuotaSites()
        self._key = None if key is None else Secret(key)

    def load(self) -> PriceBook:
        """Return the last good prices on disk; an empty book where there are none."""
        return load_last_good(self.name)

    def ping(self, http: HttpClient) -> None:
        """Ask for the first page of the TPUs; raises as `fetch`, and CannotTellError without a key."""
        key = self._find_key()
        if not key:
            raise CannotTellError(_NO_KEY)
        next(self._skus(http, _TPU, key), None)

    def _find_key(self) -> Secret:
        return self._key or Secret(os.environ.get(KEY_VARIABLE, "").strip())

    def fetch(self, http: HttpClient) -> tuple[FetchedRows, ...]:
        """
        Read the catalogue; without a key return no rows and a note on what is needed.

        Raises:
            FetchError: the catalogue could not be read to its end.
        """
        key = self._find_key()
        if not key:
            return tuple(RowSink(self.name, service).finish([_NO_KEY]) for service in ("gce", "tpu"))
        compute, tpu = (
            [*http.count_items(self._skus(http, service, key), f"reading {what}")]
            for service, what in (
                (_COMPUTE, "the catalogue of Compute Engine"),
                (_TPU, "the catalogue of TPUs"),
            )
        )
        today = self._clock().strftime("%Y-%m-%d")
        sinks = catalogue_rows(compute, tpu, source=self._address(_COMPUTE), today=today)
        return tuple(sink.finish() for sink in sinks)

    def quotas(self, http: HttpClient, prices: PriceBook) -> FetchedQuotas:
        """
        Return how many GPUs the project may use: of each kind and region, for standard and spot machines, and in all.

        Raises:
            CannotTellError: there is no sign-in or no project, or it has no quota of the machines.
            MissingExtraError: google-auth is not installed.
            FetchError: no answer.
        """
        machines = prices.filter(services=["gce"]).frame.select("instance_type", "region").unique()
        signed = self._sign_in(http.remaining_s)
        quotas = read_limits(http, self._sites, signed, machines.iter_rows())
        if not quotas.limits:
            raise CannotTellError(
                "; ".join(["gcp: no quota of a machine of the prices was read", *quotas.notes])
            )
        return quotas

    def _address(self, service: str) -> str:
        return f"{self._endpoint}/v1/services/{service}/skus"

    def _skus(self, http: HttpClient, service: str, key: Secret) -> Iterator[object]:
        query = {
            "currencyCode": "USD",
            "pageSize": "2000",
        }  # the answer must stay under 16 MiB, `Limits.max_body_bytes`
        headers = {"X-Goog-Api-Key": key}
        url, link = self._address(service), "nextPageToken"
        pages = read_pages(http, url, "skus", link, query, headers=headers, parameter="pageToken")
        return chain.from_iterable(pages)


def catalogue_rows(
    compute: Sequence[object], tpu: Sequence[object], *, source: str, today: str
) -> tuple[RowSink, RowSink]:
    """
    Return the rows of machines and of TPU slices that the SKUs of both services make; malformed SKUs are counted.

    Rows read are the SKUs (each becomes a part or is refused) and the prices made of parts (each a row or refused).
    """
    machines, slices = RowSink("gcp", "gce"), RowSink("gcp", "tpu")
    parts: list[Part] = []
    for skus, sink in ((compute, machines), (tpu, slices)):
        for sku in skus:
            part = sink.keep(read_sku(sku, today=today))
            if part is not None:
                (slices if part.kind == "tpu" else machines).refuse(Refused("part of a price made here"))
                parts.append(part)
    index = PartIndex(parts)
    for sink, rows in (
        (machines, machine_rows(index, source=source)),
        (slices, slice_rows(index, source=source)),
    ):
        sink.add(rows)
    return machines, slices
