"""
HiFi-GAN (Kong et al. 2020) as NVIDIA trains it (`PyTorch/SpeechSynthesis/HiFiGAN`: `train.py`, `hifigan/`).

Segments of 8,192 samples of audio, 32 frames of 80 mel bands. One step trains the discriminators on true and made
audio, then the generator through both of them. Its log counts 80 "frames" a segment: the mel bands (`x.size(1)`).
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_SAMPLES, _BANDS, _FRAMES = 8192, 80, 32
_SLOPE = 0.1
_KERNELS, _DILATIONS = (11, 7, 3), (1, 3, 5)
_GROWTH = ((8, 16), (8, 16), (2, 4), (2, 4))
"""Stride and kernel of the generator's transposed convolutions."""
_PERIODS = (2, 3, 5, 7, 11)
_MEL_WEIGHT = 45.0
_BINS = 513
_Maps = list[torch.Tensor]


def find(row: Row) -> StepJob | str | None:
    """Return the training step of HiFi-GAN; None for any other model."""
    if row["model"] != "HiFi-GAN":
        return None
    network = Network(
        f"audio.hifi-gan.{_SAMPLES}",
        HifiGan,
        lambda batch: (
            torch.empty(batch, _BANDS, _FRAMES), torch.empty(batch, 1, _SAMPLES), torch.empty(batch, _BANDS, _FRAMES),
        ),
        units=_BANDS,
    )  # fmt: skip
    return step_job(row, network, optimizer_of(row, "adamw"))


class HifiGan(nn.Module):
    """Generator and discriminators; returns the sum of their losses, without gradients where its trainer has none."""

    window: torch.Tensor
    bands: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.generator = _Generator()
        self.judges = nn.ModuleList(
            (*(_Periods(p) for p in _PERIODS), *(_Scale(spectral=i == 0) for i in range(3)))
        )
        self.pool = nn.AvgPool1d(4, 2, padding=1)
        self.register_buffer("window", torch.empty(1024))
        self.register_buffer("bands", torch.empty(_BANDS, _BINS))

    def forward(self, mel: torch.Tensor, audio: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        audio_made = self.generator(mel)
        loss = audio.new_zeros(())
        for true, false in self._judge(audio, audio_made.detach()):
            loss = loss + ((1 - true[-1]) ** 2).mean() + (false[-1] ** 2).mean()
        for weight in self.judges.parameters():
            weight.requires_grad_(False)
        loss = loss + _MEL_WEIGHT * functional.l1_loss(self._mel(audio_made), wanted)
        for true, false in self._judge(audio, audio_made):
            loss = loss + ((1 - false[-1]) ** 2).mean()
            for a, b in zip(true, false, strict=True):
                loss = loss + 2 * (a - b).abs().mean()
        for weight in self.judges.parameters():
            weight.requires_grad_(True)
        return loss

    def _judge(self, audio: torch.Tensor, audio_made: torch.Tensor) -> list[tuple[_Maps, _Maps]]:
        """Return what each discriminator makes of true and of made audio, layer by layer."""
        answers = []
        for index, judge in enumerate(self.judges):
            if index > len(_PERIODS):
                audio, audio_made = self.pool(audio), self.pool(audio_made)
            answers.append((judge(audio), judge(audio_made)))
        return answers

    def _mel(self, audio: torch.Tensor) -> torch.Tensor:
        """Return mel frames of audio, in full precision."""
        with torch.autocast(audio.device.type, enabled=False):
            padded = functional.pad(audio.float(), (384, 384), "reflect").squeeze(1)
            pieces = torch.stft(padded, 1024, 256, window=self.window, center=False, return_complex=True)
            size = (pieces.real.square() + pieces.imag.square() + 1e-9).sqrt()
            return torch.log(torch.clamp(torch.matmul(self.bands, size), min=1e-5))


class _Generator(nn.Module):
    def __init__(self, width: int = 512) -> None:
        super().__init__()
        self.first = weight_norm(nn.Conv1d(_BANDS, width, 7, padding=3))
        grown, mixes = [], []
        for stride, kernel in _GROWTH:
            layer = nn.ConvTranspose1d(width, width // 2, kernel, stride, padding=(kernel - stride) // 2)
            grown.append(weight_norm(layer))
            width //= 2
            mixes.append(_Mean(width))
        self.grown, self.mixes = nn.ModuleList(grown), nn.ModuleList(mixes)
        self.last = weight_norm(nn.Conv1d(width, 1, 7, padding=3))

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        x = self.first(mel)
        for grow, mix in zip(self.grown, self.mixes, strict=True):
            x = grow(functional.leaky_relu(x, _SLOPE))
            x = mix(x)
        return torch.tanh(self.last(functional.leaky_relu(x)))


class _Mean(nn.Module):
    """The mean of a block of each kernel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(width, size) for size in _KERNELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts: list[torch.Tensor] = [block(x) for block in self.blocks]
        return (parts[0] + parts[1] + parts[2]) / len(parts)


class _Block(nn.Module):
    """Three residual pairs of convolutions over time."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.wide = nn.ModuleList(_same(width, kernel, dilation) for dilation in _DILATIONS)
        self.near = nn.ModuleList(_same(width, kernel, 1) for _ in _DILATIONS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for wide, near in zip(self.wide, self.near, strict=True):
            y = wide(functional.leaky_relu(x, _SLOPE))
            x = near(functional.leaky_relu(y, _SLOPE)) + x
        return x


def _same(width: int, kernel: int, dilation: int) -> nn.Module:
    padding = (kernel - 1) * dilation // 2
    layer: nn.Module = weight_norm(nn.Conv1d(width, width, kernel, padding=padding, dilation=dilation))
    return layer


class _Judge(nn.Module):
    """A discriminator: convolutions, of which the last gives the answer."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for layer in self.layers[:-1]:
            x = functional.leaky_relu(layer(x), _SLOPE)
            maps.append(x)
        return [*maps, self.layers[-1](x)]


class _Periods(_Judge):
    """The discriminator of every n-th sample."""

    def __init__(self, period: int) -> None:
        widths = (1, 32, 128, 512, 1024)
        layers = [nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0)) for a, b in itertools.pairwise(widths)]
        layers += [nn.Conv2d(1024, 1024, (5, 1), padding=(2, 0)), nn.Conv2d(1024, 1, (3, 1), padding=(1, 0))]
        super().__init__([weight_norm(layer) for layer in layers])
        self.period = period

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        missing = -x.shape[-1] % self.period
        x = functional.pad(x, (0, missing), "reflect") if missing else x
        return super().forward(x.reshape(*x.shape[:2], -1, self.period))


class _Scale(_Judge):
    """The discriminator of audio at one rate."""

    def __init__(self, *, spectral: bool) -> None:
        plan = (
            (1, 128, 15, 1, 1), (128, 128, 41, 2, 4), (128, 256, 41, 2, 16), (256, 512, 41, 4, 16),
            (512, 1024, 41, 4, 16), (1024, 1024, 41, 1, 16), (1024, 1024, 5, 1, 1), (1024, 1, 3, 1, 1),
        )  # fmt: skip
        norm = spectral_norm if spectral else weight_norm
        super().__init__(
            [
                norm(nn.Conv1d(a, b, kernel, stride, groups=groups, padding=kernel // 2))
                for a, b, kernel, stride, groups in plan
            ]
        )
