"""
U-Nets: nnU-Net in 2 and 3 dimensions, U-Net Medical, V-Net.

Patch and filter sizes are those of the public reference implementations: nnU-Net (Isensee et al. 2021) on the
Medical Segmentation Decathlon, 2D 320 x 256 (batch of slices) and 3D 128^3, filters 32..320; U-Net (Ronneberger
et al. 2015) at 572 pixels without padding, so that 388 pixels are left.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a U-Net."""
    if row["task"] != "segmentation":
        return None
    name = row["model"].lower()
    plans = {
        "nnu-net[2]": (2, (4, 192, 160), (32, 64, 128, 256, 512, 512), 4),
        "nnu-net[3]": (3, (4, 128, 128, 128), (32, 64, 128, 256, 320, 320), 4),
        "unet-medical": (2, (1, 572, 572), (64, 128, 256, 512, 1024), 2),
    }
    if name not in plans:
        return step_job(row, f"{row['model']}: no description of this segmentation network")
    dims, shape, widths, classes = plans[name]
    network = Network(
        f"segmentation.{name}.{'x'.join(map(str, shape))}",
        lambda: UNet(dims, shape[0], widths, classes, normal=name.startswith("nnu")),
        lambda batch: (torch.empty(batch, *shape), torch.zeros(batch, *shape[1:], dtype=torch.long)),
        _compute_loss,
        notes=("the patch size is the reference implementation's",),
    )
    return step_job(row, network, optimizer_of(row, "adam"))


def _compute_loss(net: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    images, labels = batch
    scores = net(images)
    labels = labels[:, : scores.shape[2], : scores.shape[3]]
    chance = functional.softmax(scores.float(), 1)
    return functional.cross_entropy(scores, labels) + 1 - chance[:, 1:].mean()


class UNet(nn.Module):
    """
    A U-Net: two convolutions per level, transposed convolutions upwards, skip connections.

    With normalisation (nnU-Net) convolutions are padded, and strides reduce the resolution. Without (U-Net) nothing is
    padded, pooling reduces the resolution, and skip connections are cropped.
    """

    def __init__(
        self, dims: int, channels: int, widths: tuple[int, ...], classes: int, *, normal: bool
    ) -> None:
        super().__init__()
        conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
        up = (nn.ConvTranspose2d, nn.ConvTranspose3d)[dims - 2]
        norm = (nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 2]

        def block(a: int, b: int, stride: int = 1) -> nn.Module:
            layers: list[nn.Module] = []
            for i, (x, y) in enumerate(((a, b), (b, b))):
                if stride > 1 and i == 0 and not normal:
                    layers.append(nn.MaxPool2d(2))
                own_stride = stride if normal and i == 0 else 1
                layers.append(conv(x, y, 3, padding=int(normal), stride=own_stride))
                if normal:
                    layers.append(norm(y, affine=True))
                layers.append(nn.LeakyReLU(0.01, inplace=True))
            return nn.Sequential(*layers)

        self.down = nn.ModuleList(
            (block(channels, widths[0]), *(block(a, b, 2) for a, b in pairwise(widths)))
        )
        self.up = nn.ModuleList(up(b, a, 2, 2) for a, b in pairwise(widths))
        self.merge = nn.ModuleList(block(2 * a, a) for a in widths[:-1])
        self.out, self.padded = conv(widths[0], classes, 1), normal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = []
        for stage in self.down:
            x = stage(x)
            seen.append(x)
        for skip, up, merge in list(zip(seen[:-1], self.up, self.merge, strict=True))[::-1]:
            x = up(x)
            if not self.padded:
                edges = [(a - b) // 2 for a, b in zip(skip.shape[2:], x.shape[2:], strict=True)]
                skip = skip[:, :, edges[0] : edges[0] + x.shape[2], edges[1] : edges[1] + x.shape[3]]
            elif x.shape[2:] != skip.shape[2:]:
                x = functional.interpolate(x, size=skip.shape[2:])
            x = merge(torch.cat((x, skip), 1))
        scores: torch.Tensor = self.out(x)
        return scores
