"""
Devices, strategy and precision that a Trainer is asked for, kept apart from those it is built with: one CPU.

A Trainer checks for GPUs and for the packages of a strategy when it is made. Here it gets a strategy that starts
nothing and says that the world has as many devices as was asked for, so that Lightning itself shares the data between
them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import torch

from trainfare.job.launch import FP16_AS_BF16, AskedDevices, Launch
from trainfare.job.training_job import canonical_precision
from trainfare.lightning.asked_devices import count_devices
from trainfare.lightning.script.fp8_plugin import Fp8Plugin
from trainfare.lightning.strategy_arguments import KEPT, StrategyFacts, read_registered, read_strategy

_ATTRIBUTE = "trainfare_asked"
_DEEPEST = 3
"""Chosen: the sampler of a wrapper in a sampler of batches."""


@dataclass(frozen=True, slots=True)
class Asked:
    """
    What a Trainer was asked for.

    Attributes:
        devices: accelerators per node.
        num_nodes: machines.
        strategy: Lightning's word for it, and what of its arguments is counted.
        precision: Lightning's long form.
        notes: what had to be assumed, for the profile.
        fp8: what a plugin for fp8 was given; None: there is none.
        sync_batchnorm: several devices share the moments of BatchNorm.
        any_devices: as many devices as the machine has; one is assumed here.
    """

    devices: int
    num_nodes: int
    strategy: StrategyFacts
    precision: str
    notes: tuple[str, ...]
    fp8: Fp8Plugin | None = None
    sync_batchnorm: bool = False
    any_devices: bool = False


def read_asked(trainer: Any) -> Asked:
    """Return what a Trainer was asked for when it was made."""
    request: Asked = getattr(trainer._accelerator_connector, _ATTRIBUTE)  # noqa: SLF001
    return request


def replacing_connector(namespace: str, original: Callable[..., None]) -> Callable[..., None]:
    """Return an `__init__` of Lightning's accelerator connector that takes one CPU, whatever was asked for."""
    signature = inspect.signature(original)
    strategy_class: Any = type(
        "AskedStrategy", (_OneProcess, import_module(f"{namespace}.strategies").ParallelStrategy), {}
    )

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        request = _build_asked(given, import_module(f"{namespace}.strategies").StrategyRegistry)
        cpus = [torch.device("cpu")] * request.devices
        strategy = strategy_class(parallel_devices=cpus)
        strategy.num_nodes = request.num_nodes
        strategy.strategy_name = _name_strategy(given["strategy"], request.strategy.word)
        given.update(accelerator="cpu", devices=1, num_nodes=request.num_nodes, strategy=strategy)
        given.update(plugins=None, precision=None, sync_batchnorm=False, deterministic=None)
        original(*bound.args, **bound.kwargs)
        # What the module reads as `trainer.precision`.
        self.precision_plugin.precision = request.precision
        setattr(self, _ATTRIBUTE, request)

    return init


def replacing_fabric_connector(
    package: str, original: Callable[..., None], launch: Launch
) -> Callable[..., None]:
    """Return an `__init__` of Fabric's connector that takes one CPU; `launch` is told what was asked for."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        registry = import_module(f"{package}.strategies").STRATEGY_REGISTRY
        asked = _build_asked({**bound.arguments, "sync_batchnorm": False}, registry)
        notes = (*(note.replace("Trainer(", "Fabric(") for note in asked.notes), *asked.strategy.notes)
        launch.devices = AskedDevices(
            asked.devices, asked.num_nodes, asked.strategy.word, notes, asked.any_devices
        )
        launch.notes += [FP16_AS_BF16] if asked.precision == "16-mixed" else []
        bound.arguments.update(accelerator="cpu", devices=1, num_nodes=1, strategy="auto")
        original(*bound.args, **bound.kwargs)

    return init


def tolerant(original: Callable[..., None], base: type) -> Callable[..., None]:
    """
    Return an `__init__` for a strategy or plugin whose package is missing here: then it keeps its arguments alone.

    Args:
        original: its own `__init__`.
        base: the class of Lightning whose `__init__` it needs all the same.
    """
    signature = inspect.signature(original)

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            original(self, *args, **kwargs)
        except Exception:  # noqa: BLE001 - each has its own way to say that a package or device is missing
            loose: Any = base
            loose.__init__(self)
            setattr(self, KEPT, signature.bind(self, *args, **kwargs).arguments)

    return init


class _OneProcess:
    """The part of a strategy that is the same in both namespaces: one process of a world of any size."""

    global_rank = local_rank = node_rank = 0
    is_global_zero = True
    num_nodes = 1
    strategy_name = "single_device"
    parallel_devices: list[torch.device]
    notes: tuple[str, ...] = ()

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def world_size(self) -> int:
        return len(self.parallel_devices) * self.num_nodes

    @property
    def num_processes(self) -> int:
        return len(self.parallel_devices)

    @property
    def is_distributed(self) -> bool:
        return self.world_size > 1

    @property
    def distributed_sampler_kwargs(self) -> dict[str, int]:
        return {"num_replicas": self.world_size, "rank": 0}

    def reduce(self, tensor: Any, *_: object, **__: object) -> Any:
        return tensor

    def reduce_boolean_decision(self, decision: bool, *_: object, **__: object) -> bool:  # noqa: FBT001 - Lightning's
        return decision

    def broadcast(self, obj: Any, *_: object, **__: object) -> Any:
        return obj

    def barrier(self, *_: object, **__: object) -> None:
        """Do nothing: there is one process."""

    def process_dataloader(self, dataloader: Any) -> Any:
        """Share the data of a loader as on all devices where its own sampler was made for the one process here."""
        notes = [_share_among(sampler, self.world_size) for sampler in _list_samplers(dataloader)]
        self.notes = tuple(dict.fromkeys([*self.notes, *filter(None, notes)]))
        return dataloader

    def model_to_device(self) -> None:
        """Do nothing: the module stays on the CPU."""


def _build_asked(given: dict[str, Any], registry: Mapping[str, Any]) -> Asked:
    notes: list[str] = []
    devices = count_devices(given["devices"])
    if devices is None:
        notes.append(f"Trainer(devices={given['devices']!r}): each device of the machine gets this batch")
    num_nodes = given["num_nodes"]
    num_nodes = num_nodes if isinstance(num_nodes, int) and num_nodes > 0 else 1
    strategy = given["strategy"]
    if strategy in (None, "auto"):
        strategy = "ddp" if (devices or 1) * num_nodes > 1 else "single_device"
    named = isinstance(strategy, str)
    facts = read_registered(strategy.lower(), registry) if named else read_strategy(strategy)
    precision, fp8, layer_sync = given["precision"], None, bool(given["sync_batchnorm"])
    for plugin in (*_list_plugins(given["plugins"]), getattr(strategy, "_precision_plugin", None)):
        fp8 = Fp8Plugin.of(plugin, getattr(plugin, KEPT, {})) or fp8
        precision = getattr(plugin, "precision", precision) if fp8 is None else fp8.precision
        layer_sync |= "LayerSync" in {base.__name__ for base in type(plugin).__mro__}
    precision = canonical_precision(precision or "32-true")
    return Asked(devices or 1, num_nodes, facts, precision, tuple(notes), fp8, layer_sync, devices is None)


def _name_strategy(strategy: Any, word: str) -> str:
    """Return the name that libraries read of a strategy, as the one that was asked for has it."""
    if isinstance(strategy, str) and strategy != "auto":
        return strategy
    name = getattr(strategy, "strategy_name", None)
    return name if isinstance(name, str) else word


def _list_plugins(plugins: Any) -> Iterable[Any]:
    if plugins is None:
        return ()
    return plugins if hasattr(plugins, "__iter__") else (plugins,)


def _list_samplers(loader: Any) -> list[Any]:
    """Return the samplers of a loader, and those inside them."""
    samplers: dict[int, Any] = {}
    owners = [loader]
    for _ in range(_DEEPEST):
        parts = [getattr(owner, name, None) for owner in owners for name in ("sampler", "batch_sampler")]
        owners = [part for part in parts if part is not None]
        samplers |= {id(part): part for part in owners}
    return list(samplers.values())


def _share_among(sampler: Any, devices: int) -> str:
    """
    Let a sampler share its data among all devices where it shares them among the processes here, and return a note.

    Before launch there is one process, which a script takes for the whole run: its sampler then gives it all the data.
    """
    counts = {name: getattr(sampler, name, None) for name in ("num_replicas", "world_size")}
    key, processes = next(
        ((name, count) for name, count in counts.items() if type(count) is int), ("", devices)
    )
    if processes == devices:
        return ""
    name, state = type(sampler).__name__, cast("dict[str, Any]", vars(sampler))
    total, samples = state.get("total_size"), state.get("num_samples")
    if processes == 1 and type(total) is int and total == samples:
        before, length = dict(state), len(sampler)
        samples = total // devices if state.get("drop_last") else -(-total // devices)
        state.update({key: devices, "num_samples": samples, "total_size": samples * devices})
        if len(sampler) < length:
            return f"{name} was made for the one process here: its data are shared among {devices} devices"
        state.update(before)
    return f"{name} shares the data among {processes} process(es), and the Trainer has {devices} device(s)"
