"""What a new account may start."""

from __future__ import annotations

import pytest

from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.ranking.quotas import QUOTA_NOTE, quota_notes
from trainfare_core.ranking.rank import rank
from trainfare_core.ranking.request import Request


@pytest.mark.parametrize(
    ("offer", "name"),
    [
        (offer_row(instance_type="p5.48xlarge"), "Running On-Demand P instances"),
        (offer_row(instance_type="g5.xlarge"), "Running On-Demand G"),
        (offer_row(instance_type="p5.48xlarge", purchase_option="capacity_block"), None),
        (offer_row(instance_type="trn1.2xlarge"), None),
        (offer_row(provider="azure", service="azure_vm", instance_type="Standard_ND96isr_H100_v5"), None),
    ],
)
def test_only_a_quota_that_is_known_to_be_0_is_told(offer: dict[str, object], name: str | None) -> None:
    """P and G machines of EC2 have one; a capacity block does not use it, and of others nothing is known."""
    notes = quota_notes(offer)
    assert len(notes) == (name is not None)
    assert all(note.startswith(QUOTA_NOTE) and str(name) in note for note in notes)


def test_an_option_has_the_note() -> None:
    """The note is with the machine that it is about, and with no other."""
    prices = book(
        offer_row(instance_type="p4d.24xlarge"), offer_row(instance_type="a100.1x", usd_per_hour=9.0)
    )
    answer = rank(small_job(), prices, Request(max_nodes=1), predict=ToyPredictor({"A100-SXM-80GB": 0.1}))
    told = {
        option.instance_type: any(QUOTA_NOTE in note for note in option.notes) for option in answer.options
    }
    assert told == {"p4d.24xlarge": True, "a100.1x": False}
