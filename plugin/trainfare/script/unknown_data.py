"""
What stands for data that a script reads before it has a Trainer, where their file or server is not here.

It goes through arithmetic, indexing, `TensorDataset` and `DataLoader`; no number can be had of it, so none is wrong.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Generator
from typing import Any, Final, NoReturn

import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from trainfare.job import missing_here, place_of_caller
from trainfare.job.fit_call import Recorder
from trainfare.job.on_import import on_import
from trainfare.job.user_code import replace_attribute
from trainfare_core.errors import TargetError

_REPLACED: Final = {
    "numpy": "load loadtxt genfromtxt array asarray",
    "torch": "load from_numpy tensor as_tensor",
    "pandas": "read_csv read_parquet read_json read_pickle read_feather read_excel",
    "datasets": "load_dataset load_from_disk",
}
"""Functions that read data, or make arrays of what was read and know arrays alone."""
_OPERATORS: Final = (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul rmatmul and or xor neg "
    "invert abs lt le eq ne ge gt getitem setitem call enter exit array_function array_ufunc"
)


class UnknownDataError(TargetError, TypeError):
    """A number is wanted of data that are not here. Lightning takes a length that raises this as unknown."""


def _refuse(*_: object, **__: object) -> NoReturn:
    raise UnknownDataError(
        f"{place_of_caller()} needs a number of data that are not here, and --made-up-data makes up the batch alone: "
        "read the data in the setup of a datamodule, or describe the run as a TrainingJob"
    )


class UnknownData(IterableDataset[Any]):
    """What could not be read, and all that is made of it."""

    __iter__ = __len__ = __bool__ = __index__ = __int__ = __float__ = __complex__ = _refuse
    __contains__ = __array__ = _refuse

    def __getattr__(self, name: str) -> UnknownData:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __format__(self, _: str) -> str:
        return "unknown"

    @classmethod
    def of(cls, *_: object, **__: object) -> UnknownData:
        """Return what a function makes of data that are not here."""
        return cls()

    __torch_function__ = of


def _keep(unknown: UnknownData, *_: object, **__: object) -> UnknownData:
    return unknown


for _name in _OPERATORS.split():
    setattr(UnknownData, f"__{_name}__", _keep)


@contextlib.contextmanager
def stand_for_missing_data(recorder: Recorder) -> Generator[None, None, None]:
    """
    Answer calls that read data which are not here with `UnknownData`.

    Args:
        recorder: is told of each such call.
    """
    with contextlib.ExitStack() as stack:

        def replace(home: Any, name: str, otherwise: Callable[..., Any] = UnknownData.of) -> None:
            called = _or_else(getattr(home, name), f"{home.__name__}.{name}", otherwise, recorder)
            stack.enter_context(replace_attribute(home, name, called))

        def replace_functions(module_name: str) -> None:
            module = sys.modules[module_name]
            for name in filter(vars(module).get, _REPLACED[module_name].split()):
                replace(module, name)

        for module_name in _REPLACED:
            stack.enter_context(on_import(module_name, functools.partial(replace_functions, module_name)))
        loose: Any = DataLoader
        init = loose.__init__

        def init_unknown(loader: Any, dataset: Any, batch_size: int | None = 1, *_: Any, **__: Any) -> None:
            del dataset  # its length is what was asked for in vain
            init(loader, UnknownData(), batch_size)

        replace(DataLoader, "__init__", init_unknown)
        replace(TensorDataset, "__init__", _hold)
        replace(torch.utils.data, "random_split", _split)
        yield


def _hold(dataset: Any, *tensors: Any) -> None:
    dataset.tensors = tensors


def _split(dataset: Any, lengths: Any, *_: object, **__: object) -> list[Any]:
    return [dataset] * len(lengths)


def _or_else(
    original: Callable[..., Any], name: str, otherwise: Callable[..., Any], recorder: Recorder
) -> Callable[..., Any]:
    """Return a function that calls another one where what it reads, or is given, is not here."""

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except Exception as error:
            missing = missing_here(error)
            if missing is not None and missing.of_data:
                recorder.skip(f"{name}, whose data are not here,")
            elif not any(
                isinstance(value, (UnknownData, UnknownDataError))
                for value in (error, *args, *kwargs.values())
            ):
                raise
        return otherwise(*args, **kwargs)

    return call
