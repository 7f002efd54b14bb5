"""The noise scale that an earlier run of a job measured, for its next answer."""

from __future__ import annotations

from collections.abc import Iterable

from trainfare_core.hardware.earlier_runs import Evidence, MeasuredNoise
from trainfare_core.job_profile import JobProfile
from trainfare_core.ledger.run_record import RunRecord, identify_weights


def choose_noise_scale(profile: JobProfile, records: Iterable[RunRecord]) -> tuple[MeasuredNoise, ...]:
    """
    Return the noise scale of the newest run of a job that measured one; nothing where none did.

    It is a property of weights, data and optimizer: the step may have another batch, or be traced in another way.

    Args:
        profile: the job.
        records: of its project, in any order.
    """
    measured = [record for record in records if record.noise_scale_samples and record.noise_scale_of]
    if not measured:  # else the job need not be digested
        return ()
    weights = identify_weights(profile)
    own = [record for record in measured if record.noise_scale_of == weights]
    newest = max(own, key=lambda record: (record.started_at, record.run_id), default=None)
    return (
        () if newest is None else (MeasuredNoise(run=newest.run_id, samples=newest.noise_scale_samples or 0),)
    )


def with_noise_scale(profile: JobProfile, evidence: Iterable[Evidence]) -> JobProfile:
    """Return a profile with the noise scale of an earlier run, unless it has its own."""
    noise = next((entry for entry in evidence if isinstance(entry, MeasuredNoise)), None)
    if noise is None or profile.batch.noise_scale_samples is not None:
        return profile
    batch = profile.batch.model_copy(update={"noise_scale_samples": noise.samples})
    return profile.model_copy(update={"batch": batch})
