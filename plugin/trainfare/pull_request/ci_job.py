"""What a CI system tells a job about itself, and what a code host can do with comments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
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


class CodeHost(Protocol):
    """The comments of one pull request; every method raises `FetchError` where the host refuses."""

    @property
    def longest(self) -> int:
        """The most characters that a comment may have."""
        ...

    def comments(self) -> Iterator[Comment]:
        """Yield every comment, the oldest first."""
        ...

    def is_ours(self, comment: Comment) -> bool:
        """Return whether the owner of the token wrote it: anyone may write a comment with our mark."""
        ...

    def create(self, text: str) -> str:
        """Write a new comment and return its address for people."""
        ...

    def update(self, comment: Comment, text: str) -> str:
        """Replace the text of a comment and return its address for people."""
        ...

    def delete(self, comment: Comment) -> None:
        """Remove a comment."""
        ...


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
