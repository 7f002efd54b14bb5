"""The pages of scores: their text and tables are jinja2 templates, their figures come from fits and runners."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_BAR_KEYS = {"mean": "mape", "median": "median_ape", "p90": "p90_ape"}


def percent(value: float) -> str:
    """Return a fraction as a percentage."""
    return f"{100 * value:.1f} %"


def plain(text: str) -> str:
    """Return text that is safe in a cell of a table."""
    return text.replace("|", "/").replace("\n", " ")


def cells(score: Mapping[str, float]) -> str:
    """Return the cells of a score: rows, mean, median, p90, worst and bias."""
    keys = ("mape", "median_ape", "p90_ape", "worst_ape", "bias")
    return " | ".join([f"{score['n']:.0f}", *(percent(score[key]) for key in keys)])


def score_table(scores: Iterable[tuple[str, Mapping[str, float]]], column: str = "") -> str:
    """Return a table of scores by name, under the heading of their column."""
    title = f" {column} " if column else " "
    return "\n".join(
        [
            f"|{title}| rows | mean | median | p90 | worst | bias |",
            "|---|---|---|---|---|---|---|",
            *(f"| {plain(name)} | {cells(score)} |" for name, score in scores),
        ]
    )


def format_bar_met(score: Mapping[str, float], bar: str) -> str:
    """Return whether a score keeps a bar such as "15 mean, 12 median", as far as the score tells."""
    parts = [part.split() for part in bar.split(", ")]
    bars_kept = [100 * score[_BAR_KEYS[name]] <= float(number) for number, name in parts if name in _BAR_KEYS]
    return "met" if all(bars_kept) else "**missed**"


def render(page: str, **values: Any) -> str:
    """Return the text of a page from its template; a figure that the template lacks is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = (cells, format_bar_met, percent, plain, score_table)
    environment.filters.update({filter_function.__name__: filter_function for filter_function in filters})
    return environment.get_template(f"{page}.md.j2").render(values)
