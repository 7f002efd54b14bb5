"""Recommendations for tests: a frozen answer for a small GPT, with every kind of row that a report shows."""

from __future__ import annotations

import functools
import math
from typing import Any

from trainfare_core.job_profile import MeasuredStep, Quantiles
from trainfare_core.ranking.alternatives.why_not import WhyNot
from trainfare_core.ranking.cost_outlook import cost_outlook
from trainfare_core.recommendation import (
    ChangeRange,
    Constraints,
    CostParts,
    Interval,
    JobSummary,
    Note,
    Option,
    PriceBookFacts,
    Recommendation,
    Rejection,
    Saving,
    StepParts,
)

HOSTILE_NAMES = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "`code` | cell | `end",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "\u202egnp.exe\u2066\u200f\u200b",
    "line\nbreak\r\n| a | b |\n|---|---|",
    '=cmd|"/C calc"!A0',
    "$\\frac{1}{0}$ $x^$",
    "{{ 7 * 7 }}{% raw %}",
    "</td></table><iframe src=https://evil.example>",
    "<!-- --> &lt;b&gt; \\| \\` **bold** _it_ ~~s~~ www.evil.example https://evil.example",
    "]]></text></svg><style>*{display:none}</style>",
    "名前 \x9b31m \x00\x07\ufeff",
)


def interval(mid: float, sigma: float = 0.2) -> Interval:
    """Return a log-normal 80 % interval around `mid`."""
    factor = math.exp(1.2816 * sigma)
    return Interval(mid=round(mid, 6), low_80=round(mid / factor, 6), high_80=round(mid * factor, 6))


def saving(**overrides: Any) -> Saving:
    """Return one saving: $2.40 [$1.00 to $4.00] of $12.40 by validating half as often, on the machine of `option`."""
    fields: dict[str, Any] = {
        "lever": "validation",
        "group": "same_result",
        "machine": "aws:g6.2xlarge@us-east-1 (spot)",
        "usd": interval(10.0),
        "hours": interval(10.6),
        "plan": None,
        "saved_usd": 2.4,
        "saved_usd_range": ChangeRange(low_80=1.0, high_80=4.0, low=1.0, high=4.0),
        "saved_hours": 2.6,
        "pairs": None,
        "well_known": True,
    }
    return Saving(**fields | overrides)


def option(**overrides: Any) -> Option:
    """Return one option: a spot L4 machine on AWS. `hours`, `usd` and `step` give the medians of the intervals."""
    hours, dollars = overrides.pop("hours", 13.2), overrides.pop("usd", 12.4)
    step_s = overrides.pop("step", 0.475)
    fields: dict[str, Any] = {
        "rank": 1,
        "provider": "aws",
        "service": "ec2",
        "instance_type": "g6.2xlarge",
        "region": "us-east-1",
        "zone": None,
        "purchase_option": "on_demand",
        "accelerator": "L4-24GB",
        "accelerator_count": 1.0,
        "nodes": 1,
        "sharding": "none",
        "micro_batch_size": 8,
        "accumulate_grad_batches": 1,
        "step_s": interval(step_s),
        "samples_per_s": interval(8 / step_s),
        "run_hours": interval(hours),
        "run_usd": interval(dollars, 0.28),
        "usd_per_hour": round(dollars / hours, 4),
        "expected_usd": round(dollars * 1.02, 4),
        "memory_gib": interval(14.2, 0.06),
        "device_memory_gib": 22.5,
        "bound_by": "compute",
        "step_parts": parts(step_s, 0.62, 0.24, 0.09, 0.0, 0.05),
        "cost_parts": costs(dollars),
        "probability_within": None,
        "needs_porting": False,
        "on_front": False,
        "price_observed_on": "2026-07-20",
        "price_source": "aws/karpenter-provider-aws@1d927085dd81",
    }
    return Option(**{**fields, **overrides})


def parts(
    step_s: float, compute: float, memory: float, launch: float, communication: float, input_share: float
) -> StepParts:
    """Return the parts of a step from their shares; a third of the communication again is hidden."""
    return StepParts(
        compute_s=round(step_s * compute, 6),
        memory_s=round(step_s * memory, 6),
        launch_s=round(step_s * launch, 6),
        communication_s=round(step_s * communication, 6),
        communication_hidden_s=round(step_s * communication / 3, 6),
        input_s=round(step_s * input_share, 6),
    )


def costs(run_usd: float, interruption: float = 0.0) -> CostParts:
    """Return what the dollars are for; they add up to the run's."""
    shares = {"startup_usd": 0.02, "validation_usd": 0.03, "checkpoint_usd": 0.01, "storage_usd": 0.005}
    fixed = {name: round(run_usd * share, 6) for name, share in shares.items()}
    lost = round(run_usd * interruption, 6)
    return CostParts(
        training_usd=round(run_usd - sum(fixed.values()) - lost, 6), interruption_usd=lost, **fixed
    )


def _options() -> tuple[Option, ...]:
    return (
        option(
            rank=1, purchase_option="spot", zone="us-east-1c", hours=13.2, usd=5.15, on_front=True,
            cost_parts=costs(5.15, 0.06), notes=(Note(kind="spot", because="interruptions: 5 % an hour assumed"),),
        ),
        option(
            rank=2, provider="gcp", service="tpu", instance_type="tpu-v5e-4", region="us-west4", accelerator="TPU-v5e",
            accelerator_count=4.0, sharding="ddp", micro_batch_size=2, hours=3.61, usd=6.93, step=0.13, needs_porting=True,
            on_front=True, device_memory_gib=15.6, memory_gib=interval(11.8, 0.1), price_observed_on="2026-03",
            step_parts=parts(0.13, 0.41, 0.37, 0.04, 0.13, 0.05), bound_by="compute",
            price_source="skypilot-org/skypilot-catalog@006059e0f18a",
        ),
        option(rank=3, hours=13.2, usd=12.9),
        option(
            rank=4, provider="azure", service="azure_vm", instance_type="Standard_NC24ads_A100_v4", region="eastus",
            purchase_option="spot", accelerator="A100-PCIE-80GB", hours=4.02, usd=13.5, step=0.145, on_front=False,
            device_memory_gib=79.2, bound_by="memory", step_parts=parts(0.145, 0.37, 0.43, 0.12, 0.0, 0.08),
            cost_parts=costs(13.5, 0.08), price_observed_on="2026-06-18", price_source="Azure/karpenter-provider-azure@352646f59929",
        ),
        option(
            rank=5, provider="gcp", service="gce", instance_type="g2-standard-8", region="us-central1", hours=13.3, usd=13.6,
            price_observed_on="2026-11", price_source="Cyclenerd/google-cloud-pricing-cost-calculator@fd66b26",
        ),
        option(
            rank=6, provider="azure", service="azure_vm", instance_type="Standard_NC40ads_H100_v5", region="westeurope",
            accelerator="H100-NVL-94GB", hours=2.11, usd=15.2, step=0.076, on_front=True, device_memory_gib=93.0,
            bound_by="launch", step_parts=parts(0.076, 0.3, 0.22, 0.39, 0.0, 0.09), price_observed_on="2026-06-18",
            price_source="Azure/karpenter-provider-azure@352646f59929",
        ),
        option(
            rank=7, instance_type="p5.48xlarge", accelerator="H100-SXM-80GB", accelerator_count=8.0, sharding="ddp",
            micro_batch_size=1, hours=0.94, usd=41.2, step=0.033, on_front=True, device_memory_gib=79.1,
            bound_by="launch", step_parts=parts(0.033, 0.19, 0.17, 0.38, 0.18, 0.08), price_observed_on="2025-06-05",
            price_fetched_at="2026-11-24T09:30:00Z", price_source_class="price_api", price_source="pricing.us-east-1.amazonaws.com",
        ),
        option(
            rank=8, instance_type="p5.48xlarge", accelerator="H100-SXM-80GB", accelerator_count=8.0, nodes=2, sharding="fsdp",
            micro_batch_size=1, accumulate_grad_batches=2, hours=0.71, usd=62.5, step=0.025, on_front=True, device_memory_gib=79.1,
            bound_by="communication", step_parts=parts(0.025, 0.14, 0.13, 0.25, 0.41, 0.07), price_observed_on="2026-11-20",
            price_source_class="own",
        ),
        option(
            rank=9, service="sagemaker", instance_type="ml.g5.12xlarge", region="eu-west-1", accelerator="A10G-24GB",
            accelerator_count=4.0, sharding="ddp", micro_batch_size=2, hours=9.4, usd=66.6, step=0.33,
            bound_by="input", step_parts=parts(0.33, 0.2, 0.12, 0.07, 0.15, 0.46),
        ),
    )  # fmt: skip


def recommendation(**overrides: Any) -> Recommendation:
    """Return a whole-run answer with nine options over three clouds; any field can be given by name."""
    fields: dict[str, Any] = {
        "tool_version": "0.2.0",
        "job": job(),
        "basis": "whole_run",
        "objective": "cheapest",
        "constraints": Constraints(),
        "options": _options(),
        "options_total": 412,
        "cheapest_rank": 1,
        "fastest_rank": 8,
        "rejections": (
            Rejection(
                reason="does_not_fit",
                count=37,
                detail="T4-16GB: needs 19.3 GiB, has 14.6, misses by 4.7 GiB",
            ),
            Rejection(
                reason="cannot_train", count=109, detail="Inferentia2: made for inference; it has no training path"
            ),
            Rejection(reason="no_prediction", count=4, detail="Trainium2: no measured runs to calibrate with"),
        ),
        "price_books": (
            PriceBookFacts(
                provider="aws", service="ec2", origin="snapshot", rows=1808, oldest="2023-10", newest="2026-11-20",
                rows_read=1900, accepted=1808, filtered=80, quarantined=12,
            ),
            PriceBookFacts(provider="aws", service="sagemaker", origin="snapshot", rows=32, oldest="2026-07-20", newest="2026-07-20"),
            PriceBookFacts(provider="azure", service="azure_vm", origin="snapshot", rows=949, oldest="2026-06-18", newest="2026-06-18"),
            PriceBookFacts(provider="gcp", service="gce", origin="snapshot", rows=1778, oldest="2026-07-30", newest="2026-11"),
            PriceBookFacts(provider="gcp", service="tpu", origin="snapshot", rows=634, oldest="2026-03", newest="2026-03"),
        ),
        "assumptions": (
            "The global batch of 8 samples a step stays the same on every machine.",
            "Start-up takes 6 min a run; a spot machine is lost with a chance of 5 % an hour.",
            "Data is read in the region of the machine; egress is not priced.",
        ),
        "unknown_because": None,
    }  # fmt: skip
    return _with_outlook(Recommendation(**{**fields, **overrides}))


_outlook_of = functools.cache(cost_outlook)
"""The same few options are asked for by every test of the report."""


def _with_outlook(answer: Recommendation) -> Recommendation:
    best = next((option for option in answer.options if option.rank == answer.cheapest_rank), None)
    outlook = None if best is None else _outlook_of(best, answer.constraints)
    return answer.model_copy(update={"outlook": outlook})


def job(**overrides: Any) -> JobSummary:
    """Return the summary of a GPT with 124 M parameters, measured on a workstation card."""
    fields: dict[str, Any] = {
        "name": "gpt",
        "precision": "bf16-mixed",
        "parameters": 124_475_904,
        "trainable_parameters": 124_475_904,
        "step_flops": 6_990_000_000_000,
        "optimizer_steps": 100_000,
        "global_batch_size": 8,
        "optimizers": ("AdamW",),
        "trace_coverage": 0.9993,
        "measured_on": "NVIDIA RTX A4000",
        "measured_step_s": 0.612,
    }
    return JobSummary(**{**fields, **overrides})


def make_why_not(**overrides: Any) -> WhyNot:
    """Return why the machine `m` is not the answer, or what is given of it."""
    fields: dict[str, Any] = {
        "tool_version": "0",
        "machine": "m",
        "objective": "cheapest",
        "job": job(),
        "constraints": Constraints(),
        "offers": 1,
        "option": None,
        "best": None,
        "rejections": (),
        "sentence": "m costs more",
    }
    return WhyNot(**{**fields, **overrides})


def make_measured_step(**overrides: Any) -> MeasuredStep:
    """Return measured phases of one step on a workstation card; transfer was not measured."""
    fields: dict[str, Any] = {
        "device_name": "NVIDIA RTX A4000",
        "device_kind": "cuda",
        "steps": 10,
        "step": Quantiles(median_s=0.612, p10_s=0.601, p90_s=0.655),
        "data_wait": Quantiles(median_s=0.021, p10_s=0.004, p90_s=0.058),
        "forward": Quantiles(median_s=0.188, p10_s=0.186, p90_s=0.193),
        "backward": Quantiles(median_s=0.371, p10_s=0.369, p90_s=0.377),
        "optimizer": Quantiles(median_s=0.024, p10_s=0.024, p90_s=0.025),
        "peak_memory_bytes": 15 * 1024**3,
        "loader_workers": 2,
    }
    return MeasuredStep(**{**fields, **overrides})


def hostile_recommendation() -> Recommendation:
    """Return an answer in which every text that a plug-in, user or model can choose is hostile."""
    base = recommendation()
    options = tuple(
        option(
            rank=rank, provider=name, service=name, instance_type=name, region=name, zone=name, purchase_option=name,
            accelerator=name, price_observed_on=name, price_source=name, notes=(name,), on_front=True,
            hours=20.0 - rank, usd=float(rank),
        )
        for rank, name in enumerate(HOSTILE_NAMES, start=1)
    )  # fmt: skip
    everything = " ".join(HOSTILE_NAMES)
    hostile = base.model_copy(
        update={
            "job": job(name=everything, precision=everything, measured_on=everything),
            "options": options,
            "fastest_rank": len(options),
            "rejections": tuple(Rejection(reason="filtered", count=1, detail=name) for name in HOSTILE_NAMES),
            "price_books": tuple(
                PriceBookFacts(provider=name, service=name, origin=name, rows=1, oldest=name, newest=name)
                for name in HOSTILE_NAMES
            ),
            "assumptions": HOSTILE_NAMES,
            "constraints": Constraints(providers=HOSTILE_NAMES, regions=HOSTILE_NAMES),
            "tool_version": everything,
        }
    )
    return _with_outlook(hostile)


def no_answer() -> Recommendation:
    """Return an answer without options."""
    return recommendation(
        options=(),
        options_total=0,
        cheapest_rank=None,
        fastest_rank=None,
        unknown_because="No machine can hold the job: the nearest, H200-SXM-141GB, misses by 12.3 GiB",
    )
