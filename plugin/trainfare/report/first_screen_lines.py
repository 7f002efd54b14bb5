"""The paragraphs of the first screen: what each is about, how long it may be, and which are left out."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Final

from trainfare.report.blocks import Block, Text, Tone

MAX_LINES: Final = 24
"""A terminal's height since the VT100, so that nothing of the answer scrolls away."""

_UNBROKEN: Final = re.compile(r"[0-9] [%×x] ?|quota 0|`trainfare [a-z. -]+`")
"""Where no line is broken: before a percent sign, around the sign of multiplication, in a command."""


class Owner(IntEnum):
    """
    What a paragraph of the first screen is about, the most important first.

    Those up to `NEXT` are always shown. Where there are too many lines, the others are left out from the last one on;
    the whole report shows each of them.
    """

    ANSWER = auto()
    PLAN = auto()
    BASIS = auto()
    BATCH = auto()
    LOADER = auto()
    DOUBT = auto()
    MORE = auto()
    NEXT = auto()
    EARLY_END = auto()
    IMPLEMENTATIONS = auto()
    OWN_PRICES = auto()
    WAITING_VALUE = auto()  # a stated value of a month is a question about waiting
    COST_DRIVER = auto()
    EARLIER_RUNS = auto()
    PORTED = auto()
    CONSTRAINTS = auto()
    SAVINGS = auto()
    NODES = auto()
    SPOT = auto()
    COMMITMENT = auto()
    OUTLOOK = auto()
    JOB = auto()
    REJECTED = auto()
    ALTERNATIVES = auto()


@dataclass(frozen=True, slots=True)
class Paragraph:
    """
    A paragraph of the first screen.

    Attributes:
        owner: what it is about; its rank decides whether it is left out.
        text: what is said; nothing is printed for an empty one.
        indent: blanks before its further lines.
        max_lines: what is longer is cut; None: never.
        tone: of its lines.
        first_line: stands above the text.
    """

    owner: Owner
    text: str
    indent: int = 2
    max_lines: int | None = 2
    tone: Tone = ""
    first_line: str = ""

    def lines(self, width: int) -> list[Block]:
        """Return its lines of at most so many columns."""
        head: list[Block] = [Text(self.first_line, "answer")] if self.first_line else []
        indent = " " * self.indent
        text = _UNBROKEN.sub(lambda found: found[0].replace(" ", "\xa0"), " ".join(self.text.split()))
        wrapped = textwrap.wrap(
            text,
            width,
            initial_indent=indent if head else "",
            subsequent_indent=indent,
            max_lines=self.max_lines,
            placeholder=" ...",
            break_on_hyphens=False,
        )
        return head + [Text(line.replace("\xa0", " "), self.tone) for line in wrapped]


def choose_paragraphs(paragraphs: Sequence[Paragraph], width: int) -> list[Paragraph]:
    """Return the paragraphs that fit, without the least important of the others."""
    kept = list(paragraphs)
    while sum(len(paragraph.lines(width)) for paragraph in kept) > MAX_LINES:
        weakest = max(reversed(kept), key=lambda paragraph: paragraph.owner)
        if weakest.owner <= Owner.NEXT:
            break
        kept = [paragraph for paragraph in kept if paragraph is not weakest]
    return kept


def join_doubts(sentences: Sequence[str], width: int) -> Paragraph:
    """Return the sentences that two lines hold, the first of them first."""
    said = Paragraph(Owner.DOUBT, " ".join(sentences[:1]))
    for sentence in sentences[1:]:
        longer = Paragraph(Owner.DOUBT, f"{said.text} {sentence}", max_lines=None)
        if len(longer.lines(width)) <= 2:
            said = longer
    return said
