"""`Note`: what there is to say of an option beside its figures, as data; its words are made where it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, cast

from pydantic import Field, computed_field, model_validator

from trainfare_core.documents import Finite, Record, leave_out_empty
from trainfare_core.prices.caveats import CaveatKind

NOTED_LOADER_RATE: Final = 100.0
"""Samples a second on each vCPU from which an input pipeline that was not measured is a note: a core decodes and crops
about a hundred JPEGs of ImageNet a second. A planning figure."""

NoteKind: TypeAlias = Literal[
    "guess", "correction", "porting", "spot", "faster_plan", "loader_rate", "unused_devices", "fp8", "emulated",
    "quota", "nodes", "price_range", "price_date", "caveat", "currency", "max_time", "rests_on", "unmeasured_software",
    "same_machine", "same_price", "other",
]  # fmt: skip

_WORDS: Final[Mapping[str, str]] = {
    "guess": "a guess: {0.because}",
    "porting": "needs porting: {0.because}",
    "faster_plan": "{0.name} would take {0.because} less time a step and fit: --allow plan",
    "loader_rate": "each vCPU must load {0.samples_per_s:,.0f} samples a second; the input pipeline was not measured, "
    f"and about {NOTED_LOADER_RATE:g} decoded JPEGs are usual",
    "quota": 'new account: its quota "{0.name}" is 0, so ask for an increase first. Source: {0.source}',
    "caveat": "price: {0.because}",
    "currency": "price converted from {0.name}",
    "unmeasured_software": "unknown: {0.because}",
}
"""Of the kinds that have more to fill in than a sentence."""


class Note(Record):
    """What there is to say of an option beside its figures."""

    kind: NoteKind = Field(description="what it is about; 'other' in documents of older versions")
    name: str = Field(default="", description="of what it is about: a quota, a plan, a currency")
    because: str = Field(default="", description="the reason or figures, in words")
    source: str = Field(default="", description="of a quota, with what makes it doubtful")
    samples_per_s: Finite | None = Field(default=None, description="that each vCPU must load")
    caveats: tuple[CaveatKind, ...] = Field(
        default=(), description="what the caveat of a price means, where that is known"
    )

    _leave_out = leave_out_empty("name", "because", "source", "samples_per_s", "caveats")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        """Take the sentence of an older document, and leave out the words, which follow from the rest."""
        if isinstance(value, str):
            return {"kind": "other", "because": value}
        if not isinstance(value, dict):
            return value
        return {name: entry for name, entry in cast("dict[str, Any]", value).items() if name != "text"}

    @computed_field(description="for a reader, without a capital and a full stop")  # type: ignore[prop-decorator]
    @property
    def text(self) -> str:
        """The note in words."""
        return _WORDS.get(self.kind, "{0.because}").format(self)
