"""
Train in two processes under gloo, with and without FareMeter, and count every collective call.

    python tests/builders/ranks.py FOLDER --fail-in-step            Lightning's launcher starts the second process
    python tests/builders/ranks.py FOLDER --strategy ddp_spawn      both processes are spawned, the callback pickled
    python -m torch.distributed.run --nproc-per-node 2 tests/builders/ranks.py FOLDER

Each rank writes `rank-N.json`: per arm, the calls of torch.distributed, the group's sequence number and the steps. Under
torchrun there are three more arms on a clock of their own, by which the forward of one rank, or of none, takes four times
as long.
"""

from __future__ import annotations

import argparse
import dataclasses
import faulthandler
import functools
import inspect
import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

COLLECTIVES = [
    "all_gather",
    "all_gather_coalesced",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_reduce",
    "all_reduce_coalesced",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "batch_isend_irecv",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "gather_object",
    "irecv",
    "isend",
    "monitored_barrier",
    "new_group",
    "recv",
    "recv_object_list",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
    "scatter_object_list",
    "send",
    "send_object_list",
]
SLOW_RANKS = {"slow_rank_0": 0, "slow_rank_1": 1, "no_slow_rank": None, "stopped": None}
"""Arms on a clock of their own, with the rank that is slow by it."""
TRAINS = "trains"
"""A file that the arm with a failing step writes once it trains."""
STUCK_S = 300.0
"""Seconds after which a rank prints where it hangs and ends. Chosen: ten times what a run takes beside another one."""
STOP = {"on_budget": "checkpoint_and_stop", "budget_usd": 0.024, "usd_per_hour": 3600.0}
"""Of the arm "stopped": a second costs a dollar, and a step takes 5 ms."""
counted: Counter[str] = Counter()
stores: Counter[str] = Counter()
"""How often the store of the process group was asked for."""


def count_collectives() -> None:
    """Wrap the collectives of torch.distributed; call it before another module imports them."""
    import torch.distributed as dist

    for name in COLLECTIVES:
        for home in (dist, dist.distributed_c10d):
            if inspect.isfunction(getattr(home, name, None)):
                setattr(home, name, _counting(name, getattr(home, name), counted))
    get_store = dist.distributed_c10d._get_default_store
    setattr(dist.distributed_c10d, get_store.__name__, _counting("store", get_store, stores))


def _counting(name: str, call: Callable[..., Any], counter: Counter[str]) -> Callable[..., Any]:
    def call_counted(*arguments: Any, **named: Any) -> Any:
        counter[name] += 1
        return call(*arguments, **named)

    return call_counted


def main() -> None:
    """Train without FareMeter, then with it, then by the clock, in the same two processes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fail-in-step", action="store_true")
    parser.add_argument("--strategy", default="ddp")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    faulthandler.dump_traceback_later(STUCK_S, exit=True)
    warnings.simplefilter("ignore")
    count_collectives()
    import torch.distributed as dist
    from pytorch_lightning.strategies import DDPStrategy

    from builders import contract
    from builders.lightning_modules import Clock
    from builders.processes import HANG_S

    clock = Clock()

    def forward_by_the_clock(slow_rank: int | None) -> Callable[[Any, int], None]:
        return lambda module, _: clock.advance(0.020 if module.global_rank == slow_rank else 0.005)

    def fail(module: Any, batch_idx: int) -> None:
        (arguments.folder / TRAINS).touch()
        if module.global_rank == 1 and len(module.losses) == 3:
            raise ValueError("rank 1 fails")

    def strategy() -> Any:
        start = {"ddp": None, "ddp_spawn": "spawn"}[arguments.strategy]
        named = {} if start is None else {"start_method": start}
        return DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=HANG_S), **named)

    clocked = {name: forward_by_the_clock(slow) for name, slow in SLOW_RANKS.items()}
    arms: dict[str, Callable[[Any, int], None] | None] = {"warm_up": None, "plain": None, "metered": None}
    if arguments.fail_in_step or arguments.strategy != "ddp":
        arms = {"metered": fail if arguments.fail_in_step else None}
    else:
        arms |= clocked
    results: dict[str, Any] = {}
    for arm, before in arms.items():
        counted.clear()
        stores.clear()
        started = 0 if not dist.is_initialized() else _sequence(dist)
        callbacks = []
        if arm not in ("warm_up", "plain"):
            named = STOP if arm == "stopped" else {}
            callbacks.append(
                _meter(arguments.folder / f"report-{arm}", clock if arm in clocked else None, **named)
            )
        module = contract.Tiny if before is None else functools.partial(contract.Tiny, before)
        root = str(arguments.folder / f"root-{arm}")
        outcome = contract.fit(callbacks, module, devices=2, strategy=strategy(), default_root_dir=root)
        results[arm] = {
            **dataclasses.asdict(outcome),
            "counted": dict(sorted(counted.items())),
            "stores": stores["store"],
            "sequence": _sequence(dist) - started if dist.is_initialized() else None,
        }
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    (arguments.folder / f"rank-{rank}.json").write_text(json.dumps(results))
    faulthandler.cancel_dump_traceback_later()


def _sequence(dist: Any) -> int:
    return dist.distributed_c10d._get_default_group()._get_sequence_number_for_group()


def _meter(folder: Path, clock: Callable[[], float] | None, **arguments: Any) -> Any:
    from builders.patient_meter import PatientMeter

    clocked = {} if clock is None else {"services": replace(PatientMeter.services, now=clock)}
    kind = type("Clocked", (PatientMeter,), clocked) if clocked else PatientMeter
    return kind(
        **{"warmup_steps": 1, "measure_steps": 2, "report_dir": str(folder), "usd_per_hour": 1.0, **arguments}
    )


if __name__ == "__main__":
    main()
