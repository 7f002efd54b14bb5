"""What the reader of a report should know of the profile: coverage of the trace, calibration, what was not measured."""

from __future__ import annotations

from trainfare.report.facts import list_measured_phases
from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import percent
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.features import PATHS
from trainfare_core.recommendation import Recommendation

_NAMES_SHOWN = 8
"""Names in one note before it ends with 'and N more', so that a note stays within two lines."""


def calibration_notes(recommendation: Recommendation) -> list[str]:
    """Return which of the ranked accelerators the calibration was measured on; others have wider intervals."""
    fit = calibration()
    resolved_devices = (resolve_device(option.accelerator) for option in recommendation.options)
    devices = {device.name: device for device in resolved_devices if device is not None}
    known = sorted(name for name, device in devices.items() if fit.is_known(device))
    related = sorted(
        name
        for name, device in devices.items()
        if name not in known and any(fit.is_measured(device, path) for path in PATHS)
    )
    never = sorted(set(devices) - set(known) - set(related))
    return [
        f"Calibration of {fit.fitted_at}, accelerators {what}: {_list_names(names)}."
        for what, names in (
            ("that were measured", known),
            ("not measured, but others of their generation were", related),
            ("not measured, nor any other of their generation", never),
        )
        if names
    ]


def _list_names(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def profile_notes(recommendation: Recommendation, profile: JobProfile | None) -> tuple[str, ...]:
    """Return the coverage of the trace, the calibration, what was not measured, and the profile's own notes."""
    coverage = percent(recommendation.job.trace_coverage)
    notes = [f"Trace coverage: {coverage} of the bytes moved belong to operations whose FLOPs are known."]
    if recommendation.job.measured_on is None:
        notes.append("No step was measured: times come from the operation trace and the calibration alone.")
    notes += calibration_notes(recommendation)
    if profile is None:
        return tuple(notes)
    unknown = sorted({group.name for group in profile.unknown_operations})
    if unknown:
        notes.append(f"Operations with unknown FLOPs: {_list_names(unknown)}.")
    if profile.source.compiled:
        notes.append("The step runs under torch.compile; the trace is of the uncompiled step.")
    if profile.measured is not None:
        phases = (*list_measured_phases(profile.measured), ("validation", profile.measured.validation_batch))
        missing = [name for name, times in phases if times is None]
        if missing:
            notes.append(f"Not measured: {', '.join(missing)}.")
    return (*notes, *profile.notes)
