"""
Lightning scripts whose number of devices is that of the machine, as docs/scenarios.md prices them.

    trainfare profile examples/scale_lightning.py -o docs/examples/imagenet-auto.json -- epochs
    trainfare profile examples/scale_lightning.py -o docs/examples/diffusion-steps.json -- steps
    trainfare profile examples/scale_lightning.py -o docs/examples/diffusion-stream.json -- stream
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytorch_lightning as pl
import torch
from scenario_jobs import Denoiser, ImageNet
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

IMAGES = 1_281_167
LATENTS = 3_200_000


class Images(Dataset[Tensor]):
    """Stands for ImageNet."""

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> Tensor:
        return torch.zeros(3, 224, 224)


class Latents(Dataset[Tensor]):
    """Latent images, of which Lightning gives each device its share."""

    def __len__(self) -> int:
        return LATENTS

    def __getitem__(self, index: int) -> Tensor:
        return torch.zeros(256, 16)


class Stream(IterableDataset[Tensor]):
    """The same images one after another: each device reads all of them."""

    def __len__(self) -> int:
        return LATENTS

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(LATENTS):
            yield torch.zeros(256, 16)


def main(what: str) -> None:
    """Train, what: `epochs`, `steps` or `stream`."""
    if what == "epochs":
        trainer = pl.Trainer(devices="auto", max_epochs=90, precision="bf16-mixed", logger=False)
        trainer.fit(ImageNet(), DataLoader(Images(), 128))
    elif what == "steps":
        trainer = pl.Trainer(devices=-1, max_steps=50_000, precision="bf16-mixed", logger=False)
        trainer.fit(Denoiser(), DataLoader(Latents(), 64))
    else:
        trainer = pl.Trainer(devices="auto", max_epochs=1, precision="bf16-mixed", logger=False)
        trainer.fit(Denoiser(), DataLoader(Stream(), 64))


if __name__ == "__main__":
    main(sys.argv[1])
