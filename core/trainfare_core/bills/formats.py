"""
The lines of a bill in one shape, whether its columns are those of FOCUS 1.2 or of AWS's CUR 2.0.

Names and values: the FinOps Open Cost and Usage Specification 1.2, Google's template of its view of 2024-03-19,
Microsoft's conformance summary, and the table dictionary of AWS Data Exports. The effective cost of CUR by kind of
line is the amortized cost of the queries of AWS's Cloud Intelligence Dashboards; its contracted cost is the billed
one, which no reservation's line says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import polars as pl

from trainfare_core.bills.columns import TAG, TAG_KEY, Schema, hours, number, text, value_of

COSTS: Final = ("list", "contracted", "effective", "billed")
LARGEST: Final = 1e15
"""Amounts and hours from here on are refused: a chosen limit, from which a float has no cents."""

OWN_DISCOUNTS: Final = ("SUSTAINED_USAGE_DISCOUNT", "DISCOUNT", "RESELLER_MARGIN", "FEE_UTILIZATION_OFFSET")
"""Types of Google's credits that lower the price of the line itself."""
COMMITMENTS: Final = (
    "COMMITTED_USAGE_DISCOUNT",
    "COMMITTED_USAGE_DISCOUNT_DOLLAR_BASE",
    "SUBSCRIPTION_BENEFIT",
)
"""Types of Google's credits for usage that a commitment covers, whose fee stands on lines of its own."""
FEES: Final = ("RIFee", "SavingsPlanRecurringFee", "SavingsPlanUpfrontFee")
DISCOUNTS: Final = ("EdpDiscount", "PrivateRateDiscount", "BundledDiscount")
USAGE: Final = ("Usage", "SavingsPlanCoveredUsage", "DiscountedUsage")
"""Kinds of CUR's lines: fees of commitments, discounts of the account, and usage."""

COVERED: Final = (
    "paid by a commitment whose fee is on other lines: effective is not known, billed is without the fee"
)
UNNAMED: Final = "a ChargeCategory that FOCUS does not name: counted as charges"
UNSTATED: Final = "0 as list or contracted cost of usage that cost something: not known"
"""What is doubtful of a line; notes say how many are so."""
_MACHINE_KEY: Final = "(?:F_)?InstanceType|(?:x_)?ServiceType"
_NUMBER: Final = re.compile(
    r"(List|Contracted|Effective|Billed)Cost|ConsumedQuantity|(line_item|pricing|savings_plan|reservation)_\w*cost"
    r"|line_item_usage_amount"
)


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
            pl.lit(None, pl.String), *(value_of(schema, name, TAG_KEY) for name in self.tags), *named
        )
        columns = {"run": pl.when(run != "").then(run)} | self.shape(schema)
        return [expression.alias(name) for name, expression in columns.items()]


def is_tag_column(name: str) -> bool:
    """Whether a column holds nothing but the tag, as where CUR's map was queried by its keys."""
    return re.search(rf"{TAG}$", name) is not None


def find_bad_numbers(schema: Schema) -> dict[str, pl.Expr]:
    """Return an expression for each column of numbers: whether a line has something else, or too large an amount."""
    bad: dict[str, pl.Expr] = {}
    for name in filter(_NUMBER.fullmatch, schema):
        value = number(schema, name)
        is_cost = name.lower().endswith("cost")
        good = value.abs() < LARGEST if is_cost else value.is_finite()
        bad[name] = pl.col(name).is_not_null() & ~good.fill_null(value=False)
    if (credits_of := _read_credits(schema)) is not None:
        good = _AMOUNT.abs() < LARGEST
        bad["x_Credits"] = (
            credits_of.list.eval(~good.fill_null(value=False)).list.any().fill_null(value=False)
        )
    return bad


def _shape_focus(schema: Schema) -> dict[str, pl.Expr]:
    # Google's view writes these words in lower case.
    category = text(schema, "ChargeCategory").str.to_lowercase()
    correction = text(schema, "ChargeClass").str.to_lowercase() == "correction"
    adjusted = (category.is_in(["credit", "adjustment"]) | correction).fill_null(value=False)
    usage, purchase = category == "usage", category == "purchase"
    costs = {name: number(schema, f"{name.capitalize()}Cost") for name in COSTS}
    credit, doubt = pl.lit(0.0), pl.lit(None, pl.String)
    if (credits_of := _read_credits(schema)) is not None:
        own, covered, credit = _add_credits(credits_of)
        paid = own + covered
        # One publication of Google's view has costs before its credits, another one billed and effective after them.
        after = costs["billed"] - costs["contracted"]
        is_before = after.abs() <= (after - paid - credit).abs()
        for name in ("billed", "effective"):
            costs[name] += pl.when(is_before).then(paid).otherwise(-credit)
        costs["effective"] = pl.when(covered == 0).then(costs["effective"])
        doubt = pl.when(covered != 0).then(pl.lit(COVERED))
    # Azure writes 0 where it does not say a price: Microsoft's conformance summary of ListCost and ContractedCost.
    for name in ("contracted", "list"):
        unstated = usage & ~adjusted & (costs[name] == 0) & (costs["effective"] != 0)
        # A purchase for later charges has its cost there.
        costs[name] = pl.when(purchase).then(0.0).when(~unstated.fill_null(value=False)).then(costs[name])
        doubt = pl.when(unstated).then(pl.lit(UNSTATED)).otherwise(doubt)
    known = category.is_in(["usage", "purchase", "tax", "credit", "adjustment"])
    details = ("SkuPriceDetails", "x_SkuDetails")
    machine = pl.coalesce(value_of(schema, name, _MACHINE_KEY) for name in details)
    # Azure's premium software of a machine names the machine, too.
    software = pl.coalesce(value_of(schema, name, "(?:x_)?UsageType") for name in details).str.ends_with(
        "_SW"
    )
    is_machine = usage & machine.is_not_null() & ~software.fill_null(value=False)
    return {
        "resource": text(schema, "ResourceId"),
        "service": text(schema, "ServiceName"),
        "currency": text(schema, "BillingCurrency"),
        "period": text(schema, "BillingPeriodStart").str.slice(0, 7),
        "account": text(schema, "BillingAccountId"),
        "adjusted": adjusted,
        **costs,
        "credit": credit,
        "hours": hours(is_machine, text(schema, "ConsumedUnit"), number(schema, "ConsumedQuantity")),
        "doubt": pl.when(~known.fill_null(value=False)).then(pl.lit(UNNAMED)).otherwise(doubt),
    }


def _read_credits(schema: Schema) -> pl.Expr | None:
    """Return the credits of Google's lines as structs; None where the file has none."""
    kind = schema.get("x_Credits")
    if isinstance(kind, pl.String):
        # Amounts as text: BigQuery writes exact decimals so.
        fields = pl.Struct({"Amount": pl.String(), "Type": pl.String()})
        return pl.col("x_Credits").str.json_decode(pl.List(fields))
    return pl.col("x_Credits") if isinstance(kind, pl.List) else None


_AMOUNT: Final = pl.element().struct.field("Amount").cast(pl.Float64, strict=False)


def _add_credits(credits_of: pl.Expr) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Return a line's sums of Google's own discounts, of credits of commitments, and of all others, as promotions."""
    kind = pl.element().struct.field("Type").cast(pl.String).fill_null("")
    groups = kind.is_in(OWN_DISCOUNTS), kind.is_in(COMMITMENTS), ~kind.is_in(OWN_DISCOUNTS + COMMITMENTS)
    own, covered, rest = (
        credits_of.list.eval(_AMOUNT.filter(group)).list.sum().fill_null(0.0) for group in groups
    )
    return own, covered, rest


def _shape_cur(schema: Schema) -> dict[str, pl.Expr]:
    kind = text(schema, "line_item_line_item_type").fill_null("")
    plan, reserved = kind == "SavingsPlanCoveredUsage", kind == "DiscountedUsage"
    usage = kind.is_in(USAGE)
    # Only accounts with discounts have the net columns.
    billed = number(schema, "line_item_net_unblended_cost", "line_item_unblended_cost")
    plan_cost = number(
        schema, "savings_plan_net_savings_plan_effective_cost", "savings_plan_savings_plan_effective_cost"
    )
    reserved_cost = number(schema, "reservation_net_effective_cost", "reservation_effective_cost")
    # The negation takes the billed cost of a covered hour back, and is no cost of its own.
    own = pl.when(kind == "SavingsPlanNegation").then(0.0)
    machine = usage & (text(schema, "product_instance_type").str.len_chars() > 0)
    return {
        "resource": text(schema, "line_item_resource_id"),
        "service": text(schema, "line_item_product_code"),
        "currency": text(schema, "line_item_currency_code"),
        "period": text(schema, "bill_billing_period_start_date").str.slice(0, 7),
        "account": text(schema, "bill_payer_account_id"),
        "adjusted": kind.is_in(["Credit", "Refund"]),
        # Taxes, fees and discounts have no public price.
        "list": pl.when(usage).then(number(schema, "pricing_public_on_demand_cost")).otherwise(0.0),
        "contracted": own.when(kind.is_in(FEES)).then(0.0).when(~reserved).then(billed),
        # What of a fee was used is in the usage that it covers.
        "effective": own.when(plan).then(plan_cost).when(reserved).then(reserved_cost)
        .when(~kind.is_in(FEES)).then(billed),
        "billed": billed,
        "credit": pl.lit(0.0),
        "hours": hours(machine, text(schema, "pricing_unit"), number(schema, "line_item_usage_amount")),
        "doubt": pl.lit(None, pl.String),
    }  # fmt: skip


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
