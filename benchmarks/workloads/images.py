"""Image classifiers of timm and torchvision, also under the names that vendors' tables give them."""

from __future__ import annotations

import re
from typing import Any, cast

import timm
import torch
import torchvision
from timm.layers.config import set_fused_attn
from torch import nn

from benchmarks.workloads.single_device import Row, StepJob, Supervised, batch_of, optimizer_of, precision_of

__all__ = ["find"]

_TASKS = ("imagenet-classification", "imagenet-classification-fwd-bwd")
_UNSTATED_BATCH = 128
"""Samples that are assumed, with a note in the profile, where a row states no batch: a usual size for one GPU."""
_EFFICIENTNET_PIXELS = {
    "b0": 224,
    "b1": 240,
    "b2": 260,
    "b3": 300,
    "b4": 380,
    "b5": 456,
    "b6": 528,
    "b7": 600,
}


def find(row: Row) -> StepJob | str | None:
    """Return the training step of an image classifier."""
    if row["task"] not in _TASKS:
        return None
    mode = precision_of(row)
    if mode is None:
        return f"precision {row['precision']}: not a mode of torch that a trace shows"
    zoo_first = "timm" if row["source"] == "timm" or "memory_format" in row["notes"] else "torchvision"
    name = _name(row["model"])
    if name is None or not (timm.is_model(name) or name in torchvision.models.list_models()):
        found = _renamed(row["model"])
        if found is None:
            return f"{row['model']}: no such model in timm {timm.__version__} or torchvision"
        name = found
    size = int(float(row["image_size"])) if row["image_size"] else _size(row["model"])
    batch = batch_of(row, _UNSTATED_BATCH)
    channels_last = "channels_last" in row["notes"] or _reference_trainer_in_half_precision(row)
    optimizer = optimizer_of(row, "sgd")
    only = row["task"].endswith("fwd-bwd")
    old = bool(re.search(r"pytorch (0|1)\.", row["framework"].lower()))
    zoo = zoo_first if zoo_first == "timm" or name in torchvision.models.list_models() else "timm"
    layout = "nhwc" if channels_last else "nchw"
    precision, tf32 = mode

    def module() -> nn.Module:
        set_fused_attn(not old)
        net = _net(zoo, name, size)
        if channels_last:
            cast("Any", net).to(memory_format=torch.channels_last)  # torch's signature lacks this argument
        return Supervised(net, _loss, optimizer)

    def images() -> tuple[torch.Tensor, torch.Tensor]:
        dtype = torch.float16 if precision == "16-true" else torch.float32
        x = torch.empty(batch, 3, size, size, dtype=dtype)
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return x, torch.zeros(batch, dtype=torch.long)

    numerics = f"{precision}.{'tf32' if tf32 else ''}.{optimizer}.{'math' if old else 'sdpa'}"
    return StepJob(
        key=f"{zoo}.{name}.{size}.{layout}.{numerics}",
        module=module, batch=images, batch_size=batch, precision=precision, tf32=tf32,
        phases=("forward", "backward") if only else ("forward", "backward", "optimizer"),
        notes=() if row["batch_per_device"] or row["global_batch"] else (
            f"the row states no batch: {_UNSTATED_BATCH} samples are assumed",
        ),
    )  # fmt: skip


def _reference_trainer_in_half_precision(row: Row) -> bool:
    """Return whether one of NVIDIA's reference trainers ran in mixed precision, where they use channels-last."""
    return row["source"] == "nvidia-dle" and row["precision"] == "amp_fp16"


def _loss(net: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
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
    """Return the library's name for spellings such as "ResNet-50-v1.5" and "EfficientNet[efficientnet-b0]"."""
    inside = re.search(r"\[(.+)\]", model)
    name = (inside[1] if inside else model).lower().replace("-widese", "")
    if timm.is_model(name) or name in torchvision.models.list_models():
        return name
    name = name.removesuffix("-v1.5").replace("resnet-", "resnet").replace("se-resnext", "seresnext")
    return name.replace("-", "_")


def _renamed(model: str) -> str | None:
    """Return the model of an old name that ends in a tag of its weights: "x_in22k" is now "x" with that tag."""
    stem = model
    while "_" in stem:
        stem, _, tag = stem.rpartition("_")
        if timm.is_model(stem):
            return (
                stem
                if re.fullmatch(r"(in\d+k|in\d+ft\d*k|miil|ns|ap|dino|clip|ft|fb|sw|ssl|swsl|distilled)", tag)
                else None
            )
    return None


def _size(model: str) -> int:
    found = re.search(r"b(\d)\b", model.lower())
    return _EFFICIENTNET_PIXELS[found[0]] if found and "efficientnet" in model.lower() else 224
