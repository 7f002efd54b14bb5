"""A pilot report in a terminal."""

from __future__ import annotations

from trainfare.report.escape import terminal_text
from trainfare_core.methods.methods import METHODS
from trainfare_core.methods.pilots import PilotLine, PilotReport, sentences


def render_pilots(report: PilotReport) -> str:
    """Return the ranking as plain text, the same bytes for the same input."""
    better = "higher" if report.higher_is_better else "lower"
    where = "no common step" if report.common_step is None else f"at step {report.common_step:,}"
    lines = [f"Pilots by {report.metric} ({better} is better), {where}:"]
    lines += [_format_line(line) for line in report.lines]
    lines += [f"  - {text.removeprefix('pilots: ')}" for text in sentences(report)]
    return "".join(f"{terminal_text(line)}\n" for line in lines)


def _format_line(line: PilotLine) -> str:
    rank = "-" if line.rank is None else f"{line.rank}."
    value = "unknown" if line.value_at_common_step is None else f"{line.value_at_common_step:.4g}"
    final = line.final
    end = (
        "end: unknown"
        if final is None
        else f"end: {final.mid:.4g} [{final.low_80:.4g} - {final.high_80:.4g}]"
    )
    steps = "" if line.steps_to_target is None else f", target reached after {line.steps_to_target:,} steps"
    return f"  {rank:3} {METHODS[line.strategy].label:18} {value:>9}   {end}{steps}"
