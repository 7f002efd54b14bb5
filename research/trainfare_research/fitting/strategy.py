"""
Write the shipped table of published comparisons, and fit the two constants that depend on it.

    python -m trainfare_research.fitting.strategy transfer_results.csv [--check]

Writes `core/trainfare_core/data/strategy_evidence.csv` (`--check` compares instead), then prints `WIDENING` of
`strategy/choice.py` as leave-one-source-out residuals give it, and the P(best) from which a comparison counts as
answered. Scoring is `research/trainfare_research/runners/strategy.py`, which leaves the source of each scored
row out of the table and of both.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from pathlib import Path

import numpy as np

from trainfare_core.methods.choice import COLUMNS, Advantage, Comparison, Evidence, advantage, comparisons
from trainfare_core.methods.methods import METHOD_NAMES, Method
from trainfare_core.methods.prior import CONSTANTS, ChoiceConstants
from trainfare_research.fitting.strategy_choice import choose
from trainfare_research.fitting.strategy_nested import fit_constants
from trainfare_research.fitting.strategy_rows import read_cases, reference_of

TABLE = Path(__file__).parents[3] / "core/trainfare_core/data/strategy_evidence.csv"
INSIDE = 0.80
"""Share of left-out outcomes inside the 80 % intervals: nominal."""
ANSWERED = 0.82
"""Share of the comparisons that get an answer. Chosen: at 80 % answered, nine in ten picks should be right."""


def table_text(rows: list[Comparison]) -> str:
    """Return the table as it is shipped, with a column for every strategy that was compared."""
    tried = [name for name in METHOD_NAMES if any(name in row.advantage_pct for row in rows)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, *(f"{name}_pct" for name in tried), "published_in"])
    for row in rows:
        numbers = (row.samples, row.scratch_epochs, row.scratch_step_ratio)
        advantages = (row.advantage_pct.get(name) for name in tried)
        cells = ["" if value is None else f"{value:g}" for value in (*numbers, *advantages)]
        writer.writerow(
            [row.source, row.domain, row.dataset, row.model, row.metric, *cells, row.published_in]
        )
    return out.getvalue()


def judge_comparison(
    row: Comparison, known: Evidence, weights: ChoiceConstants = CONSTANTS
) -> list[tuple[Method, Advantage, float]]:
    """Return each strategy but the reference, with its predicted advantage over that and the published one."""
    reference = reference_of(row.advantage_pct)
    return [
        (
            name,
            advantage(row.situation, name, reference, known, weights),
            actual - row.advantage_pct[reference],
        )
        for name, actual in row.advantage_pct.items()
        if name != reference
    ]


def compute_needed_widening(edge: Advantage, actual_pct: float) -> float:
    """Return the least factor that puts a published advantage inside the interval."""
    middle = edge.quantile_pct(0.5)
    bound = edge.quantile_pct(0.9 if actual_pct > middle else 0.1, widening=1.0)
    return abs(actual_pct - middle) / max(abs(bound - middle), 1e-9)


def constants(
    rows: list[Comparison], known: Evidence, weights: ChoiceConstants = CONSTANTS
) -> tuple[float, float]:
    """
    Return `WIDENING` and the P(best) to answer at, each comparison judged with its source left out.

    The first puts `INSIDE` of the comparisons inside their intervals; at most `ANSWERED` of them exceed the second,
    their P(best).
    """
    left = {source: known.without(source) for source in {row.source for row in rows}}
    factors = [
        compute_needed_widening(edge, actual)
        for row in rows
        for _, edge, actual in judge_comparison(row, left[row.source], weights)
    ]
    chances = sorted((choose(row.situation, left[row.source], weights).p_best for row in rows), reverse=True)
    answer_at = math.ceil(1000 * chances[int(ANSWERED * len(chances))]) / 1000
    return float(np.quantile(factors, INSIDE)), answer_at


def ship(table: Path, text: str, made_from: Path, *, check: bool) -> None:
    """Write a shipped table; with `check` write nothing, and exit where the table is another."""
    if not check:
        table.write_text(text, encoding="utf-8")
    elif text != table.read_text(encoding="utf-8"):
        sys.exit(f"{table.name} is not what {made_from.name} gives: run without --check")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path, help="published runs, schema of transfer_results.csv")
    parser.add_argument("--check", action="store_true", help="compare with the shipped table, write nothing")
    arguments = parser.parse_args()
    cases, skipped = read_cases(arguments.rows)
    ship(TABLE, table_text([case.comparison for case in cases]), arguments.rows, check=arguments.check)
    comparisons.cache_clear()
    shipped = list(comparisons())
    known = Evidence.of(shipped)
    print(f"{len(shipped)} comparisons, {len(set(known.source))} sources; left out: {dict(skipped)}")
    fitted = fit_constants(shipped)
    same = sum(
        choose(row.situation, known).strategy == choose(row.situation, known, fitted).strategy
        for row in shipped
    )
    print(f"constants fitted on all of them pick as the shipped ones in {same}")
    print("WIDENING {:.2f}, answered above a P(best) of {:.3f}".format(*constants(shipped, known)))


if __name__ == "__main__":
    main()
