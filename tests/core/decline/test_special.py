"""Normal and Student t against tabulated values, to at least ten digits."""

from __future__ import annotations

import math

import pytest

from trainfare_core.decline import DeclineError
from trainfare_core.decline.special import normal_cdf, normal_quantile, t_cdf, t_quantile

T_TABLE = (
    (0.975, 1, 12.706204736174705),
    (0.975, 2, 4.302652729749464),
    (0.95, 4, 2.13184678632665),
    (0.9, 4, 1.533206274058944),
    (0.75, 4, 0.7406970841126828),
    (0.975, 32, 2.036933343460102),
    (0.999, 10, 4.143700494046591),
    (0.9999999, 3, 222.57159098625124),
    (0.6, 1000, 0.25341451583949876),
)


@pytest.mark.parametrize(("p", "dof", "x"), T_TABLE)
def test_student_quantile(p: float, dof: float, x: float) -> None:
    """Quantiles of Student's t, both tails, and back through the distribution."""
    assert t_quantile(p, dof) == pytest.approx(x, rel=1e-8 if p > 0.9999 else 1e-11)
    assert t_quantile(1 - p, dof) == pytest.approx(-x, rel=1e-8 if p > 0.9999 else 1e-11)
    assert t_cdf(x, dof) == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize(
    ("p", "z"),
    [
        (0.5, 0.0),
        (0.975, 1.959963984540054),
        (0.9, 1.2815515655446004),
        (1e-12, -7.034483825301132),
        (0.05, -1.6448536269514729),
    ],
)
def test_normal_quantile(p: float, z: float) -> None:
    """Quantiles of the normal distribution, and back."""
    assert normal_quantile(p) == pytest.approx(z, abs=1e-12)
    assert normal_cdf(z) == pytest.approx(p, rel=1e-12)


def test_the_middle_and_the_ends() -> None:
    """The median is exactly 0; a number next to 1 still has a quantile."""
    assert t_quantile(0.5, 3) == 0
    assert t_cdf(0.0, 7) == 0.5
    assert t_cdf(float("inf"), 7) == 1
    assert normal_quantile(1 - 2**-53) > 8
    assert math.isnan(t_cdf(math.nan, 3))
    for p in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(DeclineError, match="probability"):
            normal_quantile(p)
        with pytest.raises(DeclineError, match="probability"):
            t_quantile(p, 3)
    with pytest.raises(DeclineError, match="degrees"):
        t_cdf(1.0, 0)
