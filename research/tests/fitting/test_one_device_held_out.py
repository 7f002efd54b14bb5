"""The protocols of rows of one device: a device left out of the fit, and one step measured on another device."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("timm")
pytest.importorskip("transformers")

from builders.profiles import profile
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.uncertainty import Z80
from trainfare_research.fits import one_device_record
from trainfare_research.fitting.calibration_file import with_coefficients
from trainfare_research.fitting.launched_rows import read_launched_rows
from trainfare_research.fitting.one_device_held_out import one_step_answers
from trainfare_research.fitting.one_device_rows import Index
from trainfare_research.fitting.one_device_solver import prior
from trainfare_research.fitting.one_plan import Answer
from trainfare_research.fitting.step_answers import step_answers
from trainfare_research.fitting.step_work import Work, job_of
from trainfare_research.runners import step_time
from trainfare_research.runners.step_time import fits_of, trace_backwards
from trainfare_research.scoring import Scored, reach, score
from trainfare_research.truth_table import read_rows, write_rows
from trainfare_research.workloads import ProfileCache, StepJob
from trainfare_research.workloads.cache import Traced
from trainfare_research.workloads.language.decoder_rows import is_decoder_row

JOB = profile(batch_size=128, dtype="fp16")
COLUMNS = (
    "batch_per_device", "global_batch", "sequence_length", "image_size", "params", "optimizer", "strategy", "nodes",
    "activation_checkpointing", "step_time_ms", "step_time_origin", "notes", "task", "throughput_unit", "model_family",
    "source_ref", "model_tflops_per_device", "mfu", "hfu", "peak_memory_gib", "throughput",
)  # fmt: skip
"""Of throughput_train.csv, beside those of `line`."""


def line(name: str, framework: str = "pytorch 2.3.0") -> dict[str, str]:
    return {
        "source": "made", "model": "resnet50", "precision": "amp_fp16", "framework": framework, "accelerator": name,
        "devices": "1", "measured": "training iterations",
    }  # fmt: skip


def alone(name: str, work: Work) -> Answer:
    answer = step_answers([line(name)], {0: work}, None)[0]
    assert isinstance(answer, Answer)
    return answer


def test_what_a_row_timed_beside_the_step_is_in_its_prediction() -> None:
    """A trainer's loop multiplies the step, the copy of its batch adds to it."""
    bare = alone("V100-SXM2-16GB", Work(JOB, 1.0, 0.2)).predicted_s
    both = alone("V100-SXM2-16GB", Work(JOB, 1.0, 0.2, extra_s=0.01, factor=1.1)).predicted_s
    assert both == pytest.approx(1.1 * bare + 0.01)


@pytest.mark.parametrize("slower", [0.8, 1.5])
def test_one_measured_step_moves_the_other_device_its_way(slower: float) -> None:
    """What the V100's step took over its prediction carries over to the A100 in part, and never to the V100 itself."""
    names = ("V100-SXM2-16GB", "A100-SXM4-80GB")
    plain = [alone(name, Work(JOB, 1.0, 1.0)).predicted_s for name in names]
    works = {0: Work(JOB, 1.0, plain[0] * slower), 1: Work(JOB, 1.0, plain[1])}
    fields = one_step_answers([line(name) for name in names], works, None)
    moved = fields[1][0].predicted_s / plain[1]
    assert min(1.0, slower) < moved < max(1.0, slower) or moved == pytest.approx(slower, rel=1e-2)
    assert fields[0][0].predicted_s == pytest.approx(plain[0], rel=1e-6)


def test_steps_of_other_software_or_of_the_same_chip_measure_nothing() -> None:
    lines = [line("V100-SXM2-16GB"), line("V100-SXM2-32GB"), line("A100-SXM4-80GB", "pytorch 1.4.0")]
    assert one_step_answers(lines, {i: Work(JOB, 1.0, 0.3) for i in range(3)}, None) == {}


def test_a_fit_without_a_device_does_not_know_it() -> None:
    """The device's own coefficient is gone, and its generation's where nothing else of it was measured."""
    fit = calibration()
    index = Index(prior)
    for name in (
        "launch_device", "launch_timed", "launch_host", "host_backward", "old_host", "old_host_year", "winograd",
        "trainer", "tensor|1", "vector|1", "tensor|gen:volta", "tensor|gen:ampere", "memory|gen:volta",
        "shared|silicon:GV100", "shared|silicon:GA100", "memory|silicon:GV100", "memory|silicon:GA100",
        "fused_launches",
    ):  # fmt: skip
        index.add(name)
    theta = np.array(index.mean) + 0.1  # rows moved all terms
    result = with_coefficients(fit, index, theta, ["A100-SXM-80GB"])
    volta, ampere = accelerator("V100-SXM2-16GB"), accelerator("A100-SXM4-80GB")
    assert fit.is_known(volta)
    assert (result.is_known(volta), result.is_measured(volta, "tensor")) == (False, False)
    assert (result.is_known(ampere), result.is_measured(ampere, "tensor")) == (True, True)
    assert result.is_measured(accelerator("A100-SXM-40GB"), "tensor")
    assert not result.is_known(accelerator("A100-SXM-40GB"))
    assert result.sigma == fit.sigma


def test_intervals_have_the_shape_of_their_situation() -> None:
    """Each situation's reaches grow with the level, and coverage counts with the row's own."""
    reaches = one_device_record().reaches
    assert set(reaches) == {
        "trainer", "steps", "trainer:unseen", "steps:unseen", "corrected:unseen", "kernels:unseen",
    }  # fmt: skip
    for name, levels in reaches.items():
        assert 0 < levels["50"] < levels["80"] < levels["90"], name
    near = Scored(reach("steps", 0.1)[1] * 0.999, 0.1, "a", "b", "c", "single", reach("steps", 0.1))
    assert score([near])["coverage"]["80"] == 1.0
    assert reach("steps", 0.2) == pytest.approx([2 * width for width in reach("steps", 0.1)])
    assert reach("steps", 0.1) < reach("trainer", 0.1)


def test_leaving_out_without_measurements_to_fit_on_is_refused(tmp_path: Path) -> None:
    """Nothing is called left out that the shipped fit contains."""
    cache = ProfileCache(tmp_path)
    with pytest.raises(SystemExit, match="--data"):
        fits_of(Namespace(leave_out="device", data=None), cache)
    assert fits_of(Namespace(leave_out="size", data=None), cache) is None
    assert fits_of(Namespace(leave_out=None, data=None), cache) is None


def test_several_devices_alone_are_scored_without_language_models(tmp_path: Path) -> None:
    """The lines of unseen chips in accuracy.md are of these rows; fits for the others would take minutes."""
    fields = dict.fromkeys(COLUMNS, "") | line("A100-SXM4-80GB") | {
        "throughput": "400", "throughput_unit": "samples/s", "nodes": "1", "strategy": "ddp",
        "task": "imagenet-classification", "batch_per_device": "32",
    }  # fmt: skip
    several = fields | {"devices": "8"}
    decoder = several | {"source": "megatron", "model": "gpt-1b", "task": "pretrain"}
    assert is_decoder_row(decoder)
    table, scored = tmp_path / "table.csv", tmp_path / "scored.csv"
    write_rows(table, [fields, several, decoder])
    for alone, kept in ((True, [several]), (False, [fields, several, decoder])):
        step_time.run(
            Namespace(
                truth=[table], json=None, rows=[scored], cache=tmp_path, traced_only=False, several=alone,
                leave_out=None, data=None, one_measured_step=False, trace_backwards=False,
            )
        )  # fmt: skip
        assert [(row["model"], row["devices"]) for row in read_rows(scored)] == [
            (row["model"], row["devices"]) for row in kept
        ]


def test_a_row_that_cannot_be_read_costs_its_own_score(tmp_path: Path) -> None:
    """An empty cell, text for a number, a name that the reader of its source does not know."""
    good = dict.fromkeys(COLUMNS, "") | line("A100-SXM4-80GB") | {
        "throughput": "400", "throughput_unit": "samples/s", "nodes": "1", "strategy": "ddp",
        "task": "imagenet-classification", "batch_per_device": "32",
    }  # fmt: skip
    table, scored = tmp_path / "table.csv", tmp_path / "scored.csv"
    strange = [
        good | {"devices": ""},
        good | {"throughput": "0"},
        good | {"source": "lambda-dlbench", "accelerator": "none"},
        good | {"source": "megatron", "model": "gpt-1b", "task": "pretrain", "devices": "a few"},
    ]
    write_rows(table, [*strange, good])
    step_time.main(["--truth", str(table), "--rows", str(scored), "--cache", str(tmp_path / "traces")])
    *others, last = read_rows(scored)
    assert last["predicted"]
    assert not last["skip_reason"]
    for row in others:
        assert row["skip_reason"].startswith("cannot be read: "), row["skip_reason"]
        assert not row["predicted"]


def test_a_second_process_traces_a_table_from_its_end(tmp_path: Path) -> None:
    """It stops at nothing that is there, and writes no scores; language models have traces of their own."""
    fields = dict.fromkeys(COLUMNS, "") | line("A100-SXM4-80GB") | {
        "throughput": "400", "throughput_unit": "samples/s", "nodes": "1", "strategy": "ddp",
        "task": "imagenet-classification", "batch_per_device": "32",
    }  # fmt: skip
    small, half, large = [
        fields | {"source": "timm", "model": name, "precision": precision}
        for name, precision in (("resnet18", "fp32"), ("resnet18", "amp_fp16"), ("resnet34", "fp32"))
    ]
    lines = [small, half, large]
    decoder = fields | {"devices": "8", "source": "megatron", "model": "gpt-1b", "task": "pretrain"}
    table, cache = tmp_path / "table.csv", tmp_path / "cache"
    write_rows(table, [*lines, decoder, large | {"batch_per_device": "64"}])
    jobs_by_key = {name: job_of(fields) for name, fields in zip("abc", lines, strict=True)}
    assert all(isinstance(job, StepJob) for job in jobs_by_key.values())
    texts: list[str] = []

    class Watched(ProfileCache):
        def get(self, job: StepJob) -> Traced | str:
            texts.extend(
                name
                for name, other in jobs_by_key.items()
                if isinstance(other, StepJob) and other.key == job.key
            )
            return super().get(job)

    trace_backwards(read_launched_rows(table)[1:2], Watched(cache))
    assert texts == ["b"]
    trace_backwards(read_launched_rows(table), Watched(cache))
    assert texts == ["b", "c", "a"], "from the last to the first, but for what is there"
    assert len(list(cache.iterdir())) == 3
    trace = ProfileCache(cache, only_held=True).get(jobs_by_key["c"])
    assert isinstance(trace, Traced)
    assert trace.ratio == 1, "at the batch of the first row that shares it, as a run from the first makes it"


def test_the_interval_is_as_wide_as_held_out_scores() -> None:
    """The interval holds 80 % of models left out on a known device, and of models and chips left out on a new one."""
    record = one_device_record()
    for name in (
        "trainer",
        "trainer:unseen",
    ):  # wider by up to a fifth where another situation's errors are the larger
        assert Z80 * 5 / 6 <= record.reaches[name]["80"] <= 1.02 * Z80
    for name in ("workload_left_out", "chip_and_workload_left_out"):
        assert record.scores[name]["n"] >= 1000
