"""Columns of a bill's table, whatever types its file gives them: text, numbers, and values by their key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

import polars as pl

from trainfare_core.recommendation import PREDICTION_TAG

Schema: TypeAlias = Mapping[str, pl.DataType]

TAG: Final = PREDICTION_TAG.replace("-", "[-_]")
TAG_KEY: Final = rf"(?:[^\"]*[/:]|user_)?{TAG}"
"""A cloud may put a prefix before a key, such as `resourceTags/`; CUR has `user_` and underscores for other signs."""
HOURS_BY_UNIT: Final = {"hours": 1.0, "hour": 1.0, "hrs": 1.0, "minutes": 1 / 60, "seconds": 1 / 3600}
"""Units of a machine's time, in lower case."""
_PAIRS: Final = pl.List(pl.Struct({"key": pl.String(), "value": pl.String()}))


def text(schema: Schema, *names: str) -> pl.Expr:
    """Return the first of some columns that is there, as text."""
    columns = (pl.col(name).cast(pl.String) for name in names if name in schema)
    return next(columns, pl.lit(None, pl.String))


def number(schema: Schema, *names: str) -> pl.Expr:
    """Return the first number that is there; null where none is."""
    columns = (pl.col(name).cast(pl.Float64, strict=False) for name in names if name in schema)
    return pl.coalesce(*columns, pl.lit(None, pl.Float64))


def hours(machine: pl.Expr, unit: pl.Expr, quantity: pl.Expr) -> pl.Expr:
    """Return the hours of a line for a machine's time; null for other lines, as for a disk or an address."""
    unit = unit.str.to_lowercase()
    # A chain: polars' `replace_strict` would hold the whole column.
    factors = (pl.when(unit == name).then(pl.lit(factor)) for name, factor in HOURS_BY_UNIT.items())
    return pl.when(machine).then(quantity * pl.coalesce(*factors))


def value_of(schema: Schema, name: str, key: str) -> pl.Expr:
    """Return the value of a key, by a pattern, in a column of JSON, maps, pairs or structs; null where it has none."""
    kind, column, none = schema.get(name), pl.col(name), pl.lit(None, pl.String)
    if kind is None:
        return none
    if isinstance(kind, pl.Struct):
        fields = (field.name for field in kind.fields if re.fullmatch(key, field.name))
        return pl.coalesce(none, *(column.struct.field(field).cast(pl.String) for field in fields))
    if isinstance(kind, pl.String):
        # {"KEY": "value"}, or [{"key": "KEY", "value": "value"}].
        places = rf'"{key}"\s*:|"key"\s*:\s*"{key}"\s*,\s*"value"\s*:'
        return column.str.extract(rf'(?:{places})\s*"([^"\\]*)"')
    pair = pl.element().struct
    values = pair.field("value").filter(pair.field("key").str.contains(f"^{key}$"))
    return column.cast(_PAIRS).list.eval(values).list.first()
