"""The workloads of the measured tables: what a row names is built, traced and cached; the rest has a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("timm")
pytest.importorskip("transformers")

import torch
from torch._subclasses import FakeTensorMode

from trainfare_research.fitting.step_work import work_of
from trainfare_research.workloads import ProfileCache, StepJob, profile_of, resolve
from trainfare_research.workloads.cache import Traced

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
    trace = profile_of(_job(**changes), cache)
    assert isinstance(trace, Traced), trace
    return trace


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
    cache = ProfileCache(tmp_path, only_held=True)
    assert isinstance(cache.get(_job()), Traced)
    assert cache.get(_job(notes="")) == "not traced yet"


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
    job = resolve({**ROW, **changes})
    assert isinstance(job, str)
    assert reason in job


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


@pytest.mark.parametrize(
    ("changes", "parameters", "key"),
    [
        ({"task": "train", "model": "torchvision resnet50"}, 25_557_032, "torchvision.resnet50."),
        ({"task": "train", "model": "ViT-B/16"}, 86_567_656, "torchvision.vit_b_16."),
        ({"task": "train", "model": "MobileNetV2"}, 3_504_872, "torchvision.mobilenet_v2."),
        # A name that timm lacks, in the table whose names are timm's.
        (
            {"task": "imagenet-classification", "source": "timm", "model": "vit_l_16"},
            304_326_632,
            "torchvision.vit_l_16.",
        ),
        (
            {"task": "finetune_full", "model": "swin-base-patch4-window7-224-in22k"},
            87_768_224,
            "timm.swin_base_patch4_window7_224.",
        ),
        (
            {"task": "train", "model": "MobileNetV3-Large"},
            5_483_032,
            "torchvision.mobilenet_v3_large.",
        ),
        ({"task": "train", "model": "ResNeXt50"}, 25_028_904, "torchvision.resnext50_32x4d."),
        ({"task": "train", "model": "ResNet-50 (ImageNet)"}, 25_557_032, "torchvision.resnet50."),
        (
            {"task": "train", "model": "ViT-S/16 ImageNet (AlgoPerf)"},
            22_050_664,
            "timm.vit_small_patch16_224.",
        ),
        (
            {"task": "finetune_full", "model": "swinv2-base-patch4-window8-256", "image_size": "256"},
            87_922_400,
            "timm.swinv2_base_window8_256.",
        ),
        (
            {"task": "imagenet-classification", "model": "Wide ResNet-50"},
            68_883_240,
            "torchvision.wide_resnet50_2.",
        ),
        ({"task": "train", "model": "ResNet-18 (CIFAR variant)"}, 11_173_962, "small.resnet18"),
        (
            {"task": "finetune_full", "model": "BERT-base SQuAD", "sequence_length": "384"},
            108_893_186,
            "hf.bert-base-squad.squad.384",
        ),
        (
            {"task": "pretrain", "model": "BERT-base MLM (BertConfig default)", "sequence_length": "512"},
            109_514_298,
            "hf.bert-base mlm (bertconfig default).512.sdpa",
        ),
        (
            {"task": "train", "model": "Whisper-tiny audio classification"},
            8_309_000,
            "hf.whisper-tiny audio classification.0.sdpa",
        ),
        (
            {"task": "train", "model": "Whisper-small audio classification"},
            88_154_000 + 197_000,  # the encoder of the checkpoint, a projection and two classes
            "hf.whisper-small audio classification.0.sdpa",
        ),
        (
            {"task": "finetune_full", "model": "BERT-large (SQuAD)", "sequence_length": "384"},
            334_094_338,
            "hf.bert-large-squad.squad.384",
        ),
        (
            {"task": "pretrain", "model": "T5-small", "sequence_length": "1024"},
            60_506_624,
            "hf.t5-small.1024.eager",
        ),
        (
            {"task": "train_fwd_bwd", "model": "ElectraForMaskedLM", "sequence_length": "512"},
            13_548_794,
            "hf.electraformaskedlm.512.",  # its attention is fused in newer releases only
        ),
    ],
)
def test_names_of_newer_tables_are_those_of_libraries(
    changes: dict[str, str], parameters: int, key: str
) -> None:
    """The numbers of parameters are those of the libraries' own documentation, or of the table."""
    job = _job(**{**changes, "source": "elsewhere", "framework": "pytorch 2.6.0+cu126", "notes": ""})
    assert job.key.startswith(key)
    number = sum(parameter.numel() for parameter in job.network().parameters())
    assert number == pytest.approx(parameters, rel=0.01)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("U-Net fastMRI", 7_756_289),
        ("Transformer-big WMT17 (AlgoPerf)", 133.7e6),
        ("GNN ogbg-molpcba (AlgoPerf)", 3.5e6),
        ("PNA (PCQM4M subset)", 62 * (128 * 64 + 832 * 64 + 64 * 64)),
        ("QuartzNet15x5", 18.9e6),
    ],
)
def test_models_built_here_have_the_published_number_of_parameters(model: str, parameters: float) -> None:
    job = _job(task="train", model=model, sequence_length="", precision="fp32", notes="")
    with FakeTensorMode():
        number = sum(parameter.numel() for parameter in job.network().parameters())
    assert number == pytest.approx(parameters, rel=0.03)


@pytest.mark.parametrize(
    ("model", "task", "millions"),
    [
        ("RoBERTa-large", "train", 355.4),
        ("RoBERTa-large", "finetune-squad", 354.3),
        ("xlm-roberta-base", "train", 278.0),
        ("CamemBert", "train", 110.6),
        ("ELECTRA-base", "train", 109.5),
        ("google/electra-small-discriminator", "train", 13.5),
        ("BioBERT", "train", 108.3),
        ("distilbert-base-uncased", "train", 67.0),
        ("BigBird", "train", 128.1),
        ("Reformer", "train", 6.0),
        ("GPT-2", "train", 124.4),
        ("DistillGPT2", "train_fwd_bwd", 81.9),
        ("OPT-350m", "train", 331.2),
        ("OPT-13B", "train", 12_853.0),
        ("T5-base", "train", 222.9),
        ("clip-vit-base-patch32 with roberta-base", "finetune", 87.8 + 124.6),
        ("language-perceiver", "finetune", 206.1),
        ("vision-perceiver-conv", "finetune", 6 * 6 * 1024**2 / 1e6 + 2.9 + 6.3 + 1.0),
    ],
)
def test_a_checkpoint_has_the_published_number_of_parameters(model: str, task: str, millions: float) -> None:
    job = _job(task=task, model=model, sequence_length="512", precision="fp32", notes="")
    with torch.device("meta"):
        number = sum(parameter.numel() for parameter in job.network().parameters())
    assert number / 1e6 == pytest.approx(millions, rel=0.01)


def test_names_of_the_same_network_with_other_weights_share_a_trace() -> None:
    """Those of ImageNet-21k have another number of classes, and so another last layer."""
    assert _job(model="gluon_resnet50_v1d").key == _job(model="resnet50d").key
    assert _job(model="deit3_base_patch16_224_in21ft1k").key == _job(model="deit3_base_patch16_224").key
    assert _job(model="convnext_tiny_in22k").key != _job(model="convnext_tiny").key
    assert _job(model="tf_efficientnet_b0").key != _job(model="efficientnet_b0").key


@pytest.mark.parametrize("model", ["EfficientNet", "MobileNetV3", "ResNeXt101", "Faster R-CNN"])
def test_a_name_that_leaves_the_size_or_the_backbone_open_has_no_description(model: str) -> None:
    assert resolve({**ROW, "task": "train", "model": model}) == f"{model}: no description of this model"


def test_a_checkpoint_needs_a_size_that_is_published_and_a_length() -> None:
    """A trace of another head, or of larger images, is another one."""
    row = {"task": "train", "sequence_length": "512", "precision": "fp32", "notes": ""}
    assert resolve({**ROW, **row, "model": "OPT-4B"}) == "OPT-4B: no description of this model"
    assert "unknown length" in str(resolve({**ROW, **row, "model": "OPT-350m", "sequence_length": ""}))
    assert "unknown length" in str(
        resolve({**ROW, **row, "model": "vision-perceiver-conv", "image_size": ""})
    )
    assert (
        _job(**row, model="OPT-1.3B").key
        != _job(**{**row, "task": "sequence classification"}, model="OPT-1.3B").key
    )
    assert (
        len({_job(**row, model="ViTForImageClassification", image_size=size).key for size in ("224", "384")})
        == 2
    )


@pytest.mark.parametrize(
    "model",
    ["RobertaForMaskedLM", "GPT2ForSequenceClassification", "clip-vit-base-patch32 with roberta-base"],
)
def test_a_class_that_reads_its_padding_is_traced(model: str, tmp_path: Path) -> None:
    trace = _trace(
        ProfileCache(tmp_path), model=model, task="train", sequence_length="32", precision="fp32", notes="",
        batch_per_device="2",
    )  # fmt: skip
    assert trace.profile.coverage == 1.0


def test_a_graph_network_is_traced_with_its_gathers_and_sums(tmp_path: Path) -> None:
    """Bonds gather the atoms at their ends; the sums over bonds and molecules are scattered additions."""
    trace = _trace(
        ProfileCache(tmp_path), task="train", model="GNN ogbg-molpcba (AlgoPerf)", precision="fp32", notes=""
    )
    names = {group.name for group in trace.profile.operations if group.phase == "forward"}
    assert any("index_add" in name for name in names), names
    assert trace.profile.coverage == 1.0


def test_pna_keeps_as_much_of_a_molecule_as_two_measured_batches_differ_by(tmp_path: Path) -> None:
    """An H100 holds 14.794 GiB with 2,048 molecules and 24.302 GiB with 3,608 (milabench); other batches hold more."""
    trace = _trace(
        ProfileCache(tmp_path), task="train", model="PNA (PCQM4M subset)", precision="fp32", notes="",
        batch_per_device="64",
    )  # fmt: skip
    a_molecule = (24.302 - 14.794) * 2**30 / (3608 - 2048)
    assert trace.profile.memory.saved_activation_bytes / 64 == pytest.approx(a_molecule, rel=0.06)
    names = {group.name for group in trace.profile.operations if group.phase == "forward"}
    assert any("scatter_add" in name for name in names), names


def test_every_device_of_a_data_parallel_row_runs_the_whole_model(tmp_path: Path) -> None:
    """A row that states no batch at all has the assumed one on every device; one of a whole step says too little."""
    row = {**ROW, "devices": "8", "strategy": "ddp", "accelerator": "V100-SXM2-16GB", "throughput": "2000",
           "step_time_origin": "", "step_time_ms": "", "measured": ""}  # fmt: skip
    split = "a model split over devices, or the batch of a device is not stated"
    blank = {"batch_per_device": "", "global_batch": ""}
    cache = ProfileCache(tmp_path, only_held=True)
    assert work_of(row, cache) == work_of({**row, **blank}, cache) == "not traced yet"
    assert work_of({**row, "batch_per_device": ""}, cache) == split
    assert work_of({**row, "strategy": "tp4"}, cache) == split


def test_attention_is_that_of_the_release_that_a_row_ran() -> None:
    """Classes of Hugging Face use fused attention since 2024; a row of PyTorch 1 or of early 2.0 ran three kernels."""
    row = {"model": "AlbertForMaskedLM", "task": "train_fwd_bwd", "sequence_length": "512", "notes": ""}
    for framework, kind in (
        ("pytorch 2.0 nightly eager", "eager"),
        ("pytorch-1.8.0a0+52ea372", "eager"),
        ("pytorch 2.6.0+cu126", "sdpa"),
    ):
        job = _job(**row, framework=framework)
        assert f".512.{kind}." in job.key
        assert job.phases == ("forward", "backward")


def test_a_detector_of_torchvision_is_no_image_classifier() -> None:
    job = resolve({**ROW, "task": "train", "model": "fasterrcnn_mobilenet_v3_large_fpn"})
    assert isinstance(job, str) or not job.key.startswith("torchvision.fasterrcnn")


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
