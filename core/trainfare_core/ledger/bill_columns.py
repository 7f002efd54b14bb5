"""
The lines of a bill in one shape, whether its columns are those of FOCUS 1.2 or of AWS's CUR 2.0.

Names and values: the FinOps Open Cost and Usage Specification 1.2, and the table dictionary of AWS Data Exports. The
effective cost of CUR by kind of line is the amortized cost of the queries of AWS's Cloud Intelligence Dashboards; its
contracted cost is the billed one, which no reservation's line says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import polars as pl

from trainfare_core.recommendation import PREDICTION_TAG

Schema: TypeAlias = Mapping[str, pl.DataType]
COSTS: Final = ("list", "contracted", "effective", "billed")

_TAG: Final = PREDICTION_TAG.replace("-", "[-_]")
_TAG_KEY: Final = rf"(?:[^\"]*[/:]|user_)?{_TAG}"
"""A cloud may put a prefix before a key, such as `resourceTags/`; CUR has `user_` and underscores for other signs."""
_MACHINE_KEY: Final = "(?:F_)?InstanceType"
_NUMBER: Final = re.compile(
    r"(List|Contracted|Effective|Billed)Cost|ConsumedQuantity|(line_item|pricing|savings_plan|reservation)_\w*cost"
    r"|line_item_usage_amount"
)
_PAIRS: Final = pl.List(pl.Struct({"key": pl.String(), "value": pl.String()}))
_HOURS: Final = {"hours": 1.0, "hour": 1.0, "hrs": 1.0, "minutes": 1 / 60, "seconds": 1 / 3600}
"""Units of a machine's time, in lower case."""


@dataclass(frozen=True, slots=True)
class BillFormat:
    """How one format names its columns; `shape` returns the common columns but `run`."""

    name: str
    mandatory: tuple[str, ...]
    tags: tuple[str, ...]
    shape: Callable[[Schema], dict[str, pl.Expr]]

    def select_lines(self, schema: Schema) -> list[pl.Expr]:
        """Return the common columns."""
        named = (pl.col(name).cast(pl.String) for name in schema if is_tag_column(name))
        run = pl.coalesce(
            pl.lit(None, pl.String), *(_value_of(schema, name, _TAG_KEY) for name in self.tags), *named
        )
        columns = {"run": pl.when(run != "").then(run)} | self.shape(schema)
        return [expression.alias(name) for name, expression in columns.items()]


def is_tag_column(name: str) -> bool:
    """Whether a column holds nothing but the tag, as where CUR's map was queried by its keys."""
    return re.search(rf"{_TAG}$", name) is not None


def find_bad_numbers(schema: Schema) -> list[pl.Expr]:
    """Return an expression for each column of numbers: whether any of its values is something else."""
    names = [name for name in schema if _NUMBER.fullmatch(name)]
    numbers = {name: _number(schema, name).is_finite().fill_null(value=False) for name in names}
    return [(pl.col(name).is_not_null() & ~number).any().alias(name) for name, number in numbers.items()]


def _shape_focus(schema: Schema) -> dict[str, pl.Expr]:
    category = _text(schema, "ChargeCategory")
    adjusted = category.is_in(["Credit", "Adjustment"]) | (_text(schema, "ChargeClass") == "Correction")
    machine = _value_of(schema, "SkuPriceDetails", _MACHINE_KEY).is_not_null() & (category == "Usage")
    return {
        "resource": _text(schema, "ResourceId"),
        "service": _text(schema, "ServiceName"),
        "currency": _text(schema, "BillingCurrency"),
        "adjusted": adjusted.fill_null(value=False),
        **{name: _number(schema, f"{name.capitalize()}Cost") for name in COSTS},
        "hours": _hours(machine, _text(schema, "ConsumedUnit"), _number(schema, "ConsumedQuantity")),
    }


def _shape_cur(schema: Schema) -> dict[str, pl.Expr]:
    kind = _text(schema, "line_item_line_item_type")
    plan, reserved = kind == "SavingsPlanCoveredUsage", kind == "DiscountedUsage"
    usage = (kind == "Usage") | plan | reserved
    # Only accounts with discounts have the net columns.
    billed = _number(schema, "line_item_net_unblended_cost", "line_item_unblended_cost")
    plan_cost = _number(
        schema, "savings_plan_net_savings_plan_effective_cost", "savings_plan_savings_plan_effective_cost"
    )
    reserved_cost = _number(schema, "reservation_net_effective_cost", "reservation_effective_cost")
    # The negation takes the billed cost of a covered hour back, and is no cost of its own.
    own = pl.when(kind == "SavingsPlanNegation").then(0.0)
    machine = usage & (_text(schema, "product_instance_type").str.len_chars() > 0)
    return {
        "resource": _text(schema, "line_item_resource_id"),
        "service": _text(schema, "line_item_product_code"),
        "currency": _text(schema, "line_item_currency_code"),
        "adjusted": kind.is_in(["Credit", "Refund"]).fill_null(value=False),
        "list": own.when(usage).then(_number(schema, "pricing_public_on_demand_cost")).otherwise(billed),
        "contracted": own.when(~reserved).then(billed),
        "effective": own.when(plan).then(plan_cost).when(reserved).then(reserved_cost).otherwise(billed),
        "billed": billed,
        "hours": _hours(machine, _text(schema, "pricing_unit"), _number(schema, "line_item_usage_amount")),
    }


_FOCUS: Final = (
    "ListCost",
    "ContractedCost",
    "EffectiveCost",
    "BilledCost",
    "BillingCurrency",
    "ChargeCategory",
)
_CUR: Final = ("unblended_cost", "line_item_type", "currency_code", "product_code")
FORMATS: Final = (
    BillFormat("FOCUS 1.2", (*_FOCUS, "ChargeClass", "ServiceName"), ("Tags",), _shape_focus),
    BillFormat("CUR 2.0", tuple(f"line_item_{name}" for name in _CUR), ("resource_tags", "tags"), _shape_cur),
)


def _text(schema: Schema, name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String) if name in schema else pl.lit(None, pl.String)


def _number(schema: Schema, *names: str) -> pl.Expr:
    """Return the first number that is there; null where none is."""
    columns = (pl.col(name).cast(pl.Float64, strict=False) for name in names if name in schema)
    return pl.coalesce(*columns, pl.lit(None, pl.Float64))


def _hours(machine: pl.Expr, unit: pl.Expr, quantity: pl.Expr) -> pl.Expr:
    """Return the hours of a line for a machine's time; null for other lines, as for a disk or an address."""
    factor = unit.str.to_lowercase().replace_strict(_HOURS, default=None, return_dtype=pl.Float64)
    return pl.when(machine).then(quantity * factor)


def _value_of(schema: Schema, name: str, key: str) -> pl.Expr:
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
