"""Rows of measured steps have the precision, length and throughput that their trainers' scripts and logs give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from row_builders.launched import LAMBDA, NVIDIA_BERT, flops_of, job_of
from trainfare_research.fitting.launched_rows import as_launched
from trainfare_research.fitting.step_work import work_of
from trainfare_research.fitting.table_lines import ZERO_2, accumulation_of, is_suspect, parse_measured_step_s
from trainfare_research.workloads import ProfileCache, resolve
from trainfare_research.workloads.language.decoder import Decoder
from trainfare_research.workloads.language.decoder_names import decoder_of
from trainfare_research.workloads.language.sequences import TransformerXl
from trainfare_research.workloads.language.sequences import find as sequence_model
from trainfare_research.workloads.language.transformers_models import find as transformers_model
from trainfare_research.workloads.single_device import StepJob

EPOCH = 99_308_850


@pytest.mark.parametrize(
    ("row", "precision"),
    [
        ({}, "tf32"),
        ({"accelerator": "V100-SXM2-16GB"}, "fp32"),
        ({"framework": "pytorch 1.4.0 (NGC container)", "notes": "suite=v0"}, "amp_fp16"),
        ({"framework": "pytorch 1.7.0 (NGC container)", "notes": "suite=v0", "model": "Tacotron2"}, "tf32"),
        ({"model": "ResNet-50-v1.5"}, "amp_fp16"),
        ({"model": "NCF", "batch_per_device": "10000000"}, "tf32"),
        ({"model": "NCF", "batch_per_device": "7500000", "accelerator": "A100-SXM4-40GB"}, "amp_fp16"),
        ({"model": "NCF", "batch_per_device": "15000000", "notes": "suite=v0"}, "amp_fp16"),
        ({"source": "nvidia-dle"}, "amp_fp16"),
    ],
)
def test_a_flag_that_the_trainer_does_not_know_changes_nothing(row: dict[str, str], precision: str) -> None:
    """A row has mixed precision only where its trainer had the switch for it."""
    assert as_launched(LAMBDA | row)["precision"] == precision


def test_a_throughput_of_one_process_is_not_that_of_all() -> None:
    """SSD of the first suite printed the rate of one process."""
    first = LAMBDA | {"model": "SSD300-ResNet50", "devices": "8", "notes": "suite=v0;flag=AMP"}
    assert float(as_launched(first)["throughput"]) == 8000
    assert as_launched(first | {"notes": "suite=v1;flag=AMP"})["throughput"] == "1000"
    assert "HOST_BOUND" not in as_launched(first)["notes"]


@pytest.mark.parametrize(
    ("row", "batches"),
    [
        ({"batch_per_device": "8000000", "precision": "tf32"}, 12),
        ({"batch_per_device": "2560000", "accelerator": "V100-SXM2-16GB", "devices": "8"}, 4),
        ({"batch_per_device": "15000000", "devices": "8", "notes": "suite=v0"}, 0),
        ({"batch_per_device": "8000000", "devices": "8", "notes": "suite=v0", "precision": "tf32"}, 1),
        ({"batch_per_device": "8000000", "devices": "8", "precision": "tf32"}, 0),
        ({"batch_per_device": "8000000", "precision": "tf32", "framework": "pytorch 2.3.0"}, 0),
    ],
)
def test_an_epoch_counts_the_samples_that_were_trained(row: dict[str, str], batches: int) -> None:
    """NCF drops the last batch of each process; a time that is not of the device's work is none."""
    line = LAMBDA | {"model": "NCF"} | row
    throughput = as_launched(line)["throughput"]
    if not batches:
        assert throughput == ""
    else:
        trained = batches * int(line["batch_per_device"]) * int(line["devices"])
        assert float(throughput) == pytest.approx(1000 * trained / EPOCH)


def test_transformer_xl_without_the_adaptive_flag_has_a_full_softmax() -> None:
    """The last product has all words for every token."""
    row = LAMBDA | {"model": "Transformer-XL-base", "task": "lm", "throughput_unit": "tokens/s"}
    keys = {
        name: job_of(sequence_model(fields)).key
        for name, fields in (("full", as_launched(row)), ("adaptive", row))
    }
    assert keys["full"] != keys["adaptive"]
    full, adaptive = (
        flops_of(
            TransformerXl(1, 8, 2, 16, 4, sizes), *(torch.zeros(4, 2, dtype=torch.long) for _ in range(2))
        )
        for sizes in ((8,), (8, 8, 8, 8))
    )
    assert full > 2 * 8 * 8 * 267_735 > adaptive


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ({"accelerator": "A100-SXM4-80GB"}, True),
        ({"accelerator": "H100-SXM5-80GB"}, False),
        ({"devices": "1"}, False),
        ({"notes": "suite=v2;flag=FP16", "framework": "pytorch 2.3.0"}, False),
    ],
)
def test_devices_without_peer_access_say_nothing_of_their_links(
    row: dict[str, str], wrong: bool, tmp_path: Path
) -> None:
    """Such a row has no answer, and is no pair of the fit of links."""
    work = work_of(
        as_launched(LAMBDA | {"devices": "8", "strategy": "ddp"} | row),
        ProfileCache(tmp_path, only_held=True),
    )
    assert ("memory of their host" in str(work)) == wrong


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        ({"source": "sia-sosp23"}, "notes", "SUSPECT"),
        ({"source": "inductor-dashboard", "model": "DebertaV2ForMaskedLM"}, "notes", "HOST_BOUND"),
        ({"source": "algoperf", "model": "U-Net fastMRI"}, "notes", "HOST_BOUND"),
        ({"source": "algoperf", "model": "GNN ogbg-molpcba (AlgoPerf)"}, "notes", "HOST_BOUND"),
        (
            {"source": "optimum-habana", "model": "vit-base", "accelerator": "Gaudi2-96GB"},
            "notes",
            "HOST_BOUND",
        ),
        ({"model": "SSD300-ResNet50", "accelerator": "B200-SXM-180GB"}, "notes", "HOST_BOUND"),
        ({"source_ref": "results/A6000_sonantic_v1/PyTorch_tacotron2_FP16"}, "batch_per_device", "80"),
        (
            {
                "source": "bigscience-tr11",
                "model": "GPT-182B",
                "source_ref": "chronicles.md:693",
                "notes": "02-23",
            },
            "notes",
            "heads=64;hidden=13312;layers=84;vocabulary=250880",
        ),
        ({"source": "milabench", "model": "torchvision resnet50"}, "measured", "H2D"),
        ({"source": "milabench", "model": "Whisper-tiny audio classification"}, "measured", "H2D"),
        ({"source": "milabench", "notes": "fixed synthetic batch"}, "image_size", "244"),
        ({"source": "milabench", "model": "torchvision resnet152"}, "precision", "bf16"),
        (
            {
                "source": "nvidia-dle",
                "model": "EfficientNet[efficientnet-b4]",
                "accelerator": "V100-SXM2-32GB",
            },
            "notes",
            "SUSPECT",
        ),
    ],
)
def test_what_a_trainer_did_is_in_its_row(row: dict[str, str], column: str, value: str) -> None:
    """One column of each source says it, and a row of another source keeps its own."""
    assert value in as_launched(LAMBDA | row)[column]
    assert value not in as_launched(LAMBDA | row | {"source": "timm"})[column]


def test_a_diffusion_step_has_passes_of_16_images() -> None:
    """2,048 images on 64 devices are two passes, and the time of a step is that of all of them."""
    row = LAMBDA | {
        "source": "mosaicml-diffusion", "model": "StableDiffusion2-UNet", "global_batch": "2048", "devices": "64",
        "image_size": "256", "throughput": "8530", "step_time_origin": "derived", "strategy": "ddp/fsdp grad-op",
    }  # fmt: skip
    fields = as_launched(row)
    assert (fields["batch_per_device"], accumulation_of(fields), fields["strategy"]) == ("16", 2, ZERO_2)
    job = resolve(fields)
    assert isinstance(job, StepJob)
    assert parse_measured_step_s(fields, job) == pytest.approx(2048 / 8530)


def test_a_chip_of_two_cores_trains_two_batches() -> None:
    """A NeuronCore is a replica of its own."""
    row = NVIDIA_BERT | {
        "source": "aws-neuron", "accelerator": "Trainium1", "batch_per_device": "16.0",
        "strategy": "[32xNC(DP)] x 16Nodes(DP)",
    }  # fmt: skip
    assert as_launched(row)["batch_per_device"] == "32.0"
    assert as_launched(row | {"strategy": "[8xNC(TP)x4(DP)] x 16Nodes(DP)"})["batch_per_device"] == "16.0"


def test_the_shapes_of_bloom_make_the_stated_sizes() -> None:
    """Each size of its first runs, by the line of its table where one size has two shapes."""
    row = LAMBDA | {
        "source": "bigscience-tr11",
        "task": "pretrain",
        "model": "GPT-182B",
        "notes": "nheads=96",
    }
    shapes = {
        (size, line): decoder_of(fields["model"], fields)
        for size, line in (("176", "944"), ("182", "693"), ("182", "702"), ("195", "474"), ("195", "889"), ("205", "474"))
        for fields in (as_launched(row | {"model": f"GPT-{size}B", "source_ref": f"chronicles.md:{line}"}),)
    }  # fmt: skip
    for (size, _), shape in shapes.items():
        assert isinstance(shape, Decoder)
        assert shape.parameters == pytest.approx(float(size) * 1e9, rel=0.005)
        assert (shape.heads, shape.vocabulary, shape.tied) == (96, 250_880, True)
    assert len(set(shapes.values())) == 6
    assert "hidden" not in as_launched(row | {"model": "GPT-200B"})["notes"]


def test_a_sentence_pair_counts_its_tokens_without_padding() -> None:
    """GNMT computes 2 x 32 steps of a pair, and its tables count 48.5 tokens."""
    job = job_of(sequence_model(LAMBDA | {"model": "GNMT", "task": "translation", "precision": "fp32"}))
    source, target, _ = job.batch()
    assert source.shape[0] + target.shape[0] == 64
    assert job.units == 48.5 * job.batch_size


NEURON = LAMBDA | {
    "source": "aws-neuron", "task": "finetune", "accelerator": "Trainium1", "batch_per_device": "80.0",
    "global_batch": "", "devices": "16", "strategy": "[32xNC(DP)]", "precision": "bf16", "image_size": "",
    "notes": "strong scaling",
}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "passes"),
    [
        ({"devices": "16", "global_batch": "65536"}, 128),
        ({"devices": "16", "global_batch": ""}, 32),
        ({"devices": "256", "global_batch": "", "notes": "dtype=FP32;weak scaling", "batch_per_device": "8.0"}, 256),
        ({"devices": "256", "global_batch": "", "notes": "weak scaling", "batch_per_device": "2.0", "model": "BERT-Large Ph2"}, 512),
    ],
)  # fmt: skip
def test_gradients_of_a_large_batch_are_accumulated(row: dict[str, str], passes: int) -> None:
    """The step is of all passes, and so is its measured time."""
    neuron = NVIDIA_BERT | {
        "source": "aws-neuron", "accelerator": "Trainium1", "batch_per_device": "16.0", "strategy": "[32xNC(DP)]",
        "sequence_length": "128", "step_time_origin": "derived", "notes": "strong scaling", "model": "BERT-Large Ph1",
    } | row  # fmt: skip
    fields = as_launched(neuron)
    assert accumulation_of(fields) == passes
    assert fields["sequence_length"] == ("512" if "Ph2" in neuron["model"] else "128")
    job = job_of(transformers_model(fields))
    once, whole = (parse_measured_step_s(line, job) for line in (neuron, fields))
    assert whole == pytest.approx(passes * (once or 0.0))


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("ViT-Base", "timm.vit_base_patch16_224.224."),
        ("CLIP-Base", "hf.clip-vit-base-patch32 with roberta-base.128.224px."),
        ("Language-Perveriver", "hf.language-perceiver.2048."),
        ("Vision-Perceiver-Conv", "hf.vision-perceiver-conv.0.224px."),
    ],
)
def test_aws_encoders_are_those_of_its_notebooks(model: str, key: str) -> None:
    """Their batch is that of one core, and no row accumulates gradients."""
    row = as_launched(NEURON | {"model": model, "notes": "weak scaling"})
    job = resolve(row)
    assert isinstance(job, StepJob)
    assert job.key.startswith(key)
    assert (job.batch_size, accumulation_of(row)) == (160, 1)
    slow = as_launched(NEURON | {"model": model, "throughput": "140.14"})
    assert is_suspect(slow) == model.startswith("Language")


def test_a_recipe_of_a_tpu_says_how_its_tokens_are_split() -> None:
    row = as_launched(
        LAMBDA | {"source": "tpu-recipes", "model": "DeepSeek3-671B", "activation_checkpointing": ""}
    )
    assert int(row["batch_per_device"]) * int(row["sequence_length"]) * 512 == 25_165_824
    assert row["activation_checkpointing"] == "full"


FMS = LAMBDA | {
    "source": "fms-acceleration", "model": "Mistral-7B-v0.1", "task": "finetune_full", "precision": "fp16_pure", "sequence_length": "",
    "devices": "2", "strategy": "fsdp", "source_ref": "x/y@876e2ed:refs/a100_80gb_pf.csv:10",
}  # fmt: skip
UNPADDED = "weights in float16, no autocast; padding-free (no pad tokens); unpacked sequences, logged mean 254 tokens per sample"
PADDED = "weights in float16, no autocast; unpacked sequences, logged mean 445 tokens per sample (padding may be counted)"


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        ({"notes": UNPADDED}, "sequence_length", "289"),
        ({"notes": UNPADDED, "model": "Mistral-7B-v0.1-GPTQ"}, "sequence_length", "290"),
        ({"notes": UNPADDED, "source_ref": "x/y@876e2ed:refs/a100_80gb_mp.csv:3"}, "sequence_length", "273"),
        ({"notes": UNPADDED, "source_ref": "x/y@876e2ed:refs/a100_80gb_moe.csv:3"}, "sequence_length", "254"),
        ({"notes": PADDED}, "sequence_length", "445"),
        ({"notes": PADDED, "source_ref": "x/y@876e2ed:refs/a100_80gb_moe.csv:3"}, "sequence_length", ""),
        ({"notes": UNPADDED}, "notes", f"{UNPADDED};optimizer bytes a weight=48"),
        ({"notes": "bf16 autocast"}, "notes", "bf16 autocast"),
        ({"model": "Mixtral-8x7B-Instruct-v0.1", "task": "finetune_lora"}, "strategy", "fsdp+ep1"),
    ],
)
def test_samples_and_experts_of_fine_tuning(row: dict[str, str], column: str, value: str) -> None:
    """What transformers logs is of one process, or of padded batches."""
    assert as_launched(FMS | row)[column] == value


def test_what_is_cast_to_fp32_on_one_device_is_marked() -> None:
    row = FMS | {"task": "finetune_qlora", "notes": "config baseline-peft-bnb; 4-bit nf4 base"}
    assert "SUSPECT" in as_launched(row | {"devices": "1"})["notes"]
    assert "SUSPECT" not in as_launched(row)["notes"]


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        ({"source": "flagperf", "model": "ViT-B/16", "notes": "SUSPECT_FAST: x"}, {"precision": "amp_fp16", "notes": ": x"}),
        ({"source": "flagperf", "model": "Mixtral-8x7B"}, {"batch_per_device": "3", "global_batch": "1200", "sequence_length": "4096", "activation_checkpointing": "none",
          "framework": "megatron-core"}),
        ({"source": "dgxc-benchmarking", "model": "LLama2 70b", "framework": "maxtext/jax"}, {"activation_checkpointing": "selective"}),
        ({"source": "dgxc-benchmarking", "model": "LLama2 70b", "framework": "nemo/megatron"}, {}),
        ({"source": "torchao", "model": "Llama-3-8B", "accelerator": "B200-SXM-180GB"},
         {"notes": f"{LAMBDA['notes']};SUSPECT: another power limit than the catalogue's"}),
    ],
)  # fmt: skip
def test_facts_of_a_whole_model(row: dict[str, str], changes: dict[str, str]) -> None:
    """Rows of the same model with another trainer or device keep their own."""
    line = LAMBDA | {"activation_checkpointing": ""} | row
    assert as_launched(line) == line | changes


def test_other_rows_stay_as_their_table_has_them() -> None:
    """No fact is known of them."""
    for row in (LAMBDA | {"source": "timm"}, NVIDIA_BERT | {"task": "finetune-squad"}):
        assert as_launched(row) == row
