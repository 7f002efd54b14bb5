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
from .uncertain_rate import UncertainRate
from .wait import DeclineQuantiles, Waiting, wait
from .wright import WrightFit, experience, fit_wright, learning_rate, sahal_rate, wright_variance

__all__ = [
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
    "LogRate",
    "MooreFit",
    "Outlook",
    "PublishedRate",
    "Rates",
    "RunState",
    "Series",
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
    "fit_moore",
    "fit_wright",
    "forecast",
    "hardware",
    "is_improving",
    "learning_rate",
    "mean_square_error",
    "moore_variance",
    "outlook",
    "prior_k",
    "probability_cheaper",
    "run_cost",
    "sahal_rate",
    "wait",
    "wright_variance",
]
