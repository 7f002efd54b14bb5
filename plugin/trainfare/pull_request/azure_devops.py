"""
Azure DevOps: threads of a pull request in Azure Repos.

Sources: Azure DevOps Services REST API 7.1, "Pull Request Threads" and "Pull Request Thread Comments"; "Predefined
variables" of Azure Pipelines. A thread is created closed, so that it does not hold up a merge that waits for open
comments; the gate is the exit code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from trainfare.pull_request.ci_job import CiJob, CodeHost, Comment, NoComment
from trainfare.pull_request.json_api import JsonApi, Wire
from trainfare_core.errors import InputError
from trainfare_providers.http.addresses import Secret

if TYPE_CHECKING:
    from trainfare_providers.http.client import HttpClient

_VERSION: Final = "api-version=7.1"


class _Identity(Wire):
    id: str


class _Comment(Wire):
    id: int
    content: str | None = None
    author: _Identity | None = None
    isDeleted: bool = False  # noqa: N815 - the API's name


class _Thread(Wire):
    id: int
    isDeleted: bool = False  # noqa: N815 - the API's name
    comments: tuple[_Comment, ...] = ()


class _Threads(Wire):
    value: tuple[_Thread, ...]


class _Connection(Wire):
    authenticatedUser: _Identity  # noqa: N815 - the API's name


class AzureDevOps(CodeHost):
    """
    The threads of one pull request.

    Args:
        http: our client.
        collection_url: of the organization, with a slash at its end.
        project: its id or name.
        repository: its id.
        number: of the pull request.
        web_url: of the pull request.
        token: of the build service (`System.AccessToken`), or of a user.
    """

    longest = 150_000

    def __init__(
        self,
        http: HttpClient,
        *,
        collection_url: str,
        project: str,
        repository: str,
        number: str,
        web_url: str,
        token: str,
    ) -> None:
        super().__init__(JsonApi(http, {"Authorization": Secret(f"Bearer {token}")}, "azure"))
        self._collection_url, self._web_url = collection_url, web_url
        self._threads_url = (
            f"{collection_url}{quote(project, safe='')}/_apis/git/repositories/{quote(repository, safe='')}"
            f"/pullRequests/{number}/threads"
        )

    def comments(self) -> Iterator[Comment]:
        """Yield the first comment of every thread; the API has them on one page."""
        answer = self._api.ask("GET", f"{self._threads_url}?{_VERSION}", _Threads)
        for thread in sorted(answer.value, key=lambda comment: comment.id):
            for comment in thread.comments[:1]:
                if not (thread.isDeleted or comment.isDeleted):
                    author = comment.author.id if comment.author else ""
                    yield Comment(self._comment_url(thread, comment), author, comment.content or "")

    def find_me(self) -> str:
        """Return the identity of the token's owner."""
        url = f"{self._collection_url}_apis/connectionData?api-version=7.1-preview.1"
        return self._api.ask("GET", url, _Connection).authenticatedUser.id

    def create(self, text: str) -> str:
        """Write a new thread."""
        first = {"parentCommentId": 0, "content": text, "commentType": "text"}
        body = {"comments": [first], "status": "closed"}
        thread = self._api.ask("POST", f"{self._threads_url}?{_VERSION}", _Thread, body)
        return f"{self._web_url}?discussionId={thread.id}"

    def update(self, comment: Comment, text: str) -> str:
        """Replace the text of a comment."""
        self._api.ask("PATCH", comment.url, _Comment, {"content": text})
        match = re.search(r"/threads/([0-9]+)/", comment.url)
        return f"{self._web_url}?discussionId={match[1]}" if match else self._web_url

    def _comment_url(self, thread: _Thread, comment: _Comment) -> str:
        return f"{self._threads_url}/{thread.id}/comments/{comment.id}?{_VERSION}"


def azure_job(environ: Mapping[str, str]) -> CiJob:
    """
    Return the job of Azure Pipelines that the environment describes.

    Raises:
        InputError: a variable that Azure Pipelines sets is missing.
    """
    build = environ.get("BUILD_BUILDID", "")
    run = f"{environ.get('SYSTEM_COLLECTIONURI', '')}{environ.get('SYSTEM_TEAMPROJECTID', '')}/_build/results"
    return CiJob(
        system="azure",
        host=_host(environ),
        commit=environ.get("SYSTEM_PULLREQUEST_SOURCECOMMITID") or environ.get("BUILD_SOURCEVERSION", ""),
        whole_report=f"The extensions tab of [the run]({run}?buildId={build}) has all of it.",
    )


def _host(environ: Mapping[str, str]) -> NoComment | Callable[[HttpClient], AzureDevOps]:
    number = environ.get("SYSTEM_PULLREQUEST_PULLREQUESTID", "")
    if not number:
        return NoComment("this build is of no pull request", expected=True)
    source = environ.get("BUILD_REPOSITORY_PROVIDER", "")
    if source != "TfsGit":
        return NoComment(f"the pull request is not in Azure Repos but in {source or 'an unknown place'}")
    names = ("SYSTEM_COLLECTIONURI", "SYSTEM_TEAMPROJECTID", "BUILD_REPOSITORY_ID")
    missing = [name for name in names if not environ.get(name)]
    if missing:
        raise InputError(f"{', '.join(missing)} is not set: this is no job of Azure Pipelines")
    token = environ.get("SYSTEM_ACCESSTOKEN", "")
    if not token:
        return NoComment(
            "there is no token: give the step `env: SYSTEM_ACCESSTOKEN: $(System.AccessToken)`; builds of forks have "
            "none unless the project gives them one"
        )
    collection = environ["SYSTEM_COLLECTIONURI"].rstrip("/") + "/"
    page = f"{environ['SYSTEM_TEAMPROJECTID']}/_git/{environ['BUILD_REPOSITORY_ID']}/pullrequest/{number}"
    return partial(
        AzureDevOps,
        collection_url=collection,
        project=environ["SYSTEM_TEAMPROJECTID"],
        repository=environ["BUILD_REPOSITORY_ID"],
        number=number,
        web_url=f"{collection}{page}",
        token=Secret(token),
    )
