"""Intervals of submissions come from other benchmarks; suspect readings are scored and told apart."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from trainfare_research.fitting.submissions import group_of, spreads
from trainfare_research.scoring import Scored, half_width, print_table, summary


def _line(error: float, **changes: str) -> dict[str, str]:
    line = {
        "accelerator": "A100-SXM-80GB", "accelerators_total": "8", "nodes": "1", "benchmark": "bert",
        "time_to_train_min": "10", "predicted": str(10 * math.exp(error)),
    }  # fmt: skip
    return {**line, **changes}


def test_interval_of_a_benchmark_comes_from_the_rows_of_the_others() -> None:
    sizes = {"bert": 0.1, "resnet": 0.2, "ssd": 0.3, "dlrm": 0.4, "rnnt": 1.0}
    lines = [_line(size, benchmark=name) for name, size in sizes.items()]
    own = spreads([*lines, _line(9.0, predicted="")])["gpu, one"]
    assert own["without rnnt"] == pytest.approx([0.25, 0.34, 0.37], abs=1e-4)
    assert own["without bert"] == pytest.approx([0.35, 0.64, 0.82], abs=1e-4)
    assert own["all"] == pytest.approx([0.3, 0.52, 0.76], abs=1e-4)
    many = spreads([*lines, *(_line(0.1) for _ in range(15))])["gpu, one"]
    assert many["without bert"] == own["without bert"]
    assert many["all"] == pytest.approx([0.1, 0.12, 0.31], abs=1e-4), (
        "sixteen of twenty rows are one benchmark's"
    )


def test_half_widths_hold_the_share_that_they_name() -> None:
    """Of errors of one normal distribution each level holds its share of others."""
    generator = np.random.default_rng(0)
    errors, others = generator.normal(0.0, 0.2, 400), generator.normal(0.0, 0.2, 4000)
    for level in (0.5, 0.8, 0.9):
        assert (np.abs(others) <= half_width(errors, level)).mean() == pytest.approx(level, abs=0.04)


def test_a_group_of_few_benchmarks_takes_the_interval_of_its_kind() -> None:
    lines = [_line(0.1, benchmark=name) for name in ("bert", "resnet", "ssd", "dlrm")]
    lines += [_line(2.0, nodes="4", accelerators_total="32") for _ in range(9)]
    fields_by_key = spreads(lines)
    assert fields_by_key["gpu, one"]["all"] == pytest.approx([0.1, 0.1, 0.1], abs=1e-4)
    assert fields_by_key["gpu, several"]["all"][1:] == pytest.approx([2.0, 2.0], abs=1e-4)
    assert fields_by_key["gpu, several"]["without bert"] == pytest.approx([0.1, 0.1, 0.1], abs=1e-4)


def test_chips_of_a_slice_are_several_machines_from_sixteen_on() -> None:
    assert group_of(_line(0.0, accelerator="TPU-v3", accelerators_total="4")) == ("tpu", "one")
    assert group_of(_line(0.0, accelerator="TPU-v3", accelerators_total="512")) == ("tpu", "several")
    assert group_of(_line(0.0, nodes="2")) == ("gpu", "several")
    assert group_of(_line(0.0)) == ("gpu", "one")
    assert group_of(_line(0.0, accelerator="H100-SXM-80GB")) == ("gpu since 2022", "one")
    assert group_of(_line(0.0, accelerator="L40S-48GB", nodes="2")) == ("gpu since 2022", "several")


def test_suspect_readings_are_scored_and_the_others_also_apart(capsys: pytest.CaptureFixture[str]) -> None:
    sound = Scored(0.0, 0.1, "A", "f", "s", "multi")
    wrong = Scored(3.0, 0.1, "A", "f", "s", "multi", suspect=True)
    single = Scored(0.1, 0.1, "A", "f", "s", "single")
    document = summary([sound, wrong, single], Counter())
    assert document["n"] == 3
    assert document["suspect"] == 1
    assert document["overall"]["worst_ape"] == pytest.approx(math.exp(3) - 1)
    assert document["not_suspect"]["worst_ape"] == pytest.approx(math.exp(0.1) - 1)
    assert document["multi_not_suspect"]["n"] == 1
    print_table(document, ("by_scope",))
    assert "multi not suspect" in capsys.readouterr().out
    assert "suspect" not in summary([sound, single], Counter())
