"""Listings in pages: that they end."""

from __future__ import annotations

from trainfare_providers.http.addresses import target_of
from trainfare_providers.http.answer import Question

__all__ = ["Pages"]


class Pages:
    """Guards a listing in pages: it ends, no page comes twice, and a link leads nowhere else."""

    def __init__(self, question: Question, max_pages: int) -> None:
        self._question, self._max_pages = question, max_pages
        self._seen: set[str] = set()

    def token(self, token: str) -> str:
        """
        Return the token of the next page.

        Raises:
            FetchError: it was used before, or there are too many pages.
        """
        if token in self._seen:
            raise self._question.fault("paging", " (a page came again)")
        if len(self._seen) + 1 >= self._max_pages:
            raise self._question.fault("paging", f" (more than {self._max_pages:,})")
        self._seen.add(token)
        return token

    def link(self, link: str) -> str:
        """
        Return the address of the next page.

        Raises:
            FetchError: as for `token`, or it leads to another site.
        """
        target = target_of(self._question.url, link)
        if target is None:
            raise self._question.fault("redirect")
        return self.token(target)
