"""Base classes of the pydantic models that are read from files or written as JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Document", "Record"]


class Record(BaseModel):
    """Immutable record: its fields cannot be set, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(Record):
    """A whole document, with its JSON text."""

    def to_json(self) -> str:
        """Return JSON text, indented by one space; equal documents give equal bytes."""
        return self.model_dump_json(indent=1) + "\n"
