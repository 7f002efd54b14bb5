"""
The reference models of MLPerf Training whose result logs `time_to_train.py` scores.

ResNet-50, Mask R-CNN and GNMT are those of the other tables. SSD runs on ResNet-34 at 300 pixels, RetinaNet on
ResNeXt-50 at 800 pixels with the 264 classes of OpenImages, 3D U-Net on crops of 128^3, RNN-T with 5 + 2 LSTM layers.
Stable Diffusion 2 trains on encoded images of 512 pixels; captions, 2 % of the multiplications where the trainer
encodes them (v3.1), count as encoded too. BERT's sequences are unpadded: their limit is 512 tokens, their mean about
half of that. Lengths of RNN-T are typical of LibriSpeech.

Jobs are described as they were submitted, as far as the public launch scripts of the submissions show: images in
channels-last layout, half-precision weights and gradients beside fp32 master weights, fused optimizers (Apex), frozen
batch normalisation folded into its convolution, focal loss as one kernel, instance normalisation without a change of
layout, and from v1.0 on BERT with fused attention and logits of the masked tokens only. Other fusions by hand (MXNet's
batch normalisation with addition) and CUDA graphs are described as compiled; PyTorch of earlier rounds ran eagerly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
import torchvision
import transformers
from torch import nn
from torch.nn import functional
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from trainfare_core.job_profile import JobProfile
from trainfare_research.workloads.language.transformers_models import PretrainedBert
from trainfare_research.workloads.other.sampled_graph import build_sampled_graph_network
from trainfare_research.workloads.other.tabular import clicks_network
from trainfare_research.workloads.registry import resolve
from trainfare_research.workloads.single_device import Network, Row, StepJob, half_weights, step_job
from trainfare_research.workloads.tracer_digest import code_digest
from trainfare_research.workloads.vision import stable_diffusion
from trainfare_research.workloads.vision.detection import Ssd300, ssd_inputs
from trainfare_research.workloads.vision.segmentation import UNet

TRACED_BATCH = 8
"""Samples that are traced; the row's own number is reached through `micro_ratio`."""
_PRECISIONS = {"FP16 mixed": "amp_fp16", "BF16 mixed": "bf16", "FP32": "fp32"}
_BERT_TOKENS, _MASKED_TOKENS = 256, 39
"""Mean length of an unpadded sequence, and the 15 % of it that are masked and predicted."""
_FUSED = ("adam", "sgd")
"""Optimizers of one kernel; SGD without momentum updates only the rows of a table that a batch looked up."""
_EARLY_ROUNDS = ("v0.5", "v0.6", "v0.7")
"""Rounds in which PyTorch ran eagerly, and BERT had no fused attention and computed the logits of all tokens."""
_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
_AUDIO_FRAMES, _WORD_PIECES = 410, 48
"""12.3 s of audio in frames of 30 ms, and the word pieces of its text."""
_OF_OTHER_TABLES = {
    "resnet": {"model": "ResNet-50-v1.5", "task": "imagenet-classification", "notes": "channels_last"},
    "maskrcnn": {"model": "MaskR-CNN-R50-FPN", "task": "detection"},
    "gnmt": {"model": "GNMT", "task": "translation"},
    "ncf": {"model": "NCF", "task": "recommendation"},
}
"""Benchmarks whose models `resolve` builds: what a row of such a table says."""
_BUILDERS = (
    "detection", "images", "sampled_graph", "segmentation", "sequences", "stable_diffusion", "tabular",
    "transformers_models",
)  # fmt: skip
"""Modules of this package that build them."""
_UNDESCRIBED = {
    "minigo": "minigo: most of a step are games that the model plays against itself",
    "dlrm_dcnv2": "dlrm_dcnv2: how its tables and their frequent rows are spread over devices is not stated",
}
"""Why a benchmark has no training step."""


def update_shares(row: Row, devices_per_machine: int) -> int:
    """
    Return the number of devices over which the update of the weights is sharded; 1 where each device does all of it.

    All chips of a TPU slice from v0.6 on (XLA's weight-update sharding), and those of a machine for BERT on GPUs from
    v1.0 on (Apex's distributed LAMB). The traffic stays that of an all-reduce: a reduce-scatter and an all-gather.
    """
    if row["accelerator"].startswith("TPU"):
        return 1 if row["round"] == "v0.5" else devices_per_machine
    return devices_per_machine if row["benchmark"] == "bert" and row["round"] not in _EARLY_ROUNDS else 1


def share_update(profile: JobProfile, shares: int) -> JobProfile:
    """Return the profile with 1 / `shares` of the optimizer's work."""
    if shares == 1:
        return profile
    groups = tuple(
        group
        if group.phase != "optimizer"
        else group.model_copy(
            update={
                name: getattr(group, name) // shares
                for name in ("flops", "bytes_read", "bytes_written", "bytes_fixed")
            }
        )
        for group in profile.operations
    )
    return profile.model_copy(update={"operations": groups})


def fold_norms(module: Any) -> Any:
    """Return the module with frozen batch normalisations replaced by identities, as if folded into the weights."""
    for name, child in module.named_children():
        if isinstance(child, torchvision.ops.FrozenBatchNorm2d):
            setattr(module, name, nn.Identity())
        else:
            fold_norms(child)
    return module


class _OneKernelLoss(torch.autograd.Function):
    """A loss as one kernel: forward reads each score once and saves its gradient, backward scales that."""

    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor) -> torch.Tensor:
        gradient = scores * 0.5
        ctx.save_for_backward(gradient)
        return gradient.sum(dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        (gradient,) = ctx.saved_tensors
        scaled: torch.Tensor = gradient * grads[0].to(gradient.dtype)
        return scaled


def mlperf_job(row: Row, batch: int = TRACED_BATCH) -> StepJob | str:
    """
    Return the training step of a row of time_to_train.csv on `batch` samples, or why there is none.

    Args:
        row: `benchmark`, `precision`, `round` and `framework` are read.
        batch: samples that are traced.
    """
    name, early = row["benchmark"], row["round"] in _EARLY_ROUNDS
    compiled = not (
        early and "pytorch" in row["framework"].lower() and "mxnet" not in row["framework"].lower()
    )
    if not row["precision"]:
        return "precision is not stated"
    precision = _PRECISIONS.get(row["precision"])
    if precision is None:
        return f"precision {row['precision']}: not a mode of torch that a trace shows"
    measured = dict.fromkeys(("sequence_length", "image_size", "framework", "optimizer", "notes"), "") | {
        "source": "mlperf", "batch_per_device": str(batch), "global_batch": str(batch),
        "devices": "1", "precision": precision, "throughput_unit": "samples/s",
    }  # fmt: skip
    if name == "bert" and early:
        name = "bert-early"
    if name in _OF_OTHER_TABLES:
        job = resolve(measured | _OF_OTHER_TABLES[name])
    elif name == "dlrm":
        job = step_job(measured, clicks_network("mlperf", batch), "sgd-plain")
    elif name == "rgat":
        job = step_job(measured, build_sampled_graph_network(batch), "adam")
    elif name in _NETWORKS:
        job = step_job(measured, *_NETWORKS[name])
    else:
        return _UNDESCRIBED.get(name, f"{name}: no description of this benchmark")
    return job if isinstance(job, str) else _as_submitted(job, compiled=compiled)


def _as_submitted(job: StepJob, *, compiled: bool) -> StepJob:
    """
    Return the job in channels-last layout with a fused optimizer; `compiled`: with fused pointwise operations.

    The optimizer is one kernel for all parameters, as in Apex; LAMB is taken as Adam, whose memory traffic it has but
    for a norm.
    """

    def network() -> nn.Module:
        net: nn.Module = fold_norms(job.network())
        for parameter in net.parameters():
            if parameter.dim() in _LAYOUTS:
                parameter.data = parameter.data.contiguous(memory_format=_LAYOUTS[parameter.dim()])
        return net

    def inputs(samples: int) -> Any:
        return tuple(
            x.contiguous(memory_format=_LAYOUTS[x.dim()])
            if x.dim() in _LAYOUTS and x.is_floating_point()
            else x
            for x in job.inputs(samples)
        )

    return replace(
        job,
        key=f"{job.key}.submitted.{_builders()}",
        network=network,
        inputs=inputs,
        precision=half_weights(job.precision),
        optimizer=f"{job.optimizer}-fused" if job.optimizer in _FUSED else job.optimizer,
        compiled=compiled,
    )


@lru_cache(maxsize=1)
def _builders() -> str:
    """Return a digest of the modules whose networks are submitted: the cache covers only a builder's own file."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem in _BUILDERS:
            digest.update(code_digest(path.read_text(encoding="utf-8")))
    return digest.hexdigest()[:8]


class RetinaNet(nn.Module):
    """RetinaNet on ResNeXt-50 32x4d; returns a loss with the traffic of focal and box loss on every anchor."""

    def __init__(self, classes: int = 264) -> None:
        super().__init__()
        self.trunk = resnet_fpn_backbone(
            backbone_name="resnext50_32x4d", weights=None, trainable_layers=3, returned_layers=[2, 3, 4],
            extra_blocks=LastLevelP6P7(256, 256),
        )  # fmt: skip
        self.head = RetinaNetHead(256, 9, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs = self.head(list(self.trunk(images).values()))
        boxes = outputs["bbox_regression"]
        apply: Callable[[torch.Tensor], torch.Tensor] = _OneKernelLoss.apply
        return apply(outputs["cls_logits"]) + functional.l1_loss(boxes, torch.zeros_like(boxes))


def _bert(*, fused: bool) -> nn.Module:
    """Return BERT-large; `fused`: with fused attention, and logits of masked tokens only."""
    config = transformers.BertConfig(
        num_hidden_layers=24, hidden_size=1024, num_attention_heads=16, intermediate_size=4096,
        vocab_size=30_522, attn_implementation="sdpa" if fused else "eager",
    )  # fmt: skip
    return PretrainedBert(config, _MASKED_TOKENS if fused else _BERT_TOKENS)


class Unet3d(UNet):
    """
    The 3D U-Net of KiTS19; returns cross entropy plus Dice-like loss.

    Batch normalisation stands for instance normalisation: the same memory traffic, without a change of layout.
    """

    def __init__(self) -> None:
        super().__init__(3, 1, (32, 64, 128, 256, 320, 320), 3, normal=True)
        for block in (*self.down, *self.merge):
            for name, layer in list(cast("nn.Sequential", block).named_children()):
                if isinstance(layer, nn.InstanceNorm3d):
                    setattr(block, name, nn.BatchNorm3d(layer.num_features))

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
        self.from_audio, self.from_text = nn.Linear(1024, 512), nn.Linear(512, 512)
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
        x = self.from_audio(self.late(x)[0])
        y = self.from_text(self.predictor(self.embedding(text))[0])
        joint = functional.dropout(functional.relu(x.unsqueeze(1) + y.unsqueeze(0)), 0.3)
        return -functional.log_softmax(self.out(joint), -1).mean()


def _unet_inputs(batch: int) -> tuple[torch.Tensor, ...]:
    return torch.empty(batch, 1, 128, 128, 128), torch.zeros(batch, 128, 128, 128, dtype=torch.long)


def _rnnt_inputs(batch: int) -> tuple[torch.Tensor, ...]:
    return torch.empty(_AUDIO_FRAMES, batch, 240), torch.zeros(_WORD_PIECES, batch, dtype=torch.long)


def _bert_inputs(batch: int) -> tuple[torch.Tensor, ...]:
    ids = torch.zeros(batch, _BERT_TOKENS, dtype=torch.long)
    return ids, ids.clone(), torch.zeros(batch, dtype=torch.long)


_NETWORKS = {
    "bert": (Network("mlperf.bert", lambda: _bert(fused=True), _bert_inputs), "adam"),
    "bert-early": (Network("mlperf.bert-early", lambda: _bert(fused=False), _bert_inputs), "adam"),
    "ssd300": (Network("mlperf.ssd300", lambda: Ssd300(34, normal=False), ssd_inputs), "sgd"),
    "retinanet": (
        Network("mlperf.retinanet", RetinaNet, lambda batch: (torch.empty(batch, 3, 800, 800),)),
        "adam",
    ),
    "unet3d": (Network("mlperf.unet3d", Unet3d, _unet_inputs), "sgd"),
    "rnnt": (Network("mlperf.rnnt", RnnT, _rnnt_inputs), "adam"),
    "stable_diffusion": (stable_diffusion.network_of(), "adam"),
}
"""Networks that only MLPerf's tables name, and their optimizers."""
