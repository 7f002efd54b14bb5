"""Finds the module that describes the training step of a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from trainfare_research.workloads.language import (
    sequences,
    temporal_fusion,
    transformer_xl_small,
    transformers_classes,
    transformers_models,
)
from trainfare_research.workloads.openmmlab import backbones_and_heads as openmmlab
from trainfare_research.workloads.openmmlab import dense as openmmlab_dense
from trainfare_research.workloads.openmmlab import encoding as openmmlab_encoding
from trainfare_research.workloads.openmmlab import light_segmenters as openmmlab_light_segmenters
from trainfare_research.workloads.openmmlab import mask2former as openmmlab_mask2former
from trainfare_research.workloads.openmmlab import maskformer as openmmlab_maskformer
from trainfare_research.workloads.openmmlab import pillars as openmmlab_pillars
from trainfare_research.workloads.openmmlab import points as openmmlab_points
from trainfare_research.workloads.openmmlab import rcnn as openmmlab_rcnn
from trainfare_research.workloads.openmmlab import segmenters as openmmlab_segmenters
from trainfare_research.workloads.openmmlab import tracking as openmmlab_tracking
from trainfare_research.workloads.openmmlab import transformers as openmmlab_transformers
from trainfare_research.workloads.openmmlab import two_stage as openmmlab_two_stage
from trainfare_research.workloads.openmmlab import yolo as openmmlab_yolo
from trainfare_research.workloads.openmmlab import yolof as openmmlab_yolof
from trainfare_research.workloads.other import algoperf, audio, graphs, hifi_gan, moflow, quartznet, tabular
from trainfare_research.workloads.single_device import Row, StepJob
from trainfare_research.workloads.spellings import normalise_row
from trainfare_research.workloads.vision import (
    checkpoints,
    detection,
    detectron2,
    gpunet,
    images,
    segmentation,
    small_images,
    stable_diffusion,
    tensorflow_networks,
)

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
    same = normalise_row(row)
    for find in _FINDERS:
        job = find(same)
        if isinstance(job, StepJob) and COMPILED in row["notes"]:
            return replace(job, compiled=True)
        if job is not None:
            return job
    return f"{row['model']}: no description of this model"
