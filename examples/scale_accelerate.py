"""
A loop of Accelerate that trains ViT-B/32 on ImageNet, 32 images on each device that its launcher starts.

    trainfare profile examples/scale_accelerate.py -o docs/examples/accelerate-vit.json
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import vit_b_32


class Images(Dataset[tuple[Tensor, int]]):
    """Stands for ImageNet."""

    def __len__(self) -> int:
        return 1_281_167

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(3, 224, 224), 0


if __name__ == "__main__":
    accelerator = Accelerator(mixed_precision="bf16")
    model = vit_b_32()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(Images(), 32))
    for _epoch in range(30):
        for images, classes in loader:
            optimizer.zero_grad()
            accelerator.backward(nn.functional.cross_entropy(model(images), classes))
            optimizer.step()
