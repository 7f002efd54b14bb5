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

from trainfare_research.workloads.single_device import Row

_ANY_MODEL = {
    "train": "",
    "finetune_full": "",
    "train_fwd_bwd": "-fwd-bwd",
}
"""Tasks of models of every kind, and what is added to the first table's task."""
_SHORT = {
    "convnextb": "convnext_base", "convnextl": "convnext_large", "convnexts": "convnext_small",
    "convnextt": "convnext_tiny", "deitbase": "deit_base_patch16_224", "deitsmall": "deit_small_patch16_224",
    "deittiny": "deit_tiny_patch16_224", "resnext50": "resnext50_32x4d", "swinbase": "swin_b",
    "swinlarge": "swin_large_patch4_window7_224", "swinsmall": "swin_s", "swintiny": "swin_t",
    "vits16": "vit_small_patch16_224", "vittiny16": "vit_tiny_patch16_224", "wideresnet101": "wide_resnet101_2",
    "wideresnet50": "wide_resnet50_2",
}  # fmt: skip
"""Short names of papers, by letters and digits, that only one network of the libraries has. "EfficientNet" and the like
leave a size open: they have no description."""


def normalise_row(row: Row) -> Row:
    """
    Return the row with the task and the model of the first table; unchanged where it has them or fits none.

    Example:
        >>> row = {"task": "train", "model": "torchvision resnet50", "framework": "pytorch-1.8"}
        >>> normalise_row(row)
        {'task': 'imagenet-classification', 'model': 'resnet50', 'framework': 'pytorch 1.8'}
    """
    row = {**row, "framework": row["framework"].replace("pytorch-", "pytorch ", 1)}
    name = row["model"]
    if row["task"].startswith("imagenet-classification"):
        return {**row, "model": _of_paper(name) or name}
    if row["task"] not in _ANY_MODEL:
        return row
    squad = re.fullmatch(r"(BERT-(?:base|large))[ -]\(?SQuAD\)?", name)
    if squad:
        return {**row, "model": f"{squad[1]}-SQuAD", "task": "finetune-squad"}
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
    return _of_paper(model)


def _of_paper(model: str) -> str | None:
    """
    Return the library's name of a classifier as papers and tables write it: "Inception v3", "ResNet-50 (ImageNet)".

    None where a library has the name as it is, for anything else, and for networks of other data than ImageNet.
    """
    if timm.is_model(model.lower()) or model.lower() in _classifiers():
        return None
    name = re.sub(r"(-v1(\.5)?)?( \(?imagenet(-1k)?\)?)?( \(algoperf\))?$", "", model.lower())
    if re.search(r"[(\[]", name):
        return None
    letters = _letters(name)
    known = _by_letters()
    return _SHORT.get(letters) or known.get(letters) or known.get(letters.replace("patch4", ""))


@lru_cache
def _by_letters() -> dict[str, str]:
    """Return the names of classifiers by their letters and digits; of two the last in the alphabet."""
    return {_letters(name): name for name in sorted(_classifiers())}


def _letters(name: str) -> str:
    """Return the letters and digits of a name in lower case, without the library that a row names first."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"^(torchvision|timm)[ /]", "", name.lower()))


@lru_cache
def _classifiers() -> frozenset[str]:
    """Return timm's models and torchvision's classifiers, without torchvision's detectors."""
    return frozenset((*timm.list_models(), *torchvision.models.list_models(module=torchvision.models)))
