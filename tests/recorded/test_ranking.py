"""Rankings of drawn jobs, markets and limits, and what is said where there is no answer; see `builders.recorded`.

Reaches `trainfare_core.run_cost`, `trainfare_core.run_cost_facts`, `trainfare_core.interruptions`, `trainfare_core.prices`,
`trainfare_core.candidates`, `trainfare_core.recommendation`, `trainfare_core.limits.constraints` and `trainfare_core.prediction.porting` too.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest

from builders.profiles import gpt_profile, profile
from builders.recorded import answer_or_error, compare_with_recorded, fingerprint
from builders.toy_market import (
    GIB,
    ToyPredictor,
    block_job,
    book,
    decoder_job,
    in_precisions,
    offer_row,
    small_job,
)
from trainfare_core.job_profile import JobProfile, MeasuredStep, ParallelFacts, Quantiles
from trainfare_core.limits.constraints import QuotaLimit
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.prediction import predict as predict_plans
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.alternatives.nearest import surest, with_alternatives
from trainfare_core.ranking.alternatives.why_not import why_not
from trainfare_core.ranking.cost_outlook import cost_outlook
from trainfare_core.ranking.pricing.request import Request, objective_of
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, Option, Recommendation

MACHINES: tuple[dict[str, Any], ...] = (
    {"instance_type": "g6.2xlarge", "accelerator": "L4-24GB", "vcpus": 8.0, "network_gbit_per_s": 10.0, "usd_per_hour": 0.98},
    {"instance_type": "g4dn.xlarge", "accelerator": "T4-16GB", "vcpus": 4.0, "network_gbit_per_s": None, "usd_per_hour": 0.53},
    {"instance_type": "p4d.24xlarge", "accelerator": "A100-SXM-40GB", "accelerator_count": 8.0, "vcpus": 96.0,
     "network_gbit_per_s": 400.0, "usd_per_hour": 21.96},
    {"instance_type": "p5.48xlarge", "accelerator": "H100-SXM-80GB", "accelerator_count": 8.0, "vcpus": 192.0,
     "network_gbit_per_s": 3200.0, "usd_per_hour": 55.04},
    {"instance_type": "ml.g5.xlarge", "service": "sagemaker", "accelerator": "A10G-24GB", "vcpus": 4.0, "usd_per_hour": 1.41},
    {"instance_type": "trn1.2xlarge", "accelerator": "Trainium1", "vcpus": 8.0, "usd_per_hour": 1.34},
    {"instance_type": "inf2.xlarge", "accelerator": "Inferentia2", "vcpus": 4.0, "usd_per_hour": 0.76},
    {"provider": "azure", "service": "azure_vm", "instance_type": "Standard_NC24ads_A100_v4", "accelerator": "A100-PCIE-80GB",
     "vcpus": 24.0, "usd_per_hour": 3.67, "network_gbit_per_s": 20.0},
    {"provider": "azure", "service": "azure_ml", "instance_type": "Standard_ND96isr_H100_v5", "accelerator": "H100-SXM-80GB",
     "accelerator_count": 8.0, "vcpus": 96.0, "usd_per_hour": 98.32, "network_gbit_per_s": 3200.0},
    {"provider": "gcp", "service": "gce", "instance_type": "a2-highgpu-1g", "accelerator": "A100-SXM-40GB", "vcpus": 12.0,
     "usd_per_hour": 3.67, "network_gbit_per_s": 24.0},
    {"provider": "gcp", "service": "tpu", "instance_type": "tpu-v5e-4", "accelerator": "TPU-v5e", "accelerator_count": 4.0,
     "usd_per_hour": 4.8, "network_gbit_per_s": None},
    {"provider": "lambda", "service": "lambda", "instance_type": "gpu_1x_a100", "accelerator": "A100-SXM-40GB",
     "usd_per_hour": 1.29, "source_class": "reseller"},
    {"instance_type": "new.1x", "accelerator": "Nonesuch-9000", "usd_per_hour": 2.0},
)  # fmt: skip
REGIONS = {
    "aws": ("us-east-1", "eu-west-1", "ap-northeast-1", "us-gov-west-1"),
    "azure": ("eastus", "westeurope", "japaneast"),
    "gcp": ("us-central1", "europe-west4", "us-west4"),
    "lambda": ("us-east-1", "us-west-1"),
}
PART_OF_LIST_PRICE = {"on_demand": 1.0, "spot": 0.34, "reserved_1y": 0.6, "capacity_block": 0.7}
AS_OF = datetime(2026, 11, 30, tzinfo=timezone.utc)
TOY = ToyPredictor(
    seconds={
        "T4-16GB": 0.4, "A10G-24GB": 0.25, "L4-24GB": 0.3, "A100-SXM-40GB": 0.12, "A100-PCIE-80GB": 0.11,
        "H100-SXM-80GB": 0.05, "TPU-v5e": 0.15,
    },
    capacity_gib={"T4-16GB": 14.0, "A10G-24GB": 22.0, "L4-24GB": 22.0, "A100-SXM-40GB": 38.0},
    activation_gib=6.0, fixed_gib=10.0, memory_log_sigma=0.05, link_s=0.002, unknown={"Nonesuch-9000": "nobody knows it"},
)  # fmt: skip


def draw_book(draws: random.Random) -> PriceBook:
    """Draw offers of some machines in some regions, of prices of several ages."""
    rows = []
    for machine in draws.sample(MACHINES, draws.choice([3, 5, 9])):
        provider = machine.get("provider", "aws")
        for region in draws.sample(REGIONS[provider], 2):
            for purchase in sorted({"on_demand", draws.choice(list(PART_OF_LIST_PRICE))}):
                usd = (
                    machine["usd_per_hour"]
                    * PART_OF_LIST_PRICE[purchase]
                    * draws.choice([0.9, 1.0, 1.0, 1.25])
                )
                rows.append(
                    offer_row(
                        **{
                            **machine,
                            "region": region,
                            "zone": draws.choice([None, f"{region}a"]) if purchase == "spot" else None,
                            "purchase_option": purchase,
                            "usd_per_hour": round(usd, 4),
                            "observed_on": draws.choice(
                                ["2026-11-29", "2026-11-01", "2026-07-20", "2025-06-01", "2023-01-15"]
                            ),
                            "observed_on_estimated": draws.random() < 0.1,
                            "caveat": draws.choice([None, None, None, "preview price"]),
                        }
                    )
                )
    return book(*rows)


def draw_job(draws: random.Random) -> tuple[JobProfile, Any]:
    """Draw a job, and a toy that predicts it or None for the real prediction."""
    facts: dict[str, Any] = {
        "steps": draws.choice([None, 900, 9000, 36_000, 36_000, 400_000]),
        "every": draws.choice([None, 100, 1000]),
        "checkpoint_bytes": draws.choice([0, 3 * GIB, 140 * GIB]),
        "validation_batches": draws.choice([0, 5000]),
        "batch": draws.choice([16, 32, 48, 33]),
    }
    if facts["steps"] is None:
        facts["every"] = None
    parallel = draws.choice(
        [ParallelFacts(), ParallelFacts(strategy="ddp", devices=8), ParallelFacts(strategy="fsdp", devices=8, num_nodes=2),
         ParallelFacts(strategy="auto", accumulate_grad_batches=2)]
    )  # fmt: skip
    kind = draws.choice(["small", "blocks", "decoder", "precisions", "measured", "gpt", "resnet"])
    if kind in ("gpt", "resnet"):
        job = gpt_profile() if kind == "gpt" else profile(batch_size=128)
        plan = job.plan.model_copy(
            update={"optimizer_steps": facts["steps"], "checkpoint_every_n_steps": facts["every"]}
        )
        if facts["steps"] is None:
            plan = plan.model_copy(update={"unknown_because": "no length"})
        return job.model_copy(update={"plan": plan, "parallel": parallel}), None
    job = {
        "small": small_job, "blocks": block_job, "decoder": decoder_job, "precisions": small_job, "measured": small_job,
    }[kind](**facts, parallel=parallel)  # fmt: skip
    if kind == "precisions":
        job = in_precisions(job, "32-true", "16-mixed", "bf16-true")
    if kind == "measured":
        step = Quantiles(median_s=0.3, p10_s=0.29, p90_s=0.33)
        measured = MeasuredStep(
            device_name="NVIDIA L4",
            device_kind="cuda",
            steps=10,
            step=step,
            validation_batch=step,
            forward=step,
        )
        job = job.model_copy(update={"measured": measured})
    return job, TOY


def draw_constraints(draws: random.Random) -> Constraints:
    """Draw limits and filters; most are not given."""

    def sometimes(*values: Any, chance: float = 0.15) -> Any:
        return draws.choice(values) if draws.random() < chance else None

    fields: dict[str, Any] = {
        "max_usd": sometimes(6.0, 60.0, 1000.0, chance=0.4),
        "deadline_hours": sometimes(2.0, 10.0, 100.0, chance=0.4),
        "confidence": sometimes(0.5, 0.8, 0.99),
        "value_usd_per_hour": sometimes(0.5, 20.0),
        "value_usd_per_month": sometimes(50.0, 2000.0),
        "providers": sometimes("aws", ("gcp", "azure"), "lambda", chance=0.08),
        "purchase": sometimes(tuple(PART_OF_LIST_PRICE), tuple(PART_OF_LIST_PRICE), ("spot",), ("on_demand", "reserved_1y"), chance=0.5),
        "accelerators": sometimes(("A100-SXM-40GB", "A100-PCIE-80GB"), chance=0.06),
        "services": sometimes("ec2", chance=0.06),
        "excluded": sometimes("T4-16GB", "us-east-1", chance=0.2),
        "residency": sometimes("eu", "europe", "us", chance=0.06),
        "max_accelerators": sometimes(1, 8, 16),
        "quotas": sometimes(
            (QuotaLimit(provider="aws", family=("p4d", "p5"), vcpus=96), QuotaLimit(provider="gcp", family=("A100",), accelerators=1)),
            (QuotaLimit(provider="azure", family=("H100",), machines=2, region="eastus"),),
        ),
        "min_network_gbit_per_s": sometimes(20.0, 400.0, chance=0.06),
        "no_porting": sometimes(True, chance=0.2),
        "keep_plan": sometimes(True, chance=0.1),
        "allow": sometimes(("plan",), ("batch", "batch-norm"), ("checkpointing", "precision"), ("model-parallel", "plan"), chance=0.5),
        "max_run_hours": sometimes(2.0, 100.0, chance=0.15),
        "max_usd_per_hour": sometimes(5.0, 60.0, chance=0.15),
        "all_clouds": sometimes(True),
        "run_cost": sometimes(
            CostAssumptions(startup_s=90, disk_gb_per_s=0.2, checkpoints_kept=5, storage_months=2, data_objects=10**6, model_downloads=3),
            CostAssumptions(billing_step_s=3600, billing_minimum_s=7200, object_storage_usd_per_gb_month=0.05, read_request_usd=4e-7),
            CostAssumptions(compile_s=700, disk_usd_per_gib_month=0.2, system_disk_gib=200, egress_usd_per_gb=0.07, model_usd_per_gb=0.1),
        ),
    }  # fmt: skip
    if draws.random() < 0.3:
        fields |= {
            "data_in": draws.choice(["aws:us-east-1", "gcp:us-central1", "azure:westeurope", None]),
            "data_gb": draws.choice([5.0, 3000.0]),
        }
    return Constraints(**{name: value for name, value in fields.items() if value is not None})


def describe_option(option: Option | None) -> Any:
    """Return an option without what its offer says."""
    if option is None:
        return None
    given = {"tool_version", "vcpus", "currency", "price_source", "price_observed_on", "service"}
    return {key: value for key, value in option.model_dump(exclude_none=True).items() if key not in given}


def describe_recommendation(answer: Recommendation) -> Mapping[str, Any]:
    """Return the first and the last option as they are, and of the others that any change of a number moves."""
    options = answer.options
    columns = (
        "run_usd.mid", "run_usd.high_80", "run_hours.mid", "run_hours.low_80", "expected_usd", "usd_per_hour", "step_s.mid",
        "memory_gib.high_80", "probability_within", "cost_parts.storage_usd", "cost_parts.startup_usd", "cost_parts.interruption_usd",
        "cost_parts.checkpoint_usd", "cost_parts.validation_usd", "on_front", "needs_porting", "nodes",
    )  # fmt: skip

    def read_column(path: str) -> list[float]:
        values = []
        for option in options:
            value: Any = option
            for name in path.split("."):
                value = getattr(value, name)
            values.append(float("nan") if value is None else float(value))
        return values

    shown = answer.model_dump(exclude_none=True)
    for name in ("options", "job", "constraints", "price_books", "tool_version"):
        shown.pop(name, None)
    return {
        **shown,
        "first": describe_option(options[0] if options else None),
        "last": describe_option(options[-1] if len(options) > 1 else None),
        "best_spot": describe_option(answer.best_spot),
        "other_clouds": describe_option(answer.other_clouds),
        "machines": [f"{option.nodes} {option.instance_type} {option.region} {option.purchase_option}" for option in options],
        "numbers": [fingerprint(np.array(read_column(path))) for path in columns] if options else [],
        "notes": sorted({note.text for option in options for note in option.notes}),
        "alternatives": [
            {**alternative.model_dump(exclude={"option"}), "option": describe_option(alternative.option)}
            for alternative in answer.alternatives
        ],
    }  # fmt: skip


def draw_case(seed: int) -> tuple[JobProfile, PriceBook, Request, Any]:
    draws = random.Random(seed)
    job, toy = draw_job(draws)
    constraints = draw_constraints(draws)
    objective = objective_of(draws.choice([None, None, "fastest"]), constraints)
    request = Request(
        constraints, objective, limit=draws.choice([1, 3, 30]), max_nodes=draws.choice([None, 1, 8]),
        all_regions=draws.random() < 0.4, as_of=draws.choice([None, AS_OF]),
    )  # fmt: skip
    return job, draw_book(draws), request, toy


def answer_case(seed: int) -> Any:
    """Return the answer to one drawn case, the nearest runs where nothing fits, and why another machine is not it."""
    job, prices, request, toy = draw_case(seed)
    options = {"predict": predict_plans if toy is None else toy}
    answer = rank(job, prices, request, **options)
    if seed % 3 == 0:
        answer = with_alternatives(answer, job, prices, request, **options)
    said: dict[str, Any] = dict(describe_recommendation(answer))
    if seed % 3 == 1:
        machine = random.Random(seed).choice(sorted(set(prices.frame["instance_type"].to_list())))
        reason = answer_or_error(lambda: why_not(job, prices, request, machine, **options))
        said["why not"] = (
            reason if isinstance(reason, str) else [reason.sentence, reason.offers, reason.rejections]
        )
    if seed % 3 == 2:
        for quantity in ("usd", "hours"):
            sure = answer_or_error(
                lambda quantity=quantity: surest(job, prices, request, quantity, **options)
            )
            if hasattr(sure, "option"):
                sure = [sure.max_usd, sure.deadline_hours, sure.option.instance_type, sure.option.nodes]
            said[f"surest {quantity}"] = sure
    if answer.options:
        outlook = cost_outlook(answer.options[0], request.constraints).model_dump(exclude_none=True)
        said["outlook"] = [
            outlook["verdict"],
            outlook["because"],
            outlook.get("waiting"),
            outlook.get("assumptions"),
        ]
    return said


@pytest.mark.parametrize("part", range(4))
def test_rankings_of_drawn_markets(part: int) -> None:
    answers = {}
    for seed in range(24 * part, 24 * part + 24):
        answers[str(seed)] = answer_or_error(lambda seed=seed: answer_case(seed))
    compare_with_recorded(f"ranking_{part}", answers)
