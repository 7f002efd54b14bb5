"""One HTTP request, its limits and its deadline, the answer while it arrives, and the guard of an answer in pages."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from trainfare_core.errors import FetchCancelledError, FetchError
from trainfare_providers.http.addresses import format_host, redact_url, same_origin, target_of
from trainfare_providers.http.exchange import Exchange, Head, UnpackError, unpack_gzip
from trainfare_providers.http.retry import FAULTS, MAX_ATTEMPTS
from trainfare_providers.http.strict_json import parse_json

_ERROR_NAMES: Final = ("error", "errors", "Error", "fault", "Fault", "__type")

CANCEL_POLL_S: Final = 0.25
"""How often a wait checks the deadline and `cancelled`, seconds: Ctrl-C should feel immediate."""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Limits of one request. The defaults are chosen for a page of a price API while a user waits.

    Attributes:
        connect_s: until there is a connection, seconds; name lookup, all addresses of the host and TLS together.
        read_s: without a byte, seconds.
        total_s: from the first attempt to the last byte, waits included, seconds.
        max_body_bytes: unpacked; protects the memory.
        max_attempts: attempts in all.
        max_pages: pages of one listing; ends one that never does.
    """

    connect_s: float = 4.0
    read_s: float = 10.0
    total_s: float = 15.0
    max_body_bytes: int = 16 * 2**20
    max_attempts: int = MAX_ATTEMPTS
    max_pages: int = 10_000


BULK_LIMITS: Final = Limits(total_s=900.0, max_body_bytes=4 * 2**30)
"""For a price file of a whole region, parsed while it arrives: AWS's are up to 3 GB, in 900 s that is 3.6 MB/s."""


@dataclass(frozen=True, slots=True)
class Reply:
    """
    A complete answer of any status, unpacked, for an SDK to read.

    Attributes:
        headers: as received, without those on the length and encoding of the body.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)


class HttpRequest:
    """An address and its headers; the `repr` shows no secret, so that a traceback with local variables shows none."""

    __slots__ = ("cloud", "headers", "url")

    def __init__(self, cloud: str, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.cloud = cloud
        self.url = url
        self.headers = dict(headers or {})

    def __repr__(self) -> str:
        return redact_url(self.url)

    def redirect(self, url: str) -> HttpRequest:
        """Return the request to a redirect's target; headers are kept only for the same origin."""
        return HttpRequest(self.cloud, url, self.headers if same_origin(self.url, url) else None)

    def fault(self, name: str, detail: str = "", *, retryable: bool | None = None) -> FetchError:
        """Return the error of a fault in `retry.FAULTS`."""
        rule = FAULTS[name]
        where = repr(self) if rule.answered else format_host(self.url)
        return FetchError(
            self.cloud,
            f"{where}: {rule.message}{detail}; {rule.advice}",
            retryable=rule.retry if retryable is None else retryable,
        )


class Pages:
    """Checks that a listing in pages ends, repeats no page, and links only to its own site."""

    def __init__(self, request: HttpRequest, max_pages: int) -> None:
        self._request, self._max_pages = request, max_pages
        self._seen: set[str] = set()

    def token(self, token: str) -> str:
        """
        Return the token of the next page.

        Raises:
            FetchError: it was used before, or there are too many pages.
        """
        if token in self._seen:
            raise self._request.fault("paging", " (a page came again)")
        if len(self._seen) + 1 >= self._max_pages:
            raise self._request.fault("paging", f" (more than {self._max_pages:,})")
        self._seen.add(token)
        return token

    def link(self, link: str) -> str:
        """
        Return the address of the next page.

        Raises:
            FetchError: as for `token`, or it leads to another site.
        """
        target = target_of(self._request.url, link)
        if target is None:
            raise self._request.fault("redirect")
        return self.token(target)


@dataclass(frozen=True, slots=True)
class Deadline:
    """
    When a request must have ended.

    Attributes:
        clock: monotonic, seconds.
        at_s: the time on that clock.
        cancelled: returns True to stop earlier; None is never.
    """

    clock: Callable[[], float]
    at_s: float
    cancelled: Callable[[], bool] | None

    def left_s(self, request: HttpRequest) -> float:
        """
        Return the seconds left, more than 0.

        Raises:
            FetchError: there are none.
            FetchCancelledError: `cancelled` returned True.
        """
        if self.cancelled is not None and self.cancelled():
            raise FetchCancelledError(request.cloud, "stopped on request; the last good prices stay in use")
        left = self.at_s - self.clock()
        if left <= 0:
            raise request.fault("too slow")
        return left


class OpenAnswer:
    """
    The head of an answer, and its body while it arrives.

    Args:
        exchange: has sent the request.
        request: what was asked.
        deadline: of the whole answer.
        connect_s: seconds for name lookup, all addresses and TLS together.

    Raises:
        FetchError: no head came before the deadline.
    """

    def __init__(
        self, exchange: Exchange, request: HttpRequest, deadline: Deadline, connect_s: float
    ) -> None:
        self._exchange, self._request, self._deadline = exchange, request, deadline
        self._connect_by_s = deadline.clock() + connect_s
        self.head = self._read_head()

    def chunks(self, max_bytes: int) -> Iterator[bytes]:
        """
        Yield the unpacked body.

        Raises:
            FetchError: it is cut short, damaged, too slow, or larger than `max_bytes`.
        """
        return body_chunks(self.raw(), self.head.content_encoding, self._request, max_bytes)

    def raw(self) -> Iterator[bytes]:
        """
        Yield the body as it comes over the network.

        Raises:
            FetchError: it is cut short or too slow.
        """
        while True:
            chunk = self._receive()
            if not isinstance(chunk, bytes):
                return
            yield chunk
            del chunk

    def close(self) -> bool:
        """Stop reading; return whether the connection can be used again."""
        return self._exchange.drop()

    def check_end(self) -> None:
        """
        Refuse a body of which an early end would go unnoticed.

        Raises:
            FetchError: no length is declared, and it is neither in chunks nor compressed.
        """
        if not self.head.has_end and "gzip" not in self.head.content_encoding:
            raise self._request.fault("no declared end")

    def _read_head(self) -> Head:
        head = self._receive()
        if not isinstance(head, Head):
            raise self._request.fault("protocol")
        return head

    def _receive(self) -> Head | bytes | None:
        while True:
            left = self._deadline.left_s(self._request)
            try:
                item = self._exchange.receive(min(left, CANCEL_POLL_S))
            except queue.Empty:
                # A connect timeout of the system counts for each address of a host, and not for the lookup of its name.
                if self._exchange.connecting and self._deadline.clock() >= self._connect_by_s:
                    raise self._request.fault("connect timeout") from None
                continue
            if isinstance(item, str):
                raise self._request.fault(item)
            return item


def body_chunks(raw: Iterable[bytes], encoding: str, request: HttpRequest, max_bytes: int) -> Iterator[bytes]:
    """
    Yield a body unpacked, in chunks of at most 256 KiB.

    Args:
        raw: as it came over the network.
        encoding: `Content-Encoding`.
        request: for messages.
        max_bytes: unpacked.

    Raises:
        FetchError: it is damaged, larger than `max_bytes`, or packed in an unknown way; and what `raw` raises.
    """
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise request.fault("encoding")
    size, damage = 0, ""
    # `del` here and elsewhere: a server may echo a secret, which a traceback with local variables would show.
    try:
        for chunk in unpack_gzip(raw) if "gzip" in encoding else raw:
            size += len(chunk)
            if size > max_bytes:
                del chunk
                raise request.fault("too large", f" (more than {max_bytes:,} bytes)")
            yield chunk
            del chunk
    except UnpackError as error:
        damage = str(error)
    if damage:  # raised outside the handler, so that no frame that holds the body is its context
        raise request.fault(damage)


@dataclass(frozen=True, slots=True)
class JsonFault:
    """Why a body is not the JSON asked for: a name of `retry.FAULTS`, and a detail that quotes nothing of the body."""

    name: str
    detail: str = ""
    retryable: bool = False


def read_json(body: bytes, head: Head, must_have: Sequence[str]) -> tuple[object, JsonFault | None]:
    """Parse JSON; a bare value, an error object with status 200, or a missing name is a fault."""
    try:
        value = parse_json(body)
    except ValueError as error:
        detail = f" ({head.content_type}: {error})"
        return None, JsonFault("not JSON", detail, retryable=not head.has_end)
    if not isinstance(value, (dict, list)):
        return None, JsonFault("not JSON", " (a bare value)")
    fields = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    if any(fields.get(name) for name in _ERROR_NAMES):
        return None, JsonFault("error object")
    absent = [name for name in must_have if name not in fields]
    if absent:
        return None, JsonFault("not JSON", f" (no {', '.join(absent)} in it)")
    return cast("object", value), None
