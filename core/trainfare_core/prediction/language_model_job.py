"""Steps of language models, and of every plan that splits a model over devices; see `language_models/step.py`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Array
from trainfare_core.candidates import ModelParallel
from trainfare_core.prediction import uncertainty
from trainfare_core.prediction.columns import (
    SMALLEST_S,
    PlacedPlans,
    Run,
    StepColumns,
    never_faster_than_roofline,
)
from trainfare_core.prediction.language_models.plans import decoder_log_sigma, decoder_plan_times
from trainfare_core.prediction.language_models.step import Spread
from trainfare_core.prediction.language_models.sums import DecoderLedger
from trainfare_core.prediction.loop_time import find_pass_s
from trainfare_core.prediction.roofline.host import host_bound
from trainfare_core.variants import find_compute_type


def language_model_steps(run: Run, placed: PlacedPlans) -> tuple[StepColumns, Array]:
    """Return the parts of the step of every plan, and the standard deviation of ln(step time)."""
    ledger, spread = run.ledger or DecoderLedger.of(run.profile), _spread(placed)
    times, floor_s = decoder_plan_times(
        ledger, placed.devices.found, placed.devices.links, placed.row, spread,
        run.profile.parallel.accumulate_grad_batches, run.decoder,
    )  # fmt: skip
    device_s = times.compute_s + times.memory_s
    factor = never_faster_than_roofline(run, placed.factor, device_s, floor_s)
    waiting_s = times.bubble_s * factor + times.exposed_s
    own_s = find_pass_s(run.profile) * spread.passes * placed.factor
    held_s = host_bound(device_s * factor + times.launch_s * placed.factor, own_s)
    launch_s = held_s - device_s * factor
    step = StepColumns(
        compute_s=times.compute_s * factor,
        memory_s=times.memory_s * factor,
        launch_s=launch_s,
        communication_s=waiting_s,
        hidden_s=times.hidden_s,
        samples=spread.ratio * spread.passes / run.profile.parallel.accumulate_grad_batches,
        network_s=times.network_s,
        synchronized_s=np.zeros_like(device_s),
        host_share=np.clip(launch_s / np.maximum(held_s, SMALLEST_S), 0.0, 1.0),
    )
    return step, _log_sigma(run, ledger, placed, spread, step)


def _log_sigma(
    run: Run, ledger: DecoderLedger, placed: PlacedPlans, spread: Spread, step: StepColumns
) -> Array:
    """
    Return the standard deviation of ln(step time) of every plan.

    Where the step was measured on a known GPU, the width of single-device jobs may be smaller and counts.
    """
    factors = placed.uncertainty(run, step)
    general = uncertainty.step_log_sigma(factors, run.fit.sigma)
    sigma = decoder_log_sigma(placed.devices.found, placed.row, ledger, spread, run.decoder)
    # Nine fitted rows have products in 4 bits, of one chip, one has products of integers, and none has Lightning's
    # layers of Transformer Engine. The rows of libraries are Megatron's and NeMo's: of a trainer that is only known to
    # have fused kernels, published runs took 0.7 to 1.3 times as long as predicted (`test_published_runs.py`).
    four = ledger.product4_flops + ledger.grouped4_flops
    unfitted = run.profile.source.fused or find_compute_type(run.profile.precision) == "fp8"
    if unfitted or float(four + ledger.integer):
        sigma = np.hypot(sigma, uncertainty.UNFITTED_SIGMA)
    # The rows behind these widths include compiled runs, and trainers without overlap that their hosts hold up.
    covered = replace(factors, launch_share=np.where(spread.overlap, factors.launch_share, 0.0))
    sigma = uncertainty.widen_sigma(sigma, covered, run.fit.sigma)
    return np.asarray(np.where(factors.corrected | factors.same_device, np.minimum(general, sigma), sigma))


def _spread(placed: PlacedPlans) -> Spread:
    """Return how each plan is spread, n rows."""
    plans = placed.plans
    parallel = plans.parallel or ModelParallel.none(len(plans))

    def column(values: NDArray[np.int64]) -> Array:
        return values.astype(np.float64)

    return Spread(
        ratio=plans.micro_ratio, passes=column(plans.accumulate), per_machine=placed.per_machine,
        machines=placed.nodes, network_per_s=placed.network_bytes_per_s, tensor=column(parallel.tensor),
        pipeline=column(parallel.pipeline), virtual=column(parallel.virtual), context=column(parallel.context),
        expert=column(parallel.expert), sharded=placed.sharded,
        sharded_optimizer=parallel.sharded_optimizer | placed.zero, overlap=parallel.overlap,
        hybrid=placed.hybrid, every_pass=placed.zero_2,
        sequence_parallel=parallel.sequence_parallel,
    )  # fmt: skip
