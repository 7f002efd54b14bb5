"""A measured profile as a run: its prediction is that of the same job without a measured step."""

from __future__ import annotations

import pytest

from builders.profiles import gpt_profile, profile
from builders.runs import BEGAN, build_measured, run
from trainfare.ledger.profiles import add_profile, record_profile
from trainfare_core.documents import Interval
from trainfare_core.errors import InputError
from trainfare_core.job_profile import JobProfile, MeasuredStep, ParallelFacts, Quantiles
from trainfare_core.ledger.correction import choose_earlier_runs
from trainfare_core.ledger.run_record import Compared, RunMachine
from trainfare_core.prediction import predict_machine


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("job", [profile(), gpt_profile()], ids=lambda job: job.name)
def test_the_prediction_knows_nothing_of_the_measured_step(job: JobProfile, devices: int) -> None:
    """It is that of `trainfare predict` for the profile as it was traced before the run, of the same plan."""
    strategy = "none" if devices == 1 else "ddp"
    job = job.model_copy(update={"parallel": ParallelFacts(devices=devices, strategy="ddp")})
    expected = predict_machine(job, "H100-SXM-80GB", devices, sharding=strategy)  # type: ignore[arg-type]
    record = record_profile(build_measured(job), BEGAN, "team")
    assert record.step_s.predicted == expected.step_s
    assert record.memory_bytes.predicted == expected.memory_bytes
    assert (record.step_s.measured, record.step_p10_s, record.step_p90_s) == (0.5, 0.45, 0.6)
    assert (record.prediction.made, record.prediction.id) == ("after", "")
    assert record.machine.accelerator == "H100-SXM-80GB"
    assert (record.machine.accelerators, record.machine.nodes) == (devices, 1)
    assert (record.software.torch, record.software.loop) == ("2.13.0", "lightning.pytorch 2.6.6")
    assert (record.state, record.project, record.run_s.measured) == ("finished", "team", None)


@pytest.mark.parametrize(
    "job",
    [
        build_measured(profile(), "cpu"),
        build_measured(profile(), "an unknown device"),
        build_measured(profile(), parallel=ParallelFacts(devices=8, num_nodes=2)),
        build_measured(profile(operations=())),
    ],
    ids=["cpu", "unknown device", "network not known", "not traced"],
)
def test_what_cannot_be_predicted_is_unknown(job: JobProfile) -> None:
    record = record_profile(job, BEGAN, "team")
    assert (record.step_s.predicted, record.prediction.made) == (None, "")
    assert record.step_s.measured == 0.5


def test_a_second_import_is_the_same_record() -> None:
    one, again = (record_profile(build_measured(profile()), BEGAN, "team") for _ in range(2))
    assert one == again
    assert record_profile(build_measured(gpt_profile()), BEGAN, "team").run_id != one.run_id


@pytest.mark.parametrize(
    ("note", "differences"),
    [
        ("this run is the plan that was priced as 0123456789ab for $1.50 [$1.00 – $2.00]", ()),
        ("this run is the plan that was priced as 0123456789ab", ()),
        (
            "this run is not the one that was priced as 0123456789ab: ddp, priced fsdp; devices 1, priced 2",
            ("ddp, priced fsdp", "devices 1, priced 2"),
        ),
    ],
)
def test_the_note_on_the_priced_plan_is_read(note: str, differences: tuple[str, ...]) -> None:
    """As `tests/plugin/meter/test_priced_plan.py` has FareMeter write it."""
    record = record_profile(build_measured(profile(), notes=("other", note)), BEGAN, "team")
    assert (record.prediction.id, record.prediction.differences) == ("0123456789ab", differences)


def test_a_run_that_ended_early_failed() -> None:
    note = "the run ended early (RuntimeError)"
    assert record_profile(build_measured(profile(), notes=(note,)), BEGAN, "team").state == "failed"


def test_a_profile_without_a_measured_step_is_refused() -> None:
    with pytest.raises(InputError, match="without measured times"):
        record_profile(profile(), BEGAN, "team")


def test_a_run_of_an_exported_plan_gets_the_prediction_of_its_trace_too() -> None:
    """What was exported may be corrected by earlier runs; by the trace, the next prediction ends at what was measured."""
    predicted = predict_machine(profile(), "H100-SXM-80GB").step_s
    steps = Compared(predicted=Interval(mid=9.0, low_80=8.0, high_80=10.0), measured=1.3 * predicted.mid)
    machine = RunMachine(accelerator="H100-SXM-80GB", accelerators=1, nodes=1)
    records = [
        add_profile(run(number, step_s=steps, machine=machine, steps_measured=40), build_measured(profile()))
        for number in range(5)
    ]
    assert all(record.step_s == steps for record in records)
    assert records[0].prediction.traced_step_s == predicted
    earlier = choose_earlier_runs(profile(), records)
    corrected = predict_machine(profile(), "H100-SXM-80GB", earlier=earlier).step_s
    assert corrected.mid == pytest.approx(1.3 * predicted.mid, rel=0.03)
    assert corrected.high_80 / corrected.low_80 < predicted.high_80 / predicted.low_80


@pytest.mark.parametrize(("wait_s", "counts"), [(0.5, False), (0.02, True)])
def test_a_loader_moves_no_prediction_of_the_device(wait_s: float, counts: bool) -> None:
    """Ten imported runs as predicted, on batches of 1.5 times the work, and a wait: half of the step, or hardly any."""
    job = gpt_profile()
    predicted = predict_machine(job, "H100-SXM-80GB").step_s
    records = []
    for number in range(10):
        step = Quantiles(
            median_s=1.5 * predicted.mid + wait_s * predicted.mid * 3,
            p10_s=predicted.mid,
            p90_s=2 * predicted.mid,
        )
        wait = Quantiles(median_s=wait_s * predicted.mid * 3, p10_s=0.0, p90_s=predicted.mid)
        measured = MeasuredStep(
            device_name="NVIDIA H100 80GB HBM3",
            device_kind="cuda",
            steps=40 + number,
            step=step,
            data_wait=wait,
            work_ratio=1.5,
        )
        records.append(record_profile(job.model_copy(update={"measured": measured}), BEGAN, "team"))
    earlier = choose_earlier_runs(job, records)
    assert bool(earlier) == counts
    after = predict_machine(job, "H100-SXM-80GB", earlier=earlier).step_s
    if counts:
        assert after.mid == pytest.approx(predicted.mid, rel=1e-4)
        assert after.high_80 < predicted.high_80
    else:
        assert after == predicted
