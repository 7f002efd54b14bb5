"""
One HTTP exchange, in a thread of its own.

A name lookup has no timeout, headers that arrive byte by byte never exceed a read timeout, and neither can be
interrupted by Ctrl-C on every system. So a thread sends the request, and the caller waits no longer than its deadline.
It receives the head, bytes, or the name of a fault; never a foreign exception, whose text and frames may hold a secret.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import ssl
import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import httpx

_THREAD_NAME: Final = "trainfare-fetch"
_QUEUED_CHUNKS: Final = 16
"""Chunks received and not yet parsed: bounds the memory of a reader that is slower than the network."""

_SLICE_BYTES: Final = 256 * 1024
"""Unpacked bytes at a time: a gzip bomb is noticed before it fills the memory."""

_SHOWN_TYPES: Final = frozenset(
    {*("text/html", "text/plain", "text/csv", "text/xml"), *("application/json", "application/xml")}
)
_FOREIGN_LOGGERS: Final = (
    "httpx",
    *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")),
)


@dataclass(frozen=True, slots=True)
class Head:
    """
    Status and headers of an answer; a header that was not sent is empty.

    Attributes:
        has_end: an early end of the body is noticed, since its length is declared or it is sent in chunks.
        fields: every header, for an SDK to read; never shown, since a server may echo a secret.
    """

    status: int
    location: str = field(repr=False)
    retry_after: str = field(repr=False)
    content_type: str = field(repr=False)
    content_encoding: str = field(repr=False)
    has_end: bool
    fields: tuple[tuple[str, str], ...] = field(default=(), repr=False)


class UnpackError(Exception):
    """A compressed body is damaged; the text is a name of `retry.FAULTS`."""


class Exchange:
    """Sends a request from a daemon thread; `receive` returns head, raw chunks, then None; or a fault of `FAULTS`."""

    def __init__(self, client: httpx.Client, request: httpx.Request) -> None:
        self._box: queue.Queue[Head | bytes | str | None] = queue.Queue(_QUEUED_CHUNKS)
        self._dropped = threading.Event()
        self._socket: socket.socket | None = None
        self._connecting = False
        request.extensions = {**request.extensions, "trace": self._note}
        self._thread = threading.Thread(
            target=self._work, args=(client, request), name=_THREAD_NAME, daemon=True
        )
        self._thread.start()

    def receive(self, timeout_s: float) -> Head | bytes | str | None:
        """
        Return the next item; None is the end.

        Raises:
            queue.Empty: nothing came in time.
        """
        return self._box.get(timeout=timeout_s)

    @property
    def connecting(self) -> bool:
        """Whether a connection is being made: name lookup, every address of the host, TLS."""
        return self._connecting

    def drop(self) -> bool:
        """Stop; return whether the thread has ended, so that its connection can be used again."""
        self._dropped.set()
        if self._thread.is_alive() and self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # ends a blocking read in the thread
        self._thread.join(0.05)
        return not self._thread.is_alive()

    def _note(self, event: str, _: object) -> None:
        """Follow httpcore's events; a connection that is used again is not made."""
        if event.endswith("connect_tcp.started"):
            self._connecting = True
        elif event.endswith("send_request_headers.started"):
            self._connecting = False

    def _work(self, client: httpx.Client, request: httpx.Request) -> None:
        try:
            response = client.send(request, stream=True)
            try:
                stream = response.extensions.get("network_stream")
                self._socket = None if stream is None else stream.get_extra_info("socket")
                self._put(_head_of(response))
                for chunk in response.iter_raw():
                    if self._dropped.is_set():
                        return
                    self._put(chunk)
            finally:
                response.close()
            self._put(None)
        except Exception as error:  # noqa: BLE001 - only the name of the fault leaves this thread
            self._put(_fault_of(error))

    def _put(self, item: Head | bytes | str | None) -> None:
        while not self._dropped.is_set():
            with contextlib.suppress(queue.Full):
                self._box.put(item, timeout=0.2)
                return


def _not_ours(record: logging.LogRecord) -> bool:
    """Drop log records of the HTTP libraries about our requests: they show headers and full addresses."""
    return record.threadName != _THREAD_NAME


def silence_http_logs() -> None:
    """Keep our requests, and no others, out of the logs of httpx and httpcore."""
    for name in _FOREIGN_LOGGERS:
        logging.getLogger(name).addFilter(_not_ours)


def unpack_gzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """
    Unpack gzip in slices of at most 256 KiB, however large a chunk becomes.

    Raises:
        UnpackError: not gzip, damaged, or without its end.
    """
    unpacker = zlib.decompressobj(31)
    fed = False
    try:
        for chunk in chunks:
            data, fed = chunk, fed or bool(chunk)
            while data:
                if unpacker.eof:
                    unpacker = zlib.decompressobj(31)
                piece = unpacker.decompress(data, _SLICE_BYTES)
                data = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
                if piece:
                    yield piece
                del piece
            del chunk, data
        rest = unpacker.flush()
    except zlib.error:
        raise UnpackError("encoding") from None
    if rest:
        yield rest
    if fed and not unpacker.eof:
        raise UnpackError("cut short")


def _head_of(response: httpx.Response) -> Head:
    headers = response.headers
    chunked = "chunked" in headers.get("transfer-encoding", "").lower()
    return Head(
        status=response.status_code,
        location=headers.get("location", ""),
        retry_after=headers.get("retry-after", ""),
        content_type=_media_type(headers.get("content-type", "")),
        content_encoding=headers.get("content-encoding", "").strip().lower(),
        has_end=chunked or "content-length" in headers,
        fields=tuple(headers.items()),
    )


def _media_type(header: str) -> str:
    """Return one of the common media types; other text of the server is not shown."""
    text = header.split(";")[0].strip().lower()
    return text if text in _SHOWN_TYPES else "of another type" if text else "of no type"


def _fault_of(error: Exception) -> str:
    """Return the name of a fault, the most specific that fits."""
    import httpx

    by_kind: tuple[tuple[type[Exception], str], ...] = (
        (httpx.ProxyError, "proxy"),
        (httpx.ConnectTimeout, "connect timeout"),
        (httpx.PoolTimeout, "connect timeout"),
        (httpx.TimeoutException, "read timeout"),
        (httpx.RemoteProtocolError, "protocol"),
        (httpx.NetworkError, "reset"),
        (httpx.UnsupportedProtocol, "address"),
        (httpx.InvalidURL, "address"),
        (httpx.LocalProtocolError, "address"),
    )
    name = next((name for kind, name in by_kind if isinstance(error, kind)), "protocol")
    if name == "protocol" and str(error).startswith(("Server disconnected", "peer closed")):
        return "cut short"
    return _network_fault(error) if name == "reset" else name


def _network_fault(error: Exception) -> str:
    import httpx

    connecting = isinstance(error, httpx.ConnectError)
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "certificate"
        if isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return "reset"
        if isinstance(cause, ssl.SSLError):
            return "tls"
        if isinstance(cause, socket.gaierror):
            return "name lookup failed" if cause.errno == socket.EAI_AGAIN else "no such host"
        if isinstance(cause, ConnectionRefusedError):
            return "refused"
        if isinstance(cause, ConnectionError):
            return "reset"
        if isinstance(cause, UnicodeError):
            return "address"
    return "unreachable" if connecting else "reset"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
