"""
Time `import trainfare` in a fresh process, and `import pytorch_lightning`, which it must not load.

    python -m benchmarks.speed.import_time [--json OUT]

The limit is 100 ms. The ratio of the two times is comparable between machines.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.cases import Case, case_parser, write_cases

RUNS = 7
"""Fresh processes of each import: an odd number, whose median is not moved by a first run with a cold disk cache."""


def import_ms(module: str) -> float:
    """Return the median milliseconds of `import module`, measured inside fresh interpreters."""
    code = f"from time import perf_counter as now; t = now(); import {module}; print((now() - t) * 1e3)"
    command = [sys.executable, "-c", code]
    times = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(RUNS)
    ]
    return statistics.median(times)


def main() -> None:
    """Run the command line."""
    arguments = case_parser(__doc__).parse_args()
    peer = import_ms("pytorch_lightning")
    ours = {f"import {name}": import_ms(name) for name in ("trainfare", "trainfare.cli")}
    cases = {name: Case(took, peer, took / peer, "ms") for name, took in ours.items()}
    print(f"{'case':<24}{'ours, ms':>12}{'pytorch_lightning, ms':>24}{'ratio':>10}")
    for name, case in cases.items():
        print(f"{name:<24}{case.ours:>12.1f}{case.peer:>24.1f}{case.ratio:>10.4f}")
    write_cases(arguments.json, cases)


if __name__ == "__main__":
    main()
