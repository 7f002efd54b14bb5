"""
A plan in the words of Lightning's Trainer, and of NeMo where it splits the model in ways that Lightning does not.

Loads no torch: a ranking writes its plans with it, and a report shows them.
"""

from __future__ import annotations

from typing import Final

from trainfare_core.recommendation import ModelSplit, PlanFacts, PlanWriter, TrainerArguments

_STRATEGIES: Final = {
    "none": "auto",
    "ddp": "ddp",
    "fsdp": "fsdp",
    "zero1": "deepspeed_stage_1",
    "zero2": "deepspeed_stage_2",
    "hybrid": "FSDPStrategy(sharding_strategy='HYBRID_SHARD')",
}
_FSDP_ARGUMENTS: Final = {"fsdp": "", "hybrid": "sharding_strategy='HYBRID_SHARD', "}
"""What Lightning's FSDPStrategy is given besides a policy of activation checkpointing."""

_MESH: Final = "self.device_mesh"
"""Where Lightning's ModelParallelStrategy puts the groups of devices, for the hook `configure_model`."""


class _LightningWriter:
    """Writer of plans in Lightning's words."""

    def write_arguments(self, plan: PlanFacts) -> TrainerArguments:
        """Return what to give Lightning's Trainer so that the script runs as planned."""
        split = plan.split
        megatron = split is not None and _by_megatron(split, plan.sharding)
        blocks, samples = ", ".join(plan.recomputed_blocks), None
        if megatron and split is not None and plan.micro_batch is not None:
            samples = plan.micro_batch * plan.accumulate * split.replicas
        by_strategy = megatron or (split is None and plan.sharding in _FSDP_ARGUMENTS)
        return TrainerArguments(
            devices=plan.devices,
            num_nodes=plan.nodes,
            strategy=_write_strategy(plan, blocks) if split is None else _write_split_strategy(plan, split),
            precision=plan.precision,
            accumulate_grad_batches=1 if megatron else plan.accumulate,
            batch_size=plan.micro_batch,
            global_batch_size=samples,
            configure_model="" if by_strategy else _write_checkpointing(blocks),
            script_needs="" if split is None else _write_split_needs(plan, split),
        )

    def name_split_need(self, plan: PlanFacts) -> str:
        """Return what a plan that splits the model needs, after the word "needs"."""
        if plan.split is not None and _by_megatron(plan.split, plan.sharding):
            return "a model written for Megatron"
        return "a script that splits its layers"


WRITER: Final[PlanWriter] = _LightningWriter()
"""Writer of plans in Lightning's words."""


def _write_strategy(plan: PlanFacts, blocks: str) -> str:
    """Return Lightning's strategy for a plan whose devices hold the whole model, or a shard of all of it."""
    if blocks and plan.sharding in _FSDP_ARGUMENTS:
        arguments = _FSDP_ARGUMENTS[plan.sharding]
        return f"FSDPStrategy({arguments}activation_checkpointing_policy={{{blocks}}})"
    if plan.own_strategy.startswith(("ddp", "fsdp", "deepspeed")):
        return plan.own_strategy
    return _STRATEGIES[plan.sharding]


def _write_checkpointing(blocks: str) -> str:
    """Return the line that checkpoints these classes in `configure_model`; "" for none."""
    return (
        f"apply_activation_checkpointing(self, check_fn=lambda m: isinstance(m, ({blocks},)))"
        if blocks
        else ""
    )


def _by_megatron(split: ModelSplit, sharding: str) -> bool:
    """Return whether a split plan is one of Megatron; else it is one of Lightning: products split, replicas sharded."""
    return sharding == "zero1" or split.pipeline * split.context * split.expert > 1


def _write_split_strategy(plan: PlanFacts, split: ModelSplit) -> str:
    """Return the strategy's object for Trainer: Lightning's for products alone, NeMo's for the rest."""
    if not _by_megatron(split, plan.sharding):
        return (
            f"ModelParallelStrategy(data_parallel_size={split.replicas}, tensor_parallel_size={split.tensor})"
        )
    sequence = ["sequence_parallel=True"] if split.tensor > 1 else []
    zero = (
        ["ddp=DistributedDataParallelConfig(use_distributed_optimizer=True)"]
        if plan.sharding == "zero1"
        else []
    )
    sizes = [
        f"{name}={value}"
        for name, value in (
            ("tensor_model_parallel_size", split.tensor),
            ("pipeline_model_parallel_size", split.pipeline),
            ("context_parallel_size", split.context),
            ("expert_model_parallel_size", split.expert),
        )
        if value > 1
    ]
    return f"MegatronStrategy({', '.join([*sizes, *sequence, *zero])})"


def _write_split_needs(plan: PlanFacts, split: ModelSplit) -> str:
    """Return what a script must have to run a split plan, in one sentence."""
    if not _by_megatron(split, plan.sharding):
        shard = f", and fully_shard(..., mesh={_MESH}['data_parallel'])" if split.replicas > 1 else ""
        return (
            f"The script needs a configure_model that splits its layers: parallelize_module(..., {_MESH}"
            f"['tensor_parallel'], ...) with sequence parallelism{shard}"
        )
    again = ", recompute_granularity='full' for activation checkpointing" if plan.recomputed_blocks else ""
    types = (
        f"; weights and optimizer state stay in 16 bits ({plan.precision}), and NeMo's mixed precision needs more "
        "memory"
        if plan.precision.endswith("16-true")
        else ""
    )
    return (
        f"The script needs a Megatron model, such as NeMo's with nemo.lightning's strategy and data module{again}, or "
        f"code of its own that splits the model so{types}"
    )


def format_plan(plan: TrainerArguments) -> str:
    """
    Return the arguments of a plan as Python, to paste.

    >>> format_plan(
    ...     TrainerArguments(
    ...         devices=8, num_nodes=1, strategy="ddp", precision="bf16-mixed", accumulate_grad_batches=1, batch_size=4
    ...     )
    ... )
    "Trainer(devices=8, num_nodes=1, strategy='ddp', precision='bf16-mixed', accumulate_grad_batches=1)"
    """
    given = plan.model_dump(exclude={"batch_size", "global_batch_size", "configure_model", "script_needs"})
    texts = {name: repr(value) for name, value in given.items()}
    if plan.strategy.endswith(")"):  # a strategy's object, which has no name in Lightning's registry
        texts["strategy"] = plan.strategy
    if plan.global_batch_size is not None and plan.precision.endswith("mixed"):
        # NeMo's is a plugin of its own.
        texts["plugins"] = f"MegatronMixedPrecision(precision={texts.pop('precision')})"
    return f"Trainer({', '.join(f'{name}={text}' for name, text in texts.items())})"
