"""The benchmark of one prediction: it asks about every accelerator that trains, and counts what was answered."""

from __future__ import annotations

import pytest

pytest.importorskip("pytorch_lightning")

from benchmarks.speed.predict_speed import time_profile
from builders.profiles import profile

pytestmark = pytest.mark.sources


def test_a_prediction_of_everything_counts_its_columns() -> None:
    case = time_profile(profile(), 2)
    assert case.columns == case.answered
    assert case.columns > 2000
    assert case.columns % (4 * 5) == 0
    assert 0 < case.ours <= case.p90
