"""A FareMeter whose time limits are out of reach, for real runs: a busy machine must not look like one that hangs."""

from __future__ import annotations

from dataclasses import replace

from builders.processes import HANG_S
from trainfare import FareMeter


class PatientMeter(FareMeter):
    """A FareMeter that waits for prices and for the other ranks as long as it takes."""

    services = replace(
        FareMeter.services, price_lookup_limit_s=HANG_S, pricing_limit_s=HANG_S, rank_times_limit_s=HANG_S
    )
