"""The critical batch of a job, as far as its profile and its user say it."""

from __future__ import annotations

from trainfare_core.batch_scaling.critical_batch import CriticalBatch
from trainfare_core.batch_scaling.not_predicted import NotPredicted, find_not_predicted
from trainfare_core.batch_scaling.sources import choose_critical_batch, parse_critical_batch
from trainfare_core.job_profile import JobProfile


def find_critical_batch(
    profile: JobProfile, stated: str | None = None
) -> CriticalBatch | NotPredicted | None:
    """
    Return the critical batch of a job, or why none is predicted; None where its batch is not known.

    A measured noise scale shows that a loss of no known name is a mean over samples.

    Whether a decoder begins from scratch is not known from its profile, so the law of its tokens is not used.

    Args:
        profile: the job.
        stated: by the user, see `parse_critical_batch`.

    Raises:
        InputError: what is stated is no critical batch.
    """
    given = None if stated is None else parse_critical_batch(stated)
    noise = profile.batch.noise_scale_samples
    batch, steps = profile.global_samples_per_step, profile.plan.optimizer_steps
    if not batch:
        return None
    losses = [group.name for group in profile.operations if group.kind == "loss"]
    why = find_not_predicted([profile.name, *losses])
    if why is not None and given is None and (noise is None or why != "unknown_loss"):
        return why
    return choose_critical_batch(
        base_batch=batch,
        run_samples=float(batch * steps) if steps else None,
        stated=given,
        noise_scale_samples=noise,
    )
