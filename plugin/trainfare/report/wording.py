"""Numbers and the catalogue's words as people read them; the same in every output."""

from __future__ import annotations

import math

from trainfare_core.recommendation import Interval, Option

__all__ = [
    "bound_words",
    "cloud_words",
    "count_words",
    "duration",
    "hardware_words",
    "interval",
    "machine_words",
    "percent",
    "place_words",
    "purchase_words",
    "span",
    "usd",
]

_CLOUDS = {
    ("aws", "ec2"): "AWS",
    ("aws", "sagemaker"): "AWS SageMaker",
    ("azure", "azure_vm"): "Azure",
    ("azure", "azure_ml"): "Azure ML",
    ("gcp", "gce"): "Google Cloud",
    ("gcp", "tpu"): "Google Cloud TPU",
}
_PURCHASE = {
    "on_demand": "on demand",
    "spot": "spot",
    "reserved_1y": "reserved 1 year",
    "reserved_3y": "reserved 3 years",
    "savings_1y": "savings plan 1 year",
    "savings_3y": "savings plan 3 years",
    "capacity_block": "capacity block",
}
_BOUND = {
    "compute": "compute",
    "memory": "memory bandwidth",
    "launch": "kernel launches",
    "communication": "communication",
    "input": "input pipeline",
}
_DURATIONS = ((7200.0, "h", 3600.0), (180.0, "min", 60.0), (1.0, "s", 1.0), (0.0, "ms", 1e-3))


def cloud_words(provider: str, service: str) -> str:
    """Return the cloud service's usual name; one that is not known keeps its own."""
    return _CLOUDS.get((provider, service), provider if provider == service else f"{provider} {service}")


def purchase_words(purchase_option: str) -> str:
    """Return a purchase option in words, e.g. 'on demand'."""
    return _PURCHASE.get(purchase_option, purchase_option)


def bound_words(bound_by: str) -> str:
    """Return what limits the step, in words."""
    return _BOUND.get(bound_by, bound_by)


def machine_words(option: Option) -> str:
    """Return how many of which machine, e.g. '2 × p5.48xlarge'."""
    return f"{option.nodes} × {option.instance_type}"


def place_words(option: Option) -> str:
    """Return the region, or the zone with its region where the zone's name does not hold it."""
    if option.zone is None or option.zone == option.region:
        return option.region
    return option.zone if option.zone.startswith(option.region) else f"{option.region} {option.zone}"


def hardware_words(option: Option) -> str:
    """Return the accelerators of the whole option, e.g. '8 × H100-SXM-80GB × 2 nodes'."""
    per_node = f"{option.accelerator_count:.3g} × {option.accelerator}"
    return per_node if option.nodes == 1 else f"{per_node} × {option.nodes} nodes"


def usd(amount: float) -> str:
    """Return dollars to the dollar from 100 up, else to the cent; two significant figures below ten cents."""
    if amount >= 99.995:
        return f"${amount:,.0f}"
    if amount >= 0.095:
        return f"${amount:.2f}"
    if amount < 1e-9:
        return "under $0.000000001" if amount else "$0"
    return f"${amount:.{1 - math.floor(math.log10(amount))}f}"


def duration(seconds: float, unit: str) -> str:
    """
    Return a duration with three significant figures.

    Args:
        seconds: the duration.
        unit: "h", "min", "s" or "ms"; "auto" takes the unit that suits the duration.
    """
    if unit == "auto":
        unit = next(name for least, name, _ in _DURATIONS if seconds >= least) if seconds else "s"
    value = seconds / next(size for _, name, size in _DURATIONS if name == unit)
    return f"{_three_figures(value)} {unit}"


def _three_figures(value: float) -> str:
    if value >= 99.95:
        return f"{value:,.0f}"
    if value >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.0995 or value == 0 else f"{value:.2g}"


def interval(value: Interval, unit: str) -> tuple[str, str]:
    """
    Return the median and the 80 % interval as text, e.g. ('$12.40', '$8.10 – $19.00').

    Args:
        value: dollars, hours, seconds or GiB.
        unit: "usd"; "h:min" for hours shown in minutes (also :s, :h, :auto); "s:ms" for seconds; "gib".
    """
    source, _, shown = unit.partition(":")
    if source == "usd":
        texts = [usd(number) for number in (value.mid, value.low_80, value.high_80)]
    elif source == "gib":
        texts = [_three_figures(number) for number in (value.mid, value.low_80, value.high_80)]
    else:
        scale = 3600.0 if source == "h" else 1.0
        texts = [
            duration(number * scale, shown or "auto") for number in (value.mid, value.low_80, value.high_80)
        ]
    return texts[0], span(texts[1], texts[2])


def span(low: str, high: str) -> str:
    """Return 'low – high', with the unit written once where both have the same."""
    number, _, unit = low.partition(" ")
    return f"{number if high.endswith(f' {unit}') else low} – {high}"


def percent(share: float) -> str:
    """Return a share of 1 as a percentage; what is neither nothing nor everything never rounds to it."""
    if 0 < share < 0.005:
        return "<1 %"
    if 0.995 <= share < 1:
        return f"{min(share, 0.999):.1%}".replace("%", " %")
    return f"{share:.0%}".replace("%", " %")


def count_words(count: float) -> str:
    """Return a large count with a prefix, e.g. '124 M' or '7.01 B'."""
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size * 0.9995:
            return f"{_three_figures(count / size)} {prefix}"
    return f"{count:.0f}"
