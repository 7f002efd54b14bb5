"""Profiles between base and head of a change."""

from __future__ import annotations

from builders.profiles import operation
from builders.toy_market import small_job
from trainfare_core.ranking.change_factors import MixedProfiles


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
    found = mixed.timed(frozenset({"precision"}))
    assert not isinstance(found, str)
    (group,) = found.operations
    assert (group.dtype, group.bytes_read, group.bytes_written) == ("bf16", 2_000, 200)
    assert found.precision == "bf16-mixed"
