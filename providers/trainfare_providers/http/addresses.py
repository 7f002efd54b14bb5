"""URLs: which may be requested, which may be followed to, and how one is shown without its secrets."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, urljoin, urlsplit

_SECRET_NAME: Final = re.compile(r"key|sig|token|secret|pass|pwd|cred|auth|code|session|jwt", re.IGNORECASE)
_MAX_SHOWN: Final = 300  # characters of a URL in a message: about three lines of a terminal

# Names under these suffixes belong to different customers, so only the same host counts as the same site.
_SHARED_SUFFIXES: Final = (
    "amazonaws.com",
    "amazonaws.com.cn",
    "appspot.com",
    "azure.com",
    "azure.net",
    "azurewebsites.net",
    "cloudfront.net",
    "github.io",
    "googleapis.com",
    "windows.net",
)
_SECOND_LEVEL: Final = ("ac", "co", "com", "edu", "gov", "net", "org")


class Secret(str):
    """Text whose `repr` is `***`, also in a traceback that prints local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def redact_url(url: str) -> str:
    """Return a URL for messages: no user, password, fragment or control byte, secret query values as `***`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        pairs = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return "(an address that cannot be read)"
    where = f"[{host}]" if ":" in host else host
    where += f":{port}" if port else ""
    shown = "&".join(
        f"{quote(name, safe='$-_.')}={'***' if _SECRET_NAME.search(name) else quote(value, safe='$-_./:,')}"
        for name, value in pairs
    )
    path = quote(parts.path, safe="/%:@$-_.~!*'(),;=+&")
    text = f"{quote(parts.scheme)}://{quote(where, safe='[]:.-_')}{path}" + (f"?{shown}" if shown else "")
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def format_host(url: str) -> str:
    """Return the host and port of a URL, for messages about a connection to it."""
    parts = _split(url)
    return quote(parts.netloc.rpartition("@")[2], safe="[]:.-_") or "(an address that cannot be read)"


def is_loopback(url: str) -> bool:
    """Return whether the host is this machine."""
    host = (_split(url).hostname or "").lower()
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def why_refused(url: str) -> str | None:
    """Return why a URL may not be requested, or None: https only, except to this machine; no user or password."""
    parts = _split(url)
    if not parts.hostname:
        return "the address has no host"
    if "@" in parts.netloc:
        return "the address holds a user or password"
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url)):
        return None
    return f"only https is asked, not {parts.scheme or 'nothing'}"


def target_of(url: str, location: str) -> str | None:
    """
    Return the target of a redirect or a next-page link, or None where it may not be followed.

    The target must be on the same site, and https where the first URL is.
    """
    try:
        target = urljoin(url, location.strip())
    except ValueError:
        return None
    downgrade = _split(url).scheme == "https" and _split(target).scheme != "https"
    if why_refused(target) or downgrade or not same_site(url, target):
        return None
    return target


def same_origin(first: str, other: str) -> bool:
    """Return whether scheme, host and port are the same; credentials are sent only there."""
    ours, theirs = _split(first), _split(other)
    return (ours.scheme, ours.hostname, _port(ours)) == (theirs.scheme, theirs.hostname, _port(theirs))


def same_site(first: str, other: str) -> bool:
    """Return whether two hosts share a registered domain; under a shared suffix, whether they are equal."""
    ours, theirs = ((_split(url).hostname or "").lower().rstrip(".") for url in (first, other))
    return ours == theirs or (_site(ours) == _site(theirs) != "")


def _site(host: str) -> str:
    """Return the registered domain, or nothing where only the host itself counts."""
    labels = host.split(".")
    shared = any(host == suffix or host.endswith(f".{suffix}") for suffix in _SHARED_SUFFIXES)
    if shared or len(labels) < 2 or _address(host) is not None:
        return ""
    country = len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL
    if country and len(labels) < 3:
        return ""
    return ".".join(labels[-3:] if country else labels[-2:])


def _port(parts: SplitResult) -> int | None:
    return parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # checked only when it is read
    except ValueError:
        return SplitResult("", "", "", "", "")
    return parts


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
