"""
The U-Net of Stable Diffusion 2 (Rombach et al. 2022; stabilityai/stable-diffusion-2-base) on encoded images and texts.

Four resolutions of 320, 640, 1,280 and 1,280 channels with two residual blocks each, heads of 64 channels, and
attention to 77 tokens of 1,024. MosaicML's trainer (mosaicml/diffusion, `SD-2-base-256.yaml` and
`diffusion/models/stable_diffusion.py`) encodes images and texts beforehand (`precomputed_latents`), computes
normalisation in half precision, and uses the attention of xformers, for which torch's fused one stands here.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_WIDTHS = (320, 640, 1280, 1280)
_MOMENT, _TOKENS, _TEXT = 1280, 77, 1024
_HEAD = 64
_PIXELS = 8
"""Of an image along each side of one latent."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step of Stable Diffusion 2; None for any other model."""
    if row["model"] != "StableDiffusion2-UNet":
        return None
    return step_job(row, network_of(int(float(row["image_size"]))), optimizer_of(row, "adamw"))


def network_of(pixels: int = 512) -> Network:
    """Return the U-Net on encoded images of `pixels` by `pixels`."""
    side = pixels // _PIXELS
    return Network(
        f"diffusion.stable-diffusion-2.{side}",
        UNet,
        lambda batch: (
            torch.empty(batch, 4, side, side), torch.empty(batch, _TOKENS, _TEXT), torch.empty(batch, 320),
            torch.empty(batch, 4, side, side),
        ),
    )  # fmt: skip


class UNet(nn.Module):
    """The U-Net; returns the mean squared error of the noise that it finds in latents."""

    def __init__(self) -> None:
        super().__init__()
        self.moment = nn.Sequential(nn.Linear(320, _MOMENT), nn.SiLU(), nn.Linear(_MOMENT, _MOMENT))
        self.first = nn.Conv2d(4, _WIDTHS[0], 3, padding=1)
        stages: list[nn.Module] = []
        skips, wide = [_WIDTHS[0]], _WIDTHS[0]
        for level, width in enumerate(_WIDTHS):
            for _ in range(2):
                stages.append(_Stage(wide, width, attends=level < 3))
                wide = width
                skips.append(wide)
            if level < 3:
                stages.append(nn.Conv2d(wide, wide, 3, stride=2, padding=1))
                skips.append(wide)
        self.down = nn.ModuleList(stages)
        self.middle, self.last = _Stage(wide, wide, attends=True), _Residual(wide, wide)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, width in reversed(list(enumerate(_WIDTHS))):
            for _ in range(3):
                self.up.append(_Stage(wide + skips.pop(), width, attends=level < 3))
                wide = width
            if level:
                self.grow.append(nn.Conv2d(wide, wide, 3, padding=1))
        self.normal, self.out = _GroupNorm(32, wide), nn.Conv2d(wide, 4, 3, padding=1)

    def forward(
        self, latents: torch.Tensor, texts: torch.Tensor, moment: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        state = self.moment(moment)
        x = self.first(latents)
        seen = [x]
        for stage in self.down:
            x = stage(x, state, texts) if isinstance(stage, _Stage) else stage(x)
            seen.append(x)
        x = self.last(self.middle(x, state, texts), state)
        for index, stage in enumerate(self.up):
            x = stage(torch.cat((x, seen.pop()), 1), state, texts)
            if index % 3 == 2 and seen:
                x = self.grow[index // 3](functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        image = self.out(functional.silu(self.normal(x)))
        return functional.mse_loss(image.float(), noise)


class _GroupNorm(nn.GroupNorm):
    """Group normalisation in the precision of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return functional.group_norm(
                x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps
            )


class _LayerNorm(nn.LayerNorm):
    """Layer normalisation in the precision of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return functional.layer_norm(
                x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype)
            )


class _Residual(nn.Module):
    """Two convolutions, with the moment of the noise added between them."""

    def __init__(self, wide: int, width: int) -> None:
        super().__init__()
        self.normal, self.first = _GroupNorm(32, wide), nn.Conv2d(wide, width, 3, padding=1)
        self.state = nn.Linear(_MOMENT, width)
        self.again, self.second = _GroupNorm(32, width), nn.Conv2d(width, width, 3, padding=1)
        self.side = nn.Identity() if wide == width else nn.Conv2d(wide, width, 1)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        y = self.first(functional.silu(self.normal(x)))
        y = y + self.state(functional.silu(state))[:, :, None, None]
        result: torch.Tensor = self.side(x) + self.second(functional.silu(self.again(y)))
        return result


class _Attention(nn.Module):
    """Attention to itself, or to `seen` channels of something else."""

    def __init__(self, width: int, seen: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(w, width, bias=False) for w in (width, seen, seen))
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        parts = (
            part.unflatten(-1, (-1, _HEAD)).transpose(1, 2)
            for part in (self.q(x), self.k(seen), self.v(seen))
        )
        mixed = functional.scaled_dot_product_attention(*parts)
        result: torch.Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result


class _Transformer(nn.Module):
    """A block of attention to the image, attention to the text and a gated feed-forward."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.normal, self.enter, self.leave = (
            _GroupNorm(32, width),
            nn.Linear(width, width),
            nn.Linear(width, width),
        )
        self.normals = nn.ModuleList(_LayerNorm(width) for _ in range(3))
        self.own, self.text = _Attention(width, width), _Attention(width, _TEXT)
        self.up, self.down = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        y = self.enter(self.normal(x).flatten(2).transpose(1, 2))
        normal = self.normals[0](y)
        y = y + self.own(normal, normal)
        y = y + self.text(self.normals[1](y), texts)
        hidden, gate = self.up(self.normals[2](y)).chunk(2, -1)
        y = y + self.down(hidden * functional.gelu(gate))
        result: torch.Tensor = x + self.leave(y).transpose(1, 2).reshape(x.shape)
        return result


class _Stage(nn.Module):
    """A residual block, and a transformer block where there is one."""

    def __init__(self, wide: int, width: int, *, attends: bool) -> None:
        super().__init__()
        self.residual = _Residual(wide, width)
        self.attention = _Transformer(width) if attends else None

    def forward(self, x: torch.Tensor, state: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        x = self.residual(x, state)
        return x if self.attention is None else self.attention(x, texts)
