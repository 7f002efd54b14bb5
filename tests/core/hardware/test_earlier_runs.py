"""Predictions and rankings that earlier runs of the project, and figures of a device, correct, and no others."""

from __future__ import annotations

import math

import pytest

from builders.profiles import gpt_profile, profile
from builders.toy_market import book, offer_row
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.hardware.earlier_runs import DeviceFigures, EarlierRuns
from trainfare_core.job_profile import MeasuredStep, Quantiles
from trainfare_core.prediction import MachinePrediction, predict_machine
from trainfare_core.prediction.roofline.operations import Operations, Roofline
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, Option

L40S, L40, A100 = "L40S-48GB", "L40-48GB", "A100-SXM-80GB"
RUNS = EarlierRuns(
    silicon="AD102",
    accelerators=(L40S,),
    runs=("0123456789ab", "0123456789ac"),
    factor=1.3,
    log_sigma=0.05,
    shared_log_sigma=0.2,
    published_log_sigma=0.22,
    least_log_sigma=0.08,
)


def log_width(answer: MachinePrediction) -> float:
    """Return ln of the upper over the lower end of the step's interval."""
    return math.log(answer.step_s.high_80 / answer.step_s.low_80)


@pytest.mark.parametrize("job", [profile(batch_size=64), gpt_profile(batch_size=64)], ids=["resnet", "gpt"])
@pytest.mark.parametrize("name", [L40S, L40])
def test_a_step_on_the_die_of_the_runs_is_multiplied_and_surer(job: object, name: str) -> None:
    """Device time is 1.3 times as long on both cards of that die; parts add up; the answer says why, with the ids."""
    before = predict_machine(job, name)  # type: ignore[arg-type]
    after = predict_machine(job, name, earlier=(RUNS,))  # type: ignore[arg-type]
    assert after.step_s.mid == pytest.approx(1.3 * before.step_s.mid, rel=1e-6)
    assert log_width(after) < 0.9 * log_width(before)
    parts = after.parts.model_dump()
    assert sum(parts.values()) - parts["communication_hidden_s"] == pytest.approx(after.step_s.mid)
    assert after.earlier_runs == RUNS
    assert RUNS.describe() in after.notes
    assert after.memory_bytes == before.memory_bytes


def test_other_dies_keep_their_prediction() -> None:
    """Not one byte of an A100's answer changes."""
    job = gpt_profile(batch_size=64)
    assert predict_machine(job, A100, earlier=(RUNS,)).to_json() == predict_machine(job, A100).to_json()


def test_no_correction_beats_the_roofline() -> None:
    """Runs that were 50 times as fast as predicted do not let a step finish before its products can."""
    job = profile(batch_size=64)
    operations = Operations.of(job)
    roofline = Roofline.of(accelerator(L40S), operations)
    least_s = float((operations.flops * roofline.seconds_per_flop).sum())
    fast = RUNS.model_copy(update={"factor": 0.02})
    assert predict_machine(job, L40S, earlier=(fast,)).step_s.mid >= least_s


def test_a_measured_step_of_the_job_comes_first() -> None:
    """The engine takes no earlier runs where the job itself was measured on an accelerator."""
    quantiles = Quantiles(median_s=0.2, p10_s=0.2, p90_s=0.2)
    step = MeasuredStep(device_name="NVIDIA L40S", device_kind="cuda", steps=10, step=quantiles)
    job = gpt_profile(batch_size=64, measured=step)
    assert predict_machine(job, L40S, earlier=(RUNS,)) == predict_machine(job, L40S)


def identify(option: Option) -> tuple[object, ...]:
    """Return what tells one option of a ranking from another."""
    return option.accelerator, option.nodes, option.micro_batch_size, option.plan_changes


@pytest.mark.parametrize("constraints", [Constraints(), Constraints(allow=("precision", "batch"))])
def test_a_ranking_corrects_the_options_on_the_die_of_the_runs(constraints: Constraints) -> None:
    """The L40S takes more hours and says so, with the runs in the JSON; the A100 is as without, changed jobs too."""
    prices = book(
        offer_row(),
        offer_row(
            instance_type="g6e.xlarge", accelerator=L40S, accelerator_memory_gib=48.0, usd_per_hour=1.9
        ),
    )
    job, asked = gpt_profile(batch_size=64), Request(constraints, earlier_runs=(RUNS,))
    before, after = rank(job, prices, Request(constraints)), rank(job, prices, asked)
    assert after.to_json() == rank(job, prices, asked).to_json()
    assert (before.earlier_runs, after.earlier_runs) == ((), (RUNS,))
    steps = {identify(option): option.step_s.mid for option in before.options}
    assert {option.accelerator for option in after.options if identify(option) in steps} == {A100, L40S}
    for option in after.options:
        corrected = option.accelerator == L40S
        assert (RUNS.describe() in [note.text for note in option.notes]) is corrected
        if option.nodes == 1 and identify(option) in steps:
            factor = 1.3 if corrected else 1.0
            assert option.step_s.mid == pytest.approx(factor * steps[identify(option)])


def figures_of(**ratios: float) -> DeviceFigures:
    """Return figures of a device; kinds of work are named with _ for a space."""
    kinds = {
        work.replace("_", " ") if work != "all_reduce" else work: ratio for work, ratio in ratios.items()
    }
    return DeviceFigures(accelerator=L40S, measured_on="2026-11-30", software="torch 2.8.0", ratios=kinds)


@pytest.mark.parametrize(("make", "kind"), [(profile, "convolution"), (gpt_profile, "matmul")])
@pytest.mark.parametrize("ratio", [0.9, 1.5])
def test_figures_change_the_work_that_they_are_of(make: object, kind: str, ratio: float) -> None:
    """All kinds alike: the whole step. Arithmetic alone: the part of it that arithmetic limits. Other types: nothing."""
    job = make(batch_size=64)  # type: ignore[operator]
    before = predict_machine(job, L40S)
    alike = figures_of(**{f"{kind}_bf16": ratio, "matmul_bf16": ratio, "memory": ratio, "launch": ratio})
    after = predict_machine(job, L40S, earlier=(alike,))
    assert after.step_s.mid == pytest.approx(ratio * before.step_s.mid, rel=0.02)
    assert after.device_figures == alike
    assert alike.describe() in after.notes
    assert log_width(after) == pytest.approx(log_width(before), rel=1e-6)
    some = predict_machine(job, L40S, earlier=(figures_of(**{f"{kind}_bf16": ratio, "matmul_bf16": ratio}),))
    longer_s = (ratio - 1) * before.parts.compute_bound_s  # all of it products, convolutions and attention
    assert some.step_s.mid - before.step_s.mid == pytest.approx(longer_s, rel=0.1)
    other = predict_machine(job, L40S, earlier=(figures_of(matmul_fp16=ratio, convolution_fp32=ratio),))
    assert other.step_s == before.step_s


def test_slow_links_lengthen_what_several_devices_exchange() -> None:
    """Twice the seconds of an all-reduce: more exchange, exposed or hidden, and the same work on each device."""
    job = gpt_profile(batch_size=64)
    before, after = (
        predict_machine(job, L40S, 4, sharding="ddp", earlier=earlier)
        for earlier in ((), (figures_of(all_reduce=2.0),))
    )
    exchanged = [
        answer.parts.communication_s + answer.parts.communication_hidden_s for answer in (before, after)
    ]
    assert exchanged[1] > 1.5 * exchanged[0]
    assert after.parts.compute_bound_s == before.parts.compute_bound_s


def test_figures_are_of_their_device_alone() -> None:
    """Not one byte of another card's answer changes, also on the same die; earlier runs of the die come first."""
    job, figures = gpt_profile(batch_size=64), figures_of(matmul_bf16=1.5, memory=1.5)
    assert predict_machine(job, L40, earlier=(figures,)).to_json() == predict_machine(job, L40).to_json()
    both = predict_machine(job, L40S, earlier=(RUNS, figures))
    assert both.step_s == predict_machine(job, L40S, earlier=(RUNS,)).step_s


def test_a_ranking_says_which_figures_it_uses() -> None:
    """In the JSON and beside the options on the device; those on others are as without."""
    rows = (offer_row(), offer_row(instance_type="g6e.xlarge", accelerator=L40S, accelerator_memory_gib=48.0))
    figures = figures_of(matmul_bf16=1.5, memory=1.5)
    answer = rank(gpt_profile(batch_size=64), book(*rows), Request(earlier_runs=(figures,)))
    assert (answer.earlier_runs, answer.device_figures) == ((), (figures,))
    for option in answer.options:
        assert (figures.describe() in [note.text for note in option.notes]) is (option.accelerator == L40S)
