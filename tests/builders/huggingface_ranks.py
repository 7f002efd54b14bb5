"""
Train with Hugging Face's Trainer on two processes under gloo, without and with FareMeter; each rank writes what it saw.

    python -m torch.distributed.run --nproc-per-node 2 tests/builders/huggingface_ranks.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def train(folder: Path, *, meter: bool, **settings: Any) -> dict[str, Any]:
    """Train, and return what `describe_run` does, with the steps."""
    from builders.huggingface import attach_meter, make_classifier, make_trainer
    from builders.lightning_modules import Clock, MeterHarness
    from builders.rank_runs import describe_run

    clock = Clock()
    harness = MeterHarness(clock) if settings else MeterHarness()
    model = make_classifier()
    model.register_forward_pre_hook(lambda *_: clock.advance(0.010))
    made = make_trainer(folder, model, max_steps=10, gradient_accumulation_steps=2, ddp_backend="gloo")
    if meter:
        attach_meter(made, harness, folder, warmup_steps=1, measure_steps=3, **settings)
    return {**describe_run(harness, made.model, made.train), "steps": made.state.global_step}


def main() -> None:
    """Train three times, and write `rank-N.json`; in the last run a second costs a dollar, and a step takes 20 ms."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from builders.rank_runs import write_runs

    folder = Path(sys.argv[1])
    stop: dict[str, Any] = {"on_budget": "checkpoint_and_stop", "budget_usd": 0.05, "usd_per_hour": 3600.0}
    write_runs(
        folder,
        lambda: {
            "plain": train(folder, meter=False),
            "metered": train(folder, meter=True),
            "stopped": train(folder / "stopped", meter=True, **stop),
        },
    )


if __name__ == "__main__":
    main()
