"""Image classifiers of timm and torchvision, also under the names that vendors' tables give them."""

from __future__ import annotations

import functools
import re
from typing import Any, cast

import timm
import torch
import torchvision
from timm.layers.config import set_fused_attn
from torch import nn

from trainfare_research.workloads.single_device import (
    Network,
    Row,
    StepJob,
    optimizer_of,
    precision_of,
    step_job,
)

_TASKS = ("imagenet-classification", "imagenet-classification-fwd-bwd")
_UNSTATED_BATCH = 128
"""Samples that are assumed, with a note in the profile, where a row states no batch: a usual size for one GPU."""
_EFFICIENTNET_PIXELS = (224, 240, 260, 300, 380, 456, 528, 600)
"""Of EfficientNet-B0 to B7."""
_WEIGHT_TAGS = r"in\d+k|in\d+ft\d*k|miil|ns|ap|dino|clip|ft|fb|sw|ssl|swsl|distilled"


def find(row: Row) -> StepJob | str | None:
    """Return the training step of an image classifier."""
    if row["task"] not in _TASKS:
        return None
    if precision_of(row) is None:
        return f"precision {row['precision']}: not a mode of torch that a trace shows"
    name = _name(row["model"])
    if name is None:
        return f"{row['model']}: no such model in timm {timm.__version__} or torchvision"
    size = int(float(row["image_size"])) if row["image_size"] else _size(row["model"])
    # NVIDIA's reference trainers use channels-last in mixed precision.
    reference = row["source"] == "nvidia-dle" and row["precision"] == "amp_fp16"
    channels_last = reference or "channels_last" in row["notes"]
    old = bool(re.search(r"pytorch (0|1)\.", row["framework"].lower()))
    timm_first = timm.is_model(name) and (row["source"] == "timm" or "memory_format" in row["notes"])
    zoo = "timm" if timm_first or name not in torchvision.models.list_models() else "torchvision"
    if zoo == "timm":
        name = _without_weights(name)

    def network() -> nn.Module:
        set_fused_attn(not old)
        net = _net(zoo, name, size)
        if channels_last:
            cast("Any", net).to(memory_format=torch.channels_last)  # torch's signature lacks this argument
        return net

    def inputs(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        x = torch.empty(batch, 3, size, size, memory_format=layout)
        return x, torch.zeros(batch, dtype=torch.long)

    key = f"{zoo}.{name}.{size}.{'nhwc' if channels_last else 'nchw'}.{'math' if old else 'sdpa'}"
    stated = row["batch_per_device"] or row["global_batch"]
    assumed = () if stated else (f"the row states no batch: {_UNSTATED_BATCH} samples are assumed",)
    return step_job(
        row,
        Network(key, network, inputs, _compute_loss, notes=assumed),
        optimizer_of(row, "sgd"),
        unstated_batch=_UNSTATED_BATCH,
        phases=("forward", "backward", "optimizer")[: 2 if row["task"].endswith("fwd-bwd") else 3],
    )


def _compute_loss(net: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    images, labels = batch
    out = net(images)
    if not isinstance(out, torch.Tensor):
        out = out[0]
    return nn.functional.cross_entropy(out, labels)


def _net(zoo: str, name: str, size: int) -> nn.Module:
    if zoo == "torchvision":
        net: nn.Module = torchvision.models.get_model(name, weights=None)
        return net
    try:
        return timm.create_model(name, img_size=size)
    except TypeError:  # a network for images of any size takes no `img_size`
        return timm.create_model(name)


def _name(model: str) -> str | None:
    """
    Return the library's name of a model; None where neither library has it.

    Tables spell names like "ResNet-50-v1.5" and "EfficientNet[efficientnet-b0]". An old name may end in a tag of its
    weights: "x_in22k" is now "x" with that tag.
    """
    inside = re.search(r"\[(.+)\]", model)
    name = (inside[1] if inside else model).lower().replace("-widese", "")
    plain = name.removesuffix("-v1.5").replace("resnet-", "resnet").replace("se-resnext", "seresnext")
    for spelling in (name, plain.replace("-", "_")):
        if timm.is_model(spelling) or spelling in torchvision.models.list_models():
            return spelling
    stem = model
    while "_" in stem:
        stem, _, tag = stem.rpartition("_")
        if timm.is_model(stem):
            return stem if re.fullmatch(_WEIGHT_TAGS, tag) else None
    return None


@functools.cache
def _without_weights(name: str) -> str:
    """
    Return timm's name of the same network without that of its weights, so that rows of both share a trace.

    timm 1 knows "deit3_base_patch16_224_in21ft1k" as "deit3_base_patch16_224.fb_in22k_ft_in1k". Weights for
    another number of classes bring another last layer: then the network keeps its name.
    """
    tagged = timm.models.get_deprecated_models().get(name) or name
    plain = timm.models.get_arch_name(tagged)
    try:
        own_config, usual = (timm.models.get_pretrained_cfg(model_name) for model_name in (tagged, plain))
    except RuntimeError:  # weights that this timm has not
        return name
    return plain if own_config and usual and own_config.num_classes == usual.num_classes else name


def _size(model: str) -> int:
    match = re.search(r"b(\d)\b", model.lower())
    return _EFFICIENTNET_PIXELS[int(match[1])] if match and "efficientnet" in model.lower() else 224
