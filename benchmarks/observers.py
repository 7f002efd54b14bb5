"""
What observers of a step give, and what they cost: our trace, torch.profiler and the ExecutionTraceObserver.

    python -m benchmarks.observers

A transformer of four blocks trains on one CPU thread. For each observer: CPU milliseconds of an observed step (the
least of several), whether the losses are bitwise those of a run without one, the events of a step, the bytes of the
file that it writes, and how many events a profiler of the user's around it has left.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ExecutionTraceObserver, ProfilerActivity, profile

from trainfare.trace import StepTrace

WIDTH, BLOCKS, TOKENS, STEPS = 128, 4, (8, 64), 5


def run_plain(_model: nn.Module, step: Callable[[], None], _file: Path) -> int:
    """Run a step that nothing observes."""
    step()
    return 0


def run_trace(model: nn.Module, step: Callable[[], None], _file: Path) -> int:
    """Observe a step by our trace."""
    with StepTrace(model) as trace:
        step()
    return sum(group.launches for group in trace.operations())


def run_profiler(_model: nn.Module, step: Callable[[], None], _file: Path) -> int:
    """Observe a step by torch.profiler, with shapes, memory and FLOPs."""
    options: Any = {"record_shapes": True, "profile_memory": True, "with_flops": True, "acc_events": True}
    with profile(activities=[ProfilerActivity.CPU], **options) as observer:
        step()
    return len(observer.events() or ())


def run_observer(_model: nn.Module, step: Callable[[], None], file: Path) -> int:
    """Observe a step by the ExecutionTraceObserver."""
    observer = ExecutionTraceObserver().register_callback(str(file))
    observer.start()
    step()
    observer.unregister_callback()
    return len(json.loads(file.read_text(encoding="utf-8"))["nodes"])


def train(observe: Any, file: Path) -> tuple[list[float], float, int]:
    """Train, every step but the first observed; return losses, the least CPU seconds of a step, and its events."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, batch_first=True)
    model = nn.Sequential(
        nn.TransformerEncoder(layer, BLOCKS, enable_nested_tensor=False), nn.Linear(WIDTH, 1)
    )
    optimizer, losses, least_s, events = torch.optim.AdamW(model.parameters()), [], float("inf"), 0

    def step() -> None:
        loss = model(torch.randn(*TOKENS, WIDTH)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    step()
    for _ in range(STEPS):
        began_s = time.process_time()
        events = observe(model, step, file)
        least_s = min(least_s, time.process_time() - began_s)
    return losses, least_s, events


def main() -> None:
    """Run every observer, and print one line for each."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        plain, _, _ = train(run_plain, file)
        for observe in (run_plain, run_trace, run_profiler, run_observer):
            losses, step_s, events = train(observe, file)
            written = file.stat().st_size if file.exists() else 0
            with profile(activities=[ProfilerActivity.CPU]) as users:
                train(observe, file)
            print(
                f"{observe.__name__}: {1e3 * step_s:.0f} ms, losses equal: {losses == plain}, {events} events, "
                f"file of {written} bytes, {len(users.events() or ())} events of the user's left"
            )


if __name__ == "__main__":
    main()
