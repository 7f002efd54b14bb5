"""Two processes of Hugging Face's Trainer under gloo: no collective more, equal weights, one report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from builders import huggingface_ranks
from builders.cli import run_python
from trainfare_core.batch_scaling import scale_run
from trainfare_core.job_profile import JobProfile


def test_ranks_call_no_collective_more_and_stop_together(tmp_path: Path) -> None:
    """
    The group's sequence number and the weights are those of a run without it; rank 0 alone prices the run.

    At the budget of 5 cents, which the third step of 2 cents reaches on rank 0, both ranks end two steps later, with a
    checkpoint, after the collectives of 5 of 10 steps.
    """
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = run_python(*launch, huggingface_ranks.__file__, tmp_path, cwd=tmp_path)
    assert not done.exit_code, done.stderr
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    for rank in (first, second):
        assert rank["metered"]["sequence"] == rank["plain"]["sequence"] > 0
        assert rank["metered"]["weights"] == rank["plain"]["weights"] == first["plain"]["weights"]
    assert [len(rank["metered"]["profiles"]) for rank in (first, second)] == [1, 0]
    (profile,) = first["metered"]["profiles"]
    parallel = profile["parallel"]
    assert (parallel["strategy"], parallel["devices"], parallel["num_nodes"]) == ("ddp", 2, 1)
    # On each device, 2 batches of 4 samples; with both, the 64 samples of an epoch are 4 steps.
    assert profile["batch"]["samples_per_step"] == 8
    assert (profile["plan"]["optimizer_steps"], profile["plan"]["epochs"]) == (10, 2.5)
    # The launcher has said the two: any number keeps the 10 steps, of as many samples a device.
    assert profile["batch"]["scales"] == "per_device"
    run = scale_run(JobProfile.model_validate(profile), np.array([1, 2, 8]))
    assert (run.steps.tolist(), run.samples_ratio.tolist()) == ([10, 10, 10], [0.5, 1, 4])
    assert profile["operations"]
    assert profile["measured"]["steps"] == 3
    assert [rank["stopped"]["steps"] for rank in (first, second)] == [5, 5]
    assert first["stopped"]["weights"] == second["stopped"]["weights"] != first["plain"]["weights"]
    assert first["stopped"]["sequence"] == second["stopped"]["sequence"] < first["plain"]["sequence"]
    assert (tmp_path / "stopped" / "checkpoint-5" / "model.safetensors").is_file()
