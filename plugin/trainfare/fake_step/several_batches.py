"""Trace a job for several batches: one of median size, one of another, and the mean of all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any, cast

from torch.utils.data import DataLoader

from trainfare.fake_step.fake_tensors import seeded_random
from trainfare.fake_step.user_errors import user_errors
from trainfare.job import Batches, ChosenBatch, TrainingJob, is_builder
from trainfare.job.input_kind import describe_input, read_source
from trainfare.job.job_plan import describe_length
from trainfare.job.run_facts import InputSource
from trainfare.job.training_job import build_value
from trainfare.trace import BatchSpread, batch_elements, count_samples, count_tokens
from trainfare.trace.batch_spread import TracedBatch, choose_sizes, join_variations, mean_work
from trainfare_core.errors import InputError
from trainfare_core.job_profile import JobProfile

READ_BATCHES = 16
"""Batches that are read of a DataLoader: enough to know the mean of padded text to about a tenth, few enough to load in
seconds. A chosen value."""


MOST_BATCHES = 64
"""The same where they differ in size."""


def read_batches(loader: Iterable[Any], least: int = READ_BATCHES) -> tuple[Any, ...]:
    """
    Return the first batches of a loader, more where they differ in size.

    Args:
        loader: with the training data.
        least: batches that are read in any case.
    """
    batches = iter(loader)
    first = [*itertools.islice(batches, least)]
    if len({batch_elements(batch) for batch in first}) > 1:
        first += itertools.islice(batches, max(0, MOST_BATCHES - len(first)))
    return tuple(first)


def batches_of(batch: Any) -> tuple[Any, ...] | None:
    """
    Return the batches that a job gives instead of one: those of `Batches`, or the first of a DataLoader.

    Raises:
        InputError: there is none.
        TraceError: the user's data set raised.
    """
    if isinstance(batch, DataLoader):
        with user_errors("reading the DataLoader", fake=False), seeded_random():
            loose = cast("Any", batch)
            batch = Batches(whole_batches(read_batches(loose), loose.batch_size))
    if not isinstance(batch, Batches):
        return None
    if not batch.found:
        raise InputError("TrainingJob.batch has no batch: give one, or a DataLoader that yields some")
    return batch.found


def whole_batches(batches: Iterable[Any], size: int | None) -> tuple[Any, ...]:
    """
    Return batches without the incomplete last one of an epoch, as FareMeter counts them.

    Args:
        batches: from the start of an epoch.
        size: samples of a whole batch; None: not known.
    """
    batches_given = tuple(batches)
    if size is None or len(batches_given) < 2 or count_samples(batches_given[0]) != size:
        return batches_given
    return batches_given[:-1] if (count_samples(batches_given[-1]) or size) < size else batches_given


def with_tokens(job: TrainingJob) -> TrainingJob:
    """
    Return the job with its batch made, and with the tokens of a sample where the batch shows them.

    A job that states its tokens is returned as it is, as is one whose batch cannot be made of real tensors.

    Raises:
        InputError, TraceError: see `batches_of`.
    """
    if job.tokens_per_sample is not None or isinstance(job.batch, ChosenBatch):
        return job
    batch = job.batch
    if is_builder(batch):
        try:
            with seeded_random():
                batch = build_value(batch)
        except (Exception, SystemExit):  # noqa: BLE001 - the trace tries it, too, and reports it with its line
            return job
    several = batches_of(batch)
    batches_given = (batch,) if several is None else several
    counts = [count for count in map(count_tokens, batches_given) if count]
    tokens = max(1, round(mean(counts) / job.batch_size)) if counts else None
    return replace(
        job,
        batch=batch if several is None else Batches(several, _read_source(batch)),
        tokens_per_sample=tokens,
    )


def trace_batches(
    job: TrainingJob, batches: Sequence[Any], trace: Callable[[TrainingJob], JobProfile]
) -> JobProfile:
    """
    Trace the step for the batch of median size and, where sizes vary, for another; return the mean of all batches.

    Args:
        job: the run; its `batch` is not used.
        batches: micro-batches as the training DataLoader yields them.
        trace: traces a job whose batch is one of them.

    Returns:
        The profile of the mean step; its memory is that of the largest batch.
    """
    sizes = [batch_elements(batch) for batch in batches]
    spread = BatchSpread.of(sizes)
    spread.of_run = describe_length(job).batches_per_epoch or 0
    first, second = choose_sizes(sizes, spread)
    profile = trace(replace(job, batch=ChosenBatch.of(batches[first])))
    source = _read_source(job.batch)
    facts = describe_input(source, batches[first])
    profile = profile.model_copy(update={"batch": profile.batch.model_copy(update={"input": facts})})
    profile = profile.with_loader_time(source.time)
    if not spread.varies:
        return profile
    other = None
    if second is not None:
        larger = trace(replace(job, batch=ChosenBatch.of(batches[second])))
        other = TracedBatch(float(sizes[second]), larger.operations, larger.modules, larger.memory)
    traced = TracedBatch(float(sizes[first]), profile.operations, profile.modules, profile.memory)
    work = mean_work(traced, spread, other)
    return profile.model_copy(
        update={
            "operations": work.operations,
            "modules": work.modules,
            "memory": work.memory,
            "batch": profile.batch.model_copy(
                update={
                    "variation": join_variations(work.variation, profile.batch.variation),
                    **_average_samples(profile, batches),
                }
            ),
        }
    )


def _read_source(batch: Any) -> InputSource:
    """Return what is known of the loader of a job's batches."""
    return batch.source if isinstance(batch, Batches) else read_source(batch)


def _average_samples(profile: JobProfile, batches: Sequence[Any]) -> dict[str, int]:
    """Return the mean samples of the batches, where they differ in them, and the job counts the same samples."""
    counts = [count_samples(batch) for batch in batches]
    known = [count for count in counts if count]
    if len(known) < len(counts) or min(known) == max(known) or profile.batch.micro_batch_size not in known:
        return {}
    micro = round(mean(known))
    return {
        "micro_batch_size": micro,
        "samples_per_step": micro * profile.parallel.accumulate_grad_batches,
    }
