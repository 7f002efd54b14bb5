"""
Measure the memory and time of reading AWS's public offer file: a generated body of any size, over loopback, into rows.

    python -m benchmarks.speed.aws_bulk_memory                      # 300 MB, as us-east-1's is
    python -m benchmarks.speed.aws_bulk_memory --megabytes 3000 --json out.json

The reader runs in a process of its own; its peak resident memory is the operating system's figure (ru_maxrss).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from benchmarks.cases import Case, case_parser, write_cases
from benchmarks.speed.resident_memory import in_a_fresh_process, peak_resident_bytes
from trainfare_providers.aws import AwsPrices, Sites
from trainfare_providers.http.client import HttpClient

LIMIT_MIB = 200.0
"""Resident memory of the reader, whatever the size of the file."""

_FILE = "/offers/v1.0/aws/{offer}/20260715000000/us-east-1/index"
_HEADER = (
    '"SKU","OfferTermCode","RateCode","TermType","PriceDescription","EffectiveDate","StartingRange","EndingRange","Unit",'
    '"PricePerUnit","Currency","RelatedTo","LeaseContractLength","PurchaseOption","OfferingClass","Product Family",'
    '"serviceCode","Location","Location Type","Instance Type","Current Generation","Instance Family","vCPU",'
    '"Physical Processor","Clock Speed","Memory","Storage","Network Performance","Processor Architecture","Tenancy",'
    '"Operating System","License Model","usageType","operation","CapacityStatus","GPU","GPU Memory","MarketOption",'
    '"Pre Installed S/W","Region Code","serviceName","Instance Name","Component"\n'
)
_ROW = (
    '"{sku}","JRTCKXETXF","{sku}.JRTCKXETXF.6YS6EN2CT7","{term}","$ per {system} {name} Instance Hour",'
    '"2026-07-01","0","Inf","Hrs","{usd:.10f}","USD","","{lease}","{upfront}","standard","Compute Instance",'
    '"AmazonEC2","US East (N. Virginia)","AWS Region","{name}","Yes","General purpose","96","Xeon Platinum","3 GHz",'
    '"1152 GiB","8 x 1000 SSD","400 Gigabit","64-bit","{tenancy}","{system}","No License required","{usage}:{name}",'
    '"RunInstances","Used","8","NA","OnDemand","NA","us-east-1","Amazon Elastic Compute Cloud","ml.{name}","Training"\n'
)


def offer_body(offer: str, megabytes: float) -> Iterator[bytes]:
    """Yield an offer file of about that size, with every combination of machine, operating system and tenancy."""
    usage = "USE1-Train" if offer == "AmazonSageMaker" else "BoxUsage"
    head = '"FormatVersion","v1.0"\n"Disclaimer","generated"\n"Publication Date","2026-07-15T00:00:00Z"\n'
    head += f'"Version","20260715000000"\n"OfferCode","{offer}"\n'
    yield (head + _HEADER).encode()
    prefix = "ml." if offer == "AmazonSageMaker" else ""
    names = ["p4d.24xlarge", "p5.48xlarge", "g5.xlarge", *(f"m{number}.large" for number in range(5, 800))]
    size, number = 0, 0
    while size < megabytes * 1e6:
        lines: list[str] = []
        for name in names:
            number += 1
            # The first row of a machine is its price; the provider's filters leave out the others.
            spare = number > len(names)
            lines.append(
                _ROW.format(
                    sku=f"SKU{number:013d}",
                    name=name,
                    term="Reserved" if spare and number % 3 else "OnDemand",
                    lease="3yr" if spare and number % 3 else "",
                    upfront="All Upfront" if spare and number % 3 else "",
                    usd=21.9 + number % 7,
                    tenancy="Dedicated" if spare else "Shared",
                    system="Windows" if spare and number % 2 else "Linux",
                    usage=f"{usage if not spare else 'USE1-Host'}" if prefix else usage,
                ).replace(f':{name}"', f':{prefix}{name}"')
            )
        chunk = "".join(lines).encode()
        size += len(chunk)
        yield chunk


def serve(megabytes: float) -> ThreadingHTTPServer:
    """Serve the two offer files: EC2's of that size, SageMaker's of a tenth of it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            offer = self.path.split("/")[4] if self.path.count("/") > 4 else ""
            if self.path.endswith("region_index.json"):
                path = _FILE.format(offer=offer) + ".json"
                body = json.dumps(
                    {"regions": {"us-east-1": {"regionCode": "us-east-1", "currentVersionUrl": path}}}
                )
                self._send(iter([body.encode()]), "application/json")
            else:
                self._send(
                    offer_body(offer, megabytes if offer == "AmazonEC2" else megabytes / 10), "text/csv"
                )

        def _send(self, body: Iterator[bytes], kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in body:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def read(url: str) -> dict[str, float]:
    """Read both offer files in this process; return memory, times and numbers of rows."""
    before_mib = peak_resident_bytes() / 2**20
    began, cpu_began = time.perf_counter(), time.process_time()
    with HttpClient("aws", budget_s=AwsPrices.budget_s) as http:
        fetched = AwsPrices(regions=["us-east-1"], plan_files=False, sites=Sites(url, f"{url}/none")).fetch(
            http
        )
    rows = sum(
        fetch.rows.height + sum(tally.rows for tally in (*fetch.filtered, *fetch.quarantined))
        for fetch in fetched
    )
    return {
        "resident_mib": peak_resident_bytes() / 2**20,
        "before_mib": before_mib,
        "wall_s": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu_began,
        "rows": rows,
        "priced": sum(fetch.rows.height for fetch in fetched),
    }


def main() -> int:
    """Run the command line; return 1 where the reader needed more than the limit."""
    parser = case_parser(__doc__)
    parser.add_argument(
        "--megabytes", type=float, default=300.0, help="of EC2's file, unpacked (default 300)"
    )
    options = parser.parse_args()
    server = serve(options.megabytes)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    took = in_a_fresh_process(read, f"http://127.0.0.1:{server.server_address[1]}")
    server.shutdown()
    size_mb, peak, before = options.megabytes * 1.1, took["resident_mib"], took["before_mib"]
    print(f"body             {size_mb:10,.0f} MB, {took['rows']:,.0f} rows, {took['priced']:,.0f} priced")
    print(
        f"resident memory  {peak:10,.1f} MiB at its peak ({before:,.1f} before), limit {LIMIT_MIB:,.0f} MiB"
    )
    print(f"time             {took['wall_s']:10,.1f} s, of it {took['cpu_s']:,.1f} s CPU in the reader")
    case = Case(peak, LIMIT_MIB, peak / LIMIT_MIB, "MiB")
    write_cases(options.json, {f"aws_bulk_{options.megabytes:g}_mb": case})
    return 0 if peak <= LIMIT_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
