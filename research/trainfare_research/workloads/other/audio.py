"""WaveGlow (Prenger et al. 2018) and Jasper 10x5 (Li et al. 2019): convolutions over time."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_SEGMENT = 8000
"""Audio samples of one clip in WaveGlow's reference trainer."""
_FRAMES = 1680
"""10 ms frames: NVIDIA's benchmark pads every utterance to 16.7 s, in multiples of 16 frames."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a vocoder or a convolutional speech recogniser."""
    name = "waveglow" if _counts_audio_samples(row) else row["model"].lower()
    if name.startswith("waveglow"):
        segment = int(float(row["sequence_length"] or _SEGMENT))
        network = Network(
            f"audio.{name}.{segment}",
            WaveGlow,
            lambda batch: (torch.empty(batch, 80, segment // 256 + 1), torch.empty(batch, segment)),
            units=1 if row["throughput_unit"] == "samples/s" else segment,
        )
    elif name.startswith("jasper"):
        network = Network(
            f"audio.{name}.{_FRAMES}",
            Jasper,
            lambda batch: (torch.empty(batch, 64, _FRAMES), torch.zeros(batch, 200, dtype=torch.long)),
            notes=(f"utterances of {_FRAMES / 100:g} s, as its benchmark pads them",),
        )
    else:
        return None
    return step_job(row, network, optimizer_of(row, "adam"))


def _counts_audio_samples(row: Row) -> bool:
    """Return whether a row of the table shared by Tacotron 2 and WaveGlow is WaveGlow's, which counts audio samples."""
    return row["model"].lower() == "tacotron2" and "column=Number of samples" in row["notes"]


class WaveGlow(nn.Module):
    """12 flows on groups of 8 samples; WaveNets of 8 layers and 512 channels (the paper has 256)."""

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose1d(80, 80, 1024, stride=256)
        channels, mixers, nets = 8, [], []
        for flow in range(12):
            if flow and flow % 4 == 0:
                channels -= 2
            mixers.append(nn.Conv1d(channels, channels, 1, bias=False))
            nets.append(_WaveNet(channels // 2, 640, width))
        self.mixers, self.nets = nn.ModuleList(mixers), nn.ModuleList(nets)

    def forward(self, mel: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        lifted = self.upsample(mel)[:, :, : audio.shape[1]]
        lifted = (
            lifted.unfold(2, 8, 8)
            .permute(0, 2, 1, 3)
            .contiguous()
            .view(mel.shape[0], -1, 640)
            .permute(0, 2, 1)
        )
        x = audio.unfold(1, 8, 8).permute(0, 2, 1)
        loss = audio.new_zeros(())
        for flow, (mixer, net) in enumerate(zip(self.mixers, self.nets, strict=True)):
            if flow and flow % 4 == 0:
                loss, x = loss + (x[:, :2] ** 2).sum(), x[:, 2:]
            x = mixer(x)
            half = x.shape[1] // 2
            fixed, moved = x[:, :half], x[:, half:]
            shift, scale = net(fixed, lifted).chunk(2, 1)
            moved = torch.exp(scale) * moved + shift
            x = torch.cat((fixed, moved), 1)
            loss = loss - scale.sum()
        return (loss + (x**2).sum()) / audio.numel()


class _WaveNet(nn.Module):
    def __init__(self, channels: int, conditions: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.start, self.end = nn.Conv1d(channels, width, 1), nn.Conv1d(width, 2 * channels, 1)
        self.conditions = nn.Conv1d(conditions, 2 * width * 8, 1)
        self.wide = nn.ModuleList(
            nn.Conv1d(width, 2 * width, 3, dilation=2**i, padding=2**i) for i in range(8)
        )
        self.out = nn.ModuleList(nn.Conv1d(width, 2 * width if i < 7 else width, 1) for i in range(8))

    def forward(self, x: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        x, total = self.start(x), None
        steered = self.conditions(conditions)
        for i, (wide, out) in enumerate(zip(self.wide, self.out, strict=True)):
            both = wide(x) + steered[:, i * 2 * self.width : (i + 1) * 2 * self.width]
            gated = torch.tanh(both[:, : self.width]) * torch.sigmoid(both[:, self.width :])
            sample = out(gated)
            if i < 7:
                x, sample = x + sample[:, : self.width], sample[:, self.width :]
            total = sample if total is None else total + sample
        y: torch.Tensor = self.end(total)
        return y


class Jasper(nn.Module):
    """Jasper with ten blocks of five convolutions and dense residual connections."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _conv(64, 256, 11, stride=2)
        plan = ((256, 11), (256, 11), (384, 13), (384, 13), (512, 17), (512, 17), (640, 21), (640, 21),
                (768, 25), (768, 25))  # fmt: skip
        blocks, sides, widths = [], [], [256]
        for width, kernel in plan:
            sizes = [widths[-1], *[width] * 5]
            blocks.append(nn.ModuleList(_conv(a, b, kernel) for a, b in itertools.pairwise(sizes)))
            sides.append(nn.ModuleList(_conv(w, width, 1) for w in widths))
            widths.append(width)
        self.blocks, self.sides = nn.ModuleList(blocks), nn.ModuleList(sides)
        self.last = nn.Sequential(
            _conv(768, 896, 29, dilation=2), nn.ReLU(), _conv(896, 1024, 1), nn.ReLU(), nn.Conv1d(1024, 29, 1)
        )

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = functional.dropout(functional.relu(self.first(x)), 0.2)
        earlier = [x]
        for block, sides in zip(self.blocks, self.sides, strict=True):
            layers, residuals = list(block.children()), list(sides.children())
            for layer in layers:
                x = layer(x)
                if layer is layers[-1]:
                    for residual, y in zip(residuals, earlier, strict=True):
                        x = x + residual(y)
                x = functional.dropout(functional.relu(x), 0.2)
            earlier.append(x)
        scores = functional.log_softmax(self.last(x).float(), 1)
        return -scores.mean() + 0.0 * labels.sum()


def _conv(channels: int, width: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Module:
    padding = dilation * (kernel - 1) // 2
    return nn.Sequential(
        nn.Conv1d(channels, width, kernel, stride=stride, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm1d(width),
    )
