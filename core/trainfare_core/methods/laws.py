"""
Scaling laws with their published constants, range and uncertainty.

Losses are nats per token. Each law was fitted on one tokenizer and corpus and does not transfer to another without a
pilot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Column
from trainfare_core.errors import InputError

Term: TypeAlias = Literal["E", "A/N", "B/D"]

E_NATS: Final = 1.8169
E_DEVIATION: Final = 0.026
A: Final = 482.0
ALPHA: Final = 0.3478
ALPHA_DEVIATION: Final = 0.0154
B: Final = 2085.4
BETA: Final = 0.3658
BETA_DEVIATION: Final = 0.0206
"""L(N, D) = E + A/N^alpha + B/D^beta: Besiroglu et al. 2024 (arXiv:2404.10102), refit of Hoffmann et al. 2022."""
CENTRE_PARAMETERS: Final = 1e9
CENTRE_TOKENS: Final = 2e10
"""The errors of A and alpha, and of B and beta, are correlated: each term is known best near the middle of the fitted
runs, which had 7e7 to 1.6e10 parameters and 5e9 to 5e11 tokens. Chosen."""

REPEATS_WORTH: Final = 15.39
"""R*, passes after which repeated data has lost 1 - 1/e of its value: Muennighoff et al. 2023 (arXiv:2305.16264),
pre-training of up to 9B parameters."""


@dataclass(frozen=True, slots=True)
class Chinchilla:
    """Constants of L(N, D) = E + A/N^alpha + B/D^beta, as columns of draws, shape (n,)."""

    e_nats: Column
    a: Column
    alpha: Column
    b: Column
    beta: Column

    def loss_nats(self, parameters: float, tokens: float) -> Column:
        """Return the loss of a model trained on a number of distinct tokens, shape (n,)."""
        return np.asarray(self.e_nats + self.a / parameters**self.alpha + self.b / tokens**self.beta)

    def tokens_to(self, loss_nats: float, parameters: float) -> Column:
        """Return the distinct tokens that reach a loss, shape (n,); inf where no number does."""
        left = loss_nats - self.e_nats - self.a / parameters**self.alpha
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            return np.where(left > 0, (self.b / left) ** (1.0 / self.beta), np.inf)

    def binding_term(self, loss_nats: float, parameters: float) -> Term:
        """Return the term that keeps a loss out of reach in the median draw; "B/D" where more data would reach it."""
        if loss_nats <= float(np.median(self.e_nats)):
            return "E"
        floor = self.e_nats + self.a / parameters**self.alpha
        return "A/N" if loss_nats <= float(np.median(floor)) else "B/D"


def chinchilla_draws(normals: NDArray[np.float64]) -> Chinchilla:
    """
    Return joint draws of the constants.

    The published standard errors are not independent and their covariance is not published: the exponents are
    drawn, and A and B are set so that each term keeps its value in the middle of the fitted runs.

    Args:
        normals: standard normals of shape (n, 3); zeros give the published constants.
    """
    alpha, beta = ALPHA + ALPHA_DEVIATION * normals[:, 1], BETA + BETA_DEVIATION * normals[:, 2]
    return Chinchilla(
        e_nats=E_NATS + E_DEVIATION * normals[:, 0],
        a=A * CENTRE_PARAMETERS ** (alpha - ALPHA),
        alpha=alpha,
        b=B * CENTRE_TOKENS ** (beta - BETA),
        beta=beta,
    )


def distinct_tokens(unique: float, seen: float) -> float:
    """
    Return the number of distinct tokens that a run with repeated data is equivalent to: U + U R* (1 - e^(-R/R*)).

    Args:
        unique: tokens in the data set, U.
        seen: tokens trained on; R = seen/U - 1.

    Raises:
        InputError: a number that is not positive.
    """
    if not (unique > 0 and seen > 0):
        raise InputError(f"tokens: {unique} unique, {seen} seen: both must be positive")
    if seen <= unique:
        return seen
    repeats = seen / unique - 1
    return unique + unique * REPEATS_WORTH * (1 - math.exp(-repeats / REPEATS_WORTH))


def tokens_for_repeats(unique: float, worth: Column) -> Column:
    """Return the tokens to train on that are equivalent to `worth` distinct ones, shape (n,); inf where none are."""
    extra = (worth - unique) / (unique * REPEATS_WORTH)
    with np.errstate(invalid="ignore", divide="ignore"):
        repeats = np.where(extra < 1, -REPEATS_WORTH * np.log1p(-np.minimum(extra, 1.0)), np.inf)
    return np.where(worth <= unique, worth, unique * (1 + repeats))


def bit_steps(samples: float) -> int:
    """Return the steps of 512 images to fine-tune an image classifier, by the BiT rule (Kolesnikov et al. 2020)."""
    return 500 if samples < 20_000 else 10_000 if samples < 500_000 else 20_000
