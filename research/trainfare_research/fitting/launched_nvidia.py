"""
Runs of NVIDIA's public examples (NVIDIA/DeepLearningExamples) as their launch scripts and trainers ran them.

Each fact is a row of `data/launched_facts.csv`, with the repository and file where it was read and what measured
times say of it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from trainfare_research.fitting.table_lines import Line
from trainfare_research.truth_table import read_rows
from trainfare_research.workloads.language.transformers_models import FUSED_ATTENTION, MASKED_LOGITS
from trainfare_research.workloads.registry import COMPILED
from trainfare_research.workloads.vision.detection import CHANNELS_LAST

_TORCH_OF = {
    "tacotron2": "1.6", "jasper": "1.7", "efficientnet": "1.9", "quartznet": "1.10", "ssd300": "1.13",
    "nnu-net": "1.13",
}  # fmt: skip
"""PyTorch in the containers 20.06, 20.10, 21.03, 21.07, 22.10 and 22.11, which NVIDIA's READMEs name."""
_VARIANTS = {
    "efficientnet_v1/README.md:435": ("EfficientNet[efficientnet-b0]", "224"),
    "efficientnet_v1/README.md:443": ("EfficientNet[efficientnet-b0]", "224"),
    "efficientnet_v1/README.md:451": ("EfficientNet[efficientnet-b4]", "380"),
    "efficientnet_v1/README.md:459": ("EfficientNet[efficientnet-b4]", "380"),
    "efficientnet_v2/README.md:441": ("EfficientNet[efficientnetv2-s]", "300"),
}
"""Network and pixels of the tables of TensorFlow's EfficientNets, which the heading above each table names."""
_BINNED_TOKENS = 288
"""Mean length of BERT's samples, 256 of at most 512, and half a bin of padding."""
_FUSED = (
    "TensorFlow/Classification/ConvNets/resnext101-32x4d/", "TensorFlow/Classification/ConvNets/se-resnext101-32x4d/",
    "TensorFlow/Segmentation/UNet_Industrial/", "TensorFlow2/Classification/ConvNets/efficientnet_",
    "TensorFlow2/LanguageModeling/BERT/", "TensorFlow2/Segmentation/MaskRCNN/",
    "TensorFlow2/Segmentation/UNet_Medical/", "TensorFlow2/Segmentation/nnUNet/",
)  # fmt: skip
"""Paths of the examples whose pointwise operations are fused in every precision."""
_FUSED_IN_HALF = ("MxNet/Classification/RN50v1.5/", "PaddlePaddle/Classification/RN50v1.5/")
"""Paths of those that fuse them in half precision alone."""


def of_nvidia(line: Line, name: str) -> Line:
    """Return what a row of NVIDIA's examples lacks or has otherwise; `name`: its model in small letters."""
    changes, notes = {}, [line["notes"], *_kernels(line, name)]
    if (
        _pretrains_bert(line, name)
        and line["sequence_length"] == "512"
        and "tensorflow" not in line["framework"]
    ):
        changes["sequence_length"] = str(_BINNED_TOKENS)
    if line["framework"].startswith("pytorch"):
        release = next((version for start, version in _TORCH_OF.items() if name.startswith(start)), None)
        changes["framework"] = f"pytorch {release} (NGC)" if release else line["framework"]
    if name.endswith("b4]") and line["accelerator"] == "V100-SXM2-32GB" and line["devices"] == "1":
        notes.append("SUSPECT: one of eight such cards is three times as fast")
    if "tensorflow" in line["framework"]:
        notes += ["HOST_BOUND"] * _waits(line, name)
        changes |= _of_tensorflow(line, name)
    batch = _find_stated_batch(line | changes)
    if batch:
        changes["batch_per_device"] = batch
        changes["global_batch"] = str(int(batch) * int(line["devices"]))
    return changes | {"notes": ";".join(notes)}


def _kernels(line: Line, name: str) -> list[str]:
    """Return the notes on layout, logits, attention and fused operations."""
    notes = []
    path, half = line["source_ref"].partition(":")[2], line["precision"] == "amp_fp16"
    in_torch, pretrained = line["framework"].startswith("pytorch"), _pretrains_bert(line, name)
    if in_torch and name.startswith("ssd300"):
        notes.append(CHANNELS_LAST)
    if pretrained:
        notes.append(MASKED_LOGITS)
    if name.startswith("bert") and line["framework"].startswith("paddle") and half:
        notes.append(FUSED_ATTENTION)
    if path.startswith(_FUSED) or (half and path.startswith(_FUSED_IN_HALF)) or (in_torch and pretrained):
        notes.append(COMPILED)
    return notes


def _pretrains_bert(line: Line, name: str) -> bool:
    return name.startswith("bert") and line["task"] == "pretrain"


def _waits(line: Line, name: str) -> bool:
    """Return whether a row of TensorFlow's waits for its host."""
    if name == "vnet":
        return line["batch_per_device"] == "2.0"
    return "efficientnet_v1/README.md:443" in line["source_ref"] and line["precision"] == "amp_fp16"


def _of_tensorflow(line: Line, name: str) -> Line:
    model, pixels = _VARIANTS.get(line["source_ref"].partition("ConvNets/")[2], ("", ""))
    if model:
        return {"model": model, "image_size": pixels}
    return {"optimizer": "rmsprop"} if name == "vnet" else {}


def _find_stated_batch(line: Line) -> str:
    model = (
        "WaveGlow" if "column=Number of samples" in line["notes"] else line["model"].replace("widese-", "")
    )
    for known in _batches():
        same = model == known["model"] and line["precision"] == known["precision"]
        starts = (line[name].startswith(known[name]) for name in ("framework", "accelerator"))
        if same and line["batch_per_device"] == known["stated"] and all(starts):
            return known["batch"]
    return ""


@lru_cache(maxsize=1)
def _batches() -> list[Line]:
    return read_rows(Path(__file__).with_name("launched_batches.csv"))
