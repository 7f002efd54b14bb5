"""
GitLab: notes of a merge request.

Sources: GitLab's documentation, "Notes API", "REST API pagination", "Predefined CI/CD variables" and "CI/CD job token",
which cannot write notes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pydantic import TypeAdapter

from trainfare.pull_request.ci_job import CiJob, CodeHost, Comment, NoComment
from trainfare.pull_request.json_api import JsonApi, Wire
from trainfare_core.errors import InputError
from trainfare_providers.http.addresses import Secret

if TYPE_CHECKING:
    from trainfare_providers.http.client import HttpClient

_OPEN: Final = re.compile(r"([^!,\s]+)!([0-9]+)")
"""An entry of CI_OPEN_MERGE_REQUESTS: group/project!number."""


class _User(Wire):
    id: int


class _Note(Wire):
    id: int
    body: str
    author: _User
    system: bool = False


class GitLab(CodeHost):
    """
    The notes of one merge request.

    Args:
        http: our client.
        api_url: of the REST API, version 4.
        project: its number, or its path.
        number: of the merge request in its project.
        web_url: of the merge request.
        token: of a project, a group or a user, with the scope `api`.
    """

    longest = 1_000_000

    def __init__(
        self, http: HttpClient, *, api_url: str, project: str, number: str, web_url: str, token: str
    ) -> None:
        super().__init__(JsonApi(http, {"PRIVATE-TOKEN": Secret(token)}, "gitlab"))
        self._api_url, self._web_url = api_url, web_url
        self._notes_url = f"{api_url}/projects/{quote(project, safe='')}/merge_requests/{number}/notes"

    def comments(self) -> Iterator[Comment]:
        """Yield every note that a person or program wrote, the oldest first."""
        query = "per_page=100&order_by=created_at&sort=asc"
        for note in self._api.list_entries(f"{self._notes_url}?{query}", TypeAdapter(list[_Note])):
            if not note.system:
                yield Comment(f"{self._notes_url}/{note.id}", str(note.author.id), note.body)

    def find_me(self) -> str:
        """Return the number of the token's owner."""
        return str(self._api.ask("GET", f"{self._api_url}/user", _User).id)

    def create(self, text: str) -> str:
        """Write a new note."""
        return self._format_note_url(self._api.ask("POST", self._notes_url, _Note, {"body": text}))

    def update(self, comment: Comment, text: str) -> str:
        """Replace the text of a note."""
        return self._format_note_url(self._api.ask("PUT", comment.url, _Note, {"body": text}))

    def _format_note_url(self, note: _Note) -> str:
        return f"{self._web_url}#note_{note.id}"


def gitlab_job(environ: Mapping[str, str]) -> CiJob:
    """
    Return the job of GitLab CI that the environment describes.

    Raises:
        InputError: a variable that GitLab sets is missing.
    """
    return CiJob(
        system="gitlab",
        host=_host(environ),
        # A pipeline of the merged result runs on a merge commit that exists only for it.
        commit=environ.get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA") or environ.get("CI_COMMIT_SHA", ""),
        whole_report=f"The artifacts of [the job]({environ.get('CI_JOB_URL', '')}) have all of it.",
    )


def _host(environ: Mapping[str, str]) -> NoComment | Callable[[HttpClient], GitLab]:
    project = environ.get("CI_MERGE_REQUEST_PROJECT_ID", "")
    number = environ.get("CI_MERGE_REQUEST_IID", "")
    web_url = f"{environ.get('CI_MERGE_REQUEST_PROJECT_URL', '')}/-/merge_requests/{number}"
    opened = _OPEN.match(environ.get("CI_OPEN_MERGE_REQUESTS", ""))
    if not number and opened:  # a pipeline of a branch that has a merge request
        project, number = opened.groups()
        web_url = f"{environ.get('CI_SERVER_URL', '')}/{project}/-/merge_requests/{number}"
    if not number:
        return NoComment("this pipeline is of no merge request", expected=True)
    api_url, token = environ.get("CI_API_V4_URL", ""), environ.get("GITLAB_TOKEN", "")
    if not api_url:
        raise InputError("CI_API_V4_URL is not set: this is no job of GitLab CI")
    if not token:
        return NoComment(
            "there is no token: add a variable GITLAB_TOKEN, masked, with a project access token of scope api; a "
            "protected variable is not given to unprotected branches, and none to pipelines of a fork"
        )
    return partial(
        GitLab, api_url=api_url, project=project, number=number, web_url=web_url, token=Secret(token)
    )
