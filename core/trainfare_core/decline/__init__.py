"""
How the cost of the same training run changes over time, with uncertainty.

The package needs only the standard library and the records of trainfare (`trainfare_core.documents`, with pydantic):
its answers are records, whose schemas are published. It imports nothing else of ours. Costs are in nominal USD unless
stated otherwise, dates are decimal years, rates are log-rates a year and shown as percent. Each module states its
formulas and their sources; docs/decline.md describes the model and its backtest.
"""

from __future__ import annotations

from trainfare_core.decline.claims import (
    ClaimLine,
    ClaimsAnswer,
    TripleLine,
    check_claims,
    claims_answer,
    consistent_triples,
)
from trainfare_core.decline.cost_in_year import (
    AlgorithmDomain,
    CostQuestion,
    Rates,
    algorithms,
    cost_in_year,
    hardware,
)
from trainfare_core.decline.decomposition import DecompositionAnswer, RunState, decompose, run_cost
from trainfare_core.decline.forecast import Forecast, forecast
from trainfare_core.decline.later_years import ForecastAnswer, forecast_from_priors, forecast_from_series
from trainfare_core.decline.moore import MooreFit, fit_moore, is_improving, moore_variance, prior_k
from trainfare_core.decline.outlook import DatedCost, Outlook, outlook
from trainfare_core.decline.rates import LogRate, compose
from trainfare_core.decline.records import DeclineError, QuantileLine, TooLittleDataError
from trainfare_core.decline.series import Series, decimal_year
from trainfare_core.decline.uncertain_rate import UncertainRate
from trainfare_core.decline.wait import WaitAnswer, wait
from trainfare_core.decline.wright import experience, fit_wright, wright_variance

__all__ = [
    "AlgorithmDomain",
    "ClaimLine",
    "ClaimsAnswer",
    "CostQuestion",
    "DatedCost",
    "DeclineError",
    "DecompositionAnswer",
    "Forecast",
    "ForecastAnswer",
    "LogRate",
    "MooreFit",
    "Outlook",
    "QuantileLine",
    "Rates",
    "RunState",
    "Series",
    "TooLittleDataError",
    "TripleLine",
    "UncertainRate",
    "WaitAnswer",
    "algorithms",
    "check_claims",
    "claims_answer",
    "compose",
    "consistent_triples",
    "cost_in_year",
    "decimal_year",
    "decompose",
    "experience",
    "fit_moore",
    "fit_wright",
    "forecast",
    "forecast_from_priors",
    "forecast_from_series",
    "hardware",
    "is_improving",
    "moore_variance",
    "outlook",
    "prior_k",
    "run_cost",
    "wait",
    "wright_variance",
]
