"""
Rows of measured peaks as their trainers ran them, where a public script or trainer says what the table does not.

Each fact is a row of `data/launched_facts.csv`, with the repository and file where it was read and what measured
peaks say of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from trainfare_core.job_profile import JobProfile, MemoryMoment
from trainfare_research.workloads.language.decoder import DecoderStep
from trainfare_research.workloads.language.decoder_moments import change_memory

UNFUSED = "unfused attention"
_FP32_TABLES = "embedding and head in fp32"
TRAINED_TABLES = "embedding and head trained"
_FORWARD = "its peak is a forward pass in fp32"
"""Notes of a row."""
_MMDET_BATCHES = {
    "retinanet_pvtv2-b4": "1", "retinanet_pvtv2-b5": "1", "yolov3_d53": "8", "yolov3_mobilenetv2": "24",
}  # fmt: skip
"""Samples of a device, by the beginning of a configuration's name."""
_MMSEG_BATCHES = {"cgnet_fcn_4xb4-60k_cityscapes-680x680": "8"}
"""The same of segmentation networks."""
_FASTFCN_BATCHES = {"OMM1111": "4", "OMM1113": "4", "OMM1115": "4"}
"""Samples of a device of the rows that share their configuration's name with another."""
_DROPOUT_BYTES = 4 * 3 - 2 * 2
"""Of a value of a block's input: dropout and mask of four matrices, less the two inputs that a trace without it has."""
_CITYSCAPES = "Cityscapes"
_ZOO_DATA = (
    (r"mask_rcnn_R_\d+_FPN\.yaml", _CITYSCAPES),
    (r"faster_rcnn_R_\d+_(?:FPN|C4)\.yaml", "PascalVOC"),
    (r"mask_rcnn_[RX]_101_\w*FPN_1x\.yaml", "LVISv0.5"),
)
"""Data sets of Detectron2's configurations other than COCO, by pattern of the file's name."""
_FREED_INPUTS = 2
"""Blocks whose inputs have no gradient, or none that stays, when the first block runs again."""


def as_launched(row: Mapping[str, str]) -> dict[str, str]:
    """Return the row with the sizes and notes that its trainer's script gives."""
    change = _CHANGES.get(row["source_id"])
    return {**row, **({} if change is None else change(row))}


def _add_notes(row: Mapping[str, str], *notes: str) -> dict[str, str]:
    return {"other_flags": "; ".join((row["other_flags"], *notes))}


def _of_megatron(row: Mapping[str, str]) -> dict[str, str]:
    name = row["method_detail"]
    resumed = "resume" in name and "dracooci" not in row["other_flags"]
    fused = resumed or "cp" in row["sharding"] or not name.startswith("gpt3") or name.endswith("memory_speed")
    return {} if fused else _add_notes(row, UNFUSED)


def _of_qwen(row: Mapping[str, str]) -> dict[str, str]:
    if row["method"] == "full_finetune":
        return {}
    more = (
        _FP32_TABLES
        if row["method"] == "qlora"
        else TRAINED_TABLES
        if "(emb)" in row["method_detail"]
        else ""
    )
    return _add_notes(row, "rank 64", *((more,) if more else ()))


def _of_milabench(row: Mapping[str, str]) -> dict[str, str]:
    if "fixed synthetic batch" not in row["other_flags"]:
        return {}
    return {**_add_notes(row, _FORWARD), "seq_len_or_res": "244", "precision": "fp32"}


def _of_detectron2(row: Mapping[str, str]) -> dict[str, str]:
    data = next((data for name, data in _ZOO_DATA if re.fullmatch(name, row["method_detail"])), None)
    if data is None:
        return {}
    return {**_add_notes(row, data), **({"micro_batch": "1"} if data == _CITYSCAPES else {})}


def _of_mmdet(row: Mapping[str, str]) -> dict[str, str]:
    if row["model"].startswith("reppoints_") and "_x101_fpn_" in row["model"]:
        return {"model": row["model"].replace("_x101_", "_x101-32x4d_")}
    if row["model"].startswith("lad_"):
        return {"precision": "fp16 AMP"}
    batch = next((batch for name, batch in _MMDET_BATCHES.items() if row["model"].startswith(name)), None)
    return {} if batch is None else {"micro_batch": batch}


def _of_mmseg(row: Mapping[str, str]) -> dict[str, str]:
    if row["model"].startswith("eemanet"):
        return {"model": row["model"][1:]}
    batch = next((batch for name, batch in _MMSEG_BATCHES.items() if row["model"].startswith(name)), None)
    return {"micro_batch": _FASTFCN_BATCHES.get(row["row_id"], batch or row["micro_batch"])}


def _of_mmdet3d(row: Mapping[str, str]) -> dict[str, str]:
    match = re.search(r"_(\d+)x(\d+)_", row["model"])
    return {} if match is None else {"micro_batch": match[1], "n_gpus": match[2]}


_CHANGES = {
    "megatron-golden": _of_megatron, "qwen-profile": _of_qwen, "milabench": _of_milabench,
    "detectron2-zoo": _of_detectron2, "mmdet-zoo": _of_mmdet, "mmseg-zoo": _of_mmseg, "mmdet3d-zoo": _of_mmdet3d,
}  # fmt: skip
"""By the name of a source in the tables."""


def with_kept_inputs(profile: JobProfile, step: DecoderStep, *, sharded: bool) -> JobProfile:
    """
    Return the profile of adapters of transformers' Trainer while a block runs again.

    Args:
        profile: of a step with few logits, whose instants are those of the blocks.
        step: the decoder.
        sharded: whether the inputs of blocks keep their gradients until backward has ended (FSDP).
    """
    kept_bytes = _DROPOUT_BYTES + (2 * (step.model.layers - _FREED_INPUTS) if sharded else 0)
    kept_bytes *= step.sequence * step.model.hidden
    saved = profile.memory.saved_activation_bytes

    def at(moment: MemoryMoment) -> dict[str, int]:
        size = moment.activation_bytes
        return {"activation_bytes": size + kept_bytes} if moment.phase == "backward" and size > saved else {}

    return profile.model_copy(update={"memory": change_memory(profile.memory, at)})


def with_fp32_tables(profile: JobProfile, row: Mapping[str, str], step: DecoderStep) -> JobProfile:
    """Return the profile with embedding and head in fp32 where the row notes it."""
    if _FP32_TABLES not in row["other_flags"]:
        return profile
    more = 2 * step.model.hidden * step.model.vocabulary * (1 if step.model.tied else 2)
    frozen = sum(g.parameter_bytes for g in profile.parameters if not g.trainable)
    return profile.model_copy(
        update={
            "parameters": tuple(
                g if g.trainable else g.model_copy(
                    update={"parameter_bytes": int(g.parameter_bytes * (1 + more / frozen))}
                )
                for g in profile.parameters
            )
        }
    )  # fmt: skip


def with_trained_tables(profile: JobProfile, row: Mapping[str, str], step: DecoderStep) -> JobProfile:
    """Return the profile with trained copies of embedding and head, in the precision of the adapters."""
    if TRAINED_TABLES not in row["other_flags"]:
        return profile
    trained = profile.trainable_parameters
    factor = 1 + step.model.hidden * step.model.vocabulary * (1 if step.model.tied else 2) / trained

    def more(size: int) -> int:
        return int(size * factor)

    return profile.model_copy(
        update={
            "parameters": tuple(
                g.model_copy(update={"count": more(g.count), "parameter_bytes": more(g.parameter_bytes)})
                if g.trainable
                else g
                for g in profile.parameters
            ),
            "memory": change_memory(
                profile.memory,
                lambda m: {
                    "gradient_bytes": more(m.gradient_bytes), "optimizer_bytes": more(m.optimizer_bytes)
                },
                gradient_bytes=more(profile.memory.gradient_bytes),
            ),
            "optimizer": profile.optimizer.model_copy(
                update={"state_bytes": more(profile.optimizer.state_bytes)}
            ),
        }
    )  # fmt: skip


def with_forward_alone(profile: JobProfile, row: Mapping[str, str]) -> JobProfile:
    """Return the profile without backward and update where the row notes that its peak is before them."""
    if _FORWARD not in row["other_flags"]:
        return profile
    moments = tuple(m for m in profile.memory.moments if m.phase == "forward")
    return profile.model_copy(update={"memory": profile.memory.model_copy(update={"moments": moments})})
