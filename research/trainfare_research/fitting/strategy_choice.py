"""Which method has the best expected quality: the pick that is scored against published comparisons."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from trainfare_core.methods.choice import Evidence, advantage, evidence
from trainfare_core.methods.methods import METHOD_NAMES, Method
from trainfare_core.methods.prior import CONSTANTS, ChoiceConstants
from trainfare_core.methods.situation import Situation


@dataclass(frozen=True, slots=True, eq=False)
class MethodChoice:
    """
    The method with the best expected quality.

    Attributes:
        strategy: the pick; ties are decided in the order of `METHODS`.
        p_best: product of the probabilities that it is better than each other offered method.
    """

    strategy: Method
    p_best: float


def choose(
    situation: Situation, known: Evidence | None = None, constants: ChoiceConstants = CONSTANTS
) -> MethodChoice:
    """
    Return the method of the best expected quality.

    Args:
        situation: the question.
        known: comparisons; None takes the shipped ones.
        constants: of the choice.
    """
    rows = evidence() if known is None else known
    offered: list[Method] = [method for method in METHOD_NAMES if method in situation.offered]
    p_better: dict[tuple[Method, Method], float] = {}
    for first, second in itertools.combinations(offered, 2):
        p_better[first, second] = advantage(situation, first, second, rows, constants).p_better
        p_better[second, first] = 1.0 - p_better[first, second]
    p_best = {one: [p_better[one, other] for other in offered if other != one] for one in offered}
    pick = max(offered, key=lambda one: min(p_best[one]))
    return MethodChoice(pick, math.prod(p_best[pick]))
