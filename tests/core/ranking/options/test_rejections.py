"""What stands beside the count of the machines that are not ranked."""

from __future__ import annotations

from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints


def test_three_reasons_are_shown_and_the_rest_counted() -> None:
    """Of machines that cannot be predicted: no number where all are shown."""
    names = ("A100-SXM-80GB", "H100-SXM-80GB", "T4-16GB", "V100-SXM2-16GB")
    for shown, end in ((3, "reason 2"), (4, "reason 2; and 1 more")):
        unknown = {name: f"reason {index}" for index, name in enumerate(names[:shown])}
        rows = [offer_row(instance_type=name, accelerator=name) for name in unknown]
        (rejection,) = rank(
            small_job(), book(*rows), Request(max_nodes=1), predict=ToyPredictor(unknown=unknown)
        ).rejections
        assert all(f"reason {index}" in rejection.detail for index in range(2))
        assert rejection.detail.endswith(end)


def test_the_nearest_miss_names_how_many_machines_it_is() -> None:
    """Two machines by their number, one by its name alone."""
    for most, name in ((1, "aws:a100.1x"), (2, "2 x aws:a100.1x")):
        request = Request(Constraints(deadline_hours=0.1), max_nodes=most)
        (rejection,) = rank(small_job(), book(offer_row()), request, predict=ToyPredictor()).rejections
        assert rejection.reason == "past_deadline"
        assert rejection.detail.startswith(f"{name} (on_demand): ")
