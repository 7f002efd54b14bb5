"""What the arguments of Lightning's strategies change in a profile, and which of them it does not count."""

from __future__ import annotations

import csv
import functools
import inspect
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import torch.utils.checkpoint
from torch import nn

from trainfare.job.training_job import HYBRID, WORDS

KEPT: Final = "trainfare_arguments"
"""Attribute with the arguments of a strategy whose package is missing here: it keeps nothing else."""


class Arguments(NamedTuple):
    """
    Arguments of one strategy of which the same becomes.

    Attributes:
        strategy: its class.
        names: of the arguments, with spaces between.
        fate: "read", "not counted" or "no cost".
        effect: what they change, or what is taken instead.
    """

    strategy: str
    names: str
    fate: str
    effect: str


with (files(__package__ or "") / "strategy_arguments.csv").open(encoding="utf-8") as table:
    ARGUMENTS: Final = tuple(Arguments(**row) for row in csv.DictReader(table))
"""What becomes of every argument; docs/scripts.md shows the same table."""
_DEFAULTS: Final[Mapping[str, Any]] = {
    "limit_all_gathers": True, "use_orig_params": True, "backward_prefetch": "BACKWARD_PRE",
}  # fmt: skip
"""Of arguments that only torch's wrapper names, where it is not None or False; Lightning sets `use_orig_params`."""
_WRITTEN: Final = frozenset((
    "activation_checkpointing", "aio", "zero_optimization", "zero_allow_untested_optimizer", "fp16", "bf16",
    "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping",
))  # fmt: skip
"""Keys that Lightning itself writes into a configuration of DeepSpeed, from what is read elsewhere."""
_OFFLOADS: Final = {
    "offload_optimizer": ("offload_optimizer", "optimizer"),
    "offload_param": ("offload_parameters", "params"),
}
"""Keys of such a configuration: the argument, and what the names of those that say how have in them."""
_MAX_CHARACTERS: Final = 500
"""Of a note: a job profile allows no more."""
_WORDS: Final[Mapping[str, str]] = {row["class"]: row["word"] for row in WORDS if row["class"]}


@dataclass(frozen=True, slots=True)
class StrategyFacts:
    """
    What a strategy says of a run.

    Attributes:
        word: Lightning's word for it; the name of a class that it does not know.
        notes: what of its arguments is not counted, for the profile.
        checkpointing: which modules FSDP checkpoints, as torch's `apply_activation_checkpointing` takes it.
    """

    word: str
    notes: tuple[str, ...] = ()
    checkpointing: Mapping[str, Any] = field(default_factory=dict[str, Any])


def read_strategy(strategy: object) -> StrategyFacts:
    """Read a strategy of either namespace, or one derived from it."""
    cls = _find_class(type(strategy))
    state = vars(strategy)
    if cls.__name__ == "DeepSpeedStrategy":
        arguments: dict[str, Any] = _read_deepspeed(state)
    else:
        kept: dict[str, Any] = {**state, **state.get("_ddp_kwargs", {}), **(state.get("kwargs") or {})}
        arguments = {name: kept.get(name, state.get(f"_{name}")) for name in _list_names(cls.__name__)}
    # Once processes have started, Lightning keeps the backend that it has chosen itself.
    devices: Sequence[torch.device] = getattr(strategy, "parallel_devices", None) or ()
    backend = "gloo" if any(device.type == "cpu" for device in devices) else "nccl"
    if arguments.get("process_group_backend") == backend:
        del arguments["process_group_backend"]
    policy: dict[str, Any] = state.get("_activation_checkpointing_kwargs") or {}
    return _build_facts(cls, arguments, policy)


def read_registered(word: str, registry: Mapping[str, Any]) -> StrategyFacts:
    """
    Read a strategy that is given by its name.

    Args:
        word: the name.
        registry: Lightning's, of the namespace.
    """
    if word not in registry:
        return StrategyFacts(word)
    cls = _find_class(registry[word]["strategy"])
    return replace(_build_facts(cls, registry[word]["init_params"], {}), word=word)


def checkpoint_modules(module: nn.Module, policy: Mapping[str, Any]) -> Sequence[str]:
    """
    Let those modules be computed again in the backward pass that FSDP would wrap for it; return notes.

    Their class becomes one derived from it, where FSDP puts a wrapper around each: names and copies stay as they are.
    """
    wrappers: Any = import_module("torch.distributed.algorithms._checkpoint.checkpoint_wrapper")
    chosen: list[nn.Module] = []

    def choose(member: nn.Module, **_: object) -> nn.Module:
        chosen.append(member)
        return member

    # Lightning leaves such a module as it is, too.
    if not any(isinstance(member, wrappers.CheckpointWrapper) for member in module.modules()):
        wrappers.apply_activation_checkpointing(module, checkpoint_wrapper_fn=choose, **policy)
    for member in chosen:
        member.__class__ = _derive_recomputed(cast("Any", type(member)))
    names = ", ".join(sorted({type(member).__name__ for member in chosen})) or "none"
    again = f"{len(chosen)} modules ({names}) are computed again in the backward pass"
    return (f"activation checkpointing of FSDPStrategy: {again}; another strategy needs it in the module",)


@functools.cache
def _derive_recomputed(cls: Any) -> Any:
    """Return a class of the same name whose calls are checkpointed; one that is so already stays."""
    if "trainfare_recomputed" in vars(cls):
        return cls

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        checkpoints: Any = torch.utils.checkpoint
        return checkpoints.checkpoint(
            functools.partial(cls.__call__, self), *args, use_reentrant=False, **kwargs
        )

    named = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(cls.__name__, (cls,), {**named, "__call__": call, "trainfare_recomputed": True})


def _find_class(cls: type) -> type:
    """Return the first class of Lightning from which a strategy derives, else its own."""
    return next((base for base in cls.__mro__ if base.__name__ in _WORDS), cls)


def _list_names(strategy: str) -> list[str]:
    return [name for row in ARGUMENTS if row.strategy == strategy for name in row.names.split()]


def _read_deepspeed(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a configuration stands for, which replaces all others, as DeepSpeed reads it."""
    arguments: dict[str, Any] = dict(state.get(KEPT, {}))
    config: Any = state.get("config") or arguments.get("config") or os.environ.get("PL_DEEPSPEED_CONFIG_PATH")
    if isinstance(config, (str, Path)):
        config = json.loads(Path(config).read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        return arguments
    sections = cast("dict[str, Any]", config)
    given: dict[str, Any] = {"stage": 0}
    for section in ("activation_checkpointing", "aio", "zero_optimization"):
        given.update(sections.get(section) or {})
    for key, (argument, part) in _OFFLOADS.items():
        how: dict[str, Any] = dict(given.pop(key, None) or {})
        device = how.pop("device", None)
        device = None if device == "none" else device
        given |= {argument: device is not None, f"offload_{part}_device": device}
        given |= {f"{part}_{name}" if "buffer" in name else name: value for name, value in how.items()}
    others = given.keys() - set(_list_names("DeepSpeedStrategy"))
    return {**given, "config": sorted(others | (sections.keys() - _WRITTEN))}


def _build_facts(cls: type, given: Mapping[str, Any], policy: Mapping[str, Any]) -> StrategyFacts:
    if cls.__name__ not in {row.strategy for row in ARGUMENTS}:
        return StrategyFacts(_WORDS.get(cls.__name__, cls.__name__))
    defaults = {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}
    arguments = {**defaults, **_DEFAULTS, **{name: _simplify(value) for name, value in given.items()}}
    parts: list[tuple[str, str]] = []
    for row in ARGUMENTS:
        if (row.strategy, row.fate) == (cls.__name__, "not counted"):
            names = ", ".join(
                name
                for name in row.names.split()
                if _differs(arguments.get(name), _DEFAULTS.get(name, defaults.get(name)))
            )
            parts += [(names, row.effect)] if names else []
    sharding = arguments.get("sharding_strategy")
    if sharding in ("SHARD_GRAD_OP", "_HYBRID_SHARD_ZERO2"):
        parts.append((str(sharding), "weights stay gathered between forward and backward"))
    if isinstance(arguments.get("config"), list) and arguments["config"]:
        parts.append((", ".join(arguments["config"]), "of its config"))
    note = f"not counted of {cls.__name__}: {'; '.join(f'{names} ({effect})' for names, effect in parts)}"
    if len(note) > _MAX_CHARACTERS:
        note = f"not counted of {cls.__name__}: {', '.join(names for names, _ in parts)}"
    return StrategyFacts(_choose_word(cls.__name__, arguments), (note,) if parts else (), policy)


def _choose_word(strategy: str, arguments: Mapping[str, Any]) -> str:
    """Return the word of Lightning's registry whose strategy does the same; else the name of the class."""
    word = _WORDS.get(strategy, strategy)
    if word == "ddp" and arguments.get("find_unused_parameters") is not None:
        return f"ddp_find_unused_parameters_{bool(arguments['find_unused_parameters'])}".lower()
    if word == "fsdp":
        sharding = str(arguments.get("sharding_strategy")).upper()
        if sharding == "NO_SHARD":
            return "ddp"
        return HYBRID if "HYBRID" in sharding else word + "_cpu_offload" * bool(arguments.get("cpu_offload"))
    if word != "deepspeed":
        return word
    stage = int(arguments.get("stage", 2)) if arguments.get("zero_optimization", True) else 0
    if stage == 0:
        return "ddp"
    devices = [
        arguments.get(f"offload_{part}_device")
        for argument, part in _OFFLOADS.values()
        if arguments.get(argument) and (stage == 3 or part == "optimizer")
    ]
    offload = "_offload" * bool(devices) + "_nvme" * (stage == 3 and "nvme" in devices)
    return f"deepspeed_stage_{stage}{offload}"


def _simplify(value: Any) -> Any:
    """Return the name of a constant, and whether torch's `CPUOffload` offloads."""
    return value.name if isinstance(value, Enum) else getattr(value, "offload_params", value)


def _differs(value: Any, default: Any) -> bool:
    return value is not None and value != default and bool(value or default)
