"""
Hugging Face's Trainer on a language model of 250 million parameters, 4 texts x 2 on each device that torchrun starts.

    trainfare profile examples/scale_huggingface.py -o docs/examples/huggingface-250m.json
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments


class Instructions(Dataset[dict[str, Tensor]]):
    """52,000 instructions of 512 tokens."""

    def __len__(self) -> int:
        return 52_000

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        tokens = torch.zeros(512, dtype=torch.long)
        return {"input_ids": tokens, "labels": tokens}


if __name__ == "__main__":
    config = LlamaConfig(
        hidden_size=1024, intermediate_size=2816, num_hidden_layers=16, num_attention_heads=16, num_key_value_heads=4
    )  # fmt: skip
    arguments = TrainingArguments(
        "out", per_device_train_batch_size=4, gradient_accumulation_steps=2, num_train_epochs=3, bf16=True,
        save_steps=500, report_to="none",
    )  # fmt: skip
    Trainer(LlamaForCausalLM(config), arguments, train_dataset=Instructions()).train()
