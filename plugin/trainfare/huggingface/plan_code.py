"""A plan in the words of Hugging Face's TrainingArguments, and of torchrun. Loads no torch."""

from __future__ import annotations

from importlib import metadata
from typing import Any, Final

from trainfare.job.floors import is_older
from trainfare_core.recommendation import NEUTRAL, PlanFacts, PlanWriter, TrainerArguments

_TYPES: Final = {"bf16-mixed": {"bf16": True}, "16-mixed": {"fp16": True}}
_WEIGHTS: Final = {"bf16-true": "torch.bfloat16", "16-true": "torch.float16"}
"""Of precisions without autocast, which the type of the weights decides."""
_NEW_WORDS: Final = "5.23"
"""The first transformers with `activation_checkpointing`; from then on `fsdp_config` says how FSDP shards."""
_STAGES: Final = {"zero1": 1, "zero2": 2}
_HYBRID: Final = {"version": 1, "reshard_after_forward": "hybrid_shard"}


class HuggingFaceWriter:
    """
    Writes plans in Hugging Face's words.

    Args:
        version: of transformers, "" where it is not here: the words are those of the newest.
    """

    def __init__(self, version: str) -> None:
        self._old = bool(version) and is_older(version, _NEW_WORDS)

    def write_arguments(self, plan: PlanFacts) -> TrainerArguments:
        """Return the plan with its line of code."""
        neutral, stage = NEUTRAL.write_arguments(plan), _find_stage(plan)
        strategy = f"deepspeed_stage_{stage}" if stage else neutral.strategy
        code = neutral.code if plan.split else _write_code(plan, old=self._old)
        return neutral.model_copy(update={"strategy": strategy, "code": code})

    def name_split_need(self, plan: PlanFacts) -> str:
        """Return what a plan that splits the model needs, after the word "needs"."""
        return NEUTRAL.name_split_need(plan)


def _find_version() -> str:
    try:
        return metadata.version("transformers")
    except metadata.PackageNotFoundError:
        return ""


WRITER: Final[PlanWriter] = HuggingFaceWriter(_find_version())
"""Writer of plans in the words of the transformers that are installed here."""


def _write_code(plan: PlanFacts, *, old: bool) -> str:
    arguments: dict[str, Any] = {
        **({} if plan.micro_batch is None else {"per_device_train_batch_size": plan.micro_batch}),
        "gradient_accumulation_steps": plan.accumulate,
        **_TYPES.get(plan.precision, {}),
        **_shard(plan, old=old),
    }
    text = f"TrainingArguments({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
    if plan.precision in _WEIGHTS:
        text += f", the model in dtype={_WEIGHTS[plan.precision]}"
    if plan.devices * plan.nodes > 1:
        machines = f"--nnodes={plan.nodes} " if plan.nodes > 1 else ""
        text += f", started by torchrun {machines}--nproc-per-node={plan.devices}"
    return text


def _find_stage(plan: PlanFacts) -> int:
    """Return DeepSpeed's stage, that of the script's own strategy first; 0: it is not used."""
    own = plan.own_strategy.removeprefix("deepspeed_stage_")[:1]
    return int(own) if own.isdigit() else _STAGES.get(plan.sharding, 0)


def _shard(plan: PlanFacts, *, old: bool) -> dict[str, Any]:
    """Return the arguments that share the work among devices, and recompute activations."""
    recompute = {"activation_checkpointing": True} if plan.recomputed_blocks else {}
    again = {"gradient_checkpointing": True} if old and recompute else recompute
    if stage := _find_stage(plan):
        counts = dict.fromkeys(("train_micro_batch_size_per_gpu", "gradient_accumulation_steps"), "auto")
        types = {name: {"enabled": "auto"} for name in ("bf16", "fp16")}
        return {**again, "deepspeed": {"zero_optimization": {"stage": stage}, **counts, **types}}
    if plan.sharding not in ("fsdp", "hybrid"):
        return again
    if old:
        words = f"{'hybrid' if plan.sharding == 'hybrid' else 'full'}_shard auto_wrap"
        return {"fsdp": words, **({"fsdp_config": recompute} if recompute else {})}
    config = {**(_HYBRID if plan.sharding == "hybrid" else {}), **recompute}
    return {"fsdp": True, **({"fsdp_config": config} if config else {})}
