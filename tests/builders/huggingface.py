"""Small models, data and Trainers of Hugging Face for tests: built from configurations, on the CPU, without output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import constants
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from builders.lightning_modules import Clock, ClockedSGD, MeterHarness
from trainfare.huggingface import FareMeter

constants.HF_HUB_DISABLE_TELEMETRY = True  # TRL sends some for each Trainer
quiet = [
    pytest.mark.filterwarnings("ignore:.*pin_memory.*"),
    pytest.mark.filterwarnings("ignore:.*os.fork.*"),
    pytest.mark.filterwarnings(
        "ignore:.*is deprecated and will be removed in v6"
    ),  # names that TRL still uses
    pytest.mark.filterwarnings("ignore:You didn't pass a `max_seq_length`"),  # TRL before 0.13
]
"""Warnings of torch and transformers in such small runs."""
TOKENS, VOCABULARY = 16, 96
SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "num_hidden_layers": 2, "num_attention_heads": 2}


class Texts(Dataset[dict[str, torch.Tensor]]):
    """Texts of random tokens computed from their index, each with a class, or with the tokens as labels."""

    def __init__(self, rows: int, *, tokens_as_labels: bool = False, clock: Clock | None = None) -> None:
        self.rows, self.calls, self._clock, self._tokens = rows, 0, clock, tokens_as_labels

    def __len__(self) -> int:
        self.calls += 1
        return self.rows

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        self.calls += 1
        if self._clock is not None:
            self._clock.advance(0.001)
        tokens = torch.randint(1, VOCABULARY, (TOKENS,), generator=torch.Generator().manual_seed(index))
        labels = tokens if self._tokens else torch.tensor(index % 2)
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}


def make_classifier(**changes: Any) -> transformers.BertForSequenceClassification:
    """Return a BERT of two layers with weights that are the same each time."""
    torch.manual_seed(1)
    config = transformers.BertConfig(
        **SIZES, hidden_size=32, intermediate_size=64, max_position_embeddings=TOKENS, **changes
    )
    return transformers.BertForSequenceClassification(config)


class TimedModel(nn.Module):
    """A model whose forward takes 7 ms by a clock and whose backward takes 4; in evaluation a forward takes 50."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.embedding, self.head, self.clock = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 2), clock

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        self.clock.advance(0.007 if self.training else 0.050)
        logits = self.head(self.embedding(input_ids).mean(1))
        loss = functional.cross_entropy(logits, labels)
        if loss.requires_grad:
            loss.register_hook(lambda _: self.clock.advance(0.004))
        return {"loss": loss, "logits": logits}


class TimedTrainer(Trainer):
    """Saving takes 30 ms by the clock of its model, and the optimizer's update 2."""

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        self.optimizer = ClockedSGD(self.model.parameters(), lr=0.01)
        self.optimizer.clock = self.model.clock
        return self.optimizer

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self.model.clock.advance(0.030)


def make_trainer(folder: Path, model: Any, *, kind: type = Trainer, rows: int = 64, **options: Any) -> Any:
    """Return a Trainer of 4 samples a batch that neither saves nor prints; the options are TrainingArguments."""
    data: dict[str, Any] = {"train_dataset": Texts(rows), "eval_dataset": Texts(10)}
    for name in ("train_dataset", "eval_dataset", "data_collator", "callbacks", "optimizers"):
        if name in options:
            data[name] = options.pop(name)
    arguments: dict[str, Any] = {
        "per_device_train_batch_size": 4, "per_device_eval_batch_size": 4, "save_strategy": "no", "report_to": "none",
        "disable_tqdm": True, "use_cpu": True, "logging_strategy": "no", "log_level": "error",
    }  # fmt: skip
    kind_of_arguments = options.pop("arguments", TrainingArguments)
    return kind(model, kind_of_arguments(output_dir=str(folder), **{**arguments, **options}), **data)


def attach_meter(trainer: Any, harness: MeterHarness, folder: Path, **settings: Any) -> FareMeter:
    """Attach a FareMeter with the services of a harness."""
    kind = type("FareMeter", (FareMeter,), {"services": harness.services})
    return kind(**{"report_dir": str(folder), **settings}).attach(trainer)  # type: ignore[no-any-return]
