"""
Copy modules, optimizers and batches onto fake tensors: same shapes and dtypes, no memory, originals unchanged.

A fake tensor has shape, stride, dtype and device, and torch runs its meta kernels on it, so a model of any size can
take a whole training step on a laptop.
"""

from __future__ import annotations

import contextlib
import copy
import copyreg
import random
import sys
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, Dataset

from trainfare.fake_step import module_parts
from trainfare.fake_step.known_values import keep_value
from trainfare.fake_step.module_parts import all_modules, is_compile_wrapper, unwrap_compiled
from trainfare.fake_step.user_errors import FakeTraceError
from trainfare_core.errors import TraceError
from trainfare_core.number_format import list_items

_LARGE_ARRAY_BYTES = 64 * 2**20
"""Arrays above this size are shared instead of copied: a chosen value; copying a data set could fill memory."""
_SEED = 0
"""Chosen: any number does; where the generators begin in every trace, so that the same job gives the same profile."""
_IMMUTABLE = (int, float, str, bool, bytes, type(None), torch.dtype, torch.device)
_KEPT_HOOK_PACKAGES = ("torch", "torchmetrics", "pytorch_lightning", "lightning", "transformers", "peft")
"""Packages whose module hooks are copied; see `Faker.copy_module`."""


def new_mode() -> FakeTensorMode:
    """Make a fake-tensor mode that treats real tensors it meets (constants, closures) as fake ones."""
    return FakeTensorMode(allow_non_fake_inputs=True)


class Faker:
    """
    Converts tensors, modules and optimizers to fake ones; a tensor converted twice gives the same fake tensor.

    Args:
        mode: the mode that the fake tensors belong to.
        float_dtype: floating-point parameters, buffers and inputs become this dtype, as in "bf16-true".

    Attributes:
        compiled: whether a `torch.compile` wrapper was removed.
        notes: what could not be copied, one sentence each.
        batch_tensors: the fake tensors of the last batch, however it is nested.
        parameters: of the module as it is optimized; empty until then.
    """

    def __init__(self, mode: FakeTensorMode, float_dtype: torch.dtype | None = None) -> None:
        self.mode = mode
        self.float_dtype = float_dtype
        self.compiled = False
        self.notes: list[str] = []
        self.batch_tensors: list[Tensor] = []
        self.parameters: list[nn.Parameter] = []
        self._memo: dict[int, Any] = {}
        self._keep: list[Any] = []
        self._hooks_left_out: list[str] = []
        self._keeps_values, self._of_batch = True, False

    def tensor(
        self, value: Tensor, float_dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        """Return the fake tensor of a tensor; the same tensor always gives the same one."""
        known = self._memo.get(id(value))
        if known is not None:
            return cast("Tensor", known)
        _refuse_without_shape(value)
        twin = self._twin(value)
        dtype = float_dtype if float_dtype is not None and twin.is_floating_point() else twin.dtype
        if twin.dtype != dtype or (device is not None and twin.device != device):
            twin = self._empty(twin, dtype, device or twin.device)
        if twin is not value:
            twin.grad = None
            _carry_attributes(value, twin)
            if self._keeps_values:
                keep_value(twin, value, of_batch=self._of_batch)
        self._remember(value, twin)
        self._memo[id(twin)] = twin
        return twin

    def copy_module(self, module: nn.Module) -> nn.Module:
        """
        Copy a live module onto fake tensors; the original, its gradients and its hooks stay unchanged.

        Hooks are copied only if they come from torch, torchmetrics or Lightning: a hook of the user's would pass fake
        tensors to the user's own objects.

        Raises:
            TraceError: the module is TorchScript, or its parameters are sharded over devices.
        """
        members = all_modules(module)
        members_inside = [member for member in members if not is_compile_wrapper(member)]
        self.compiled |= len(members_inside) < len(members)
        for member in members_inside:
            if isinstance(member, torch.jit.ScriptModule):
                msg = f"{type(member).__name__} is a TorchScript module, and its step has no Python to trace"
                raise FakeTraceError(
                    f"{msg}: give the nn.Module it was made from, or measure one step with FareMeter", msg
                )
            self._remember(member, member.__class__.__new__(member.__class__))
        for member in members:
            self._remember(member, self._memo[id(unwrap_compiled(member))])
        with _CopyMode(self.tensor):
            for member in members_inside:
                for value in module_parts.tensors_of(member):
                    self.tensor(value, self.float_dtype)
            for member in members_inside:
                self._fill(member, self._memo[id(member)])
        if self._hooks_left_out:
            names = list_items(list(dict.fromkeys(self._hooks_left_out)), 300)
            count = len(self._hooks_left_out)
            self.notes.append(
                f"{count} module hooks of the user's were not run in the trace, and their work is not counted: {names}"
            )
        return cast("nn.Module", self._memo[id(module)])

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Make every tensor of a module that was built for the trace fake, in place, and undo `torch.compile`."""
        self.compiled |= is_compile_wrapper(module)
        module = unwrap_compiled(module)
        for member in all_modules(module):
            for holder in (module_parts.parameters_of(member), module_parts.buffers_of(member)):
                loose: dict[str, Any] = cast("dict[str, Any]", holder)
                for name, value in loose.items():
                    if value is not None:
                        loose[name] = self.tensor(value, self.float_dtype)
            children = module_parts.children_of(member)
            for name, child in children.items():
                if child is not None and is_compile_wrapper(child):
                    self.compiled = True
                    children[name] = unwrap_compiled(child)
        for member in all_modules(module):
            attributes = vars(member)
            self.compiled |= module_parts.strip_compile(attributes)
            for name, value in attributes.items():
                if name not in ("_parameters", "_buffers", "_modules"):
                    attributes[name] = self._swap(value)
        return module

    def copy_optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Copy a live optimizer with its state, bound to the fake copies of its parameters."""
        original: Any = getattr(optimizer, "_optimizer", optimizer)
        twin: torch.optim.Optimizer = original.__class__.__new__(original.__class__)
        self._remember(original, twin)
        self._keep_step_counts(original.state.values())
        self._keeps_values = False  # of moments, which are as many as the weights
        with _CopyMode(self.tensor):
            for name, value in cast("dict[str, Any]", vars(original)).items():
                if name == "step":
                    continue
                hooks = name.startswith("_optimizer_") and isinstance(value, OrderedDict)
                vars(twin)[name] = OrderedDict[int, Any]() if hooks else self.value(value)
        self._keeps_values = True
        return twin

    def _keep_step_counts(self, states: Iterable[dict[str, Any]]) -> None:
        """Copy step counts with their values: Adam and its variants read them on the host for bias correction."""
        for state in states:
            for value in state.values():
                if isinstance(value, Tensor) and value.device.type == "cpu" and value.dim() == 0:
                    number = value.item()
                    with self.mode:
                        self._remember(value, torch.tensor(number, dtype=value.dtype))

    def value(self, value: Any) -> Any:
        """Copy any object with its tensors made fake; one that cannot be copied is shared."""
        if isinstance(value, _IMMUTABLE) or _is_shared(value):
            return value
        if isinstance(value, torch.Generator):
            return value.clone_state()
        known = len(self._memo)
        try:
            with _generators_cloned():
                return copy.deepcopy(value, self._memo)
        except TraceError:
            raise
        except Exception:  # noqa: BLE001 - any __deepcopy__ of the user's may fail in any way
            for key in list(self._memo)[known:]:
                del self._memo[key]
        kind = module_parts.container_class(value)
        return value if kind is None else self._copy_contents(value, kind)

    def _copy_contents(self, container: Any, kind: Any) -> Any:
        """Copy a container whose class cannot be made of one: its items and attributes."""
        twin = kind.__new__(type(container))
        self._remember(container, twin)
        items = [self.value(item) for item in module_parts.items_of(container, kind)]
        module_parts.put_items(twin, kind, items)
        attributes: dict[str, Any] = getattr(container, "__dict__", {})
        for name, value in attributes.items():
            vars(twin)[name] = self.value(value)
        return twin

    def batch(self, batch: Any, device: torch.device | None = None) -> Any:
        """
        Return a batch with every tensor made fake, floating-point ones in `float_dtype` where that is set.

        Args:
            batch: any nested structure.
            device: the device to which the Trainer would move it; None keeps each tensor's device.
        """
        self.batch_tensors, self._of_batch = [], True

        def convert(value: Tensor) -> Tensor:
            twin = self.tensor(value, self.float_dtype, device)
            self.batch_tensors.append(twin)
            return twin

        with _CopyMode(convert):
            values = self.value(batch)
        self._of_batch = False
        return values

    def _twin(self, value: Tensor) -> Tensor:
        if value.device.type == "meta":
            return self._empty(value, value.dtype, torch.device("cpu"))
        if isinstance(value, FakeTensor):
            ours = value.fake_mode is self.mode
            return value if ours else self._empty(value, value.dtype, value.device)
        return self.mode.from_tensor(value if value.is_leaf else value.detach(), static_shapes=True)

    def _empty(self, value: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
        with self.mode, torch.no_grad():
            plain = torch.empty_strided(value.shape, value.stride(), dtype=dtype, device=device)
        return with_properties_of(value, plain)

    def _remember(self, value: Any, twin: Any) -> None:
        self._memo[id(value)] = twin
        self._keep.append((value, twin))

    def _fill(self, module: nn.Module, twin: nn.Module) -> None:
        state = module_parts.state_of(module)
        self.compiled |= (
            module_parts.strip_compile(state) or vars(module).get("_compiled_call_impl") is not None
        )
        filled: dict[str, Any] = {}
        for name, value in state.items():
            if name in module_parts.HOOKS:
                filled[name] = self._select_hooks(value)
            elif name in ("_parameters", "_buffers", "_modules"):
                filled[name] = type(value)(
                    (key, None if entry is None else self._memo[id(entry)]) for key, entry in value.items()
                )
            elif name in module_parts.LIGHTNING_LINKS:
                filled[name] = None
            else:
                filled[name] = self.value(value)
        restore: Callable[[dict[str, Any]], None] = getattr(twin, "__setstate__", vars(twin).update)
        restore(filled)

    def _select_hooks(self, hooks: Mapping[int, Any]) -> OrderedDict[int, Any]:
        hooks_left = OrderedDict[int, Any]()
        for key, hook in hooks.items():
            home: str = getattr(hook, "__module__", None) or type(hook).__module__
            if home.split(".", maxsplit=1)[0] in _KEPT_HOOK_PACKAGES:
                hooks_left[key] = self.value(hook)
            else:
                self._hooks_left_out.append(getattr(hook, "__qualname__", type(hook).__qualname__))
        return hooks_left

    def _swap(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.tensor(value)
        if type(value) in (list, tuple) and any(isinstance(item, Tensor) for item in value):
            return type(value)(self._swap(item) for item in value)
        entries = _entries(value)
        if any(isinstance(item, Tensor) for item in entries.values()):
            return {key: self._swap(item) for key, item in entries.items()}
        return value


def copy_nested(value: Any, convert: Callable[[Tensor], Tensor]) -> Any:
    """Copy a nested value of any form with each tensor replaced by what `convert` returns for it."""
    with _CopyMode(convert):
        return copy.deepcopy(value)


def copy_containers(batch: Any, *, cloned: bool = False) -> Any:
    """
    Copy what a batch is made of, so that a step that writes into it leaves the batch itself as it is.

    Args:
        batch: any nested structure; one that cannot be copied is returned as it is.
        cloned: whether the tensors get storages of their own.
    """

    def copy_tensor(tensor: Tensor) -> Tensor:
        twin = tensor.detach().clone() if cloned else tensor.detach()
        _carry_attributes(tensor, twin.requires_grad_(tensor.requires_grad))
        return twin

    try:
        return copy_nested(batch, copy_tensor)
    except Exception:  # noqa: BLE001 - any __deepcopy__ of the user's may fail in any way
        return batch


@contextlib.contextmanager
def rng_untouched() -> Generator[None, None, None]:
    """Restore the random states of torch, Python and NumPy, the default dtype and the grad mode afterwards."""
    cuda: Any = torch.cuda
    generators: Any = torch.random
    devices = range(cuda.device_count()) if cuda.is_initialized() else ()
    python_state = random.getstate()
    numpy: Any = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy is not None else None
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    try:
        with generators.fork_rng(devices):
            yield
    finally:
        random.setstate(python_state)
        if numpy is not None and numpy_state is not None:
            numpy.random.set_state(numpy_state)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)


def seed_random() -> None:
    """Start the random numbers of torch on the CPU, of Python and of NumPy at the same place each time."""
    random.seed(_SEED)
    torch.default_generator.manual_seed(_SEED)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(_SEED)


@contextlib.contextmanager
def seeded_random() -> Generator[None, None, None]:
    """
    Read data with the same random numbers each time, and leave those of the user as they were.

    So two traces of one data set see the same batches, whatever a changed model drew before.
    """
    with rng_untouched():
        seed_random()
        yield


def with_properties_of(value: Tensor, plain: Tensor) -> Tensor:
    """Return `plain` with the properties of `value`: a parameter if it is one, its requires_grad and attributes."""
    twin: Tensor = plain.detach()
    if isinstance(value, nn.Parameter):
        twin = nn.Parameter(twin, requires_grad=value.requires_grad)
    else:
        twin.requires_grad_(value.requires_grad and value.is_leaf)
    _carry_attributes(value, twin)
    return twin


@contextlib.contextmanager
def _generators_cloned() -> Generator[None, None, None]:
    """Copy each torch.Generator with `clone_state`: torch 2.8 would read its pickled state, a fake tensor, and fail."""
    before = copyreg.dispatch_table.get(torch.Generator)
    copyreg.dispatch_table[torch.Generator] = lambda generator: (generator.clone_state, ())
    try:
        yield
    finally:
        if before is None:
            del copyreg.dispatch_table[torch.Generator]
        else:
            copyreg.dispatch_table[torch.Generator] = before


class _CopyMode(TorchFunctionMode):
    """Makes `copy.deepcopy` of any tensor return `convert(tensor)`."""

    def __init__(self, convert: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._convert = convert

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        # `Parameter.__deepcopy__` does not ask the mode and clones its data.
        copies = func is getattr(Tensor, "__deepcopy__", None) or func is Tensor.clone
        return self._convert(args[0]) if copies else func(*args, **(kwargs or {}))


def _entries(value: Any) -> dict[Any, Any]:
    """Return a value that is exactly a dict, and an empty dict for anything else."""
    return value if type(value) is dict else {}  # pyright: ignore[reportUnknownVariableType]


def _carry_attributes(value: Tensor, twin: Tensor) -> None:
    """Copy attributes that users set on a parameter, e.g. `weight.no_weight_decay = True`."""
    for name, attribute in vars(value).items():
        if name not in vars(twin):
            setattr(twin, name, attribute)


def _is_shared(value: Any) -> bool:
    """Return whether a value is shared instead of copied: data sets, loaders, trainers, loggers and large arrays."""
    if isinstance(value, (Dataset, DataLoader)):
        return True
    if any(base.__name__ in ("Trainer", "Logger", "LightningDataModule") for base in type(value).__mro__):
        return True
    size = getattr(value, "nbytes", 0)
    return not isinstance(value, Tensor) and isinstance(size, int) and size > _LARGE_ARRAY_BYTES


def _refuse_without_shape(value: Tensor) -> None:
    if type(value).__name__ in ("DTensor", "ShardedTensor", "FlatParameter"):
        msg = f"a parameter is a {type(value).__name__}: a trace of sharded weights would miss a part of the step"
        raise TraceError(f"{msg}; describe the run as a TrainingJob and trace it before launch instead")
    if nn.parameter.is_lazy(value):
        raise TraceError(
            "the module has a lazy layer, whose parameters get their shapes from its first batch: give the layer its "
            "sizes, or run one batch through the module where it is built"
        )
