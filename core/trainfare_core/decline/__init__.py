"""
How the cost of the same training run changes over time, with honest doubt.

The standard library alone, and nothing else of trainfare: copy this folder into another project and it works. Costs are
in nominal USD unless said otherwise, dates are decimal years, rates are log-rates a year and shown as percent.
Formulas and their sources stand in each file; docs/decline.md holds the model on two pages with its backtest.
"""

from __future__ import annotations

from .claims import CheckedClaim, Triple, check_claims, consistent_triples
from .cost_in_year import CostQuestion, Rates, cost_in_year
from .decomposition import CostCause, Decomposition, RunState, decompose, run_cost
from .errors import DeclineError, TooLittleDataError
from .forecast import Basis, CostInterval, Forecast, forecast
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
from .outlook import BreakEvenValue, DatedCost, Outlook, outlook
from .priors import PRIORS, AlgorithmDomain, PublishedRate, algorithms, hardware
from .rates import LogRate, compose
from .series import Series, decimal_year
from .surrogates import SurrogateBand, surrogate_bands
from .uncertain_rate import UncertainRate
from .wait import DeclineQuantiles, Waiting, wait
from .wright import WrightFit, experience, fit_wright, learning_rate, sahal_rate, wright_variance

__all__ = [
    "LAWS",
    "PRIORS",
    "AlgorithmDomain",
    "Basis",
    "BreakEvenValue",
    "CheckedClaim",
    "CostCause",
    "CostInterval",
    "CostQuestion",
    "DatedCost",
    "DeclineError",
    "DeclineQuantiles",
    "Decomposition",
    "Forecast",
    "Hindcast",
    "HindcastError",
    "LawFit",
    "LogRate",
    "MooreFit",
    "Outlook",
    "PublishedRate",
    "Rates",
    "RunState",
    "Series",
    "SurrogateBand",
    "TooLittleDataError",
    "Triple",
    "UncertainRate",
    "Waiting",
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
