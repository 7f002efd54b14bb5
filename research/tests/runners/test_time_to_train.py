"""Minutes to a quality target: samples and evaluation are the row's, start-up is left out, skipped rows are counted."""

from __future__ import annotations

import csv
import gzip
import math
import shutil
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("timm")
pytest.importorskip("transformers")

from builders.profiles import operation, profile
from row_builders.submissions import submission
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import USUAL_FUSED_BYTES_SHARE
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_research.fits import one_device_record, submission_calibration
from trainfare_research.fitting.submission_steps import as_submitted
from trainfare_research.runners import time_to_train
from trainfare_research.runners.time_to_train import (
    minutes_of,
    network_gbit_per_s,
    score_lines,
    submission_reach,
)
from trainfare_research.truth_table import read_rows
from trainfare_research.workloads import ProfileCache, StepJob, profile_of
from trainfare_research.workloads.language.transformers_models import PretrainedBert
from trainfare_research.workloads.mlperf import mlperf_job, share_update, update_shares
from trainfare_research.workloads.vision.flux import flux_job

STEP_COLUMNS = (
    "source", "model", "model_family", "task", "params", "batch_per_device", "global_batch", "sequence_length",
    "image_size", "precision", "accelerator", "devices", "nodes", "strategy", "activation_checkpointing", "optimizer",
    "throughput", "throughput_unit", "step_time_ms", "step_time_origin", "framework", "measured", "notes", "source_ref",
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ProfileCache:
    return ProfileCache(tmp_path_factory.mktemp("traces"))


def _predict_lines(cache: ProfileCache, *lines: dict[str, str]) -> list[float]:
    _, skipped = score_lines(list(lines), cache)
    assert not skipped
    return [float(line["predicted"]) for line in lines]


def test_minutes_follow_the_samples_and_the_share_of_evaluation(cache: ProfileCache) -> None:
    once, twice, tested = _predict_lines(
        cache, submission(), submission(samples_to_converge="80000000"), submission(eval_time_fraction="0.2")
    )
    assert 5 < once < 200
    assert twice == pytest.approx(2 * once, rel=1e-4)
    assert tested == pytest.approx(once / 0.8, rel=1e-4)


def test_submissions_run_their_vendors_kernels_and_not_torch_compile(cache: ProfileCache) -> None:
    """Without fits of its own the table has the recorded overhead of submissions, which leaves fewer bytes and launches."""
    assert submission_calibration().overhead == one_device_record().submission_overhead
    assert submission_calibration().coefficients == calibration().coefficients
    line = submission()
    by_compiler = minutes_of(line, cache, {}, SimpleNamespace(of=lambda _: calibration()))
    by_vendor = minutes_of(line, cache, {}, SimpleNamespace(of=lambda _: submission_calibration()))
    assert minutes_of(line, cache, {}) == by_vendor
    assert by_vendor < by_compiler


def test_a_vendors_kernels_leave_their_own_shares_of_bytes() -> None:
    """In place of what a trace says of pointwise operations; torch.compile's overhead changes no profile."""
    groups = tuple(
        operation(kind=kind, flops=0, fused_bytes_share=share)
        for kind, share in (("elementwise", 0.9), ("softmax", None), ("matmul", None))
    )
    job = profile(operations=groups)
    gpu, tpu = accelerator("A100-SXM-80GB"), accelerator("TPU-v4")
    assert as_submitted(job, calibration().overhead, gpu) == job
    own = one_device_record().submission_overhead
    shares = [own.fused_bytes_share, own.fused_reduction_bytes_share]
    values = [group.fused_bytes_share for group in as_submitted(job, own, gpu).operations]
    assert values == [*shares, None]
    moved = [
        group.bytes_moved * USUAL_FUSED_BYTES_SHARE for group in as_submitted(job, own, tpu).operations[:2]
    ]
    whole = [group.bytes_moved * share for group, share in zip(groups, shares, strict=False)]
    assert moved == pytest.approx(whole, rel=1e-3), "where a graph compiler would leave its usual share"


def _write(path: Path, *lines: dict[str, str], names: Iterable[str] = ()) -> None:
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=[*names] or list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def test_a_fit_without_a_benchmark_does_not_depend_on_what_was_traced_before(tmp_path: Path) -> None:
    """The first run traces the rows of the fit itself; with an empty folder of traces it left them out, and scored so."""
    data, cache = tmp_path / "data", tmp_path / "traces"
    data.mkdir()
    _write(data / "kernels.csv.gz", names=("device", "op", "flag"))
    _write(data / "microbench_achieved.csv", names=("device", "dtype", "bench"))
    step = dict.fromkeys(STEP_COLUMNS, "") | {
        "source": "made", "model": "resnet18", "task": "imagenet-classification", "precision": "amp_fp16",
        "accelerator": "V100-SXM2-16GB", "devices": "1", "nodes": "1", "batch_per_device": "64", "throughput": "900",
        "throughput_unit": "samples/s", "framework": "pytorch 1.4.0", "measured": "training iterations",
    }  # fmt: skip
    _write(data / "throughput_train.csv", step)
    _write(data / "throughput_train_2.csv", names=step)
    table, scores = data / "time_to_train.csv", tmp_path / "scores.csv"
    _write(table, submission())
    text = _score_table(table, scores, cache, data)
    assert len(list(cache.iterdir())) == 2, "the step and the submission"
    again = shutil.copytree(
        cache, tmp_path / "again"
    )  # what was read from the first folder is not read again
    assert _score_table(table, scores, again, data) == text
    assert len(list(again.iterdir())) == 2


def test_a_row_that_cannot_be_read_costs_its_own_score(tmp_path: Path) -> None:
    table, scores = tmp_path / "time_to_train.csv", tmp_path / "scores.csv"
    good = submission()
    _write(table, good | {"time_to_train_min": ""}, good, good | {"global_batch_size": "many"})
    time_to_train.main(["--truth", str(table), "--rows", str(scores), "--cache", str(tmp_path / "traces")])
    first, second, third = read_rows(scores)
    assert second["predicted"]
    for row in (first, third):
        assert row["skip_reason"].startswith("cannot be read: ValueError: could not convert string to float")


def _score_table(table: Path, scores: Path, cache: Path, data: Path) -> str:
    time_to_train.run(
        Namespace(
            truth=[table],
            json=None,
            rows=[scores],
            cache=cache,
            data=data,
            leave_out="benchmark",
            traced_only=False,
        )
    )
    return scores.read_text(encoding="utf-8")


@pytest.mark.parametrize("benchmark", ["ssd300", "stable_diffusion"])
def test_what_is_evaluated_beside_or_after_training_takes_no_share(
    benchmark: str, cache: ProfileCache
) -> None:
    apart, beside = _predict_lines(
        cache, submission(benchmark=benchmark), submission(benchmark=benchmark, eval_time_fraction="0.5")
    )
    assert beside == apart


def test_stable_diffusion_is_submitted_with_half_precision_weights_in_one_layout() -> None:
    """The U-Net of 866 million parameters on 64 x 64 latents; NVIDIA's trainer compiles it (sd2_mlperf_train_moments)."""
    job = mlperf_job(submission(benchmark="stable_diffusion", round="v3.1"))
    assert isinstance(job, StepJob)
    assert (job.precision, job.optimizer, job.compiled) == ("16-true", "adam-fused", True)
    with torch.device("meta"):
        net = job.network()
        latents, texts, *_ = job.batch()
    assert sum(parameter.numel() for parameter in net.parameters()) == 865_910_724
    assert (latents.shape[1:], texts.shape[1:]) == ((4, 64, 64), (77, 1024))
    assert latents.is_contiguous(memory_format=torch.channels_last)


def test_ncf_trains_on_the_ratings_of_movielens(cache: ProfileCache) -> None:
    """A million of ratings over eight V100 take some 10 ms, as NVIDIA's trainer states (11 ms, nvidia-dle)."""
    steps = 1000
    (minutes,) = _predict_lines(
        cache,
        submission(
            benchmark="ncf", accelerator="V100-SXM2-16GB", round="v0.5", global_batch_size="1048576",
            samples_to_converge=str(1_048_576 * steps),
        ),
    )  # fmt: skip
    assert 5e-3 < minutes * 60 / steps < 20e-3


def test_bert_of_early_rounds_has_no_fused_attention() -> None:
    """From v1.0 on attention is fused, and only masked tokens have logits."""
    fields = {}
    for name in ("v0.7", "v1.0"):
        job = mlperf_job(submission(benchmark="bert", round=name))
        assert isinstance(job, StepJob)
        with torch.device("meta"):
            net = next(part for part in job.network().modules() if isinstance(part, PretrainedBert))
        fields[name] = (net.body.config._attn_implementation, net.predicted)
    assert fields == {"v0.7": ("eager", 256), "v1.0": ("sdpa", 39)}


def test_all_chips_of_a_slice_are_on_one_interconnect(cache: ProfileCache) -> None:
    """The hosts of a TPU slice need no network between them; machines with GPUs do."""
    slice_of = {"accelerator": "TPU-v4", "precision": "BF16 mixed", "accelerators_total": "64"}
    value, sixteen = _predict_lines(cache, submission(**slice_of), submission(**slice_of, nodes="16"))
    assert value == sixteen


def test_update_is_sharded_where_the_submissions_sharded_it(cache: ProfileCache) -> None:
    """Over all chips of a TPU slice; for BERT from v1.0 on over a machine's GPUs; elsewhere not."""
    tpu = {"accelerator": "TPU-v3", "benchmark": "gnmt"}
    assert update_shares(submission(**tpu, round="v0.6"), 512) == 512
    assert update_shares(submission(**tpu, round="v0.5"), 512) == 1
    assert update_shares(submission(benchmark="bert", round="v1.0"), 8) == 8
    assert update_shares(submission(benchmark="bert", round="v0.7"), 8) == 1
    assert update_shares(submission(), 8) == 1
    trace = profile_of(mlperf_job(submission()), cache)
    assert not isinstance(trace, str)
    whole, part = trace.profile, share_update(trace.profile, 8)
    for before, after in zip(whole.operations, part.operations, strict=True):
        shares = 8 if before.phase == "optimizer" else 1
        assert after.bytes_read == before.bytes_read // shares
        assert after.launches == before.launches


def test_a_row_without_a_share_gets_the_median_of_its_benchmark(cache: ProfileCache) -> None:
    stated = [submission(eval_time_fraction=share) for share in ("0.1", "0.2", "0.6")]
    *_, blank = _predict_lines(cache, *stated, submission(eval_time_fraction=""))
    assert blank == pytest.approx(float(stated[1]["predicted"]), rel=1e-4)


def test_gpus_in_excess_of_samples_evaluate(cache: ProfileCache) -> None:
    """24 GPUs and 16 samples: two machines train one sample each, the third evaluates and costs no time."""
    wide = {"host_networking": "8x HDR 200Gb/Sec", "global_batch_size": "16"}
    exact, spare = _predict_lines(
        cache,
        submission(**wide, accelerators_total="16", nodes="2"),
        submission(**wide, accelerators_total="24", nodes="3", eval_time_fraction="0.5"),
    )
    assert spare == exact


def test_a_volume_is_split_over_a_power_of_two_of_devices(cache: ProfileCache) -> None:
    """88 GPUs and 16 samples: each sample on 4 GPUs, 24 evaluate. Half the GPUs a sample have twice the work each."""
    wide = {"host_networking": "8x HDR 200Gb/Sec", "global_batch_size": "16", "benchmark": "unet3d"}
    two, four, spare = _predict_lines(
        cache,
        submission(**wide, accelerators_total="32", nodes="4"),
        submission(**wide, accelerators_total="64", nodes="8"),
        submission(**wide, accelerators_total="88", nodes="11", eval_time_fraction="0.5"),
    )
    assert spare == four
    assert 0.45 * two < four < two


def test_fp8_makes_the_blocks_of_bert_faster_on_a_chip_that_has_it(cache: ProfileCache) -> None:
    run = {"benchmark": "bert", "accelerator": "H100-SXM-80GB", "global_batch_size": "384"}
    half, eight = _predict_lines(cache, submission(**run), submission(**run, precision="FP8 mixed"))
    assert 0.5 * half < eight < half


def test_interval_comes_from_other_benchmarks(cache: ProfileCache) -> None:
    """The interval of a known benchmark is fitted without it, which the file of half-widths holds."""
    known = submission()
    new = known | {"benchmark": "something new"}
    scored, _ = score_lines([known], cache)
    assert scored[0].reach == submission_reach(known)
    assert submission_reach(known) != submission_reach(new)
    assert scored[0].reach is not None
    assert float(known["high_80"]) / float(known["predicted"]) == pytest.approx(
        math.exp(scored[0].reach[1]), rel=1e-4
    )


def test_start_up_is_billed_and_not_scored(cache: ProfileCache) -> None:
    line = submission(init_min_before_clock="7")
    scored, _ = score_lines([line], cache)
    assert float(line["billed_min"]) == pytest.approx(float(line["predicted"]) + 7, rel=1e-4)
    assert float(line["low_80"]) < float(line["predicted"]) < float(line["high_80"])
    assert (scored[0].device, scored[0].family, scored[0].source, scored[0].scope) == (
        "A100-SXM-80GB", "resnet", "own figures", "multi",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"samples_to_converge": ""}, "samples to converge"),
        ({"accelerators_total": "2048", "nodes": "256", "benchmark": "bert"}, "split over several devices"),
        ({"benchmark": "resnet", "precision": "FP8 mixed"}, "precision FP8"),
        ({"accelerator": "L40S-48GB", "accelerators_total": "16", "nodes": "2"}, "network"),
        ({"accelerators_total": "16", "nodes": "2", "host_networking": "1Gb Ethernet"}, "network"),
        ({"benchmark": "chess"}, "no description of this benchmark"),
        ({"precision": "INT4"}, "not a mode of torch"),
        ({"precision": ""}, "precision is not stated"),
        ({"accelerator": "Abacus-9"}, "not in the catalogue"),
    ],
)
def test_rows_without_a_prediction_are_counted_with_their_reason(
    cache: ProfileCache, changes: dict[str, str], reason: str
) -> None:
    line = submission(**changes)
    scored, skipped = score_lines([line], cache)
    assert (scored, sum(skipped.values())) == ([], 1)
    assert reason in line["skip_reason"]


@pytest.mark.parametrize(
    ("text", "gbit"),
    [
        ("Management: 1x Ethernet 40Gb/Sec, Compute: 8x IB HDR 200Gb/Sec", 1600.0),
        ("1x Ethernet 40Gb/Sec, 8x ConnectX-6 IB HDR 200Gb/Sec", 1600.0),
        ("Storage: 2x IB HDR 200Gb/sec, Management: 1x Ethernet 100Gb/Sec", None),
        ("Compute: 4 x [ConnectX-6] HDR 200 Gb/Sec + Management: 4 x Gigabit", 800.0),
        ("1x EDR 100Gb/Sec", 100.0),
        ("Mellanox ConnectX-6", 200.0),
        ("2x ConnectX-6, 100Gb/s Ethernet", 100.0),
        ("InfiniBand; Data bandwidth for GPU-PCIe: 504 GB/s; PCIe-NIC: 500 GB/s; Ethernet", None),
        ("1Gb Ethernet", None),
        ("NetXtreme Gigabit Ethernet 4x1Gb", None),
        ("", None),
    ],
)
def test_network_is_that_of_training_traffic(text: str, gbit: float | None) -> None:
    assert network_gbit_per_s(submission(host_networking=text)) == gbit


def test_machines_that_state_no_rate_have_the_usual_network_of_their_accelerator(cache: ProfileCache) -> None:
    two = {"accelerator": "H100-SXM-80GB", "accelerators_total": "16", "nodes": "2"}
    stated, unstated, slower = _predict_lines(
        cache,
        submission(**two, host_networking="8x 400Gb/s InfiniBand"),
        submission(**two, host_networking="Ethernet, Infiniband"),
        submission(**two, host_networking="1x 100Gb/s Ethernet"),
    )
    assert unstated == stated < slower
    slow = submission(**two, host_networking="1Gb Ethernet")
    unlisted = submission(**two | {"accelerator": "L40S-48GB"}, host_networking="Ethernet")
    for line in (slow, unlisted):
        assert score_lines([line], cache)[0] == [], "a port for logging in, and no usual network"
        assert "network" in line["skip_reason"]


def test_an_accelerator_with_ethernet_ports_needs_no_adapter() -> None:
    line = submission(
        accelerator="Gaudi1", host_networking="2x ConnectX-6", interconnect="10x 100Gb/s Ethernet"
    )
    assert network_gbit_per_s(line) == 1000.0


def test_a_rack_of_directly_linked_gpus_is_one_machine(cache: ProfileCache) -> None:
    """NVL72: 72 GPUs in 18 nodes need no network; eight GPUs of an HGX node and those of the next one do."""
    rack = {"accelerator": "GB200", "global_batch_size": "9216", "accelerators_total": "72", "nodes": "18"}
    (value,) = _predict_lines(cache, submission(**rack))
    assert value > 0
    hgx = submission(
        **{**rack, "accelerator": "H100-SXM-80GB", "nodes": "9", "host_networking": "1Gb Ethernet"}
    )
    assert "network" in next(iter(score_lines([hgx], cache)[1]))


def test_flux_has_the_published_number_of_parameters() -> None:
    """11.9 billion, in bf16; its 8-bit precision has the same trace."""
    half, eight = (flux_job({"precision": name}, 8) for name in ("BF16 mixed", "FP8 mixed (mxfp8)"))
    assert isinstance(half, StepJob)
    assert isinstance(eight, StepJob)
    assert half.key == eight.key
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in half.network().parameters())
    assert count == pytest.approx(11.9e9, rel=0.01)
    assert isinstance(flux_job({"precision": "FP16 mixed"}, 8), str)


def test_every_benchmark_with_samples_has_a_model() -> None:
    for name in ("resnet", "bert", "maskrcnn", "gnmt", "ssd300", "retinanet", "unet3d", "rnnt"):
        job = mlperf_job(submission(benchmark=name))
        assert isinstance(job, StepJob), job
        assert (job.precision, job.compiled) == ("16-true", True)


@pytest.mark.parametrize(
    ("framework", "compiled"),
    [("PyTorch 1.6", False), ("MXNet 20.06", True), ("NGC MXNet , NGC PyTorch", True)],
)
def test_only_pytorch_of_early_rounds_is_eager(framework: str, *, compiled: bool) -> None:
    job = mlperf_job(submission(round="v0.7", framework=framework))
    assert isinstance(job, StepJob)
    assert job.compiled is compiled


def test_frozen_normalisation_costs_nothing_and_the_optimizer_is_one_kernel(cache: ProfileCache) -> None:
    job = mlperf_job(submission(benchmark="retinanet"))
    trace = profile_of(job, cache)
    assert not isinstance(trace, str)
    kinds = {group.kind for group in trace.profile.operations}
    assert "normalization" not in kinds
    wide = [g for g in trace.profile.operations if g.dtype == "fp32" and g.bytes_moved > 1e9]
    assert not wide, "frozen normalisation and focal loss stay in half precision"
    assert [g.name for g in trace.profile.operations if g.kind == "optimizer"] == ["aten._fused_adam_"]


def test_ssd_has_the_parameters_of_its_reference() -> None:
    job = mlperf_job(submission(benchmark="ssd300"))
    assert isinstance(job, StepJob)
    module = job.network()
    assert sum(p.numel() for p in module.parameters()) == pytest.approx(20.0e6, rel=0.1)
