"""What more devices do to the global batch of a run, and what that costs in samples, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from trainfare.report.headline import NamedOption
from trainfare.report.wording import has_other_batch, machine_label, usd
from trainfare_core.number_format import hours_text
from trainfare_core.recommendation import CriticalBatchFacts, Option, QualityRatio, Recommendation

_SOURCES = {
    "stated": "by the critical batch that you state",
    "noise_scale": "by FareMeter's noise scale {:,.0f} samples, a factor of 4 either way",
    "token_law": "from published workloads and a law of tokens, none measured here",
    "prior": "from published workloads, none measured here",
}


def describe_batches(recommendation: Recommendation, named: Sequence[NamedOption]) -> str:
    """
    Say of the largest global batch that is named what it is, why, and what it costs.

    Where all have the job's: what the fastest run with the script's batch on each device is, if that is much faster.
    """
    options = [option for _, option in named]
    if not has_other_batch(options):
        return _describe_scaled(recommendation)
    others = [(titles, option) for titles, option in named if option.batch_ratio != 1]
    titles, largest = max(others, key=lambda item: item[1].global_batch_size or 0)
    text = describe_batch(recommendation, largest)
    return text if len(others) == 1 else f"{', '.join(titles).capitalize()}: {text[0].lower()}{text[1:]}"


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


def describe_batch(recommendation: Recommendation, option: Option) -> str:
    """Say of an option with another global batch than the script's what it is, why, and what it costs; else ""."""
    job, batch, steps = recommendation.job, option.global_batch_size, option.optimizer_steps
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
    return " ".join(
        f"{sentence}."
        for sentence in (
            text,
            _describe_quality(recommendation, option),
            _describe_sharing(option, job.global_batch_size or 1),
        )
        if sentence
    )


def _describe_sharing(option: Option, own_batch: int) -> str:
    """Say on how many devices the batches that a script adds up could be shared instead; "" where it adds up none."""
    if option.accumulate_grad_batches == 1 or option.batch_ratio <= 1:
        return ""
    shared = round(_count_devices(option) / option.batch_ratio * option.accumulate_grad_batches)
    return (
        f"The {option.accumulate_grad_batches} batches added up for a step could be shared by up to {shared} devices, "
        f"which keeps {own_batch:,}: --scale batch"
    )


def _describe_quality(recommendation: Recommendation, option: Option) -> str:
    """Return what the option needs to the quality of the job's own batch; "" where nothing is known of it."""
    own, critical = recommendation.job.global_batch_size, recommendation.critical_batch
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
    times = f"To the quality of {own:,} it needs {_write_ratio(option.quality_ratio)} times the samples"
    if recommendation.constraints.scale == "quality":
        return f"{times}, which are counted here"
    return f"{times}, {_describe_cost(option, option.quality_ratio)} ({_describe_source(critical)})"


def _describe_cost(option: Option, ratio: QualityRatio) -> str:
    """Return the dollars of the samples to the quality; what is paid before the first step stays."""
    paid, cost = option.run_usd.mid, option.cost_parts
    once_usd = min(cost.startup_usd + cost.staging_usd + cost.transfer_usd + cost.model_usd, paid)

    def price(times: float) -> str:
        return usd(once_usd + (paid - once_usd) / (option.samples_ratio or 1.0) * times)

    low = price(ratio.low)
    return f"at least {low}" if ratio.high is None else f"{low} to {price(ratio.high)}"


def _write_ratio(ratio: QualityRatio) -> str:
    """Return an interval of samples, e.g. "1.03 to 1.7" or "at least 1.2"."""
    return f"at least {ratio.low:.2g}" if ratio.high is None else f"{ratio.low:.3g} to {ratio.high:.2g}"


def _describe_source(critical: CriticalBatchFacts) -> str:
    """Return where a critical batch that is known comes from, and what narrows it."""
    narrow = "" if critical.source == "stated" else "; --critical-batch narrows it"
    source = _SOURCES[critical.source or "prior"].format(critical.samples.mid if critical.samples else 0)
    return f"{source}{narrow}"
