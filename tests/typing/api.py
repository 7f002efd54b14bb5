"""Never run: mypy and pyright read it, so that a change of the public types is seen."""

from __future__ import annotations

from concurrent.futures import Executor

from torch import nn
from torch.optim import Optimizer

from trainfare import FareMeter, TrainingJob, recommend, recommend_many, trace_job
from trainfare.huggingface import FareMeter as HuggingFaceMeter
from trainfare_core.errors import TrainfareError
from trainfare_core.job_profile import JobProfile
from trainfare_core.limits.constraints import Constraints
from trainfare_core.recommendation import Recommendation


def before_launch() -> Recommendation:
    """The pre-launch path, typed from end to end."""
    job = TrainingJob(module=object, batch=lambda: None, batch_size=8, max_steps=100, precision="bf16-mixed")
    profile: JobProfile = trace_job(job)
    return recommend(
        profile,
        providers=["aws"],
        regions=None,
        purchase=["spot"],
        max_usd=50.0,
        deadline_hours=4,
        value_usd_per_month=500,
        objective="fastest",
    )


def before_launch_within(limits: Constraints) -> Recommendation:
    """The limits as one object, some of them over it by keyword."""
    return recommend("job.json", limits, exclude="H100", max_accelerators=8, quota="quotas.toml", limit=5)


def of_many_jobs(executor: Executor, limits: Constraints) -> list[Recommendation | TrainfareError]:
    """An answer or an error for each job."""
    return list(recommend_many(["a.json", "b.json"], executor=executor, constraints=limits, max_usd=50))


def while_training() -> FareMeter:
    """The callback with its documented arguments."""
    return FareMeter(
        warmup_steps=3,
        measure_steps=10,
        machine="aws:p4d.24xlarge@us-east-1",
        budget_usd=100.0,
        deadline_hours=8.0,
        value_usd_per_month=500.0,
        value_usd_per_hour=20.0,
        quota="quotas.toml",
        report_dir=None,
    )


def while_training_elsewhere(model: nn.Module, optimizer: Optimizer) -> tuple[object, ...]:
    """The arguments of the other loops are typed too: what one does not take is an error."""
    return (
        HuggingFaceMeter(warmup_steps=3, providers=["aws"], log_metrics=False),
        HuggingFaceMeter(pilot="lora"),  # type: ignore[call-arg]
        FareMeter.loop(model, optimizer, total_steps=100, on_budget="checkpoint_and_stop", budget_usd=9.0),
        FareMeter.loop(model, optimizer, noise_scale=True),
        FareMeter.loop(model, optimizer, log_metrics=True),  # type: ignore[call-arg]
        FareMeter(measure_steps="10"),  # type: ignore[arg-type]
    )
