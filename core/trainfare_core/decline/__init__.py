"""
How the cost of the same training run changes over time, with honest doubt.

The standard library alone, and nothing else of trainfare: copy this folder into another project and it works. Costs are
in nominal USD unless said otherwise, dates are decimal years, rates are log-rates a year and shown as percent.
Formulas and their sources stand in each file; docs/decline.md holds the model on two pages with its backtest.
"""

from __future__ import annotations

from .claims import CheckedClaim, Triple, check_claims, consistent_triples
from .cost_in_year import Question, Rates, cost_in_year
from .decomposition import Decomposition, Part, RunState, decompose, run_cost
from .doubt import RateDoubt
from .errors import DeclineError, TooLittleDataError
from .forecast import Basis, Forecast, Interval, forecast
from .hindcast import Hindcast, HindcastError, hindcast
from .laws import LAWS, LawFit, fit_law
from .moore import (
    MooreFit,
    fit_moore,
    is_improving,
    mean_square_error,
    moore_variance,
    prior_k,
    probability_cheaper,
)
from .outlook import DatedCost, Outlook, WaitingValue, outlook
from .priors import PRIORS, Domain, Prior, algorithms, hardware
from .rates import Rate, compose
from .series import Series, decimal_year
from .surrogates import SurrogateBand, surrogate_bands
from .wait import Quantiles, Waiting, wait
from .wright import WrightFit, experience, fit_wright, learning_rate, sahal_rate, wright_variance

__all__ = [
    "LAWS",
    "PRIORS",
    "Basis",
    "CheckedClaim",
    "DatedCost",
    "DeclineError",
    "Decomposition",
    "Domain",
    "Forecast",
    "Hindcast",
    "HindcastError",
    "Interval",
    "LawFit",
    "MooreFit",
    "Outlook",
    "Part",
    "Prior",
    "Quantiles",
    "Question",
    "Rate",
    "RateDoubt",
    "Rates",
    "RunState",
    "Series",
    "SurrogateBand",
    "TooLittleDataError",
    "Triple",
    "Waiting",
    "WaitingValue",
    "WrightFit",
    "algorithms",
    "check_claims",
    "compose",
    "consistent_triples",
    "cost_in_year",
    "decimal_year",
    "decompose",
    "experience",
    "fit_law",
    "fit_moore",
    "fit_wright",
    "forecast",
    "hardware",
    "hindcast",
    "is_improving",
    "learning_rate",
    "mean_square_error",
    "moore_variance",
    "outlook",
    "prior_k",
    "probability_cheaper",
    "run_cost",
    "sahal_rate",
    "surrogate_bands",
    "wait",
    "wright_variance",
]
