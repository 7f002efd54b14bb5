"""What a CI system tells a job about itself, and what a code host can do with comments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from trainfare.pull_request.json_api import JsonApi
    from trainfare_providers.http.client import HttpClient


@dataclass(frozen=True, slots=True)
class Comment:
    """
    A comment on a pull request.

    Attributes:
        url: its address in the host's API.
        author: who wrote it, as the host identifies accounts.
        text: its Markdown.
        by_program: the host says that no person wrote it.
    """

    url: str
    author: str
    text: str
    by_program: bool = False


class CodeHost(ABC):
    """
    The comments of one pull request; every method raises `FetchError` where the host refuses.

    Args:
        api: of the host, with the token.
    """

    longest: ClassVar[int]
    """The most characters that a comment may have."""

    def __init__(self, api: JsonApi) -> None:
        self._api = api
        self._me: str | None = None

    @abstractmethod
    def comments(self) -> Iterator[Comment]:
        """Yield every comment, the oldest first."""

    @abstractmethod
    def find_me(self) -> str:
        """Return the owner of the token, as `Comment.author` has accounts; "" where the host does not say."""

    def is_ours(self, comment: Comment) -> bool:
        """
        Return whether the owner of the token wrote it: anyone may write a comment with our mark.

        Where the host does not say who that is, whether a program did.
        """
        if self._me is None:
            self._me = self.find_me()
        return comment.author == self._me if self._me else comment.by_program

    @abstractmethod
    def create(self, text: str) -> str:
        """Write a new comment and return its address for people."""

    @abstractmethod
    def update(self, comment: Comment, text: str) -> str:
        """Replace the text of a comment and return its address for people."""

    def delete(self, comment: Comment) -> None:
        """Remove a comment."""
        self._api.tell("DELETE", comment.url)


@dataclass(frozen=True, slots=True)
class NoComment:
    """
    Why a job cannot comment.

    Attributes:
        because: the reason.
        expected: as in a build that belongs to no pull request, so that it is no warning.
    """

    because: str
    expected: bool = False


@dataclass(frozen=True, slots=True)
class CiJob:
    """
    The job in which we run.

    Attributes:
        system: whose log commands a warning is written with.
        host: makes the code host of its pull request, or says why there is none.
        commit: the commit that was checked, "" where it is not known.
        whole_report: where the uncut report is, as a sentence.
        summary: the file of GitHub's job summary.
        outputs: the file of GitHub's step outputs.
    """

    system: Literal["github", "gitlab", "azure"]
    host: Callable[[HttpClient], CodeHost] | NoComment
    commit: str
    whole_report: str
    summary: Path | None = None
    outputs: Path | None = None
