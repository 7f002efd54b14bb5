"""How many processes and machines train together, and the precision of their weights: the same in every loop."""

from __future__ import annotations

import os
from typing import Final

import torch
from torch import nn

_TRUE: Final = {torch.bfloat16: "bf16-true", torch.float16: "16-true", torch.float64: "64-true"}


def find_processes() -> tuple[int, int, int]:
    """Return the rank of this process, how many train together, and on how many machines."""
    dist = torch.distributed
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1, 1
    world = dist.get_world_size()
    return dist.get_rank(), world, count_nodes(world)


def count_nodes(world_size: int) -> int:
    """Return the machines of a run, by what torchrun and accelerate set."""
    local = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, world_size // int(local)) if local.strip("0").isdecimal() else 1


def read_precision(model: nn.Module, mixed: str) -> str:
    """
    Return the precision of a run in Lightning's words: weights of one type in 16 or 64 bits leave autocast no cast.

    Args:
        model: with the weights that are trained.
        mixed: the precision with other weights.
    """
    dtypes = {p.dtype for p in model.parameters() if p.requires_grad and p.is_floating_point()}
    return _TRUE.get(dtypes.pop(), mixed) if len(dtypes) == 1 else mixed
