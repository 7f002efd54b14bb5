"""
What tracing a 7B model before launch costs: seconds and peak resident memory, in a fresh process.

    python -m benchmarks.speed.trace_job_cost [--target examples/llama_7b.py:job] [--json OUT]

The promise is 30 s and 3 GB on 2 cores. Loading torch and Lightning is in the memory, and is timed apart.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

DEFAULT = str(Path(__file__).resolve().parents[2] / "examples" / "llama_7b.py") + ":job"


def measure(target: str) -> dict[str, float]:
    """Trace in this process; return seconds, peak resident bytes, and what was traced."""
    started = time.perf_counter()
    import pytorch_lightning  # noqa: F401
    import torch

    from trainfare.job.target import load_target
    from trainfare.prelaunch.job_trace import trace_job

    torch.set_num_threads(1)
    imported = time.perf_counter()
    profile = trace_job(load_target(target))
    done = time.perf_counter()
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "import_s": imported - started,
        "trace_s": done - imported,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "operation_groups": len(profile.operations),
        "launches": sum(operation.launches for operation in profile.operations),
        "parameters": sum(group.count for group in profile.parameters),
        "step_flops": profile.step_flops,
        "coverage": profile.coverage,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default=DEFAULT, help="what to trace")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        print(json.dumps(measure(arguments.target)))
        return
    command = [sys.executable, __file__, "--inside", "--target", arguments.target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    figures = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{figures['parameters']:,.0f} parameters, {figures['launches']:,.0f} launches a step: "
        f"{figures['trace_s']:.1f} s (and {figures['import_s']:.1f} s of imports), "
        f"{figures['peak_rss_bytes'] / 1e9:.2f} GB of resident memory at the peak"
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
