"""Normal and Student t against tabulated values, to at least ten digits."""

from __future__ import annotations

import math

import pytest

from trainfare_core.decline import DeclineError, UncertainRate
from trainfare_core.decline.uncertain_rate import StudentT

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
    assert StudentT(dof).inv_cdf(p) == pytest.approx(x, rel=1e-8 if p > 0.9999 else 1e-11)
    assert StudentT(dof).inv_cdf(1 - p) == pytest.approx(-x, rel=1e-8 if p > 0.9999 else 1e-11)
    assert StudentT(dof).cdf(x) == pytest.approx(p, abs=1e-12)


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
    normal = UncertainRate.normal(0.0, 1.0)
    assert normal.quantile(p) == pytest.approx(z, abs=1e-12)
    assert normal.chance_above(-z) == pytest.approx(p, rel=1e-4 if p < 1e-9 else 1e-12)


def test_the_middle_and_the_ends() -> None:
    """The median is exactly 0; a number next to 1 still has a quantile."""
    assert StudentT(3).inv_cdf(0.5) == 0
    assert StudentT(7).cdf(0.0) == 0.5
    assert StudentT(7).cdf(float("inf")) == 1
    assert UncertainRate.normal(0.0, 1.0).quantile(1 - 2**-53) > 8
    assert math.isnan(StudentT(3).cdf(math.nan))
    for p in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(DeclineError, match="probability"):
            UncertainRate.normal(0.0, 1.0).quantile(p)
        with pytest.raises(DeclineError, match="probability"):
            StudentT(3).inv_cdf(p)
    with pytest.raises(DeclineError, match="degrees"):
        StudentT(0).cdf(1.0)
