"""What is around the building and the running of a step: fake tensors, where the trace is on those."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import Any

from torch import Tensor

from trainfare.fake_step.fake_build import BuildMode, movable_fakes
from trainfare.fake_step.fake_tensors import Faker
from trainfare.fake_step.real_tensors import RealTensors
from trainfare.trace import torch_private


def bytes_of(tensors: Sequence[Tensor]) -> int:
    """Return the bytes of the elements of all tensors."""
    with torch_private.without_torch_functions():  # which a class of the user's may refuse
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@contextlib.contextmanager
def making_fake(tensors: Faker | RealTensors) -> Generator[None, None, None]:
    """Make fake what a module builds inside the block, if the trace is on fake tensors."""
    if isinstance(tensors, RealTensors):
        yield
        return
    with movable_fakes(), BuildMode(tensors.mode):
        yield


def running_fake(tensors: Faker | RealTensors) -> contextlib.AbstractContextManager[Any]:
    """Run what is inside the block on fake tensors, if the trace is on those."""
    return tensors.mode if isinstance(tensors, Faker) else contextlib.nullcontext()
