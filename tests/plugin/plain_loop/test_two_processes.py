"""Loops of Accelerate and Fabric in two processes under gloo: no collective more, equal weights, one report."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from builders import plain_ranks
from builders.cli import run_python
from trainfare_core.batch_scaling import scale_run
from trainfare_core.job_profile import JobProfile


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank has done."""
    pytest.importorskip("accelerate")
    folder = tmp_path_factory.mktemp("ranks")
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = run_python(*launch, plain_ranks.__file__, folder, cwd=folder)
    assert not done.exit_code, done.stderr
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("library", ["accelerate", "fabric"])
def test_both_ranks_stop_at_the_budget(ranks: list[dict[str, Any]], library: str) -> None:
    """
    By the clock rank 0 has spent 5 cents in its third step, and both end two steps later, with the same weights.

    Where a fault turns the meter of rank 1 off in that step, both train to the end: none waits for ever for the other.
    """
    steps = (
        2 if library == "accelerate" else 1
    )  # its optimizer is called in each batch, and steps in every second
    for arm, count in (("stopped", 5), ("faulty", 12)):
        assert [rank[library][arm]["batches"] for rank in ranks] == [steps * count] * 2
        assert ranks[0][library][arm]["weights"] == ranks[1][library][arm]["weights"]


def test_ranks_call_no_collective_more(ranks: list[dict[str, Any]]) -> None:
    """The group's sequence number and the weights are those of a run without it; rank 0 alone prices the run."""
    for library in ("accelerate", "fabric"):
        for rank in ranks:
            plain, metered = rank[library]["False"], rank[library]["True"]
            assert metered["sequence"] == plain["sequence"] > 0
            assert metered["weights"] == plain["weights"] == ranks[0][library]["False"]["weights"]
        assert [len(rank[library]["True"]["profiles"]) for rank in ranks] == [1, 0]
        (profile,) = ranks[0][library]["True"]["profiles"]
        parallel = profile["parallel"]
        assert (parallel["strategy"], parallel["devices"], parallel["num_nodes"]) == ("ddp", 2, 1)
        # On each device, 2 batches of 4 samples; with both, the 96 samples of a pass are 6 steps.
        assert (parallel["accumulate_grad_batches"], profile["batch"]["samples_per_step"]) == (2, 8)
        assert (profile["plan"]["optimizer_steps"], profile["plan"]["epochs"]) == (12, 2.0)
        assert profile["operations"]
        # Accelerate's number is its launcher's, Fabric's the script's own: of 24 batches, 8 processes share 3 each.
        assert profile["batch"]["scales"] == ("per_device" if library == "accelerate" else None)
        if library == "accelerate":
            run = scale_run(JobProfile.model_validate(profile), np.array([1, 2, 4]))
            assert (run.steps.tolist(), run.counted) == ([24, 12, 6], True)
        assert profile["measured"]["steps"] == 3
        assert not any("ranks agree" in note for note in profile["notes"])
