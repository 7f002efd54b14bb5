"""Which paragraphs the first screen leaves out, and where they are shown then."""

from __future__ import annotations

from datetime import date

from builders.recommendations import costs, job, option, recommendation, saving
from builders.reports import render_terminal
from trainfare.report.first_screen import list_paragraphs
from trainfare.report.first_screen_lines import MAX_LINES, Owner, Paragraph, choose_paragraphs
from trainfare_core.hardware.earlier_runs import EarlierRuns
from trainfare_core.recommendation import Commitment, Constraints, Rejection

TODAY = date(2026, 11, 24)
FULL = recommendation(
    options=(
        option(rank=1, usd=5.0, hours=9.0, cost_parts=costs(5.0, 0.5)),
        option(rank=2, usd=6.0, hours=8.0, instance_type="g5.xlarge"),
        option(rank=3, usd=3.0, hours=9.5, instance_type="tpu-a", needs_porting=True),
        option(rank=4, usd=7.0, hours=1.0, instance_type="tpu-b", needs_porting=True),
    ),
    cheapest_rank=1,
    fastest_rank=2,
    best_spot=option(usd=0.5, purchase_option="spot"),
    best_commitment=option(
        purchase_option="reserved_1y", commitment=Commitment(hours=8760, usd=152_424, pays_from_use=0.634)
    ),
    raised_max_nodes=64,
    savings=(saving(), saving(lever="spot", saved_usd=9.0)),
    constraints=Constraints(deadline_hours=24.0),
    rejections=(Rejection(reason="too_long", count=9, machines=7, detail="T4"),),
    job=job(steps_note="max_time (60 s) may end it earlier: an upper bound"),
    earlier_runs=(
        EarlierRuns(
            silicon="L4", accelerators=("L4-24GB",), runs=("a",), factor=1.2, log_sigma=0.1, shared_log_sigma=0.2,
            published_log_sigma=0.3, least_log_sigma=0.01,
        ),
    ),
    assumptions=("own discount 'EDP': 12.5 % off 986 list prices",),
    own_prices=("discount 'EDP': 12.5 % off 986 list prices",),
)  # fmt: skip
"""An answer with something to say under nearly every owner."""

GIVING_WAY: dict[Owner, str] = {
    Owner.REJECTED: "too long 7 9 T4",
    Owner.JOB: "100,000 optimizer steps",
    Owner.OUTLOOK: "Train now. This run costs $5.00 now",
    Owner.COMMITMENT: "reserved 1 year at $0.94/h: $152,424 for the term, used or not, pays from 63 % use",
    Owner.SPOT: "Spot is not ranked. The cheapest, 1 x g6.2xlarge",
    Owner.NODES: "up to 64 of one kind were tried.",
    Owner.SAVINGS: "validate half as often $2.40 $1.00 to $4.00 2.6 aws:g6.2xlarge@us-east-1 (spot)",
    Owner.CONSTRAINTS: "Constraints: within 24 h",
    Owner.PORTED: "1 x tpu-a",
    Owner.EARLIER_RUNS: "Times on the die L4 are",
    Owner.COST_DRIVER: "Cheapest: 50 % of its cost is work that interruptions repeat.",
    Owner.OWN_PRICES: "own discount 'EDP': 12.5 % off 986 list prices",
    Owner.EARLY_END: "max_time (60 s) may end it earlier: an upper bound",
}
"""The paragraphs in the order in which they are left out, each with its text in the whole report."""


def test_what_is_least_important_gives_way_to_four_more_lines_and_stays_in_the_whole_report() -> None:
    """The screen is full: one planted paragraph of a higher rank after the other drives out the weakest, and no other."""
    paragraphs = list_paragraphs(FULL, profile=None, as_of=TODAY, width=100)
    kept = choose_paragraphs(paragraphs, 100)
    planted = [Paragraph(Owner.MORE, f"line {number} of higher rank") for number in range(4)]
    with_four = choose_paragraphs([*paragraphs, *planted], 100)
    assert with_four[-4:] == planted
    assert len([line for paragraph in with_four for line in paragraph.lines(100)]) <= MAX_LINES
    gone = [paragraph.owner for paragraph in kept if paragraph not in with_four]
    assert gone == [Owner.SPOT, Owner.COMMITMENT]
    details = " ".join(render_terminal(FULL, as_of=TODAY).split())
    for owner, said in GIVING_WAY.items():
        assert said in details, owner


def test_paragraphs_give_way_in_the_order_of_their_owners() -> None:
    """As the lines grow fewer, each that goes is the weakest that was left; the answer, plan, doubt and way out stay."""
    paragraphs = list_paragraphs(FULL, profile=None, as_of=TODAY, width=100)
    lines = [Paragraph(Owner.ANSWER, f"line {number}") for number in range(30)]
    gone: list[Owner] = []
    for count in range(31):
        kept = choose_paragraphs([*paragraphs, *lines[:count]], 100)
        missing = [paragraph.owner for paragraph in paragraphs if paragraph not in kept]
        assert set(gone) <= set(missing)
        gone += sorted(set(missing) - set(gone), reverse=True)
    assert gone == list(GIVING_WAY)
    assert {paragraph.owner for paragraph in kept} == {Owner.ANSWER, Owner.DOUBT, Owner.MORE, Owner.NEXT}
