"""Base classes of the pydantic models that are read from files or written as JSON, and the interval they share."""

from __future__ import annotations

from importlib import resources
from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Document", "Finite", "Interval", "Record", "data_text"]

Finite: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A quantity that is finite and not negative."""


class Record(BaseModel):
    """Immutable record: its fields cannot be set, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Document(Record):
    """A whole document, with its JSON text."""

    def to_json(self) -> str:
        """Return JSON text, indented by one space; equal documents give equal bytes."""
        return self.model_dump_json(indent=1) + "\n"


class Interval(Record):
    """Median and central 80 % of a quantity: 10 % below `low_80`, 10 % above `high_80`."""

    mid: Finite
    low_80: Finite
    high_80: Finite


def data_text(name: str) -> str:
    """Return the text of a file that ships in `trainfare_core/data`."""
    return resources.files("trainfare_core").joinpath("data", name).read_text(encoding="utf-8")
