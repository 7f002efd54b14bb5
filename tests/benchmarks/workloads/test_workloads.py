"""The workloads of the measured tables: what a row names is built, traced and cached; the rest has a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("timm")
pytest.importorskip("transformers")

from torch._subclasses import FakeTensorMode

from benchmarks.workloads import ProfileCache, StepJob, profile_of, resolve
from benchmarks.workloads.cache import Traced

ROW = {
    "source": "timm", "model": "resnet18", "task": "imagenet-classification", "params": "11690000",
    "batch_per_device": "8", "global_batch": "8", "sequence_length": "", "image_size": "224", "devices": "1",
    "precision": "amp_fp16", "optimizer": "sgd", "framework": "pytorch 1.12 cu113", "throughput_unit": "samples/s",
    "notes": "memory_format=channels_last",
}  # fmt: skip


def _job(**changes: str) -> StepJob:
    job = resolve({**ROW, **changes})
    assert isinstance(job, StepJob), job
    return job


def _trace(cache: ProfileCache, **changes: str) -> Traced:
    found = profile_of(_job(**changes), cache)
    assert isinstance(found, Traced), found
    return found


def test_a_trace_has_the_rows_parameters_layout_and_precision(tmp_path: Path) -> None:
    profile = _trace(ProfileCache(tmp_path)).profile
    assert sum(group.count for group in profile.parameters) == pytest.approx(float(ROW["params"]), rel=0.01)
    convolutions = [group for group in profile.operations if group.kind == "convolution"]
    assert {group.shape[11] for group in convolutions if group.phase == "forward"} == {1}
    assert {group.dtype for group in convolutions} == {"fp16"}


def test_rows_that_differ_in_batch_share_a_trace_which_is_exact(tmp_path: Path) -> None:
    cache = ProfileCache(tmp_path / "shared")
    small, shared = _trace(cache), _trace(cache, batch_per_device="16")
    alone = _trace(ProfileCache(tmp_path / "alone"), batch_per_device="16")
    assert shared.profile is small.profile
    assert (small.ratio, shared.ratio, alone.ratio) == (1.0, 2.0, 1.0)
    fixed = sum(group.bytes_fixed for group in small.profile.operations)
    moved = sum(group.bytes_moved for group in small.profile.operations)
    assert alone.profile.step_flops == 2 * small.profile.step_flops
    grown = sum(group.bytes_moved for group in alone.profile.operations)
    assert grown == pytest.approx(2 * (moved - fixed) + fixed, rel=1e-3)


def test_a_second_run_reads_the_trace_and_a_changed_row_makes_another(tmp_path: Path) -> None:
    _trace(ProfileCache(tmp_path))
    held = ProfileCache(tmp_path, only_held=True)
    assert isinstance(held.get(_job()), Traced)
    assert held.get(_job(notes="")) == "not traced yet"


def test_tf32_and_true_half_precision_are_in_the_trace(tmp_path: Path) -> None:
    row = {"source": "elsewhere", "task": "imagenet-classification-fwd-bwd", "optimizer": "none", "notes": ""}
    for precision, dtype in (("tf32", "tf32"), ("fp16_pure", "fp16"), ("fp32", "fp32")):
        profile = _trace(ProfileCache(tmp_path), precision=precision, **row).profile
        assert {group.dtype for group in profile.operations if group.kind == "convolution"} == {dtype}
        assert "optimizer" not in {group.phase for group in profile.operations}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "resnet_of_tomorrow"}, "no such model"),
        ({"precision": "int8"}, "precision int8"),
        ({"task": "pretrain", "model": "unheard-of"}, "no description"),
        ({"task": "detection", "model": "yolo-99"}, "no description of this detector"),
        (
            {"task": "segmentation", "model": "unet-medical", "batch_per_device": "", "global_batch": ""},
            "not stated",
        ),
    ],
)
def test_models_without_a_description_have_a_reason(changes: dict[str, str], reason: str) -> None:
    found = resolve({**ROW, **changes})
    assert isinstance(found, str)
    assert reason in found


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({"task": "recommendation", "model": "NCF", "batch_per_device": "4096"}, 31.8e6),
        ({"task": "finetune-squad", "model": "BERT-base-SQuAD", "sequence_length": "384"}, 110e6),
        ({"task": "translation", "model": "GNMT", "batch_per_device": "16"}, 160e6),
    ],
)
def test_rebuilt_models_have_the_published_number_of_parameters(
    changes: dict[str, str], parameters: float, tmp_path: Path
) -> None:
    profile = _trace(ProfileCache(tmp_path), **{**changes, "precision": "fp32", "notes": ""}).profile
    assert sum(group.count for group in profile.parameters) == pytest.approx(parameters, rel=0.02)
    assert profile.coverage == 1.0


def test_a_row_that_counts_audio_samples_is_waveglow() -> None:
    """Tacotron 2 and WaveGlow share a table; Tacotron 2 counts mel frames, a third of the computed ones is padding."""
    row = {"model": "Tacotron2", "task": "tts", "batch_per_device": "10", "throughput_unit": "mel-frames/s"}
    vocoder = _job(**row, notes="column=Number of samples used with FP16;batch_col=Batch size")
    synthesiser = _job(**row, notes="column=Number of mels used with FP16;batch_col=Batch size")
    assert vocoder.key.startswith("audio.waveglow.8000")
    assert vocoder.units == 10 * 8000
    assert synthesiser.key.startswith("sequence.tacotron2")
    assert 600 < synthesiser.units < 700


def test_an_unpadded_u_net_shrinks_its_image() -> None:
    """572 pixels go in and 388 come out (Ronneberger et al. 2015); nnU-Net pads and keeps its patch."""
    row = {"task": "segmentation", "batch_per_device": "1", "precision": "fp32", "notes": ""}
    for model, pixels in (("UNet-Medical", (388, 388)), ("nnU-Net[2]", (192, 160))):
        job = _job(**row, model=model)
        with FakeTensorMode():
            images, _labels = job.batch()
            assert tuple(job.network()(images).shape[2:]) == pixels


def test_sparse_update_covers_only_the_rows_of_a_batch(tmp_path: Path) -> None:
    """DLRM's tables hold 15.6 GB, its update is sparse: a batch of 64 touches 26 x 64 rows of 128 numbers at most."""
    profile = _trace(
        ProfileCache(tmp_path), task="recommendation", model="DLRM[small]", batch_per_device="64", precision="fp32",
        notes="",
    ).profile  # fmt: skip
    update = sum(group.bytes_moved for group in profile.operations if group.phase == "optimizer")
    assert update < 10 * 4 * (26 * 64 * 128 + 2.5e6)
