"""How far a refresh is, for the display of its progress."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """
    What is being done for a cloud, and how far it is.

    Attributes:
        what: in a few words, such as "reading AmazonEC2".
        region: whose prices are read; blank for all of them.
        bytes_read: as they came over the network, and those kept from an earlier attempt.
        bytes_total: of the whole file; None where the server does not say.
        rows: entries read so far.
    """

    what: str
    region: str = ""
    bytes_read: int = 0
    bytes_total: int | None = None
    rows: int = 0
