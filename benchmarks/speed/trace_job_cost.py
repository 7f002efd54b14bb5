"""
Measure the CPU seconds and the peak resident memory of tracing a 7B model before launch, in a fresh process.

    python -m benchmarks.speed.trace_job_cost [--target examples/llama_7b.py:job] [--json OUT]

The limits are 8 s of CPU and 3 GB. The memory includes torch and Lightning; their import is timed separately.
Garbage is collected as rarely as in the process in which a command traces.
"""

from __future__ import annotations

import gc
import time
from pathlib import Path

from benchmarks.cases import case_parser
from benchmarks.speed.resident_memory import in_a_fresh_process, peak_resident_bytes
from benchmarks.truth_table import write_json

DEFAULT = str(Path(__file__).resolve().parents[2] / "examples" / "llama_7b.py") + ":job"


def measure(target: str) -> dict[str, float]:
    """Trace in this process; return CPU seconds, peak resident bytes, and the size of the traced step."""
    gc.set_threshold(200_000)
    started = time.process_time()
    import pytorch_lightning  # noqa: F401
    import torch

    from trainfare.job.target import load_job
    from trainfare.prelaunch import trace_job

    torch.set_num_threads(1)
    imported = time.process_time()
    profile = trace_job(load_job(target))
    done = time.process_time()
    return {
        "import_s": imported - started,
        "trace_s": done - imported,
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
    arguments = parser.parse_args()
    figures = in_a_fresh_process(measure, arguments.target)
    print(
        f"{figures['parameters']:,.0f} parameters, {figures['launches']:,.0f} launches a step: "
        f"{figures['trace_s']:.1f} s of CPU (and {figures['import_s']:.1f} s of imports), "
        f"{figures['peak_rss_bytes'] / 1e9:.2f} GB of resident memory at the peak"
    )
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
