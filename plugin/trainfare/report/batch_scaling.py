"""What more devices do to the global batch of a run, and what that costs in samples, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from trainfare.report.headline import NamedOption
from trainfare.report.wording import usd
from trainfare_core.recommendation import Option, Recommendation

_SOURCES = {
    "stated": "by the critical batch that you state",
    "noise_scale": "by FareMeter's noise scale {:,.0f} samples, a factor of 4 either way",
    "token_law": "from published workloads and a law of tokens, none measured here",
    "prior": "from published workloads, none measured here",
}


def has_other_batch(options: Sequence[Option]) -> bool:
    """Return whether an option trains with another global batch than the script as it is."""
    return any(option.global_batch_size is not None and option.batch_ratio != 1 for option in options)


def describe_batches(recommendation: Recommendation, named: Sequence[NamedOption]) -> str:
    """Say of the largest global batch that is named what it is, why, and what it costs; "" where all have the job's."""
    job = recommendation.job
    if not has_other_batch([option for _, option in named]):
        return ""
    option = max((option for _, option in named), key=lambda option: option.global_batch_size or 0)
    batch, own, steps = option.global_batch_size or 0, job.global_batch_size or 1, option.optimizer_steps
    devices = option.nodes * (option.trainer.devices if option.trainer else round(option.accelerator_count))
    text = f"Each of {devices} devices has {batch // devices:,} samples: a global batch of {batch:,}, not {own:,}"
    if steps is not None and steps == job.optimizer_steps:
        text += (
            f", in the same {steps:,.0f} steps, which see {option.samples_ratio or 1:.3g} times the samples"
        )
    elif steps is not None and job.optimizer_steps:
        text += f", in {steps:,.0f} steps, not {job.optimizer_steps:,}"
    return " ".join(
        f"{sentence}." for sentence in (text, _describe_quality(recommendation, option)) if sentence
    )


def _describe_quality(recommendation: Recommendation, option: Option) -> str:
    """Return what the option needs to the quality of the job's own batch; "" where nothing is known of it."""
    own, ratio, critical = (
        recommendation.job.global_batch_size,
        option.quality_ratio,
        recommendation.critical_batch,
    )
    if critical is not None and critical.unknown_because:
        return (
            f"What the larger batch costs in samples is {critical.unknown_because}: --critical-batch says it"
        )
    if ratio is None or critical is None or critical.source is None or own is None:
        return ""
    times = f"To the quality of {own:,} it needs {_write_ratio(ratio.low, ratio.high)} times the samples"
    if recommendation.constraints.scale == "quality":
        return f"{times}, which are counted here"
    share = 1 / (option.samples_ratio or 1.0)
    low_usd = option.run_usd.mid * share * ratio.low
    high_usd = None if ratio.high is None else option.run_usd.mid * share * ratio.high
    cost = f"at least {usd(low_usd)}" if high_usd is None else f"{usd(low_usd)} to {usd(high_usd)}"
    narrow = "" if critical.source == "stated" else "; --critical-batch narrows it"
    source = _SOURCES[critical.source].format(critical.samples.mid if critical.samples else 0)
    return f"{times}, {cost} ({source}{narrow})"


def _write_ratio(low: float, high: float | None) -> str:
    return f"at least {low:.2g}" if high is None else f"{low:.3g} to {high:.2g}"
