"""Rows of measured peaks are read as their trainers ran them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("lightning")

from builders.peaks import PEAK
from trainfare_research.workloads import ProfileCache
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.memory_launches import UNFUSED, as_launched
from trainfare_research.workloads.memory_runs import MemoryRun, memory_run

ROW = {
    **PEAK, "method_detail": "r16 q,k,v,o", "precision": "bf16 (pure)", "micro_batch": "8", "seq_len_or_res": "512",
    "gpu": "A100-80GB", "act_ckpt": "full", "other_flags": "transformers 4.48.1; HF SFTTrainer", "peak_gib": "",
    "source_id": "fms-acceleration",
}  # fmt: skip
MEGATRON = {
    "model": "gpt-L12-H512", "params_m": "63.504", "method": "scratch", "method_detail": "gpt3_mcore_te_tp1_pp4",
    "micro_batch": "4", "seq_len_or_res": "1024", "n_gpus": "8", "act_ckpt": "none", "sharding": "tp1,pp4,dp+dist-opt",
    "precision": "bf16 mixed, fp32 main grads/params", "source_id": "megatron-golden",
    "other_flags": "mcore gpt test, dev container on dgx_a100; layers 12, hidden 512, heads 8, kv groups 8, ffn 2048, "
    "vocab 50304; transformer-impl transformer_engine; deterministic mode",
}  # fmt: skip
Tools = tuple[DecoderTraces, ProfileCache]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    folder: Path = tmp_path_factory.mktemp("traces")
    return DecoderTraces(folder), ProfileCache(folder)


def describe_row(tools: Tools, **row: str) -> MemoryRun:
    run = memory_run({**ROW, **row}, *tools)
    assert isinstance(run, MemoryRun), run
    return run


def get_allocated_bytes(run: MemoryRun) -> float:
    return float(run.parts().allocated_bytes[0])


@pytest.mark.parametrize(
    ("name", "unfused"),
    [
        ("gpt3_mcore_te_tp1_pp4", True), ("gpt3_mcore_te_tp1_pp4_resume_torch_dist", False),
        ("t5_mcore_te_tp2_pp1_vp1", False), ("gpt3_7b_tp4_pp1_memory_speed", False),
    ],
)  # fmt: skip
def test_megatron_tests_of_one_run_keep_the_scores_of_attention(name: str, unfused: bool) -> None:
    row = {**ROW, **MEGATRON, "method_detail": name}
    assert (UNFUSED in as_launched(row)["other_flags"]) == unfused
    assert UNFUSED not in as_launched({**row, "sharding": "tp1,pp2,cp4,dp"})["other_flags"]
    older = as_launched({**row, "other_flags": "lts container on dgxa100_dracooci"})["other_flags"]
    assert (UNFUSED in older) == (unfused or "resume" in name)


def test_megatron_peaks_are_as_published(tools: Tools) -> None:
    """Golden values of Megatron-LM, GiB: the last stage, with and without the scores of three blocks."""
    resumed = MEGATRON | {"method_detail": "gpt3_mcore_te_resume"}
    memory_run, fused, interleaved, sharded = (
        describe_row(tools, **row | {"sharding": how})
        for row, how in (
            (MEGATRON, "tp1,pp4,dp"), (resumed, "tp1,pp4,dp"), (resumed, "tp1,pp4,vp1,dp"), (resumed, "tp1,pp1,dp+dist-opt"),
        )
    )  # fmt: skip
    for run, gib in ((memory_run, 2.50), (fused, 2.04), (interleaved, 2.47), (sharded, 2.51)):
        assert get_allocated_bytes(run) / 2**30 == pytest.approx(gib, rel=0.06)


def test_sharded_adapters_keep_the_gradients_of_block_inputs(tools: Tools) -> None:
    """Published for a 7B of 32 blocks: 30 inputs a sample more on two devices than on one, whatever the loss."""
    flags = ROW["other_flags"] + "; fused Triton kernels (cross-entropy)"
    alone, two = (
        describe_row(tools, other_flags=flags, n_gpus=n, sharding=how)
        for n, how in (("1", "none"), ("2", "FSDP"))
    )
    pairs = zip(alone.profile.memory.moments, two.profile.memory.moments, strict=True)
    more = [b.activation_bytes - a.activation_bytes for a, b in pairs]
    assert set(more) == {0, 22 * 2 * 512 * 2048}
    full = [
        describe_row(tools, other_flags=flags, method="full_finetune", n_gpus=n, sharding=how).profile.memory
        for n, how in (("1", "none"), ("2", "FSDP"))
    ]
    assert full[0].moments == full[1].moments, "nothing is frozen"


def test_qwen_trains_rank_64_and_prepares_its_four_bit_model(tools: Tools) -> None:
    qwen = {
        "source_id": "qwen-profile",
        "model": "Qwen-7B",
        "params_m": "7721",
        "method_detail": "LoRA",
        "other_flags": "",
    }
    lora, four = (describe_row(tools, **qwen, method=method) for method in ("lora", "qlora"))
    assert not any("rank" in text for text in lora.assumed)
    trained = lora.profile.trainable_parameters
    assert trained == pytest.approx(143e6, rel=0.1), "of `finetune.py`, where no two matrices are one"
    plain = describe_row(tools, **qwen | {"source_id": "x"}, method="qlora")
    tables = 2 * 151_936 * 4096
    more = four.profile.parameter_bytes - plain.profile.parameter_bytes - 2 * 7 / 8 * trained
    assert more == pytest.approx(2 * tables, rel=0.02)


def test_qwen_trains_copies_of_embedding_and_head_of_a_base_model(tools: Tools) -> None:
    qwen = {"source_id": "qwen-profile", "model": "Qwen-7B", "params_m": "7721", "other_flags": ""}
    plain, tables = (describe_row(tools, **qwen, method_detail=how).profile for how in ("LoRA", "LoRA (emb)"))
    more = 2 * 151_936 * 4096
    assert tables.trainable_parameters - plain.trainable_parameters == pytest.approx(more, rel=0.001)
    assert tables.parameter_bytes - plain.parameter_bytes == pytest.approx(2 * more, rel=0.001)
    assert tables.memory.gradient_bytes - plain.memory.gradient_bytes == pytest.approx(2 * more, rel=0.001)
    assert tables.optimizer.state_bytes - plain.optimizer.state_bytes == pytest.approx(4 * more, rel=0.001)


def test_milabench_labels_its_fixed_batch_in_full_precision(tools: Tools) -> None:
    fixed = {
        "source_id": "milabench", "domain": "vision-cls", "model": "torchvision resnet50", "method": "scratch",
        "precision": "fp16 AMP", "optimizer": "sgd", "act_ckpt": "none", "seq_len_or_res": "224", "micro_batch": "64",
    }  # fmt: skip
    flags = "torch 2.6.0, eager; channels_last; "
    run = describe_row(tools, **fixed, other_flags=flags + "fixed synthetic batch, no input pipeline")
    assert get_allocated_bytes(run) / 64 / 2**20 == pytest.approx(100.5, rel=0.03), (
        "MiB an image, as measured"
    )
    assert {m.phase for m in run.profile.memory.moments} == {"forward"}
    assert get_allocated_bytes(
        describe_row(tools, **fixed, other_flags=flags + "DataLoader")
    ) < 0.55 * get_allocated_bytes(run)


def test_heads_and_strides_of_segmentation_networks_are_theirs(tools: Tools) -> None:
    """DeepLabv3+ joins a map of stride 4; a backbone named d8 keeps maps of stride 8, of a ResNet or not."""
    row = {
        "source_id": "mmseg-zoo",
        "domain": "vision-seg",
        "method": "full_finetune",
        "precision": "fp32",
        "optimizer": "",
    }
    names = ("mobilenet-v2-d8_deeplabv3_x", "mobilenet-v2-d8_deeplabv3plus_x", "mobilenet-v2_deeplabv3_x")
    coarse, fine, small = (
        describe_row(tools, **row, model=f"{name}_cityscapes-128x128", method_detail="") for name in names
    )
    assert get_allocated_bytes(fine) > 1.2 * get_allocated_bytes(coarse)
    assert get_allocated_bytes(coarse) > 1.15 * get_allocated_bytes(small)


@pytest.mark.parametrize(
    ("name", "data", "batch"),
    [
        ("mask_rcnn_R_50_FPN.yaml", "Cityscapes", "1"), ("faster_rcnn_R_50_C4.yaml", "PascalVOC", "2"),
        ("mask_rcnn_R_101_FPN_1x.yaml", "LVISv0.5", "2"), ("mask_rcnn_X_101_32x8d_FPN_1x.yaml", "LVISv0.5", "2"),
        ("mask_rcnn_R_50_FPN_1x.yaml", "", "2"), ("mask_rcnn_R_101_FPN_3x.yaml", "", "2"), ("faster_rcnn_R_50_C4_1x.yaml", "", "2"),
    ],
)  # fmt: skip
def test_names_of_detectrons_configurations_tell_their_data(name: str, data: str, batch: str) -> None:
    row = {
        **ROW,
        "source_id": "detectron2-zoo",
        "method_detail": name,
        "other_flags": "x",
        "micro_batch": "2",
    }
    fields = as_launched(row)
    assert fields["other_flags"] == (f"x; {data}" if data else "x")
    assert fields["micro_batch"] == batch


def test_batches_of_detectors_are_those_of_their_configurations() -> None:
    row = {"source_id": "mmdet-zoo", "micro_batch": "2"}
    models = ("yolov3_d53_320_273e_coco", "retinanet_pvtv2-b4_fpn_1x_coco", "retinanet_pvtv2-b2_fpn_1x_coco")
    assert [as_launched({**row, "model": model})["micro_batch"] for model in models] == ["8", "1", "2"]


def test_rows_of_openmmlab_are_those_of_their_configurations() -> None:
    """Batches, devices, precisions and names that the tables have otherwise than the repositories."""

    def list_launched(source: str, model: str, *columns: str, **more: str) -> list[str]:
        row = {
            "source_id": source,
            "model": model,
            "micro_batch": "2",
            "n_gpus": "8",
            "precision": "fp32",
            "row_id": "",
        }
        fields = as_launched({**row, **more})
        return [fields[name] for name in columns]

    assert list_launched("mmseg-zoo", "cgnet_fcn_4xb4-60k_cityscapes-680x680", "micro_batch") == ["8"]
    fastfcn = "fastfcn_r50-d32_jpu_aspp_4xb2-80k_cityscapes-512x1024"
    batches = [
        list_launched("mmseg-zoo", fastfcn, "micro_batch", row_id=one) for one in ("OMM1110", "OMM1111")
    ]
    assert batches == [["2"], ["4"]], "of two figures under one name the second is of 4"
    assert list_launched("mmseg-zoo", "eemanet_r50-d8", "model", "micro_batch") == ["emanet_r50-d8", "2"]
    lyft = "pointpillars_hv_regnet-400mf_fpn_sbn-all_2x8_2x_lyft-3d"
    swapped = {"micro_batch": "8", "n_gpus": "2"}
    assert list_launched("mmdet3d-zoo", lyft, "micro_batch", "n_gpus", **swapped) == ["2", "8"]
    kitti = "pointpillars_hv_secfpn_8xb6-160e_kitti-3d-car"
    assert list_launched("mmdet3d-zoo", kitti, "micro_batch", "n_gpus", micro_batch="6") == ["6", "8"]
    assert list_launched("mmdet-zoo", "lad_r101-paa-r50_fpn_2xb8_coco_1x", "precision") == ["fp16 AMP"]
    grouped = list_launched(
        "mmdet-zoo", "reppoints_moment_x101_fpn_dconv_c3-c5_gn-neck+head_2x_coco", "model"
    )
    assert "_x101-32x4d_fpn_" in grouped[0]
