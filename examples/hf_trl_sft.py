"""
Supervised fine-tuning with TRL's SFTTrainer: LoRA adapters, a tokenizer and texts made here, metered.

    python examples/hf_trl_sft.py                 # train a tiny Qwen on this machine's CPU
    trainfare recommend examples/hf_trl_sft.py    # the same script before launch: nothing is trained
"""

from __future__ import annotations

from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import SFTConfig, SFTTrainer

from trainfare.huggingface import FareMeter

WORDS = ["<pad>", "<end>", "<unknown>", *(f"w{number}" for number in range(97))]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token for each word."""
    pad, end, unknown = WORDS[:3]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, eos_token=end, unk_token=unknown
    )


def make_trainer(output_dir: str = "out-sft", **changes: object) -> SFTTrainer:
    """Return the Trainer; the changes are SFTConfig's arguments."""
    config = Qwen2Config(
        vocab_size=len(WORDS), hidden_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=128, max_position_embeddings=64,
    )  # fmt: skip
    arguments: dict[str, object] = {
        "max_steps": 20, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "learning_rate": 1e-3,
        "save_strategy": "no", "logging_steps": 10, "report_to": "none", "bf16": False,
    }  # fmt: skip
    texts = [" ".join(f"w{(row + place) % 97}" for place in range(20)) for row in range(200)]
    return SFTTrainer(
        Qwen2ForCausalLM(config),
        args=SFTConfig(output_dir=output_dir, **{**arguments, **changes}),
        train_dataset=Dataset.from_dict({"text": texts}),
        processing_class=make_tokenizer(),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj", "v_proj"]),
    )


if __name__ == "__main__":
    trainer = make_trainer()
    FareMeter().attach(trainer)
    trainer.train()
