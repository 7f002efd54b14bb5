"""A bucket on loopback that lists and reads as Google Cloud Storage and as Azure do, and counts what it sent."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "a-token"
_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
_GOOGLE = (
    "<ListBucketResult><IsTruncated>false</IsTruncated>{}</ListBucketResult>",
    "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00Z</LastModified><ETag>1</ETag><Size>{}</Size></Contents>",
)
_BLOB = (
    "<Blob><Name>{}</Name><Properties><Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified>"
    "<Content-Length>{}</Content-Length><Content-Type>x</Content-Type><Etag>1</Etag></Properties></Blob>"
)
_AZURE = "<EnumerationResults><Blobs>{}</Blobs><NextMarker/></EnumerationResults>", _BLOB


@dataclass
class ObjectStore:
    """What is in a bucket, by its path `/bucket/key`, and what was asked."""

    url: str
    objects: Mapping[str, bytes]
    sent_bytes: int = 0
    tokens: set[str | None] = field(default_factory=set)


@contextmanager
def serve_objects(objects: Mapping[str, bytes]) -> Iterator[ObjectStore]:
    """Serve objects until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            store.tokens.add(self.headers.get("Authorization"))
            address = urlsplit(self.path)
            asked, path = parse_qs(address.query), unquote(address.path)
            if "list-type" in asked or "comp" in asked:
                self._answer(200, self._list(path.rstrip("/"), asked))
            elif path not in objects:
                self._answer(404, b"<Error><Code>BlobNotFound</Code></Error>")
            else:
                self._read(objects[path])

        do_HEAD = do_GET

        def do_POST(self) -> None:
            """Give a token of Google's for the key of a service account."""
            self.rfile.read(int(self.headers["Content-Length"]))
            content = json.dumps({"access_token": TOKEN, "expires_in": 3600}).encode()
            self._answer(200, content, ("Content-Type", "application/json"))

        def _list(self, bucket: str, asked: Mapping[str, list[str]]) -> bytes:
            page, entry = _AZURE if "comp" in asked else _GOOGLE
            prefix = f"{bucket}/{asked.get('prefix', [''])[0]}"
            found = [name for name in sorted(objects) if name.startswith(prefix)]
            entries = (entry.format(name[len(bucket) + 1 :], len(objects[name])) for name in found)
            return page.format("".join(entries)).encode()

        def _read(self, content: bytes) -> None:
            asked = self.headers.get("Range") or self.headers.get("x-ms-range")
            if asked is None:
                self._answer(200, content)
                return
            first, last = re.fullmatch(r"bytes=(\d*)-(\d*)", asked).groups()  # type: ignore[union-attr]
            size = len(content)
            begin = int(first) if first else max(0, size - int(last))
            end = min(int(last), size - 1) if first and last else size - 1
            self._answer(206, content[begin : end + 1], ("Content-Range", f"bytes {begin}-{end}/{size}"))

        def _answer(self, status: int, content: bytes, *headers: tuple[str, str]) -> None:
            self.send_response(status)
            for name, value in (
                *headers,
                ("Content-Length", str(len(content))),
                ("Last-Modified", _DATE),
                ("ETag", "1"),
            ):
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                store.sent_bytes += len(content)
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    store = ObjectStore(f"http://127.0.0.1:{server.server_port}", objects)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
