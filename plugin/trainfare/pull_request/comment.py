"""One comment for one mark: its text, cut to the host's limit; written, replaced, and never two, whatever fails."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from trainfare.pull_request.ci_job import CodeHost
from trainfare.report.escape import markdown_text
from trainfare_core.errors import FetchError, InputError
from trainfare_providers.http.retry import repeat

if TYPE_CHECKING:
    from trainfare_providers.http.client import HttpClient

_LONGEST_WAIT_S: Final = 60.0
"""GitHub asks for a minute where its secondary rate limit is reached; a longer wait is not worth a comment."""

_BUDGET_S: Final = 180.0
"""Two waits of a minute, and the requests."""

_GONE: Final = 404

_MAX_PAGES: Final = 100
"""Chosen: 10,000 comments on one pull request, which no one would read; a server whose every page has a next one ends
here."""

_PAGE_BYTES: Final = 64 * 2**20
"""Unpacked: a page of 100 comments of 65,536 characters of up to four bytes is 26 MB, and JSON escapes some."""


@dataclass(frozen=True, slots=True)
class Posted:
    """What became of a comment, and its address for people."""

    done: Literal["created", "updated"]
    url: str


def connection(host: str) -> HttpClient:
    """
    Return the client for a code host.

    Args:
        host: its name, for messages.

    Raises:
        MissingExtraError: httpx or tenacity is not installed.
    """
    from trainfare_providers.http.answer import Limits
    from trainfare_providers.http.client import HttpClient

    return HttpClient(
        host, budget_s=_BUDGET_S, limits=Limits(max_body_bytes=_PAGE_BYTES, max_pages=_MAX_PAGES)
    )


def upsert(host: CodeHost, mark: str, text: str) -> Posted:
    """
    Make `text` the only comment of ours that begins with `mark`: the oldest is replaced, others are removed.

    Raises:
        FetchError: the host does not answer, or refuses.
    """
    ours = [comment for comment in host.comments() if comment.text.startswith(mark) and host.is_ours(comment)]
    if not ours:
        return Posted("created", host.create(text))
    try:
        posted = Posted("updated", host.update(ours[0], text))
    except FetchError as error:
        if error.status != _GONE:
            raise
        posted = Posted("created", host.create(text))  # someone has removed it since it was read
    for extra in ours[1:]:
        host.delete(extra)
    return posted


def post(host: CodeHost, mark: str, text: str, *, sleep: Callable[[float], None] = time.sleep) -> Posted:
    """
    Do `upsert`, and again after a failure that can pass; the comments are read anew, so that none is written twice.

    Args:
        host: of the pull request.
        mark: of the comment.
        text: of the comment.
        sleep: waits seconds.

    Raises:
        FetchError: a failure that stays, or a wait of more than a minute.
    """
    return repeat(lambda: upsert(host, mark, text), sleep=sleep, longest_asked_s=_LONGEST_WAIT_S)


_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ERROR: Final = re.compile(r"^error: (.+)$", re.MULTILINE)

_OUTCOMES: Final = {
    "0": "passed",
    "1": "failed",
    "2": "bad usage or input",
    "3": "cannot tell",
    "4": "a defect of trainfare",
}


def mark_of(key: str) -> str:
    """
    Return the hidden first line by which the comment of a key is found again.

    Args:
        key: letters, digits, dots, dashes and underscores, at most 64.

    Raises:
        InputError: it is something else.
    """
    if not _KEY.fullmatch(key) or "--" in key:  # "--" would end an HTML comment in some parsers
        raise InputError(
            f"--key {key!r}: use at most 64 letters, digits, dots, underscores and single dashes, "
            "and begin with a letter or digit"
        )
    return f"<!-- trainfare comment: {key} -->"


def error_report(exit_code: str, log: str) -> str:
    """
    Return the report of a check that ended before it had an answer.

    Args:
        exit_code: of the check, as the shell has it.
        log: its standard error; the last line that begins with `error: ` is the reason.
    """
    outcome = _OUTCOMES.get(exit_code, "failed")
    errors = _ERROR.findall(log)
    reason = errors[-1] if errors else "the check ended without an answer; its log has the reason"
    return (
        f"## trainfare check: {outcome}\n\n{markdown_text(reason)}\n\nexit code {markdown_text(exit_code)}\n"
    )


def comment_text(mark: str, report: str, *, commit: str, longest: int, whole_report: str) -> str:
    """
    Return the text of a comment, at most `longest` characters.

    Args:
        mark: its first line.
        report: Markdown.
        commit: that was checked; "" leaves the line out.
        longest: the host's limit, characters.
        whole_report: where the uncut report is, as a sentence; used where the report is cut.
    """
    shown = f"\n<sub>checked at {commit[:10]}</sub>\n" if commit else ""
    room = longest - len(mark) - len(shown) - len("\n\n")
    return f"{mark}\n\n{cut_text(report, room, whole_report)}{shown}"


def cut_text(report: str, longest: int, whole_report: str) -> str:
    """Return a report of at most `longest` characters: whole lines, and where the rest is."""
    if len(report) <= longest:
        return report
    notice = f"\n\n**The report is cut here: it is longer than a comment may be.** {whole_report}\n"
    text = report[: longest - len(notice)]
    return (text[: text.rfind("\n")] if "\n" in text else text) + notice
