"""Finds the module that describes the training step of a row."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.workloads import (
    algoperf,
    audio,
    detection,
    graphs,
    images,
    openmmlab,
    quartznet,
    segmentation,
    sequences,
    small_images,
    tabular,
    transformers_classes,
    transformers_models,
)
from benchmarks.workloads.single_device import Row, StepJob
from benchmarks.workloads.spellings import normalised_row

__all__ = ["resolve"]

_FINDERS: tuple[Callable[[Row], StepJob | str | None], ...] = (
    images.find,
    small_images.find,
    transformers_classes.find,
    transformers_models.find,
    detection.find,
    audio.find,
    sequences.find,
    tabular.find,
    segmentation.find,
    algoperf.find,
    graphs.find,
    quartznet.find,
    openmmlab.find,
)


def resolve(row: Row) -> StepJob | str:
    """
    Return the training step that a row of throughput_train.csv measured, or why there is none.

    Args:
        row: as `csv.DictReader` reads it; only rows of one device have a step of their own here.
    """
    same = normalised_row(row)
    for find in _FINDERS:
        found = find(same)
        if found is not None:
            return found
    return f"{row['model']}: no description of this model"
