"""
A sequence-to-sequence model with Hugging Face's Seq2SeqTrainer, a collator of its own and Adafactor, metered.

    python examples/hf_seq2seq.py                 # train a tiny T5 on this machine's CPU
    trainfare recommend examples/hf_seq2seq.py    # the same script before launch: nothing is trained
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, T5Config, T5ForConditionalGeneration

from trainfare.huggingface import FareMeter


class Reversed(Dataset[list[int]]):
    """Sequences of 20 tokens, to be reversed."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> list[int]:
        return [2 + (index * 7 + place) % 90 for place in range(20)]


def collate(sequences: list[list[int]]) -> dict[str, Tensor]:
    """Return the sequences, and the same from their ends as labels."""
    tokens = torch.tensor(sequences)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens.flip(1)}


def make_trainer(output_dir: str = "out-seq2seq", **changes: object) -> Seq2SeqTrainer:
    """Return the Trainer; the changes are Seq2SeqTrainingArguments."""
    config = T5Config(
        vocab_size=100, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    arguments: dict[str, object] = {
        "num_train_epochs": 2, "per_device_train_batch_size": 8, "save_strategy": "no",
        "optim": "adafactor", "logging_steps": 20, "report_to": "none", "remove_unused_columns": False,
    }  # fmt: skip
    return Seq2SeqTrainer(
        model=T5ForConditionalGeneration(config),
        args=Seq2SeqTrainingArguments(output_dir=output_dir, **{**arguments, **changes}),
        train_dataset=Reversed(),
        data_collator=collate,
    )


if __name__ == "__main__":
    trainer = make_trainer()
    FareMeter().attach(trainer)
    trainer.train()
