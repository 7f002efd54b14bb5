"""
How the cost of the same training run changes over time, with uncertainty.

The package needs only the standard library and imports nothing else of trainfare, so that the folder can be copied into
another project. Costs are in nominal USD unless stated otherwise, dates are decimal years, rates are log-rates a year
and shown as percent. Each module states its formulas and their sources; docs/decline.md describes the model and its
backtest.
"""

from __future__ import annotations

from .claims import CheckedClaim, Triple, check_claims, consistent_triples
from .cost_in_year import CostQuestion, Rates, cost_in_year
from .decomposition import RunState, decompose, run_cost
from .errors import DeclineError, TooLittleDataError
from .forecast import Forecast, forecast
from .moore import (
    MooreFit,
    fit_moore,
    is_improving,
    mean_square_error,
    moore_variance,
    prior_k,
    probability_cheaper,
)
from .outlook import DatedCost, Outlook, outlook
from .priors import AlgorithmDomain, algorithms, hardware, published_rates
from .rates import LogRate, compose
from .series import Series, decimal_year
from .uncertain_rate import UncertainRate
from .wait import wait
from .wright import experience, fit_wright, sahal_rate, wright_variance

__all__ = [
    "AlgorithmDomain",
    "CheckedClaim",
    "CostQuestion",
    "DatedCost",
    "DeclineError",
    "Forecast",
    "LogRate",
    "MooreFit",
    "Outlook",
    "Rates",
    "RunState",
    "Series",
    "TooLittleDataError",
    "Triple",
    "UncertainRate",
    "algorithms",
    "check_claims",
    "compose",
    "consistent_triples",
    "cost_in_year",
    "decimal_year",
    "decompose",
    "experience",
    "fit_moore",
    "fit_wright",
    "forecast",
    "hardware",
    "is_improving",
    "mean_square_error",
    "moore_variance",
    "outlook",
    "prior_k",
    "probability_cheaper",
    "published_rates",
    "run_cost",
    "sahal_rate",
    "wait",
    "wright_variance",
]
