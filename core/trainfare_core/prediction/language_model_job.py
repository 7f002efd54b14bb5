"""Steps of language models, and of every plan that splits a model over devices; see `language_models/step.py`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import source, uncertainty
from trainfare_core.prediction.columns import (
    SMALLEST_S,
    PlacedPlans,
    StepColumns,
    input_s,
    never_faster_than_roofline,
)
from trainfare_core.prediction.language_models.coefficients import DecoderFit
from trainfare_core.prediction.language_models.plans import (
    decoder_device_s,
    decoder_log_sigma,
    decoder_plan_times,
    spread_of_plans,
)
from trainfare_core.prediction.language_models.sums import DecoderLedger
from trainfare_core.prediction.roofline.coefficients import Calibration

__all__ = ["LanguageModelJob", "decoder_correction"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LanguageModelJob:
    """Sums over a language model's operations with the coefficients that time them."""

    profile: JobProfile
    fit: Calibration
    decoder: DecoderFit
    ledger: DecoderLedger
    correction: source.SourceCorrection
    pipeline: source.InputPipeline

    def step(self, placed: PlacedPlans) -> StepColumns:
        """Return the parts of the step of every plan."""
        spread = spread_of_plans(placed.shapes, placed.plans)
        times, floor_s = decoder_plan_times(
            self.ledger, placed.devices.found, placed.devices.links, placed.row, spread, self.decoder
        )
        factor, host_factor = placed.correction_factors(self.correction, self.fit)
        device_s = times.compute_s + times.memory_s
        factor = never_faster_than_roofline(factor, device_s, floor_s, compiled=self.profile.source.compiled)
        launch_s = times.launch_s * host_factor
        waiting_s = times.bubble_s * factor + times.exposed_s
        held_s = device_s * factor + launch_s
        samples = spread.ratio * spread.passes / self.profile.parallel.accumulate_grad_batches
        return StepColumns(
            compute_s=times.compute_s * factor,
            memory_s=times.memory_s * factor,
            launch_s=launch_s,
            communication_s=waiting_s,
            hidden_s=times.hidden_s,
            input_s=input_s(self.pipeline, placed.vcpus_per_device, samples, held_s + waiting_s),
            network_s=times.network_s,
            host_share=np.clip(launch_s / np.maximum(held_s, SMALLEST_S), 0.0, 1.0),
        )

    def log_sigma(self, placed: PlacedPlans, step: StepColumns) -> Array:
        """
        Return the standard deviation of ln(step time) of every plan.

        Where the step was measured on a known GPU, the width of single-device jobs may be smaller and counts.
        """
        factors = placed.uncertainty(step, self.profile, self.correction, self.fit)
        general = uncertainty.step_log_sigma(factors, self.fit.sigma)
        spread = spread_of_plans(placed.shapes, placed.plans)
        own = decoder_log_sigma(placed.devices.found, placed.row, self.ledger, spread, self.decoder)
        # The rows behind these widths include compiled runs, and trainers without overlap that their hosts hold up.
        covered = replace(
            factors, compiled=False, launch_share=np.where(spread.overlap, factors.launch_share, 0.0)
        )
        own = uncertainty.widened(own, covered, self.fit.sigma)
        return np.asarray(np.where(factors.corrected | factors.same_device, np.minimum(general, own), own))


def decoder_correction(
    profile: JobProfile, ledger: DecoderLedger, fit: DecoderFit
) -> source.SourceCorrection:
    """Compare the measured step of a language model with its own prediction, without the network and the loader."""
    device, measured_s = source.source_device(profile), source.measured_compute_s(profile)
    if device is None or measured_s is None or profile.parallel.world_size > 1:
        return source.SourceCorrection()
    device_s, host_s = decoder_device_s(ledger, device, profile.parallel.accumulate_grad_batches, fit)
    if not np.isfinite(device_s):
        return source.SourceCorrection()
    return source.SourceCorrection.of(device, measured_s, device_s, host_s)
