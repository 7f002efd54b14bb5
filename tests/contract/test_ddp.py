"""Two processes under gloo: one report, no additional collective, and no additional wait of one rank for another."""

from __future__ import annotations

import copy
import json
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders import ranks
from builders.cli import run_python
from builders.contract import NO_MODES, record_compared
from builders.environments import lean_python
from trainfare import FareMeter

FILES = ["trainfare-profile.json", "trainfare-report.html", "trainfare-report.json", "trainfare-status.json"]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]


def start(folder: Path, *options: str, before: tuple[str, ...] = ()) -> tuple[str, dict[int, Any]]:
    """Run both ranks; return the standard output and the JSON of each rank."""
    run = [*before, ranks.__file__, folder, *options]
    done = run_python(*run, cwd=folder, python=lean_python())
    if done.exit_code and "--fail-in-step" in options and not (folder / ranks.TRAINS).exists():
        # The processes never met: Lightning picks a free port and lets go of it before they use it.
        done = run_python(*run, cwd=folder, python=lean_python())
    assert not done.exit_code, done.stderr
    written = {int(path.stem[-1]): json.loads(path.read_text()) for path in folder.glob("rank-*.json")}
    assert written, done.stderr
    return done.stdout, written


def record_reports(record: Callable[[str, object], None], printed: str, runs: int) -> None:
    record("{} runs in two processes", runs)
    record("{} reports of them, one a run promised", printed.count("trainfare: wrote "))


@pytest.fixture(scope="module")
def torchrun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[int, Any]]:
    folder = tmp_path_factory.mktemp("torchrun")
    return (folder, *start(folder, before=tuple(TORCHRUN)))


def test_no_additional_collective(
    torchrun: tuple[Path, str, dict[int, Any]], record_property: Callable[[str, object], None]
) -> None:
    """Each rank calls the same collectives as without FareMeter; the group's sequence number is the same."""
    _, _, written = torchrun
    for rank in (0, 1):
        plain, metered = written[rank]["plain"], written[rank]["metered"]
        added = Counter(metered["counted"]) - Counter(plain["counted"])
        record_property("{} collective calls of two ranks without FareMeter", sum(plain["counted"].values()))
        record_property("{} more with it, 0 allowed", added.total())
        assert metered["counted"] == plain["counted"]
        assert metered["sequence"] == plain["sequence"] > 0
        assert sum(plain["counted"].values()) > 0


def test_both_ranks_train_bitwise_equally(
    torchrun: tuple[Path, str, dict[int, Any]], record_property: Callable[[str, object], None]
) -> None:
    """Losses, weights and random generators of both ranks are bitwise equal with and without FareMeter."""
    _, _, written = torchrun
    for rank in (0, 1):
        plain, metered = written[rank]["plain"], written[rank]["metered"]
        assert metered["status"] == "TrainerStatus.FINISHED"
        assert (metered["fingerprint"], metered["steps"]) == (plain["fingerprint"], plain["steps"])
        assert metered["modes"] == NO_MODES
        assert metered["warned"] == []
        assert metered["compared"] == plain["compared"]
        record_compared(record_property, plain["compared"])


def test_only_rank_0_reports(
    torchrun: tuple[Path, str, dict[int, Any]], record_property: Callable[[str, object], None]
) -> None:
    """Two ranks give one table and one set of files a run."""
    folder, printed, written = torchrun
    runs = [arm for arm in written[0] if arm not in ("warm_up", "plain")]
    assert sorted(path.name for path in folder.glob("report-*")) == sorted(f"report-{arm}" for arm in runs)
    for arm in runs:
        assert sorted(path.name for path in (folder / f"report-{arm}").iterdir()) == FILES
    record_reports(record_property, printed, len(runs))
    assert printed.count("trainfare: wrote ") == len(runs)
    profile = json.loads((folder / "report-metered" / "trainfare-profile.json").read_text())
    assert profile["parallel"]["devices"] == 2
    assert profile["parallel"]["strategy"] == "ddp"
    assert profile["measured"]["steps"] == 2


def test_both_ranks_stop_at_the_budget(torchrun: tuple[Path, str, dict[int, Any]]) -> None:
    """
    Rank 0 reaches 2.4 cents in its fifth step, and both end two steps later, with one checkpoint.

    Nothing is read of the store where the budget stops nothing, but the times of the ranks at the end.
    """
    folder, _, written = torchrun
    assert [written[rank]["stopped"]["steps"] for rank in (0, 1)] == [7, 7]
    assert written[0]["stopped"]["status"] == "TrainerStatus.FINISHED"
    assert [path.name for path in (folder / "root-stopped").glob("*.ckpt")] == ["trainfare-budget.ckpt"]
    for rank in (0, 1):
        asked = {arm: outcome["stores"] for arm, outcome in written[rank].items()}
        assert asked["metered"] - asked["plain"] == 1
        assert asked["stopped"] - asked["plain"] == 2


@pytest.mark.parametrize("slow", [0, 1])
def test_the_straggler_is_named(torchrun: tuple[Path, str, dict[int, Any]], slow: int) -> None:
    """Rank 0 compares the ranks at the end, without a collective, and names the slow one in output and profile."""
    folder, printed, _ = torchrun
    profile = json.loads((folder / f"report-slow_rank_{slow}" / "trainfare-profile.json").read_text())
    expected = f"rank {slow} is a straggler: 20 ms of data, transfer and forward a step, against 5 ms on the other ranks"
    assert [note for note in profile["notes"] if expected in note]
    assert printed.count(f"trainfare: {expected}") == 1


def test_equal_ranks_agree(torchrun: tuple[Path, str, dict[int, Any]]) -> None:
    """Without a slow rank the output and the profile say that the ranks agree."""
    folder, printed, _ = torchrun
    expected = "2 ranks agree: 5 to 5 ms of data, transfer and forward a step"
    assert f"trainfare: {expected}" in printed
    notes = json.loads((folder / "report-no_slow_rank" / "trainfare-profile.json").read_text())["notes"]
    assert [note for note in notes if expected in note]
    assert not [note for note in notes if "straggler" in note]


def test_a_failing_rank_does_not_hang_the_other(tmp_path: Path) -> None:
    """Rank 1 raises in its step: rank 0 ends with an error too, and saves its profile."""
    printed, written = start(tmp_path, "--fail-in-step")
    for outcome in (written[rank]["metered"] for rank in written):
        assert outcome["status"] == "TrainerStatus.INTERRUPTED"
        assert outcome["modes"] == NO_MODES
        assert outcome["profiler"] == "the user's"
        assert outcome["warned"] == []
    assert printed.count("trainfare: ") <= 3
    # After an exception nothing is ranked: its traceback must not be pushed off the screen.
    names = sorted(path.name for path in (tmp_path / "report-metered").iterdir())
    assert names == ["trainfare-profile.json", "trainfare-status.json"]


def test_spawned_processes_give_one_report(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """With `ddp_spawn`, which pickles the callback to both processes, rank 0 alone reports."""
    printed, written = start(tmp_path, "--strategy", "ddp_spawn")
    record_reports(record_property, printed, len(written[0]))
    assert sorted(path.name for path in (tmp_path / "report-metered").iterdir()) == FILES
    assert printed.count("trainfare: wrote ") == 1


def test_fare_meter_can_be_pickled_and_copied() -> None:
    """Pickling and copying, as spawning strategies and sweeps do, keep the state."""
    meter = FareMeter(warmup_steps=1, machine="aws:p4d.24xlarge@us-east-1")
    meter.load_state_dict({"version": 1, "elapsed_s": 5.0})
    for other in (pickle.loads(pickle.dumps(meter)), copy.deepcopy(meter)):
        assert other.state_dict() == meter.state_dict() == {"version": 1, "elapsed_s": 5.0}
