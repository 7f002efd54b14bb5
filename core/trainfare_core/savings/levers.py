"""
`LEVERS`: the changes of a run that may make it cheaper, each a change of the job or of what is asked of the ranking.

A lever that does not apply to a job says why; one that the ranking may use already is left out in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from trainfare_core.job_profile import JobProfile
from trainfare_core.limits.constraints import Allowed, Constraints
from trainfare_core.prices.commitments import TERM_HOURS
from trainfare_core.recommendation import LeverName, Option, SavingGroup
from trainfare_core.variants import variants_of, why_no_precision, with_implementation


@dataclass(frozen=True, slots=True)
class ChangedRun:
    """A job and what is asked for it, with a change made."""

    profile: JobProfile
    constraints: Constraints


Changed: TypeAlias = ChangedRun | str | None
"""The changed run, why it cannot be priced, or None: there is nothing to change."""


@dataclass(frozen=True, slots=True)
class Lever:
    """
    One change.

    Attributes:
        name: of the change.
        group: what it does to the result.
        change: makes it, for a run whose best option as it is was found.
    """

    name: LeverName
    group: SavingGroup
    change: Callable[[ChangedRun, Option], Changed]


def _compile(run: ChangedRun, _best: Option) -> Changed:
    source = run.profile.source
    if source.compiled or source.fused:
        return None
    return ChangedRun(with_implementation(run.profile, "compile"), run.constraints)


def _allow(*names: Allowed) -> Callable[[ChangedRun, Option], Changed]:
    def change(run: ChangedRun, _best: Option) -> Changed:
        allowed = run.constraints.allow
        if set(names) <= set(allowed):
            return None
        more = tuple(dict.fromkeys((*allowed, *names)))
        update = {"allow": more, "keep_plan": False}
        return ChangedRun(run.profile, run.constraints.model_copy(update=update))

    return change


def _precision(run: ChangedRun, best: Option) -> Changed:
    if len(variants_of(run.profile, precision=True)) == 1:
        return why_no_precision(run.profile) or "the step cannot be traced in another precision"
    return _allow("precision")(run, best)


def _loader(run: ChangedRun, best: Option) -> Changed:
    if best.loader is None:
        return "what its samples take to load is not known: `trainfare profile TARGET` times the loader"
    facts = run.profile.batch.input
    if not best.loader.decides or best.loader.more_workers is None or facts is None:
        return None
    workers = facts.model_copy(update={"workers": best.loader.more_workers})
    batch = run.profile.batch.model_copy(update={"input": workers})
    return ChangedRun(run.profile.model_copy(update={"batch": batch}), run.constraints)


def _validation(run: ChangedRun, _best: Option) -> Changed:
    plan = run.profile.plan
    if plan.validation_batches < 2:  # a single one is not halved
        return None
    epoch = plan.epoch
    if epoch is not None:
        steps, epochs = epoch.validate_every_n_steps, epoch.validate_every_n_epochs
        rarer = {"validate_every_n_epochs": 2 * (epochs or 1)}
        if steps is not None:
            rarer = {"validate_every_n_steps": 2 * steps}
        epoch = epoch.model_copy(update=rarer)
    update = {"validation_batches": plan.validation_batches // 2, "epoch": epoch}
    profile = run.profile.model_copy(update={"plan": plan.model_copy(update=update)})
    return ChangedRun(profile, run.constraints)


def _checkpoints(run: ChangedRun, _best: Option) -> Changed:
    plan = run.profile.plan
    if plan.checkpoint_every_n_steps is None:
        return None
    epoch = plan.epoch
    if epoch is not None and epoch.checkpoint_every_n_epochs is not None:
        epoch = epoch.model_copy(update={"checkpoint_every_n_epochs": 2 * epoch.checkpoint_every_n_epochs})
    update = {"checkpoint_every_n_steps": 2 * plan.checkpoint_every_n_steps, "epoch": epoch}
    profile = run.profile.model_copy(update={"plan": plan.model_copy(update=update)})
    return ChangedRun(profile, run.constraints)


def _lift(name: str) -> Callable[[ChangedRun, Option], Changed]:
    def change(run: ChangedRun, _best: Option) -> Changed:
        if getattr(run.constraints, name) is None:
            return None
        return ChangedRun(run.profile, run.constraints.model_copy(update={name: None}))

    return change


def _spot(run: ChangedRun, _best: Option) -> Changed:
    if run.constraints.purchase is not None:  # the user has chosen how to pay
        return None
    return ChangedRun(run.profile, run.constraints.model_copy(update={"purchase": ("spot",)}))


def _commitment(run: ChangedRun, _best: Option) -> Changed:
    if run.constraints.purchase is not None:
        return None
    if run.constraints.use is None:
        return "it pays from a share of its term on: --use SHARE says how much of it you would use"
    return ChangedRun(run.profile, run.constraints.model_copy(update={"purchase": tuple(TERM_HOURS)}))


LEVERS: Final = (
    Lever("compile", "same_result", _compile),
    Lever("plan", "same_result", _allow("plan")),
    Lever("recomputation", "same_result", _allow("plan", "checkpointing")),
    Lever("loader", "same_result", _loader),
    Lever("validation", "same_result", _validation),
    Lever("checkpoints", "same_result", _checkpoints),
    Lever("region", "same_result", _lift("regions")),
    Lever("service", "same_result", _lift("services")),
    Lever("cloud", "same_result", _lift("providers")),
    Lever("precision", "rounding", _precision),
    Lever("spot", "interruption_or_term", _spot),
    Lever("commitment", "interruption_or_term", _commitment),
    Lever("batch", "training", _allow("batch")),
)
"""In the order of their groups."""
