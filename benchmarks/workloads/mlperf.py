"""
The reference models of MLPerf Training whose result logs `time_to_train.py` scores.

ResNet-50, BERT-large, Mask R-CNN and GNMT are those of the other tables. SSD runs on ResNet-34 at 300 pixels,
RetinaNet on ResNeXt-50 at 800 pixels with the 264 classes of OpenImages, 3D U-Net on crops of 128^3, RNN-T with 5 + 2
LSTM layers. BERT's sequences are unpadded: 512 is their limit, their mean about half of it. Lengths of RNN-T are
typical of LibriSpeech. Submissions keep images channels-last and fuse by hand what a compiler would, so that every job
is described as compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torchvision
from torch import nn
from torch.nn import functional
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from workloads.detection import Ssd300
from workloads.registry import resolve
from workloads.segmentation import UNet
from workloads.single_device import Row, StepJob, Supervised

__all__ = ["TRACED_BATCH", "mlperf_job"]

TRACED_BATCH = 8
"""Samples that are traced; a row's own number is the engine's `micro_ratio`."""
_PRECISIONS = {
    "FP16 mixed": ("amp_fp16", "16-mixed"),
    "BF16 mixed": ("bf16", "bf16-mixed"),
    "FP32": ("fp32", "32-true"),
}
_BERT_TOKENS = 256
_BOXES = 8732
_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
_AUDIO_FRAMES, _WORD_PIECES = 410, 48
"""12.3 s of audio in frames of 30 ms, and the word pieces of its text."""
_KNOWN = {
    "resnet": ("ResNet-50-v1.5", "imagenet-classification", "sgd", "channels_last"),
    "bert": ("BERT-large", "pretrain", "lamb", ""),
    "maskrcnn": ("MaskR-CNN-R50-FPN", "detection", "sgd", ""),
    "gnmt": ("GNMT", "translation", "adam", ""),
}


@dataclass(frozen=True)
class _Own:
    build: Callable[[], nn.Module]
    inputs: Callable[[int], tuple[torch.Tensor, ...]]
    optimizer: str


def mlperf_job(row: Row) -> StepJob | str:
    """
    Return the training step of a row of time_to_train.csv on `TRACED_BATCH` samples, or why there is none.

    Args:
        row: `benchmark` and `precision` are read.
    """
    name = row["benchmark"]
    words = _PRECISIONS.get(row["precision"])
    if words is None:
        return f"precision {row['precision']}: not a mode of torch that a trace shows"
    if name in _KNOWN:
        model, task, optimizer, notes = _KNOWN[name]
        known = resolve(
            {
                "source": "mlperf", "model": model, "task": task, "batch_per_device": str(TRACED_BATCH),
                "global_batch": str(TRACED_BATCH), "sequence_length": str(_BERT_TOKENS) if name == "bert" else "",
                "image_size": "", "devices": "1", "precision": words[0], "optimizer": optimizer, "framework": "",
                "throughput_unit": "samples/s", "notes": notes,
            }
        )  # fmt: skip
        return known if isinstance(known, str) else _as_submitted(known)
    if name not in _OWN:
        return f"{name}: no description of this benchmark"
    own = _OWN[name]
    job = StepJob(
        key=f"mlperf.{name}.{words[1]}.{own.optimizer}",
        module=lambda: Supervised(own.build(), lambda net, made: net(*made), own.optimizer),
        batch=lambda: own.inputs(TRACED_BATCH), batch_size=TRACED_BATCH, precision=words[1],
    )  # fmt: skip
    return _as_submitted(job)


def _as_submitted(job: StepJob) -> StepJob:
    """Return the job with its images channels-last and its pointwise operations fused."""

    def module() -> nn.Module:
        made = job.module()
        for parameter in made.parameters():
            if parameter.dim() in _LAYOUTS:
                parameter.data = parameter.data.contiguous(memory_format=_LAYOUTS[parameter.dim()])
        return made

    def batch() -> Any:
        made = job.batch()
        if not isinstance(made, tuple):
            return made
        return tuple(
            x.contiguous(memory_format=_LAYOUTS[x.dim()])
            if x.dim() in _LAYOUTS and x.is_floating_point()
            else x
            for x in made
        )

    return replace(job, key=f"{job.key}.submitted", module=module, batch=batch, compiled=True)


class SsdResNet34(Ssd300):
    """SSD at 300 pixels on the first three stages of ResNet-34."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        net = torchvision.models.resnet34(weights=None)
        first: Any = net.layer3[0]
        first.conv1.stride = first.downsample[0].stride = (1, 1)
        self.trunk = nn.Sequential(
            net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3
        )
        plan = ((256, 256, 512, 2, 1), (512, 256, 512, 2, 1), (512, 128, 256, 2, 1), (256, 128, 256, 1, 0),
                (256, 128, 256, 1, 0))  # fmt: skip
        self.extra = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(wide, narrow, 1), nn.ReLU(inplace=True),
                nn.Conv2d(narrow, out, 3, stride=stride, padding=pad), nn.ReLU(inplace=True),
            )
            for wide, narrow, out, stride, pad in plan
        )  # fmt: skip
        widths, anchors = (256, 512, 512, 256, 256, 256), (4, 6, 6, 6, 4, 4)
        pairs = tuple(zip(widths, anchors, strict=True))
        self.boxes = nn.ModuleList(nn.Conv2d(w, a * 4, 3, padding=1) for w, a in pairs)
        self.classes = nn.ModuleList(nn.Conv2d(w, a * 81, 3, padding=1) for w, a in pairs)


class RetinaNet(nn.Module):
    """RetinaNet on ResNeXt-50 32x4d; returns focal and box loss on every anchor."""

    def __init__(self, classes: int = 264) -> None:
        super().__init__()
        self.trunk = resnet_fpn_backbone(
            backbone_name="resnext50_32x4d", weights=None, trainable_layers=3, returned_layers=[2, 3, 4],
            extra_blocks=LastLevelP6P7(256, 256),
        )  # fmt: skip
        self.head = RetinaNetHead(256, 9, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.head(list(self.trunk(images).values()))
        scores, boxes = found["cls_logits"].float(), found["bbox_regression"]
        focal = torchvision.ops.sigmoid_focal_loss(scores, torch.zeros_like(scores), reduction="sum")
        return focal + functional.l1_loss(boxes, torch.zeros_like(boxes))


class Unet3d(UNet):
    """The 3D U-Net of KiTS19; returns cross entropy plus Dice-like loss."""

    def __init__(self) -> None:
        super().__init__(3, 1, (32, 64, 128, 256, 320, 320), 3, normal=True)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        scores = super().forward(x)
        if labels is None:
            return scores
        return functional.cross_entropy(scores, labels) + 1 - scores.float().softmax(1)[:, 1:].mean()


class RnnT(nn.Module):
    """RNN transducer: encoder of 2 + 3 layers of 1,024 with time halved between, predictor of 2 layers of 512."""

    def __init__(self, pieces: int = 1024) -> None:
        super().__init__()
        self.early, self.late = nn.LSTM(240, 1024, num_layers=2), nn.LSTM(2048, 1024, num_layers=3)
        self.embedding, self.predictor = nn.Embedding(pieces, 512), nn.LSTM(512, 512, num_layers=2)
        self.heard, self.said = nn.Linear(1024, 512), nn.Linear(512, 512)
        self.out = nn.Linear(512, pieces)

    def forward(self, audio: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        x = self.early(audio)[0]
        frames, batch, width = x.shape
        x = (
            x[: frames // 2 * 2]
            .view(frames // 2, 2, batch, width)
            .transpose(1, 2)
            .reshape(-1, batch, 2 * width)
        )
        x = self.heard(self.late(x)[0])
        y = self.said(self.predictor(self.embedding(text))[0])
        joint = functional.dropout(functional.relu(x.unsqueeze(1) + y.unsqueeze(0)), 0.3)
        return -functional.log_softmax(self.out(joint), -1).mean()


def _ssd_inputs(batch: int) -> tuple[torch.Tensor, ...]:
    labels = torch.zeros(batch, _BOXES, dtype=torch.long)
    return torch.empty(batch, 3, 300, 300), torch.zeros(batch, 4, _BOXES), labels


def _unet_inputs(batch: int) -> tuple[torch.Tensor, ...]:
    return torch.empty(batch, 1, 128, 128, 128), torch.zeros(batch, 128, 128, 128, dtype=torch.long)


def _rnnt_inputs(batch: int) -> tuple[torch.Tensor, ...]:
    return torch.empty(_AUDIO_FRAMES, batch, 240), torch.zeros(_WORD_PIECES, batch, dtype=torch.long)


_OWN = {
    "ssd300": _Own(SsdResNet34, _ssd_inputs, "sgd"),
    "retinanet": _Own(RetinaNet, lambda batch: (torch.empty(batch, 3, 800, 800),), "adam"),
    "unet3d": _Own(Unet3d, _unet_inputs, "sgd"),
    "rnnt": _Own(RnnT, _rnnt_inputs, "adam"),
}
