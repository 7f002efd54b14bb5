"""
Rows of newer tables in the words of the first one, so that one description serves both.

The first table has a task for each kind of model ("imagenet-classification", "finetune-squad"); newer ones say "train"
or "finetune_full" for all, and the model alone tells what was trained. They also spell names as papers, torchvision or
checkpoints of Hugging Face do.
"""

from __future__ import annotations

import re
from functools import lru_cache

import timm
import torchvision

from benchmarks.workloads.single_device import Row

__all__ = ["normalised_row"]

_ANY_MODEL = {
    "train": "",
    "finetune_full": "",
    "train_fwd_bwd": "-fwd-bwd",
}
"""Tasks of models of every kind, and what is added to the first table's task."""


def normalised_row(row: Row) -> Row:
    """
    Return the row with the task and the model of the first table; unchanged where it has them or fits none.

    Example:
        >>> row = {"task": "train", "model": "torchvision resnet50", "framework": "pytorch-1.8"}
        >>> normalised_row(row)
        {'task': 'imagenet-classification', 'model': 'resnet50', 'framework': 'pytorch 1.8'}
    """
    row = {**row, "framework": row["framework"].replace("pytorch-", "pytorch ", 1)}
    if row["task"] not in _ANY_MODEL:
        return row
    name = row["model"]
    if re.fullmatch(r"BERT-(base|large)[ -]SQuAD", name):
        return {**row, "model": name.replace(" ", "-"), "task": "finetune-squad"}
    classifier = _classifier(name)
    if classifier is None:
        return row
    return {**row, "model": classifier, "task": f"imagenet-classification{_ANY_MODEL[row['task']]}"}


def _classifier(model: str) -> str | None:
    """Return the library's name of an image classifier ("ViT-B/16" is "vit_b_16"); None for anything else."""
    name = re.sub(r"^(torchvision|timm)[ /]", "", model.lower())
    plain = re.sub(r"[-/]", "_", name.replace("resnet-", "resnet").replace("resnext-", "resnext"))
    for spelling in (name, plain, re.sub(r"net(v\d)", r"net_\1", plain)):
        # Checkpoints of Hugging Face end in the data of their first training: "vit-base-patch16-224-in21k".
        stem = re.sub(r"_in\d+k$", "", spelling)
        if stem in _classifiers():
            return stem
    return None


@lru_cache
def _classifiers() -> frozenset[str]:
    """Return timm's models and torchvision's classifiers, without torchvision's detectors."""
    return frozenset((*timm.list_models(), *torchvision.models.list_models(module=torchvision.models)))
