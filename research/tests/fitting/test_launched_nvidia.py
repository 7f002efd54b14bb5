"""Runs of NVIDIA's public examples have the batch, lengths, layout and kernels of their launch scripts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers

from row_builders.launched import LAMBDA, NVIDIA_BERT, flops_of, job_of
from trainfare_research.fitting.launched_rows import as_launched
from trainfare_research.workloads import resolve
from trainfare_research.workloads.language.sequences import find as sequence_model
from trainfare_research.workloads.language.transformers_models import PretrainedBert
from trainfare_research.workloads.language.transformers_models import find as transformers_model
from trainfare_research.workloads.single_device import StepJob
from trainfare_research.workloads.vision.detection import find as detector

EXAMPLES = "NVIDIA/DeepLearningExamples@729963dd47e7:"


def test_logits_of_masked_tokens_alone() -> None:
    """NVIDIA's pre-training of BERT; phase 2 has samples in bins in PyTorch and Paddle, not in TensorFlow."""
    assert as_launched(NVIDIA_BERT)["sequence_length"] == "288"
    assert as_launched(NVIDIA_BERT | {"framework": "tensorflow2 (NGC)"})["sequence_length"] == "512"
    assert as_launched(NVIDIA_BERT | {"sequence_length": "128"})["sequence_length"] == "128"
    masked, every = (
        job_of(transformers_model(row)).key
        for row in (as_launched(NVIDIA_BERT), NVIDIA_BERT | {"sequence_length": "288"})
    )
    assert masked != every
    config = transformers.BertConfig(
        num_hidden_layers=1, hidden_size=8, num_attention_heads=2, intermediate_size=16, vocab_size=100
    )
    ids = torch.zeros(3, 20, dtype=torch.long)
    some, whole = (
        flops_of(PretrainedBert(config, tokens), ids, ids, torch.zeros(3, dtype=torch.long))
        for tokens in (3, 20)
    )
    assert whole - some == 2 * 3 * 17 * (8 * 8 + 8 * 100)


@pytest.mark.parametrize(
    ("row", "batch"),
    [
        ({"model": "Tacotron2", "accelerator": "V100-SXM2-16GB", "batch_per_device": "16.0"}, "104"),
        (
            {
                "model": "Tacotron2",
                "batch_per_device": "16.0",
                "notes": "column=Number of samples used per second",
            },
            "10",
        ),
        ({"model": "BERT-large", "framework": "tensorflow2 (NGC)", "batch_per_device": "7638.0"}, "76"),
        ({"model": "EfficientNet[efficientnet-widese-b4]", "batch_per_device": ""}, "128"),
        ({"model": "ResNet-50-v1.5", "batch_per_device": "64"}, "64"),
    ],
)
def test_a_batch_is_that_of_the_readme(row: dict[str, str], batch: str) -> None:
    """Two batches of one column, and those of a file that no table reads."""
    nvidia = LAMBDA | {
        "source": "nvidia-dle",
        "framework": "pytorch (NGC)",
        "notes": "heading=Training",
        "task": "",
    }
    fields = as_launched(nvidia | {"devices": "8"} | row)
    assert fields["batch_per_device"] == batch
    if batch != "64":
        assert fields["global_batch"] == str(8 * int(batch))


def test_the_containers_of_nvidia_tell_their_pytorch() -> None:
    """Hosts of PyTorch 1.x are slower; SSD300 runs channels-last."""
    row = NVIDIA_BERT | {"model": "SSD300-ResNet50", "task": "detection", "image_size": "300"}
    fields = as_launched(row)
    assert fields["framework"] == "pytorch 1.13 (NGC)"
    nhwc, nchw = (job_of(detector(fields)) for fields in (fields, row))
    assert nhwc.key != nchw.key
    assert nhwc.batch()[0].is_contiguous(memory_format=torch.channels_last)
    assert next(nhwc.network().parameters()).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("readme", "precision", "model", "pixels", "batch"),
    [
        ("efficientnet_v1/README.md:435", "amp_fp16", "EfficientNet[efficientnet-b0]", "224", "1024"),
        ("efficientnet_v1/README.md:451", "tf32", "EfficientNet[efficientnet-b4]", "380", "80"),
        ("efficientnet_v2/README.md:441", "fp32", "EfficientNet[efficientnetv2-s]", "300", "64"),
    ],
)
def test_tensorflows_efficientnets_are_those_of_their_headings(
    readme: str, precision: str, model: str, pixels: str, batch: str
) -> None:
    """Each is a network of timm, compiled, with the batch of its launch script."""
    row = LAMBDA | {
        "source": "nvidia-dle", "model": readme[:15].replace("_", "-"), "framework": "tensorflow2 (NGC)",
        "precision": precision, "batch_per_device": "", "global_batch": "", "image_size": "", "sequence_length": "",
        "task": "imagenet-classification", "throughput_unit": "samples/s", "notes": "",
        "source_ref": f"NVIDIA/DeepLearningExamples@729963dd47e7:TensorFlow2/Classification/ConvNets/{readme}",
        "accelerator": "V100-SXM2-32GB" if precision == "fp32" else "A100-SXM4-80GB",
    }  # fmt: skip
    fields = as_launched(row)
    assert (fields["model"], fields["image_size"], fields["batch_per_device"]) == (model, pixels, batch)
    job = job_of(resolve(fields))
    assert job.compiled
    assert f".{pixels}." in job.key


def test_rows_that_wait_for_their_host_are_marked() -> None:
    """B0 on V100 in mixed precision waits for its augmentation, V-Net of two volumes for its host."""
    row = LAMBDA | {
        "source": "nvidia-dle",
        "framework": "tensorflow2 (NGC)",
        "model": "EfficientNet-v1",
        "notes": "",
    }
    table = "ConvNets/efficientnet_v1/README.md"
    for line, precision, waits in ((443, "amp_fp16", True), (443, "fp32", False), (435, "amp_fp16", False)):
        fields = as_launched(row | {"source_ref": f"{table}:{line}", "precision": precision})
        assert ("HOST_BOUND" in fields["notes"]) == waits
    for batch, waits in (("2.0", True), ("8.0", False)):
        fields = as_launched(row | {"model": "VNet", "batch_per_device": batch})
        assert ("HOST_BOUND" in fields["notes"]) == waits


@pytest.mark.parametrize(
    ("row", "fused"),
    [
        ({}, True),
        ({"precision": "tf32"}, True),
        ({"task": "finetune-squad"}, False),
        (
            {
                "framework": "tensorflow2 (NGC)",
                "source_ref": "TensorFlow2/LanguageModeling/BERT/README.md:752",
            },
            True,
        ),
        (
            {"framework": "paddle (NGC)", "source_ref": "PaddlePaddle/LanguageModeling/BERT/README.md:922"},
            False,
        ),
    ],
)
def test_bert_is_fused_where_a_compiler_had_it(row: dict[str, str], fused: bool) -> None:
    """By nvFuser in PyTorch's pre-training, and by XLA."""
    fields = as_launched(NVIDIA_BERT | row | {"source_ref": EXAMPLES + row.get("source_ref", "PyTorch/x:1")})
    assert job_of(resolve(fields)).compiled == fused


@pytest.mark.parametrize(
    ("path", "precisions"),
    [
        ("TensorFlow/Classification/ConvNets/resnext101-32x4d", {"amp_fp16", "tf32"}),
        ("MxNet/Classification/RN50v1.5", {"amp_fp16"}),
        ("PaddlePaddle/Classification/RN50v1.5", {"amp_fp16"}),
        ("PyTorch/Classification/ConvNets/resnet50v1.5", set()),
    ],
)
def test_image_classifiers_are_fused_in_the_precisions_of_their_scripts(
    path: str, precisions: set[str]
) -> None:
    """XLA in both, fused batch norm in half precision alone, PyTorch's not at all."""
    row = LAMBDA | {
        "source": "nvidia-dle", "model": "ResNet-50-v1.5", "task": "imagenet-classification", "sequence_length": "",
        "framework": path.split("/")[0].lower(), "source_ref": f"{EXAMPLES}{path}/README.md:1", "notes": "",
    }  # fmt: skip
    fused = {
        precision
        for precision in ("amp_fp16", "tf32")
        if job_of(resolve(as_launched(row | {"precision": precision}))).compiled
    }
    assert fused == precisions


@pytest.mark.parametrize("task", ["pretrain", "finetune-squad"])
def test_paddles_bert_has_one_kernel_for_attention_with_amp(task: str) -> None:
    """In TF32 attention is two products and a softmax."""
    row = NVIDIA_BERT | {"framework": "paddle (NGC)", "task": task, "sequence_length": "128"}
    half, whole = (
        job_of(transformers_model(as_launched(row | {"precision": precision})))
        for precision in ("amp_fp16", "tf32")
    )
    assert "-fused." in half.key
    assert "-fused." not in whole.key
    attention = {job: _attention(job.network()) for job in (half, whole)}
    assert attention == {half: "sdpa", whole: "eager"}


def _attention(net: torch.nn.Module) -> str:
    found = next(module.config for module in net.modules() if isinstance(module, transformers.BertModel))
    return str(found._attn_implementation)


@pytest.mark.parametrize(
    ("find", "model", "task"),
    [
        (transformers_model, "BERT-large", "pretrain"),
        (transformers_model, "BERT-large", "finetune-squad"),
        (sequence_model, "Transformer-XL-base", "lm"),
    ],
)
def test_tensorflows_mixed_precision_casts_fp32_weights(
    find: Callable[[dict[str, str]], StepJob | str | None], model: str, task: str
) -> None:
    """PyTorch's trainers of these keep fp16 weights."""
    row = NVIDIA_BERT | {"model": model, "task": task, "sequence_length": "128"}
    kept, cast = (
        job_of(find(as_launched(row | {"framework": name}))).precision
        for name in ("pytorch (NGC)", "tensorflow2 (NGC)")
    )
    assert (kept, cast) == ("16-true", "16-mixed")
