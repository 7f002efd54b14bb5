"""What a training run of one of several processes under gloo has done, and how each process tells it to a test."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from builders.lightning_modules import MeterHarness


def describe_run(harness: MeterHarness, model: nn.Module, train: Callable[[], object]) -> dict[str, Any]:
    """Train; return the collective calls by the sequence number of the group, a hash of the weights, and the profile."""
    group = dist.distributed_c10d._get_default_group()
    before = group._get_sequence_number_for_group()
    train()
    weights = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    return {
        "sequence": group._get_sequence_number_for_group() - before,
        "weights": hashlib.sha256(weights).hexdigest(),
        "profiles": [json.loads(profile.to_json()) for profile in harness.profiles],
    }


def write_runs(folder: Path, make_runs: Callable[[], dict[str, Any]]) -> None:
    """Write what this process has done as `rank-N.json`, and end it."""
    torch.set_num_threads(1)
    (folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(make_runs()))
    dist.barrier()
    os._exit(0)  # an interpreter that ends under gloo's threads is now and then aborted, or held, by them
