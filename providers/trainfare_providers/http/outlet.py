"""
The only way out to the network: one `Outlet` a cloud, with deadlines, caps, a retry policy and one total budget.

Only https is asked (http only on this machine), certificates are always checked, redirects stay on the same site,
credentials stay with the host they were meant for, and no secret gets into a message or a log.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import random
import ssl
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from trainfare_core.errors import FetchError, InputError, MissingExtraError
from trainfare_providers.http.addresses import Secret, target_of, why_refused
from trainfare_providers.http.answer import (
    BULK_LIMITS,
    LOOK_UP_S,
    Limits,
    OpenAnswer,
    Patience,
    Question,
    Reply,
    read_json,
)
from trainfare_providers.http.exchange import Exchange, Head, hush_foreign_logs
from trainfare_providers.http.pages import Pages
from trainfare_providers.http.retry import (
    RETRY_AFTER_CAP_S,
    is_retried,
    retry_after_s,
    status_words,
    wait_ceiling_s,
)

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

__all__ = ["BULK_LIMITS", "Limits", "Outlet", "Pages", "Reply", "Secret"]

_log = logging.getLogger("trainfare")
_MAX_REDIRECTS: Final = 5
SDK_WAIT_S: Final = 4.0
"""The longest that boto3 waits before the last of four tries."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

Texts: TypeAlias = "Mapping[str, str] | None"
Result = TypeVar("Result")


class Outlet:
    """
    One cloud's way out; a context manager that closes its connections.

    Args:
        cloud: name of the provider, for messages.
        budget_s: seconds from the first question to the last answer.
        trouble_s: seconds that failed tries and the waits after them may take together.
        limits: for every question that names none of its own.
        transport: a seam for tests.
        verify: True for the usual certificates, or a context; checking cannot be switched off.
        clock: seconds, only ever growing.
        sleep: waits seconds.
        jitter: draws a wait between 0 and what it is given, seconds.
        wall_clock: seconds since 1970, for a `Retry-After` that is a date.
        cancelled: asked four times a second; True ends the question.

    Raises:
        InputError: `verify` is False.
        MissingExtraError: httpx or tenacity is not installed.
    """

    def __init__(
        self,
        cloud: str,
        *,
        budget_s: float = 15.0,
        trouble_s: float = 15.0,
        limits: Limits | None = None,
        transport: httpx.BaseTransport | None = None,
        verify: ssl.SSLContext | bool = True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[float], float] = lambda most: random.uniform(0.0, most),  # noqa: S311 - no secret
        wall_clock: Callable[[], float] = time.time,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        if not isinstance(verify, ssl.SSLContext) and not verify:
            raise InputError(
                "verify: certificates are always checked; name a CA of your own by SSL_CERT_FILE"
            )
        _need_packages(cloud)
        self.cloud = cloud
        self.limits = limits or Limits()
        self._budget_s, self._trouble_s = budget_s, trouble_s
        self._transport, self._verify = transport, verify
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._wall_clock, self._cancelled = wall_clock, cancelled
        self._client: httpx.Client | None = None
        self._ends_s: float | None = None
        self._lost_s = 0.0
        self._failed_at_s: float | None = None
        hush_foreign_logs()

    def __enter__(self) -> Outlet:  # noqa: PYI034 - typing.Self is of Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later question opens new ones."""
        if self._client is not None:
            self._client.close()
            self._client = None

    @property
    def remaining_s(self) -> float:
        """Seconds left of the budget; all of it before the first question."""
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
        Return the JSON at an address; see `strict_json.parse_json` for what is refused and how numbers come.

        Args:
            url: https.
            params: added to the address's query; give a `Secret` where it is one.
            headers: sent to this host only.
            limits: None takes the outlet's.
            must_have: names that the object must have.

        Raises:
            FetchError: no such answer.
            FetchCancelledError: `cancelled` said so.
        """
        question = self._question(url, params, headers)
        del url, params, headers  # a secret in them would stand in a traceback with local variables
        limits = limits or self.limits

        def ask(patience: Patience) -> object:
            value, fault = read_json(*self._whole(question, limits, patience), must_have)
            if fault is not None:
                del value  # the page may hold what we sent
                raise question.fault(fault.name, fault.detail, retryable=fault.retryable)
            return value

        return self._persistently(ask, limits)

    def get_bytes(
        self, url: str, *, params: Texts = None, headers: Texts = None, limits: Limits | None = None
    ) -> bytes:
        """
        Return the body at an address, unpacked; arguments as for `get_json`.

        Raises:
            FetchError: no such answer, or one whose end could not be told from a cut.
            FetchCancelledError: `cancelled` said so.
        """
        question = self._question(url, params, headers)
        del url, params, headers
        limits = limits or self.limits
        return self._persistently(
            lambda patience: self._whole(question, limits, patience, need_end=True)[0], limits
        )

    @contextmanager
    def stream(
        self, url: str, *, params: Texts = None, headers: Texts = None, limits: Limits | None = None
    ) -> Generator[Iterator[bytes]]:
        """
        Give the body as it comes, unpacked, in chunks of at most 256 KiB; tried again only until it begins.

        Raises:
            FetchError: no such answer; also from the chunks, when it is cut, too large or too slow.
            FetchCancelledError: `cancelled` said so.
        """
        question = self._question(url, params, headers)
        del url, params, headers
        limits = limits or self.limits
        answer = self._persistently(lambda patience: self._open(question, limits, patience), limits)
        try:
            answer.check_end()
            yield answer.chunks(limits.max_body_bytes)
        finally:
            self._done_with(answer)

    def send(self, method: str, url: str, *, headers: Texts = None, content: bytes = b"") -> Reply:
        """
        Ask once, for an SDK that signs, reads and tries again itself; any status is an answer, no redirect is followed.

        Args:
            method: GET, POST, ...
            url: https.
            headers: sent as they are.
            content: the request's body.

        Raises:
            FetchError: no whole answer; `retryable` where another try can help and there is time for one.
            FetchCancelledError: `cancelled` said so.
        """
        question = self._question(url, None, headers)
        del url, headers
        now = self._clock()
        self._ends_s = now + self._budget_s if self._ends_s is None else self._ends_s
        self._lost_s += 0.0 if self._failed_at_s is None else now - self._failed_at_s  # the SDK's own wait
        self._failed_at_s = None
        patience = Patience(self._clock, min(now + self.limits.total_s, self._ends_s), self._cancelled)
        try:
            return self._reply(question, method, content, patience)
        except FetchError as error:
            self._failed_at_s = self._clock()
            self._lost_s += self._failed_at_s - now
            error.retryable = error.retryable and self._lost_s + SDK_WAIT_S < self._trouble_s
            raise

    def pages(self, url: str, *, limits: Limits | None = None) -> Pages:
        """Return the guard of a listing in pages that begins at an address."""
        return Pages(Question(self.cloud, url), (limits or self.limits).max_pages)

    def refusal(self, fault: str, url: str, detail: str = "") -> FetchError:
        """Return the error for an answer that a parser cannot accept; `fault` is of `retry_policy.FAULTS`."""
        return Question(self.cloud, url).fault(fault, detail)

    def _question(self, url: str, params: Texts, headers: Texts) -> Question:
        why = why_refused(url)
        if why is not None:
            raise Question(self.cloud, url).fault("address", f" ({why})")
        import httpx

        with contextlib.suppress(httpx.InvalidURL):
            whole = str(httpx.URL(url).copy_merge_params(dict(params))) if params else url
            return Question(self.cloud, whole, headers)
        raise Question(self.cloud, url).fault("address")

    def _persistently(self, ask: Callable[[Patience], Result], limits: Limits) -> Result:
        """Ask until there is an answer, a mistake that stays one, or no time."""
        from tenacity import Retrying, retry_if_exception

        started = self._clock()
        self._ends_s = started + self._budget_s if self._ends_s is None else self._ends_s
        patience = Patience(self._clock, min(started + limits.total_s, self._ends_s), self._cancelled)

        def counted() -> Result:
            began = self._clock()
            try:
                return ask(patience)
            except FetchError:
                self._lost_s += self._clock() - began
                raise

        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, FetchError) and error.retryable),
            wait=self._wait_s,
            stop=lambda state: self._must_stop(state, limits, patience),
            sleep=lambda seconds: self._nap(float(seconds)),
            reraise=True,
        )
        return retrying(counted)

    def _wait_s(self, state: RetryCallState) -> float:
        asked = _error_of(state).retry_after_s
        return self._jitter(wait_ceiling_s(state.attempt_number)) if asked is None else asked

    def _must_stop(self, state: RetryCallState, limits: Limits, patience: Patience) -> bool:
        wait_s = state.upcoming_sleep
        return (
            state.attempt_number >= limits.max_attempts
            or (_error_of(state).retry_after_s or 0.0) > RETRY_AFTER_CAP_S
            or self._clock() + wait_s >= patience.deadline_s
            or self._lost_s + wait_s >= self._trouble_s
        )

    def _nap(self, seconds: float) -> None:
        self._lost_s += seconds
        while self._cancelled is not None and seconds > LOOK_UP_S and not self._cancelled():
            self._sleep(LOOK_UP_S)
            seconds -= LOOK_UP_S
        if self._cancelled is None or not self._cancelled():
            self._sleep(seconds)

    def _open(self, question: Question, limits: Limits, patience: Patience) -> OpenAnswer:
        """Ask once, follow redirects, and return an answer of status 200 before its body is read."""
        for _ in range(_MAX_REDIRECTS + 1):
            answer = self._begin(question, limits, patience)
            status = answer.head.status
            _log.debug("GET %r: %d", question, status)
            if status == 200:
                return answer
            self._done_with(answer)
            if status not in _REDIRECTS:
                raise self._status_error(answer.head, question)
            target = target_of(question.url, answer.head.location)
            if target is None:
                raise question.fault("redirect")
            question = question.moved(target)
            del target
        raise question.fault("redirect", f" (more than {_MAX_REDIRECTS} times)")

    def _reply(self, question: Question, method: str, content: bytes, patience: Patience) -> Reply:
        answer = self._begin(question, self.limits, patience, method, content)
        try:
            _log.debug("%s %r: %d", method, question, answer.head.status)
            body = b"".join(answer.chunks(self.limits.max_body_bytes))
        finally:
            self._done_with(answer)
        gone = ("content-encoding", "content-length", "transfer-encoding")
        kept = tuple((name, value) for name, value in answer.head.fields if name.lower() not in gone)
        return Reply(answer.head.status, kept, body)

    def _begin(
        self,
        question: Question,
        limits: Limits,
        patience: Patience,
        method: str = "GET",
        content: bytes = b"",
    ) -> OpenAnswer:
        left_s = patience.left_s(question)
        client = self._open_client()
        exchange = Exchange(client, self._request(question, limits, left_s, method, content))
        try:
            return OpenAnswer(exchange, question, patience)
        except BaseException:
            self._done_with(exchange)
            raise

    def _whole(
        self, question: Question, limits: Limits, patience: Patience, *, need_end: bool = False
    ) -> tuple[bytes, Head]:
        answer = self._open(question, limits, patience)
        try:
            if need_end:
                answer.check_end()
            return b"".join(answer.chunks(limits.max_body_bytes)), answer.head
        finally:
            self._done_with(answer)

    def _done_with(self, answer: OpenAnswer | Exchange) -> None:
        done = answer.close() if isinstance(answer, OpenAnswer) else answer.drop()
        if not done:
            self._client = None  # the thread that still hangs in it closes what it holds

    def _open_client(self) -> httpx.Client:
        import httpx

        if self._client is None:
            # Raised outside of the handler: that error's text and frames may hold the proxy's password.
            with contextlib.suppress(ValueError, ImportError, httpx.InvalidURL):
                self._client = httpx.Client(
                    transport=self._transport, verify=self._verify, follow_redirects=False
                )
        if self._client is None:
            msg = "the proxy settings in the environment cannot be used; correct or remove them"
            raise FetchError(self.cloud, msg)
        self._client.cookies.clear()
        return self._client

    def _request(
        self, question: Question, limits: Limits, left_s: float, method: str, content: bytes
    ) -> httpx.Request:
        import httpx

        read_s = max(0.01, min(limits.read_s, left_s, self._trouble_s - self._lost_s))
        timeout = httpx.Timeout(read_s, connect=min(limits.connect_s, left_s))
        headers = {"Accept-Encoding": "gzip", "User-Agent": _user_agent(), **question.headers}
        return httpx.Request(
            method,
            question.url,
            headers=headers,
            content=content or None,
            extensions={"timeout": timeout.as_dict()},
        )

    def _status_error(self, head: Head, question: Question) -> FetchError:
        asked = retry_after_s(head.retry_after, now_s=self._wall_clock())
        wait = "" if asked is None else f" and asks to wait {asked:,.0f} s"
        return FetchError(
            self.cloud,
            f"{question!r}: the server answered {head.status}{wait}; {status_words(head.status)}",
            retryable=is_retried(head.status),
            status=head.status,
            retry_after_s=asked,
        )


def _error_of(state: RetryCallState) -> FetchError:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, FetchError):
        raise TypeError("only a FetchError is tried again")
    return error


def _need_packages(cloud: str) -> None:
    extra = cloud if cloud in ("aws", "azure", "gcp") else "all"
    for package in ("httpx", "tenacity"):
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
            continue
        raise MissingExtraError(package, extra)


def _user_agent() -> str:
    try:
        return f"trainfare/{version('trainfare')}"
    except PackageNotFoundError:
        return "trainfare"
