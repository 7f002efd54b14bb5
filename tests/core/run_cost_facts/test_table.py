"""The choice between rows about the same, and when the table is read."""

from __future__ import annotations

from functools import partial

import pytest

from builders.cli import run_python
from builders.facts import fact
from trainfare_core.run_cost_facts import Amount, Unknown
from trainfare_core.run_cost_facts.facts import Fact
from trainfare_core.run_cost_facts.table import choose


def choose_row(*rows: Fact, region: str = "north") -> Fact:
    choice = choose(rows, region, "the fact")
    assert not isinstance(choice, Unknown)
    assert set(choice.unused) | {choice.row} == {row for row in rows if row.region in (region, "*")}
    return choice.row


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (fact(1, region="north", weak="marketing", as_of="2020"), fact(2)),
        (fact(1, source_class="quote", as_of="2020"), fact(2, source_class="price_api", weak="contradicted")),
        (fact(1, source_class="price_api", as_of="2020"), fact(2, source_class="api_copy")),
        (fact(1, source_class="api_copy", as_of="2020"), fact(2, source_class="documentation")),
        (fact(1, source_class="documentation", as_of="2020"), fact(2, source_class="catalogue")),
        (fact(1, source_class="catalogue", as_of="2020"), fact(2, source_class="quote")),
        (fact(1, as_of="2026-09-02"), fact(2, as_of="2026-09")),
    ],
    ids=["own region", "no mark", "api", "copy of an api", "documentation", "list", "newer"],
)
def test_the_better_row_is_used(better: Fact, worse: Fact) -> None:
    """Region, then no mark, then class of source, then date: each outweighs all after it, in either order of rows."""
    assert choose_row(better, worse) is better
    assert choose_row(worse, better) is better


def test_rows_of_equal_worth_that_differ_are_unknown() -> None:
    unknown = choose([fact(1), fact(2)], "north", "the step")
    assert isinstance(unknown, Unknown)
    assert unknown.because.startswith("the step in north is not known: sources of equal worth differ: ")
    assert "1.0" in unknown.because
    assert "2.0" in unknown.because


def test_rows_of_equal_worth_that_agree_are_one_answer() -> None:
    assert choose_row(fact(1), fact(1)).value == 1
    assert choose_row(fact("11:30"), fact("11:30")).words == "11:30"


def test_words_that_differ_are_unknown() -> None:
    assert isinstance(choose([fact("11:30"), fact("12:00")], "*", "the start"), Unknown)


def test_a_row_of_another_region_is_not_used() -> None:
    assert choose([fact(1, region="south")], "north", "the step") == Unknown(
        "the step in north is not known; it is known in south", ("south",)
    )
    assert choose([], "north", "the step") == Unknown("the step is not known")


def test_the_region_match_says_how_the_row_fits() -> None:
    rows = [fact(1, region="north"), fact(2)]
    for region, match, value in (("north", "exact", 1), ("south", "everywhere", 2), ("*", "everywhere", 2)):
        choice = choose(rows, region, "the step")
        assert not isinstance(choice, Unknown)
        assert (choice.region_match, choice.row.value) == (match, value)


def test_doubt_is_carried_into_the_answer() -> None:
    choice = choose([fact(1, weak="marketing")], "*", "the step")
    assert not isinstance(choice, Unknown)
    answer = Amount(value=choice.row.value, **choice.fields())
    assert (answer.weak, answer.weak_because) == (True, "it is marketing")


run = partial(run_python, "-c", check=True)


def test_the_table_is_read_once_on_the_first_lookup() -> None:
    run(
        "from trainfare_core import run_cost_facts as facts\n"
        "info = facts.all_facts.cache_info\n"
        "assert info().misses == 0\n"
        "facts.find_fact('spot_notice', 'aws', service='ec2')\n"
        "facts.find_fact('egress_internet', 'aws', 'us-east-1')\n"
        "assert info().misses == 1"
    )


@pytest.mark.parametrize("arguments", [["--help"], ["offers", "--limit", "1"], ["recommend", "--help"]])
def test_commands_do_not_load_the_facts(arguments: list[str]) -> None:
    """Who asks for no fact does not pay for them."""
    run(
        "import sys\nfrom trainfare.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "assert 'trainfare_core.run_cost_facts' not in sys.modules"
    )
