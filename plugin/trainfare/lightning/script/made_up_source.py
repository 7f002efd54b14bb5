"""The batch and the loader of a run whose data are not read."""

from __future__ import annotations

import ast
import contextlib
import inspect
import itertools
import textwrap
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils._pytree import tree_map_only
from torch.utils.data import DataLoader

from trainfare.job import describe, describe_raised, place_in_user_code
from trainfare.job.made_up_data import EXAMPLE, BatchItem, MadeUpData, parse_batch
from trainfare.lightning.callbacks import is_lightnings
from trainfare.lightning.run_length import loader_batch_size
from trainfare.script.unknown_data import UnknownDataError
from trainfare.trace import count_samples
from trainfare_core.errors import TargetError

NO_LENGTH: Final = "the samples of an epoch are not known: give --train-samples N"


class MadeUpSource:
    """
    Makes up the data of one call of `fit`.

    Attributes:
        batches: that one, once `set_up_training` was called for a run that trains.
        notes: what is made up, and what the user's code could not do, for the profile.

    Args:
        data: what the user gives.
        module: the module of the call.
    """

    def __init__(self, data: MadeUpData, module: Any) -> None:
        self._data, self._module = data, module
        self.batches: tuple[Any, ...] = ()
        self.notes: list[str] = []

    @contextlib.contextmanager
    def tolerate_missing(self, loop: Any = None) -> Generator[None, None, None]:
        """Note what the user's code raises where its data are not here, or that a loop has no batch, and go on."""
        try:
            yield
        except (Exception, SystemExit) as error:  # noqa: BLE001 - each library has its own way to miss data
            where = place_in_user_code(error.__traceback__) or "the call of fit"
            what = "it needs data" if isinstance(error, UnknownDataError) else describe(error)
            self.notes.append(
                f"setting up the data stopped at {where} ({what}): what follows there was not done"
            )
        else:
            if 0 in (getattr(loop, "max_batches", None), *getattr(loop, "_max_batches", ())):
                self.notes.append("the script's data have no batch here")

    def set_up_training(self, trainer: Any) -> None:
        """
        Make the batch, and a loader where the script's own has none here or the samples of an epoch are given.

        Raises:
            TargetError: the batch is not known, or contradicts the loader.
        """
        loop, before = trainer.fit_loop, len(self.notes)
        with self.tolerate_missing(loop):
            loop.setup_data()
        is_missing = len(self.notes) > before
        if loop._combined_loader is None and not is_missing:  # noqa: SLF001 - nothing is trained
            return
        size, samples = loader_batch_size(trainer), self._data.train_samples
        self.batches = (self._make_batch(size),)
        count = count_samples(self.batches[0])
        if size and count and count != size:
            msg = f"the script's loader gives {size} samples in a batch, and --batch has {count}"
            raise TargetError(f"{msg}: give {size} as the first size of each tensor")
        if samples is not None and not count:
            raise TargetError("--train-samples: the first sizes of --batch are its samples, and they differ")
        if samples is not None or is_missing:
            self._replace_loader(loop, samples, count)

    @staticmethod
    def _replace_loader(loop: Any, samples: int | None, size: int | None) -> None:
        """Give a loop a loader of this many samples, or one without a length."""
        loaders: list[Any] = getattr(loop._combined_loader, "flattened", [])  # noqa: SLF001
        drop_last = any(getattr(loader, "drop_last", False) for loader in loaders)
        rows: Any = range(samples or 0)
        loader = DataLoader(rows, size, drop_last=drop_last) if samples else itertools.repeat(None)
        loop._combined_loader, loop._data_source.instance = None, loader  # noqa: SLF001
        try:
            loop.setup_data()
        except Exception as error:
            raise TargetError(describe_raised("setting up made-up data", error, NO_LENGTH)) from error

    def _make_batch(self, size: int | None) -> Any:
        text = self._data.batch
        if text is None:
            batch, what = self._expand_example(size)
        elif text.endswith(".pt"):
            batch, what = torch.load(text, weights_only=True), f"that of --batch {Path(text).name}"
        else:
            batch, what = build_batch(parse_batch(text)), f"that of --batch {text[:200]!r}"
        unknown = "the wait for data and how batches differ are unknown"
        self.notes.insert(0, f"made-up data: the batch is {what}; no batch was read, and {unknown}")
        return batch

    def _expand_example(self, size: int | None) -> tuple[Any, str]:
        """Return the module's example with as many samples as the loader's batches have."""
        name = f"{type(self._module).__name__}.example_input_array"
        example = getattr(self._module, "example_input_array", None)
        count = count_samples(example)
        if example is None or not _keeps_whole(self._module, example):
            why = "is not set" if example is None else "has no targets, and training_step may need some"
            raise TargetError(f"--made-up-data: {name} {why}: describe one batch, e.g. --batch '{EXAMPLE}'")
        if size is None or count is None:
            return example, name
        batch: Any = tree_map_only(
            torch.Tensor, lambda item: item[:1].repeat(size, *[1] * (item.ndim - 1)), example
        )
        return batch, f"{name}, its first sample {size} times"


def build_batch(items: tuple[BatchItem, ...]) -> Any:
    """Return the tensors of a described batch, the same ones each time."""
    generator = torch.Generator().manual_seed(0)

    def build(item: BatchItem) -> torch.Tensor:
        dtype: torch.dtype = getattr(torch, item.dtype)
        if dtype.is_floating_point:
            return torch.randn(item.sizes, dtype=dtype, generator=generator)
        if dtype == torch.bool:  # a mask that selects everything is an upper bound of the work
            return torch.ones(item.sizes, dtype=dtype)
        return torch.randint(item.limit, item.sizes, dtype=dtype, generator=generator)

    tensors = [build(item) for item in items]
    if items[0].name:
        return {item.name: tensor for item, tensor in zip(items, tensors, strict=True)}
    return tensors[0] if len(tensors) == 1 else tuple(tensors)


def _keeps_whole(module: Any, example: Any) -> bool:
    """
    Return whether `training_step` gives its batch to the forward pass and to nothing but functions of torch.

    Taking it apart, `x, y = batch`, would cut a tensor of inputs in two without an error.
    """
    if isinstance(example, dict):  # a key that it lacks is an error
        return True
    try:
        hooks = ("on_before_batch_transfer", "on_after_batch_transfer", "on_train_batch_start")
        if not all(is_lightnings(getattr(module, hook)) for hook in hooks):
            return False
        tree = ast.parse(textwrap.dedent(inspect.getsource(module.training_step)))
        name = next(iter(inspect.signature(module.training_step).parameters))
    except (OSError, TypeError, SyntaxError, StopIteration):
        return False
    kept: list[ast.AST] = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function = ast.unparse(call.func)
        if function in ("self", "self.forward") and not isinstance(example, torch.Tensor):
            kept += [value.value for value in call.args if isinstance(value, ast.Starred)]
        elif function in ("self", "self.forward") or function.startswith(("F.", "torch.", "nn.")):
            kept += call.args
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name]
    return all(use in kept for use in uses)
