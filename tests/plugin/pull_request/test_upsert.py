"""Waits between attempts to comment, and the text of a comment."""

from __future__ import annotations

import socket

import pytest

from builders.code_hosts import TOKEN, Answer, GitHubServer, running
from trainfare.pull_request.comment import comment_text, connection, cut_text, post
from trainfare.pull_request.github import GitHub
from trainfare_core.errors import FetchError

MARK = "<!-- trainfare comment: check -->"


def waits(url: str) -> tuple[list[float], FetchError | None]:
    """Post to a GitHub and return the waits that were made, and the failure."""
    waited: list[float] = []
    with connection("GitHub") as http:
        github = GitHub(
            http, api_url=url, graphql_url=f"{url}/graphql", repository="octo/models", number=7, token=TOKEN
        )
        try:
            post(github, MARK, f"{MARK}\n\nnew", sleep=waited.append)
        except FetchError as error:
            return waited, error
    return waited, None


def test_a_host_that_is_down_is_given_up() -> None:
    """Four attempts, with the waits of every other request of ours between them; the message has no token."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    waited, error = waits(f"http://127.0.0.1:{port}")
    assert waited == [0.5, 1.0, 2.0]
    assert error is not None
    assert "the connection was refused" in str(error)
    assert TOKEN not in str(error)


@pytest.mark.parametrize(("asked_s", "waited_s"), [("60", [60.0]), ("61", [])])
def test_a_minute_is_waited_for_and_no_more(asked_s: str, waited_s: list[float]) -> None:
    """The host's own wait is kept to, and a longer one ends the attempts."""
    limit = Answer(403, {"message": "secondary rate limit"}, (("Retry-After", asked_s),))
    with running(GitHubServer(faults={"POST": [limit]})) as server:
        waited, error = waits(server.url)
        assert waited == waited_s
        assert (error is None) == bool(waited_s)


def test_only_https_is_asked() -> None:
    """A token is never sent in the clear, except to this machine."""
    waited, error = waits("http://github.example")
    assert waited == []
    assert error is not None
    assert "only https is asked" in str(error)


@pytest.mark.parametrize("longest", [400, 401, 1_000])
def test_a_text_is_never_longer_than_allowed(longest: int) -> None:
    """Mark, commit and the notice of the cut are counted."""
    report = "".join(f"line {number}\n" for number in range(1_000))
    text = comment_text(MARK, report, commit="a" * 40, longest=longest, whole_report="It is in the summary.")
    assert len(text) <= longest
    assert text.endswith("It is in the summary.\n\n<sub>checked at aaaaaaaaaa</sub>\n")
    fitting = "x" * (longest - len(MARK) - 2)
    assert comment_text(MARK, fitting, commit="", longest=longest, whole_report="") == f"{MARK}\n\n{fitting}"


def test_one_endless_line_is_cut_within() -> None:
    """Where there is no line to end at, the cut is at the limit."""
    assert cut_text("x" * 500, 200, "There.").startswith("x" * 100)
