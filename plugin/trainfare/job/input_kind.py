"""
What kind of samples a training loader makes: pictures to decode, tokens that are there, ...

The data set says it by its class, its features or the names in the code that makes a sample, which is read and not run;
else the shape of a batch does. No file is opened and no sample asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any, Final, cast

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.data import TensorDataset

from trainfare.job.run_facts import InputSource
from trainfare_core.job_profile import InputFacts, InputKind

_WORDS: Final[Mapping[InputKind, frozenset[str]]] = {
    "video": frozenset(("VideoReader", "VideoDecoder", "VideoCapture", "read_video", "decord")),
    "audio": frozenset(("torchaudio", "librosa", "soundfile", "AudioDecoder")),
    "pictures": frozenset(
        ("imread", "imdecode", "read_image", "decode_image", "decode_jpeg", "decode_png", "pil_loader")
    ),
    "text": frozenset(("tokenizer", "tokenize", "batch_encode_plus")),
}
"""Names in the code that makes a sample, by the kind that they show."""
_PIL: Final = frozenset(("PIL", "open"))
_MADE: Final = frozenset(("rand", "randn", "randint", "zeros", "ones", "rand_like", "randn_like"))
_READ: Final = frozenset(("open", "load", "read", "loads", "get_object"))
_FEATURES: Final[Mapping[str, InputKind]] = {"Image": "pictures", "Audio": "audio", "Video": "video"}
_LEAST_SIDE: Final = 64
"""Pixels of a side from which three channels are a picture that was decoded. A chosen value: sets of smaller pictures
(CIFAR, Tiny ImageNet's crops) lie in memory as numbers."""
_LEAST_WAVE: Final = 8_000
"""Values of a sample from which its longest side counts waves at 16 kHz, and not frames of 10 ms. A chosen value."""
_DEPTH: Final = 4
"""Data sets inside data sets, and functions that call functions, that are followed. A chosen value."""


def read_source(loader: Any) -> InputSource:
    """
    Return what a loader says of its samples; nothing where it is none, or says nothing.

    Args:
        loader: a DataLoader, or what has its `dataset`, `collate_fn` and `num_workers`.
    """
    try:
        workers = getattr(loader, "num_workers", None)
        workers = workers if type(workers) is int else None
        data: Any = getattr(loader, "dataset", None)
        kind = None if data is None else _find_kind(data, getattr(loader, "collate_fn", None))
    except Exception:  # noqa: BLE001 - attributes of the user's objects may do anything
        return InputSource()
    return InputSource(kind, workers)


def describe_input(source: InputSource, batch: Any) -> InputFacts | None:
    """Return the facts of a loader's samples by one of its batches; None where neither shows their kind."""
    pictures, video = (list(_find_frames(batch, axes)) for axes in (4, 5))
    large = [shape for shape in pictures if min(shape[-2:]) >= _LEAST_SIDE]
    kind = source.kind or (
        "video" if video else "pictures" if large else "tokens" if _has_tokens(batch) else None
    )
    if kind is None:
        return None
    frames = video if kind == "video" else pictures
    largest = max(frames, key=lambda shape: shape[-1] * shape[-2], default=())
    return InputFacts(
        kind=kind,
        workers=source.workers,
        pixels=largest[-1] * largest[-2] if largest and kind in ("pictures", "video") else None,
        frames=largest[1] if len(largest) == 4 else None,
        seconds=_count_seconds(batch) if kind == "audio" else None,
    )


def _has_tokens(batch: Any) -> bool:
    return isinstance(batch, Mapping) and any(str(key).endswith("input_ids") for key in cast("Any", batch))


def _find_frames(batch: Any, axes: int) -> Iterator[tuple[int, ...]]:
    """Yield samples, frames of video, height and width of tensors that hold three channels."""
    for tensor in _list_tensors(batch):
        shape = tuple(tensor.shape)
        if len(shape) != axes:
            continue
        for channel in (1, 2, -1) if axes == 5 else (1, -1):
            if shape[channel] == 3:
                rest = [size for axis, size in enumerate(shape) if axis != channel % axes]
                yield tuple(rest)
                break


def _list_tensors(batch: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(batch)[:64] if isinstance(leaf, torch.Tensor)]


def _count_seconds(batch: Any) -> float | None:
    longest = max(
        (int(tensor.shape[-1]) for tensor in _list_tensors(batch) if tensor.ndim > 1 and tensor.is_floating_point()),
        default=0,
    )  # fmt: skip
    return (longest / 16_000 if longest >= _LEAST_WAVE else longest / 100) or None


def _find_kind(data: Any, collate: Any, depth: int = _DEPTH) -> InputKind | None:
    """Return the kind of a data set's samples."""
    package, held = type(data).__module__.partition(".")[0], _read_attributes(data)
    if isinstance(data, TensorDataset):
        return "numbers"
    if package == "datasets":
        return _read_features(data, collate)
    if package == "torchvision":
        if type(data).__name__ == "FakeData" or hasattr(held.get("data"), "shape"):
            return "numbers"
        return "video" if type(data).__name__ in ("Kinetics", "HMDB51", "UCF101") else "pictures"
    if package == "torchaudio":
        return "audio"
    inner: Any = held.get("dataset")
    several: Any = held.get("datasets")
    if inner is None and isinstance(several, list) and several:
        inner = next(iter(cast("Any", several)))
    if inner is not None and depth and (found := _find_kind(inner, collate, depth - 1)) is not None:
        return found
    maker = data.__class__
    makers = [getattr(maker, name, None) for name in ("__getitem__", "__getitems__", "__iter__")]
    names = frozenset(name for each in (*makers, collate) for name in _list_names(each, data, set(), _DEPTH))
    for kind, words in _WORDS.items():
        if names & words or (kind == "pictures" and names >= _PIL):
            return kind
    in_memory = names & _MADE or any(hasattr(held[name], "shape") for name in names & held.keys())
    return "numbers" if in_memory and not names & _READ else None


def _read_attributes(owner: Any) -> Mapping[str, Any]:
    """Return what an object holds, without a property of the user's."""
    return getattr(owner, "__dict__", {})


def _read_features(data: Any, collate: Any) -> InputKind | None:
    """Return the kind of samples of Hugging Face's `datasets`."""
    features: Any = getattr(data, "features", None)
    if not isinstance(features, Mapping):
        return None
    columns = cast("Mapping[str, Any]", features)
    for feature in columns.values():
        if kind := _FEATURES.get(type(feature).__name__):
            return kind
    if "input_ids" in columns:
        return "tokens"
    if any(getattr(feature, "dtype", None) == "string" for feature in columns.values()):
        return "text"
    return "numbers" if collate is None or columns else None


def _list_names(function: Any, owner: Any, seen: set[CodeType], depth: int) -> Iterator[str]:
    """Yield the names that a function's code uses, and those of the user's functions that it calls."""
    if type(function) is functools.partial:
        function = cast("Any", function).func
    if isinstance(function, MethodType):
        bound = cast("Any", function)
        owner, function = bound.__self__, bound.__func__
    if not isinstance(function, FunctionType) or function.__code__ in seen:
        return
    seen.add(function.__code__)
    codes = [function.__code__]
    for code in codes:
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    kind = owner.__class__
    for name in {name for code in codes for name in code.co_names}:
        yield name
        used = function.__globals__.get(name, getattr(kind, name, None))
        for value in (used, _read_attributes(owner).get(name)):
            yield str(getattr(value, "__module__", "") or getattr(value, "__name__", "")).partition(".")[0]
            if depth and isinstance(value, FunctionType | MethodType | functools.partial):
                yield from _list_names(value, owner, seen, depth - 1)
