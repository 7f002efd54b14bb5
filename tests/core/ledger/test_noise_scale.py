"""The noise scale of a job's earlier run: of the newest that measured one, and never over the profile's own."""

from __future__ import annotations

from builders.profiles import gpt_profile
from builders.runs import run
from trainfare_core.hardware.earlier_runs import MeasuredNoise
from trainfare_core.ledger.noise_scale import choose_noise_scale, with_noise_scale
from trainfare_core.ledger.run_record import RunRecord, identify_job, identify_weights

JOB = gpt_profile(batch_size=32)
OWN = identify_weights(JOB)


def test_the_newest_run_of_the_job_that_measured_one_is_taken() -> None:
    records = [
        run(3),
        run(2, noise_scale_of=OWN, noise_scale_samples=900.0),
        run(1, noise_scale_of=OWN, noise_scale_samples=100.0),
        run(4, noise_scale_of="0" * 16, noise_scale_samples=7.0),
        run(5, noise_scale_samples=8.0),
    ]
    assert choose_noise_scale(JOB, records) == (MeasuredNoise(run=f"{2:012x}", samples=900.0),)
    assert choose_noise_scale(JOB, records[3:]) == ()
    assert choose_noise_scale(JOB, records[:1]) == ()


def test_it_is_of_the_same_weights_with_a_batch_of_any_size() -> None:
    record = run(noise_scale_of=OWN, noise_scale_samples=900.0)
    other_batch, other_width = gpt_profile(batch_size=8), gpt_profile(batch_size=32, width=96)
    assert identify_job(other_batch) != identify_job(JOB)
    assert len(choose_noise_scale(other_batch, [record])) == 1
    assert choose_noise_scale(other_width, [record]) == ()


def test_a_profile_keeps_its_own() -> None:
    noise = MeasuredNoise(run="0" * 12, samples=900.0)
    noted = with_noise_scale(JOB, [noise])
    assert noted.batch.noise_scale_samples == 900.0
    assert with_noise_scale(noted, [MeasuredNoise(run="1" * 12, samples=5.0)]) == noted
    assert with_noise_scale(JOB, []) is JOB


def test_a_record_from_before_loads() -> None:
    text = run().to_json()
    old = "\n".join(line for line in text.splitlines() if "noise_scale" not in line)
    assert old != text.rstrip()
    assert RunRecord.from_json(old) == run()
