"""Runs of a ledger as text, and the score of their predictions as blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trainfare.report.block_builders import build_answer
from trainfare.report.blocks import Block, Column, Heading, Table, Text, Where
from trainfare.report.tables import table_text
from trainfare_core.ledger.run_list import explain_unpredicted
from trainfare_core.number_format import cents, duration, hours_text, percent

if TYPE_CHECKING:
    import polars as pl

    from trainfare_core.ledger.run_record import RunMachine, RunRecord
    from trainfare_core.ledger.run_table import LedgerScore, ScoreRow

_HALF_PLOT = 24
"""Columns on each side of no error. Chosen: with the names within 80 columns."""
_WORDS = ("started", "run", "state", "project", "job", "machine")
_NUMBERS = ("steps", "step", "predicted", "hours", "USD")
_QUANTITIES = {"step_s": "step", "memory_bytes": "memory", "run_s": "hours", "usd": "dollars"}


def runs_text(table: pl.DataFrame, width: int) -> str:
    """Return a line a run of a table of runs."""
    rows = map(_write_cells, table.iter_rows(named=True))
    optional, wrapped = ("predicted", "job", "project", "steps", "USD"), ("started", *_WORDS[3:])
    text = table_text(
        (*_WORDS, *_NUMBERS), rows, right=_NUMBERS, width=width, optional=optional, wrapped=wrapped
    )
    return "".join(f"{line}\n" for line in (text, *_list_unpredicted(table)))


def _list_unpredicted(table: pl.DataFrame) -> list[str]:
    """Return why runs have no predicted step, a line a reason."""
    reasons = Counter(map(explain_unpredicted, table.iter_rows(named=True)))
    return [
        f"{count:,} run{'s' * (count > 1)} without a predicted step: {reason}"
        for reason, count in reasons.items()
        if reason
    ]


def build_runs(table: pl.DataFrame) -> list[Block]:
    """Return the runs of a table for a page; the last session of a run has the dollars of those before."""
    rows = [_write_cells(row) for row in table.iter_rows(named=True)]
    runs = [
        usd
        for usd, state in table.select("usd_measured", "state").iter_rows()
        if state not in ("continued", "planned")
    ]
    known = [usd for usd in runs if usd is not None]
    unknown = f"; the dollars of {len(runs) - len(known):,} are not known" * (len(known) < len(runs))
    sentence = f"{len(runs):,} run{'s' * (len(runs) != 1)}: ${cents(sum(known))} in all{unknown}."
    names, below = (*_WORDS, *_NUMBERS), _list_unpredicted(table)
    return build_answer("What runs took and cost", names, rows, _NUMBERS, sentence=sentence, below=below)


def _write_cells(row: dict[str, Any]) -> tuple[str, ...]:
    counts = (row["machine_nodes"] or 1, row["machine_accelerators"] or 1)
    machine = "".join(f"{count:.0f} x " for count in counts if count > 1) + row["machine_accelerator"]
    figures: tuple[tuple[str, Callable[[float], str]], ...] = (
        ("steps_done", "{:.0f}".format), ("step_s_measured", duration), ("step_s_predicted_mid", duration),
        ("run_s_measured", lambda run_s: hours_text(run_s / 3600)), ("usd_measured", cents),
    )  # fmt: skip
    return (
        row["started_at"][:16].replace("T", " "),
        *(row[name] for name in ("run_id", "state", "project", "job")),
        machine,
        *(_write_known(row[name], write) for name, write in figures),
    )


def build_last_runs(runs: Sequence[RunRecord], *, job: str = "") -> list[Block]:
    """
    Return the last runs of a job beside their own predictions; nothing where there is none.

    Args:
        runs: of `trainfare.ledger.earlier_runs.list_last_runs`.
        job: its name, where there are several.
    """
    if not runs:
        return []
    names = ("ended", "", "machine"), ("hours", "USD", "predicted", "difference")
    columns = [Column(name, right=name in names[1]) for name in (*names[0], *names[1])]
    rows = [
        (
            f"{run.ended_at:%Y-%m-%d}" if run.ended_at else "", _describe_end(run), _name_machine(run.machine),
            _write_known(run.run_s.measured, lambda run_s: hours_text(run_s / 3600)),
            _write_known(run.usd.measured, cents),
            cents(run.usd.predicted.mid) if run.usd.predicted else "",
            _write_known(run.difference_usd, lambda usd: cents(usd, sign=True)),
        )
        for run in runs
    ]  # fmt: skip
    title = Heading(f"Last runs{job and ' of '}{job}", where=Where.TITLED)
    return [Text(f"LAST RUNS  {job}".rstrip(), where=Where.TERMINAL), title, Table(tuple(columns), rows)]


def _describe_end(run: RunRecord) -> str:
    done, planned = run.steps_done, run.steps_planned or 0
    is_whole = done is None or done >= planned
    return run.state if is_whole else f"{run.state}: {done:,} of {planned:,} steps"


def _name_machine(machine: RunMachine) -> str:
    count = machine.nodes if machine.name else machine.accelerators
    return (f"{count} x " if (count or 1) > 1 else "") + (machine.name or machine.accelerator)


def _write_known(value: float | None, write: Callable[[float], str]) -> str:
    return "" if value is None else write(value)


def build_score(score: LedgerScore, *, plot: bool = False) -> list[Block]:
    """Return the score as a table, and what it counts; `plot` adds the errors as lines, in a terminal."""
    title, by = "How right predictions were", "" if score.by == "all" else score.by
    if not score.rows:
        no_pair = f"none of {score.runs} runs has both a prediction and what it took"
        how = f"{no_pair}: start one from a file of `trainfare export`, or on a GPU"
        return build_answer(title, (by,), (), (), above=[how])
    names = (*((by,) if by else ()), "of", "runs", "median error", "mean", "bias", "in 80 %")
    rows = [
        (
            *((row.group or "not known",) if by else ()), _QUANTITIES[row.quantity], str(row.runs),
            percent(row.median_error, 1), percent(row.mean_error, 1), percent(row.bias, 1, sign=True),
            percent(row.held),
        )
        for row in score.rows
    ]  # fmt: skip
    below = [
        "Errors are predicted over measured minus one; hours and dollars are of runs that did all their steps."
    ]
    if score.made_after:
        below.append(
            f"{score.made_after} of {score.runs} predictions were made after the run, without its times."
        )
    last = score.rows[-1]  # dollars, where they are known
    sentence = (
        f"Over {last.runs:,} run{'s' * (last.runs > 1)}, the prediction of {_QUANTITIES[last.quantity]} was off by "
        f"{percent(last.median_error, 1)} or less in half of them, and its 80 % interval held {percent(last.held)}."
    )
    shown = f"{score.runs:,} run{'s' * (score.runs != 1)}, by {by}." if by else sentence
    blocks = build_answer(title, names, rows, names[-5:], sentence=shown, below=below)
    return [*blocks, Text("", where=Where.TERMINAL), _draw_errors(score)] if plot else blocks


def _draw_errors(score: LedgerScore) -> Table:
    """Return a line a row: the median error in the band that has 80 % of the errors, on one scale around no error."""
    # Chosen: beyond 100 % only the direction counts, and a scale below 1 % would enlarge noise.
    ends = (abs(end) for row in score.rows for end in (row.error_low_80, row.error_high_80))
    scale = max(0.01, min(1.0, max(ends, default=0.0)))

    def draw(row: ScoreRow) -> str:
        low, mid, high = (
            round((1 + max(-1.0, min(1.0, error / scale))) * _HALF_PLOT)
            for error in (row.error_low_80, row.error_mid, row.error_high_80)
        )
        line = [" "] * low + ["─"] * (high - low + 1) + [" "] * (2 * _HALF_PLOT - high)
        line[_HALF_PLOT] = "┼" if low <= _HALF_PLOT <= high else "│"
        line[mid] = "●"
        return "".join(line)

    names = (score.by, "of", f"predicted too little: -{percent(scale)} to +{percent(scale)}: too much")
    rows = [(row.group or "not known", _QUANTITIES[row.quantity], draw(row)) for row in score.rows]
    return Table(tuple(map(Column, names)), rows, where=Where.TERMINAL)
