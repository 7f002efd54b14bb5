"""Energy and carbon of the named options, and the factors that they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trainfare.report.block_builders import build_table
from trainfare.report.blocks import Block, Bullets, Cell, Column, Heading, Text, Where
from trainfare.report.headline import list_named_options
from trainfare.report.wording import describe_energy, list_factors, machine_label, place_label
from trainfare_core.recommendation import Option, Recommendation

_CAPTION: Final = (
    "Of the electricity while the machines run, location-based: without purchased energy and without making the "
    "machines. Brackets: 80 % interval."
)
_FIELDS: Final[tuple[tuple[Column, Callable[[Option], Cell]], ...]] = (
    (Column("machine", names_row=True), lambda option: (machine_label(option), place_label(option))),
    (Column("energy and carbon"), lambda option: describe_energy(option.energy)),
)


def build_energy_section(recommendation: Recommendation) -> list[Block]:
    """
    Return kWh and kg CO2e of the named options, and interval, year and source of each factor.

    A page has them with the plan of each option, where they open on demand.
    """
    options = [option for _, option in list_named_options(recommendation) if option.energy is not None]
    if not options:
        return []
    factors = dict.fromkeys(f"{text}." for option in options for text in list_factors(option))
    return [
        Heading("Energy and carbon", where=Where.RUNNING),
        build_table(options, _FIELDS, where=Where.RUNNING),
        Text(_CAPTION, "dim", Where.RUNNING),
        *([Bullets(tuple(factors), where=Where.RUNNING)] if factors else []),
    ]
