"""What else than training a run's dollars go to, and the setting that changes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from trainfare.report.headline import NamedOption
from trainfare.report.wording import usd
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import percent
from trainfare_core.ranking.pricing.spot import write_saving_argument
from trainfare_core.recommendation import CostParts, Option

NOTED_SHARE: Final = 0.15
"""Of a run's dollars that are not for training: from here on the largest part of them is named. A chosen value."""
_MOSTLY: Final = 0.5
"""A run whose start-up is at least this part of its cost is dominated by it. A chosen value."""
_CHECKPOINT_SHARE: Final = 0.02
"""Of the dollars for training that checkpoints may cost in the advice. A chosen value."""

_CAUSES: Final[dict[str, str]] = {
    "startup_usd": "start-up before the first step",
    "validation_usd": "validation: validate less often or on fewer batches",
    "checkpoint_usd": "writing checkpoints",
    "interruption_usd": "work that interruptions repeat",
    "storage_usd": "disks",
    "staging_usd": "copying the data to the machine",
    "transfer_usd": "sending the data to the machine's region: rent where they lie",
    "rounding_usd": "time that is paid and not used",
    "object_storage_usd": "object storage",
    "model_usd": "sending the trained model back",
}
"""In words, by the fields of `CostParts` that are not training."""


def describe_cost_driver(named: Sequence[NamedOption], profile: JobProfile | None) -> str:
    """
    Say what a named option's dollars go to where much of them is not for training; "" where that is so of none.

    Args:
        named: the options that a report names, the answer first.
        profile: of the job, if available: says how often checkpoints are written.
    """
    ready = [pick for pick in named if not pick[1].needs_porting] or named
    drivers = [(titles[0], option, *_find_largest(option)) for titles, option in ready]
    drivers = [driver for driver in drivers if _compute_beside_share(driver[1]) > NOTED_SHARE]
    if not drivers:
        return ""
    # Of the answer where it is concerned, else of the option whose share is the largest.
    first = next((driver for driver in drivers if driver[1] is named[0][1]), None)
    title, option, cause, part_usd = first or max(
        drivers, key=lambda driver: driver[3] / driver[1].run_usd.mid
    )
    share = part_usd / option.run_usd.mid
    advice = _advise_saving(option, profile) if cause == "checkpoint_usd" else ""
    if cause == "startup_usd" and share >= _MOSTLY:
        advice = ": faster machines cost more here and save little time"
    return f"{title.capitalize()}: {percent(share)} of its cost is {_CAUSES[cause]}{advice}."


def _find_largest(option: Option) -> tuple[str, float]:
    """Return the field of the largest part that is not training, and its dollars."""
    parts = {
        name: float(getattr(option.cost_parts, name)) for name in CostParts.model_fields if name in _CAUSES
    }
    name = max(parts, key=lambda part: parts[part])
    return name, parts[name]


def _compute_beside_share(option: Option) -> float:
    whole_usd = option.run_usd.mid
    return 1 - option.cost_parts.training_usd / whole_usd if whole_usd > 0 else 0.0


def _advise_saving(option: Option, profile: JobProfile | None) -> str:
    """Return how often checkpoints are written, and how seldom they would cost a fiftieth of training."""
    parts = option.cost_parts
    every = option.checkpoint_every_n_steps
    if profile is None or every is None or parts.training_usd <= 0:
        return ""
    times = parts.checkpoint_usd / (_CHECKPOINT_SHARE * parts.training_usd)
    if times <= 1:
        return f" every {every:,} steps"
    digits = max(math.floor(math.log10(every * times)), 0)
    steps = math.ceil(every * times / 10**digits) * 10**digits
    steps = min(steps, round(option.optimizer_steps or steps))
    saved_usd = parts.checkpoint_usd * (1 - every / steps)
    setting = write_saving_argument(profile, steps)
    return f" every {every:,} steps: {setting} saves {usd(saved_usd)}"
