"""Spot offers: how often each is taken back, why a run gets none, and what an option says of it (part of stage 6)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.interruptions.ends import RunEnds
from trainfare_core.interruptions.hazard import HAZARDS, find_hazards, hazard_of_band
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import hours_text, percent, quantify
from trainfare_core.prices.shapes import distinct_numbers
from trainfare_core.recommendation import Interval, SpotFallback, SpotOutlook
from trainfare_core.run_cost.interrupted import STARTUP_LOG_SIGMA, spot_process
from trainfare_core.run_cost.table import NOT_SPOT, RunTable

FALLBACK_AFTER: Final = 3
"""Interruptions after which an outlook changes to on-demand: a pool that took so many machines back is not worth
waiting for. A chosen value."""

_MANY_HOURS: Final = 1e6
"""Expected hours above which the number is no longer told: a century and more."""

_S_PER_HOUR: Final = 3600.0

_NOT_KNOWN: Final = -1
"""In place of a row of `HAZARDS`."""


def hazards_of_offers(offers: pl.DataFrame, as_of: date | None = None) -> NDArray[np.int64]:
    """
    Return the row of `HAZARDS` of every spot offer, `NOT_SPOT` of the others, shape (offers,).

    The band that came with the price is used before the table of run-cost facts, whose bands age to the day `as_of`.
    """
    spot = np.flatnonzero((offers["purchase_option"] == "spot").to_numpy())
    hazards = np.full(len(offers), NOT_SPOT, dtype=np.int64)
    if not len(spot):
        return hazards
    machine, first = distinct_numbers(offers["machine_id"].to_numpy()[spot].astype(np.int64))
    types = offers.select("provider", "instance_type")[spot[first]].rows()
    known = [find_hazards(*names, as_of) for names in types]
    hazard = np.array([elsewhere for _, elsewhere in known], dtype=np.int64)[machine]
    column_of = {
        name: index
        for index, name in enumerate(
            sorted({name for by_region_names, _ in known for name in by_region_names})
        )
    }
    table = np.full((len(types), len(column_of)), _NOT_KNOWN, dtype=np.int64)
    for index, (by_region, _) in enumerate(known):
        table[index, [column_of[name] for name in by_region]] = list(by_region.values())
    region = offers["region"].cast(pl.String)[spot]
    there = np.flatnonzero(region.is_in(list(column_of)).to_numpy())
    column = _replace_texts(region[there], column_of)
    here = table[machine[there], column]
    hazard[there] = np.where(here == _NOT_KNOWN, hazard[there], here)
    band = offers["interruption_band"].cast(pl.String)[spot]
    of_band = {name: hazard_of_band(name) for name in band.drop_nulls().unique()}
    published = np.flatnonzero(band.is_not_null().to_numpy())
    hazard[published] = _replace_texts(band[published], of_band)
    hazards[spot] = hazard
    return hazards


def _replace_texts(texts: pl.Series, numbers: Mapping[str, int]) -> NDArray[np.int64]:
    """Return the number of each text."""
    return (
        texts.replace_strict(numbers, return_dtype=pl.Int64).to_numpy()
        if len(texts)
        else np.zeros(0, np.int64)
    )


_SAVING: Final = {
    "": ("ModelCheckpoint({})", "every_n_train_steps={}"),
    "huggingface": ("TrainingArguments(save_strategy='steps', {})", "save_steps={}"),
}
"""By the loop of a profile: the call, and its argument."""


def why_no_spot(profile: JobProfile, runs: RunTable) -> str:
    """
    Say why runs on spot machines are not offered, with the figure and the callback that would allow them.

    Args:
        profile: the job.
        runs: those that are refused; the least and the most time are told, and the middle one's best interval.
    """
    if not len(runs):
        return ""
    mean_hours = (runs.undisturbed_s + runs.interruption_s) / _S_PER_HOUR
    order = np.argsort(mean_hours)
    least, middle, most = (int(order[index]) for index in (0, len(order) // 2, -1))
    calm_hours = float(runs.undisturbed_s[least] / _S_PER_HOUR)
    every = None if math.isnan(runs.save_steps[middle]) else round(float(runs.save_steps[middle]))
    saves = "saves no checkpoints" if every is None else f"saves only every {every:,} steps"
    texts = (
        hours_text(hours) if hours < _MANY_HOURS else "over a century"
        for hours in mean_hours[[least, most]].tolist()
    )
    ends = " to ".join(dict.fromkeys(texts))
    return (
        f"the run {saves}, and {hours_text(calm_hours)} of work would take {ends} on average; "
        f"{write_saving(profile, _save_steps(profile, runs, middle))} allows spot"
    )


def write_saving(profile: JobProfile, steps: int) -> str:
    """Return what saves a checkpoint every so many steps, in the words of the job's loop."""
    call, _ = _SAVING.get(profile.source.loop, ("{}", ""))
    return call.format(write_saving_argument(profile, steps))


def write_saving_argument(profile: JobProfile, steps: int) -> str:
    """Return the same without the call that it is an argument of."""
    _, argument = _SAVING.get(profile.source.loop, ("", "a checkpoint every {} steps"))
    return argument.format(steps)


def _save_steps(profile: JobProfile, runs: RunTable, row: int) -> int:
    """
    Return the best number of steps between checkpoints, to two digits, rounded down.

    At most half the steps of the run: one that saves later than that has nothing to go on from but its end.
    """
    whole = profile.plan.optimizer_steps
    best = min(float(runs.best_save_steps[row]), math.inf if whole is None else whole / 2)
    if not math.isfinite(best):
        return 1
    scale = 10 ** max(0, int(math.log10(max(best, 1.0))) - 1)
    return max(1, int(best // scale * scale))


def spot_outlook(
    profile: JobProfile,
    runs: RunTable,
    *,
    deadline_hours: float | None,
    usd_per_hour: float,
    on_demand_usd_per_hour: float | None,
    storage_usd_per_hour: float,
) -> SpotOutlook:
    """
    Return what interruptions mean for one run on spot machines.

    Args:
        profile: the job.
        runs: the run, one row.
        deadline_hours: None: there is none.
        usd_per_hour: of all machines, spot.
        on_demand_usd_per_hour: of the same machines on demand in the same region; None: not known.
        storage_usd_per_hour: of the checkpoints.
    """
    hazard = HAZARDS[int(runs.hazard[0])]
    fallback = None
    if on_demand_usd_per_hour is not None:
        before_s = runs.startup_s + runs.staging_s
        changed = spot_process(profile, runs).fall_back(FALLBACK_AFTER, before_s, STARTUP_LOG_SIGMA)
        spot_s, sure_s = changed.spot_s + float(runs.rounding_s[0]), changed.sure_s
        usd = spot_s * (usd_per_hour + storage_usd_per_hour) + sure_s * (
            on_demand_usd_per_hour + storage_usd_per_hour
        )
        fallback = SpotFallback(
            after=FALLBACK_AFTER,
            chance=_round_value(changed.chance),
            run_usd=_round_value(usd / _S_PER_HOUR),
            **_tell_ends(changed.ends, deadline_hours),
        )
    return SpotOutlook(
        interruptions=_round_value(float(runs.interruptions[0])),
        per_machine_hour=Interval(
            mid=_round_value(hazard.median_per_hour),
            low_80=_round_value(hazard.low_per_hour),
            high_80=_round_value(hazard.high_per_hour),
        ),
        rate_source=hazard.words,
        waiting_hours=_round_value(float(runs.waiting_s[0]) / _S_PER_HOUR),
        **_tell_ends(runs.ends.select(runs.ends_row), deadline_hours),
        save_every_n_steps=_save_steps(profile, runs, 0),
        fallback=fallback,
    )


def _tell_ends(ends: RunEnds, deadline_hours: float | None) -> dict[str, Any]:
    """Return median, p90 and the chance to keep a deadline of one run, by their names in the outlook."""
    p50, p90 = (_round_value(float(ends.find_hours(chance)[0])) for chance in (0.5, 0.9))
    if deadline_hours is None:
        return {"p50_hours": p50, "p90_hours": p90, "chance_in_time": None}
    chance = ends.find_chances(np.array([deadline_hours]), np.array([np.inf]), np.zeros(1))
    return {"p50_hours": p50, "p90_hours": p90, "chance_in_time": _round_value(float(chance[0]))}


def spot_notes(spot: SpotOutlook, profile: JobProfile, saved_every_steps: int | None) -> tuple[str, ...]:
    """
    Return sentences on the interruptions of a run.

    Args:
        spot: the outlook.
        profile: the job.
        saved_every_steps: optimizer steps between two of the run's checkpoints; None: it writes none.
    """
    rate = spot.per_machine_hour
    notes = [
        (
            f"spot: {quantify(spot.interruptions, 'interruption')} expected over the middle 80 % of rates "
            f"({spot.rate_source}: {rate.low_80:.1g} to {rate.high_80:.1g} an hour and machine); half of such runs end "
            f"within {hours_text(spot.p50_hours)}, nine of ten within {hours_text(spot.p90_hours)}, "
            f"{hours_text(spot.waiting_hours, 2)} of waiting for "
            "capacity expected"
        )
    ]
    best = spot.save_every_n_steps
    # Half and twice the best interval lose about a quarter more, which is worth no advice.
    if saved_every_steps and best > 1 and not 0.5 <= saved_every_steps / best <= 2.0:
        notes.append(
            f"spot: {write_saving(profile, best)} would lose least; the script saves every "
            f"{saved_every_steps:,} steps"
        )
    if spot.fallback is not None:
        back = spot.fallback
        notes.append(
            f"spot, but on demand after {back.after} interruptions ({percent(back.chance)} of runs): "
            f"{back.run_usd:,.2f} USD expected, nine of ten runs end within {hours_text(back.p90_hours)}"
        )
    return tuple(notes)


def _round_value(value: float) -> float:
    """Round to six significant digits: more than any of these figures has, and the same on every processor."""
    return float(f"{value:.6g}")
