"""
A vision transformer for photographs of flowers: compare ways to train it.

    trainfare strategy examples/strategy_vision.toml                       # before launch, without hardware
    trainfare strategy examples/strategy_vision.toml --format html -o how.html
    python examples/strategy_vision.py                                     # two small pilots on this machine's CPU
    trainfare strategy --pilot runs/*/trainfare-curve.json                 # compare the pilots
"""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from small_gpt import Block
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from trainfare import FareMeter, TrainingJob

BATCH_SIZE, CLASSES = 64, 102


class VisionTransformer(pl.LightningModule):
    """A ViT-B/16 by default: 86 million parameters. `trained` names what is trained: "all" or "head"."""

    def __init__(
        self,
        side: int = 224,
        patch: int = 16,
        channels: int = 3,
        width: int = 768,
        layers: int = 12,
        classes: int = CLASSES,
        trained: str = "all",
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.positions = nn.Parameter(torch.zeros(1, (side // patch) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, max(1, width // 64), causal=False) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)
        if trained == "head":
            self.requires_grad_(requires_grad=False)
            self.head.requires_grad_(requires_grad=True)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) for images (batch, channels, side, side)."""
        x = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return functional.cross_entropy(self(images), labels)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.log("val_accuracy", (self(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def job() -> TrainingJob:
    """Describe full fine-tuning on 2,040 photographs: 100 passes."""
    return TrainingJob(
        module=VisionTransformer,
        batch=lambda: [
            torch.zeros(BATCH_SIZE, 3, 224, 224),
            torch.zeros(BATCH_SIZE, dtype=torch.long),
        ],
        batch_size=BATCH_SIZE,
        max_epochs=100,
        train_samples=2_040,
        precision="bf16-mixed",
    )


def main(max_epochs: int = 2, report_dir: str = "runs") -> None:
    """Run two pilots with a tiny model on scikit-learn's digits: training all of it, and its head alone."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
    labels = torch.tensor(digits.target)
    train = DataLoader(TensorDataset(images[:1500], labels[:1500]), 50, shuffle=True)
    val = DataLoader(TensorDataset(images[1500:], labels[1500:]), 99)
    for strategy, trained in (("full_finetune", "all"), ("linear_probe", "head")):
        pl.seed_everything(0)
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=max_epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            callbacks=[FareMeter(pilot=strategy, report_dir=str(Path(report_dir) / strategy))],
        )
        module = VisionTransformer(
            side=8, patch=2, channels=1, width=32, layers=2, classes=10, trained=trained
        )
        trainer.fit(module, train, val)


if __name__ == "__main__":
    main()
