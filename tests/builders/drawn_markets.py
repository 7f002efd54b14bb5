"""Price books and answers for properties: drawn from a few machines, with coarse prices, so that ties are common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Option, Recommendation

MACHINES: tuple[dict[str, Any], ...] = (
    {"instance_type": "t4.1x", "accelerator": "T4-16GB"},
    {"instance_type": "a100.1x", "accelerator": "A100-SXM-80GB"},
    {"instance_type": "a100.8x", "accelerator": "A100-SXM-80GB", "accelerator_count": 8.0},
    {"instance_type": "a100.3x", "accelerator": "A100-SXM-80GB", "accelerator_count": 3.0},
    {"instance_type": "nd.1x", "accelerator": "A100-SXM-80GB", "provider": "azure", "service": "azure_vm"},
    {"instance_type": "h100.8x", "accelerator": "H100-SXM-80GB", "accelerator_count": 8.0, "provider": "gcp", "service": "gce"},
    {"instance_type": "v5e-4", "accelerator": "TPU-v5e", "accelerator_count": 4.0, "provider": "gcp", "service": "tpu"},
    {"instance_type": "inf", "accelerator": "Inferentia2"},
    {"instance_type": "new", "accelerator": "Nonesuch-9000"},
)  # fmt: skip
TOY = ToyPredictor(
    seconds={"T4-16GB": 0.4, "A100-SXM-80GB": 0.1, "H100-SXM-80GB": 0.05, "TPU-v5e": 0.15},
    capacity_gib={"T4-16GB": 4.0},
    activation_gib=20.0,
    link_s=0.001,
)
EVERYTHING = 100_000

Row = dict[str, Any]


@st.composite
def books(draw: st.DrawFn, *, least: int = 1) -> list[Row]:
    """Draw rows with distinct keys; prices are coarse, so that ties are common."""
    keys = draw(
        st.lists(
            st.tuples(
                st.integers(0, len(MACHINES) - 1),
                st.sampled_from(["us-east-1", "us-west-2", "eu-west-1"]),
                st.sampled_from([None, "a", "b"]),
                st.sampled_from(["on_demand", "spot"]),
            ),
            min_size=least,
            max_size=9,
            unique=True,
        )
    )
    prices = draw(st.lists(st.integers(1, 40), min_size=len(keys), max_size=len(keys)))
    return [
        offer_row(
            **MACHINES[machine], region=region, zone=zone, purchase_option=purchase, usd_per_hour=price / 4
        )
        for (machine, region, zone, purchase), price in zip(keys, prices, strict=True)
    ]


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A loaded machine is no counter-example."""


def rank_rows(
    rows: Sequence[Row] | PriceBook, *, job: Any = None, every: bool = True, **options: Any
) -> Recommendation:
    """Return the whole ranking of a small job, or as the options of `Request` say."""
    prices = rows if isinstance(rows, PriceBook) else book(*rows)
    toy = options.pop("predict", TOY)
    request = Request(**{"max_nodes": 2, "limit": EVERYTHING, "all_regions": every, **options})
    return rank(job or small_job(), prices, request, predict=toy)


def key(option: Option) -> tuple[object, ...]:
    """Return what tells options apart."""
    return (
        option.provider,
        option.instance_type,
        option.region,
        option.zone,
        option.purchase_option,
        option.nodes,
    )


def offer_key(row: Row) -> tuple[object, ...]:
    """Return what tells offers apart."""
    names = ("provider", "service", "instance_type", "region", "zone", "purchase_option")
    return tuple(row[name] for name in names)
