"""Predicted steps and memory of many plans of many jobs; see `builders.recorded`.

Reaches `trainfare_core.hardware` and `trainfare_core.job_profile` too.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.plans import plan, shapes
from builders.profiles import gpt_profile, profile
from builders.recorded import answer_or_error, compare_with_recorded, fingerprint
from builders.toy_market import block_job, decoder_job, in_precisions
from trainfare_core.candidates import ModelParallel, PlanSpace, enumerate_candidates, plan_gaps
from trainfare_core.job_profile import (
    BatchFacts,
    BatchVariation,
    JobProfile,
    MeasuredStep,
    OperationGroup,
    ParallelFacts,
    ProfileSource,
    Quantiles,
    SynchronizedNorms,
)
from trainfare_core.prediction import predict, predict_machine
from trainfare_core.prediction.language_models.sums import GRAPH_PRECISION, LIBRARY_PRECISION
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.variants import (
    PRODUCTS,
    head_width,
    in_8_bits,
    is_in_8_bits,
    may_be_in_8_bits,
    of_narrow_type,
    variants_of,
)

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CHIPS = (
    "T4-16GB", "V100-SXM2-16GB", "L4-24GB", "L40S-48GB", "A100-SXM-80GB", "H100-SXM-80GB", "H200-SXM-141GB", "MI300X",
    "Gaudi3-128GB", "TPU-v5e", "TPU-v5p", "Trainium2", "Inferentia2", "Nonesuch-9000",
)  # fmt: skip
EVERYTHING = PlanSpace(max_nodes=8, deepspeed=True, checkpointing=True, precision=True, model_parallel=True)
SPACES = {
    "usual": PlanSpace(),
    "everything": EVERYTHING,
    "kept": PlanSpace(keep_plan=True, max_nodes=64),
    "other batch": PlanSpace(other_batch=True, lower_batch_norm=True),
}


def quantiles(seconds: float) -> Quantiles:
    return Quantiles(median_s=seconds, p10_s=seconds * 0.9, p90_s=seconds * 1.2)


def make_measured(step_s: float, **fields: Any) -> MeasuredStep:
    facts: dict[str, Any] = {"device_name": "Tesla V100-SXM2-16GB", "device_kind": "cuda", "steps": 10}
    return MeasuredStep(**{**facts, "step": quantiles(step_s), **fields})


def list_jobs() -> dict[str, JobProfile]:
    """Return jobs of every kind that the prediction knows."""
    resnet = profile(batch_size=128, dtype="fp16")
    gpt, large = gpt_profile(), gpt_profile(layers=32, width=4096, heads=32, batch_size=4)
    batch = resnet.batch
    return {
        "resnet": resnet,
        "resnet fp32": profile(batch_size=96, dtype="fp32"),
        "resnet measured": resnet.model_copy(
            update={"measured": make_measured(0.4, data_wait=quantiles(0.1), loader_workers=4)}
        ),
        "resnet measured here": resnet.model_copy(
            update={
                "measured": make_measured(0.9, device_name="NVIDIA L4", data_wait=quantiles(0.3), loader_workers=2),
                "batch": batch.model_copy(update={"loader_samples_per_s_per_vcpu": 60.0}),
            }
        ),
        "resnet on a cpu": resnet.model_copy(
            update={"measured": make_measured(30.0, device_name="cpu", device_kind="cpu", work_ratio=0.5)}
        ),
        "resnet with norms": resnet.model_copy(
            update={"batch": batch.model_copy(update={"synchronized_norms": SynchronizedNorms(modules=53, channels=26_560)})}
        ),
        "resnet of one norm a device": resnet.model_copy(
            update={"batch": batch.model_copy(update={"batch_norm": True}), "parallel": ParallelFacts(strategy="ddp", devices=4)}
        ),
        "resnet compiled": resnet.model_copy(
            update={"source": ProfileSource(how="real", tool_version="0", torch_version="2.8.0", compiled=True)}
        ),
        "gpt": gpt,
        "gpt fp32": gpt_profile(dtype="fp32", attention="math", dropout=True),
        "gpt recomputed": gpt_profile(checkpointing=True, batch_size=32),
        "gpt without a head": gpt_profile(head=False, sequence=256),
        "gpt in three passes": gpt.model_copy(
            update={
                "batch": BatchFacts(micro_batch_size=8, samples_per_step=24, tokens_per_step=24 * 1024),
                "parallel": ParallelFacts(strategy="ddp", devices=2, accumulate_grad_batches=3),
            }
        ),
        "gpt that varies": gpt.model_copy(
            update={
                "batch": gpt.batch.model_copy(
                    update={
                        "variation": BatchVariation(batches=40, smallest_flops=10**11, largest_flops=9 * 10**12, work_log_sigma=0.3)
                    }
                )
            }
        ),
        "gpt in precisions": in_precisions(gpt, "32-true", "16-mixed", "bf16-true", "transformer-engine"),
        "decoder": decoder_job(),
        "decoder of few heads": decoder_job(heads=2, layers=6, tokens=1024, batch=64),
        "blocks": block_job(every=None),
        "large": large,
        "large in 8 bits": in_8_bits(large, may_be_in_8_bits(large)),
        "large of zero": large.model_copy(update={"parallel": ParallelFacts(strategy="deepspeed_stage_2", devices=8, num_nodes=2)}),
        "unknown batch": gpt.model_copy(update={"batch": BatchFacts(micro_batch_size=None, samples_per_step=None)}),
    }  # fmt: skip


def read_examples() -> dict[str, JobProfile]:
    """Return the traces that the documentation ships."""
    files = sorted(file for file in EXAMPLES.glob("*.json"))
    return {file.stem: JobProfile.from_json(file.read_text(encoding="utf-8")) for file in files}


JOBS: dict[str, Callable[[], dict[str, JobProfile]]] = {"made": list_jobs, "traced": read_examples}


def make_shapes() -> MachineShapes:
    """Return each chip alone, in eights with a network, and in threes without."""
    rows = [
        (chip, count, network)
        for chip in CHIPS
        for count, network in ((1.0, math.nan), (8.0, 400.0), (3.0, 25.0))
    ]
    rows += [("A100-SXM-80GB", 0.5, 10.0), ("H100-SXM-80GB", 16.0, 3200.0), ("TPU-v5e", 256.0, math.nan)]
    return MachineShapes(
        accelerator=np.array([row[0] for row in rows], dtype=np.str_),
        accelerator_count=np.array([row[1] for row in rows]),
        vcpus=np.array([8.0 if row[1] == 1 else math.nan if row[1] == 3 else 96.0 for row in rows]),
        memory_gib=np.full(len(rows), math.nan),
        network_gbit_per_s=np.array([row[2] for row in rows]),
    )


def list_columns(table: Any, names: list[str], rows: np.ndarray[Any, Any]) -> list[Any]:
    """Return how many rows are known, and the fingerprint of each column of them."""
    prints = [fingerprint(np.asarray(getattr(table, name))[rows]) for name in names]
    return [prints[0][:2], *(number for _, _, number in prints)]


COLUMNS = [
    "step_s", "log_sigma", "compute_s", "memory_s", "launch_s", "communication_s", "communication_hidden_s", "input_s",
    "memory_bytes", "memory_log_sigma", "usable_memory_bytes", "fits",
]  # fmt: skip


def describe_plans(job: JobProfile, space: PlanSpace) -> Iterator[tuple[str, Any]]:
    """Yield the plans of a job, and what is predicted of them, by chip."""
    machines = make_shapes()
    plans = enumerate_candidates(job, machines, space)
    table, chips = predict(job, machines, plans), machines.accelerator[plans.shape]
    everywhere = np.arange(len(plans))
    names = ["shape", "nodes", "sharding", "micro_batch", "micro_ratio", "accumulate", "devices_or_all"]
    yield "plans", list_columns(plans, names, everywhere)
    for name in ("batch_factor", "as_scripted", "variant"):
        if getattr(plans, name) is not None:
            yield name, fingerprint(np.asarray(getattr(plans, name)))
    if plans.parallel is not None:
        yield "degrees", [fingerprint(degree) for degree in plans.parallel.degrees]
    yield "gaps", sorted(set(map(str, plan_gaps(job, machines, space))))
    for chip in CHIPS:
        rows = np.flatnonzero(chips == chip)
        if not len(rows):
            continue
        yield chip, list_columns(table, COLUMNS, rows)
        reasons, counts = np.unique(table.unknown_because[rows], return_counts=True)
        if any(reasons):
            yield f"{chip} unknown", dict(zip(reasons.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize("kind", JOBS)
@pytest.mark.parametrize("name", SPACES)
def test_the_plans_of_jobs_on_many_machines(kind: str, name: str) -> None:
    answers = {}
    for job_name, job in JOBS[kind]().items():
        if name != "everything" and job_name in ("full-70b", "large in 8 bits"):
            continue
        for part, answer in describe_plans(job, SPACES[name]):
            answers[f"{job_name} {part}"] = answer
    compare_with_recorded(f"prediction_{kind}_{name.replace(' ', '_')}", answers)


def test_the_answers_of_one_machine() -> None:
    answers = {}
    jobs = {**list_jobs(), **read_examples()}
    for job_name, job in jobs.items():
        for chip, devices, nodes, sharding in (
            ("T4-16GB", 1, 1, "auto"), ("H100-SXM-80GB", 8, 2, "auto"), ("L4-24GB", 2, 1, "fsdp"), ("TPU-v5e", 4, 1, "auto"),
        ):  # fmt: skip
            found = answer_or_error(
                lambda job=job, chip=chip, devices=devices, nodes=nodes, sharding=sharding: predict_machine(
                    job,
                    chip,
                    devices,
                    nodes,
                    sharding,
                    network_gbit_per_s=None if nodes == 1 else 800.0,
                    vcpus=8.0,
                )
            )
            if not isinstance(found, str):
                found = found.model_dump(exclude_none=True) | {
                    "operations": [
                        fingerprint(np.array([part.device_s for part in found.operations])),
                        fingerprint(np.array([part.launches for part in found.operations])),
                        f"{found.operations[0].kind} {found.operations[0].phase}",
                    ]
                }
            answers[f"{job_name} on {nodes} x {devices} x {chip} {sharding}"] = found
    compare_with_recorded("prediction_machines", answers)


def test_the_changes_of_a_job() -> None:
    answers = {}
    for name, job in {**list_jobs(), **read_examples()}.items():
        for variant in variants_of(job, checkpointing=True, precision=True):
            changed = variant.of(job)
            groups = changed.operations
            answers[f"{name} {variant.precision} {variant.checkpointing}"] = [
                variant,
                [variant.changes_training, variant.step_log_sigma, variant.memory_log_sigma],
                fingerprint(np.array([group.flops for group in groups], dtype=np.float64)),
                fingerprint(
                    np.array([group.bytes_read + group.bytes_written for group in groups], dtype=np.float64)
                ),
                changed.memory.model_dump(exclude={"moments"}),
                fingerprint(
                    np.array([moment.activation_bytes for moment in changed.memory.moments], dtype=np.float64)
                ),
                variant.convert_saved_state(job).plan.checkpoint_bytes,
            ]
        for kind, narrow in itertools.product(("fp8", "int8", "fp4", "mxfp8"), (False, True)):
            every = in_8_bits(job, lambda group: group.kind in PRODUCTS, "fp8" if narrow else kind)
            changed_types = (
                answer_or_error(lambda every=every, kind=kind: of_narrow_type(every, kind))
                if narrow and kind in ("fp4", "mxfp8")
                else every
            )
            answers[f"{name} in {kind} {narrow}"] = (
                changed_types if isinstance(changed_types, str) else describe_groups(changed_types)
            )
        chosen = may_be_in_8_bits(job)
        answers[f"{name} may be"] = [
            sum(map(chosen, job.operations)),
            is_in_8_bits(job),
            head_width(job.operations, 1),
        ]
    compare_with_recorded("prediction_variants", answers)


def describe_groups(job: JobProfile) -> list[Any]:
    """Return what any change of an operation of a job moves."""
    groups = job.operations
    columns = ("flops", "bytes_read", "bytes_written", "bytes_fixed", "launches")
    numbers = [
        fingerprint(np.array([getattr(group, column) for group in groups], dtype=np.float64))
        for column in columns
    ]
    sizes = np.array([size for group in groups for size in group.shape], dtype=np.float64)
    return [*numbers, fingerprint(sizes), Counter(f"{group.kind} {group.dtype}" for group in groups)]


def list_decoders() -> dict[str, JobProfile]:
    """Return decoders with and without experts, in eager PyTorch, under compilers and in a library's kernels."""
    plain = gpt_profile(layers=30, width=4096, heads=32)
    experts = tuple(
        OperationGroup(
            kind="grouped_matmul", name="bmm", phase=phase, dtype="bf16", shape=(8, 8192, columns, depth), launches=30,
            flops=30 * 2 * 8192 * columns * depth, bytes_read=10**10, bytes_written=10**9, bytes_fixed=30 * 8 * 2 * columns * depth,
        )
        for columns, depth in ((1408, 4096), (4096, 1408)) for phase in ("forward", "backward")
    )  # fmt: skip
    mixture = plain.model_copy(update={"operations": (*plain.operations, *experts)})
    jobs = {
        "plain": plain,
        "mixture": mixture,
        "narrow": gpt_profile(layers=12, width=1024, heads=8, head=False),
    }
    jobs |= {
        f"{name} {precision}": job.model_copy(update={"precision": precision})
        for name, job in (("plain", plain), ("mixture", mixture))
        for precision in (LIBRARY_PRECISION, GRAPH_PRECISION)
    }
    compiled = ProfileSource(how="real", tool_version="0", torch_version="2.8.0", compiled=True)
    jobs["compiled"] = plain.model_copy(update={"source": compiled})
    library = jobs[f"mixture {LIBRARY_PRECISION}"]
    jobs["library in 8 bits"] = in_8_bits(library, lambda group: group.kind in ("matmul", "grouped_matmul"))
    return jobs


def test_drawn_splits_of_decoders() -> None:
    draws, answers = random.Random(11), {}
    for name, job in list_decoders().items():
        for index in range(16):
            sizes = {
                size: np.array([draws.choice([1, 1, 2, 4, 8])])
                for size in ("tensor", "pipeline", "context", "expert")
            }
            parallel = replace(
                ModelParallel.none(1), **sizes, virtual=np.array([draws.choice([1, 1, 2, 3])]), overlap=np.array([draws.random() < 0.6]),
                sharded_optimizer=np.array([draws.random() < 0.4]),
            )  # fmt: skip
            chip, count, nodes = draws.choice(CHIPS[4:9]), draws.choice([2, 4, 8]), draws.choice([1, 1, 2, 8])
            sharding = draws.choice(["ddp", "fsdp", "zero1", "hybrid"])
            plans = plan(
                nodes=nodes,
                sharding=sharding,
                ratio=draws.choice([0.25, 1.0, 2.0]),
                accumulate=draws.choice([1, 3, 16]),
            )
            table = predict(job, shapes(chip, count=count, network=800.0), replace(plans, parallel=parallel))
            answers[f"{name} {index} {chip} {nodes} x {count} {sharding}"] = [
                *(float(getattr(table, column)[0]) for column in COLUMNS), str(table.unknown_because[0]),
            ]  # fmt: skip
    compare_with_recorded("prediction_splits", answers)
