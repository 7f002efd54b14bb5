"""Every published figure is recomputed, and the contradictory triple is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainfare_core.decline import ClaimLine, DeclineError, TripleLine, check_claims, consistent_triples

CLAIMS = {claim.id: claim for claim in check_claims()}


@pytest.mark.parametrize(
    ("name", "digits", "computed"),
    [
        ("G3", 1, 68.7),
        ("G5", 1, 69.9),
        ("Q1", 1, 70.0),
        ("P12", 1, 72.2),
        ("T1", 1, 77.2),
        ("T2", 1, 75.1),
        ("P3", 0, 41_040),
        ("P8", 0, 414_230),
        ("P10", 0, 117_738),
        ("A2", 1, 44.9),
        ("A1", 1, 15.4),
        ("R5", 2, 6.64),
        ("G4", 1, 29.5),
        ("Q2", 0, 656),
        ("Q3", 0, 5_525),
        ("P4", 0, 216e12),
        ("P1", 0, 9.975e12),
        ("P11", -3, 1_115_000),
    ],
)
def test_computed(name: str, digits: int, computed: float) -> None:
    """To the digits printed."""
    assert round(CLAIMS[name].computed, digits) == computed


@pytest.mark.parametrize(
    ("verdict", "names"),
    [
        ("impossible", {"T1"}),
        ("off", {"R2", "R5", "R6", "P9", "P11", "P13"}),
        ("derived", {"Q3", "P1", "P3", "P10"}),
    ],
)
def test_verdicts(verdict: str, names: set[str]) -> None:
    """What is off, impossible or not stated; everything else agrees within rounding."""
    assert {name for name, claim in CLAIMS.items() if claim.verdict == verdict} == names


def test_how_much_it_is_off() -> None:
    """$600k is half of what 70 % a year makes of $17 billion; 50 times Moore's speed is 6.64 times."""
    assert CLAIMS["P11"].off_by == pytest.approx(1.86, abs=0.005)
    assert CLAIMS["P13"].off_by == pytest.approx(2.05, abs=0.005)
    assert CLAIMS["P9"].off_by == pytest.approx(3.1, abs=0.05)
    assert CLAIMS["Q3"].off_by is None


def test_all_published_figures_are_in_the_table() -> None:
    """Each figure that the article prints is in the table, with a source."""
    stated = {claim.stated for claim in CLAIMS.values()}
    assert stated >= {4.6e6, 450e3, 30, 1000, 10, 16, 70, 720, 17e9, 600e3, 650, 216e12}
    text = " ".join(claim.figure for claim in CLAIMS.values())
    for words in ("57 %", "47 %", "57 times", "720 times", "$0.01 a query", "8.5 billion", "162 trillion"):
        assert words in text
    assert all(claim.source for claim in CLAIMS.values())


def test_consistent_triples() -> None:
    """(57, 47, 70) is not one; (43, 47, 70), (57, 30, 70) and (57, 47, 77) are, and so is the deck of 2024."""
    stated = TripleLine.of(57, 47, 70)
    assert stated.residual == pytest.approx(-7.2, abs=0.05)
    ways = consistent_triples(stated)
    assert ways == (TripleLine.of(43, 47, 70), TripleLine.of(57, 30, 70), TripleLine.of(57, 47, 77))
    assert all(abs(triple.residual) < 0.5 for triple in (*ways, TripleLine.of(53, 47, 75)))


def check_small_job(path: Path, line: str) -> tuple[ClaimLine, ...]:
    table = path / "claims.csv"
    table.write_text(f"id,figure,stated,unit,check,inputs,source,note\n{line}\n", encoding="utf-8")
    return check_claims(table)


def test_other_tables_can_be_checked(tmp_path: Path) -> None:
    """A table of one's own, and a verdict that follows its figures."""
    (claim,) = check_small_job(tmp_path, "X,half,50,percent a year,two_points,2;1;1,me,")
    assert (claim.verdict, claim.computed) == ("consistent", pytest.approx(50))
    (claim,) = check_small_job(tmp_path, "X,third,50,percent a year,two_points,9;1;1,me,")
    assert claim.verdict == "off"


@pytest.mark.parametrize(
    "line",
    ["X,a,1,USD,magic,1,me,", "X,a,1,USD,ratio,1,me,", "X,a,one,USD,ratio,1;2,me,", "X,a,1,USD,ratio,,me,"],
)
def test_broken_rows_are_named(line: str, tmp_path: Path) -> None:
    """An unknown check, too few inputs, words for numbers."""
    with pytest.raises(DeclineError, match="claim X"):
        check_small_job(tmp_path, line)
