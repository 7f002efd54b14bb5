"""
The time that a step's samples take to load, on each machine.

A rate that was measured or stated holds for threads of one host. On another it is scaled by the scores of both hosts
(`hardware.hosts`), and each has its doubt. A worker is a thread; those beyond the cores share them. The batches of all
workers of a device come through one process, which copies each. With workers a step takes the longer of loading and
computing; without, the sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

import numpy as np

from trainfare_core.arrays import Array
from trainfare_core.hardware.hosts import Host, HostColumns, find_host, usual_host
from trainfare_core.job_profile import FREE_KINDS, JobProfile, LoaderTime
from trainfare_core.prediction.input_rates import find_published_s
from trainfare_core.prediction.uncertainty import find_longer

BUSY_LOADER_SHARE: Final = 0.05
"""A loader whose wait is less than this share of the step keeps up: its speed is not known, only bounded. A chosen
value, above the jitter of an idle queue."""
EVERY_VCPU: Final = 2**31
"""More workers than any machine has vCPUs: as many work as there are."""
RATE_LOG_SIGMA: Final = 0.05
"""Of ln(rate) of a loader from run to run on one machine: page cache and neighbours. A chosen value."""
TIMED_LOG_SIGMA: Final = 0.15
"""The same of a few batches that were loaded where the script was traced, some from the page cache. A chosen value."""
QUEUE_BYTES_PER_S: Final = 1.27e9
"""What one process takes from its workers. DataLoader with 2, 4 and 8 workers on 16 vCPUs of five processors
(imread_benchmark f869db8, pictures of ImageNet, 0.56 MB each): their rates are the hypotenuse of the workers' time and
of a share that is this, 1.0 to 1.9 GB/s by processor."""
QUEUE_LOG_SIGMA: Final = 0.25
"""Of ln(rate) of the queue: the five processors span 80 %."""

Basis: TypeAlias = Literal["", "stated", "measured", "published"]
"""Where the rate of a loader comes from; empty: it is not known."""
Z90: Final = 1.6449
"""Standard deviations from the median to either end of the central 90 %: published rates are these ends."""


@dataclass(frozen=True, slots=True)
class InputPipeline:
    """What the training loader costs one device for one optimizer step of the profile."""

    basis: Basis = ""
    thread_s: float = 0.0
    """Seconds of one thread of `host` that is not disturbed by others."""
    workers: int = 0
    """Worker processes of one device; 0: the training process loads by itself."""
    host: Host | None = None
    """None: not known, and then threads of all hosts are as fast, with the doubt of their spread."""
    log_sigma: float = RATE_LOG_SIGMA
    queue_s: float = 0.0
    """Seconds in which the training process takes the samples from its workers."""
    note: str = ""
    is_free: bool = False
    """Its samples lie ready, so that it takes nothing."""

    @property
    def is_known(self) -> bool:
        """Whether it was measured or stated, or takes nothing."""
        return self.is_free or self.basis in ("stated", "measured")

    def at_published(self, end: Literal["slowest", "fastest"]) -> InputPipeline:
        """Return the loader at an end of the published rates, as if that were measured."""
        factor = math.exp((Z90 if end == "slowest" else -Z90) * self.log_sigma)
        return replace(self, thread_s=self.thread_s * factor, log_sigma=RATE_LOG_SIGMA)


def count_threads(workers: Array | float, vcpus: Array | float, host: HostColumns | Host | None) -> Array:
    """
    Return as how many undisturbed threads the workers load.

    Each has a core of its own while there are some; then they share cores, and all vCPUs together are worth what the
    host's score with all at work says. stress-ng's curves over 1 to n threads are these two lines.

    Args:
        workers: of one device.
        vcpus: for one device; NaN: as many as workers.
        host: None: not known, and each vCPU counts as a core.
    """
    vcpus = np.maximum(vcpus, 1.0)
    busy = np.asarray(np.fmin(workers, vcpus))
    if host is None:
        return busy
    all_threads = vcpus * np.minimum(host.vcpu_score / host.thread_score, 1.0)
    cores = np.minimum(vcpus / host.threads_per_core, all_threads)
    shared = (busy - cores) * (all_threads - cores) / np.maximum(vcpus - cores, 1e-9)
    return np.where(np.isnan(vcpus) | (busy <= cores), busy, cores + shared)


def find_loading_s(
    pipeline: InputPipeline, vcpus_per_device: Array, hosts: HostColumns, samples: Array
) -> Array:
    """
    Return the seconds in which a step's samples are loaded.

    Args:
        pipeline: the loader.
        vcpus_per_device: NaN where it is not known: then the loader keeps all its workers.
        hosts: of each machine.
        samples: of one device's step over the profile's.
    """
    own, faster = pipeline.host, np.ones_like(samples)
    if own is not None:
        faster = hosts.thread_score / own.thread_score
    thread_s = pipeline.thread_s * samples / faster
    if pipeline.workers == 0:
        return np.asarray(thread_s)
    threads = count_threads(pipeline.workers, vcpus_per_device, None if own is None else hosts)
    return np.hypot(thread_s / threads, pipeline.queue_s * samples)


def find_loading_log_sigma(pipeline: InputPipeline, hosts: HostColumns, queue_share: Array) -> Array:
    """
    Return the standard deviation of ln(loading time).

    Args:
        pipeline: the loader.
        hosts: of each machine.
        queue_share: of the square of the loading time, what the queue of the workers is; 0 to 1.
    """
    own = pipeline.host
    if own is None:
        sigma = np.full(len(hosts.log_sigma), math.hypot(pipeline.log_sigma, usual_host().log_sigma))
    else:
        same = (hosts.thread_score == own.thread_score) & (hosts.vcpu_score == own.vcpu_score)
        elsewhere = np.hypot(math.hypot(pipeline.log_sigma, own.log_sigma), hosts.log_sigma)
        sigma = np.where(same & (own.name != ""), pipeline.log_sigma, elsewhere)
    # ln(hypot(a, b)) moves with each by its share of the square.
    return np.asarray(np.hypot((1 - queue_share) * sigma, queue_share * QUEUE_LOG_SIGMA))


def add_input(
    pipeline: InputPipeline,
    vcpus_per_device: Array,
    hosts: HostColumns,
    samples: Array,
    computed_s: Array,
    log_sigma: Array,
) -> tuple[Array, Array]:
    """
    Return what the input pipeline adds to the step, and the standard deviation of ln(step) with it.

    Args:
        pipeline: the loader.
        vcpus_per_device: see `find_loading_s`.
        hosts: of each machine.
        samples: of one device's step over the profile's.
        computed_s: the step without it.
        log_sigma: the standard deviation of its logarithm.
    """
    if not pipeline.basis:
        return np.zeros_like(computed_s), log_sigma
    loading_s = find_loading_s(pipeline, vcpus_per_device, hosts, samples)
    queue_s = pipeline.queue_s * samples if pipeline.workers else np.zeros_like(samples)
    loading_sigma = find_loading_log_sigma(pipeline, hosts, (queue_s / loading_s) ** 2)
    if pipeline.workers == 0:
        total_s = computed_s + loading_s
        return loading_s, np.hypot(computed_s * log_sigma, loading_s * loading_sigma) / total_s
    step_s, step_sigma = find_longer(computed_s, log_sigma, loading_s, loading_sigma)
    return np.maximum(step_s - computed_s, 0.0), step_sigma


def state_loader(profile: JobProfile, samples_per_s_per_vcpu: float, measured_on: str = "") -> JobProfile:
    """Return the profile with a rate of its loader, and the machine where it was measured."""
    stated = {"loader_samples_per_s_per_vcpu": samples_per_s_per_vcpu, "loader_measured_on": measured_on}
    return profile.model_copy(update={"batch": profile.batch.model_copy(update=stated)})


def input_pipeline(profile: JobProfile) -> InputPipeline:
    """
    Return the loader's cost as far as the user states it, a run or its first batches have shown it, or its kind was
    published.

    Without workers the wait is the whole loading time. With workers it is only known where they are the slower side:
    then all of them work all the time. Workers that keep up bound what is published of their kind.
    """
    rate, samples = profile.batch.loader_samples_per_s_per_vcpu, profile.batch.samples_per_step
    if rate is not None and samples is not None:
        host = find_host(profile.batch.loader_measured_on)
        note = f"the input pipeline makes {rate:g} samples a second on each vCPU, as stated"
        if host is not None:
            note += f" of {host.name}: on another host as its processor's score says"
        alone_s = samples / rate * (1.0 if host is None else host.vcpu_score / host.thread_score)
        return InputPipeline("stated", alone_s, EVERY_VCPU, host, note=note)
    measured, timed = profile.measured, profile.batch.loader_time
    if measured is None and timed is not None and samples is not None and not _is_free(profile):
        return _use_timed(profile, timed, samples)
    if measured is None or measured.data_wait is None:
        return _publish(profile, "the input pipeline was not measured")
    wait_s, step_s = measured.data_wait.median_s, measured.step.median_s
    host = find_host(measured.machine)
    if measured.loader_workers is None:
        return _publish(profile, "the loader's worker count is not known")
    if measured.loader_workers == 0:
        note = "the loader has no workers: its measured time adds to every step"
        return InputPipeline("measured", wait_s, 0, host, note=note)
    workers = int(measured.loader_workers)
    threads = float(count_threads(workers, _find_vcpus(profile, host), host))
    if wait_s < BUSY_LOADER_SHARE * step_s:
        score = (host or usual_host()).thread_score
        return _publish(
            profile,
            f"the loader kept up with steps of {step_s:.3g} s; whether it keeps up with faster ones is not known",
            most_s=step_s * threads * score / usual_host().thread_score,
            workers=workers,
        )
    queue_s = min(_find_queue_s(profile), _MOST_QUEUE_SHARE * step_s)
    return InputPipeline(
        "measured", math.sqrt(step_s**2 - queue_s**2) * threads, workers, host, queue_s=queue_s,
        note=f"the loader was the slower side when measured, with {workers} workers",
    )  # fmt: skip


def _use_timed(profile: JobProfile, timed: LoaderTime, samples: int) -> InputPipeline:
    """
    Return what the first batches took where the script was traced.

    The seconds in which they waited for their files are those of a disk there: a machine's own may take none of them,
    or as many. The interval spans both.
    """
    busy_s = timed.sample_cpu_s
    sample_s = (
        math.sqrt(busy_s * timed.sample_s) if 0 < busy_s < timed.sample_s else max(busy_s, timed.sample_s)
    )
    waits = math.log(timed.sample_s / sample_s) / Z90 if sample_s < timed.sample_s else 0.0
    if timed.workers == 0:
        note = "the loader has no workers: the time of its first batches here adds to every step"
    else:
        note = (
            f"the loader takes {1e3 * sample_s:.3g} ms a sample in each worker, as its first batches did here"
        )
    return InputPipeline(
        "measured", samples * sample_s, EVERY_VCPU if timed.workers is None else timed.workers,
        find_host(timed.processor), math.hypot(TIMED_LOG_SIGMA, waits), _find_queue_s(profile), note,
    )  # fmt: skip


def _is_free(profile: JobProfile) -> bool:
    """Return whether the samples lie ready, so that loading them takes nothing."""
    return profile.batch.input is not None and profile.batch.input.kind in FREE_KINDS


def _publish(
    profile: JobProfile, because: str, *, most_s: float = math.inf, workers: int | None = None
) -> InputPipeline:
    """
    Return what published rates say of the kind of input; nothing where none decides, or the kind is not known.

    Args:
        profile: the job.
        because: why they are asked.
        most_s: what a step's samples take at most on one thread of the usual host, as a run has shown.
        workers: of the run; None: those of the script.
    """
    facts, samples = profile.batch.input, profile.batch.samples_per_step
    if facts is not None and _is_free(profile) and math.isinf(most_s):
        return InputPipeline(
            note=f"the loader's {facts.kind} lie ready: no time is counted for it", is_free=True
        )
    ends = None
    if facts is not None and samples is not None:
        ends = find_published_s(facts, samples, profile.batch.tokens_per_step)
    if facts is None or ends is None:
        return InputPipeline(note=f"{because}: no time is counted for it")
    slowest_s = min(ends[0], most_s)
    fastest_s = min(ends[1], slowest_s / 2)  # of a bound alone little more is known
    workers = facts.workers if workers is None else workers
    return InputPipeline(
        "published", math.sqrt(slowest_s * fastest_s), EVERY_VCPU if workers is None else workers,
        replace(usual_host(), log_sigma=0.0), math.log(slowest_s / fastest_s) / (2 * Z90), _find_queue_s(profile),
        f"{because}: {facts.kind} take what published rates say, with a wide interval",
    )  # fmt: skip


_MOST_QUEUE_SHARE: Final = 0.9
"""Of a measured step, what the queue of the workers takes at most: the workers do something too. A chosen value."""


def _find_queue_s(profile: JobProfile) -> float:
    """Return the seconds in which one process takes the samples of a step from its workers."""
    passes = profile.parallel.accumulate_grad_batches
    return profile.memory.input_bytes * passes / QUEUE_BYTES_PER_S


def _find_vcpus(profile: JobProfile, host: Host | None) -> float:
    """Return the vCPUs for each device of the host that measured."""
    return math.nan if host is None else host.vcpus / profile.parallel.devices


def change_workers(pipeline: InputPipeline, factor: int) -> InputPipeline:
    """Return the loader with so many times the workers."""
    return replace(pipeline, workers=pipeline.workers * factor)
