"""
What the columns of remarks keep in our tables: facts as short tokens, without sentences.

The collected tables describe a run in words, part by part with ";" between. A part stays as it is where it is short (a
setting such as "torch 2.4.1", "layers=24" or "gradient checkpointing on"), or where a parser of the workloads reads it
(`READ`). A doubt ("HOST_BOUND: within 10 % of ...") leaves its mark alone. The rest, which says why or how, goes.
"""

from __future__ import annotations

import re
from typing import Final

MARK: Final = re.compile(r"\b(?:SUSPECT\w*|HOST_BOUND|LAUNCH_BOUND)")
"""A doubt about a reading. What follows explains it."""
READ: Final = re.compile(
    r"accum_col=\d+ and \d+|logged mean \d+ tokens|no pad tokens|grad accum \d+|\d+\s?Gbps|\d+x\d+\s?Gb|mcore \S+ test|"
    r"our estimate: MFU [\d.]+|layers \d+, hidden \d+|triton kernels|unpacked|alpaca|autocast|longest sample|"
    r"may be accumulated|recipe|init only|in backward|gbs \d+|suite|document mask|torch\.compile|^\w+=",
    re.IGNORECASE,
)
"""Parts that are read whatever their length."""
KIND: Final = r"\bIB\b|InfiniBand|Ethernet|NVLink|NVSwitch|PCIe|RoCE|XGMI|HCCS|Omni-Path"
"""Kinds of links."""
WORDS: Final = 8
"""The most words of a part that is kept because it is short."""


def shorten_notes(notes: str) -> str:
    """
    Return the facts of a cell of remarks.

    Args:
        notes: parts with ";" between.

    >>> shorten_notes("eager;HOST_BOUND: within 10 % of the smallest-batch step time (launch cost);layers=24")
    'eager;HOST_BOUND;layers=24'
    """
    return ";".join(part for part in map(_shorten_part, notes.split(";")) if part is not None)


def _shorten_part(part: str) -> str | None:
    """Return a part, the mark in it, or None for an explanation."""
    if READ.search(part):
        return part
    mark = MARK.search(part)
    short = len(part.split()) <= WORDS and not (mark and ":" in part[mark.end() :])
    if mark and not short:
        return mark[0]
    return part if short else None


def shorten_network(text: str) -> str:
    """
    Return how many links of which kind and rate a description of a network names.

    Args:
        text: of a submission's system, in its submitter's words.

    >>> shorten_network("Storage: 2x ConnectX-7 IB NDR 400Gb/s, Compute: 8x ConnectX-7 IB NDR 400Gb/s; Fat Tree")
    'storage 2x ConnectX-7 IB 400Gb/s, 8x ConnectX-7 IB 400Gb/s'
    """
    return ", ".join(filter(None, map(_shorten_link, re.split(r"[,;+]|\band\b", text))))


def _shorten_link(part: str) -> str:
    """Return use, number, adapter and rate of one link, as far as the text has them."""
    use = re.search(r"storage|management|gpu-pcie|pcie-nic", part, re.IGNORECASE)
    facts = [
        re.search(pattern, part, re.IGNORECASE)
        for pattern in (r"\d+\s*x", r"ConnectX\s*-\s*\d", KIND, r"\d+\s*Gb(?:it|ps|\s*/\s*s(?:ec)?)?")
    ]
    words = [fact[0] for fact in facts if fact]
    return " ".join([use[0].lower(), *words] if use and words else words)
