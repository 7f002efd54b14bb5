"""The way out to the network: what comes back, how long it may take, where it may lead, and who may stop it."""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.cli import run_python
from builders.processes import HANG_S
from faults.server import FaultServer, Script, json_script, make_gzipped, tls_twin
from faults.table import Steps, Waits
from trainfare_core.errors import FetchCancelledError, FetchError, InputError
from trainfare_core.installation import write_install_line
from trainfare_providers.http.answer import BULK_LIMITS, Limits
from trainfare_providers.http.client import HttpClient
from trainfare_providers.http.download import Download
from trainfare_providers.http.exchange import UnpackError, unpack_gzip


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def body(file: Download) -> bytes:
    """Return the whole file."""
    return b"".join(file.chunks())


class Time:
    """A clock that moves only with a sleep or a slow answer."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def http(**changes: Any) -> HttpClient:
    """An http that draws the longest wait and does not wait it; its clock stands still unless another is given."""
    return HttpClient(
        "aws", **{"clock": lambda: 0.0, "sleep": lambda _: None, "jitter": lambda most: most, **changes}
    )


def make_timed_client(
    time: Time, answer: Callable[[httpx.Request], tuple[float, httpx.Response | Exception]], **more: Any
) -> HttpClient:
    """An http whose answers take the seconds they say, at most the read timeout."""

    def handle(request: httpx.Request) -> httpx.Response:
        seconds, result = answer(request)
        allowed = request.extensions["timeout"]["read"]
        time.now += min(seconds, allowed)
        if seconds > allowed:
            raise httpx.ReadTimeout("slow", request=request)
        if isinstance(result, Exception):
            raise result
        return result

    return http(transport=httpx.MockTransport(handle), clock=time, sleep=time.sleep, **more)


URL = "https://prices.example.com/p"


def test_json_comes_with_its_numbers_as_they_are_written(server: FaultServer) -> None:
    """A price keeps every digit; a count stays whole; compressed answers are unpacked."""
    text = b'{"price": 21.957642000, "rows": 2}'
    for script in (
        json_script(text),
        make_gzipped(text),
        json_script(text, length="chunked"),
        json_script(text, length="none"),
    ):
        server.script("/p", script)
        with http() as out:
            value = out.get_json(server.url("/p"), must_have=["price"])
        assert value == {"price": Decimal("21.957642000"), "rows": 2}
        assert str(value["price"]) == "21.957642000"  # type: ignore[index]


def test_answer_that_lacks_what_was_asked_for_is_refused(server: FaultServer) -> None:
    """Valid JSON of something else does not pass for a price list."""
    server.script("/p", json_script({"Hello": 1}))
    server.script("/list", json_script([1]))
    with http() as out:
        for path in ("/p", "/list"):
            with pytest.raises(FetchError, match="no Items in it"):
                out.get_json(server.url(path), must_have=["Items"])
        assert out.get_json(server.url("/list")) == [1]


def test_parameters_join_the_query_and_headers_are_sent(server: FaultServer) -> None:
    """The address's own query stays."""
    server.script("/p", json_script({}))
    with http() as out:
        out.get_json(server.url("/p?a=1"), params={"$filter": "x eq 'y'"}, headers={"X-Key": "k"})
    (request,) = server.requests
    assert httpx.QueryParams(request.query) == httpx.QueryParams({"a": "1", "$filter": "x eq 'y'"})
    assert request.headers["x-key"] == "k"
    assert request.headers["user-agent"].startswith("trainfare/")
    assert request.headers["accept-encoding"] == "gzip"


def test_cookies_are_not_kept(server: FaultServer) -> None:
    """A price server has no business recognising anybody."""
    server.script("/p", Script(headers=(("Set-Cookie", "who=you; Path=/"),), body=b"{}"))
    with http() as out:
        out.get_json(server.url("/p"))
        out.get_json(server.url("/p"))
    assert all("cookie" not in request.headers for request in server.requests)


def test_body_without_a_declared_end_is_refused(server: FaultServer) -> None:
    """Bytes that simply stop may be half a file; JSON and gzip know their own end."""
    server.script("/p", Script(body=b"a,b\n1,2\n", length="none"))
    server.script(
        "/gz", Script(body=gzip.compress(b"a,b\n"), length="none", headers=(("Content-Encoding", "gzip"),))
    )
    with http() as out:
        with pytest.raises(FetchError, match="where it ends"):
            out.read(server.url("/p"), body)
        assert out.read(server.url("/gz"), body) == b"a,b\n"


@pytest.mark.parametrize("how", ["get_json", "read"])
@pytest.mark.parametrize(
    "url", ["http://prices.example.com/p", "file:///etc/passwd", "https://me:pw@h.com/", ""]
)
def test_only_https_is_asked(how: str, url: str) -> None:
    """Nothing leaves for another kind of address."""
    transport = httpx.MockTransport(lambda _: pytest.fail("it was asked"))

    def ask(out: HttpClient) -> None:
        if how == "read":
            out.read(url, body)
        else:
            out.get_json(url)

    with http(transport=transport) as out, pytest.raises(FetchError, match="may not be used") as caught:
        ask(out)
    assert "pw" not in str(caught.value).replace("password", "")


def test_checking_certificates_cannot_be_switched_off() -> None:
    """There is no way to ask without knowing who answers."""
    with pytest.raises(InputError, match="always checked"):
        HttpClient("aws", verify=bool(0))


def test_tls_twin_is_trusted_by_its_own_authority() -> None:
    """The honest server over TLS answers, so what fails elsewhere fails for its fault; over TLS a link stays there."""
    with tls_twin() as (server, context):
        server.script("/p", Script(status=307, headers=(("Location", "/q"),)))
        server.script("/q", json_script({"a": 1}))
        with http(verify=context) as out:
            assert out.get_json(server.url("/p")) == {"a": 1}


def test_credentials_are_not_sent_to_another_host(record_property: Callable[[str, object], None]) -> None:
    """A redirect inside the site is followed; the key stays with the host it was meant for."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.host == "prices.example.com" and request.url.path == "/p":
            return httpx.Response(302, headers={"Location": "/same"})
        if request.url.host == "prices.example.com":
            return httpx.Response(302, headers={"Location": "https://files.example.com/q"})
        return httpx.Response(200, stream=httpx.ByteStream(b"{}"))

    with http(transport=httpx.MockTransport(handle)) as out:
        out.get_json(
            URL, params={"key": "S3CRET"}, headers={"Authorization": "S3CRET", "X-Goog-Api-Key": "S3CRET"}
        )
    first, same, other = seen
    assert "S3CRET" in str(first.url)
    assert first.headers["authorization"] == same.headers["authorization"] == "S3CRET"
    assert other.url.host == "files.example.com"
    sent = f"{other.url} {dict(other.headers)}".count("S3CRET")
    record_property("{} secrets sent to another host, 0 allowed", sent)
    assert sent == 0


def test_pages_may_not_repeat_leave_the_site_or_never_end() -> None:
    """A listing ends."""
    with http(limits=Limits(max_pages=3)) as out:
        pages = out.pages(URL)
        assert pages.link("?skip=1") == f"{URL}?skip=1"
        with pytest.raises(FetchError, match="a page came again"):
            pages.link(f"{URL}?skip=1")
        with pytest.raises(FetchError, match="to an address that may not be used"):
            pages.link("https://evil.org/p")
        assert pages.token("next") == "next"
        with pytest.raises(FetchError, match="more than 3"):
            pages.token("last")
        assert Limits().max_pages == 10_000


def test_dead_cloud_costs_at_most_ten_seconds(record_property: Callable[[str, object], None]) -> None:
    """Silence of 10 s, with the limits as they are; never four times ten."""
    time = Time()
    tries: list[float] = []

    def silent(request: httpx.Request) -> tuple[float, Exception]:
        tries.append(request.extensions["timeout"]["read"])
        return 3600.0, AssertionError

    with (
        make_timed_client(time, silent, budget_s=900.0) as out,
        pytest.raises(FetchError, match=r"went silent|within the time"),
    ):  # type: ignore[arg-type]
        out.get_json(URL)
    assert tries == [10.0]
    record_property("at most {} s for a cloud that never answers, 10 allowed", time.now)
    assert time.now == 10.0


def test_cloud_that_answered_once_is_given_fifteen_seconds(
    record_property: Callable[[str, object], None],
) -> None:
    """Silence of 10 s at the second question, then what is left of 15 s."""
    time = Time()
    tries: list[float] = []

    def falls_silent(request: httpx.Request) -> tuple[float, httpx.Response]:
        tries.append(request.extensions["timeout"]["read"])
        return 0.0 if len(tries) == 1 else 3600.0, httpx.Response(200, stream=httpx.ByteStream(b"{}"))

    with make_timed_client(time, falls_silent, budget_s=900.0) as out:
        out.get_json(URL)
        with pytest.raises(FetchError, match=r"went silent|within the time"):
            out.get_json(URL)
    assert len(tries) == 3
    assert tries[1] == 10.0
    assert tries[2] <= 4.5
    record_property("at most {} s for one that answered once, 15 allowed", time.now)
    assert time.now <= 15.0


class BlackHole(httpx.BaseTransport):
    """A network that swallows everything, by the events that httpcore gives: a connection is begun and never made."""

    def __init__(self) -> None:
        self.tries, self.over = 0, threading.Event()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.tries += 1
        request.extensions["trace"]("connection.connect_tcp.started", {})
        self.over.wait()
        raise httpx.ConnectError("no", request=request)

    def close(self) -> None:
        self.over.set()


def test_black_hole_ends_by_our_own_clock() -> None:
    """A lookup, or eight addresses of a host one after the other, take no longer than one connect timeout each try."""
    hole, clock, waits = BlackHole(), Steps(0.6), Waits()
    with http(transport=hole, clock=clock, sleep=waits, budget_s=900.0) as out:
        with pytest.raises(
            FetchError, match=r"^aws: prices\.example\.com: no connection in time; check the network"
        ):
            out.get_json(URL)
        hole.over.set()
    assert hole.tries == 2
    assert clock.now + sum(waits.all) < 20.0


def test_socket_whose_queue_is_full_is_a_black_hole() -> None:
    """A real one: Linux drops what would connect to it, without a word."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        host = f"127.0.0.1:{full.getsockname()[1]}"
        with (
            http(clock=Steps(0.6), budget_s=900.0) as out,
            pytest.raises(FetchError, match=f"^aws: {host}: no connection in time; check the network"),
        ):
            out.get_json(f"http://{host}/p")


def test_server_that_accepts_and_never_answers_ends_by_our_own_clock(server: FaultServer) -> None:
    """A real socket that listens: the connection is made, and the silence has its limit."""
    server.everywhere(Script(before_head_s=HANG_S))
    clock = Steps(3.0)
    with (
        http(clock=clock, budget_s=900.0) as out,
        pytest.raises(FetchError, match="not complete within the time allowed"),
    ):
        out.get_json(server.url("/p"))
    assert len(server.requests) == 1
    assert clock.now <= 21.0


def test_time_on_a_connection_that_is_used_again_is_no_time_of_connecting(server: FaultServer) -> None:
    """The connect timeout is over long before the body is."""
    server.script("/p", json_script({"a": 1}, drip_s=0.02))
    clock = Steps(0.02, lambda: server.make_request("/p") > 0)
    with http(limits=Limits(connect_s=0.01, total_s=HANG_S), clock=clock) as out:
        assert out.get_json(server.url("/p")) == {"a": 1}


def test_failed_attempts_add_up_over_the_requests_of_a_cloud() -> None:
    """A cloud that limps at every page is given up after 15 s of failed tries and waits, though each page would come."""
    time = Time()
    texts: list[str] = []

    def limping(request: httpx.Request) -> tuple[float, httpx.Response]:
        texts.append(str(request.url))
        return 3.0, httpx.Response(
            503 if texts.count(str(request.url)) == 1 else 200, stream=httpx.ByteStream(b"{}")
        )

    with (
        make_timed_client(time, limping, budget_s=900.0) as out,
        pytest.raises(FetchError, match="went silent"),
    ):
        all(out.get_json(f"{URL}/{page}") == {} for page in range(100))
    assert (
        len(set(texts)) == 4
    )  # after 4 x (3 s failed + 0.5 s waited), 1 s of silence is the most there is left
    assert time.now < 30


def test_waits_add_up_over_the_requests_of_a_cloud() -> None:
    """A cloud that asks for 7 s before every page gets two such waits, not a hundred."""
    time = Time()
    texts: list[str] = []

    def answer_tired(request: httpx.Request) -> tuple[float, httpx.Response]:
        texts.append(str(request.url))
        again = texts.count(str(request.url)) > 1
        headers = {} if again else {"Retry-After": "7"}
        body = httpx.ByteStream(b"{}")
        return 0.0, httpx.Response(200 if again else 503, headers=headers, stream=body)

    with (
        make_timed_client(time, answer_tired, budget_s=900.0) as out,
        pytest.raises(FetchError, match="answered 503"),
    ):
        all(out.get_json(f"{URL}/{page}") == {} for page in range(100))
    assert time.now == 14.0


def test_one_budget_for_all_requests_of_a_cloud() -> None:
    """Pages that come slowly but surely end with the budget."""
    time = Time()
    with make_timed_client(
        time, lambda _: (9.0, httpx.Response(200, stream=httpx.ByteStream(b"{}"))), budget_s=25.0
    ) as out:
        assert out.remaining_s == 25.0
        out.get_json(URL)
        assert out.remaining_s == 16.0
        out.get_json(URL)
        with pytest.raises(FetchError, match="within the time allowed"):
            out.get_json(URL)
        assert out.remaining_s == 0.0


def test_full_jitter_is_drawn_between_nothing_and_the_ceiling() -> None:
    """Without the seam the waits are random, within their ceilings, and not all the same."""
    waits: list[float] = []
    for _ in range(12):
        transport = httpx.MockTransport(lambda _: httpx.Response(500))
        with (
            HttpClient(
                "aws", transport=transport, sleep=waits.append, clock=lambda: 0.0, max_failed_s=1e9
            ) as out,
            pytest.raises(FetchError),
        ):
            out.get_json(URL)
    assert len(waits) == 36
    assert all(0 <= wait <= most for wait, most in zip(waits, (0.5, 1.0, 2.0) * 12, strict=True))
    assert len(set(waits)) > 30


def test_error_has_status_and_retryable() -> None:
    """Status, whether to try later, and how long the server asks to wait."""
    transport = httpx.MockTransport(lambda _: httpx.Response(429, headers={"Retry-After": "3600"}))
    with (
        http(transport=transport) as out,
        pytest.raises(FetchError, match="asks to wait 3,600 s") as caught,
    ):
        out.get_json(URL)
    error = caught.value
    assert (error.cloud, error.status, error.retryable, error.retry_after_s) == ("aws", 429, True, 3600.0)


def test_stream_gives_the_body_as_it_comes(server: FaultServer) -> None:
    """A body within its cap arrives whole, in small chunks, and one over it is refused while it comes."""
    server.script("/p", Script(body=b"x" * 300_000))
    server.script(
        "/gz", Script(body=gzip.compress(bytes(9_000_000)), headers=(("Content-Encoding", "gzip"),))
    )
    with http() as out:
        assert out.read(server.url("/p"), body) == b"x" * 300_000
        sizes = out.read(server.url("/gz"), lambda file: [len(chunk) for chunk in file.chunks()])
    assert sum(sizes) == 9_000_000
    assert max(sizes) <= 256 * 1024
    with (
        http(limits=Limits(max_body_bytes=200_000)) as small,
        pytest.raises(FetchError, match="larger than allowed"),
    ):
        small.read(server.url("/p"), body)
    assert BULK_LIMITS.max_body_bytes == 4 * 2**30


def test_bulk_file_is_streamed_in_constant_memory(
    server: FaultServer, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """400 MB pass through a process that grows by less than 60 MB; benchmarks/speed/bulk_stream.py measures 3 GB."""
    version = (("ETag", '"v1"'), ("Accept-Ranges", "bytes"))
    server.script("/p", Script(headers=version, body=b"a,price,row\n" * 87_000, repeat=400))
    code = (
        "import sys, resource\nfrom trainfare_providers.http.answer import BULK_LIMITS\nfrom trainfare_providers.http.client import HttpClient\n"
        "import httpx, tenacity\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "from pathlib import Path\nfrom trainfare_providers.disk.part_files import part_file\n"
        "with HttpClient('aws', budget_s=900, part_of=lambda url: part_file(Path(sys.argv[2]), url)) as out:\n"
        "    size = out.read(sys.argv[1], lambda file: sum(map(len, file.chunks())), limits=BULK_LIMITS)\n"
        "print(size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    result = run_python("-c", code, server.url("/p"), tmp_path, check=True)
    size, grown_kib = map(int, result.stdout.split())
    assert size == 12 * 87_000 * 400
    record_property("at most {} MiB more memory for a file of 400 MB, 60 allowed", grown_kib / 1024)
    assert grown_kib < 60 * 1024


def test_stream_that_is_left_early_leaves_no_thread(server: FaultServer) -> None:
    """Who has read enough goes; nothing hangs on."""
    server.script("/p", Script(body=bytes(20_000_000)))
    before = set(threading.enumerate())  # another test may have left a request that hangs
    with http(limits=BULK_LIMITS) as out:
        assert out.read(server.url("/p"), lambda file: next(file.chunks()))
    while any(thread.name == "trainfare-fetch" for thread in set(threading.enumerate()) - before):
        threading.Event().wait(0.01)
    assert len(set(threading.enumerate()) - before) <= 2  # the server's own


def test_hung_lookup_does_not_affect_the_next_request(server: FaultServer) -> None:
    """The hanging thread keeps its connection; the next request opens a new one."""
    server.script("/slow", Script(before_head_s=HANG_S))
    server.script("/p", json_script({"a": 1}))
    ended: list[
        bool
    ] = []  # the clock stands still during the second request, however long it waits for a processor
    clock = Steps(1.0, lambda: server.make_request("/slow") > 0 and not ended)
    with http(max_failed_s=900.0, budget_s=900.0, clock=clock) as out:
        # whether the limit or the read timeout of the same length is noticed first depends on the load of the machine
        with pytest.raises(FetchError, match=r"went silent|within the time"):
            out.get_json(server.url("/slow"), limits=Limits(total_s=0.2))
        ended.append(True)
        assert out.get_json(server.url("/p")) == {"a": 1}


def test_cancelling_ends_a_hanging_request(server: FaultServer) -> None:
    """A silent server does not delay a cancellation."""
    server.script("/p", Script(before_head_s=HANG_S))
    asked: list[bool] = []

    def is_cancelled() -> bool:
        asked.append(True)
        return len(asked) > 2

    with http(cancelled=is_cancelled) as out, pytest.raises(FetchCancelledError, match="stopped on request"):
        out.get_json(server.url("/p"))


def test_cancelling_ends_a_wait() -> None:
    """A wait between two tries looks up too."""
    waits: list[float] = []
    transport = httpx.MockTransport(lambda _: httpx.Response(503, headers={"Retry-After": "9"}))
    out = http(transport=transport, sleep=waits.append, cancelled=lambda: len(waits) >= 3)
    with out, pytest.raises(FetchCancelledError):
        out.get_json(URL)
    assert waits == [0.25] * 3


def test_ctrl_c_ends_a_hanging_request(server: FaultServer) -> None:
    """Ctrl-C comes through at once, as itself."""
    server.script("/p", Script(before_head_s=HANG_S))
    code = (
        "import sys\nfrom trainfare_providers.http.client import HttpClient\n"
        "print('asking', flush=True)\nHttpClient('aws').get_json(sys.argv[1])"
    )
    command = [sys.executable, "-c", code, server.url("/p")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "asking\n"
    while not server.make_request("/p"):
        threading.Event().wait(0.01)
    os.kill(child.pid, signal.SIGINT)
    _, error = child.communicate()
    assert error.strip().endswith("KeyboardInterrupt")


def test_send_gives_an_sdk_whatever_status_comes(server: FaultServer) -> None:
    """boto3 reads 400s itself; the body is whole and unpacked, the request goes as it was signed."""
    server.script(
        "/p", Script(status=400, headers=(("X-Amzn-ErrorType", "ThrottlingException"),), body=b"{}")
    )
    with http() as out:
        reply = out.send("POST", server.url("/p"), headers={"X-Amz-Target": "Pricing.Get"}, content=b"asked")
        server.script("/p", make_gzipped(b"packed"))
        unpacked = out.send("GET", server.url("/p"))
    assert (reply.status, reply.body) == (400, b"{}")
    assert dict(reply.headers)["x-amzn-errortype"] == "ThrottlingException"
    assert (server.requests[0].body, server.requests[0].headers["x-amz-target"]) == (b"asked", "Pricing.Get")
    assert unpacked.body == b"packed"
    assert "content-encoding" not in dict(unpacked.headers)


def test_send_follows_no_redirect_and_tries_once(server: FaultServer) -> None:
    """What was signed for one host must not go to another, and the SDK does the trying."""
    server.script("/p", Script(status=302, headers=(("Location", server.url("/q")),)))
    with http() as out:
        assert out.send("POST", server.url("/p")).status == 302
        server.script("/p", Script(hang_up=True))
        with pytest.raises(FetchError) as caught:
            out.send("POST", server.url("/p"))
    assert caught.value.retryable
    assert (server.make_request("/p"), server.make_request("/q")) == (2, 0)


def test_send_stops_the_sdks_retries_when_the_failure_budget_is_spent(server: FaultServer) -> None:
    """Its waits between tries count too; then the fault is one that is not tried again."""
    server.everywhere(Script(hang_up=True))
    time_s = [0.0]

    def clock() -> float:
        time_s[0] += 1.0
        return time_s[0]

    with http(clock=clock, max_failed_s=15.0, budget_s=900.0, limits=Limits(total_s=600.0)) as out:
        answers = []
        for _ in range(4):
            with pytest.raises(FetchError) as caught:
                out.send("POST", server.url("/p"))
            answers.append(caught.value.retryable)
            time_s[0] += 2.0  # boto3 waits
    assert answers[0]
    assert not answers[-1]


def test_importing_the_client_loads_no_http_library() -> None:
    """Reading prices from disk pays nothing for it."""
    code = (
        "import sys; import trainfare_providers.refresh; "
        "sys.exit(' '.join({'httpx', 'tenacity', 'filelock', 'platformdirs'} & set(sys.modules)) or 0)"
    )
    result = run_python("-c", code)
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(("cloud", "extra"), [("gcp", "gcp"), ("example", "all")])
@pytest.mark.parametrize("package", ["httpx", "tenacity"])
def test_missing_package_is_named_with_its_extra(cloud: str, extra: str, package: str) -> None:
    """The error names the extra to install."""
    code = (
        f"import sys; sys.modules[{package!r}] = None\nfrom trainfare_core.errors import MissingExtraError\n"
        "from trainfare_providers.http.client import HttpClient\n"
        f"try:\n    HttpClient({cloud!r})\nexcept MissingExtraError as error:\n    print(error)"
    )
    result = run_python("-c", code, check=True)
    assert f"{package} is not installed" in result.stdout
    assert write_install_line(extra) in result.stdout


@settings(max_examples=200, deadline=None)
@given(
    body=st.binary(max_size=3000), members=st.integers(1, 3), cuts=st.lists(st.integers(0, 4000), max_size=5)
)
def test_gzip_unpacks_however_it_is_cut_into_chunks(body: bytes, members: int, cuts: list[int]) -> None:
    """Chunk borders and several members make no difference; a missing end always shows."""
    packed = gzip.compress(body) * members
    edges = sorted({0, len(packed), *(cut % (len(packed) + 1) for cut in cuts)})
    chunks = [packed[start:end] for start, end in pairwise(edges)]
    assert b"".join(unpack_gzip(chunks)) == body * members
    with pytest.raises(UnpackError):
        list(unpack_gzip([packed[:-1]]))


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=200))
def test_what_is_not_gzip_is_named_so(body: bytes) -> None:
    """Any bytes are unpacked, or give a typed error."""
    if not body:
        assert list(unpack_gzip([body])) == []
        return
    with pytest.raises(UnpackError, match=r"encoding|cut short"):
        list(unpack_gzip([b"\x1f\x8b\x08" + body if len(body) % 2 else body]))
