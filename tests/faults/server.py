"""
A loopback server with scripted faults: a script per path, plain or over TLS.

    with FaultServer() as server:
        server.script("/prices", Script(status=500), Script(body=b"{}"))   # first this, then that for ever
        server.everywhere(Script(reset=True))                             # any other path
        server.url("/prices"), server.requests
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Literal

import trustme


@dataclass(frozen=True)
class Script:
    """
    One answer.

    Attributes:
        length: "declared", "chunked", "none" (the end is the close of the connection), or a number that is said.
        before_head_s: of silence after the request.
        drip_s: between any two bytes of what `drips` names.
        cut_at: bytes of the body after which the connection ends.
        reset: the connection is reset in place of an answer, or where `cut_at` says.
        hang_up: the connection is closed in place of an answer.
        raw: sent in place of all that.
        repeat: the body is sent so many times, for a body larger than memory.
        echo: the answer's body and a header tell back what was sent.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    length: Literal["declared", "chunked", "none"] | int = "declared"
    before_head_s: float = 0.0
    drip_s: float = 0.0
    drips: Literal["body", "head"] = "body"
    cut_at: int | None = None
    reset: bool = False
    hang_up: bool = False
    raw: bytes | None = None
    echo: bool = False
    repeat: int = 1

    def head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Said", *(f"{name}: {value}" for name, value in self.headers)]
        if self.length == "chunked":
            lines.append("Transfer-Encoding: chunked")
        elif self.length != "none":
            said = len(self.body) * self.repeat if self.length == "declared" else self.length
            lines.append(f"Content-Length: {said}")
        lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode()


@dataclass(frozen=True)
class Request:
    """One request."""

    path: str
    query: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class FaultServer:
    """The server; a context manager. `tls` makes it speak TLS with that context."""

    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._scripts: dict[str, list[Script]] = {}
        self._others: list[Script] = [Script(status=404)]
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        owner = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError, ssl.SSLError):
                    owner._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 64

            def handle_error(self, request: object, client_address: object) -> None:
                """Ignore a client that closes its connection."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> FaultServer:  # noqa: PYI034 - typing.Self is of Python 3.11
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str = "") -> str:
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{self.host}:{self._server.server_address[1]}{path}"

    def script(self, path: str, *scripts: Script) -> None:
        self._scripts[path] = list(scripts)

    def everywhere(self, *scripts: Script) -> None:
        self._others = list(scripts)

    def make_request(self, path: str) -> int:
        """Return how often a path was requested."""
        return sum(request.path == path for request in self.requests)

    def _next(self, path: str) -> Script:
        with self._lock:
            scripts = self._scripts.get(path, self._others)
            return scripts.pop(0) if len(scripts) > 1 else scripts[0]

    def _serve(self, connection: socket.socket) -> None:
        if self.tls:
            connection = self.tls.wrap_socket(connection, server_side=True)
        with connection:
            request = _read_request(connection)
            if request is None:
                return
            self.requests.append(request)
            self._answer(connection, self._next(request.path), request)

    def _answer(self, connection: socket.socket, script: Script, request: Request) -> None:
        if self._stopping.wait(script.before_head_s) if script.before_head_s else False:
            return
        if script.raw is not None:
            connection.sendall(script.raw)
            return
        if script.cut_at is None and (script.reset or script.hang_up):
            _end(connection, reset=script.reset)
            return
        if script.echo:
            told = json.dumps(request.headers).encode() + request.query.encode()
            script = Script(script.status, (*script.headers, ("X-Echo", told.decode())), told)
        self._send(connection, script.head(), script.drip_s if script.drips == "head" else 0.0)
        body = script.body if script.cut_at is None else script.body[: script.cut_at]
        if script.length == "chunked":
            body = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
            body += b"" if script.cut_at is not None else b"0\r\n\r\n"
        for _ in range(script.repeat):
            self._send(connection, body, script.drip_s if script.drips == "body" else 0.0)
        _end(connection, reset=script.reset)

    def _send(self, connection: socket.socket, data: bytes, pause_s: float) -> None:
        if not pause_s:
            connection.sendall(data)
            return
        for index in range(len(data)):
            connection.sendall(data[index : index + 1])
            if self._stopping.wait(pause_s):
                return


def _read_request(connection: socket.socket) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    path, _, query = first.split(" ")[1].partition("?")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    while len(body) < length:
        body += connection.recv(65536)
    return Request(path, query, headers, body)


def _end(connection: socket.socket, *, reset: bool) -> None:
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
    connection.close()


def json_script(value: object, **changes: object) -> Script:
    """An honest answer."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Script(headers=(("Content-Type", "application/json"),), body=body, **changes)  # type: ignore[arg-type]


def make_gzipped(body: bytes, **changes: object) -> Script:
    """An honest compressed answer."""
    headers = (("Content-Type", "application/json"), ("Content-Encoding", "gzip"))
    return Script(headers=headers, body=gzip.compress(body), **changes)  # type: ignore[arg-type]


@contextmanager
def tls_twin(
    names: tuple[str, ...] = ("127.0.0.1", "localhost"), *, expired: bool = False, trusted: bool = True
) -> Iterator[tuple[FaultServer, ssl.SSLContext]]:
    """A server over TLS, and a client's context that trusts its authority (or another one)."""
    authority = trustme.CA()
    ends = datetime(2020, 1, 1, tzinfo=timezone.utc) if expired else None
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, not_after=ends).configure_cert(server_side)
    client_side = ssl.create_default_context()
    (authority if trusted else trustme.CA()).configure_trust(client_side)
    with FaultServer(tls=server_side) as server:
        yield server, client_side
