"""
Train with Hugging Face's Trainer on two processes under gloo, without and with FareMeter; each rank writes what it saw.

    python -m torch.distributed.run --nproc-per-node 2 tests/builders/huggingface_ranks.py FOLDER
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def train(folder: Path, *, meter: bool) -> dict[str, Any]:
    """Train, and return the collective calls by the sequence number of the group, a hash of the weights, and the profile."""
    from builders.huggingface import attach_meter, make_classifier, make_trainer
    from builders.lightning_modules import MeterHarness

    harness = MeterHarness()
    made = make_trainer(
        folder, make_classifier(), max_steps=10, gradient_accumulation_steps=2, ddp_backend="gloo"
    )
    if meter:
        attach_meter(made, harness, folder, warmup_steps=1, measure_steps=3)
    before = dist.distributed_c10d._get_default_group()._get_sequence_number_for_group()
    made.train()
    after = dist.distributed_c10d._get_default_group()._get_sequence_number_for_group()
    weights = b"".join(value.numpy().tobytes() for value in made.model.state_dict().values())
    profiles = [json.loads(profile.to_json()) for profile in harness.profiles]
    return {
        "sequence": after - before,
        "weights": hashlib.sha256(weights).hexdigest(),
        "profiles": profiles,
    }


def main() -> None:
    """Train twice, and write `rank-N.json`."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    result = {"plain": train(folder, meter=False), "metered": train(folder, meter=True)}
    (folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(result))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
