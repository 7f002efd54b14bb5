"""Types of the fields that several records of a profile have."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from pydantic import Field

Bytes: TypeAlias = Annotated[int, Field(ge=0, le=10**18)]
Axis: TypeAlias = Annotated[int, Field(ge=0, le=10**18)]
Seconds: TypeAlias = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]

MAX_TEXT_CHARACTERS: Final = 500
"""The longest note or name that a profile holds: chosen, a paragraph of a report."""

Text: TypeAlias = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)]
