"""A question to a price source, the limits it is asked within, and the answer as it comes."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from trainfare_core.errors import FetchCancelledError, FetchError
from trainfare_providers.http.addresses import same_origin, shown_url
from trainfare_providers.http.exchange import Exchange, Fault, Head, UnpackError, unpacked
from trainfare_providers.http.retry import FAULTS
from trainfare_providers.http.strict_json import parse_json

__all__ = [
    "BULK_LIMITS",
    "LOOK_UP_S",
    "JsonFault",
    "Limits",
    "OpenAnswer",
    "Patience",
    "Question",
    "Reply",
    "read_json",
]

_ERROR_NAMES: Final = ("error", "errors", "Error", "fault", "Fault", "__type")

LOOK_UP_S: Final = 0.25
"""How often a wait looks up at the clock and at the wish to stop, seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What one question may take.

    Attributes:
        connect_s: until there is a connection, seconds.
        read_s: of silence, seconds.
        total_s: from the first try to the last byte, waits between tries included, seconds.
        max_body_bytes: unpacked.
        max_attempts: tries in all.
        max_pages: pages of one listing.
    """

    connect_s: float = 5.0
    read_s: float = 10.0
    total_s: float = 15.0
    max_body_bytes: int = 16 * 2**20
    max_attempts: int = 4
    max_pages: int = 10_000


BULK_LIMITS: Final = Limits(total_s=900.0, max_body_bytes=4 * 2**30)
"""For a price file of a whole cloud, read as it comes and never held: AWS's is up to 3 GB."""


@dataclass(frozen=True, slots=True)
class Reply:
    """
    An answer of any status, whole and unpacked, for an SDK to read.

    Attributes:
        headers: as they came, but for the length and packing of the body.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)


class Question:
    """An address and what is sent along; its `repr` shows no secret, so no traceback with locals does."""

    __slots__ = ("cloud", "headers", "url")

    def __init__(self, cloud: str, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.cloud = cloud
        self.url = url
        self.headers = dict(headers or {})

    def __repr__(self) -> str:
        return shown_url(self.url)

    def moved(self, url: str) -> Question:
        """Return the question to where a redirect leads; headers go along only to the same host."""
        return Question(self.cloud, url, self.headers if same_origin(self.url, url) else None)

    def fault(self, name: str, detail: str = "", *, retryable: bool | None = None) -> FetchError:
        """Return the error of a fault in `retry_policy.FAULTS`."""
        rule = FAULTS[name]
        return FetchError(
            self.cloud,
            f"{self!r}: {rule.words}{detail}; {rule.todo}",
            retryable=rule.retry if retryable is None else retryable,
        )


@dataclass(frozen=True, slots=True)
class Patience:
    """
    How long to wait.

    Attributes:
        clock: seconds, only ever growing.
        deadline_s: on that clock.
        cancelled: whether somebody wants it to stop.
    """

    clock: Callable[[], float]
    deadline_s: float
    cancelled: Callable[[], bool] | None

    def left_s(self, question: Question) -> float:
        """
        Return the seconds left, more than 0.

        Raises:
            FetchError: there are none.
            FetchCancelledError: it is to stop.
        """
        if self.cancelled is not None and self.cancelled():
            raise FetchCancelledError(question.cloud, "stopped on request; the last good prices stay in use")
        left = self.deadline_s - self.clock()
        if left <= 0:
            raise question.fault("too slow")
        return left


class OpenAnswer:
    """
    The head of an answer, and its body as it comes.

    Raises:
        FetchError: there is no head within the time.
    """

    def __init__(self, exchange: Exchange, question: Question, patience: Patience) -> None:
        self._exchange, self._question, self._patience = exchange, question, patience
        self.head = self._read_head()

    def chunks(self, max_bytes: int) -> Iterator[bytes]:
        """
        Yield the unpacked body.

        Raises:
            FetchError: it is cut, damaged, too slow, or more than `max_bytes`.
        """
        encoding = self.head.content_encoding
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise self._question.fault("encoding")
        size, damage = 0, ""
        # `del` here and below: a page may echo what was sent, and must not stand in a traceback with locals.
        try:
            for chunk in unpacked(self._raw()) if "gzip" in encoding else self._raw():
                size += len(chunk)
                if size > max_bytes:
                    del chunk
                    raise self._question.fault("too large", f" (more than {max_bytes:,} bytes)")
                yield chunk
                del chunk
        except UnpackError as error:
            damage = error.fault
        if damage:  # raised out here, so that no frame with the page hangs on it as its context
            raise self._question.fault(damage)

    def close(self) -> bool:
        """Lose interest; return whether the connection can be used again."""
        return self._exchange.drop()

    def check_end(self) -> None:
        """
        Refuse a body whose end could not be told from a cut.

        Raises:
            FetchError: no length is declared, and it is neither in chunks nor compressed.
        """
        if not self.head.has_end and "gzip" not in self.head.content_encoding:
            raise self._question.fault("no declared end")

    def _read_head(self) -> Head:
        head = self._receive()
        if not isinstance(head, Head):
            raise self._question.fault("protocol")
        return head

    def _raw(self) -> Iterator[bytes]:
        while True:
            chunk = self._receive()
            if not isinstance(chunk, bytes):
                return
            yield chunk
            del chunk

    def _receive(self) -> Head | bytes | None:
        while True:
            left = self._patience.left_s(self._question)
            try:
                item = self._exchange.receive(min(left, LOOK_UP_S))
            except queue.Empty:
                continue
            if isinstance(item, Fault):
                raise self._question.fault(item.name)
            return item


@dataclass(frozen=True, slots=True)
class JsonFault:
    """Why a body is not the JSON asked for; a name of `retry_policy.FAULTS`, and words that hold none of it."""

    name: str
    detail: str = ""
    retryable: bool = False


def read_json(body: bytes, head: Head, must_have: Sequence[str]) -> tuple[object, JsonFault | None]:
    """Parse, and find a bare value, an error that came with status 200, and an object without what it must have."""
    try:
        value = parse_json(body)
    except ValueError as error:
        detail = f" ({head.content_type}: {error})"
        return None, JsonFault("not JSON", detail, retryable=not head.has_end)
    if not isinstance(value, (dict, list)):
        return None, JsonFault("not JSON", " (a bare value)")
    found = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    if any(found.get(name) for name in _ERROR_NAMES):
        return None, JsonFault("error object")
    absent = [name for name in must_have if name not in found]
    if absent:
        return None, JsonFault("not JSON", f" (no {', '.join(absent)} in it)")
    return cast("object", value), None
