"""Reservations and savings plans: from what use of its term one pays (part of stage 6)."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from trainfare_core.arrays import Rows
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.commitments import TERM_HOURS
from trainfare_core.ranking.options.options import OptionMaker
from trainfare_core.ranking.pricing.price_doubt import MACHINE_TYPE, usable_offers
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.recommendation import Option

_SHORT_TERMS: Final = tuple(name for name, hours in TERM_HOURS.items() if hours == min(TERM_HOURS.values()))
"""Of one year: prices of newer machines fall within longer ones, which are compared only where they are named."""


def find_commitment(
    maker: OptionMaker, book: PriceBook, request: Request, runs: Rows, answer: Option | None
) -> Option | None:
    """
    Return the run on a reserved machine whose term pays from the least use, against the answer's dollars.

    Args:
        maker: of the options of the ranking, whose runs are looked through.
        book: all offers.
        request: of the ranking; where it states a use, commitments are ranked and none is returned.
        runs: rows of `maker.priced.runs` that may be named.
        answer: the best option, which is no commitment.

    Returns:
        None where no term pays, even if all of it is used; prices older than `MAX_COMMITMENT_AGE_DAYS` are left out.
    """
    asked = request.constraints
    if asked.use is not None or answer is None or not len(runs):
        return None
    wanted = tuple(name for name in TERM_HOURS if name in (asked.purchase or _SHORT_TERMS))
    if not wanted:
        return None
    terms = asked.model_copy(update={"purchase": wanted, "use": 1.0})
    usable = usable_offers(book, terms, request.as_of)
    offers = usable.book.frame.with_columns(
        pl.Series("price_log_sigma", usable.log_sigma), pl.Series("row", np.arange(len(usable.book)))
    )
    keys = [pl.col(name).cast(pl.String) for name in MACHINE_TYPE]
    lowest = (
        offers.sort("usd_per_hour", "region", "row")
        .select(*keys, "usd_per_hour", "row")
        .unique(MACHINE_TYPE, keep="first")
    )
    priced = maker.priced
    machines = priced.machines.frame.select(*keys).join(
        lowest, on=MACHINE_TYPE, how="left", maintain_order="left"
    )
    usd_per_hour = machines["usd_per_hour"].fill_null(np.inf).to_numpy()[priced.machine_of_run[runs]]
    runs, usd_per_hour = runs[np.isfinite(usd_per_hour)], usd_per_hour[np.isfinite(usd_per_hour)]
    if not len(runs):
        return None
    usd = priced.run_usd(runs, usd_per_hour, np.zeros(len(runs)))
    run = int(runs[np.lexsort((runs, usd))[0]])
    if usd.min() >= answer.run_usd.mid:
        return None
    offer = offers.row(int(machines["row"][int(priced.machine_of_run[run])]), named=True)
    option = maker.make(run, offer, rank=1, on_front=False)
    paid = option.commitment
    if paid is None:
        return None
    pays_from = option.run_usd.mid / answer.run_usd.mid
    return option.model_copy(update={"commitment": paid.model_copy(update={"pays_from_use": pays_from})})
