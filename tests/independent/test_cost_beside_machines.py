"""
Twins, written from the definitions, of what a run pays beside its machines.

Each of them counts, GB by GB, hour by hour or start by start, what the product has a formula for. Prices are typed in from
the public sources named beside them.
"""

from __future__ import annotations

import io
import math
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch

from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.job_profile import OptimizerFacts, ParameterGroup
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, Option
from trainfare_core.run_cost.billing import rounding_s
from trainfare_core.run_cost.model import compute_trained_model_gb
from trainfare_core.run_cost.table import NOT_SPOT, RunTable

GB, GIB = 10**9, 2**30
HOURS_A_MONTH = 8760 / 12

AWS_TIERS = ((100, 0.0), (10_240, 0.09), (51_200, 0.085), (153_600, 0.07), (math.inf, 0.05))
"""Up to so many GB of 2^30 bytes a month, USD each: aws.amazon.com/ec2/pricing/on-demand, data transfer out, us-east-1."""

TOY = ToyPredictor({"A100-SXM-80GB": 0.1})


def rank_one(
    job: Any = None, purchase: str = "on_demand", place: str = "aws:us-east-1", **asked: Any
) -> Option:
    """Return the option of one machine, of an A100 at 4 USD an hour."""
    provider, region = place.split(":")
    service = {"aws": "ec2", "gcp": "gce", "azure": "azure_vm"}[provider]
    row = offer_row(provider=provider, service=service, region=region, purchase_option=purchase)
    request = Request(Constraints(**asked, purchase=(purchase,)), max_nodes=1)
    (option,) = rank(job or small_job(), book(row), request, predict=TOY).options
    return option


@pytest.mark.parametrize("data_gb", [3, 107.4, 900, 12_000])
def test_egress_is_paid_gb_by_gb(data_gb: float) -> None:
    """Each started billing unit of the data set has the price of the tier that it falls in; the last one in part."""
    billed = data_gb * GB / GIB
    usd = 0.0
    for unit in count():
        if unit >= billed:
            break
        price = next(price for end, price in AWS_TIERS if unit < end)
        usd += price * min(1.0, billed - unit)
    option = rank_one(place="gcp:us-central1", data_in="aws:us-east-1", data_gb=data_gb)
    assert option.cost_parts.transfer_usd == pytest.approx(usd)


@pytest.mark.parametrize(
    ("source", "place", "usd_per_unit", "unit"),
    [
        ("aws:us-east-1", "aws:us-east-2", 0.01, GIB),  # usage type USE1-USE2-AWS-Out-Bytes of the price list
        ("aws:us-east-1", "aws:us-west-2", 0.02, GIB),
        (
            "azure:eastus",
            "azure:westeurope",
            0.05,
            GB,
        ),  # Azure, bandwidth: from North America to other continents
        ("gcp:us-east1", "gcp:us-central1", 0.02, GIB),  # Google, network pricing, per GiB
    ],
)
def test_the_data_are_sent_once_whatever_the_number_of_files(
    source: str, place: str, usd_per_unit: float, unit: float
) -> None:
    """Bytes of 1,000 files are added up and divided by what the cloud's bill calls a GB."""
    files = np.random.default_rng(7).integers(1, 4 * 10**8, 1_000)
    usd = sum(int(size) for size in files) / unit * usd_per_unit
    option = rank_one(place=place, data_in=source, data_gb=float(files.sum()) / GB)
    assert option.cost_parts.transfer_usd == pytest.approx(usd, rel=1e-6)


def test_storage_hour_by_hour_of_a_run_that_waits() -> None:
    """
    What is stored in each tenth of a second of a spot run, at gp3's 0.08 USD per GiB and S3's 0.023 per GB and month.

    While machines are billed: two checkpoints, the system disk, the machine's copy of the data, and the data set in its
    place. While the run waits for capacity: the checkpoints and the data set; the machine and its disks are gone.
    """
    data_gb, checkpoint_gb, step_hours = 400.0, 50.0, 1 / 36_000
    job = small_job(checkpoint_bytes=int(checkpoint_gb * GB), every=1_000)
    option = rank_one(job, "spot", data_in="aws:us-east-1", data_gb=data_gb)
    assert option.spot is not None
    waiting_hours = option.spot.waiting_hours
    beside_machines = {"storage_usd", "transfer_usd", "object_storage_usd", "model_usd"}
    billed_usd = sum(option.cost_parts.model_dump(exclude=beside_machines).values())
    billed_hours = billed_usd / option.usd_per_hour
    assert waiting_hours > 0.001
    disks_gib_hours = objects_gb_hours = 0.0
    for hours, machine in ((billed_hours, 1), (waiting_hours, 0)):
        for _ in range(round(hours / step_hours)):
            disks_gib_hours += step_hours * (
                2 * checkpoint_gb * GB / GIB + machine * (100 + data_gb * GB / GIB)
            )
            objects_gb_hours += step_hours * data_gb * GB / GIB
    parts = option.cost_parts
    assert parts.storage_usd == pytest.approx(disks_gib_hours * 0.08 / HOURS_A_MONTH, rel=1e-3)
    assert parts.object_storage_usd == pytest.approx(objects_gb_hours * 0.023 / HOURS_A_MONTH, rel=1e-3)
    assert sum(parts.model_dump().values()) == pytest.approx(option.run_usd.mid, rel=1e-6)


def test_the_copy_in_the_run_s_region_is_stored_as_long_as_the_data() -> None:
    """
    The same data set twice while the run lasts, at the 0.023 USD of us-east-1 (aws.amazon.com/s3/pricing).

    The copy is planned at the price of the original: in eastus it is 0.0208, a tenth less.
    """
    data_gb = 1_000.0
    here, far = (
        rank_one(place=place, data_in="aws:us-east-1", data_gb=data_gb)
        for place in ("aws:us-east-1", "azure:eastus")
    )
    for option, usd_per_month in (
        (here, data_gb * GB / GIB * 0.023),
        (far, 2 * data_gb * GB / GIB * 0.023),
    ):
        hours = option.run_hours.mid + option.cost_parts.rounding_usd / option.usd_per_hour
        usd = usd_per_month / HOURS_A_MONTH * hours
        assert option.cost_parts.object_storage_usd == pytest.approx(usd, rel=1e-6)


@pytest.mark.parametrize("saved", ["all", "weights", "with a moving average", "nothing"])
def test_the_trained_model_has_the_size_of_its_file(saved: str) -> None:
    """
    Real tensors, saved by torch: of a checkpoint with AdamW's state all but that state is the model.

    A file of torch.save is larger by its index, here below 1 %.
    """
    model = torch.nn.Sequential(
        torch.nn.Linear(600, 600), torch.nn.BatchNorm1d(600), torch.nn.Linear(600, 600)
    )
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 600)).sum().backward()
    optimizer.step()
    average = {name: value.clone() for name, value in model.state_dict().items()}
    state = [value for slots in optimizer.state.values() for value in slots.values()]
    weights = model.state_dict() | (
        {f"average.{k}": v for k, v in average.items()} if "average" in saved else {}
    )
    checkpoint: list[torch.Tensor] = [*weights.values(), *(state if saved != "weights" else [])]
    file = io.BytesIO()
    torch.save(weights, file)
    parameters = sum(value.nbytes for value in model.parameters())
    job = small_job(
        checkpoint_bytes=0 if saved == "nothing" else sum(value.nbytes for value in checkpoint),
        parameters=(
            ParameterGroup(dtype="fp32", trainable=True, count=parameters // 4, parameter_bytes=parameters),
        ),
        optimizer=OptimizerFacts(names=("AdamW",), state_bytes=sum(value.nbytes for value in state)),
    )
    assert compute_trained_model_gb(job) * GB == pytest.approx(len(file.getvalue()), rel=0.01)


def test_a_model_is_uploaded_byte_by_byte() -> None:
    """7 billion weights in 16 bits and AdamW's state of 8 bytes each, sent to us-east-1 from us-west-2 at 2 cents."""
    group = ParameterGroup(dtype="bf16", trainable=True, count=7 * GB, parameter_bytes=14 * GB)
    job = small_job(
        checkpoint_bytes=(14 + 56) * GB,
        parameters=(group,),
        optimizer=OptimizerFacts(names=("AdamW",), state_bytes=56 * GB),
    )
    own = CostAssumptions(model_downloads=1)
    option = rank_one(job, place="aws:us-west-2", data_in="aws:us-east-1", data_gb=1.0, run_cost=own)
    upload_usd = 14 * GB / GIB * 0.02
    download_usd = 14 * GB / GIB * 0.12  # a planning figure: the egress of us-west-2 is in no table
    assert option.cost_parts.model_usd == pytest.approx(upload_usd + download_usd)


@pytest.mark.parametrize(
    ("step_s", "minimum_s", "per_hour"),
    [(1.0, 60.0, (0.5,)), (1.0, 300.0, (0.1, 1.0, 4.0)), (60.0, 0.0, (0.2,)), (1.0, 300.0, (30.0,))],
)
def test_billed_time_start_by_start(step_s: float, minimum_s: float, per_hour: tuple[float, ...]) -> None:
    """
    Runs of 3 hours of work whose rate of interruptions is one of several: each start is rounded up, and to the minimum.

    The formula is given how many interruptions there are on average, which the simulation counts.
    """
    random = np.random.default_rng(3)
    work_s, runs = 3 * 3600.0, 5_000
    unused_s, interruptions = 0.0, 0
    for run in range(runs):
        rate_per_s = per_hour[run % len(per_hour)] / 3600
        left_s = work_s
        while left_s > 0:
            start_s = min(float(random.exponential(1 / rate_per_s)), left_s)
            interruptions += start_s < left_s
            left_s -= start_s
            unused_s += max(math.ceil(start_s / step_s * (1 - 1e-9)) * step_s, minimum_s) - start_s
    columns: dict[str, Any] = {name: np.zeros(1) for name in RunTable.__dataclass_fields__}
    columns |= {"training_s": np.array([work_s]), "hazard": np.array([NOT_SPOT])}
    columns["interruptions"] = np.array([interruptions / runs])
    rates = np.array([per_hour]) / 3600
    formula_s = rounding_s(RunTable(**columns), rates, np.array([step_s]), np.array([minimum_s]))[0]
    assert formula_s == pytest.approx(unused_s / runs, rel=0.05, abs=0.5)
