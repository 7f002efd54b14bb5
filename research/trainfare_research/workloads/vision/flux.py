"""
Flux.1 (Black Forest Labs 2024) as MLPerf trains it: a transformer of 19 double and 38 single blocks on latents.

Images of 256 pixels are 256 patches of 2 x 2 latents, and texts 256 tokens. The encoders of image and text are frozen,
and the benchmark encodes its data before the clock runs. Weights and gradients are bf16, as in NeMo's trainer with its
distributed optimizer; FP8 (MXFP8) has the same trace.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network, Row, StepJob, step_job

HEAD_WIDTH = 64
"""Channels of one patch: 16 latents of 2 x 2."""
_PATCHES, _TOKENS, _TEXT, _POOLED = 256, 256, 4096, 768
_WIDTH, _HEADS = 3072, 24


def flux_job(row: Row, batch: int) -> StepJob | str:
    """
    Return the training step of Flux.1 on `batch` samples, or why there is none.

    Args:
        row: of time_to_train.csv; `precision` is read.
        batch: samples that are traced.
    """
    if not row["precision"].startswith(("BF16", "FP8")):
        return f"precision {row['precision']}: not a mode of torch that a trace shows"
    measured = dict.fromkeys(("optimizer", "notes"), "") | {
        "source": "mlperf", "batch_per_device": str(batch), "global_batch": str(batch), "devices": "1",
        "precision": "bf16",
    }  # fmt: skip
    job = step_job(measured, Network("mlperf.flux1", Flux, _latents), "adam-fused")
    if isinstance(job, str):
        return job
    return replace(job, key=f"{job.key}.submitted", precision="bf16-true", compiled=True)


def _latents(batch: int) -> tuple[torch.Tensor, ...]:
    """Return noisy patches, texts, pooled texts, moments of the noise, and the patches that are the target."""
    patches = torch.empty(batch, _PATCHES, HEAD_WIDTH)
    return (
        patches, torch.empty(batch, _TOKENS, _TEXT), torch.empty(batch, _POOLED), torch.empty(batch, 256),
        patches.clone(),
    )  # fmt: skip


class Flux(nn.Module):
    """The transformer of Flux.1; returns its mean squared error."""

    def __init__(self, double: int = 19, single: int = 38) -> None:
        super().__init__()
        self.patches, self.texts = nn.Linear(HEAD_WIDTH, _WIDTH), nn.Linear(_TEXT, _WIDTH)
        self.moment, self.pooled = _embedding(256), _embedding(_POOLED)
        self.doubles = nn.ModuleList(_Double() for _ in range(double))
        self.singles = nn.ModuleList(_Single() for _ in range(single))
        self.last = nn.Linear(_WIDTH, 2 * _WIDTH)
        self.out = nn.Linear(_WIDTH, HEAD_WIDTH)

    def forward(
        self, patches: torch.Tensor, texts: torch.Tensor, pooled: torch.Tensor, moment: torch.Tensor,
        target: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        image, text = self.patches(patches), self.texts(texts)
        state = self.moment(moment) + self.pooled(pooled)
        for block in self.doubles:
            image, text = block(image, text, state)
        x = torch.cat((text, image), 1)
        for block in self.singles:
            x = block(x, state)
        shift, scale = self.last(functional.silu(state)).unsqueeze(1).chunk(2, -1)
        image_out = self.out(_normalise(x[:, texts.shape[1] :], shift, scale))
        return functional.mse_loss(image_out.float(), target.float())


def _embedding(wide: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(wide, _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, _WIDTH))


def _normalise(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(x, (_WIDTH,)) * (1 + scale) + shift


def _heads(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(*x.shape[:-1], _HEADS, -1).transpose(1, 2)


def _rotate_heads(x: torch.Tensor) -> torch.Tensor:
    """Return queries or keys after their norm and the rotation by their place, with the traffic of both."""
    x = functional.rms_norm(x, x.shape[-1:])
    angle = x.new_ones(x.shape[-2], x.shape[-1] // 2)
    a, b = x.chunk(2, -1)
    return torch.cat((a * angle - b * angle, b * angle + a * angle), -1)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    mixed = functional.scaled_dot_product_attention(
        _rotate_heads(_heads(q)), _rotate_heads(_heads(k)), _heads(v)
    )
    return mixed.transpose(1, 2).flatten(2)


class _Stream(nn.Module):
    """What image and text have of their own in a double block."""

    def __init__(self) -> None:
        super().__init__()
        self.state = nn.Linear(_WIDTH, 6 * _WIDTH)
        self.qkv, self.out = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.up, self.down = nn.Linear(_WIDTH, 4 * _WIDTH), nn.Linear(4 * _WIDTH, _WIDTH)

    def products(self, x: torch.Tensor, state: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Return the six modulations, and queries, keys and values side by side."""
        parts = self.state(functional.silu(state)).unsqueeze(1).chunk(6, -1)
        return parts, self.qkv(_normalise(x, parts[0], parts[1]))

    def finish(self, x: torch.Tensor, mixed: torch.Tensor, parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the stream after attention's output and the feed-forward."""
        x = x + parts[2] * self.out(mixed)
        hidden = functional.gelu(self.up(_normalise(x, parts[3], parts[4])), approximate="tanh")
        y: torch.Tensor = x + parts[5] * self.down(hidden)
        return y


class _Double(nn.Module):
    """Image and text with weights of their own and joint attention."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = _Stream(), _Stream()

    def forward(
        self, image: torch.Tensor, text: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        of_image, own_image = self.image.products(image, state)
        of_text, other = self.text.products(text, state)
        mixed = _attend(*torch.cat((other, own_image), 1).chunk(3, -1))
        length = text.shape[1]
        return (
            self.image.finish(image, mixed[:, length:], of_image),
            self.text.finish(text, mixed[:, :length], of_text),
        )


class _Single(nn.Module):
    """Image and text as one sequence; attention beside the feed-forward."""

    def __init__(self) -> None:
        super().__init__()
        self.state = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.wide, self.out = nn.Linear(_WIDTH, 7 * _WIDTH), nn.Linear(5 * _WIDTH, _WIDTH)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        shift, scale, gate = self.state(functional.silu(state)).unsqueeze(1).chunk(3, -1)
        qkv, hidden = self.wide(_normalise(x, shift, scale)).split([3 * _WIDTH, 4 * _WIDTH], -1)
        both = torch.cat((_attend(*qkv.chunk(3, -1)), functional.gelu(hidden, approximate="tanh")), -1)
        y: torch.Tensor = x + gate * self.out(both)
        return y
