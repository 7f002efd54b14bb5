"""
Measure the time and memory of streaming a price file of 3 GB over loopback, through the HTTP client of the providers.

    python -m benchmarks.speed.bulk_stream [--gigabytes 3] [--packed] [--json OUT]

The server is a separate process, so the peak is the reader's alone. AWS's bulk offer file has up to 3 GB; the limit of
the reader's resident memory is 200 MB, whatever the size.
"""

from __future__ import annotations

import multiprocessing
import socket
import sys
import tempfile
import time
import zlib
from pathlib import Path

from benchmarks.cases import Case, case_parser, peak_resident_bytes, write_cases
from trainfare_providers.disk.part_files import part_file
from trainfare_providers.http.answer import BULK_LIMITS
from trainfare_providers.http.client import HttpClient
from trainfare_providers.http.download import Download

ROW = b'"SKU0000000000001","OnDemand","2026-07-01","$per On Demand Linux p4d.24xlarge","Hrs","21.9576420000","USD"\n'
BLOCK = ROW * (2**20 // len(ROW))
LIMIT_BYTES = 200e6
"""Resident memory of the reader, Python and its libraries included."""


def serve(listener: socket.socket, blocks: int, *, packed: bool) -> None:
    """Answer one request with so many blocks."""
    connection, _ = listener.accept()
    with connection:
        while b"\r\n\r\n" not in connection.recv(65536):
            pass
        ends = (
            "Content-Encoding: gzip\r\nTransfer-Encoding: chunked"
            if packed
            else f'Content-Length: {blocks * len(BLOCK)}\r\nETag: "v1"\r\nAccept-Ranges: bytes'
        )
        connection.sendall(f"HTTP/1.1 200 OK\r\n{ends}\r\nConnection: close\r\n\r\n".encode())
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        for _ in range(blocks):
            send(connection, packer.compress(BLOCK) if packed else BLOCK, packed=packed)
        if packed:
            send(connection, packer.flush(), packed=True)
            connection.sendall(b"0\r\n\r\n")


def send(connection: socket.socket, data: bytes, *, packed: bool) -> None:
    """Send bytes: as one chunk of a chunked body where `packed`, else as they are."""
    if data:
        connection.sendall(b"%x\r\n%s\r\n" % (len(data), data) if packed else data)


def count_lines(file: Download) -> tuple[int, int]:
    """Return the lines and bytes of a file."""
    lines = size = 0
    for chunk in file.chunks():
        lines += chunk.count(b"\n")
        size += len(chunk)
    return lines, size


def main() -> None:
    """Run the command line; exit with 1 where the reader needed more than the limit."""
    parser = case_parser(__doc__)
    parser.add_argument("--gigabytes", type=float, default=3.0, help="size of the body, unpacked, 10^9 bytes")
    parser.add_argument("--packed", action="store_true", help="send the body gzipped")
    options = parser.parse_args()
    blocks = round(options.gigabytes * 1e9 / len(BLOCK))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        context = multiprocessing.get_context("fork")
        server = context.Process(target=serve, args=(listener, blocks), kwargs={"packed": options.packed})
        server.start()
        before, began = peak_resident_bytes(), time.perf_counter()
        with (
            tempfile.TemporaryDirectory() as folder,
            HttpClient(
                "aws", budget_s=BULK_LIMITS.total_s, part_of=lambda url: part_file(Path(folder), url)
            ) as http,
        ):
            lines, size = http.read(f"http://127.0.0.1:{port}/offers.csv", count_lines, limits=BULK_LIMITS)
        seconds = time.perf_counter() - began
        server.join()
    assert (lines, size) == (blocks * len(BLOCK) // len(ROW), blocks * len(BLOCK))
    peak_mb, before_mb = peak_resident_bytes() / 1e6, before / 1e6
    print(f"{size / 1e9:.2f} GB, {lines:,} rows in {seconds:.1f} s ({size / 1e6 / seconds:,.0f} MB/s)")
    print(
        f"peak resident memory {peak_mb:.0f} MB, of which {before_mb:.0f} MB before the first byte; "
        f"limit {LIMIT_BYTES / 1e6:.0f} MB"
    )
    cases = {
        "peak resident memory": Case(peak_mb, None, None, "MB"),
        "seconds": Case(seconds, None, None, "s"),
    }
    write_cases(options.json, cases)
    sys.exit(peak_resident_bytes() > LIMIT_BYTES)


if __name__ == "__main__":
    main()
