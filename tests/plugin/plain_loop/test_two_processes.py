"""Loops of Accelerate and Fabric in two processes under gloo: no collective more, equal weights, one report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders import plain_ranks
from builders.cli import run_python


def test_ranks_call_no_collective_more(tmp_path: Path) -> None:
    """The group's sequence number and the weights are those of a run without it; rank 0 alone prices the run."""
    pytest.importorskip("accelerate")
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = run_python(*launch, plain_ranks.__file__, tmp_path, cwd=tmp_path)
    assert not done.exit_code, done.stderr
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
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
        assert profile["measured"]["steps"] == 3
        assert not any("ranks agree" in note for note in profile["notes"])
