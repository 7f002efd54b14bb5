"""The widening by distance: who is compared with whom, and that no group is scored by constants that saw it."""

from __future__ import annotations

import numpy as np
import pytest

from trainfare_core.prediction.distance import FEATURES, DistanceFit
from trainfare_core.prediction.uncertainty import Z80
from trainfare_research.runners.fit_distance import (
    LEAST_ROWS,
    build_groups,
    cover,
    fit_constants,
    groups_text,
    list_left_out,
)

NONE = DistanceFit(per_distance=0.0, other_vendor=0.0, host=0.0, host_language=0.0)


def rows_of(
    source: str, errors: list[float], *, kind: str = "convolution", vendor: str = "nvidia", host: float = 0.0
) -> list[dict[str, str]]:
    """Return rows of one group with these errors, of which nothing is left out but the source."""
    features = dict.fromkeys(FEATURES, "0") | {kind: "1", "host": str(host), "log10_kernel_s": "-4"}
    return [
        {
            "model": "m", "kind": kind, "maker": vendor, "from": source, "model_kind": "operations",
            "devices": "one device", "accelerator": "A100-SXM-80GB", **features, "source": str(error),
            "source_sigma": "0.2", "vendor": "", "vendor_sigma": "", "work": "", "work_sigma": "",
        }
        for error in errors
    ]  # fmt: skip


def test_a_source_is_compared_with_the_groups_of_other_sources() -> None:
    """Its own group would be at distance 0; the other one does other work, at distance 1."""
    rows = [*rows_of("a", [0.1] * LEAST_ROWS), *rows_of("b", [0.1] * LEAST_ROWS, kind="recurrent")]
    groups = build_groups(rows)
    assert [group.source for group in groups] == ["a", "b"]
    cases = list_left_out(rows, groups)
    assert [(case.what, case.name) for case in cases] == [("source", "a"), ("source", "b")]
    assert [case.compare(NONE).distance.tolist() for case in cases] == [[1.0] * LEAST_ROWS] * 2


def test_coverage_and_score_are_those_of_the_definition() -> None:
    """
    Of 20 errors 15 are within 1.2816 x 0.2 and 5 are 0.6: five points too few, at the width of before.

    One device of another vendor has twice the variance: all but none more are inside, and a fifth of ln(2) / 2 is paid.
    """
    errors = [0.1] * 15 + [0.6] * 5
    rows = [*rows_of("a", errors), *rows_of("b", [0.1] * LEAST_ROWS)]
    (case, _) = list_left_out(rows, build_groups(rows))
    covered = cover(case, NONE)
    assert (covered.held_before, covered.held, covered.width) == (0.75, 0.75, 1.0)
    assert case.score(NONE) == pytest.approx(0.05)
    strange = NONE.model_copy(
        update={"other_vendor": 0.2}
    )  # of 15 + 20 runs of two sources, one source is left
    assert case.score(strange) == pytest.approx(0.05 + 0.2 * np.log(2) / 2)


def test_the_constants_of_a_group_did_not_see_it() -> None:
    """Hosts hold up one source alone, whose errors ask for the widening: without it there is nothing to widen."""
    wide = np.random.default_rng(7).normal(0.0, 0.6, 30).tolist()
    narrow = (np.random.default_rng(8).normal(0.0, 0.2, 30)).tolist()
    rows = [*rows_of("a", wide, host=1.0), *rows_of("b", narrow), *rows_of("c", narrow)]
    cases = list_left_out(rows, build_groups(rows))
    assert np.median(cases[0].widen(fit_constants(cases, NONE))) > 0.4  # 0.2 before
    assert fit_constants(cases[1:], NONE) == NONE


def test_the_table_is_read_back_as_it_was_written() -> None:
    """Every figure of a group comes through the text that ships."""
    import csv

    from trainfare_core.prediction.distance import parse_group

    groups = build_groups([*rows_of("a", [0.1, 0.2, 0.4]), *rows_of("b, c", [0.0] * 3, vendor="amd")])
    assert [parse_group(line) for line in csv.DictReader(groups_text(groups).splitlines())] == groups
    assert groups[0].bias == 0.2
    assert groups[0].typical_error == pytest.approx(1 - np.exp(-0.2), abs=1e-3)
    assert Z80 == 1.2816
