"""
The HTTP client of every price source: deadlines, size limits, retries, and one time budget for a whole cloud.

Only https is used (http only to this machine), certificates are always checked, redirects stay on the same site,
headers are sent only to the host they are for, and no secret appears in a message or a log. Nothing else in this
package connects to the network.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import random
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from trainfare_core.clouds import pip_extra
from trainfare_core.errors import FetchError, InputError, MissingExtraError
from trainfare_core.installation import __version__
from trainfare_providers.disk.part_files import PartFile
from trainfare_providers.http.addresses import target_of, why_refused
from trainfare_providers.http.answer import (
    CANCEL_POLL_S,
    Deadline,
    HttpRequest,
    Limits,
    OpenAnswer,
    Pages,
    Reply,
    read_json,
)
from trainfare_providers.http.download import ROWS_A_STEP, Download, read_file
from trainfare_providers.http.exchange import Exchange, Head, silence_http_logs
from trainfare_providers.http.progress import Step
from trainfare_providers.http.retry import (
    is_retried,
    repeat,
    retry_after_s,
    status_words,
)

if TYPE_CHECKING:
    import httpx

_log = logging.getLogger("trainfare")
_MAX_REDIRECTS: Final = 5  # price APIs redirect once at most; a loop ends soon
SDK_WAIT_S: Final = 4.0
"""The longest that boto3 waits before the last of four attempts, seconds."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

Texts: TypeAlias = "Mapping[str, str] | None"
Result = TypeVar("Result")


class HttpClient:
    """
    Sends the requests of one price source; a context manager that closes its connections.

    Args:
        cloud: name of the provider, for messages.
        budget_s: seconds from the first request to the last answer.
        max_failed_s: seconds that failed attempts and the waits after them may take together.
        max_unanswered_s: the same while no server of this cloud has answered, which is so without a network.
        limits: of a request that names none of its own.
        transport: of httpx, for tests; None is the network.
        verify: True for the usual certificates, or a context; checking cannot be switched off.
        clock: monotonic, seconds.
        sleep: waits seconds.
        jitter: draws a wait between 0 and its argument, seconds.
        wall_clock: seconds since 1970, for a `Retry-After` that is a date.
        cancelled: called four times a second; True ends the request.
        part_of: returns where the beginning of a file at a URL is kept when it is cut off; None is nowhere.
        tell: told how far a download or a listing is.

    Raises:
        InputError: `verify` is False.
        MissingExtraError: httpx or tenacity is not installed.
    """

    def __init__(
        self,
        cloud: str,
        *,
        budget_s: float = 15.0,
        max_failed_s: float = 15.0,
        max_unanswered_s: float = 10.0,
        limits: Limits | None = None,
        transport: httpx.BaseTransport | None = None,
        verify: ssl.SSLContext | bool = True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[float], float] = lambda most: random.uniform(0.0, most),  # noqa: S311 - no secret
        wall_clock: Callable[[], float] = time.time,
        cancelled: Callable[[], bool] | None = None,
        part_of: Callable[[str], PartFile] | None = None,
        tell: Callable[[Step], None] = lambda _: None,
    ) -> None:
        if not isinstance(verify, ssl.SSLContext) and not verify:
            raise InputError(
                "verify: certificates are always checked; name a CA of your own by SSL_CERT_FILE"
            )
        _need_packages(cloud)
        self.cloud = cloud
        self.limits = limits or Limits()
        self._budget_s, self._max_failed_s = budget_s, max_failed_s
        self._max_unanswered_s = max_unanswered_s
        self.answered = False
        """Whether a server has answered anything yet."""
        self._transport, self._verify = transport, verify
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._wall_clock, self._cancelled = wall_clock, cancelled
        self._part_of, self._tell, self._read_bytes = part_of, tell, 0
        self._client: httpx.Client | None = None
        self._ends_s: float | None = None
        self._failed_s = 0.0
        self._failed_at_s: float | None = None
        silence_http_logs()

    def __enter__(self) -> HttpClient:  # noqa: PYI034 - typing.Self is of Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        if self._client is not None:
            self._client.close()
            self._client = None

    @property
    def remaining_s(self) -> float:
        """Seconds left of the budget; all of it before the first request."""
        return self._budget_s if self._ends_s is None else max(0.0, self._ends_s - self._clock())

    def get_json(
        self,
        url: str,
        *,
        params: Texts = None,
        headers: Texts = None,
        limits: Limits | None = None,
        must_have: Sequence[str] = (),
    ) -> object:
        """
        Return the JSON at a URL, as `strict_json.parse_json` reads it.

        Args:
            url: https.
            params: added to the query; give a `Secret` where it is one.
            headers: sent to this host only.
            limits: None takes the client's.
            must_have: names that the object must have.

        Raises:
            FetchError: no such answer.
            FetchCancelledError: `cancelled` returned True.
        """
        request = self._request_to(url, params, headers)
        del url, params, headers  # a traceback with local variables would show a secret in them
        limits = limits or self.limits

        def attempt(deadline: Deadline) -> object:
            value, fault = read_json(*self._read_all(request, limits, deadline), must_have)
            if fault is not None:
                del value  # a server may echo a secret
                raise request.fault(fault.name, fault.detail, retryable=fault.retryable)
            return value

        return self._with_retries(attempt, limits)

    def read(
        self,
        url: str,
        parse: Callable[[Download], Result],
        *,
        limits: Limits | None = None,
        what: str = "",
        region: str = "",
    ) -> Result:
        """
        Return what `parse` makes of a large file while it arrives; a connection that is cut goes on where it stopped.

        Args:
            url: https.
            parse: reads `Download.chunks()` to the end; called again where the file changed meanwhile.
            limits: None takes the client's; the time is that of the whole file.
            what: is read, for the progress.
            region: of it, for the progress.

        Raises:
            FetchError: the file cannot be read to its end.
            FetchCancelledError: `cancelled` returned True.
        """
        request, limits = self._request_to(url), limits or self.limits
        deadline = self._deadline(limits)
        part = None if self._part_of is None else self._part_of(url)

        def ask(request: HttpRequest, statuses: tuple[int, ...]) -> OpenAnswer:
            return self._with_retries(
                lambda end: self._open(request, limits, end, statuses), limits, deadline
            )

        def start() -> Download:
            return Download(
                request,
                ask=ask,
                release=self._release,
                lost=self._lose,
                clock=self._clock,
                max_bytes=limits.max_body_bytes,
                part=part,
                tell=self._tell,
                step=Step(what, region),
            )

        return read_file(start, parse, part)

    def count_items(self, items: Iterable[Result], what: str, region: str = "") -> Iterator[Result]:
        """Yield the entries of a listing, and tell how many there are and how many bytes they took."""
        before, rows = self._read_bytes, 0
        for item in items:
            rows += 1
            if rows % ROWS_A_STEP == 0:
                self._tell(Step(what, region, self._read_bytes - before, None, rows))
            yield item
        self._tell(Step(what, region, self._read_bytes - before, None, rows))

    def send(self, method: str, url: str, *, headers: Texts = None, content: bytes = b"") -> Reply:
        """
        Send one request of an SDK that signs, reads and retries itself; any status is returned, no redirect followed.

        Args:
            method: GET, POST, ...
            url: https.
            headers: sent as they are.
            content: the request's body.

        Raises:
            FetchError: no complete answer; `retryable` where another attempt can help and there is time for one.
            FetchCancelledError: `cancelled` returned True.
        """
        request = self._request_to(url, headers=headers)
        del url, headers
        now, deadline = self._clock(), self._deadline(self.limits)
        self._failed_s += 0.0 if self._failed_at_s is None else now - self._failed_at_s  # the SDK's own wait
        self._failed_at_s = None
        try:
            return self._reply(request, method, content, deadline)
        except FetchError as error:
            self._failed_at_s = self._clock()
            self._failed_s += self._failed_at_s - now
            error.retryable = error.retryable and self._failed_s + SDK_WAIT_S < self._allowed_failed_s
            raise

    def pages(self, url: str) -> Pages:
        """Return the guard of a listing in pages that begins at a URL."""
        return Pages(HttpRequest(self.cloud, url), self.limits.max_pages)

    def refusal(self, fault: str, url: str, detail: str = "") -> FetchError:
        """Return the error for an answer that a parser cannot accept; `fault` is a name of `retry.FAULTS`."""
        return HttpRequest(self.cloud, url).fault(fault, detail)

    def _request_to(self, url: str, params: Texts = None, headers: Texts = None) -> HttpRequest:
        why = why_refused(url)
        if why is not None:
            raise HttpRequest(self.cloud, url).fault("address", f" ({why})")
        import httpx

        with contextlib.suppress(httpx.InvalidURL):
            whole = str(httpx.URL(url).copy_merge_params(dict(params))) if params else url
            return HttpRequest(self.cloud, whole, headers)
        raise HttpRequest(self.cloud, url).fault("address")

    def _deadline(self, limits: Limits) -> Deadline:
        started = self._clock()
        self._ends_s = started + self._budget_s if self._ends_s is None else self._ends_s
        return Deadline(self._clock, min(started + limits.total_s, self._ends_s), self._cancelled)

    def _lose(self, seconds: float) -> None:
        self._failed_s += seconds

    def _with_retries(
        self, attempt: Callable[[Deadline], Result], limits: Limits, deadline: Deadline | None = None
    ) -> Result:
        """Repeat a request until there is an answer, an error that no retry can help, or no time."""
        deadline = deadline or self._deadline(limits)

        def attempt_timed() -> Result:
            began = self._clock()
            try:
                return attempt(deadline)
            except FetchError:
                self._failed_s += self._clock() - began
                raise

        return repeat(
            attempt_timed,
            sleep=self._wait,
            max_attempts=limits.max_attempts,
            jitter=self._jitter,
            is_late=lambda wait_s: (
                self._clock() + wait_s >= deadline.at_s or self._failed_s + wait_s >= self._allowed_failed_s
            ),
        )

    def _wait(self, seconds: float) -> None:
        self._failed_s += seconds
        while self._cancelled is not None and seconds > CANCEL_POLL_S and not self._cancelled():
            self._sleep(CANCEL_POLL_S)
            seconds -= CANCEL_POLL_S
        if self._cancelled is None or not self._cancelled():
            self._sleep(seconds)

    def _open(
        self, request: HttpRequest, limits: Limits, deadline: Deadline, statuses: tuple[int, ...] = (200,)
    ) -> OpenAnswer:
        """Send a request, follow redirects, and return an answer of one of the statuses before its body is read."""
        for _ in range(_MAX_REDIRECTS + 1):
            answer = self._begin(request, limits, deadline)
            status = answer.head.status
            _log.debug("GET %r: %d", request, status)
            if status in statuses:
                return answer
            self._release(answer)
            if status not in _REDIRECTS:
                raise self._status_error(answer.head, request)
            target = target_of(request.url, answer.head.location)
            if target is None:
                raise request.fault("redirect")
            request = request.redirect(target)
            del target
        raise request.fault("redirect", f" (more than {_MAX_REDIRECTS} times)")

    def _reply(self, request: HttpRequest, method: str, content: bytes, deadline: Deadline) -> Reply:
        answer = self._begin(request, self.limits, deadline, method, content)
        try:
            _log.debug("%s %r: %d", method, request, answer.head.status)
            body = self._read_whole(answer, self.limits)
        finally:
            self._release(answer)
        gone = ("content-encoding", "content-length", "transfer-encoding")
        fields_left = tuple((name, value) for name, value in answer.head.fields if name.lower() not in gone)
        return Reply(answer.head.status, fields_left, body)

    def _begin(
        self,
        request: HttpRequest,
        limits: Limits,
        deadline: Deadline,
        method: str = "GET",
        content: bytes = b"",
    ) -> OpenAnswer:
        left_s = deadline.left_s(request)
        client = self._open_client()
        exchange = Exchange(client, self._request(request, limits, left_s, method, content))
        try:
            answer = OpenAnswer(exchange, request, deadline, self._connect_s(limits, left_s))
        except BaseException:
            self._release(exchange)
            raise
        self.answered = True
        return answer

    @property
    def _allowed_failed_s(self) -> float:
        return self._max_failed_s if self.answered else min(self._max_failed_s, self._max_unanswered_s)

    def _connect_s(self, limits: Limits, left_s: float) -> float:
        return max(0.01, min(limits.connect_s, left_s, self._allowed_failed_s - self._failed_s))

    def _read_all(self, request: HttpRequest, limits: Limits, deadline: Deadline) -> tuple[bytes, Head]:
        answer = self._open(request, limits, deadline)
        try:
            return self._read_whole(answer, limits), answer.head
        finally:
            self._release(answer)

    def _read_whole(self, answer: OpenAnswer, limits: Limits) -> bytes:
        body = b"".join(answer.chunks(limits.max_body_bytes))
        self._read_bytes += len(body)
        return body

    def _release(self, answer: OpenAnswer | Exchange) -> None:
        done = answer.close() if isinstance(answer, OpenAnswer) else answer.drop()
        if not done:
            self._client = None  # the thread that still uses it closes its connection

    def _open_client(self) -> httpx.Client:
        import httpx

        if self._client is None:
            # The error below is raised outside the handler: the caught one may hold the proxy's password.
            with contextlib.suppress(ValueError, ImportError, httpx.InvalidURL):
                self._client = httpx.Client(
                    transport=self._transport, verify=self._verify, follow_redirects=False
                )
        if self._client is None:
            msg = "the proxy settings in the environment cannot be used; correct or remove them"
            raise FetchError(self.cloud, msg)
        return self._client

    def _request(
        self, request: HttpRequest, limits: Limits, left_s: float, method: str, content: bytes
    ) -> httpx.Request:
        import httpx

        read_s = max(0.01, min(limits.read_s, left_s, self._allowed_failed_s - self._failed_s))
        timeout = httpx.Timeout(read_s, connect=self._connect_s(limits, left_s))
        headers = {"Accept-Encoding": "gzip", "User-Agent": f"trainfare/{__version__}", **request.headers}
        return httpx.Request(  # not of the client, which would send the cookies that servers have set
            method,
            request.url,
            headers=headers,
            content=content or None,
            extensions={"timeout": timeout.as_dict()},
        )

    def _status_error(self, head: Head, request: HttpRequest) -> FetchError:
        asked_s = retry_after_s(head.retry_after, now_s=self._wall_clock())
        wait = "" if asked_s is None else f" and asks to wait {asked_s:,.0f} s"
        return FetchError(
            self.cloud,
            f"{request!r}: the server answered {head.status}{wait}; {status_words(head.status)}",
            retryable=is_retried(head.status),
            status=head.status,
            retry_after_s=asked_s,
        )


def _need_packages(cloud: str) -> None:
    for package in ("httpx", "tenacity"):
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
            continue
        raise MissingExtraError(package, pip_extra(cloud))
