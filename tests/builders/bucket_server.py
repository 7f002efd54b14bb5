"""Buckets on loopback as S3, Google Cloud Storage and Azure answer for them, which deny, cut, hang or stand elsewhere."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

_PAGE: Final = 1000
ADDRESSES: Final = {"s3": "s3://runs/team", "gs": "gs://runs/team", "az": "az://runs/team"}


@dataclass
class BucketServer:
    """
    A bucket.

    Attributes:
        url: of the server.
        objects: content and time of the last write, in seconds, by path.
        requests: method, path with query, and the header of the credential.
        fault: "" or denied, cut, silent, elsewhere, missing.
    """

    url: str = ""
    objects: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    fault: str = ""
    clock_s: float = 1_796_000_000.0
    released: threading.Event = field(default_factory=threading.Event)

    def name_environment(self, folder: Path) -> dict[str, str]:
        """Return variables by which the three clouds' libraries find it, with credentials."""
        return {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
            "GOOGLE_BASE_URL": self.url, "GOOGLE_APPLICATION_CREDENTIALS": str(write_account(folder, self.url)),
            "AZURE_STORAGE_ENDPOINT": self.url, "AZURE_STORAGE_ACCOUNT_NAME": "team",
            "AZURE_STORAGE_ACCOUNT_KEY": "c2VjcmV0",
        }  # fmt: skip

    def count(self, *, listings: bool) -> int:
        """Return how many requests listed, or read an object."""
        return sum(method == "GET" and ("list" in url) == listings for method, url, _ in self.requests)


def write_account(folder: Path, url: str) -> Path:
    """Write the key file of a made service account of Google, whose tokens the server gives, and return its path."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {
        "type": "service_account", "client_email": "runs@team", "private_key": text, "private_key_id": "1",
        "token_uri": f"{url}/token", "project_id": "team",
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "account.json").write_text(json.dumps(account))
    return folder / "account.json"


@contextmanager
def serve_bucket() -> Generator[BucketServer]:
    """Serve a bucket until the end of the block."""
    bucket = BucketServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_PUT(self) -> None:
            path, body = self._begin()
            if path is None:
                return
            is_new = self.headers.get("if-none-match") == "*" or "x-goog-if-generation-match" in self.headers
            if is_new and path in bucket.objects:
                self._answer(412, b"")
                return
            bucket.clock_s += 1
            bucket.objects[path] = (body, bucket.clock_s)
            self._answer(200, b"")

        def do_DELETE(self) -> None:
            path, _ = self._begin()
            if path is not None:
                bucket.objects.pop(path, None)
                self._answer(204, b"")

        def do_POST(self) -> None:
            path, body = self._begin()
            if b"<Delete" in body:
                keys = re.findall(r"<Key>(.*?)</Key>", body.decode())
                for key in keys:
                    bucket.objects.pop(f"{path}/{key}".replace("//", "/"), None)
                done = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
                self._answer(200, f"<DeleteResult>{done}</DeleteResult>".encode())
                return
            self._answer(
                200, json.dumps({"access_token": "token-of-the-account", "expires_in": 3600}).encode()
            )

        def do_HEAD(self) -> None:
            self._begin(is_fine=True)
            self._answer(200, b"")

        def do_GET(self) -> None:
            path, _ = self._begin()
            if path is None:
                return
            query = parse_qs(urlsplit(self.path).query)
            if query.keys() & {"list-type", "comp"}:
                self._answer(200, self._list(path, query))
            elif path in bucket.objects:
                self._answer(200, *bucket.objects[path])
            else:
                self._answer(404, b"")

        def _begin(self, *, is_fine: bool = False) -> tuple[str | None, bytes]:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            credential = self.headers.get("authorization", "")
            bucket.requests.append((self.command, self.path, credential))
            if bucket.fault == "silent":
                bucket.released.wait()
            elsewhere = bucket.fault == "elsewhere" and "/eu-west-3/" not in credential
            codes = {"denied": 403, "missing": 404, "elsewhere": 301 if elsewhere else 0}
            if not is_fine and (code := codes.get(bucket.fault, 0)):
                self._answer(code, b"")
                return None, body
            return unquote(urlsplit(self.path).path), body

        def _list(self, path: str, query: dict[str, list[str]]) -> bytes:
            prefix, is_azure = query.get("prefix", [""])[0], "comp" in query
            start = int((query.get("continuation-token") or query.get("marker") or ["0"])[0])
            head = f"{path.rstrip('/')}/"
            names = sorted(name for name in bucket.objects if name.startswith(head + prefix))
            page, rest = names[start : start + _PAGE], names[start + _PAGE :]
            found = "".join(
                _write_entry(name.removeprefix(head), *bucket.objects[name], is_azure=is_azure)
                for name in page
            )
            more = str(start + _PAGE) if rest else ""
            text = (
                f"<EnumerationResults><Blobs>{found}</Blobs><NextMarker>{more}</NextMarker></EnumerationResults>"
                if is_azure
                else f"<ListBucketResult><IsTruncated>{'true' if rest else 'false'}</IsTruncated>"
                f"<NextContinuationToken>{more}</NextContinuationToken>{found}</ListBucketResult>"
            )
            return text.encode()

        def _answer(self, code: int, body: bytes, written_s: float = 0.0) -> None:
            self.send_response(code)
            self.send_header("content-length", str(len(body)))
            self.send_header("etag", f'"{hash(body)}"')
            self.send_header("last-modified", formatdate(written_s, usegmt=True))
            self.send_header("x-amz-bucket-region", "eu-west-3")
            self.send_header("x-goog-generation", "1")
            self.send_header("content-type", "application/json")
            self.end_headers()
            if bucket.fault == "cut" and body:
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
            elif self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    bucket.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield bucket
    finally:
        bucket.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _write_entry(name: str, content: bytes, written_s: float, *, is_azure: bool) -> str:
    from datetime import datetime, timezone

    if is_azure:
        at = formatdate(written_s, usegmt=True)
        return (
            f"<Blob><Name>{name}</Name><Properties><Last-Modified>{at}</Last-Modified><Etag>1</Etag>"
            f"<Content-Length>{len(content)}</Content-Length><Content-Type>x</Content-Type></Properties></Blob>"
        )
    at = datetime.fromtimestamp(written_s, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return (
        f"<Contents><Key>{name}</Key><Size>{len(content)}</Size><LastModified>{at}</LastModified>"
        f'<ETag>"1"</ETag></Contents>'
    )
