"""
Measure the CPU seconds and the peak resident memory of tracing a large model before launch, in a fresh process.

    python -m benchmarks.speed.trace_job_cost [--target examples/llama_7b.py:job] [--json OUT]
    python -m benchmarks.speed.trace_job_cost --model llama-3.1-405b
    python -m benchmarks.speed.trace_job_cost --every-block

The limits are 8 s of CPU and 3 GB for the 7B, and 10 s for a 405B; the strategies of a 7B (`--strategies`: the step of
each, plain and with its blocks recomputed) have 30 s together. The memory includes torch and Lightning; their import is
timed separately. Garbage is collected as rarely as in the process in which a command traces.
"""

from __future__ import annotations

import argparse
import gc
import time
from pathlib import Path

from benchmarks.cases import case_parser, in_a_fresh_process, peak_resident_bytes, write_json

DEFAULT = str(Path(__file__).resolve().parents[2] / "examples" / "llama_7b.py") + ":job"


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Trace in this process; return CPU seconds, peak resident bytes, and the size of the last traced step."""
    gc.set_threshold(200_000)
    started = time.process_time()
    import peft  # noqa: F401
    import pytorch_lightning  # noqa: F401
    import torch
    from transformers import LlamaForCausalLM  # noqa: F401

    from trainfare.estimate import EstimateRequest
    from trainfare.estimate.profile import estimate_profile
    from trainfare.fake_step import trace_changed
    from trainfare.fake_step.equal_blocks import WORTHWHILE
    from trainfare.job.target import load_job
    from trainfare.methods.module_changes import ModuleChange

    torch.set_num_threads(1)
    imported = time.process_time()
    traces = 1
    if options.model is not None:
        profile = estimate_profile(EstimateRequest(model=options.model, tokens=10**9, seq=8192))
    else:
        job = load_job(options.target)
        changes: list[ModuleChange | None] = [None]
        if options.strategies:
            changes = [
                ModuleChange(strategy, job.precision, trains_head=False, recompute=recompute)
                for strategy in ("linear_probe", "lora", "qlora", "full_finetune")
                for recompute in (False, True)
            ]
        worthwhile = 0 if options.every_block else WORTHWHILE
        profiles = [trace_changed(job, change, worthwhile=worthwhile) for change in changes]
        traces, profile = len(profiles), profiles[-1]
    done = time.process_time()
    return {
        "import_s": imported - started,
        "trace_s": done - imported,
        "traces": traces,
        "peak_rss_bytes": peak_resident_bytes(),
        "operation_groups": len(profile.operations),
        "launches": sum(operation.launches for operation in profile.operations),
        "parameters": sum(group.count for group in profile.parameters),
        "step_flops": profile.step_flops,
        "coverage": profile.coverage,
    }


def main() -> None:
    """Run the command line."""
    parser = case_parser(__doc__)
    parser.add_argument("--target", default=DEFAULT, help="what to trace")
    parser.add_argument(
        "--model", help="trace a model of `trainfare estimate` in its place, 8192 tokens a sequence"
    )
    parser.add_argument(
        "--every-block", action="store_true", help="trace every block, also of many equal ones"
    )
    parser.add_argument(
        "--strategies", action="store_true", help="trace the step of each strategy, plain and recomputed"
    )
    arguments = parser.parse_args()
    figures = in_a_fresh_process(measure, arguments)
    print(
        f"{figures['parameters']:,.0f} parameters, {figures['launches']:,.0f} launches a step: "
        f"{figures['trace_s']:.1f} s of CPU for {figures['traces']:.0f} trace(s) "
        f"(and {figures['import_s']:.1f} s of imports), "
        f"{figures['peak_rss_bytes'] / 1e9:.2f} GB of resident memory at the peak"
    )
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
