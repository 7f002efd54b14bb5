"""
Measure the CPU seconds (user + system) of `trainfare profile SCRIPT` above those of what the script imports itself.

    python -m benchmarks.speed.profile_cpu [--repeat 5] [--json OUT]

A plain Python imports the script and makes its module; its seconds are taken off those of the command with all its
processes. Both alternate, and medians are compared, so that other work on the machine slows both. A first run of each
is not counted: it writes the bytecode that an installed package has.

    small         an MLP of 1,699 parameters; the limit is 1.0 s above the script's imports
    llama-7b      `configure_model` makes a Llama of 32 equal blocks; the limit is 4 s
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path

from benchmarks.cases import WORKLOADS, Case, case_parser, write_cases
from benchmarks.speed.command_cpu import TOP, cpu_s, measure_cpu

LIMITS_S = {"small": 1.0, "llama-7b": 4.0}


def main() -> None:
    """Run the command line."""
    parser = case_parser(__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    cases: dict[str, Case] = {}
    for name, limit_s in LIMITS_S.items():
        _, *rounds = (one_round(WORKLOADS[name]) for _ in range(arguments.repeat + 1))
        whole_s, imports_s = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
        above_s = whole_s - imports_s
        cases[name] = Case(above_s, limit_s, above_s / limit_s, "s")
        print(
            f"{name:<12}{above_s:>8.2f} s of CPU above the script's imports, which take {imports_s:.2f} s; "
            f"the limit is {limit_s:g} s"
        )
    write_cases(arguments.json, cases)


def one_round(script: str) -> tuple[float, float]:
    """Return the CPU seconds of the command, and those of a Python that imports the script and makes its module."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train.py").write_text(script, encoding="utf-8")
        os.environ["TRAINFARE_TRACE_CACHE"] = str(folder / "traces")
        whole_s = cpu_s(TOP, ("profile", "train.py", "-o", "job.json"), folder)
        return whole_s, measure_cpu(["-c", "import train; train.Net()"], cwd=folder)


if __name__ == "__main__":
    main()
