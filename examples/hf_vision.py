"""
Image classification with Hugging Face's Trainer: a vision transformer, with a collator of its own.

    python examples/hf_vision.py                 # train a tiny ViT on this machine's CPU
    trainfare recommend examples/hf_vision.py    # the same script before launch: nothing is trained
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from trainfare.huggingface import FareMeter

CROP = 32
Item = tuple[Tensor, int]


class Images(Dataset[Item]):
    """Random images of 40 by 40 pixels, each with a class."""

    def __len__(self) -> int:
        return 160

    def __getitem__(self, index: int) -> Item:
        pixels = torch.randint(0, 256, (3, 40, 40), generator=torch.Generator().manual_seed(index))
        return pixels.to(torch.uint8), index % 10


def collate(items: list[Item]) -> dict[str, Tensor]:
    """Return a batch of images that are cropped at random, with every second one mirrored."""
    left, top = (int(corner) for corner in torch.randint(0, 8, (2,)))
    crops = [image[:, top : top + CROP, left : left + CROP].float() / 255 for image, _ in items]
    images = [crop.flip(-1) if index % 2 else crop for index, crop in enumerate(crops)]
    return {"pixel_values": torch.stack(images), "labels": torch.tensor([label for _, label in items])}


def make_trainer(output_dir: str = "out-vision", **changes: object) -> Trainer:
    """Return the Trainer; the changes are TrainingArguments."""
    config = ViTConfig(
        image_size=CROP, patch_size=8, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=128, num_labels=10,
    )  # fmt: skip
    arguments: dict[str, object] = {
        "num_train_epochs": 2, "per_device_train_batch_size": 16, "save_strategy": "epoch", "logging_steps": 10,
        "report_to": "none", "remove_unused_columns": False,
    }  # fmt: skip
    return Trainer(
        model=ViTForImageClassification(config),
        args=TrainingArguments(output_dir=output_dir, **{**arguments, **changes}),
        train_dataset=Images(),
        data_collator=collate,
    )


if __name__ == "__main__":
    trainer = make_trainer()
    FareMeter().attach(trainer)
    trainer.train()
