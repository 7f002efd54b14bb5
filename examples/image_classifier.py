"""
An image classifier on scikit-learn's handwritten digits, metered while it trains.

    python examples/image_classifier.py                         # train, and read the ranking at the end
    trainfare recommend examples/image_classifier.py:job        # the same ranking before launch, without hardware
    trainfare check examples/image_classifier.py:job --max-usd 2
"""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, random_split

from trainfare import FareMeter, TrainingJob

BATCH_SIZE = 32


class ImageClassifier(pl.LightningModule):
    """A convolutional network for (batch, 1, 8, 8) images."""

    def __init__(self, width: int = 64, learning_rate: float = 0.05) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.network = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(2 * width * 16, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (batch, 10)."""
        return self.network(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = functional.cross_entropy(self(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.log("val_accuracy", (self(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.learning_rate, momentum=0.9)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 10)}


def loaders() -> tuple[DataLoader, DataLoader]:
    """Training and validation loaders over the 1,797 digits that ship inside scikit-learn."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
    dataset = TensorDataset(images, torch.tensor(digits.target))
    train, val = random_split(dataset, [1500, 297], generator=torch.Generator().manual_seed(0))
    return DataLoader(train, BATCH_SIZE, shuffle=True), DataLoader(val, BATCH_SIZE)


def job() -> TrainingJob:
    """Describe the same run before launch; the model is built when the job is traced, without hardware."""
    return TrainingJob(
        module=ImageClassifier,
        batch=lambda: (torch.zeros(BATCH_SIZE, 1, 8, 8), torch.zeros(BATCH_SIZE, dtype=torch.long)),
        batch_size=BATCH_SIZE,
        max_epochs=20,
        train_samples=1500,
        precision="32-true",
        val_batches=10,
        val_every_n_steps=47,
    )


def main(max_epochs: int = 3, report_dir: str = ".") -> pl.Trainer:
    """Train for a few epochs on this machine's CPU with a FareMeter."""
    pl.seed_everything(0)
    train, val = loaders()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        logger=False,
        enable_checkpointing=False,
        default_root_dir=report_dir,
        callbacks=[FareMeter(report_dir=report_dir)],
    )
    trainer.fit(ImageClassifier(), train, val)
    return trainer


if __name__ == "__main__":
    main()
