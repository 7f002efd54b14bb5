"""Which URLs may be requested, which redirects are followed, and how a URL is shown."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainfare_providers.http.addresses import (
    Secret,
    redact_url,
    same_origin,
    same_site,
    target_of,
    why_refused,
)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://prices.azure.com/api", None),
        ("http://127.0.0.1:80/x", None),
        ("http://localhost/x", None),
        ("http://[::1]:5/x", None),
        ("http://prices.azure.com/api", "only https"),
        ("http://127.0.0.1.example.com/", "only https"),
        ("ftp://prices.azure.com/", "only https"),
        ("file:///etc/passwd", "no host"),
        ("https://me:pw@prices.azure.com/", "user or password"),
        ("https://", "no host"),
        ("", "no host"),
        ("//prices.azure.com/", "only https"),
        ("https://[", "no host"),
        ("https://a:99999/", "no host"),
    ],
)
def test_only_https_is_asked(url: str, why: str | None) -> None:
    """Plain http goes to this machine at most."""
    said = why_refused(url)
    assert said is None if why is None else why in str(said)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.example.com/", "https://b.example.com/", True),
        ("https://example.com/", "https://www.example.com/", True),
        ("https://example.com/", "https://example.com.evil.org/", False),
        ("https://example.com/", "https://notexample.com/", False),
        ("https://a.example.co.uk/", "https://b.example.co.uk/", True),
        ("https://a.co.uk/", "https://b.co.uk/", False),
        ("https://co.uk/", "https://b.co.uk/", False),
        ("https://a.co.uk/", "https://www.a.co.uk/", True),
        ("https://one.s3.amazonaws.com/", "https://two.s3.amazonaws.com/", False),
        ("https://pricing.us-east-1.amazonaws.com/", "https://pricing.us-east-1.amazonaws.com/x", True),
        ("https://one.blob.core.windows.net/", "https://two.blob.core.windows.net/", False),
        ("https://storage.googleapis.com/", "https://cloudbilling.googleapis.com/", False),
        ("https://127.0.0.1/", "https://127.0.0.2/", False),
        ("https://10.0.0.1/", "https://11.0.0.1/", False),
        ("https://EXAMPLE.com./", "https://example.com/", True),
        ("https://localhost/", "https://other/", False),
        ("https://com/", "https://org/", False),
    ],
)
def test_same_site(one: str, other: str, same: bool) -> None:
    """One registered domain; where names are rented out under one, only the same host."""
    assert same_site(one, other) is same
    assert same_site(other, one) is same


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("https://a.example.com/x/y", "z", "https://a.example.com/x/z"),
        ("https://a.example.com/x", "/z?q=1", "https://a.example.com/z?q=1"),
        ("https://a.example.com/x", "//b.example.com/z", "https://b.example.com/z"),
        ("https://a.example.com/x", "http://a.example.com/x", None),
        ("https://a.example.com/x", "https://evil.org/", None),
        ("https://a.example.com/x", "javascript:alert(1)", None),
        ("https://a.example.com/x", "file:///etc/passwd", None),
        ("https://a.example.com/x", "https://me:pw@a.example.com/", None),
        ("https://127.0.0.1:1/x", "http://127.0.0.1:2/x", None),
        ("http://127.0.0.1:1/x", "https://127.0.0.1:2/x", "https://127.0.0.1:2/x"),
        ("https://a.example.com/x", "https://[bad", None),
        ("https://a.example.com/x", "", "https://a.example.com/x"),
    ],
)
def test_where_a_redirect_may_lead(url: str, location: str, target: str | None) -> None:
    """The same site, never down to http."""
    assert target_of(url, location) == target


def test_credentials_stay_with_scheme_host_and_port() -> None:
    """Another port is another server."""
    assert same_origin("https://a.example.com/x", "https://a.example.com:443/y")
    assert not same_origin("https://a.example.com/", "https://a.example.com:8443/")
    assert not same_origin("https://a.example.com/", "https://b.example.com/")
    assert not same_origin("https://a.example.com/", "http://a.example.com/")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h.com/p?key=S3CRET&page=2", "https://h.com/p?key=***&page=2"),
        ("https://h.com/p?api_key=S3CRET", "https://h.com/p?api_key=***"),
        (
            "https://h.com/p?X-Amz-Signature=S3CRET&sv=1&sig=S3CRET",
            "https://h.com/p?X-Amz-Signature=***&sv=1&sig=***",
        ),
        ("https://h.com/p?access_token=S3CRET#S3CRET", "https://h.com/p?access_token=***"),
        ("https://me:S3CRET@h.com:8443/p", "https://h.com:8443/p"),
        (
            "https://h.com/p?$filter=serviceName eq 'VM'",
            "https://h.com/p?$filter=serviceName%20eq%20%27VM%27",
        ),
        ("https://h.com/\x1b[31m\nX", "https://h.com/%1B%5B31mX"),
        ("https://[::1]:5/x", "https://[::1]:5/x"),
        ("https://[", "(an address that cannot be read)"),
    ],
)
def test_address_is_shown_without_its_secrets(
    url: str, shown: str, record_property: Callable[[str, object], None]
) -> None:
    """No user, password, key, signature, token, fragment or control byte."""
    assert redact_url(url) == shown
    record_property("{} secrets in addresses", url.count("S3CRET"))
    record_property("{} of them shown, 0 allowed", redact_url(url).count("S3CRET"))


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_is_shown_on_one_short_line(text: str) -> None:
    """An address from a server cannot paint the terminal."""
    for url in (text, "https://h.com/" + text, "https://h.com/?a=" + text):
        shown = redact_url(url)
        assert len(shown) <= 300
        assert shown.replace("…", "").isascii()
        assert shown.isprintable()


def test_secret_is_used_and_not_shown() -> None:
    """It is ordinary text, and *** in every `repr`."""
    secret = Secret("S3CRET")
    assert secret == "S3CRET"
    assert f"{secret}" == "S3CRET"
    assert "S3CRET" not in repr({"key": secret})
