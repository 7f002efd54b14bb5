"""Which module describes which row."""

from __future__ import annotations

from benchmarks.workloads import (
    audio,
    detection,
    images,
    segmentation,
    sequences,
    tabular,
    transformers_models,
)
from benchmarks.workloads.single_device import Row, StepJob

__all__ = ["resolve"]

_MODULES = (images, transformers_models, detection, audio, sequences, tabular, segmentation)


def resolve(row: Row) -> StepJob | str:
    """
    Return the training step that a row of throughput_train.csv measured, or why there is none.

    Args:
        row: as `csv.DictReader` reads it; only rows of one device have a step of their own here.
    """
    for module in _MODULES:
        found = module.find(row)
        if found is not None:
            return found
    return f"no description of {row['task']} models of {row['source']}"
