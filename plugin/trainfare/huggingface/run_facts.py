"""What the arguments of Hugging Face's Trainer, and its live objects, say of a run."""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import torch
from torch import nn

from trainfare.huggingface.versions import TrainingLength, count_batch, validates_at_end
from trainfare.job.input_kind import read_source
from trainfare.job.processes import count_nodes, read_precision
from trainfare.job.run_facts import RunFacts
from trainfare.job.run_plan import CheckpointTrigger, LoopLength
from trainfare_core.job_profile import BatchScale, ParallelFacts

GENERATES: Final = "this Trainer generates text in its step, and generation is not traced"
"""As those of TRL for GRPO, RLOO, PPO and online DPO, which have an attribute for it."""


def _read_strategy(args: Any) -> str:
    """Return how TrainingArguments share the work among devices, in Lightning's words."""
    config: Any = args.deepspeed or {}
    if isinstance(config, str):
        config = json.loads(Path(config).read_text(encoding="utf-8"))
    if stage := config.get("zero_optimization", {}).get("stage", 0):
        return f"deepspeed_stage_{stage}"
    if args.fsdp or getattr(args, "asked_fsdp", None):  # before launch, in one process
        return "fsdp"
    return "ddp" if config or args.world_size > 1 else "single_device"


def find_frozen_parameters(trainer: Any) -> list[nn.Parameter]:
    """Return the weights of the modules beside its model that a Trainer holds, as a reference model or a teacher."""
    known = {id(parameter) for parameter in trainer.model.parameters()}
    return [
        p for other in find_other_modules(trainer).values() for p in other.parameters() if id(p) not in known
    ]


def find_other_modules(trainer: Any) -> dict[str, nn.Module]:
    """Return the modules that a Trainer holds beside its model, by their attributes."""
    own = (trainer.model, trainer.model_wrapped)
    held: dict[str, Any] = {**vars(trainer)}
    return {name: x for name, x in held.items() if isinstance(x, nn.Module) and not any(x is y for y in own)}


def read_run(trainer: Any, module: nn.Module, samples: int) -> RunFacts:
    """
    Read a run that has set up its data.

    Args:
        trainer: the Trainer.
        module: its model.
        samples: of an epoch.
    """
    args, device = trainer.args, torch.device(trainer.args.device)
    world, accumulate = int(args.world_size), int(args.gradient_accumulation_steps)
    nodes = count_nodes(world)
    size, strategy, why = int(trainer._train_batch_size), _read_strategy(args), ""  # noqa: SLF001
    replicas = max(1, count_batch(trainer) // (size * accumulate))
    if hasattr(trainer, "num_generations") or hasattr(trainer, "generation_config"):
        why = GENERATES
    elif replicas < world or trainer.is_model_parallel or args.n_gpu > 1:
        why = "the model or each batch is split over devices, so no single device runs the whole step"
    elif strategy.startswith(("fsdp", "deepspeed")):
        why = f"{strategy} shards the weights over devices, so no single rank runs the whole step"
        why = f"{why}: trace it before launch with `trainfare profile`"
    packages = [import_module(name) for name in ("torch", "transformers", "accelerate")]
    return RunFacts(
        name=type(module).__name__[:200],
        precision=read_precision(
            module, "bf16-mixed" if args.bf16 else "16-mixed" if args.fp16 else "32-true"
        ),
        parallel=ParallelFacts(
            strategy=strategy,
            devices=world // nodes,
            num_nodes=nodes,
            accumulate_grad_batches=accumulate,
            replicas=None if replicas == world else replicas,
        ),
        replicas=replicas,
        device=device,
        software=", ".join(f"{package.__name__} {package.__version__}" for package in packages),
        loader_batch_size=size,
        # By a loader of the library's own, unless the data are less than a batch.
        batch_of_rows=samples >= size
        and trainer.get_train_dataloader.__module__.startswith(("transformers.", "trl.")),
        loader_workers=int(args.dataloader_num_workers),
        input=read_source(
            SimpleNamespace(
                dataset=trainer.train_dataset,
                collate_fn=trainer.data_collator,
                num_workers=int(args.dataloader_num_workers),
            )
        ),
        split_because=why,
        loop="huggingface",
    )


def read_length(trainer: Any, training: TrainingLength, validation_batches: int | None) -> LoopLength:
    """
    Read what decides the length of a run, once the Trainer's state has its steps.

    Args:
        trainer: the Trainer.
        training: of its call of `train`.
        validation_batches: of one validation on one device; None: not known yet.
    """
    args, state, steps, in_epoch = trainer.args, trainer.state, training.steps, training.batches_per_epoch
    stops = [c for c in trainer.callback_handler.callbacks if hasattr(c, "early_stopping_patience")]
    # Of the best ones alone: as many as can be.
    best = args.save_strategy == "best"
    saves, every = (args.eval_strategy, state.eval_steps) if best else (args.save_strategy, state.save_steps)
    every = int(every) if saves == "steps" else 0
    return LoopLength(
        batches_per_epoch=in_epoch,
        max_epochs=None,
        max_steps=steps,
        estimated_steps=steps,
        accumulate_grad_batches=int(args.gradient_accumulation_steps),
        replicas=int(args.world_size),
        calls_done=int(state.global_step),
        validates=args.eval_strategy != "no",
        validation_batches=validation_batches,
        validation_runs=_count_validations(args, int(state.eval_steps or 0), steps, in_epoch),
        checkpoints=(CheckpointTrigger(every, int(saves == "epoch"), False, bool(args.save_only_model)),),
        early_end=type(stops[0]).__name__ if stops else "",
        scales=_find_scale(args),
        warmup_steps=int(args.warmup_steps) or None,  # below 1 it is a share of the steps
        epochs=None if args.max_steps > 0 else float(args.num_train_epochs),
        drops_last=bool(args.dataloader_drop_last),
        validate_every_n_steps=int(state.eval_steps or 0) or None if args.eval_strategy == "steps" else None,
    )


def _find_scale(args: Any) -> BatchScale:
    """Return what other numbers of processes do to the batch: a launcher gives them, and the script none."""
    if getattr(args.accelerator_config, "split_batches", False):
        return "global"
    return "per_device" if args.n_gpu <= 1 else "fixed"


def _count_validations(args: Any, every: int, steps: int, in_epoch: int | None) -> int | None:
    """Return the validations of a run; None: not known."""
    if args.eval_strategy == "steps":
        ends = [*range(every, steps + 1, every)]
        if steps % every and validates_at_end():
            ends.append(steps)
    elif in_epoch is None:
        return None
    else:
        ends = [*range(1, math.ceil(steps / math.ceil(in_epoch / args.gradient_accumulation_steps)) + 1)]
    return sum(int(end >= args.eval_delay) for end in ends) + int(args.eval_on_start)
