"""
Time and memory that FareMeter adds to a training step, compared with Lightning's own ThroughputMonitor.

    python -m benchmarks.callback_overhead [--steps 10000] [--growth-steps 100000] [--rounds 3] [--json OUT]

The model is small and runs on one CPU thread. Every arm trains on the same repeated batch with a logger that
discards everything. Times are in microseconds, unless stated otherwise:

- `hooks`: CPU time inside the callback's hooks, the median over the steps.
- `step`: CPU time of a whole step, the median of an arm minus that of the runs without a callback around it. It
  includes what the callback costs outside its hooks.
- `wall`: the same in wall-clock time, which other jobs on the machine disturb more.

The arms are interleaved. The arm without a callback runs twice in each round, and the difference of the two runs is
the noise: a `step` or `wall` figure below it is not distinguishable from zero.
"""

from __future__ import annotations

import itertools
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import ThroughputMonitor
from pytorch_lightning.loggers.logger import DummyLogger

from benchmarks.cases import Case, case_parser, write_cases
from trainfare import FareMeter

Array = NDArray[np.float64]
LIMITS = {
    "hooks in the window": 50.0,
    "hooks after the window": 50.0,
    "step in the window": 50.0,
    "step after the window": 50.0,
    "resident memory growth": 5.0,
}
"""Requirements in the unit of the case. 50 us is 0.5 % of a step of 10 ms. 5 MiB over 100,000 steps is
reached by one Python object of 50 bytes that is kept for every step."""
SKIPPED_STEPS = 100
"""First steps of a run that are left out of a median, or a tenth of a shorter run: imports, allocations and FareMeter's
own warm-up and traced step."""
PER_STEP = ("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end")


class Net(pl.LightningModule):
    """Two linear layers; a step is mostly the time of Lightning's own loop."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        del batch_idx
        loss: torch.Tensor = self.net(batch).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class StepClock(pl.Callback):
    """Records CPU and wall-clock time at the end of every step, or resident memory after the steps `memory_at`."""

    def __init__(self, memory_at: tuple[int, ...] = ()) -> None:
        self.cpu_ns: list[int] = []
        self.wall_ns: list[int] = []
        self.memory_at = memory_at
        self.resident_mib: list[float] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        del trainer, pl_module, outputs, batch
        if not self.memory_at:
            self.cpu_ns.append(time.process_time_ns())
            self.wall_ns.append(time.perf_counter_ns())
        elif batch_idx in self.memory_at:
            self.resident_mib.append(resident_mib())


def resident_mib() -> float:
    """Return this process's resident memory in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def time_hooks(callback: pl.Callback, spent_ns: list[int]) -> pl.Callback:
    """Measure the CPU time of a callback's hooks; appends one entry to `spent_ns` for each step."""
    running = [0]

    def around(hook: Callable[..., Any], *, last: bool) -> Callable[..., Any]:
        def run_clocked(*arguments: Any, **keywords: Any) -> Any:
            start = time.thread_time_ns()
            try:
                return hook(*arguments, **keywords)
            finally:
                running[0] += time.thread_time_ns() - start
                if last:
                    spent_ns.append(running[0])
                    running[0] = 0

        return run_clocked

    for name in PER_STEP:
        setattr(callback, name, around(getattr(callback, name), last=name == PER_STEP[-1]))
    return callback


def train(callbacks: list[pl.Callback], steps: int) -> None:
    """Train for `steps` steps."""
    torch.manual_seed(0)
    pl.Trainer(
        max_epochs=1,
        limit_train_batches=steps,
        accelerator="cpu",
        devices=1,
        logger=DummyLogger(),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    ).fit(Net(), itertools.repeat(torch.ones(4, 8)))  # loading costs no time


ARMS: dict[str, Callable[[int], pl.Callback]] = {
    "window": lambda steps: FareMeter(
        warmup_steps=1, measure_steps=steps, report=False, trace=False, usd_per_hour=1.0
    ),
    "after": lambda _: FareMeter(report=False, usd_per_hour=1.0, budget_usd=1e6),
    "peer": lambda _: ThroughputMonitor(batch_size_fn=len),
}
"""
The callbacks by the steps of the run: a FareMeter that measures every step, one with its default settings, whose window
ends after 14 steps, and Lightning's ThroughputMonitor as its documentation uses it.
"""


def hooks_us(arm: str, steps: int) -> float:
    """Return the median CPU time of an arm's hooks in one step, minus that of the measurement itself."""
    spent: list[int] = []
    train([time_hooks(ARMS[arm](steps), spent)], steps)
    empty: list[int] = []
    # 2,000 steps are enough for the median of the empty hooks.
    train([time_hooks(pl.Callback(), empty)], min(steps, 2000))
    skip = min(SKIPPED_STEPS, steps // 10)
    return (statistics.median(spent[skip:]) - statistics.median(empty[skip:])) / 1e3


def step_us(callback: pl.Callback | None, steps: int) -> Array:
    """Return the median CPU and wall-clock time of one whole step."""
    clock = StepClock()
    train([clock] if callback is None else [callback, clock], steps)
    skip = min(SKIPPED_STEPS, steps // 10)
    ends_ns = np.array([clock.cpu_ns, clock.wall_ns])[:, skip:]
    return np.median(np.diff(ends_ns), axis=1) / 1e3


def run_interleaved(steps: int, rounds: int) -> tuple[dict[str, Array], Array, Array]:
    """
    Run without a callback, then each arm, then without again; `rounds` times, each on its share of the steps.

    Returns:
        CPU and wall-clock time that each arm adds to a step, the largest difference of two plain runs, a plain step.
    """
    share = max(200, steps // rounds)  # with fewer than 200 steps the median would rest on the warm-up
    added: dict[str, list[Array]] = {name: [] for name in ARMS}
    plain: list[tuple[Array, Array]] = []
    for _ in range(rounds):
        before = step_us(None, share)
        taken = {name: step_us(make(share), share) for name, make in ARMS.items()}
        plain.append((before, step_us(None, share)))
        for name, step in taken.items():
            added[name].append(step - np.mean(plain[-1], axis=0))
    both = np.array(plain)
    return (
        {name: np.median(values, axis=0) for name, values in added.items()},
        np.abs(both[:, 1] - both[:, 0]).max(axis=0),
        np.median(both.reshape(-1, 2), axis=0),
    )


def growth_mib(arm: str, steps: int) -> float:
    """Return the growth of resident memory in MiB between a tenth of the run and its end."""
    clock = StepClock((steps // 10, steps - 1))
    train([ARMS[arm](steps), clock], steps)
    return clock.resident_mib[1] - clock.resident_mib[0]


def case(ours: float, other: float | None, unit: str = "us") -> Case:
    """Return a figure with the peer's; without a ratio where ours is not above zero."""
    ratio = None if other is None or ours <= 0 else round(other / ours, 2)
    return Case(round(ours, 2), None if other is None else round(other, 2), ratio, unit)


def measure(steps: int, growth_steps: int, rounds: int) -> dict[str, Case]:
    """Run all measurements and return the cases in the order of the table."""
    train([ARMS["after"](200)], 200)  # imports and first allocations happen here, outside the measurement
    hooks = {name: hooks_us(name, steps) for name in ARMS}
    added_us, noise_us, plain_us = run_interleaved(steps, rounds)
    growth = growth_mib("after", growth_steps), growth_mib("peer", growth_steps)
    cases = {
        "hooks in the window": case(hooks["window"], hooks["peer"]),
        "hooks after the window": case(hooks["after"], hooks["peer"]),
    }
    for clock, kind in enumerate(("step", "wall")):
        added = {name: float(values[clock]) for name, values in added_us.items()}
        cases |= {
            f"{kind} in the window": case(added["window"], added["peer"]),
            f"{kind} after the window": case(added["after"], added["peer"]),
            f"{kind}, noise": case(float(noise_us[clock]), None),
            f"{kind} without callback": case(float(plain_us[clock]), None),
        }
    return {**cases, "resident memory growth": case(*growth, "MiB")}


def table(cases: dict[str, Case]) -> Iterator[str]:
    """Yield the lines of the table, then a line for each figure within the noise and for each limit."""
    yield f"{'case':<32}{'ours':>10}{'peer':>10}{'peer/ours':>11}  unit"
    for name, row in cases.items():
        other = "-" if row.peer is None else f"{row.peer:.2f}"
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        yield f"{name:<32}{row.ours:>10.2f}{other:>10}{ratio:>11}  {row.unit}"
    for kind in ("step", "wall"):
        noise = cases[f"{kind}, noise"].ours
        for when in ("in the window", "after the window"):
            if abs(cases[f"{kind} {when}"].ours) <= noise:
                yield f"{kind} {when}: within the noise of {noise:.1f} us"
    for name, limit in LIMITS.items():
        met = cases[name].ours <= limit
        yield f"limit: {name} <= {limit:g} {cases[name].unit}: {'met' if met else 'EXCEEDED'}"


def main() -> None:
    """Measure, print the table, and write JSON where asked."""
    parser = case_parser(__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--growth-steps", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Without this FareMeter's progress line would appear in the middle of the table.
    FareMeter.services = replace(FareMeter.services, say=lambda _: None)
    cases = measure(arguments.steps, arguments.growth_steps, arguments.rounds)
    print(f"{arguments.steps:,} steps, {arguments.growth_steps:,} for memory, torch {torch.__version__}")
    print("\n".join(table(cases)))
    write_cases(arguments.json, cases)


if __name__ == "__main__":
    main()
