"""What the loader of a plan takes, what it would have to make to keep up, and what more workers would give."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from trainfare_core.candidates import CandidateTable
from trainfare_core.hardware.hosts import HostColumns, describe_hosts
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import round_figure
from trainfare_core.prediction.input_pipeline import (
    EVERY_VCPU,
    InputPipeline,
    find_loading_s,
    input_pipeline,
)
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.recommendation.loader import LoaderFacts

_NOTABLE_SHARE = 0.2
"""Of a step whose loader has no workers, what loading takes at least to be named. A chosen value."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the times of one plan depend on beside its loader."""

    vcpus: float
    """For one device; NaN: not known."""
    hosts: HostColumns
    samples: float
    """Of one device's step over the profile's."""
    computed_s: float

    def load(self, pipeline: InputPipeline) -> float:
        """Return the median seconds in which a step's samples are loaded."""
        return float(
            find_loading_s(pipeline, np.array([self.vcpus]), self.hosts, np.array([self.samples]))[0]
        )

    def compare(self, pipeline: InputPipeline, other: InputPipeline) -> float:
        """Return the step with another loader over that with this one, both without their doubt."""
        steps_s = [
            max(self.computed_s, self.load(each)) if each.workers else self.computed_s + self.load(each)
            for each in (other, pipeline)
        ]
        return round_figure(steps_s[0] / steps_s[1])


def describe_loader(
    profile: JobProfile, shapes: MachineShapes, candidates: CandidateTable, table: PredictionTable, plan: int
) -> LoaderFacts | None:
    """
    Return the facts of a plan's loader; None where it is counted as nothing.

    Args:
        profile: the job.
        shapes: machines.
        candidates: plans on them.
        table: their predictions.
        plan: row of both.
    """
    pipeline, samples = input_pipeline(profile), profile.batch.samples_per_step
    if not pipeline.basis:
        return None
    shape, step_s = int(candidates.shape[plan]), float(table.step_s[plan])
    computed_s = step_s - float(table.input_s[plan])
    per_machine = max(float(candidates.devices_of(shapes)[plan]), 1.0)
    passes = int(candidates.accumulate[plan]) / profile.parallel.accumulate_grad_batches
    plan_of = _Plan(
        float(shapes.vcpus[shape]) / per_machine,
        describe_hosts(np.array([-1 if shapes.host is None else shapes.host[shape]])),
        float(candidates.micro_ratio[plan]) * passes,
        computed_s,
    )
    loading_s = plan_of.load(pipeline)
    vcpus, workers = plan_of.vcpus, pipeline.workers
    more = None
    if workers < EVERY_VCPU:
        more = 2 * workers if workers else None if math.isnan(vcpus) else max(int(vcpus), 1)
    published = pipeline.basis == "published"

    def find_rate(seconds: float) -> float | None:
        known = samples and seconds > 0 and not math.isnan(vcpus)
        return round_figure(samples * plan_of.samples / seconds / vcpus) if samples and known else None

    slowest, fastest = (pipeline.at_published("slowest"), pipeline.at_published("fastest"))
    slower = loading_s > computed_s if workers else loading_s > _NOTABLE_SHARE * step_s
    return LoaderFacts(
        basis="published" if published else "stated" if pipeline.basis == "stated" else "measured",
        kind=None if profile.batch.input is None else profile.batch.input.kind,
        decides=slower,
        workers=None if workers >= EVERY_VCPU else workers,
        vcpus=None if math.isnan(vcpus) else round_figure(vcpus),
        samples_per_s_per_vcpu=find_rate(loading_s),
        slowest_per_s_per_vcpu=find_rate(plan_of.load(slowest)) if published else None,
        fastest_per_s_per_vcpu=find_rate(plan_of.load(fastest)) if published else None,
        more_workers=more,
        step_ratio_with_more=None
        if more is None
        else plan_of.compare(pipeline, replace(pipeline, workers=more)),
        step_ratio_at_fastest=plan_of.compare(pipeline, fastest) if published else None,
    )
