"""
GitHub: comments of the issue behind a pull request.

Sources: GitHub's REST documentation, "Issue comments", "Rate limits" and "Using pagination"; "Contexts" and "Automatic
token authentication" of GitHub Actions. `GET /user` refuses a workflow's token, the `viewer` of GraphQL answers it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from trainfare.pull_request.ci_job import CiJob, CodeHost, Comment, NoComment
from trainfare.pull_request.json_api import JsonApi, Wire
from trainfare_core.errors import FetchError, InputError
from trainfare_providers.http.addresses import Secret

if TYPE_CHECKING:
    from trainfare_providers.http.client import HttpClient

_REPOSITORY: Final = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


class _Account(Wire):
    login: str
    type: str = ""


class _Comment(Wire):
    id: int
    html_url: Annotated[str, Field(min_length=1)]
    body: str | None = None
    user: _Account | None = None  # of a deleted account


class _Viewer(Wire):
    viewer: _Account


class _Graph(Wire):
    data: _Viewer | None = None


class _Repository(Wire):
    full_name: str


class _Commit(Wire):
    sha: str
    repo: _Repository | None = None  # of a fork that was deleted


class _PullRequest(Wire):
    number: int
    head: _Commit
    user: _Account | None = None


class _Issue(Wire):
    number: int
    pull_request: object = None


class _Event(Wire):
    pull_request: _PullRequest | None = None
    issue: _Issue | None = None


class GitHub(CodeHost):
    """
    The comments of one pull request.

    Args:
        http: our client.
        api_url: of the REST API.
        graphql_url: of the GraphQL API.
        repository: owner/name.
        number: of the pull request.
        token: of the workflow, or of a user.
        read_only: why the token can only read, "" where it may write.
    """

    longest = 65_536
    """A longer body is refused with 422 ("body is too long")."""

    def __init__(
        self,
        http: HttpClient,
        *,
        api_url: str,
        graphql_url: str,
        repository: str,
        number: int,
        token: str,
        read_only: str = "",
    ) -> None:
        headers = {
            "Authorization": Secret(f"Bearer {token}"),
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        super().__init__(JsonApi(http, headers, "github", read_only))
        self._graphql_url = graphql_url
        self._comments_url = f"{api_url}/repos/{repository}/issues/{number}/comments"
        self._comment_url = f"{api_url}/repos/{repository}/issues/comments"

    def comments(self) -> Iterator[Comment]:
        """Yield every comment, the oldest first."""
        for comment in self._api.list_entries(
            f"{self._comments_url}?per_page=100", TypeAdapter(list[_Comment])
        ):
            user = comment.user or _Account(login="ghost")
            yield Comment(
                f"{self._comment_url}/{comment.id}", user.login, comment.body or "", user.type == "Bot"
            )

    def create(self, text: str) -> str:
        """Write a new comment."""
        created = self._api.ask("POST", self._comments_url, _Comment, {"body": text})
        return self._api.hide_token(created.html_url)

    def update(self, comment: Comment, text: str) -> str:
        """Replace the text of a comment."""
        return self._api.hide_token(self._api.ask("PATCH", comment.url, _Comment, {"body": text}).html_url)

    def find_me(self) -> str:
        """Return the login of the token's owner, where GitHub says it."""
        try:
            answer = self._api.ask("POST", self._graphql_url, _Graph, {"query": "query { viewer { login } }"})
        except FetchError as error:
            if error.retryable:
                raise
            return ""
        return answer.data.viewer.login if answer.data else ""


def github_job(environ: Mapping[str, str]) -> CiJob:
    """
    Return the job of GitHub Actions that the environment describes.

    Raises:
        InputError: a variable that GitHub Actions sets is missing or cannot be read.
    """
    server, repository = environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_REPOSITORY", "")
    run = f"{server}/{repository}/actions/runs/{environ.get('GITHUB_RUN_ID', '')}"
    event = _event(environ.get("GITHUB_EVENT_PATH", ""))
    pull_request = event.pull_request
    number = pull_request.number if pull_request else None
    if event.issue and event.issue.pull_request:
        number = event.issue.number
    return CiJob(
        system="github",
        host=_host(environ, repository, number, _read_only(pull_request, repository)),
        commit=pull_request.head.sha if pull_request else environ.get("GITHUB_SHA", ""),
        whole_report=f"The [summary of the job]({run}) has all of it.",
        summary=_path(environ, "GITHUB_STEP_SUMMARY"),
        outputs=_path(environ, "GITHUB_OUTPUT"),
    )


def _host(
    environ: Mapping[str, str], repository: str, number: int | None, read_only: str
) -> NoComment | Callable[[HttpClient], GitHub]:
    token = environ.get("GITHUB_TOKEN", "")
    if number is None:
        event = environ.get("GITHUB_EVENT_NAME", "this event")
        return NoComment(f"the event {event} is of no pull request", expected=True)
    if not token:
        return NoComment("there is no token: set GITHUB_TOKEN in the environment of this step")
    if not _REPOSITORY.fullmatch(repository):
        raise InputError(f"GITHUB_REPOSITORY {repository!r}: it must be owner/name")
    return partial(
        GitHub,
        api_url=environ.get("GITHUB_API_URL", "https://api.github.com"),
        graphql_url=environ.get("GITHUB_GRAPHQL_URL", "https://api.github.com/graphql"),
        repository=repository,
        number=number,
        token=Secret(token),
        read_only=read_only,
    )


def _event(path: str) -> _Event:
    if not path:
        raise InputError("GITHUB_EVENT_PATH is not set: this is no job of GitHub Actions")
    try:
        return _Event.model_validate_json(Path(path).read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(f"GITHUB_EVENT_PATH {path}: it is no event of GitHub Actions") from error


def _read_only(pull_request: _PullRequest | None, repository: str) -> str:
    """Return why GitHub gives the job a token that can only read, "" where it does not."""
    if pull_request is None:
        return ""
    source = pull_request.head.repo
    if source is None or source.full_name != repository:
        return "the pull request comes from a fork, and GitHub gives its workflows a token that can only read"
    if pull_request.user is not None and pull_request.user.login == "dependabot[bot]":
        return "the pull request is Dependabot's, and GitHub gives its workflows a token that can only read"
    return ""


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    return Path(environ[name]) if environ.get(name) else None
