"""Profiles between base and head of a change."""

from __future__ import annotations

from builders.profiles import operation
from builders.toy_market import GIB, ToyPredictor, shapes, small_job
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
