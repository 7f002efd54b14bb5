"""
Instruction tuning of a language model: compare full fine-tuning, LoRA and QLoRA.

    trainfare strategy examples/strategy_language.toml                     # before launch, without hardware
    trainfare strategy examples/strategy_language.toml --strategies lora --strategies full_finetune --format json

The model is the GPT-2 of `small_gpt.py`; a larger model works in the same way and takes longer to trace.
"""

from __future__ import annotations

import torch
from small_gpt import SmallGPT

from trainfare import TrainingJob

CONTEXT, BATCH_SIZE = 512, 8


def job() -> TrainingJob:
    """Describe two passes of full fine-tuning over 15,000 instructions of up to 512 tokens."""
    return TrainingJob(
        module=SmallGPT,
        batch=lambda: [torch.zeros(BATCH_SIZE, CONTEXT + 1, dtype=torch.long)],
        batch_size=BATCH_SIZE,
        max_epochs=2,
        train_samples=15_000,
        tokens_per_sample=CONTEXT,
        precision="bf16-mixed",
        accumulate_grad_batches=4,
    )


def main() -> None:
    """Print the trained parameters and the cost of each strategy."""
    from trainfare.methods.module_changes import tracer_of
    from trainfare.methods.plan import answer_methods
    from trainfare.methods.request import MethodsRequest
    from trainfare.prices.sources import load_prices

    request = MethodsRequest(domain="llm-ift", metric="val_loss", within_pct=3.0)
    described = job()
    answer = answer_methods(described, request, load_prices().book, trace=tracer_of(described))
    for line in answer.lines:
        if line.traced is not None and line.usd is not None:
            trained = line.traced.trainable_parameters
            print(f"{line.strategy}: {trained:,} parameters trained, ${line.usd.mid:.2f} to the target")
    print(answer.sentence)


if __name__ == "__main__":
    main()
