"""The sentence that names the first savings."""

from __future__ import annotations

from builders.recommendations import saving
from trainfare.report.saving_words import describe_savings
from trainfare_core.recommendation import ChangeRange


def test_the_largest_come_first_and_three_at_most() -> None:
    """By amount, not by group; one that may cost more shows it in its interval."""
    doubtful = ChangeRange(low_80=-12.5, high_80=30.0, low=-20.0, high=40.0)
    savings = (
        saving(),
        saving(lever="checkpoints", saved_usd=0.3),
        saving(lever="region", saved_usd=7.0),
        saving(lever="batch", group="training", saved_usd=9.0, saved_usd_range=doubtful),
    )
    assert describe_savings(savings) == (
        "To pay less: another global batch, $9.00 [-$12.50 to $30.00]; any region, $7.00 [$1.00 to $4.00]; "
        "validate half as often, $2.40 [$1.00 to $4.00]. `trainfare savings` says how."
    )


def test_what_is_not_known_well_has_no_dollars_and_comes_last() -> None:
    """It is named all the same: it may be the first thing to try."""
    savings = (saving(lever="compile", saved_usd=99.0, well_known=False), saving())
    text = describe_savings(savings)
    assert "validate half as often, $2.40 [$1.00 to $4.00]; torch.compile, not known well." in text
    assert "99" not in text


def test_what_is_said_elsewhere_and_nothing_are_left_out() -> None:
    """A screen that has a paragraph on spot machines does not say them twice."""
    assert describe_savings((saving(lever="spot"),), said_elsewhere=("spot",)) == ""
    assert describe_savings(()) == ""
