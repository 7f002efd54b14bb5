"""
Monte Carlo draws of quality, samples, dollars and hours of all methods jointly.

The same question gives the same draws. Uncertainty that the methods share (how hard the task is, the error of the
predictor) is drawn once for all of them, so that it cancels where they are compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Column
from trainfare_core.job_profile import JobProfile
from trainfare_core.methods.amounts import Amount
from trainfare_core.methods.choice import WIDENING, Advantage, advantage
from trainfare_core.methods.laws import chinchilla_draws, distinct_tokens, tokens_for_repeats
from trainfare_core.methods.methods import METHODS, Method, MethodFacts
from trainfare_core.methods.question import Question
from trainfare_core.methods.situation import metric_kind, task_of
from trainfare_core.recommendation import Option

DRAWS: Final = 4096
"""Chances have a standard error of at most 0.8 percentage points."""
SEED: Final = 20_261_124
"""Any fixed number: it makes equal questions give equal answers."""
SEED_NOISE_PCT: Final = 1.0
"""Standard deviation of a known value between training seeds, percent of the value. Chosen: most published rows are
of one seed and print no deviation."""
SHARED_COST: Final = 0.7
"""Part of the predictor's variance in ln(cost) that is common to all methods: they run the same model on the same
kinds of machine. Chosen."""
MOST_PASSES: Final = 40
"""Over the same data: the marginal value of another pass is 7 % there (Muennighoff et al. 2023), so that longer runs
are counted as not reaching the target."""
_SCORE: Final = re.compile(
    r"acc|top_?\d|precision|recall|f1|auc|map|\bap|_ap|iou|dice|bleu|rouge|match|mmlu|pass|mcc|quality|score",
    re.IGNORECASE,
)
_NORMAL: Final = NormalDist()
_Z80: Final = _NORMAL.inv_cdf(0.9)


@dataclass(frozen=True, slots=True)
class Found:
    """
    What was found about one method, without a price.

    Attributes:
        strategy: the method.
        profile: as traced, with the settings chosen; None where there is none.
        knobs, notes: settings and remarks in words.
        impossible_because, unknown_because: reason for which there is no cost.
    """

    strategy: Method
    _: KW_ONLY
    profile: JobProfile | None = None
    knobs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    impossible_because: str | None = None
    unknown_because: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced(Found):
    """
    A method with its cost.

    Attributes:
        option: the cheapest machine, at the median samples.
        amount: samples to target.
    """

    option: Option
    amount: Amount


@dataclass(frozen=True, slots=True)
class ReachedBy:
    """Final metric predicted from a pilot: its logarithm, and the standard deviation of that."""

    log_value: float
    log_sigma: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """Parameters of the model and of its adapters; None is unknown."""

    parameters: float | None = None
    lora_parameters: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """
    Draws of one method, shape (DRAWS,).

    Attributes:
        priced: the method and its cheapest machine.
        quality_pct: advantage over the reference, percent, positive is better; None where unknown.
        value: of the metric; None where unknown.
        reached: whether the target is reached; None where unknown.
        samples: trained on in one run.
        usd, hours: of all learning-rate trials together.
        edge: the published comparisons behind the quality; None for the reference and for pilots.
    """

    priced: Priced
    quality_pct: Column | None
    value: Column | None
    reached: NDArray[np.bool_] | None
    samples: Column
    usd: Column
    hours: Column
    edge: Advantage | None

    @property
    def p_reach(self) -> float | None:
        """Chance that the target is reached; None where unknown."""
        return None if self.reached is None else float(self.reached.mean())

    @property
    def mean_usd(self) -> float:
        """Expected cost, without that of falling back to another method."""
        return float(self.usd.mean())

    @property
    def startup_usd(self) -> float:
        """Start-up of one run."""
        return self.priced.option.cost_parts.startup_usd


def outcomes(
    question: Question,
    priced: Sequence[Priced],
    *,
    reference: Method,
    sizes: Sizes,
    pilots: Mapping[Method, ReachedBy],
) -> dict[Method, Outcome]:
    """
    Draw the outcome of each method.

    Args:
        question: the question.
        priced: methods that have a cost.
        reference: the method that quality is relative to.
        sizes: parameters of the model, for its scaling law, and of the adapters, for their capacity.
        pilots: final values predicted from pilots.
    """
    random = np.random.default_rng(SEED)
    shared_task, shared_cost = random.standard_normal((2, DRAWS))
    constants = random.standard_normal((DRAWS, 3))
    quality = _Quality(question, reference, sizes, pilots, random.standard_normal(DRAWS))
    own_uniforms = draw_uniforms(random, METHODS)
    out: dict[Method, Outcome] = {}
    for priced_strategy in priced:
        method, amount = priced_strategy.strategy, priced_strategy.amount
        uniforms = own_uniforms[method]
        normal = _draw_normal(uniforms[0])
        samples = np.exp(math.log(amount.samples) + amount.shared * shared_task + amount.own * normal)
        shared = own_uniforms[METHODS[method].compared_through or method][1]
        edge, relative, value = quality.draw(method, shared, uniforms[3])
        reached = _mark_reached(question, value, relative)
        if law_applies(question, method) and sizes.parameters:
            samples, reached = _by_law(question, sizes.parameters, constants)
        cost_z = math.sqrt(SHARED_COST) * shared_cost + math.sqrt(1 - SHARED_COST) * _draw_normal(uniforms[2])
        paid_samples = np.where(np.isfinite(samples), samples, amount.samples)
        usd, hours = _draw_costs(priced_strategy, paid_samples, cost_z)
        trials = question.learning_rate_trials
        out[method] = Outcome(
            priced_strategy, relative, value, reached, samples, trials * usd, trials * hours, edge
        )
    return out


def draw_uniforms(random: np.random.Generator, methods: Mapping[Method, MethodFacts]) -> dict[Method, Column]:
    """Return uniforms of its own for each method, shape (4, DRAWS), drawn in the order of `MethodFacts.draw`."""
    order = sorted(methods, key=lambda name: methods[name].draw)
    return {name: random.random((4, DRAWS)) for name in order}


def law_applies(question: Question, method: Method) -> bool:
    """Whether the scaling law L(N, D) answers: a language model from scratch, to a loss."""
    return (
        not METHODS[method].needs_checkpoint
        and task_of(question.domain) == "pretraining"
        and metric_kind(question.metric) == "loss"
        and question.target_value is not None
        and question.tokens is not None
    )


def _by_law(question: Question, parameters: float, normals: Column) -> tuple[Column, NDArray[np.bool_]]:
    """Return the samples that reach a loss by the scaling law, with data repeated as needed, and whether any do."""
    target, unique, tokens_each = question.target_value, question.tokens, question.tokens_per_sample
    if target is None or unique is None or tokens_each is None:
        raise ValueError("the scaling law needs a target, the number of tokens and the tokens per sample")
    needed = chinchilla_draws(normals).tokens_to(target, parameters)
    tokens = tokens_for_repeats(unique, needed)
    most_useful = distinct_tokens(unique, MOST_PASSES * unique)
    return tokens / tokens_each, np.asarray(np.isfinite(tokens) & (needed <= most_useful))


@dataclass(frozen=True, slots=True)
class _Quality:
    """Draws of the quality of methods relative to a reference; the fields are those of `outcomes`."""

    question: Question
    reference: Method
    sizes: Sizes
    pilots: Mapping[Method, ReachedBy]
    known_noise: Column

    def draw(
        self, method: Method, shared: Column, own_uniforms: Column
    ) -> tuple[Advantage | None, Column | None, Column | None]:
        """
        Return the comparisons behind a strategy's quality, its advantage over the reference, and the metric itself.

        Args:
            method: the method.
            shared: uniforms that it has in common with the method that it is compared through.
            own_uniforms: uniforms of its own.
        """
        sign = 1.0 if self.question.higher_is_better else -1.0
        base = self.pilots.get(self.reference)
        if method in self.pilots:
            predicted = self.pilots[method]
            log_value = predicted.log_value + predicted.log_sigma * _draw_normal(own_uniforms)
            ahead = None if base is None else 100 * sign * (log_value - base.log_value)
            return None, ahead, np.exp(log_value)
        edge, relative = None, np.zeros(DRAWS)
        if method != self.reference:
            edge, middle = self._edge(method, self.reference), METHODS[method].compared_through
            if middle is None or middle == self.reference:
                relative = _draw_advantage(edge, shared)
            else:
                # Both steps from comparisons of just those two: most published comparisons of this method are with
                # `middle`.
                relative = _draw_advantage(self._edge(middle, self.reference), shared)
                relative = relative + _draw_advantage(self._edge(method, middle), own_uniforms)
        if base is not None:
            return edge, relative, np.exp(base.log_value + sign * relative / 100)
        return edge, relative, self._from_known(method, relative, sign)

    def _from_known(self, method: Method, relative: Column, sign: float) -> Column | None:
        """Return the metric where the user knows its value for one method."""
        question = self.question
        if question.known_value is None:
            return None
        if method == question.known_strategy:
            relative = np.zeros(DRAWS)
        elif question.known_strategy != self.reference:
            relative = relative - self._edge(question.known_strategy, self.reference).quantile_pct(0.5)
        noise = SEED_NOISE_PCT * self.known_noise
        value = question.known_value * np.exp(sign * (relative + noise) / 100)
        return np.minimum(value, _most(question))

    def _edge(self, method: Method, over: Method) -> Advantage:
        situation = self.question.situation((method, over), self.sizes.lora_parameters, self.sizes.parameters)
        return advantage(situation, method, over)


def _most(question: Question) -> float:
    """Return the upper bound of a score: 1, or 100 where it is given in percent; inf for other metrics."""
    known = question.known_value
    if known is None or not question.higher_is_better or _SCORE.search(question.metric) is None:
        return math.inf
    return 1.0 if known <= 1 else 100.0 if known <= 100 else math.inf


def _mark_reached(
    question: Question, value: Column | None, relative: Column | None
) -> NDArray[np.bool_] | None:
    if question.target_value is None:
        return None if relative is None else np.asarray(relative >= -question.within_pct - 1e-9)
    if value is None:
        return None
    if question.higher_is_better:
        return np.asarray(value >= question.target_value)
    return np.asarray(value <= question.target_value)


def _draw_advantage(edge: Advantage, uniforms: Column) -> Column:
    """Draw from an advantage, with its spread about the median widened like its intervals."""
    at = np.cumsum(edge.weights) - 0.5 * edge.weights
    narrow = np.interp(uniforms, at, edge.values_pct)
    middle = edge.quantile_pct(0.5)
    return np.asarray(middle + WIDENING * (narrow - middle))


def _draw_costs(priced_strategy: Priced, samples: Column, cost_z: Column) -> tuple[Column, Column]:
    """Return dollars and hours for a number of samples: start-up is fixed, all else is proportional."""
    run_usd, more = priced_strategy.option.run_usd, samples / priced_strategy.amount.samples
    fixed = priced_strategy.option.cost_parts.startup_usd / run_usd.mid if run_usd.mid > 0 else 0.0
    # Log-normal on either side of the median: on spot machines the upper side is wider.
    lower, upper = (
        abs(math.log(end / run_usd.mid)) / _Z80 if end > 0 and run_usd.mid > 0 else 0.0
        for end in (run_usd.low_80, run_usd.high_80)
    )
    sigma = np.where(cost_z < 0, lower, upper)
    scale = fixed + (1 - fixed) * more * np.exp(sigma * cost_z)
    return run_usd.mid * scale, priced_strategy.option.run_hours.mid * scale


def _draw_normal(uniforms: Column) -> Column:
    """Return standard normals from uniforms, by a table of the distribution function."""
    return np.interp(uniforms, _TABLE_P, _TABLE_Z)


_TABLE_Z: Final = np.linspace(-5.0, 5.0, 4001)
_TABLE_P: Final = np.array([_NORMAL.cdf(z) for z in _TABLE_Z])
