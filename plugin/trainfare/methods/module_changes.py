"""
Changes that a method makes to a module: which weights train, which are frozen and in which type, where adapters are
added, what is packed in 4 bits, which blocks are recomputed.

They are made to a copy of the user's module on fake tensors, never to the module itself.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, cast

import torch
from torch import nn
from torch.utils import checkpoint as torch_checkpoint

from trainfare.fake_step import AUTOCAST_DTYPES, trace_changed
from trainfare.fake_step.job_trace import RunPass, run_here
from trainfare.job import RealLimits, TrainingJob
from trainfare.methods.four_bit_layer import FourBitLinear
from trainfare.methods.step_change import StepChange, Tracer
from trainfare_core.errors import InputError, MissingExtraError
from trainfare_core.job_profile import JobProfile
from trainfare_core.methods.methods import METHODS

_LORA_MARK = "lora_"
_recomputed = cast("Callable[..., Any]", cast("Any", torch_checkpoint).checkpoint)
_BATCH_NORM = re.compile(r"BatchNorm([123]d)?$")
_BROAD = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class ModuleChange(StepChange):
    """A change of a step, made to a module: call it with the module on fake tensors."""

    def __call__(self, module: nn.Module) -> list[str]:
        """
        Change the module in place and return notes.

        Raises:
            InputError: no such output layer, nothing to adapt, no repeated blocks.
            MissingExtraError: LoRA without peft.
        """
        trains = METHODS[self.strategy].trains
        if trains == "all weights":
            notes = _unfreeze(module)
        elif trains == "output layer":
            notes = self._probe(module)
        else:
            notes = self._adapt(module)
        if self.recompute:
            notes.append(_recompute(module))
        return notes

    def _probe(self, module: nn.Module) -> list[str]:
        name, head = self._head(module)
        module.requires_grad_(requires_grad=False)
        head.requires_grad_(requires_grad=True)
        notes = [f"linear probe: only {name} is trained", *self._narrow(module)]
        if any(_BATCH_NORM.search(type(member).__name__) for member in module.modules()):
            notes.append("batch norm keeps updating its statistics in train mode: put the backbone in eval()")
        return notes

    def _adapt(self, module: nn.Module) -> list[str]:
        if importlib.util.find_spec("peft") is None:
            raise MissingExtraError("peft", "lora")
        _as_linear(module)
        head_name, head = self._head(module)
        # Those that are called as layers.
        targets = [
            name
            for name, member in _linear_layers(module)
            if not isinstance(member, nn.modules.linear.NonDynamicallyQuantizableLinear)
            and member is not head
        ]
        if not targets:
            msg = f"the module has no linear layer but its output layer {head_name!r}"
            raise InputError(f"{msg}: adapters need one")
        module.requires_grad_(requires_grad=False)
        notes = [f"{self.strategy}: rank {self.lora_rank} on {len(targets)} linear layers"]
        if METHODS[self.strategy].packs_weights:
            for name in targets:
                parent, _, last = name.rpartition(".")
                layer = cast("nn.Linear", module.get_submodule(name))
                packed = FourBitLinear(layer, AUTOCAST_DTYPES.get(self.precision))
                setattr(module.get_submodule(parent), last, packed)
            notes.append("frozen linear weights are packed in 4 bits, unpacked in forward and in backward")
        _inject(module, targets, self.lora_rank)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(_LORA_MARK in name)
        if self.trains_head:
            head.requires_grad_(requires_grad=True)
            notes.append(f"the output layer {head_name} is trained with the adapters")
        return [*notes, *self._narrow(module)]

    def _head(self, module: nn.Module) -> tuple[str, nn.Module]:
        if self.head is not None:
            try:
                return self.head, module.get_submodule(self.head)
            except AttributeError as error:
                near = ", ".join(name for name, _ in _linear_layers(module))
                raise InputError(
                    f"head {self.head!r}: there is no such layer; linear ones: {near}"
                ) from error
        layers = _linear_layers(module)
        if not layers:
            msg = f"{type(module).__name__} has no linear layer: name its output layer with --head"
            raise InputError(msg)
        return layers[-1]

    def _narrow(self, module: nn.Module) -> list[str]:
        """Convert frozen weights to autocast's type, as is usual with adapters."""
        narrow = AUTOCAST_DTYPES.get(self.precision)
        if narrow is None:
            return []
        # A weight shared with an embedding (tied to the output layer) stays as it is, so that it remains shared.
        elsewhere = {
            id(parameter)
            for layer in module.modules()
            if not isinstance(layer, _BROAD)
            for parameter in layer.parameters(recurse=False)
        }
        twins: dict[int, nn.Parameter] = {}
        for layer in module.modules():
            weight = getattr(layer, "weight", None)
            if not isinstance(layer, _BROAD) or not isinstance(weight, nn.Parameter):
                continue
            if weight.requires_grad or not weight.is_floating_point() or id(weight) in elsewhere:
                continue
            if id(weight) not in twins:
                twins[id(weight)] = nn.Parameter(weight.detach().to(narrow), requires_grad=False)
            layer.weight = twins[id(weight)]
        word = str(narrow).removeprefix("torch.")
        return [f"frozen weights of linear layers and convolutions are held in {word}"] if twins else []


def tracer_of(job: TrainingJob, real: RealLimits | None = None, run_pass: RunPass = run_here) -> Tracer:
    """
    Return a function that traces the job's step with a change; for the others see `trace_changed`.

    Whether batches are alike is a question to the user's code, which no change alters: the first trace answers it for
    those that follow.
    """
    alike = False

    def trace(change: StepChange) -> JobProfile:
        nonlocal alike
        if METHODS[change.strategy].trains == "adapters" and importlib.util.find_spec("peft") is not None:
            importlib.import_module("peft")  # here once, and not in every fork that runs a pass
        changed = ModuleChange(**asdict(change))
        described = replace(job, precision=change.precision)
        profile = trace_changed(described, changed, real=real, first_batch=not alike, run_pass=run_pass)
        alike |= profile.source.how == "fake" and not profile.work_note and profile.batch.variation is None
        return profile

    return trace


def _linear_layers(module: nn.Module) -> list[tuple[str, nn.Module]]:
    members = cast("list[tuple[str, nn.Module]]", list(cast("Any", module).named_modules()))
    return [(name, member) for name, member in members if isinstance(member, nn.Linear)]


def _unfreeze(module: nn.Module) -> list[str]:
    frozen = [p for p in module.parameters() if not p.requires_grad and p.is_floating_point()]
    for parameter in frozen:
        parameter.requires_grad_()
    count = sum(parameter.numel() for parameter in frozen)
    return [f"{count:,} parameters that the module freezes are trained here"] if frozen else []


def _as_linear(module: nn.Module) -> None:
    """
    Replace `Conv1D` of transformers, a linear layer with its weight stored the other way round, by linear layers.

    The products are the same, and adapters and packed weights then need no second form.
    """
    for name, member in cast("list[tuple[str, Any]]", list(cast("Any", module).named_modules())):
        kind = cast("type[nn.Module]", type(member))
        if kind.__name__ != "Conv1D" or not kind.__module__.startswith("transformers."):
            continue
        stored: nn.Parameter = member.weight
        inputs, outputs = stored.shape
        layer = nn.Linear(inputs, outputs, bias=member.bias is not None, device="meta")
        layer.weight = nn.Parameter(stored.detach().t(), requires_grad=stored.requires_grad)
        layer.bias = member.bias
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, layer)


def _inject(module: nn.Module, targets: list[str], rank: int) -> None:
    import peft

    loose: Any = peft
    settings = loose.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets)
    loose.inject_adapter_in_model(settings, module)
    for name, parameter in list(module.named_parameters()):
        if _LORA_MARK in name and parameter.dtype in (torch.bfloat16, torch.float16):
            owner, _, last = name.rpartition(".")
            wide = nn.Parameter(parameter.detach().float())
            setattr(module.get_submodule(owner), last, wide)


def _recompute(module: nn.Module) -> str:
    """Recompute each of the module's repeated blocks in backward."""
    blocks = _find_blocks(module)
    if not blocks:
        raise InputError(f"{type(module).__name__} has no list of equal blocks to recompute")
    _without_cache(module)
    for block in blocks:
        loose: Any = block
        loose.forward = functools.partial(
            _recomputed,
            loose.forward,
            use_reentrant=False,
            preserve_rng_state=False,
            determinism_check="none",
        )
    return f"{len(blocks)} {type(blocks[0]).__name__} blocks are recomputed in backward"


def _without_cache(module: nn.Module) -> None:
    """Switch off a language model's key and value cache, which a block that runs twice would fill twice."""
    copies: dict[int, Any] = {}
    for member in module.modules():
        config: Any = vars(member).get("config")
        if getattr(config, "use_cache", False) is True:
            # The configuration may be the user's own object, and is shared by the members.
            twin = copies.setdefault(id(config), copy.copy(config))
            twin.use_cache = False
            vars(member)["config"] = twin


def _find_blocks(module: nn.Module) -> Sequence[nn.Module]:
    """Return the largest list of children of one type that hold parameters, e.g. a transformer's layers."""
    lists = [
        list(module) for module in module.modules() if isinstance(module, (nn.ModuleList, nn.Sequential))
    ]
    repeated = [
        blocks
        for blocks in lists
        if len(blocks) > 1
        and len({type(block) for block in blocks}) == 1
        and not isinstance(blocks[0], _BROAD)
    ]
    sizes = [sum(p.numel() for block in blocks for p in block.parameters()) for blocks in repeated]
    most = max(sizes, default=0)
    return repeated[sizes.index(most)] if most else []
