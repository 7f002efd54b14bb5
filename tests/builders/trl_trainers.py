"""TRL's Trainers for tests: a tiny Llama, a tokenizer of words and data that are made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

disable_progress_bars()
ROWS, SIZE, WORDS = 64, 4, 100


def make_model() -> LlamaForCausalLM:
    """Return a Llama of two layers with weights that are the same each time."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token for each word."""
    words = {word: number for number, word in enumerate(["<pad>", "<end>", *map(str, range(WORDS - 2))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")


def _write_words(row: int, count: int) -> str:
    return " ".join(str((row + place) % (WORDS - 2)) for place in range(count))


def make_trl_trainer(method: str, folder: Path | str, **options: Any) -> Any:
    """
    Return a Trainer that neither saves nor prints, with batches of 4 rows of one size.

    Args:
        method: "sft", with rows of 12 tokens; "dpo", with pairs of 8 tokens each; or "grpo".
        folder: of its output.
        options: arguments of its configuration.
    """
    arguments: dict[str, Any] = {
        "per_device_train_batch_size": SIZE, "max_steps": 10, "save_strategy": "no", "report_to": "none", "bf16": False,
        "disable_tqdm": True, "use_cpu": True, "logging_strategy": "no", "log_level": "error", **options,
    }  # fmt: skip
    rows = range(ROWS)
    shared: dict[str, Any] = {"processing_class": make_tokenizer()}
    if method == "sft":
        data = Dataset.from_dict({"text": [_write_words(row, 11) for row in rows]})
        return SFTTrainer(make_model(), SFTConfig(str(folder), **arguments), train_dataset=data, **shared)
    prompts = {"prompt": [_write_words(row, 4) for row in rows]}
    if method == "dpo":
        answers = {"chosen": [" 5 6 7" for _ in rows], "rejected": [" 7 6 5" for _ in rows]}
        data = Dataset.from_dict({**prompts, **answers})
        args = DPOConfig(str(folder), **arguments)
        return DPOTrainer(make_model(), make_model(), args=args, train_dataset=data, **shared)
    from trl import GRPOConfig, GRPOTrainer  # from 0.14 on

    return GRPOTrainer(
        make_model(),
        reward_funcs=lambda completions, **_: [float(len(text)) for text in completions],
        args=GRPOConfig(str(folder), num_generations=2, max_completion_length=4, **arguments),
        train_dataset=Dataset.from_dict(prompts),
        **shared,
    )
