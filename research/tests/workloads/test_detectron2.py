"""Detectors of Detectron2's zoo are read from their names; sizes are counted by hand or published for torchvision."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("timm")
pytest.importorskip("transformers")

import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from trainfare_research.workloads import StepJob, resolve

ROW = {
    "source": "detectron2-zoo", "task": "Misc", "batch_per_device": "1", "global_batch": "8", "devices": "8",
    "sequence_length": "", "image_size": "800", "precision": "fp32", "optimizer": "sgd", "notes": "",
    "framework": "pytorch 1.3-1.5 (detectron2)", "throughput_unit": "samples/s",
}  # fmt: skip
BOX_LAYERS = 256 * 49 * 1024 + 1024 + 1024 * 1025
"""Parameters of the two layers before the answers of a box head."""
# torchvision's Mask R-CNN, with 80 classes and a background in place of 91: box scores, boxes and masks.
MASK = 44_401_393 - (91 - 81) * 1025 - 4 * (91 - 80) * 1025 - (91 - 80) * 257


def _job(model: str, **changes: str) -> StepJob:
    job = resolve(ROW | {"model": model} | changes)
    assert isinstance(job, StepJob), job
    return job


def _network(model: str, **changes: str) -> nn.Module:
    with FakeTensorMode():
        return _job(model, **changes).network()


def _size(net: nn.Module, *, trained: bool = False) -> int:
    return sum(p.numel() for p in net.parameters() if p.requires_grad or not trained)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("retinanet_resnet50_fpn", 34_014_999),
        # torchvision's boxes, and masks, are of the background too.
        ("fasterrcnn_resnet50_fpn", 41_755_286 - 4 * 1025),
        ("maskrcnn_resnet50_fpn", 44_401_393 - 4 * 1025 - 257),
        ("keypointrcnn_resnet50_fpn", 59_137_258 - 4 * 1025),
        ("mask_rcnn_R_50_FPN_1x", MASK),
        ("keypoint_rcnn_R_50_FPN_3x", 59_137_258 - 4 * 1025),  # torchvision has the boxes of two classes
        ("cascade_mask_rcnn_R_50_FPN_1x", MASK + 2 * BOX_LAYERS + (3 * (81 + 4) - 81 - 320) * 1025),
        # Of 256 channels, levels of stride 4, 8, 16 and 32 have 1, 1, 2 and 3 convolutions; each has its norm.
        ("panoptic_fpn_R_50_1x", MASK + 9 * 128 * (4 * 256 + 3 * 128) + 7 * 2 * 128 + 54 * 129),
        # The last levels start from 2,048 channels, and 80 classes are fewer than 91.
        ("retinanet_R_50_FPN_1x", 34_014_999 + (2048 - 256) * 256 * 9 - 9 * (91 - 80) * (256 * 9 + 1)),
    ],
)
def test_detectors_have_the_parameters_of_their_parts(model: str, parameters: int) -> None:
    assert _size(_network(model)) == parameters


def test_a_head_on_the_fifth_stage_multiplies_as_often_as_its_blocks_say() -> None:
    """C4 runs three blocks on 7 x 7 places of 512 crops; the proposal network alone has no fifth stage."""
    macs = []
    for model in ("faster_rcnn_R_50_C4_1x", "rpn_R_50_C4_1x"):
        job = _job(model)
        with FakeTensorMode(), FlopCounterMode(display=False) as counter:
            assert job.network()(*job.batch()).shape == ()
        macs.append(counter.get_total_flops() / 2)
    first = 1024 * 512 + 9 * 512 * 512 + 512 * 2048 + 1024 * 2048
    block = 2048 * 512 + 9 * 512 * 512 + 512 * 2048
    assert macs[0] - macs[1] == 512 * (49 * (first + 2 * block) + 2048 * (81 + 320))
    # A ResNet-50 up to its fourth stage, which strides in 1x1 convolutions, and 15 anchors of 50 x 84 places.
    trunk = 9408 * 400 * 672 + 200 * 336 * 212_992 + 100 * 168 * 1_212_416 + 50 * 84 * 7_077_888
    assert macs[1] == trunk + 50 * 84 * 1024 * (9 * 1024 + 15 * 5)


def test_names_decide_what_is_trained_and_how_far_maps_shrink() -> None:
    tuned, scratch = (_network(f"{start}mask_rcnn_R_50_FPN_3x_gn") for start in ("", "scratch_"))
    # The stem, three blocks and the first's shortcut, and the group norms of all of them.
    frozen = 9408 + 212_992 + 2 * (64 + 3 * (64 + 64 + 256) + 256)
    assert _size(scratch) == _size(tuned) == _size(scratch, trained=True)
    assert _size(tuned) - _size(tuned, trained=True) == frozen
    with FakeTensorMode():
        dilated = _job("mask_rcnn_R_101_DC5_3x")
        net: Any = dilated.network()
        images, _labels = dilated.batch()
        assert net.body(images)[-1].shape == (1, 2048, 50, 84)
        wide, _labels = _job("mask_rcnn_R_50_FPN", task="Cityscapes").batch()
        assert wide.shape == (1, 3, 1024, 2048)


def test_the_data_set_of_a_row_decides_the_number_of_classes() -> None:
    coco, lvis = (
        _size(_network("mask_rcnn_X_101_32x8d_FPN_1x", task=task)) for task in ("COCO-x", "LVISv0.5-x")
    )
    assert lvis - coco == (1230 - 80) * (5 * 1025 + 257)


def test_a_deformable_convolution_without_offsets_is_a_plain_one() -> None:
    net: Any = _job("mask_rcnn_R_50_FPN_1x_dconv_c3-c5").network()
    layer = net.body.stages[2][0].conv2
    nn.init.normal_(layer.weight, std=0.02)
    x = torch.randn(2, 256, 6, 8, requires_grad=True)
    plain = functional.conv2d(x, layer.weight.view(256, 256, 3, 3), padding=1)
    sampled = layer(x)
    torch.testing.assert_close(sampled, plain, rtol=1e-3, atol=1e-4)
    slope = torch.randn_like(plain)
    for ours, theirs in zip(
        *(torch.autograd.grad(out, (x, layer.weight), slope) for out in (sampled, plain)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_synchronised_normalisation_is_batch_normalisation_on_one_device() -> None:
    net: Any = _job("mask_rcnn_R_50_FPN_3x_syncbn").network()
    layer, x = net.body.stages[1][0].bn1, torch.randn(2, 128, 5, 7)
    torch.testing.assert_close(
        layer(x), functional.batch_norm(x, None, None, training=True), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    "model", ["cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv", "mask_rcnn_regnety_4gf_dds_fpn_1x"]
)
def test_a_name_with_a_part_that_is_not_described_has_a_reason(model: str) -> None:
    assert "no description" in str(resolve(ROW | {"model": model}))
