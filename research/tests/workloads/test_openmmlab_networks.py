"""More networks of OpenMMLab's zoo: published sizes, what a head keeps for backward, and what stays without answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("timm")

import torch
from torch import nn

from trainfare_research.workloads import StepJob, resolve
from trainfare_research.workloads.memory_runs import memory_run
from trainfare_research.workloads.openmmlab.encoding import Codes
from trainfare_research.workloads.openmmlab.pillars import PillarPoints
from trainfare_research.workloads.openmmlab.two_stage import BlockAttention

ROW = {
    "source": "", "model": "", "task": "", "batch_per_device": "2", "global_batch": "", "devices": "1",
    "sequence_length": "", "image_size": "", "precision": "fp32", "optimizer": "", "framework": "", "notes": "",
    "throughput_unit": "samples/s",
}  # fmt: skip
SEGMENTATION, DETECTION, POINTS = "openmmlab-segmentation", "openmmlab-detection", "openmmlab-3d"


def _job(model: str, task: str, source: str = "") -> StepJob:
    job = resolve({**ROW, "model": model, "task": task, "source": source})
    assert isinstance(job, StepJob), job
    return job


def _build_network(model: str, task: str, source: str = "") -> nn.Module:
    """Return the network without the memory of its weights."""
    with torch.device("meta"):
        return _job(model, task, source).network()


@pytest.mark.parametrize(
    ("model", "task", "weights_m"),
    [
        ("cgnet_fcn_4xb8-60k_cityscapes-512x1024", SEGMENTATION, 0.5),
        ("erfnet_fcn_4xb4-160k_cityscapes-512x1024", SEGMENTATION, 2.06 + 9 * 16 * 128 / 1e6),
        # 1.11 are published; its two helpers have a layer of 9 x 32 weights for each of 128 and 64 channels.
        ("fast_scnn_8xb4-160k_cityscapes-512x1024", SEGMENTATION, 1.15 + 9 * 32 * (128 + 64) / 1e6),
        ("icnet_r50-d8_4xb2-80k_cityscapes-832x832", SEGMENTATION, 47.82),
        ("segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512", SEGMENTATION, 4.3),
        ("maskformer_r50-d32_8xb2-160k_ade20k-512x512", SEGMENTATION, 41.3),
        ("pointpillars_hv_secfpn_8xb6-160e_kitti-3d-3class", POINTS, 4.83),
        ("cornernet_hourglass104_8xb6-210e-mstest_coco", DETECTION, 201.0),
        ("centernet_resnet18_140e_coco", DETECTION, 14.2),
        ("atss_r50_fpn_dyhead_1x_coco", DETECTION, 38.9),
        ("imvotenet_faster_rcnn_r50_fpn_2x4_sunrgbd-3d-10class", POINTS, 41.4),
        ("decoupled-solo_r50_fpn_1x_coco", DETECTION, 40.1),
    ],
)
def test_networks_have_their_published_size(model: str, task: str, weights_m: float) -> None:
    count = sum(p.numel() for p in _build_network(model, task).parameters()) / 1e6
    assert count == pytest.approx(weights_m, rel=0.03), "million"


@pytest.mark.parametrize(
    ("model", "task"),
    [
        ("bisenetv1_r18-d32-in1k-pre_4xb8-160k_cityscapes-128x128", SEGMENTATION),
        ("bisenetv2_fcn_4xb4-160k_cityscapes-128x128", SEGMENTATION),
        ("cgnet_fcn_4xb8-60k_cityscapes-128x128", SEGMENTATION),
        ("erfnet_fcn_4xb4-160k_cityscapes-128x128", SEGMENTATION),
        ("fast_scnn_8xb4-160k_cityscapes-128x128", SEGMENTATION),
        ("icnet_r50-d8_4xb2-80k_cityscapes-256x256", SEGMENTATION),
        ("mobilenet-v3-d8-scratch-s_lraspp_4xb4-320k_cityscapes-400x400", SEGMENTATION),
        ("segnext_mscan-t_1xb16-adamw-160k_ade20k-128x128", SEGMENTATION),
        ("encnet_r50-d8_4xb2-40k_cityscapes-128x128", SEGMENTATION),
        ("maskformer_r50-d32_8xb2-160k_ade20k-128x128", SEGMENTATION),
    ],
)
def test_every_weight_of_a_segmentation_network_is_trained(model: str, task: str) -> None:
    job = _job(model, task)
    net = job.network()
    job.loss(net, job.batch()).backward()
    left = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert left == []


def test_images_are_those_of_the_configuration() -> None:
    sizes = {
        ("atss_r50_fpn_dyhead_1x_coco", DETECTION): (2, 3, 800, 1344),
        ("atss_swin-l-p4-w12_fpn_dyhead_mstrain_2x_coco", DETECTION): (2, 3, 1280, 2048),
        ("retinanet_r50_fpn_32x2_1x_openimages", DETECTION): (2, 3, 800, 1024),
        ("pgd_r101-caffe_fpn_head-gn_4xb3-4x_kitti-mono3d", POINTS): (2, 3, 384, 1248),
        ("fcos3d_r101-caffe-dcn_fpn_head-gn_8xb2-1x_nus-mono3d_finetune", POINTS): (2, 3, 928, 1600),
        ("centripetalnet_hourglass104_mstest_16x6_210e_coco", DETECTION): (2, 3, 511, 511),
        # Pillars, their points, and the numbers of a point.
        ("pointpillars_hv_fpn_sbn-all_8xb4-amp-2x_nus-3d", POINTS): (2, 30_000, 64, 10),
    }
    with torch.device("meta"):
        texts_by_key = {key: tuple(_job(*key).batch()[0].shape) for key in sizes}
        frames = _job("masktrack-rcnn_mask-rcnn_r50_fpn_8xb1-12e_youtubevis2019", DETECTION).batch()
    assert texts_by_key == sizes
    assert [tuple(frame.shape) for frame in frames] == [(2, 3, 384, 640)] * 2, "a key and a reference"


@pytest.mark.parametrize(
    ("model", "domain", "reason"),
    [
        ("pointpillars_hv_fpn_sbn-all_8xb2-2x_lyft-3d", "vision-3d", "what pairs its anchors"),
        ("pidnet-s_2xb6-120k_1024x1024-cityscapes", "vision-seg", "a training step holds more"),
        ("faster_rcnn_r50_fpn_32x2_1x_openimages", "vision-det", "beside its network"),
        ("retinanet_r50_fpn_crop640_50e_coco", "vision-det", "blocks, images or batch"),
        ("second_hv_secfpn_8xb6-80e_kitti-3d-car", "vision-3d", "no description of this model"),
    ],
)
def test_figures_of_more_than_the_network_have_a_reason(model: str, domain: str, reason: str) -> None:
    row = {
        "model": model, "domain": domain, "precision": "fp32", "method": "scratch", "method_detail": "", "sharding": "",
        "optimizer": "", "other_flags": "", "micro_batch": "2", "seq_len_or_res": "", "source_id": "", "act_ckpt": "",
    }  # fmt: skip
    unused: Any = None  # a row without description is not traced
    assert reason in str(memory_run(row, unused, unused))


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


def test_an_encoding_keeps_each_pixel_beside_each_code_twice() -> None:
    x = torch.randn(1, 512, 3, 5, requires_grad=True)
    assert _count_kept(lambda: Codes()(x), 15 * 32 * 512) == 2


@pytest.mark.parametrize(("everything", "kept"), [(True, 2), (False, 0)])
def test_attention_keeps_its_scores_before_and_after_their_softmax(everything: bool, kept: int) -> None:
    x = torch.randn(1, 16, 6, 10, requires_grad=True)
    block = BlockAttention(16, everything=everything)
    assert block(x).shape == x.shape
    assert _count_kept(lambda: block(x), 8 * 60 * 15) == kept


def test_points_are_put_beside_the_greatest_of_their_pillar() -> None:
    points = torch.randn(7, 4, 5)
    assert PillarPoints(5, 6, beside=False)(points).shape == (7, 6)
    both = PillarPoints(5, 6, beside=True)(points)
    assert both.shape == (7, 4, 12)
    torch.testing.assert_close(both[:, 0, 6:], both[:, :, :6].max(1)[0])


def test_feedback_and_two_dilations_are_those_of_the_name() -> None:
    plain, fed, switched, both = (
        list(_build_network(f"{name}_1x_coco", DETECTION).modules())
        for name in ("cascade-rcnn_r50-sac", "cascade-rcnn_r50-rfp", "htc_r50-rfp", "detectors_htc-r50")
    )

    def count_dilated(modules: list[nn.Module]) -> int:
        return sum(isinstance(m, nn.Conv2d) and m.dilation == (3, 3) and m.bias is None for m in modules)

    def backbones(modules: list[nn.Module]) -> int:
        return sum(isinstance(m, nn.Conv2d) and m.in_channels == 3 for m in modules)

    blocks = 4 + 6 + 3  # of the last three stages
    assert [count_dilated(m) for m in (plain, fed, switched, both)] == [blocks, 0, 0, 2 * blocks]
    assert [backbones(m) for m in (plain, fed, switched, both)] == [1, 2, 2, 2]


def test_models_of_flagperf_have_its_sizes() -> None:
    # FlagPerf's Transformer-XL has half the channels of the one of Lambda's tables.
    small = _build_network("Transformer-XL base", "train", "flagperf")
    embeddings = [table.embedding_dim for table in small.modules() if isinstance(table, nn.Embedding)]
    assert embeddings == [410, 102, 25, 6]
    # Its rates count samples, as those of MoFlow do, and not their tokens.
    assert _job("Transformer-XL base", "train", "flagperf").units == _job("MoFlow", "train").units == 2
    flows = _build_network("MoFlow", "train")
    assert sum(isinstance(m, nn.Conv2d) and m.in_channels == 800 for m in flows.modules()) == 10
    assert sum(isinstance(m, nn.Linear) and m.out_features == 1024 for m in flows.modules()) == 38
