"""
Calls of the user's AWS account by boto3, whose requests are sent by our `HttpClient`.

boto3 finds the credentials, signs, parses and retries. Its timeouts bound neither an answer that arrives byte by byte
nor its size, so each signed request is sent by `HttpClient.send` (boto3's event `before-send`), under its limits.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from trainfare_core.errors import FetchError
from trainfare_core.installation import write_install_line
from trainfare_providers.answer_values import items_of, object_of, text_at
from trainfare_providers.http.addresses import redact_url
from trainfare_providers.http.client import HttpClient
from trainfare_providers.machine_types import table_rows

if TYPE_CHECKING:
    from trainfare_providers.http.answer import Reply

_FOREIGN: Final = ("boto3", "botocore", "urllib3")
_CODES: Final = {row["code"]: row["meaning"] for row in table_rows("aws_error_codes.csv")}
# "no answer": what boto3 raises when it asks for credentials by itself; all other requests are sent by our client.
_CREDENTIAL_ATTEMPTS: Final = 2
"""A second, in case the first is lost: with connect timeouts 8 s, under the 15 s of `update.FIRST_ANSWER_S`."""

_asking: ContextVar[bool] = ContextVar("trainfare_aws_asking", default=False)
Result = TypeVar("Result")


class NotAllowedError(FetchError):
    """The credentials may not make a call, or this boto3 does not know it: its prices are left out, with a note."""


class NotOfferedError(FetchError):
    """What was requested does not exist in this region."""


class _Client(Protocol):
    """The part of a boto3 client that is used; boto3 itself has no types."""

    meta: Any

    def __getattr__(self, name: str) -> Callable[..., Mapping[str, object]]: ...


class _Prepared(Protocol):
    method: str
    url: str
    headers: Mapping[str, str | bytes]
    body: bytes | str | None


class _Stop(BaseException):
    """Carries an error out of boto3 that no retry can help; a BaseException, so that boto3 does not catch it."""

    def __init__(self, error: FetchError) -> None:
        super().__init__()
        self.error = error


def _not_ours(_: logging.LogRecord) -> bool:
    """Drop boto3's log records about our calls: they show session tokens and signatures."""
    return not _asking.get()


@dataclass(frozen=True, slots=True)
class Call:
    """
    One of AWS's listings.

    Attributes:
        action: the name in a policy, pricing:GetProducts.
        result: name of the list in the answer.
        next_page: name of the paging argument.
    """

    action: str
    result: str
    next_page: str = "NextToken"

    @property
    def service(self) -> str:
        """The service, as boto3 names it."""
        prefix = self.action.partition(":")[0]
        return "service-quotas" if prefix == "servicequotas" else prefix

    @property
    def operation(self) -> str:
        """boto3's method, get_products."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.action.partition(":")[2]).lower()


class Account:
    """
    The user's AWS account: read-only calls, each with a page guard.

    Args:
        http: sends the requests.
        make_client: returns the client of a service and region, as `boto3.Session.client` does.
    """

    def __init__(self, http: HttpClient, make_client: Callable[[str, str], _Client]) -> None:
        self._http, self._make_client = http, make_client
        self._clients: dict[tuple[str, str], _Client] = {}
        self._last: FetchError | None = None

    def endpoint(self, service: str, region: str) -> str:
        """Return the address of a service, for the source of a price."""
        return redact_url(self._client(service, region).meta.endpoint_url)

    def pages(self, call: Call, region: str, **arguments: object) -> Iterator[object]:
        """
        Yield the entries of a listing, page by page; an empty page does not end it.

        Args:
            call: the listing.
            region: where.
            **arguments: of the call.

        Raises:
            NotAllowedError: the credentials may not make the call, or this boto3 is too old for it.
            NotOfferedError: it does not exist there.
            FetchError: no answer, a malformed one, refused credentials, or pages that do not end.
        """
        entries = self._entries(call, region, arguments)
        if call.service == "pricing":  # has the prices of all regions: who asks says of which
            return entries
        return self.count_items(entries, f"reading {call.result}", region)

    def count_items(self, items: Iterable[Result], what: str, region: str) -> Iterator[Result]:
        """Yield items, and tell the progress, as `HttpClient.count_items` does."""
        return self._http.count_items(items, what, region)

    def _entries(self, call: Call, region: str, arguments: dict[str, object]) -> Iterator[object]:
        client = self._client(call.service, region)
        where = f"{call.action} in {region}"
        if not hasattr(client, call.operation):
            msg = f"this boto3 does not know {call.action} (pip install --upgrade boto3)"
            raise NotAllowedError(self._http.cloud, msg)
        guard = self._http.pages(client.meta.endpoint_url)
        while True:
            self._last = None
            answer = _quietly(
                lambda: getattr(client, call.operation)(**arguments),
                lambda error: self._translate_error(error, where),
            )
            if not isinstance(answer.get(call.result), list):
                # An empty body, a page of HTML or an error with status 200 must not look like an empty list.
                raise FetchError(
                    self._http.cloud, f"{where}: the answer has no {call.result}; try again later"
                )
            yield from items_of(answer, call.result)
            following = answer.get(call.next_page)
            if not isinstance(following, str) or not following:
                return
            arguments[call.next_page] = guard.token(following)

    def _client(self, service: str, region: str) -> _Client:
        if (service, region) not in self._clients:
            where = f"{service} in {region}"
            client = _quietly(
                lambda: self._make_client(service, region), lambda error: self._translate_error(error, where)
            )
            client.meta.events.register("before-send", self._send)
            self._clients[service, region] = client
        return self._clients[service, region]

    def _translate_error(self, foreign: Exception, where: str) -> FetchError:
        response: object = getattr(foreign, "response", None)
        cloud = self._http.cloud
        if object_of(response) is None:
            if self._last is not None:
                return self._last
            kind = type(foreign).__name__
            if _CODES.get(kind) == "no answer":
                advice = "check the network, the proxy settings and any firewall"
                return FetchError(
                    cloud, f"{where}: the login of the credentials had no answer ({kind}); {advice}"
                )
            return FetchError(cloud, f"{where}: the answer or the settings cannot be read ({kind})")
        code = text_at(response, "Error", "Code")
        meaning = _CODES.get(code)
        if meaning == "denied":
            return NotAllowedError(cloud, f"these credentials may not call {where.split(' ')[0]} ({code})")
        if meaning == "refused":
            msg = (
                f"{where}: the credentials are refused ({code}): renew them, unset them to read public prices only, "
                "or leave out a region that the account has not enabled"
            )
            return FetchError(cloud, msg)
        if meaning == "not offered":
            return NotOfferedError(cloud, f"{where}: not offered there ({code})")
        what = code if meaning == "throttled" else "an error"
        return FetchError(cloud, f"{where}: AWS answered {what}; try again later", retryable=True)

    def _send(self, request: _Prepared, **_: object) -> object:
        """Send a signed request once; return the answer in botocore's form."""
        headers = {
            name: value.decode("latin-1") if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        try:
            reply: Reply = self._http.send(request.method, request.url, headers=headers, content=body)
        except FetchError as error:
            self._last = error
            if not error.retryable:
                raise _Stop(error) from None
            raise  # botocore's retry mode `standard` tries again
        answer = importlib.import_module("botocore.awsrequest").AWSResponse
        body_of = SimpleNamespace(stream=lambda: iter((reply.body,)))  # in the form that botocore reads
        return answer(request.url, reply.status, dict(reply.headers), body_of)


def find_account(http: HttpClient) -> Account | str:
    """
    Return the account that boto3 finds credentials for, or why there is none.

    Raises:
        FetchError: there are settings for credentials, and they cannot be used.
    """
    try:
        boto3, config = importlib.import_module("boto3"), importlib.import_module("botocore.config")
        core = importlib.import_module("botocore.session").get_session
    except ImportError:
        return f"boto3 is not installed ({write_install_line('aws')})"

    def unusable(error: Exception) -> FetchError:
        msg = f"the settings for AWS credentials cannot be used ({type(error).__name__}); see `aws configure list`"
        return FetchError(http.cloud, msg)

    def settings(attempts: int) -> Any:
        return config.Config(
            connect_timeout=http.limits.connect_s,
            read_timeout=http.limits.read_s,
            retries={"mode": "standard", "total_max_attempts": min(attempts, http.limits.max_attempts)},
        )

    def core_session() -> Any:
        session = core()
        # For what boto3 asks, past our client, to get a role's or a login's credentials: without a network each attempt
        # takes the whole connect timeout.
        session.set_default_client_config(settings(_CREDENTIAL_ATTEMPTS))
        region = session.get_config_variable("region") or "us-east-1"  # a role's login needs one
        return boto3.Session(botocore_session=session, region_name=region)

    session = _quietly(core_session, unusable)
    if _quietly(session.get_credentials, unusable) is None:
        return "there are no AWS credentials"
    attempts = settings(http.limits.max_attempts)
    return Account(http, lambda service, region: session.client(service, region_name=region, config=attempts))


def _quietly(call: Callable[[], Result], translate: Callable[[Exception], FetchError]) -> Result:
    """Call boto3 with its logs silenced, and replace its errors, whose frames hold credentials."""
    _silence_logs()
    mark = _asking.set(True)
    error: FetchError
    try:
        return call()
    except _Stop as stop:
        error = stop.error
    except FetchError as fault:
        error = fault
    except Exception as foreign:  # noqa: BLE001 - boto3 raises many kinds
        error = translate(foreign)
    finally:
        _asking.reset(mark)
    error.__context__ = None
    raise error.with_traceback(None)


def _silence_logs() -> None:
    for name in (*_FOREIGN, *logging.root.manager.loggerDict):
        if name.split(".")[0] in _FOREIGN:
            logging.getLogger(name).addFilter(_not_ours)
