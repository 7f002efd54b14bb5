"""A listing in JSON that comes in pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from trainfare_providers.http.client import HttpClient


def read_pages(
    http: HttpClient,
    url: str,
    items: str,
    following: str,
    query: Mapping[str, str],
    *,
    headers: Mapping[str, str] | None = None,
    count: str = "",
    parameter: str = "",
) -> Iterator[list[object]]:
    """
    Yield the items of each page of a listing in JSON.

    Args:
        http: sends the requests.
        url: of the first page.
        items: name of the list in a page.
        following: name of the next page's address, or of its token.
        query: of the first page, and of the others where they have tokens.
        headers: of every request.
        count: name of the number of items in a page; "" where it states none.
        parameter: that takes the next page's token; "" where it has an address.

    Raises:
        FetchError: no answer, or a page of another form.
    """
    guard, query = http.pages(url), dict(query)
    while True:
        answer = http.get_json(url, params=query, headers=headers, must_have=(items,))
        page = cast("dict[str, object]", answer)  # else it had no name that it must have
        entries, link = page[items], page.get(following)
        if not isinstance(entries, list):
            raise http.refusal("not JSON", url, f" ({items} is no list)")
        entries = cast("list[object]", entries)
        if count and page.get(count) not in (None, len(entries)):
            raise http.refusal("cut short", url, " (it has not as many items as it says)")
        yield entries
        if not link:
            return
        if not isinstance(link, str):
            raise http.refusal(
                "paging", url, f" (the next page has no {'token' if parameter else 'address'})"
            )
        if parameter:
            query[parameter] = guard.token(link)
        else:
            url, query = guard.link(link), {}
