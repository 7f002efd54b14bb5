"""Jobs that generate what they train on, for tests."""

from __future__ import annotations

from typing import Any

from builders.profiles import gpt_profile
from trainfare_core.job_profile import JobProfile, ParallelFacts, Rollout


def make_rollout(**overrides: Any) -> Rollout:
    """Return 16 prompts with 8 completions of 100 to 900 tokens each, by a vLLM that shares the devices."""
    fields: dict[str, Any] = {
        "method": "grpo", "prompts": 16, "completions": 8, "prompt_tokens": 124, "completion_tokens_low": 100,
        "completion_tokens_high": 900, "engine": "vllm-colocated", "scores_reference": False,
        "scores_old_policy": True, "kv_bytes_per_token": 4 * 12 * 768, **overrides,
    }  # fmt: skip
    return Rollout(**fields)


def rollout_job(*, wide: bool = False, **overrides: Any) -> JobProfile:
    """
    Return a GPT that trains on 128 completions a step, 8 at once on one device.

    Args:
        wide: of 1.3 billion parameters, not 0.1.
        overrides: of the rollout.
    """
    sizes = {"layers": 24, "width": 2048, "heads": 16} if wide else {}
    job = gpt_profile(sequence=1024, batch_size=8, checkpointing=True, **sizes)
    passes = 16
    operations = tuple(
        group if group.phase == "optimizer" else group.model_copy(
            update={name: passes * getattr(group, name)
                    for name in ("launches", "flops", "bytes_read", "bytes_written", "bytes_fixed")}
        )
        for group in job.operations
    )  # fmt: skip
    batch = job.batch.model_copy(
        update={"samples_per_step": 8 * passes, "tokens_per_step": 8 * passes * 1024}
    )
    update = {
        "name": "gpt, grpo", "operations": operations, "batch": batch, "rollout": make_rollout(**overrides),
        "parallel": ParallelFacts(accumulate_grad_batches=passes),
    }  # fmt: skip
    return job.model_copy(update=update)
