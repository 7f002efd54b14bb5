"""The guard of a listing that comes in pages."""

from __future__ import annotations

from trainfare_providers.http.addresses import target_of
from trainfare_providers.http.answer import HttpRequest


class Pages:
    """Checks that a listing in pages ends, repeats no page, and links only to its own site."""

    def __init__(self, request: HttpRequest, max_pages: int) -> None:
        self._request, self._max_pages = request, max_pages
        self._seen: set[str] = set()

    def token(self, token: str) -> str:
        """
        Return the token of the next page.

        Raises:
            FetchError: it was used before, or there are too many pages.
        """
        if token in self._seen:
            raise self._request.fault("paging", " (a page came again)")
        if len(self._seen) + 1 >= self._max_pages:
            raise self._request.fault("paging", f" (more than {self._max_pages:,})")
        self._seen.add(token)
        return token

    def link(self, link: str) -> str:
        """
        Return the address of the next page.

        Raises:
            FetchError: as for `token`, or it leads to another site.
        """
        target = target_of(self._request.url, link)
        if target is None:
            raise self._request.fault("redirect")
        return self.token(target)
