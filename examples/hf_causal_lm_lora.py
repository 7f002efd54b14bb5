"""
A causal language model with LoRA adapters and activation checkpointing, by Hugging Face's Trainer, metered.

    python examples/hf_causal_lm_lora.py                 # train a tiny Llama on this machine's CPU
    trainfare recommend examples/hf_causal_lm_lora.py    # the same script before launch: nothing is trained
"""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from trainfare.huggingface import FareMeter


class Texts(Dataset[dict[str, Tensor]]):
    """Texts of 32 tokens that count upwards from a random one."""

    def __len__(self) -> int:
        return 300

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        tokens = (index + torch.arange(32)) % 200
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}


def make_trainer(output_dir: str = "out-lora", **changes: object) -> Trainer:
    """Return the Trainer; the changes are TrainingArguments."""
    config = LlamaConfig(
        vocab_size=200, hidden_size=64, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=128, max_position_embeddings=32,
    )  # fmt: skip
    adapters = LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj", "v_proj"])
    arguments: dict[str, object] = {
        "max_steps": 20, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "learning_rate": 1e-3,
        "gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "save_strategy": "no", "logging_steps": 10, "report_to": "none",
    }  # fmt: skip
    return Trainer(
        model=get_peft_model(LlamaForCausalLM(config), adapters),
        args=TrainingArguments(output_dir=output_dir, **{**arguments, **changes}),
        train_dataset=Texts(),
    )


if __name__ == "__main__":
    trainer = make_trainer()
    FareMeter().attach(trainer)
    trainer.train()
