"""Requests to the API of a code host: JSON, pages by `Link`, and refusals as errors that say what to do."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from trainfare.report.escape import terminal_text
from trainfare_core.errors import FetchError
from trainfare_core.number_format import shorten_text
from trainfare_providers.http.addresses import Secret
from trainfare_providers.http.retry import is_retried, retry_after_s

if TYPE_CHECKING:
    from trainfare_providers.http.answer import Reply
    from trainfare_providers.http.client import HttpClient

_DONE: Final = frozenset({200, 201, 204})
_NEXT: Final = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')
_SHOWN_CHARS: Final = 300
"""Of a server's own words in a message: a sentence or two."""

with Path(__file__).with_name("refusals.csv").open(encoding="utf-8") as _table:
    _ADVICE: Final = {
        (row["system"], int(status)): row["advice"]
        for row in csv.DictReader(_table)
        for status in row["statuses"].split()
    }
"""What to do about a refusal, by system and status."""

Model = TypeVar("Model")


class Wire(BaseModel):
    """An object of an API; what we do not read is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Refusal(Wire):
    message: object = None
    error: object = None


class JsonApi:
    """
    One API with one token.

    Args:
        http: our client.
        headers: with the token.
        system: whose API it is, as `CiJob.system`.
        read_only: why the token can only read, "" where it may write.
    """

    def __init__(
        self, http: HttpClient, headers: Mapping[str, str], system: str, read_only: str = ""
    ) -> None:
        self._http, self._headers = http, dict(headers)
        self._system, self._read_only = system, read_only
        # "Bearer TOKEN" or the token alone.
        secrets = [value for value in headers.values() if isinstance(value, Secret)]
        self._secrets = {text for secret in secrets for text in (str(secret), secret.rpartition(" ")[2])}

    def ask(
        self, method: str, url: str, model: type[Model], body: Mapping[str, object] | None = None
    ) -> Model:
        """
        Send a request and return its answer.

        Args:
            method: GET, POST, PUT, PATCH or DELETE.
            url: https, or this machine.
            model: what the answer is read as.
            body: sent as JSON.

        Raises:
            FetchError: no answer, a refusal, or an answer of another form; `retryable` where a later try can help.
        """
        return self._read(self._send(method, url, body), url, TypeAdapter(model))

    def tell(self, method: str, url: str) -> None:
        """Send a request whose answer is not read; raises as `ask` does."""
        self._send(method, url, None)

    def list_entries(self, url: str, page: TypeAdapter[list[Model]]) -> Iterator[Model]:
        """Yield the entries of a listing over all of its pages; raises as `ask` does."""
        pages = self._http.pages(url)
        while True:
            reply = self._send("GET", url, None)
            yield from self._read(reply, url, page)
            link = _NEXT.search(_get_header(reply, "link"))
            if link is None:
                return
            url = pages.link(link[1])

    def hide_token(self, text: str) -> str:
        """Return a server's text for people, with the token replaced where the server sent it back."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _send(self, method: str, url: str, body: Mapping[str, object] | None) -> Reply:
        content = b"" if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        reply = self._http.send(method, url, headers={**self._headers, **kind}, content=content)
        if reply.status not in _DONE:
            raise self._explain_refusal(method, url, reply)
        return reply

    def _read(self, reply: Reply, url: str, adapter: TypeAdapter[Model]) -> Model:
        try:
            return adapter.validate_json(reply.body)
        except ValidationError:
            pass  # raised outside the handler: its text quotes the answer
        msg = f"{urlsplit(url).path}: the answer is not what its API describes; update trainfare"
        raise FetchError(self._http.cloud, msg)

    def _explain_refusal(self, method: str, url: str, reply: Reply) -> FetchError:
        wait_s = self._wait_s(reply)
        # GitHub answers 403 for both its rate limits; what tells them from a missing permission is in the headers.
        limited = reply.status == 429 or (reply.status == 403 and wait_s is not None)
        if limited:
            advice = "the rate limit is reached" + ("" if wait_s is None else f" for another {wait_s:,.0f} s")
        else:
            advice = self._read_only if reply.status in (403, 404) else ""
            advice = advice or _ADVICE.get((self._system, reply.status), "")
            advice = advice or (
                "try again later" if reply.status >= 500 else "see the host's documentation of that address"
            )
        said = _quote_reply(reply, self.hide_token)
        return FetchError(
            self._http.cloud,
            f"{method} {urlsplit(url).path}: the server answered {reply.status}{said}; {advice}",
            retryable=limited or is_retried(reply.status),
            status=reply.status,
            retry_after_s=wait_s,
        )

    def _wait_s(self, reply: Reply) -> float | None:
        """Return the seconds that the server asks to wait; None where it names no time."""
        now_s = time.time()
        asked_s = retry_after_s(_get_header(reply, "retry-after"), now_s=now_s)
        if asked_s is not None:
            return asked_s
        for prefix in ("x-ratelimit", "ratelimit"):  # GitHub's headers and GitLab's
            reset = _get_header(reply, f"{prefix}-reset")
            if _get_header(reply, f"{prefix}-remaining") == "0" and re.fullmatch(
                r"[0-9]{1,12}", reset, re.ASCII
            ):
                return max(0.0, float(reset) - now_s)
        return None


def _get_header(reply: Reply, name: str) -> str:
    return next((value for key, value in reply.headers if key.lower() == name), "")


def _quote_reply(reply: Reply, hide_token: Callable[[str], str]) -> str:
    """Return the server's own words in brackets, "" where it has none that can be read."""
    try:
        refusal = _Refusal.model_validate_json(reply.body)
    except ValidationError:
        return ""
    words = refusal.message or refusal.error
    if not words:
        return ""
    text = hide_token(terminal_text(words if isinstance(words, str) else json.dumps(words)))
    return f" ({shorten_text(text, _SHOWN_CHARS)})"
