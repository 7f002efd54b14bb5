"""Networks of OpenMMLab's zoos that names of configurations describe: their published sizes, and what a name changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("timm")

import timm
import torch
from torch import nn

from trainfare_research.workloads import StepJob, resolve
from trainfare_research.workloads.openmmlab.backbones import backbone_of
from trainfare_research.workloads.openmmlab.early_torch import UnfusedGroupNorm, keeping_scores, pixel_loss

ROW = {
    "source": "mmyolo-zoo", "model": "", "task": "", "batch_per_device": "2", "global_batch": "", "devices": "1",
    "sequence_length": "", "image_size": "", "precision": "fp32", "optimizer": "", "framework": "", "notes": "",
    "throughput_unit": "samples/s",
}  # fmt: skip


def _find_job(model: str, source: str = "mmyolo-zoo") -> StepJob | str:
    segments = source == "mmseg-zoo"
    task = "openmmlab-segmentation" if segments else "openmmlab-detection"
    return resolve({**ROW, "model": model, "task": task, "source": source})


def _job(model: str, source: str = "mmyolo-zoo") -> StepJob:
    job = _find_job(model, source)
    assert isinstance(job, StepJob), job
    return job


def _count_trained_m(net: nn.Module) -> float:
    return sum(p.numel() for p in net.parameters() if p.requires_grad) / 1e6


@pytest.mark.parametrize(
    ("model", "source", "weights_m"),
    [
        ("yolov5_n-v61_syncbn_fast_8xb16-300e_coco", "mmyolo-zoo", 1.87),
        ("yolov5_n-p6-v62_syncbn_fast_8xb16-300e_coco", "mmyolo-zoo", 3.2),
        ("yolov8_s_syncbn_fast_8xb16-500e_coco", "mmyolo-zoo", 11.17),
        ("yolox_tiny_fast_8xb8-300e_coco", "mmyolo-zoo", 5.06),
        ("yolov3_d53_320_273e_coco", "mmdet-zoo", 61.9),
        # 24.7 are published: layers that its three maps share are three here, 0.74 for each of two maps and tower pair.
        ("rtmdet_m_syncbn_fast_8xb32-300e_coco", "mmyolo-zoo", 24.7 + 2 * 4 * 9 * 192**2 / 1e6),
        ("unet-s5-d16_fcn_4xb4-40k_stare-128x128", "mmseg-zoo", 29.06),
        ("segformer_mit-b0_8xb2-160k_ade20k-512x512", "mmseg-zoo", 3.8),
        ("segmenter_vit-t_mask_8xb1-160k_ade20k-512x512", "mmseg-zoo", 6.7),
        ("mask2former_r50_8xb2-lsj-50e_coco", "mmdet-zoo", 44.0),
    ],
)
def test_networks_have_their_published_size(model: str, source: str, weights_m: float) -> None:
    assert _count_trained_m(_job(model, source).network()) == pytest.approx(weights_m, rel=0.03), "million"


def test_yolos_keep_a_second_copy_of_their_weights() -> None:
    net = _job("yolov5_n-v61_syncbn_fast_8xb16-300e_coco").network()
    kept = sum(p.numel() for p in net.parameters() if not p.requires_grad) / 1e6
    assert kept == pytest.approx(_count_trained_m(net))


def test_activations_are_those_of_the_zoo() -> None:
    ours, theirs = _job("yolox_tiny_fast_8xb8-300e_coco"), _job("yolox_tiny_8x8_300e_coco", "mmdet-zoo")
    assert any(isinstance(part, nn.SiLU) for part in ours.network().modules())
    assert not any(isinstance(part, nn.SiLU) for part in theirs.network().modules())


def test_images_and_batches_are_those_of_the_configuration() -> None:
    sizes = {
        "yolov5_s-v61_fast_1xb64-50e_voc": (2, 512),
        "yolov5_n-p6-v62_syncbn_fast_8xb16-300e_coco": (2, 1280),
        "yolox_l_8x8_300e_coco": (2, 800),
        "yolov3_d53_mstrain-416_273e_coco": (2, 416),
        "mask2former_r50_8xb2-lsj-50e_coco": (2, 1024),
        "mask-rcnn_r50_fpn_syncbn-all_rpn-2conv_ssj_32x2_270k_coco": (2, 1024),
    }
    fields = {name: _job(name).batch()[0].shape[:3:2] for name in sizes}
    assert fields == sizes


@pytest.mark.parametrize(
    "model",
    [
        "yolov6_s_syncbn_fast_8xb32-400e_coco",
        "kd_tiny_rtmdet_s_neck_300e_coco",
        "rtmdet-ins_l_8xb32-300e_coco",
    ],
)
def test_heads_that_are_not_described_have_a_reason(model: str) -> None:
    assert _find_job(model) == "the head of this detector is not described"


def test_norms_masks_and_cascades_of_r_cnn_follow_the_name() -> None:
    plain = _job("mask-rcnn_r50_fpn_gn-all_2x_coco").network()
    standard = _job("mask-rcnn_r50_fpn_gn-ws-all_2x_coco").network()
    assert not any(isinstance(part, nn.BatchNorm2d) for part in plain.modules())
    assert _count_trained_m(standard) == pytest.approx(_count_trained_m(plain))
    assert any("parametrizations" in name for name, _ in standard.named_parameters())
    two = {
        offsets: _count_trained_m(_job(f"faster-rcnn_r50_fpn_{offsets}_1x_coco").network())
        for offsets in ("dpool", "mdpool")
    }
    # Each of four maps has layers of 12,544, 1,024 and 49 numbers more for the weights of its bins.
    assert two["mdpool"] - two["dpool"] == pytest.approx(4 * (12545 * 1024 + 1025 * 1024 + 1025 * 49) / 1e6)
    cascade = _job("htc_r50_fpn_1x_coco").network()
    assert sum(isinstance(part, nn.ConvTranspose2d) for part in cascade.modules()) == 3, (
        "a mask head for each stage"
    )


def test_windows_of_networks_for_384_pixels_are_wide() -> None:
    wide = "mask2former_swin-b-in22k-384x384-pre_8xb2-90k_cityscapes-512x1024"
    assert "window12" in _job(wide, "mmseg-zoo").key
    assert "window7" in _job("mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco", "mmdet-zoo").key


def test_fastfcn_joins_three_maps_at_stride_8() -> None:
    name = "fcn_r50-d32_jpu_psp_512x512"
    joined, plain = (backbone_of(n, (64, 64), frozen=False) for n in (name, name.replace("_jpu", "")))
    assert not isinstance(joined, str)
    assert not isinstance(plain, str)
    shapes = [
        [y.shape[1:3] for y in backbone.build()(torch.zeros(2, 3, 64, 64))] for backbone in (joined, plain)
    ]
    assert shapes == [
        [(256, 16), (512, 8), (1024, 4), (2048, 8)],
        [(256, 16), (512, 8), (1024, 4), (2048, 2)],
    ]
    assert joined.key != plain.key


def _count_kept(run: Callable[[], torch.Tensor], size: int) -> int:
    """Return how many tensors of so many numbers are kept for backward."""
    tensors_by_key: dict[int, torch.Tensor] = {}

    def pack(kept: torch.Tensor) -> torch.Tensor:
        if kept.numel() == size:
            tensors_by_key[kept.data_ptr()] = kept
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        run().sum().backward()
    return len(tensors_by_key)


def test_what_early_torch_kept_is_kept() -> None:
    scores, images = torch.randn(1, 5, 4, 4, requires_grad=True), torch.zeros(1, 3, 8, 8)
    assert _count_kept(lambda: pixel_loss(scores, images), 5 * 8 * 8) == 2, (
        "scores, and the logarithms of their chances"
    )

    x, ours = torch.randn(2, 64, 3, 3, requires_grad=True), UnfusedGroupNorm(64)
    torch.nn.init.normal_(ours.weight)
    assert _count_kept(lambda: ours(x), x.numel()) == 2
    theirs = nn.functional.group_norm(x, 32, ours.weight, ours.bias)
    torch.testing.assert_close(ours(x), theirs)

    block = timm.layers.Attention(16, num_heads=2)
    block.fused_attn = False
    tokens = torch.randn(1, 7, 16, requires_grad=True)
    plain = block(tokens)
    scores_kept = _count_kept(lambda: block(tokens), 2 * 7 * 7)
    assert _count_kept(lambda: keeping_scores(block)(tokens), 2 * 7 * 7) == scores_kept + 1
    torch.testing.assert_close(block(tokens), plain)
