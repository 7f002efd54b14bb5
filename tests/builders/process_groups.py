"""The end of a process group that was made in the process of the tests."""

from __future__ import annotations

import gc
from collections import deque
from typing import Any

import torch.distributed as dist

_ENDED: deque[Any] = deque(maxlen=8)
"""The last groups that were ended. A module may still hold one after its test."""


def end_process_group() -> None:
    """
    End the process group, if there is one, so that no module of it is the last to hold it.

    A DistributedDataParallel that is the last joins gloo's threads without giving up Python's lock, which one of them
    may be waiting for to free the tensors of its last call: both then wait for ever, and no signal ends them.
    """
    if not dist.is_initialized():
        return
    _ENDED.append(dist.group.WORLD)
    dist.destroy_process_group()
    gc.collect()
