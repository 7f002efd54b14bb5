"""Which modules a change of the model is in: named as high as they changed alike, and adding up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.toy_market import small_job
from trainfare_core.changes.module_changes import LISTED, module_changes
from trainfare_core.job_profile import JobProfile, ModuleWork


def job(batch: int = 1, **flops: int) -> JobProfile:
    """A job with modules of so many FLOPs forward and bytes; '__' stands for a dot, '_all' for a star."""
    modules = tuple(
        ModuleWork(
            module=name.replace("__", ".").replace("_all", "*"),
            phase="forward",
            flops=amount,
            bytes_moved=amount // 2,
        )
        for name, amount in flops.items()
    )
    return small_job(batch=batch, modules=modules)


def name_changes(base: JobProfile, head: JobProfile) -> dict[str | None, float]:
    return {change.module: change.head_flops - change.base_flops for change in module_changes(base, head)}


BASE = {
    "encoder__layers___all__attention": 600,
    "encoder__layers___all__mlp": 1200,
    "encoder__embed": 40,
    "head": 100,
}


def test_more_blocks_are_one_change() -> None:
    """All parts of the blocks grow by one factor: the list of blocks is named, not its parts."""
    more = BASE | {"encoder__layers___all__attention": 900, "encoder__layers___all__mlp": 1800}
    assert name_changes(job(**BASE), job(**more)) == {"encoder.layers": 900}
    assert name_changes(job(**more), job(**BASE)) == {"encoder.layers": -900}


def test_a_part_of_the_blocks_is_named_where_it_alone_changed() -> None:
    """A wider perceptron is in the perceptrons."""
    assert name_changes(job(**BASE), job(**(BASE | {"encoder__layers___all__mlp": 2400}))) == {
        "encoder.layers.*.mlp": 1200
    }


def test_what_is_new_or_gone_is_named_as_a_whole() -> None:
    """A module that one side does not have counts from or to nothing, as high as it is all new."""
    new = BASE | {"adapter__down": 10, "adapter__up": 30}
    assert name_changes(job(**BASE), job(**new)) == {"adapter": 40}
    assert name_changes(job(**new), job(**BASE)) == {"adapter": -40}


def test_the_step_itself_has_no_name() -> None:
    """What runs outside of submodules, as a loss does, is the module ''."""
    outside = ModuleWork(module="", phase="forward", flops=7, bytes_moved=7)
    base = job(**BASE)
    head = base.model_copy(update={"modules": (*base.modules, outside)})
    assert name_changes(base, head) == {"": 7}


def test_older_profiles_know_no_modules() -> None:
    """One side without modules gives no answer rather than a change from nothing."""
    assert module_changes(small_job(), job(**BASE)) == ()
    assert module_changes(job(**BASE), small_job()) == ()


def test_amounts_are_per_sample() -> None:
    """Twice the batch with twice the work is no change of the model."""
    twice = {name: 2 * amount for name, amount in BASE.items()}
    assert module_changes(job(batch=4, **BASE), job(batch=8, **twice)) == ()


AMOUNTS = st.dictionaries(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map("__".join),
    st.integers(0, 10**12),
    min_size=1,
)


@given(AMOUNTS, AMOUNTS)
def test_they_add_up(before: dict[str, int], after: dict[str, int]) -> None:
    """Whatever changed, the named modules and the others together are the whole difference, each named once."""
    base, head = job(**before), job(**after)
    changes = module_changes(base, head)
    assert len(changes) <= LISTED + 1
    assert len({change.module for change in changes}) == len(changes)
    difference = sum(after.values()) - sum(before.values())
    assert sum(change.head_flops - change.base_flops for change in changes) == pytest.approx(
        difference, abs=1e-3, rel=1e-9
    )
    moved = sum(change.head_bytes - change.base_bytes for change in changes)
    expected = sum(work.bytes_moved for work in head.modules) - sum(work.bytes_moved for work in base.modules)
    assert moved == pytest.approx(expected, abs=1e-3, rel=1e-9)
