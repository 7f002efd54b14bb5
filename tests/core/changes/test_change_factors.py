"""Profiles between base and head of a change."""

from __future__ import annotations

import numpy as np

from builders.batches import make_scaling_job
from builders.profiles import operation
from builders.toy_market import GIB, ToyPredictor, shapes, small_job
from trainfare_core.batch_scaling import scale_run
from trainfare_core.candidates import CandidateTable, PlanSpace, enumerate_candidates
from trainfare_core.changes.change_factors import MixedProfiles
from trainfare_core.job_profile import BatchFacts, JobProfile, MemoryFacts
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.shapes import MachineShapes


def test_a_precision_is_that_of_most_bytes() -> None:
    """Layers that a model keeps in full precision, such as a norm, do not make a half-precision job a full one."""
    base = small_job(
        precision="32-true", operations=(operation(dtype="fp32", bytes_read=4_000, bytes_written=400),)
    )
    head = small_job(
        operations=(
            operation(dtype="bf16", flops=10**12, bytes_read=900_000, bytes_written=90_000),
            operation(dtype="fp32", flops=10**6, bytes_read=1_000, bytes_written=100),
        )
    )
    mixed = MixedProfiles(base, head)
    assert {"model", "precision"} <= set(mixed.changed)
    profile = mixed.mix(frozenset({"precision"}))
    assert not isinstance(profile, str)
    (group,) = profile.operations
    assert (group.dtype, group.bytes_read, group.bytes_written) == ("bf16", 2_000, 200)
    assert profile.precision == "bf16-mixed"


def test_memory_of_another_batch_is_that_of_the_same_part_of_it() -> None:
    """Where a global batch is not known, a plan of half the micro-batch takes half of the other profile's too."""
    asked: list[tuple[str, list[float]]] = []

    def predict(profile: JobProfile, shapes: MachineShapes, candidates: CandidateTable) -> PredictionTable:
        asked.append((profile.name, candidates.micro_ratio.tolist()))
        return ToyPredictor()(profile, shapes, candidates)

    machines = shapes(("A100-SXM-80GB", 1.0))
    plans = enumerate_candidates(small_job(batch=8), machines, PlanSpace(1))
    sizes = (plans.micro_batch / 8).tolist()
    assert len(set(sizes)) > 1
    for known, ratios in ((True, [2 * size for size in sizes]), (False, sizes)):
        base = small_job(name="base", precision="32-true", batch=8)
        head = small_job(
            name="head", batch=4, memory=MemoryFacts(saved_activation_bytes=2 * GIB, gradient_bytes=4)
        )
        if not known:
            head = head.model_copy(update={"batch": BatchFacts(micro_batch_size=4, samples_per_step=None)})
        mixed = MixedProfiles(base, head)
        assert mixed.shared_batch is known
        asked.clear()
        mixed.predictor(frozenset({"memory_fit"}), predict)(base, machines, plans)
        assert asked == [("base", sizes), ("head", ratios)]


def test_a_mixed_run_has_steps_and_epochs_of_one_profile() -> None:
    """Its steps on other devices are counted from the epoch that gives them here, validations from their own."""
    base = make_scaling_job(validation_batches=20)
    base = base.model_copy(update={"plan": base.plan.model_copy(update={"validation_batches": 2_000})})
    head = make_scaling_job(samples=20_000, batches=313, epochs=50, validation_batches=5)
    head = head.model_copy(
        update={
            "batch": BatchFacts(micro_batch_size=64, samples_per_step=64, scales="per_device"),
            "plan": head.plan.model_copy(update={"optimizer_steps": 15_650, "validation_batches": 250}),
        }
    )
    mixed = MixedProfiles(base, head)
    profile = mixed.mix(frozenset({"steps"}))
    assert not isinstance(profile, str)
    assert (profile.plan.optimizer_steps, profile.plan.validation_batches) == (15_650, 2_000)
    epoch = profile.plan.epoch
    assert epoch is not None
    assert (epoch.samples, epoch.epochs, epoch.validation_batches) == (20_000, 50, 20)
    run = scale_run(profile, np.array([1, 4]))
    assert run.counted
    assert run.steps.tolist() == [15_650, 50 * 79]
    swapped = mixed.mix(frozenset({"global_batch", "validation"}))
    assert not isinstance(swapped, str)
    assert swapped.plan.epoch is not None
    assert (swapped.plan.optimizer_steps, swapped.plan.epoch.epochs) == (31_300, 100)
    # In batches of half the size.
    assert (swapped.plan.validation_batches, swapped.plan.epoch.validation_batches) == (500, 10)
    assert scale_run(swapped, np.array([1])).steps.tolist() == [31_300]


def test_a_mixed_run_of_no_known_epoch_is_shared() -> None:
    """The epoch of the profile whose steps are not taken says nothing of them."""
    base, head = make_scaling_job(), make_scaling_job()
    plan = head.plan.model_copy(update={"epoch": None, "optimizer_steps": 700})
    mixed = MixedProfiles(base, head.model_copy(update={"plan": plan}))
    profile = mixed.mix(frozenset({"steps"}))
    assert not isinstance(profile, str)
    assert (profile.plan.optimizer_steps, profile.plan.epoch) == (700, None)
