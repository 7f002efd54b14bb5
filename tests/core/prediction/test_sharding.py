"""What data-parallel devices share, in memory and in time: DDP, FSDP, hybrid FSDP, ZeRO-1 and ZeRO-2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders.toy_market import shapes, small_job
from trainfare_core.candidates import SHARDINGS, PlanSpace, enumerate_candidates, take
from trainfare_core.job_profile import JobProfile, MemoryFacts, OptimizerFacts, ParameterGroup
from trainfare_core.prediction import predict

A100 = "A100-SXM-80GB"
GB = 10**9
LLAMA = JobProfile.from_json(Path("docs/examples/llama-7b.json").read_bytes())


def plain_job() -> JobProfile:
    """Return a job that is no language model: 4 GB of weights and of gradients, 8 GB of optimizer state."""
    return small_job(
        precision="32-true",
        parameters=(ParameterGroup(dtype="fp32", trainable=True, count=GB, parameter_bytes=4 * GB),),
        optimizer=OptimizerFacts(names=("Adam",), state_bytes=8 * GB),
        memory=MemoryFacts(saved_activation_bytes=GB, gradient_bytes=4 * GB),
    )


def of_sharding(
    job: JobProfile, *, nodes: int, gbit_per_s: float = 100.0, accumulate: int = 1
) -> dict[str, np.ndarray]:
    """Return step seconds, seconds of all communication, and GB of the peak by sharding, on machines of 4 devices."""
    machines = shapes((A100, 4.0, gbit_per_s))
    plans = enumerate_candidates(job, machines, PlanSpace(nodes, deepspeed=True))
    whole = plans.devices_of(machines) == 4
    plans = take(plans, whole & (plans.nodes == nodes) & (plans.accumulate == accumulate))
    table = predict(job, machines, plans)
    moved_s = table.communication_s + table.communication_hidden_s
    columns = np.stack([table.step_s, moved_s, table.memory_bytes / GB], axis=1)
    return {SHARDINGS[code]: columns[row] for row, code in enumerate(plans.sharding)}


def test_each_sharding_divides_its_part_of_the_memory() -> None:
    """ZeRO-1 saves state, ZeRO-2 gradients as well, FSDP weights as well; hybrid FSDP over a machine and not over both."""
    values_by_key, two = (of_sharding(plain_job(), nodes=nodes) for nodes in (1, 2))
    gb = {name: column[2] for name, column in values_by_key.items()}
    # The peak is the sum of its parts times the fit of its class; DDP holds 4 GB of buckets that ZeRO does not.
    assert gb["fsdp"] < gb["zero2"] < gb["zero1"] < gb["ddp"] - 8 * 3 / 4
    assert 4 * 3 / 4 <= gb["zero1"] - gb["zero2"] <= 4 * 3 / 4 * 1.3
    both = {name: column[2] for name, column in two.items()}
    assert both["fsdp"] < both["hybrid"]
    assert both["hybrid"] == pytest.approx(gb["fsdp"], rel=0.05)  # with half its micro-batch


@pytest.mark.parametrize("job", [plain_job(), LLAMA], ids=["operations", "language-model"])
def test_machines_with_a_slow_network_exchange_less_under_hybrid_fsdp(job: JobProfile) -> None:
    """Weights are gathered inside a machine: only gradients cross the network, as under DDP."""
    slow = of_sharding(job, nodes=2, gbit_per_s=10.0)
    assert slow["hybrid"][0] < slow["fsdp"][0]
    assert slow["hybrid"][1] < slow["fsdp"][1]
    assert slow["hybrid"][1] > slow["ddp"][1]


@pytest.mark.parametrize("job", [plain_job(), LLAMA], ids=["operations", "language-model"])
def test_zero_exchanges_as_much_as_ddp_until_gradients_accumulate(job: JobProfile) -> None:
    """A reduction and a gathering are an all-reduce; ZeRO-2 reduces after every backward, ZeRO-1 after the last."""
    once, often = of_sharding(job, nodes=1), of_sharding(job, nodes=1, accumulate=2)
    for name in ("zero1", "zero2"):
        assert once[name][1] == pytest.approx(once["ddp"][1], rel=0.05)
        assert once[name][0] <= once["ddp"][0]
    assert often["zero1"][1] == pytest.approx(often["ddp"][1], rel=0.05)
    assert often["zero2"][1] == pytest.approx(1.5 * often["ddp"][1], rel=0.1)
