"""
The fitted constants of links between devices; `research/trainfare_research/fitting/links.py` writes the file.

An alpha-beta model: a message costs a latency, a byte a share of the link's nominal rate. `link_efficiency` and
`link_latency_s` are keyed by a link of the catalogue ("pcie3") or by its family ("nvlink"); any other link is
"other".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from trainfare_core.documents import Record, data_text


class CommunicationFit(Record):
    """Alpha-beta constants of collectives."""

    link_efficiency: dict[str, float]
    link_latency_s: dict[str, float]
    network_efficiency: float
    network_latency_s: float
    exposed_floor: float
    """Share of communication that is exposed even when there is enough compute to hide all of it."""
    straggler_share: float
    """Of the step, for every doubling of the devices in one machine, which wait for one another."""
    overlap_window: float
    """Share of backward (FSDP: of forward and backward) that can hide communication."""


class LinkCalibration(Record):
    """The constants with their provenance: date of the fit, hash of the data, rows by source."""

    schema_version: Literal[1]
    fitted_at: str
    data_sha256: str
    fitted_on: dict[str, int]
    several_devices_log_sigma: float
    """Of ln(measured / predicted) of a run on several devices whose run on one is known."""
    communication: CommunicationFit


@lru_cache(maxsize=1)
def link_calibration() -> LinkCalibration:
    """Return the constants that ship with trainfare, read once per process."""
    return LinkCalibration.model_validate_json(data_text("link_calibration.json"))
