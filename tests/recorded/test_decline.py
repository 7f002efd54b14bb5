"""How the cost of a run changes over the years, for drawn series, rates and runs; see `builders.recorded`."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

from builders.recorded import answer_or_error, compare_with_recorded
from trainfare_core.decline import (
    LogRate,
    Rates,
    RunState,
    Series,
    UncertainRate,
    algorithms,
    claims_answer,
    compose,
    consistent_triples,
    cost_in_year,
    decimal_year,
    decompose,
    experience,
    fit_moore,
    fit_wright,
    forecast,
    forecast_from_priors,
    forecast_from_series,
    hardware,
    is_improving,
    moore_variance,
    outlook,
    prior_k,
    run_cost,
    wait,
    wright_variance,
)
from trainfare_core.decline.moore import improvement_p_value, log_variance
from trainfare_core.decline.uncertain_rate import StudentT
from trainfare_core.decline.wait import (
    Terms,
    compute_fixed_job_wait,
    longest_run,
    option_exponent,
    option_trigger,
    option_value,
    start_of_lump,
)
from trainfare_core.decline.wright import exponent_and_noise


def draw_series(draws: random.Random) -> Series:
    """Draw costs that fall by about a fifth a year, in even or uneven steps, with or without production."""
    count, step = draws.choice([3, 4, 8, 15]), draws.choice([0.25, 1.0])
    even = draws.random() < 0.7
    times = [2000 + step * index + (0 if even else draws.uniform(0, step / 3)) for index in range(count)]
    logs = [-0.2 * step * index + draws.gauss(0, 0.1) for index in range(count)]
    made = [1.5**index * draws.uniform(0.9, 1.1) for index in range(count)] if draws.random() < 0.6 else None
    kind = draws.choice(["price", "record", "estimate"])
    return Series.of(times, [100 * math.exp(log) for log in logs], production=made, kind=kind)


def describe_forecast(answer: Any) -> Any:
    """Return the quantiles and chances of a forecast, with its basis."""
    return [
        answer.median, answer.quantile(0.05), answer.interval(0.8), answer.interval(0.95), answer.prob_below(0.7 * answer.median),
        answer.informative, answer.dof, answer.basis, len(answer.parts),
    ]  # fmt: skip


def test_fits_of_drawn_series() -> None:
    draws, answers = random.Random(1), {}
    for index in range(40):
        series = draw_series(draws)
        m = draws.choice([None, None, 2, 5])
        moore = answer_or_error(lambda series=series, m=m: fit_moore(series, m))
        wright = answer_or_error(lambda series=series, m=m: fit_wright(series, m))
        ahead = draws.choice([0.3, 1.0, 6.0, 40.0])
        answers[f"{index} fits"] = [
            moore, wright, series.step_years, series.is_record, answer_or_error(lambda series=series: is_improving(series)),
            answer_or_error(lambda series=series: improvement_p_value(series)), getattr(wright, "learning_rate", None),
        ]  # fmt: skip
        options: dict[str, Any] = {
            "theta": draws.choice([0.0, 0.63]), "rho": draws.choice([0.0, 0.19]), "dist": draws.choice(["t", "normal"]),
            "inflation": draws.choice([None, 1.0, 2.0]),
        }  # fmt: skip
        for fit in (moore, wright):
            if not isinstance(fit, str):
                then = fit.last_year + ahead
                answers[f"{index} {type(fit).__name__}"] = answer_or_error(
                    lambda fit=fit, then=then, options=options: describe_forecast(
                        forecast(fit, then, **options)
                    )
                )
                given = draws.choice([2.0, 50.0]) * getattr(fit, "last_experience", 1e3)
                answers[f"{index} {type(fit).__name__} given"] = answer_or_error(
                    lambda fit=fit, then=then, given=given: describe_forecast(
                        forecast(fit, then, experience_then=given)
                    )
                )
        if not isinstance(moore, str):
            answers[f"{index} variance"] = log_variance(moore, ahead, 0.5)
        law = draws.choice(["moore", "wright"])
        until = series.times[-1] + draws.choice([0.5, 3.0, 7.5, 60.0])
        answers[f"{index} {law}"] = answer_or_error(
            lambda series=series, until=until, law=law: forecast_from_series(series, until, law)
        )
    compare_with_recorded("decline_fits", answers)


def test_formulas_of_the_decline() -> None:
    answers: dict[str, Any] = {}
    for tau, m, theta in itertools.product((0.0, 0.4, 1.0, 3.5, 20.0), (1, 2, 5, 20), (-0.5, 0.0, 0.63, 1.0)):
        answers[f"moore {tau} {m} {theta}"] = answer_or_error(
            lambda tau=tau, m=m, theta=theta: moore_variance(tau, m, theta)
        )
    growth = [0.2, 0.5, 0.1, 0.4, 0.3]
    for tau, ahead, rho in itertools.product((0.0, 0.4, 1.0, 3.0, 2.5), (0.1, 1.5), (-0.2, 0.0, 0.19, 1.0)):
        answers[f"wright {tau} {ahead} {rho}"] = answer_or_error(
            lambda tau=tau, ahead=ahead, rho=rho: wright_variance(tau, ahead, growth, rho)
        )
    answers["exponent"] = exponent_and_noise(growth, [-0.1, -0.3, 0.0, -0.2, -0.25])
    answers["experience"] = [
        experience([1, 2, 4, 9]),
        experience([3, 5], 2.0),
        answer_or_error(lambda: experience([2, 1])),
    ]
    answers["prior k"] = [prior_k(rate) for rate in (-1.0, -0.3, -0.01, 0.0, 0.2)]
    for dof in (1, 2, 3, 7, 30):
        student = StudentT(dof)
        answers[f"t {dof}"] = [
            [student.cdf(x), student.pdf(x)] for x in (-4.0, -0.5, 0.0, 1e-3, 2.0, 12.0)
        ] + [student.inv_cdf(p) for p in (1e-4, 0.1, 0.5, 0.77, 0.999)]
    answers["dates"] = [
        decimal_year(when) for when in (2020.5, "2020-02-29", "2023-12-31", "2021", "2021-07")
    ]
    answers["rates"] = [
        LogRate.from_decline(0.3).log_per_year, LogRate.from_points(2000, 10, 2003, 4).log_per_year, LogRate(-0.3).decline,
        LogRate(-0.3).factor, LogRate(-0.3).after(2.5), compose(LogRate(-0.3), LogRate(0.1)).log_per_year,
    ]  # fmt: skip
    answers["run"] = run_cost(1e21, 3e14, 0.4, 2.5)
    earlier = RunState(2020.0, 1e21, 2.5, 1.25e14, 0.3)
    answers["decomposition"] = [
        answer_or_error(lambda later=later: decompose(earlier, later))
        for later in (RunState(2024.0, 2e20, 3.0, 9.9e14, 0.4), RunState(2020.5, 1e21, 2.5, 1.25e14, 0.3), RunState(2022, 1e22, 2, 1.25e14, 0.2))
    ]  # fmt: skip
    for name, rate in {
        "hardware": hardware(), "language": algorithms("language"), "vision": algorithms("vision"),
        "halving": UncertainRate.halving(8, 5, 14, 0.95), "sum": hardware().plus(algorithms("vision")),
        "certain": UncertainRate.certain(LogRate(-0.3)), "normal": UncertainRate.normal(0.2, 0.1),
    }.items():  # fmt: skip
        answers[name] = [rate.quantile(p) for p in (0.05, 0.5, 0.9)] + [
            rate.chance_above(x) for x in (0.0, 0.3, 1.0)
        ]
    answers["claims"] = claims_answer()
    answers["triples"] = (
        consistent_triples(claims_answer().triples[0]) if hasattr(claims_answer(), "triples") else None
    )
    compare_with_recorded("decline_formulas", answers)


def test_outlooks_and_waits() -> None:
    draws, answers = random.Random(2), {}
    for index in range(40):
        domain = draws.choice(["language", "vision"])
        question = draws.choice(["compute", "quality"])
        rates = draws.choice([None, Rates.of(domain), Rates(hardware=UncertainRate.normal(0.1, 0.2))])
        fields: dict[str, Any] = {
            "log_sigma": draws.choice([0.0, 0.3]), "question": question, "rates": rates,
            "value_usd_per_month": draws.choice([None, 0.0, 30.0, 400.0]), "time_left_months": draws.choice([None, None, 0.5, 8.0, 30.0]),
            "run_months": draws.choice([0.0, 1.0, 7.0]), "horizon_months": draws.choice([1, 12, 30]),
            "confidence": draws.choice([0.6, 0.9]), "discount_per_year": draws.choice([0.05, 0.1]),
        }  # fmt: skip
        answers[f"{index} outlook"] = answer_or_error(lambda fields=fields: outlook(1000.0, **fields))
        year = draws.choice([2026.0, 2026.5, 2031.0])
        answers[f"{index} year"] = describe_forecast(
            cost_in_year(
                500.0, 2026.0, year, question=question, rates=rates, log_sigma_now=draws.choice([0.0, 0.2])
            )
        )
        terms: dict[str, Any] = {
            "value_usd_per_year": draws.choice([0.0, 100.0, 900.0, 2e4]), "run_years": draws.choice([0.0, 0.25, 1.0]),
            "obsolete_in_years": draws.choice([3.0, 10.0]), "discount_per_year": draws.choice([0.05, 0.1, 0.3]),
            "confidence": draws.choice([0.6, 0.9]),
        }  # fmt: skip
        rate = draws.choice(
            [hardware(), UncertainRate.certain(LogRate(-0.3)), UncertainRate.normal(0.2, 0.3)]
        )
        answers[f"{index} wait"] = answer_or_error(lambda rate=rate, terms=terms: wait(1000.0, rate, **terms))
        rule = Terms(
            1000.0,
            terms["value_usd_per_year"],
            terms["discount_per_year"],
            terms["run_years"],
            terms["obsolete_in_years"],
        )
        decline = draws.choice([-0.1, 0.0, 0.2, 0.9])
        answers[f"{index} rule"] = answer_or_error(
            lambda rule=rule, decline=decline: [
                rule.best_start(decline), rule.npv(0.0, decline), rule.npv(1.5, decline), rule.break_even(decline),
                rule.break_even_after(1.0, 800.0),
            ]
        )  # fmt: skip
    for until in (2026.5, 2028.0, 2036.0):
        answers[f"priors {until}"] = [
            forecast_from_priors(1e3, 2026.0, until, question=question, domain=domain)
            for question in ("compute", "quality") for domain in ("language", "vision")
        ]  # fmt: skip
    for job_years, growth in itertools.product((0.5, 2.0, 9.0), (0.2, 0.7)):
        answers[f"fixed job {job_years} {growth}"] = compute_fixed_job_wait(job_years, growth)
    answers["longest"] = [
        longest_run(0.3, 0.2),
        longest_run(0.5, 0.1, 0.4),
        answer_or_error(lambda: longest_run(-0.1)),
    ]
    answers["lump"] = [start_of_lump(3, 1), start_of_lump(1, 1), answer_or_error(lambda: start_of_lump(1, 2))]
    for drift, k, discount in itertools.product((-0.3, 0.0, 0.1), (0.0, 0.2), (0.05, 0.1)):
        answers[f"option {drift} {k} {discount}"] = [
            answer_or_error(lambda drift=drift, k=k, discount=discount: option_exponent(drift, k, discount)),
            answer_or_error(
                lambda drift=drift, k=k, discount=discount: option_trigger(900.0, drift, k, discount)
            ),
            *(
                answer_or_error(
                    lambda cost=cost, drift=drift, k=k, discount=discount: option_value(
                        cost, 900.0, drift, k, discount
                    )
                )
                for cost in (50.0, 880.0, 2000.0)
            ),
        ]
    compare_with_recorded("decline_outlooks", answers)
