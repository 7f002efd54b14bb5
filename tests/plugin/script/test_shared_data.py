"""How the data of a loop without a Trainer are shared by its processes: its steps on several devices follow from that."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.utils.data import BatchSampler, DistributedSampler

from builders.launched_scripts import ACCELERATE, DDP, FABRIC, LOOP, ROWS, SIZE
from builders.process_groups import end_process_group
from builders.scripts import load_script
from trainfare.fake_step import trace_job
from trainfare_core.batch_scaling import launch_on
from trainfare_core.job_profile import JobProfile

DATA_OF_LOOP = "data = "
STREAM = f"""
class Stream(torch.utils.data.IterableDataset):
    def __len__(self):
        return {ROWS}
    def __iter__(self):
        return iter([(torch.zeros(8), torch.tensor(0))] * {ROWS})
data = Stream()
map_style = """
ALONE = -(-ROWS // SIZE)
"""Batches of one process."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trace(parts: tuple[str, str], *changes: tuple[str, str]) -> JobProfile:

    text = LOOP.format(set_up=parts[0].format(devices="'auto'"), backward=parts[1])
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    try:
        return trace_job(load_script(text))
    finally:
        end_process_group()


def count_sampled(processes: int, *, drops_last: bool = False) -> int:
    """Return the batches of one process by torch's own samplers."""
    sampler = DistributedSampler(range(ROWS), num_replicas=processes, rank=0)  # type: ignore[arg-type]
    return len(BatchSampler(sampler, SIZE, drops_last))


@pytest.mark.parametrize("parts", [DDP, FABRIC])
@pytest.mark.parametrize("drops_last", [False, True])
def test_a_sampler_shares_the_samples(parts: tuple[str, str], drops_last: bool) -> None:
    more = f"DataLoader(data, {SIZE}"
    one = trace(parts, *([(more, f"{more}, drop_last=True")] if drops_last else []))
    for processes in (2, 3, 8, 60):
        steps = launch_on(one, processes).plan.optimizer_steps
        assert steps == 6 * count_sampled(processes, drops_last=drops_last), processes


def test_each_process_reads_all_that_no_sampler_shares() -> None:
    """Eight processes then make as many steps as one, and see eight times the samples."""
    one = trace(DDP, (", sampler=DistributedSampler(data))", ")"))
    assert one.batch.scales == "per_device"
    eight = launch_on(one, 8)
    assert eight.plan.optimizer_steps == one.plan.optimizer_steps == 6 * ALONE
    assert eight.global_samples_per_step == 8 * SIZE


@pytest.mark.parametrize("parts", [DDP, FABRIC, ACCELERATE])
def test_a_stream_with_a_stated_number_of_steps_has_as_many_on_more_devices(parts: tuple[str, str]) -> None:
    """Its length alone is not known: no sampler counts it."""
    changes = [(DATA_OF_LOOP, STREAM)]
    if parts is DDP:
        changes.append((", sampler=DistributedSampler(data))", ")"))
    assert trace(parts, *changes).plan.optimizer_steps is None
    loop = "for features, classes in loader:"
    counted = "rows = iter(loader)\n    for _ in range(10):\n        features, classes = next(rows)"
    one = trace(parts, *changes, (loop, counted))
    eight = launch_on(one, 8)
    assert eight.plan.optimizer_steps == one.plan.optimizer_steps == 60
    assert eight.global_samples_per_step == 8 * SIZE


def test_data_that_are_divided_in_the_script_are_divided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler may be told the number of processes."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    four = trace(DDP, ("DistributedSampler(data)", "DistributedSampler(data, num_replicas=4, rank=0)"))
    assert (four.parallel.devices, four.batch.scales) == (4, "fixed")
    assert four.plan.optimizer_steps == 6 * count_sampled(4)
