"""
Text classification with Hugging Face's Trainer: accumulation over 4 batches and an evaluation, metered while it trains.

    python examples/hf_text_classification.py                 # train a tiny BERT on this machine's CPU
    trainfare recommend examples/hf_text_classification.py    # the same script before launch: nothing is trained
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from trainfare.huggingface import FareMeter


class Reviews(Dataset[dict[str, Tensor]]):
    """Texts of 24 random tokens; a text is positive where the first token is of the upper half of the vocabulary."""

    def __init__(self, texts: int) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return self.texts

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        tokens = torch.randint(2, 200, (24,), generator=torch.Generator().manual_seed(index))
        return {
            "input_ids": tokens,
            "attention_mask": torch.ones_like(tokens),
            "labels": (tokens[0] > 100).long(),
        }


def make_trainer(output_dir: str = "out-classification", **changes: object) -> Trainer:
    """Return the Trainer; the changes are TrainingArguments."""
    config = BertConfig(
        vocab_size=200, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128
    )
    arguments: dict[str, object] = {
        "num_train_epochs": 2, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 4,
        "eval_strategy": "epoch", "save_strategy": "no", "logging_steps": 5, "report_to": "none",
    }  # fmt: skip
    return Trainer(
        model=BertForSequenceClassification(config),
        args=TrainingArguments(output_dir=output_dir, **{**arguments, **changes}),
        train_dataset=Reviews(250),
        eval_dataset=Reviews(64),
    )


if __name__ == "__main__":
    trainer = make_trainer()
    FareMeter().attach(trainer)
    trainer.train()
