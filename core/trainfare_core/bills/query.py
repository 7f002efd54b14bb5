"""
One query for the engine that holds a bill, which returns the table of `trainfare_core.bills.sums`.

Of AWS: the tables of Data Exports in Athena, partitioned by `billing_period`. Of Google: its FOCUS view in BigQuery.
The rules are those of `trainfare_core.bills.formats`.
"""

# ruff: noqa: S608 - it writes SQL, of which a name and a month alone are not constant, and both are checked
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from trainfare_core.bills.columns import HOURS_BY_UNIT
from trainfare_core.bills.formats import (
    COMMITMENTS,
    COVERED,
    FEES,
    OWN_DISCOUNTS,
    UNNAMED,
    UNSTATED,
    USAGE,
)
from trainfare_core.bills.sums import KEYS, MEASURES
from trainfare_core.errors import InputError
from trainfare_core.recommendation import PREDICTION_TAG

Engine: TypeAlias = Literal["athena", "athena-focus", "bigquery"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,2}")
_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_LIMIT_BYTES: Final = 10**11
"""In the printed commands; chosen: some $0.50 or $0.60, far more than these columns of a year take."""


def _list_words(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _of_map(column: str, prefixes: Iterable[str], tags: Iterable[str]) -> str:
    keys = [f"{prefix}{tag}" for tag in tags for prefix in prefixes]
    return f"COALESCE({', '.join(f'element_at({column}, {key!r})' for key in keys)})"


_HOURS: Final = " ".join(f"WHEN '{unit}' THEN {hours!r}" for unit, hours in HOURS_BY_UNIT.items())
_CUR: Final = f"""\
  SELECT
    {_of_map("resource_tags", ("user_", ""), (PREDICTION_TAG.replace("-", "_"), PREDICTION_TAG))} AS run,
    SUBSTR(CAST(bill_billing_period_start_date AS VARCHAR), 1, 7) AS period,
    bill_payer_account_id AS account,
    line_item_currency_code AS currency,
    line_item_product_code AS service,
    line_item_resource_id AS resource,
    COALESCE(line_item_line_item_type IN ('Credit', 'Refund'), FALSE) AS adjusted,
    CAST(NULL AS VARCHAR) AS doubt,
    CASE WHEN line_item_line_item_type IN ({_list_words(USAGE)}) THEN CAST(pricing_public_on_demand_cost AS DOUBLE)
      ELSE 0.0 END AS list,
    CASE line_item_line_item_type WHEN 'SavingsPlanNegation' THEN 0.0 WHEN 'DiscountedUsage' THEN NULL
      {" ".join(f"WHEN '{fee}' THEN 0.0" for fee in FEES)}
      ELSE CAST(COALESCE(line_item_net_unblended_cost, line_item_unblended_cost) AS DOUBLE) END AS contracted,
    CASE line_item_line_item_type WHEN 'SavingsPlanNegation' THEN 0.0
      WHEN 'SavingsPlanCoveredUsage' THEN CAST(COALESCE(
        savings_plan_net_savings_plan_effective_cost, savings_plan_savings_plan_effective_cost) AS DOUBLE)
      WHEN 'DiscountedUsage' THEN CAST(COALESCE(reservation_net_effective_cost, reservation_effective_cost) AS DOUBLE)
      {" ".join(f"WHEN '{fee}' THEN NULL" for fee in FEES)}
      ELSE CAST(COALESCE(line_item_net_unblended_cost, line_item_unblended_cost) AS DOUBLE) END AS effective,
    CAST(COALESCE(line_item_net_unblended_cost, line_item_unblended_cost) AS DOUBLE) AS billed,
    CAST(0 AS DOUBLE) AS credit,
    CASE WHEN line_item_line_item_type IN ({_list_words(USAGE)}) AND LENGTH(product_instance_type) > 0
      THEN CAST(line_item_usage_amount AS DOUBLE) * CASE LOWER(pricing_unit) {_HOURS} END END AS hours
  FROM {{table}}
  WHERE {{month}}"""
_FOCUS: Final = f"""\
  SELECT run, period, account, currency, service, resource, adjusted,
    CASE WHEN COALESCE(category, '') NOT IN ('usage', 'purchase', 'tax', 'credit', 'adjustment') THEN '{UNNAMED}'
      WHEN category = 'usage' AND NOT adjusted AND (list = 0 OR contracted = 0) AND effective + change <> 0
        AND covered = 0 THEN '{UNSTATED}'
      WHEN covered <> 0 THEN '{COVERED}' END AS doubt,
    CASE WHEN category = 'purchase' THEN 0.0 WHEN category = 'usage' AND NOT adjusted AND list = 0
      AND effective + change <> 0 AND covered = 0 THEN NULL ELSE list END AS list,
    CASE WHEN category = 'purchase' THEN 0.0 WHEN category = 'usage' AND NOT adjusted AND contracted = 0
      AND effective + change <> 0 AND covered = 0 THEN NULL ELSE contracted END AS contracted,
    CASE WHEN covered = 0 THEN effective + change END AS effective,
    billed + change AS billed,
    promotion AS credit,
    CASE WHEN category = 'usage' AND machine IS NOT NULL THEN hours END AS hours
  FROM (
    SELECT *, CASE WHEN ABS(billed - contracted) <= ABS(billed - contracted - own - covered - promotion)
      THEN own + covered ELSE -promotion END AS change
    FROM (
      SELECT
        {{tag}} AS run,
        SUBSTR(CAST(BillingPeriodStart AS {{text}}), 1, 7) AS period,
        BillingAccountId AS account,
        BillingCurrency AS currency,
        ServiceName AS service,
        ResourceId AS resource,
        LOWER(ChargeCategory) AS category,
        COALESCE(LOWER(ChargeCategory) IN ('credit', 'adjustment'), FALSE)
          OR COALESCE(LOWER(ChargeClass) = 'correction', FALSE) AS adjusted,
        CAST(ListCost AS {{number}}) AS list,
        CAST(ContractedCost AS {{number}}) AS contracted,
        CAST(EffectiveCost AS {{number}}) AS effective,
        CAST(BilledCost AS {{number}}) AS billed,
        {{machine}} AS machine,
        CAST(ConsumedQuantity AS {{number}}) * CASE LOWER(ConsumedUnit) {_HOURS} END AS hours,
        {{credits}}
      FROM {{table}}
      WHERE {{month}}
    ) AS named
  ) AS credited"""
_SUMS: Final = f"""\
SELECT '{{bill_format}}' AS bill_format, {", ".join(KEYS)},
  {", ".join(f"COALESCE(SUM({name}), 0) AS {name}" for name in MEASURES)},
  {", ".join(f"SUM(CASE WHEN {name} IS NULL THEN 1 ELSE 0 END) AS {name}_unknown" for name in MEASURES)},
  COUNT(*) AS lines
FROM (
  SELECT NULLIF(run, '') AS run, period, account, currency, service,
    CASE WHEN NULLIF(run, '') IS NOT NULL OR adjusted THEN resource END AS resource, adjusted, doubt,
    {", ".join(MEASURES)}
  FROM bill_lines
) AS named_lines
GROUP BY {", ".join(KEYS)}
"""


def _add_credits(where: str) -> str:
    return f"COALESCE((SELECT SUM(CAST(given.Amount AS FLOAT64)) FROM UNNEST(x_Credits) AS given WHERE {where}), 0)"


_ATHENA_BOUND: Final = f"""\
-- Athena reads the named columns of the months from {{since}} on. A work group bounds the bytes of a query:
-- aws athena update-work-group --work-group NAME --configuration-updates BytesScannedCutoffPerQuery={_LIMIT_BYTES}
"""
_BIGQUERY_BOUND: Final = f"""\
-- The view has no partitions of its own. Bound the bytes of the query, and see them first with --dry_run:
-- bq query --nouse_legacy_sql --format=csv --max_rows=1000000 --maximum_bytes_billed={_LIMIT_BYTES} < THIS > RESULT.csv
"""


@dataclass(frozen=True, slots=True)
class _Source:
    bill_format: str
    lines: str
    bound: str
    words: Mapping[str, str]
    quote: str = '"'


_SOURCES: Final[Mapping[Engine, _Source]] = {
    "athena": _Source("CUR 2.0", _CUR, _ATHENA_BOUND, {"month": "billing_period >= '{since}'"}),
    "athena-focus": _Source(
        "FOCUS 1.2",
        _FOCUS,
        _ATHENA_BOUND,
        {
            "month": "billing_period >= '{since}'",
            "text": "VARCHAR",
            "number": "DOUBLE",
            "tag": _of_map("Tags", ("", "user:", "resourceTags/", "user_"), (PREDICTION_TAG,)),
            "machine": _of_map("SkuPriceDetails", ("", "F_"), ("InstanceType",)),
            "credits": "CAST(0 AS DOUBLE) AS own, CAST(0 AS DOUBLE) AS covered, CAST(0 AS DOUBLE) AS promotion",
        },
    ),
    "bigquery": _Source(
        "FOCUS 1.2",
        _FOCUS,
        _BIGQUERY_BOUND,
        {
            "month": "BillingPeriodStart >= TIMESTAMP('{since}-01')",
            "text": "STRING",
            "number": "FLOAT64",
            "tag": f"(SELECT MIN(tag.value) FROM UNNEST(Tags) AS tag WHERE tag.key = '{PREDICTION_TAG}')",
            "machine": "CAST(NULL AS STRING)",
            "credits": ",\n        ".join(
                f"{_add_credits(where)} AS {name}"
                for name, where in (
                    ("own", f"given.Type IN ({_list_words(OWN_DISCOUNTS)})"),
                    ("covered", f"given.Type IN ({_list_words(COMMITMENTS)})"),
                    (
                        "promotion",
                        f"COALESCE(given.Type, '') NOT IN ({_list_words((*OWN_DISCOUNTS, *COMMITMENTS))})",
                    ),
                )
            ),
        },
        quote="`",
    ),
}


def write_query(engine: Engine, table: str, since: str) -> str:
    """
    Return the query of an engine; its result, as CSV, is a bill for `reconcile_bill`.

    Args:
        engine: `athena` for CUR 2.0, `athena-focus` for AWS's FOCUS 1.2, `bigquery` for Google's FOCUS view.
        table: its table or view, with the database, or project and dataset, before it.
        since: first month of the bill, as `2026-09`.

    Raises:
        InputError: no such name or month can be.
    """
    if not _NAME.fullmatch(table):
        raise InputError(f"table {table}: name it as DATABASE.TABLE or PROJECT.DATASET.VIEW")
    if not _MONTH.fullmatch(since):
        raise InputError(f"month {since}: name the first one as 2026-09")
    source = _SOURCES[engine]
    name = f"{source.quote}.{source.quote}".join(table.split("."))
    words = {key: word.replace("{since}", since) for key, word in source.words.items()}
    lines = source.lines.format(**words, table=f"{source.quote}{name}{source.quote}")
    sums = _SUMS.format(bill_format=source.bill_format)
    return f"{source.bound.format(since=since)}WITH bill_lines AS (\n{lines}\n)\n{sums}"
