"""
A loopback AWS: AWS JSON 1.1, EC2's query and XML, REST JSON, and the public files; real clients talk to it.

It honours the filters it is sent, so a filter that is missing shows as the wrong rows that it lets in.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from builders import aws_wire as wire
from trainfare_providers.aws import Sites

CANARY = "cAnArYsEcReTwXyZ"


@dataclass(frozen=True)
class Answer:
    """What is sent back; `hang_up` cuts the connection in place of an answer."""

    status: int = 200
    body: bytes = b""
    kind: str = "application/x-amz-json-1.1"
    headers: tuple[tuple[str, str], ...] = ()
    hang_up: bool = False
    before_s: float = 0.0


@dataclass(frozen=True)
class Call:
    """One call that was made: as a policy names it, with what was sent."""

    action: str
    region: str
    body: str
    user_agent: str = ""


@dataclass
class AwsServer:
    """Answers from `builders.aws_wire`; `faults` come first, by action or path, each once but the last."""

    products: dict[str, tuple[wire.Product, ...]] = field(
        default_factory=lambda: {"AmazonEC2": wire.EC2_PRODUCTS, "AmazonSageMaker": wire.SAGEMAKER_PRODUCTS}
    )
    spot: tuple[dict[str, object], ...] = wire.SPOT
    instance_types: tuple[dict[str, object], ...] = wire.INSTANCE_TYPES
    blocks: tuple[dict[str, object], ...] = wire.CAPACITY_BLOCKS
    training_plans: tuple[dict[str, object], ...] = wire.TRAINING_PLANS
    rates: tuple[wire.PlanRate, ...] = wire.PLAN_RATES
    page_size: int = 5
    filtering: bool = True
    regions: tuple[str, ...] = ("us-east-1", "us-west-2")
    denied: frozenset[str] = frozenset()
    faults: dict[str, list[Answer]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    port: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def sites(self) -> Sites:
        return Sites(price_list=self.url, advisor=f"{self.url}/spot-advisor-data.json")

    def actions(self) -> set[str]:
        return {call.action for call in self.calls}

    def answer(self, method: str, path: str, headers: dict[str, str], body: str) -> Answer:
        """Find the service and operation of a request, and answer it."""
        if method == "GET":
            self.paths.append(path)
            return self._fault(path) or self._file(path)
        scope = re.search(
            r"Credential=[^/]+/\d+/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request", headers.get("authorization", "")
        )
        region, service = scope.groups() if scope else ("", "")
        query = parse_qs(body) if service == "ec2" else {}
        target = headers.get("x-amz-target", "")
        operation = query["Action"][0] if query else target.partition(".")[2] or path.strip("/")
        operation = operation[:1].upper() + operation[1:]
        prefix = {"savingsplans": "savingsplans"}.get(service, service)
        action = f"{prefix}:{operation}"
        self.calls.append(Call(action, region, body, headers.get("user-agent", "")))
        fault = self._fault(action)
        if fault is not None:
            return fault
        if not self.denied.isdisjoint({action, f"{action}@{region}"}):
            return self._deny(service, action)
        if service == "ec2":
            return self._ec2(operation, query, region)
        return self._json(operation, json.loads(body or "{}"), region)

    def _fault(self, name: str) -> Answer | None:
        queue = self.faults.get(name, [])
        return (queue.pop(0) if len(queue) > 1 else queue[0]) if queue else None

    def _deny(self, service: str, action: str) -> Answer:
        if service == "ec2":
            return ec2_error("UnauthorizedOperation", 403)
        kind = (("x-amzn-errortype", "AccessDeniedException"),)
        said = json.dumps(
            {"__type": "AccessDeniedException", "Message": f"not authorized to perform: {action}"}
        )
        return Answer(400, said.encode(), headers=kind)

    def _ec2(self, operation: str, query: dict[str, list[str]], region: str) -> Answer:
        here = region == "us-east-1"
        wanted = [values[0] for name, values in query.items() if name.startswith("Filter.1.Value.")]
        if operation == "DescribeInstanceTypes":
            names = [str(fields["InstanceType"]) for fields in self.instance_types]
            entries = [
                fields
                for name, fields in zip(names, self.instance_types, strict=True)
                if any(fnmatch(name, pattern) for pattern in wanted)
            ]
            result = "InstanceTypes"
        elif operation == "DescribeSpotPriceHistory":
            entries = [
                fields
                for fields in self.spot
                if here and (fields["InstanceType"] in wanted or not self.filtering)
            ]
            if self.filtering:
                entries = [
                    entry
                    for entry in entries
                    if entry["ProductDescription"] == query["ProductDescription.1"][0]
                ]
            result = "SpotPriceHistory"
        elif operation == "DescribeAvailabilityZones":
            entries, result = list(wire.ZONES) if here else [], "AvailabilityZones"
        else:
            if not here:
                return ec2_error("InvalidParameterValue", 400)
            entries = [block for block in self.blocks if block["InstanceType"] == query["InstanceType"][0]]
            result = "CapacityBlockOfferings"
        start = int(query.get("NextToken", ["0"])[0])
        page, more = entries[start : start + self.page_size], len(entries) > start + self.page_size
        body = {result: page, **({"NextToken": str(start + self.page_size)} if more else {})}
        tag = f"{operation}Response"
        xml = f'<?xml version="1.0"?><{tag} xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">{wire.xml_of(body)}</{tag}>'
        return Answer(200, xml.encode(), "text/xml;charset=UTF-8")

    def _json(self, operation: str, asked: dict[str, object], region: str) -> Answer:
        token = "nextToken" if operation.startswith("DescribeSavings") else "NextToken"
        if operation == "SearchTrainingPlanOfferings" and region != "us-east-1":
            return Answer(400, b'{"__type": "ValidationException", "message": "not here"}')
        entries, result = self._entries(operation, asked)
        start = int(str(asked.get(token, "0")))
        body: dict[str, object] = {result: entries[start : start + self.page_size]}
        if len(entries) > start + self.page_size:
            body[token] = str(start + self.page_size)
        return Answer(200, json.dumps(body).encode())

    def _entries(self, operation: str, asked: dict[str, object]) -> tuple[list[object], str]:
        offer = str(asked.get("ServiceCode", ""))
        if operation == "DescribeServices":
            names = sorted(
                {name for product in self.products[offer] for name in product.attributes} | {"productFamily"}
            )
            return [{"ServiceCode": offer, "AttributeNames": names}], "Services"
        if operation == "GetAttributeValues":
            return [{"Value": name} for name in self.regions], "AttributeValues"
        if operation == "GetProducts":
            return [
                wire.product_json(product)
                for product in self.products[offer]
                if self._matches(product, asked)
            ], "PriceList"
        if operation == "SearchTrainingPlanOfferings":
            kept = [plan for plan in self.training_plans if str(asked["InstanceType"]) in json.dumps(plan)]
            return list(kept), "TrainingPlanOfferings"
        if operation == "DescribeSavingsPlansOfferingRates":
            return [
                rate_json(rate) for rate in self.rates if self._rate_matches(rate, asked)
            ], "searchResults"
        return list(wire.TRAINING_QUOTAS if offer == "sagemaker" else wire.QUOTAS), "Quotas"

    def _matches(self, product: wire.Product, asked: dict[str, object]) -> bool:
        known = {**product.attributes, "productFamily": product.family}
        filters = asked["Filters"]
        assert isinstance(filters, list)
        return not self.filtering or all(known.get(item["Field"]) == item["Value"] for item in filters)

    def _rate_matches(self, rate: wire.PlanRate, asked: dict[str, object]) -> bool:
        if not self.filtering:
            return True
        plan = {"ComputeSavingsPlans": "Compute", "MachineLearningSavingsPlans": "SageMaker"}.get(
            rate.family, "EC2Instance"
        )
        region = next(one["values"][0] for one in asked["filters"] if one["name"] == "region")  # type: ignore[attr-defined]
        return (
            rate.payment in asked["savingsPlanPaymentOptions"]  # type: ignore[operator]
            and plan in asked["savingsPlanTypes"]  # type: ignore[operator]
            and rate.service in asked["serviceCodes"]  # type: ignore[operator]
            and product_type(rate) in asked["products"]  # type: ignore[operator]
            and rate.region == region
        )

    def _file(self, path: str) -> Answer:
        if path == "/spot-advisor-data.json":
            return Answer(200, json.dumps(wire.ADVISOR).encode(), "application/json")
        offer = path.split("/")[4] if path.count("/") >= 5 else ""
        if path.endswith("/current/region_index.json"):
            stem = path.removesuffix("/current/region_index.json")
            rows = [
                {"regionCode": region, key: f"{stem}/20260715000000/{region}/index.json"}
                for region in self.regions
                for key in ["currentVersionUrl" if "/offers/" in stem else "versionUrl"]
            ]
            listed: object = rows if "savingsPlan" in stem else {str(row["regionCode"]): row for row in rows}
            return Answer(
                200, json.dumps({"formatVersion": "v1.0", "regions": listed}).encode(), "application/json"
            )
        region = path.split("/")[-2]
        if path.startswith("/offers/"):
            here = tuple(
                product
                for product in self.products[offer]
                if region in ("us-east-1", product.attributes.get("regionCode"))
            )
            return Answer(
                200,
                wire.offer_csv(here if region == "us-east-1" else move_products(here, region), offer),
                "text/csv",
            )
        code = {"AWSComputeSavingsPlan": "AmazonComputeSavingsPlan"}.get(offer, offer)
        return Answer(200, wire.plan_csv(self.rates if region == "us-east-1" else (), code), "text/csv")


def move_products(products: tuple[wire.Product, ...], region: str) -> tuple[wire.Product, ...]:
    """The same products, of another region."""
    return tuple(
        replace(product, attributes={**product.attributes, "regionCode": region}) for product in products
    )


def product_type(rate: wire.PlanRate) -> str:
    """What a rate is for, as `products` of `DescribeSavingsPlansOfferingRates` asks for it."""
    return {"AmazonEC2": "EC2", "AmazonSageMaker": "SageMaker", "AWSLambda": "Lambda"}[rate.service]


def rate_json(rate: wire.PlanRate) -> dict[str, object]:
    """A result of `DescribeSavingsPlansOfferingRates`."""
    plan = {"ComputeSavingsPlans": "Compute", "MachineLearningSavingsPlans": "SageMaker"}.get(
        rate.family, "EC2Instance"
    )
    return {
        "savingsPlanOffering": {
            "offeringId": rate.sku,
            "paymentOption": rate.payment,
            "planType": plan,
            "durationSeconds": 31_536_000 * int(rate.years),
            "currency": rate.currency,
        },
        "rate": rate.rate,
        "unit": rate.unit,
        "productType": product_type(rate),
        "serviceCode": rate.service,
        "usageType": rate.usage,
        "operation": rate.operation,
        "properties": [{"name": "region", "value": rate.region}],
    }


def ec2_error(code: str, status: int) -> Answer:
    """EC2's error document."""
    xml = (
        f'<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error><Code>{code}</Code><Message>no</Message>'
        "</Error></Errors><RequestID>2776d8dd-afa3-48d3-9025-7cfc34cf1faf</RequestID></Response>"
    )
    return Answer(status, xml.encode(), "text/xml")


def aws_environment(url: str, **more: str) -> dict[str, str]:
    """What steers real clients to the loopback, and nowhere else."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "example",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent/config",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
        **more,
    }


@contextmanager
def aws_server(server: AwsServer | None = None) -> Iterator[AwsServer]:
    """Run it."""
    owner = server or AwsServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve("GET")

        def do_POST(self) -> None:
            self._serve("POST")

        def _serve(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = owner.answer(method, self.path, headers, body)
            if answer.before_s and owner.stopping.wait(answer.before_s):
                return
            if answer.hang_up:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in (
                ("Content-Type", answer.kind),
                ("Content-Length", str(len(answer.body))),
                *answer.headers,
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    owner.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield owner
    finally:
        owner.stopping.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()
