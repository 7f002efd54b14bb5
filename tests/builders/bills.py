"""
Bills with the column names of FOCUS 1.2 and AWS CUR 2.0, written line by line.

Names, allowed values and which columns are mandatory: the specification of FOCUS 1.2, and the table dictionary of AWS
Data Exports.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from trainfare_core.bills.files import BillFile

RUN = "0123456789ab"
"""Tag of a run."""


def focus_line(cost: str, *, run: str | None = None, **other: Any) -> dict[str, Any]:
    """Return an hour of a machine whose costs are all the same; amounts are text, as in CSV."""
    tags = {"team": "vision"} | ({} if run is None else {"trainfare-prediction": run})
    return {
        "BilledCost": cost,
        "EffectiveCost": cost,
        "ListCost": cost,
        "ContractedCost": cost,
        "BillingCurrency": "USD",
        "ChargeCategory": "Usage",
        "ChargeClass": None,
        "ServiceName": "Amazon Elastic Compute Cloud",
        "ResourceId": None,
        "SkuPriceDetails": json.dumps({"InstanceType": "p4de.24xlarge"}),
        "ConsumedQuantity": "1",
        "ConsumedUnit": "Hours",
        "Tags": json.dumps(tags),
    } | other


def cur_line(cost: str, *, run: str | None = None, **other: Any) -> dict[str, Any]:
    """Return an hour of a machine at its public price."""
    return {
        "line_item_unblended_cost": cost,
        "pricing_public_on_demand_cost": cost,
        "line_item_line_item_type": "Usage",
        "line_item_currency_code": "USD",
        "line_item_product_code": "AmazonEC2",
        "line_item_resource_id": None,
        "line_item_usage_amount": "1",
        "pricing_unit": "Hrs",
        "product_instance_type": "p4de.24xlarge",
        "savings_plan_savings_plan_effective_cost": "0",
        "reservation_effective_cost": "0",
        "resource_tags": {} if run is None else {"user_trainfare_prediction": run, "user_team": "vision"},
    } | other


def write_csv(file: Path, lines: Sequence[dict[str, Any]]) -> Path:
    """Write a bill as CSV, where a map is JSON."""
    flat = [
        {name: json.dumps(value) if isinstance(value, dict) else value for name, value in line.items()}
        for line in lines
    ]
    pl.DataFrame(flat, infer_schema_length=None).write_csv(file)
    return file


def write_parquet(file: Path, lines: Sequence[dict[str, Any]]) -> Path:
    """Write a bill as Parquet with numbers as floats, where a map is a list of pairs."""
    pairs = pl.List(pl.Struct({"key": pl.String(), "value": pl.String()}))
    columns: dict[str, pl.Series] = {}
    for name in lines[0]:
        values = [line[name] for line in lines]
        if any(isinstance(value, dict) for value in values):
            rows = [[{"key": key, "value": word} for key, word in value.items()] for value in values]
            columns[name] = pl.Series(rows, dtype=pairs)
        elif name.lower().endswith(("cost", "quantity", "amount")):
            columns[name] = pl.Series(values, dtype=pl.String).cast(pl.Float64)
        else:
            columns[name] = pl.Series(values, dtype=pl.String)
    pl.DataFrame(columns).write_parquet(file)
    return file


def bill_files(*files: Path) -> list[BillFile]:
    """Return files of a bill, each named by itself."""
    return [BillFile(str(file), str(file), {}) for file in files]
