"""What more devices do to the global batch of a run, and what that costs in samples, in sentences."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final, Protocol

from trainfare.report.headline import NamedOption
from trainfare.report.wording import has_other_batch, machine_label, usd
from trainfare_core.number_format import hours_text
from trainfare_core.recommendation import (
    Constraints,
    CriticalBatchFacts,
    JobSummary,
    Option,
    QualityRatio,
    Recommendation,
)

_SOURCES = {
    "stated": "by the critical batch that you state",
    "noise_scale": "by FareMeter's noise scale {:,.0f} samples, a factor of 4 either way",
    "token_law": "from published workloads and a law of tokens, none measured here",
    "prior": "from published workloads, none measured here",
}


_LINEAR: Final = re.compile(r"SGD|LARS", re.IGNORECASE)
_SQUARE_ROOT: Final = re.compile(r"Adam|LAMB|RMSprop", re.IGNORECASE)
"""Classes of optimizers by the usual rule: Goyal 2017 for SGD, You 2017 for LARS, You 2019 for LAMB, Malladi 2022 for
Adam and RMSprop. Of others no rule is usual."""


class BatchAnswer(Protocol):
    """What an answer must say for its batches to be described."""

    @property
    def job(self) -> JobSummary:
        """The job."""
        ...

    @property
    def constraints(self) -> Constraints:
        """What was asked."""
        ...

    @property
    def critical_batch(self) -> CriticalBatchFacts | None:
        """From which batch a larger one needs clearly more samples."""
        ...


def describe_batches(recommendation: Recommendation, named: Sequence[NamedOption], *, whole: bool) -> str:
    """
    Say of the largest global batch that is named what it is, why, and what it costs.

    Where all have the job's: what the fastest run with the script's batch on each device is, if that is much faster.

    Args:
        recommendation: the answer.
        named: its options with their titles.
        whole: a whole report, which also says what to set, and not the first screen.
    """
    options = [option for _, option in named]
    if not has_other_batch(options):
        return _describe_scaled(recommendation)
    others = [(titles, option) for titles, option in named if option.batch_ratio != 1]
    titles, largest = max(others, key=lambda item: item[1].global_batch_size or 0)
    text = describe_batch(recommendation, largest)
    if len(others) > 1:
        text = f"{', '.join(titles).capitalize()}: {text[0].lower()}{text[1:]}"
    return " ".join(filter(None, (text, describe_schedule(recommendation, largest) if whole else "")))


def _describe_scaled(recommendation: Recommendation) -> str:
    option = recommendation.fastest_scaled
    if option is None or option.global_batch_size is None:
        return ""
    devices = _count_devices(option)
    return (
        f"With {option.global_batch_size // devices:,} samples on each of {devices} devices, a global batch of "
        f"{option.global_batch_size:,}, {machine_label(option)} would take {hours_text(option.run_hours.mid)} and "
        f"{usd(option.run_usd.mid)}: --scale samples."
    )


def _count_devices(option: Option) -> int:
    return option.nodes * (option.trainer.devices if option.trainer else round(option.accelerator_count))


def describe_batch(answer: BatchAnswer, option: Option) -> str:
    """Say of an option with another global batch than the script's what it is, why, and what it costs; else ""."""
    job, batch, steps = answer.job, option.global_batch_size, option.optimizer_steps
    if batch is None or not has_other_batch([option]):
        return ""
    devices = _count_devices(option)
    whose = f"Each of {devices} devices" if devices > 1 else "The one device"
    text = (
        f"{whose} has {batch // devices:,} samples: a global batch of {batch:,}, not "
        f"{job.global_batch_size or 1:,}"
    )
    if steps is not None and steps == job.optimizer_steps:
        text += (
            f", in the same {steps:,.0f} steps, which see {option.samples_ratio or 1:.3g} times the samples"
        )
    elif steps is not None and job.optimizer_steps:
        text += f", in {steps:,.0f} steps, not {job.optimizer_steps:,}"
    sharing = _describe_sharing(option, job.global_batch_size or 1)
    return " ".join(filter(None, (f"{text}.", describe_quality(answer, option), sharing)))


def _describe_sharing(option: Option, own_batch: int) -> str:
    """Say on how many devices the batches that a script adds up could be shared instead; "" where it adds up none."""
    if option.accumulate_grad_batches == 1 or option.batch_ratio <= 1:
        return ""
    shared = round(_count_devices(option) / option.batch_ratio * option.accumulate_grad_batches)
    return (
        f"The {option.accumulate_grad_batches} batches added up for a step could be shared by up to {shared} devices, "
        f"which keeps {own_batch:,}: --scale batch."
    )


def describe_schedule(answer: BatchAnswer, option: Option) -> str:
    """Say how the learning rate usually follows a larger global batch, and what fewer steps do to its schedule."""
    if option.global_batch_size is None or option.batch_ratio <= 1:
        return ""
    return " ".join(filter(None, (_describe_rate(answer, option), _describe_warmup(answer.job, option))))


def _describe_warmup(job: JobSummary, option: Option) -> str:
    """Warn of schedules that are counted in steps where a run has fewer."""
    steps, own = option.optimizer_steps, job.optimizer_steps
    if steps is None or own is None or steps >= own:
        return ""
    if job.warmup_steps is None:
        return (
            f"A warm-up or decay that the script counts in steps is not known here: it must fit {steps:,.0f}."
        )
    if job.warmup_steps < steps:
        return ""
    text = f"The warm-up of {job.warmup_steps:,} steps does not end in these {steps:,.0f}"
    return f"{text}: state it as a share of the steps, or anew."


def _describe_rate(answer: BatchAnswer, option: Option) -> str:
    """Return the usual rule by the optimizer; "" where there is none."""
    names, ratio = answer.job.optimizers, option.batch_ratio
    if not names:
        return ""
    if all(map(_LINEAR.search, names)):
        return f"Usual learning rate then: x {ratio:.3g} with a warm-up (linear scaling rule, {names[0]})."
    if all(map(_SQUARE_ROOT.search, names)):
        return f"Usual learning rate then: x {math.sqrt(ratio):.2g} (square root rule, {names[0]})."
    return ""


def describe_quality(answer: BatchAnswer, option: Option) -> str:
    """Say what an option needs to the quality of the job's own batch; "" where nothing is known of it."""
    text = _describe_quality(answer, option) if has_other_batch([option]) else ""
    return f"{text}." if text else ""


def _describe_quality(answer: BatchAnswer, option: Option) -> str:
    own, critical = answer.job.global_batch_size, answer.critical_batch
    if option.batch_ratio < 1:
        return "A smaller batch may need fewer samples, which is not counted"
    if critical is None or own is None:
        return ""
    if critical.unknown_because:
        return (
            f"What the larger batch costs in samples is {critical.unknown_because}: --critical-batch says it"
        )
    if option.quality_ratio is None or critical.source is None:
        return ""
    times = f"To the quality of {own:,} it needs {write_ratio(option.quality_ratio)} times the samples"
    if answer.constraints.scale == "quality":
        return f"{times}, which are counted here"
    low, high = (
        None if end is None else option.price_samples(end / (option.samples_ratio or 1.0))
        for end in (option.quality_ratio.low, option.quality_ratio.high)
    )
    return f"{times}, {write_usd(low or 0.0, high)} ({_describe_source(critical)})"


def write_usd(low: float, high: float | None) -> str:
    """Return dollars to a quality, e.g. "$148 to $245" or "at least $172"."""
    return f"at least {usd(low)}" if high is None else f"{usd(low)} to {usd(high)}"


def write_ratio(ratio: QualityRatio) -> str:
    """Return an interval of samples, e.g. "1.03 to 1.7" or "at least 1.2"."""
    return f"at least {ratio.low:.2g}" if ratio.high is None else f"{ratio.low:.3g} to {ratio.high:.2g}"


def _describe_source(critical: CriticalBatchFacts) -> str:
    """Return where a critical batch that is known comes from, and what narrows it."""
    narrow = "" if critical.source == "stated" else "; --critical-batch narrows it"
    source = _SOURCES[critical.source or "prior"].format(critical.samples.mid if critical.samples else 0)
    return f"{source}{narrow}"
