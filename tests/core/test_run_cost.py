"""The hours of a whole run, worked out by hand, and what interruptions cost, against a simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from builders.toy_market import GIB, ToyPredictor, shapes, small_job
from trainfare_core import clouds
from trainfare_core.candidates import CandidateTable, PlanSpace, enumerate_candidates
from trainfare_core.clouds import service_startup_s
from trainfare_core.interruptions.hazard import HAZARDS, PRIOR, hazard_of_band
from trainfare_core.job_profile import (
    JobProfile,
    MeasuredStep,
    OptimizerFacts,
    ParameterGroup,
    ProfileSource,
    Quantiles,
)
from trainfare_core.limits.cost_assumptions import COMPILE_S, TORCH_COMPILE_S, CostAssumptions
from trainfare_core.run_cost.disks import disk_gib, disks_usd_per_hour
from trainfare_core.run_cost.interrupted import SPOT_WAIT_S, interruption_rates
from trainfare_core.run_cost.model import checkpoint_bytes
from trainfare_core.run_cost.sentences import cost_assumptions
from trainfare_core.run_cost.table import NOT_SPOT, RunTable
from trainfare_core.run_cost.timing import Rentals, RunTimer, forward_share

A100 = "A100-SXM-80GB"


def one_run(
    job: JobProfile,
    *,
    devices: float = 1,
    nodes: int = 1,
    spot: bool = False,
    service: str = "ec2",
    hazard: int = PRIOR,
    accelerator: str = A100,
    toy: ToyPredictor | None = None,
    billing_step_s: float = 0.0,
    billing_minimum_s: float = 0.0,
    startup_s: float | None = None,
    disk_gb_per_s: float = 1.0,
) -> RunTable:
    """Time one job on one kind of machine with the plan that accumulates nothing."""
    machines = shapes((accelerator, devices))
    plans = enumerate_candidates(job, machines, PlanSpace(16))
    row = np.flatnonzero((plans.nodes == nodes) & (plans.accumulate == 1))[:1]
    prediction = (toy or ToyPredictor())(job, machines, plans)
    rentals = Rentals(
        service=np.array([service]),
        hazard=np.array([hazard if spot else NOT_SPOT]),
        billing_step_s=np.array([billing_step_s]),
        billing_minimum_s=np.array([billing_minimum_s]),
        in_block=np.array([False]),
    )
    assumed = CostAssumptions(startup_s=startup_s, disk_gb_per_s=disk_gb_per_s)
    return RunTimer(job, machines, plans, prediction, assumed).runs(row, rentals)


def parts_s(run: RunTable) -> float:
    return float(
        run.startup_s[0]
        + run.training_s[0]
        + run.validation_s[0]
        + run.checkpoint_s[0]
        + run.interruption_s[0]
    )


def test_hours_are_start_up_and_steps() -> None:
    """36,000 steps of 0.1 s after EC2's start-up, and nothing else."""
    run = one_run(small_job(steps=36_000))
    assert run.training_s[0] == pytest.approx(3_600)
    assert run.startup_s[0] == service_startup_s("ec2")
    assert run.hours[0] == pytest.approx((3_600 + service_startup_s("ec2")) / 3600)


@pytest.mark.parametrize("spot", [False, True])
def test_hours_are_the_sum_of_their_parts(spot: bool) -> None:
    """No part is counted twice and none is forgotten: the median, and on spot machines the mean of the billed hours."""
    job = small_job(validation_batches=500, checkpoint_bytes=10**9)
    run = one_run(job, spot=spot, toy=ToyPredictor(log_sigma=0.0), startup_s=0.0)
    hours = run.mean_billed_hours + run.waiting_s / 3600 if spot else run.hours
    assert hours[0] * 3600 == pytest.approx(parts_s(run))
    assert (run.interruption_s[0] > 0) == spot


def test_an_assumed_rate_of_the_disk_is_in_doubt() -> None:
    """A run that writes for half of its time is as unsure as half of a factor of two either way; a stated rate is sure."""
    job, toy = small_job(checkpoint_bytes=100 * 10**9), ToyPredictor(log_sigma=0.0)
    machines = shapes((A100, 1))
    plans = enumerate_candidates(job, machines, PlanSpace(1))
    rentals = Rentals(
        np.array(["ec2"]), np.array([NOT_SPOT]), np.zeros(1), np.zeros(1), np.zeros(1, dtype=np.bool_)
    )
    prediction = toy(job, machines, plans)

    def find_sigma(assumed: CostAssumptions) -> float:
        run = RunTimer(job, machines, plans, prediction, assumed).runs(np.array([0]), rentals)
        assert run.checkpoint_s[0] == pytest.approx(run.training_s[0])
        return float(run.log_sigma[0])

    assert find_sigma(CostAssumptions(startup_s=0.0)) == pytest.approx(0.55 / 2)
    assert find_sigma(CostAssumptions(startup_s=0.0, disk_gb_per_s=1.0)) == 0.0


def test_a_run_of_unknown_length_is_timed_for_a_thousand_steps() -> None:
    """No start-up and no validation: only what a thousand steps take."""
    run = one_run(small_job(steps=None, validation_batches=500))
    assert run.hours[0] * 3600 == pytest.approx(1_000 * 0.1)
    assert run.startup_s[0] == run.validation_s[0] == 0


def test_rare_checkpoints_count_in_a_thousand_steps_too() -> None:
    """A run of unknown length that saves every 5,000 steps pays a fifth of a checkpoint in 1,000 of them."""
    run = one_run(small_job(steps=None, every=5_000, checkpoint_bytes=10**9))
    assert run.checkpoint_s[0] == pytest.approx(0.2 * 10**9 / CostAssumptions().disk_bytes_per_s)


@pytest.mark.parametrize(
    ("steps", "every", "writes"),
    [(10_000, 1_000, 10), (2_900, 1_000, 2), (999, 1_000, 1), (10, None, 1), (0, 5, 0)],
)
def test_checkpoints_are_written_as_planned(steps: int, every: int | None, writes: int) -> None:
    """One every n steps and at least one at the end of a run that has steps."""
    run = one_run(small_job(steps=steps, every=every, checkpoint_bytes=10**9))
    assert run.checkpoint_s[0] == pytest.approx(writes * 10**9 / CostAssumptions().disk_bytes_per_s)


def test_forward_share_is_the_forward_part_of_the_trace() -> None:
    """By FLOPs where those weigh more, by bytes else; the toy job's forward is known."""
    job = small_job()
    forward = max(2 * 4096**3 / 100, 3 * 2 * 4096**2)
    backward = max(4 * 4096**3 / 100, 2**28 + 2**26)
    assert forward_share(job) == pytest.approx(forward / (forward + backward))
    assert forward_share(small_job(operations=())) == 0


def test_recomputed_operations_are_not_forward() -> None:
    """Activation checkpointing repeats forward in backward; validation does not."""
    job = small_job()
    again = job.operations[0].model_copy(update={"recomputed": True})
    assert forward_share(small_job(operations=(*job.operations, again))) < forward_share(job)


def test_validation_is_a_forward_pass_each_and_shared_by_devices() -> None:
    """500 batches cost 500 forward parts of a step on one device, and half that on two."""
    job = small_job(validation_batches=500)
    alone, both = one_run(job), one_run(job, devices=2)
    assert alone.validation_s[0] == pytest.approx(500 * 0.1 * forward_share(job))
    assert both.validation_s[0] == pytest.approx(alone.validation_s[0] / 2)


def test_a_measured_validation_batch_is_scaled_as_the_step_is() -> None:
    """Measured at a quarter of the measured step, it is a quarter of the predicted one."""
    step = Quantiles(median_s=2.0, p10_s=2.0, p90_s=2.0)
    batch = Quantiles(median_s=0.5, p10_s=0.5, p90_s=0.5)
    measured = MeasuredStep(device_name="cpu", device_kind="cpu", steps=10, step=step, validation_batch=batch)
    run = one_run(small_job(validation_batches=500, measured=measured))
    assert run.validation_s[0] == pytest.approx(500 * 0.25 * 0.1)


def test_few_interruptions_cost_a_restart_a_wait_and_half_an_interval_each() -> None:
    """Young's first order holds where interruptions are rare."""
    job = small_job(steps=36_000, every=3_600)
    row = hazard_of_band("<5%")
    run = one_run(job, spot=True, hazard=row, toy=ToyPredictor(log_sigma=0.0))
    rate_per_s = float(HAZARDS[row].per_hour.mean()) / 3600
    expected = rate_per_s * 3_600 * (360 / 2 + service_startup_s("ec2") + SPOT_WAIT_S)
    assert run.interruption_s[0] == pytest.approx(expected, rel=0.02)
    assert run.waiting_s[0] == pytest.approx(run.interruptions[0] * SPOT_WAIT_S)


def test_a_run_starts_again_from_its_last_checkpoint() -> None:
    """The start of a machine, and 10 GB read at 1,000 MB/s."""
    run = one_run(small_job(checkpoint_bytes=10 * 10**9), spot=True)
    assert run.restart_s[0] == pytest.approx(service_startup_s("ec2") + 10)


def test_a_run_that_writes_no_checkpoint_has_none_to_keep() -> None:
    """How often it would best be saved is told by the size of its weights and of the optimizer's state."""
    job = small_job(optimizer=OptimizerFacts(names=("SGD",), state_bytes=6 * 10**6))
    plans = enumerate_candidates(job, shapes((A100, 1)), PlanSpace(1))
    assert set(checkpoint_bytes(job, plans)) == {0.0}
    assert set(checkpoint_bytes(job, plans, if_none_written=True)) == {10e6}


def test_a_spot_run_s_hours_are_the_median_of_its_ends() -> None:
    """Half of the runs have ended by then, and half are billed no more than the billed hours."""
    job = small_job(steps=3_600_000, every=36_000, checkpoint_bytes=30 * 10**9)
    run = one_run(job, spot=True)
    ends, none, certain = run.ends, np.full(1, np.inf), np.zeros(1)
    assert ends.find_chances(run.hours, none, certain)[0] == pytest.approx(0.5, abs=1e-6)
    assert ends.find_chances(none, run.billed_hours, certain)[0] == pytest.approx(0.5, abs=1e-3)
    assert run.billed_hours[0] < run.hours[0] < run.mean_billed_hours[0]


def test_each_interruption_bills_a_started_step() -> None:
    """By the hour: on average what the mean says, and more in the runs that are interrupted more often."""
    job = small_job(steps=3_600_000, every=36_000)
    by_second, by_hour = (
        one_run(job, spot=True, hazard=hazard_of_band(">20%"), billing_step_s=step_s)
        for step_s in (0.0, 3_600.0)
    )
    chances = np.arange(0.005, 1, 0.01)
    billed = [
        run.ends.select(np.zeros(100, dtype=np.int64)).find_billed_hours(chances, np.zeros(100))
        for run in (by_hour, by_second)
    ]
    more = billed[0] - billed[1]
    assert more.mean() == pytest.approx(by_hour.rounding_s[0] / 3_600, rel=0.05)
    assert more[-10:].mean() > more[:10].mean() + 0.25 * by_hour.interruptions[0]


@pytest.mark.parametrize(
    ("accelerator", "chips", "hosts"),
    [
        ("TPU-v5p", 256, 64),
        ("TPU-v5e", 256, 32),
        ("TPU-v6e", 8, 1),
        ("TPU-v6e", 1, 1),
        ("TPU-v4", 4, 1),
        (A100, 8, 1),
    ],
)
def test_a_tpu_slice_is_lost_with_one_of_its_hosts(accelerator: str, chips: int, hosts: int) -> None:
    """
    Interruptions grow with the hosts of a slice, by Google's tables "chips, hosts".

    v5p 4x8x8: 256 chips, 64 hosts (docs.cloud.google.com/tpu/docs/v5p); v5e 16x16: 256 chips, 32 hosts (.../v5e);
    v6e: 8 chips a host (.../v6e).
    """
    table = one_run(small_job(batch=256), spot=True, accelerator=accelerator, devices=chips)
    assert table.machines[0] == hosts
    rates = interruption_rates(table.hazard, table.machines)
    assert rates[0] * 3_600 == pytest.approx(hosts * HAZARDS[PRIOR].per_hour)


def test_a_spot_run_that_cannot_get_on_is_told_apart() -> None:
    """Two days of work between checkpoints, lost once a day on average, is never offered."""
    job = small_job(steps=3_600_000, every=3_600_000)
    assert not one_run(job, spot=True).gets_on[0]
    assert one_run(job, spot=False).gets_on[0]


def test_more_machines_are_interrupted_more_often() -> None:
    """One loss stops all: four machines lose four times as often for the same hours."""
    table = one_run(small_job(), spot=True, toy=ToyPredictor(default_s=0.1))
    four = one_run(small_job(), spot=True, nodes=4, toy=ToyPredictor(default_s=0.4))
    assert four.interruptions[0] == pytest.approx(4 * table.interruptions[0], rel=0.1)


def test_the_advised_interval_loses_least() -> None:
    """Saving at Young's interval beats saving twice or half as often."""
    job = small_job(steps=3_600_000, every=20_000, checkpoint_bytes=10 * 10**9)
    best = round(float(one_run(job, spot=True).best_save_steps[0]))

    def hours(every: int) -> float:
        return float(
            one_run(small_job(steps=3_600_000, every=every, checkpoint_bytes=10 * 10**9), spot=True).hours[0]
        )

    assert hours(best) < hours(2 * best)
    assert hours(best) < hours(best // 2)


def test_on_demand_machines_are_not_interrupted() -> None:
    """No lost time, no number of interruptions, no advice."""
    run = one_run(small_job())
    assert run.interruption_s[0] == run.interruptions[0] == 0
    assert math.isnan(run.best_save_steps[0])


def test_each_part_of_the_run_brings_its_own_doubt() -> None:
    """A long run is as doubtful as its step, a short one as its start-up; what spot loses is known worse."""
    long, short = one_run(small_job(steps=10**7)), one_run(small_job(steps=100))
    assert long.log_sigma[0] == pytest.approx(0.2, rel=1e-3)
    startup = 240 / (240 + short.training_s[0])
    assert short.log_sigma[0] == pytest.approx(np.hypot(0.2 * (1 - startup), 0.5 * startup), rel=0.02)
    certain = ToyPredictor(log_sigma=0.0)
    assert one_run(small_job(steps=10**7), toy=certain).log_sigma[0] == pytest.approx(0, abs=2e-4)
    assert one_run(small_job(steps=10**5), toy=certain, spot=True).log_sigma[0] > 0.01


@pytest.mark.parametrize(
    ("service", "accelerator", "compiled", "seconds"),
    [
        ("ec2", A100, False, service_startup_s("ec2")),
        ("sagemaker", A100, False, service_startup_s("sagemaker")),
        ("somewhere", A100, False, clouds.OTHER_STARTUP_S),
        ("ec2", A100, True, service_startup_s("ec2") + TORCH_COMPILE_S),
        ("tpu", "TPU-v5e", True, service_startup_s("tpu") + COMPILE_S["tpu"]),
        ("ec2", "Trainium1", False, service_startup_s("ec2") + COMPILE_S["trainium"]),
        ("ec2", "Nonesuch-1GB", False, service_startup_s("ec2")),
    ],
)
def test_start_up_depends_on_service_and_compiler(
    service: str, accelerator: str, compiled: bool, seconds: float
) -> None:
    """Each service has its start-up; XLA, Neuron and torch.compile add theirs."""
    source = ProfileSource(how="fake", tool_version="0", compiled=compiled)
    run = one_run(small_job(source=source), service=service, accelerator=accelerator)
    assert run.startup_s[0] == seconds


def test_storage_is_the_checkpoints_kept_and_each_machine_s_disk() -> None:
    """Two checkpoints of 73 GiB at ten cents a GiB and month are two cents an hour; three machines have their own."""
    item, three, nothing = np.array([1]), np.array([3]), np.zeros(1)
    price, assumed = np.full(1, 0.1), CostAssumptions()
    kept = disk_gib(np.full(1, 73.0 * GIB), assumed, item, nothing, 0.0)
    assert disks_usd_per_hour(kept, price)[0] == pytest.approx(0.02)
    assert disk_gib(np.zeros(1), assumed, item, nothing, 0.0)[0] == 0
    values = disk_gib(np.full(1, 73.0 * GIB), assumed, three, np.full(1, 100.0), GIB / 1e9)
    assert values[0] == pytest.approx(146 + 3 * 101)


def test_every_assumption_is_told() -> None:
    """Start-up, disk, interruptions, validation, unknown length and what is not counted each have a sentence."""
    text = " ".join(cost_assumptions(small_job(steps=None, validation_batches=3, checkpoint_bytes=GIB)))
    for word in (
        "sagemaker 7", "XLA 5", "1000 MB/s", "0.1 USD (a planning figure) per GiB", "0.001 to 0.1 times", "validation costs",
        "the data has no length", "1,000 optimizer steps", "not counted: taxes", "Google Cloud TPU not known",
    ):  # fmt: skip
        assert word in text, word


def test_a_run_that_takes_no_time_has_no_doubt() -> None:
    """No steps after a start-up that is stated as nothing: 0 hours for certain, not a division by zero."""
    run = one_run(small_job(steps=0), startup_s=0)
    assert (run.hours[0], run.log_sigma[0]) == (0.0, 0.0)


def test_empty_tables_stay_empty() -> None:
    """No plans, no runs, no error."""
    none = np.zeros(0, dtype=np.int64)
    empty: dict[str, Any] = {"shape": none, "nodes": none, "sharding": none, "accumulate": none}
    plans = CandidateTable(**empty, micro_batch=np.zeros(0), micro_ratio=np.zeros(0))
    prediction = ToyPredictor()(small_job(), shapes(), plans)
    rentals = Rentals(np.zeros(0, dtype=np.str_), none, np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.bool_))
    runs = RunTimer(small_job(), shapes(), plans, prediction).runs(none, rentals)
    assert len(runs) == 0


def test_rates_below_one_are_stated_and_zero_is_none() -> None:
    """A disk of half a gigabyte a second is one; one that writes nothing is an error."""
    assert CostAssumptions(disk_gb_per_s=0.5).disk_gb_per_s == 0.5
    with pytest.raises(ValidationError):
        CostAssumptions(disk_gb_per_s=0.0)


def test_validation_is_interrupted_as_training_is() -> None:
    """A run that validates for a tenth of its time loses a tenth more."""
    plain = one_run(small_job(), spot=True)
    batches = round(0.1 * 36_000 / forward_share(small_job()))
    both = one_run(small_job(validation_batches=batches), spot=True)
    assert both.validation_s[0] == pytest.approx(0.1 * both.training_s[0], rel=0.01)
    assert both.interruptions[0] == pytest.approx(1.1 * plain.interruptions[0], rel=0.02)


def test_how_validation_was_timed_is_told() -> None:
    """By the trace, or by its own measurement where there is one."""
    quantiles = Quantiles(median_s=0.5, p10_s=0.5, p90_s=0.5)
    measured = MeasuredStep(
        device_name="cpu", device_kind="cpu", steps=10, step=quantiles, validation_batch=quantiles
    )
    traced, timed = (
        " ".join(cost_assumptions(small_job(validation_batches=3, measured=step)))
        for step in (None, measured)
    )
    assert "validation costs the forward part of the step (33 % by the trace)" in traced
    assert "validation costs the measured validation batch" in timed


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(999, "999 bytes"), (3 * 2**10, "3 KiB"), (5 * 2**19, "2.5 MiB"), (2**30, "1 GiB")],
)
def test_the_size_of_a_checkpoint_is_in_the_unit_that_suits_it(size_bytes: int, text: str) -> None:
    assert f"a checkpoint of {text} is written" in " ".join(
        cost_assumptions(small_job(checkpoint_bytes=size_bytes))
    )


def test_the_assumptions_say_the_age_of_the_bands_and_what_the_trained_model_is() -> None:
    """AWS's Spot Advisor in the table is of 2025-06; of a checkpoint of 12 GB with 8 GB of state 4 GB are the model."""
    weights = (ParameterGroup(dtype="fp32", trainable=True, count=10**9, parameter_bytes=4 * 10**9),)
    job = small_job(
        parameters=weights,
        checkpoint_bytes=12 * 10**9,
        optimizer=OptimizerFacts(names=("AdamW",), state_bytes=8 * 10**9),
    )
    text = " ".join(cost_assumptions(job, data_gb=10.0))
    assert (
        "a band that did not come with the price is of 2025-06 or later, and one band wider to either side for each year since"
        in text
    )
    assert "(a trained model of 4 GB: weights, without optimizer state)" in text
    assert "trained model of" not in " ".join(cost_assumptions(small_job(steps=None), data_gb=10.0))
