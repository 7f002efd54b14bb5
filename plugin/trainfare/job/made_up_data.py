"""What `--made-up-data` is given: one micro-batch, described in a line of text, and the samples of an epoch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from trainfare_core.documents import Record
from trainfare_core.errors import InputError

EXAMPLE: Final = "float32[4,16],int64[4]"
_BITS: Final = {
    "bool": 8, "uint8": 8, "int8": 8, "int16": 16, "int32": 32, "int64": 64,
    "float16": 16, "bfloat16": 16, "float32": 32, "float64": 64,
}  # fmt: skip
_MOST_BYTES: Final = 8 * 2**30
"""Chosen: above a device's micro-batch of videos; the tensors are made in the memory of this machine."""
_ITEM: Final = re.compile(r"(?:([A-Za-z_][\w.-]*)\s*:)?\s*(\w+)\s*\[([^\]]*)\]\s*(?:<\s*([0-9]{1,18}))?")


class MadeUpData(Record):
    """What stands for the data of a script that are not read."""

    batch: str | None = None
    """As `parse_batch` takes it, or the path of a `.pt` file; None: the module's `example_input_array`."""
    train_samples: int | None = None
    """Samples of an epoch over all devices; None: those of the script's own loader."""


@dataclass(frozen=True, slots=True)
class BatchItem:
    """
    One tensor of a batch.

    Attributes:
        name: its key in the batch; "" in a batch without keys.
        dtype: its name in torch.
        sizes: its shape.
        limit: whole numbers are drawn from 0 up to it, itself left out; 1 makes zeros.
    """

    name: str
    dtype: str
    sizes: tuple[int, ...]
    limit: int = 1


def parse_batch(text: str) -> tuple[BatchItem, ...]:
    """
    Return the tensors that a text describes.

    Raises:
        InputError: it describes none; the message has the part that is wrong and what to write.

    >>> parse_batch("x:float32[8,3], y:int64[8]<10")[1]
    BatchItem(name='y', dtype='int64', sizes=(8,), limit=10)
    """
    items = tuple(_parse_item(part.strip()) for part in re.split(r",(?![^\[]*\])", text))
    names = [item.name for item in items if item.name]
    if names and (len(names) < len(items) or len(set(names)) < len(names)):
        raise _refusal(text, "name all tensors, each by another name, or none")
    total_bytes = sum(math.prod(item.sizes) * _BITS[item.dtype] // 8 for item in items)
    if total_bytes > _MOST_BYTES:
        raise _refusal(text, f"more than {_MOST_BYTES // 2**30} GiB in all")
    return items


def _parse_item(part: str) -> BatchItem:
    match = _ITEM.fullmatch(part)
    if match is None:
        raise _refusal(part, "a tensor is name:dtype[sizes], or dtype[sizes] without a name")
    name, dtype, listed, limit = match.groups()
    if dtype not in _BITS:
        raise _refusal(part, f"{dtype!r} is no dtype: they are {', '.join(_BITS)}")
    sizes = listed.replace(" ", "").split(",") if listed.strip() else []
    if any(re.fullmatch(r"[1-9][0-9]{0,11}", size) is None for size in sizes):
        raise _refusal(part, "sizes are whole numbers from 1, with commas between them")
    most = 2 ** (_BITS[dtype] - (dtype != "uint8"))
    if limit is not None and ("int" not in dtype or not 1 <= int(limit) <= most):
        raise _refusal(part, f"<{limit} needs a dtype of whole numbers that holds them, and is at least 1")
    return BatchItem(name or "", dtype, tuple(map(int, sizes)), int(limit or 1))


def _refusal(part: str, what: str) -> InputError:
    shown = part if len(part) <= 60 else f"{part[:60]}..."  # chosen: a line of a terminal with the sentence
    return InputError(f"--batch, at {shown!r}: {what}; e.g. --batch '{EXAMPLE}'")
