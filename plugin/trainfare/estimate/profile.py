"""Trace the run that an `EstimateRequest` describes."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainfare.estimate.models import FoundModel, Task, model_named
from trainfare.estimate.request import EstimateRequest
from trainfare.estimate.rollout_request import RolloutRequest
from trainfare.job import TrainingJob
from trainfare.methods.module_changes import tracer_of
from trainfare.methods.step_change import StepChange
from trainfare_core.errors import InputError
from trainfare_core.job_profile import MAX_TEXT_CHARACTERS, JobProfile
from trainfare_core.methods.methods import Method
from trainfare_core.number_format import shorten_text

_METHODS: Final[dict[str, Method]] = {"full": "full_finetune", "lora": "lora", "qlora": "qlora"}


_SPOKEN_TOKENS: Final = 448
"""Of one clip of 30 s: all that Whisper's decoder has positions for, to which its batches are padded."""


class _Step(nn.Module):
    """The usual training step of a model: its loss, and AdamW."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model, self.task = model, task

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the loss of tokens (batch, tokens), images (batch, 3, size, size) or sound (batch, mel, frames)."""
        del batch_idx
        if self.task == "speech":
            words = torch.zeros(len(batch), _SPOKEN_TOKENS, dtype=torch.long, device=batch.device)
            spoken: Tensor = self.model(input_features=batch, labels=words).loss
            return spoken
        labels = torch.zeros(len(batch), dtype=torch.long, device=batch.device)
        if self.task == "image-class":
            output = self.model(batch)
            logits = getattr(output, "logits", output)
            tensors = [logits] if isinstance(output, Tensor) else [logits, *_others(output)]
            return torch.stack([functional.cross_entropy(tensor, labels) for tensor in tensors]).sum()
        loss: Tensor = self.model(input_ids=batch, labels=batch if self.task == "text" else labels).loss
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW over the weights that train."""
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=1e-4)


def _others(output: Any) -> list[Tensor]:
    """Return the results of the auxiliary classifiers of GoogLeNet and Inception."""
    outputs: dict[str, Any] = output._asdict() if hasattr(output, "_asdict") else {}
    return [
        output_value for name, output_value in outputs.items() if "aux" in name and output_value is not None
    ]


def estimate_profile(request: EstimateRequest) -> JobProfile:
    """
    Trace one optimizer step of a model that is built from its configuration, on fake tensors.

    Args:
        request: the model, and how it is trained.

    Raises:
        InputError: no such model, or numbers that it does not take.
        TraceError: the step cannot be traced.
    """
    steps, micro_batch = request.steps(), request.count_traced_samples()
    model = model_named(request.model)
    shape = _shape(model, request)
    text = model.task in ("text", "text-class")
    job = TrainingJob(
        module=lambda: _Step(model.build().train(), model.task),
        batch=lambda: torch.zeros(micro_batch, *shape, dtype=torch.long if text else torch.float32),
        batch_size=micro_batch,
        max_steps=steps,
        tokens_per_sample=request.seq if text else None,
        precision=request.precision,
        accumulate_grad_batches=request.batch // micro_batch,
    )
    change = StepChange(
        _METHODS[request.method],
        job.precision,
        lora_rank=request.lora_rank,
        trains_head=model.task in ("text-class", "image-class"),
        recompute=request.recompute,
    )
    profile = tracer_of(job)(change)
    plan = f"the micro-batch is {micro_batch}"
    if request.micro_batch is None:
        plan += ": it was chosen, --micro-batch gives yours and --allow plan takes the fastest"
    usual = "the model's own loss and AdamW, without your data, evaluation and checkpoints"
    note = f"estimated from {model.origin}: {usual}"
    return profile.model_copy(
        update={
            "name": f"{model.name}, {request.method}"[:200],
            "notes": (shorten_text(note, MAX_TEXT_CHARACTERS), plan, *profile.notes),
        }
    )


def estimate_rollout_profile(request: EstimateRequest, rollout: RolloutRequest) -> JobProfile:
    """
    Trace one update of a run that generates what it trains on, and describe what it generates.

    Args:
        request: the model, and how it is trained.
        rollout: what is generated.

    Raises:
        InputError: see `RolloutRequest.check`, or a model that generates no text.
        TraceError: the update cannot be traced.
    """
    updates = rollout.check(request)
    model = model_named(request.model)
    if model.kv_bytes_per_token is None:
        raise InputError(f"--method {request.method}: {model.name} is not known to generate text")
    profile = estimate_profile(updates)
    described = rollout.describe(request, profile, model.kv_bytes_per_token)
    notes = (
        f"prompts have {rollout.prompt_length} tokens each: --prompt-length gives yours",
        "updates recompute activations, as TRL's do unless told otherwise",
    )
    name = f"{model.name}, {request.method}" + ("" if rollout.trains == "full" else f" with {rollout.trains}")
    update = {"name": name[:200], "rollout": described, "notes": (*notes, *profile.notes)}
    return profile.model_copy(update=update)


def _shape(model: FoundModel, request: EstimateRequest) -> tuple[int, ...]:
    """Return the shape of one sample."""
    if model.task in ("image-class", "speech"):
        if request.tokens is not None or request.seq is not None:
            what = "images" if model.task == "image-class" else "clips of sound"
            raise InputError(f"{model.name} takes {what}: give --samples in place of --tokens and --seq")
        if model.sound is not None:
            return model.sound
        pixels = request.image_size or model.image_size
        if not isinstance(pixels, int):
            raise InputError(f"{model.name}: give --image-size, the pixels of one side")
        return 3, pixels, pixels
    if request.image_size is not None:
        raise InputError(f"{model.name} takes text: it has no --image-size")
    if request.seq is None:
        raise InputError(f"{model.name} takes text: give --seq, the tokens of one sequence, e.g. --seq 4096")
    if model.tokens is not None and request.seq > model.tokens:
        msg = f"--seq {request.seq}: {model.name} has positions for {model.tokens} tokens"
        raise InputError(f"{msg}: give --seq {model.tokens} or less")
    return (request.seq,)
