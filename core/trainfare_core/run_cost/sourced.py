"""`Sourced`: a figure of the cost of a run with its source, or why it is not known."""

from __future__ import annotations

from dataclasses import dataclass

from trainfare_core.run_cost_facts import Amount, Answer, Unknown

STATED = "stated in the table run_cost"


@dataclass(frozen=True, slots=True)
class Sourced:
    """
    A figure.

    Attributes:
        value: None where it is not known.
        source: where it comes from, or why it is not known.
    """

    value: float | None
    source: str

    @property
    def or_zero(self) -> float:
        """The value, or 0 where it is not known: only published and stated figures are charged."""
        return 0.0 if self.value is None else self.value


def choose_sourced(stated: float | None, published: Amount | Unknown) -> Sourced:
    """
    Return the user's own figure, else the published one.

    Args:
        stated: the user's own.
        published: what the run-cost facts say.
    """
    if stated is not None:
        return Sourced(stated, STATED)
    if isinstance(published, Unknown):
        return Sourced(None, published.because)
    return Sourced(published.value, text_of(published))


def text_of(published: Answer) -> str:
    """Return the source of a published figure, its date, and what speaks against it."""
    doubt = "" if published.weak_because is None else f"; {published.weak_because}"
    return f"{published.source}, {published.as_of}{doubt}"
