"""Finds the module that describes the training step of a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks.workloads import (
    algoperf,
    audio,
    checkpoints,
    detection,
    detectron2,
    gpunet,
    graphs,
    hifi_gan,
    images,
    moflow,
    openmmlab,
    openmmlab_dense,
    openmmlab_encoding,
    openmmlab_light_segmenters,
    openmmlab_mask2former,
    openmmlab_maskformer,
    openmmlab_pillars,
    openmmlab_points,
    openmmlab_rcnn,
    openmmlab_segmenters,
    openmmlab_tracking,
    openmmlab_transformers,
    openmmlab_two_stage,
    openmmlab_yolo,
    openmmlab_yolof,
    quartznet,
    segmentation,
    sequences,
    small_images,
    stable_diffusion,
    tabular,
    temporal_fusion,
    tensorflow_networks,
    transformer_xl_small,
    transformers_classes,
    transformers_models,
)
from benchmarks.workloads.single_device import Row, StepJob
from benchmarks.workloads.spellings import normalised_row

__all__ = ["COMPILED", "resolve"]

COMPILED = "pointwise operations fused"
"""Note of a row whose launch script turned a compiler on."""

_FINDERS: tuple[Callable[[Row], StepJob | str | None], ...] = (
    tensorflow_networks.find,
    temporal_fusion.find,
    hifi_gan.find,
    stable_diffusion.find,
    gpunet.find,
    images.find,
    small_images.find,
    transformers_classes.find,
    transformers_models.find,
    detectron2.find,
    detection.find,
    audio.find,
    transformer_xl_small.find,
    sequences.find,
    tabular.find,
    segmentation.find,
    algoperf.find,
    graphs.find,
    moflow.find,
    quartznet.find,
    openmmlab_mask2former.find,
    openmmlab_maskformer.find,
    openmmlab_pillars.find,
    openmmlab_points.find,
    openmmlab_dense.find,
    openmmlab_tracking.find,
    openmmlab_two_stage.find,
    openmmlab_rcnn.find,
    openmmlab_segmenters.find,
    openmmlab_encoding.find,
    openmmlab_light_segmenters.find,
    openmmlab_transformers.find,
    openmmlab_yolo.find,
    openmmlab_yolof.find,
    openmmlab.find,
    checkpoints.find,
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
        if isinstance(found, StepJob) and COMPILED in row["notes"]:
            return replace(found, compiled=True)
        if found is not None:
            return found
    return f"{row['model']}: no description of this model"
