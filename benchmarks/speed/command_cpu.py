"""
Measure the CPU seconds (user + system) of commands in fresh processes, also of another source tree where one is given.

    python -m benchmarks.speed.command_cpu [--baseline DIR] [--repeat 9] [--json OUT]

The limit is 0.6 s for `trainfare recommend` of a profile. Runs of the two trees alternate, and medians are compared,
so that other work on the machine slows both. Of the figures only the ratio is comparable between machines. A first run
of each is not counted: it writes the bytecode that an installed package has.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import Case, case_parser, write_cases

TOP = Path(__file__).resolve().parents[2]
COMMANDS = {
    "recommend": ("recommend", str(TOP / "docs" / "examples" / "llama-7b.json")),
    "help": ("--help",),
}


def cpu_s(tree: Path, arguments: tuple[str, ...], folder: Path | None = None) -> float:
    """Return the CPU seconds of one command run from a source tree, in a folder or the current one."""
    path = os.pathsep.join(str(tree / root) for root in ("core", "providers", "plugin"))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": ""}
    return measure_cpu(["-m", "trainfare", *arguments], cwd=folder, env=environment)


def measure_cpu(arguments: Sequence[str], **options: Any) -> float:
    """Return the CPU seconds of a Python with these arguments; the options are those of `subprocess.run`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True, **options)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run the command line."""
    parser = case_parser(__doc__)
    parser.add_argument("--baseline", type=Path, metavar="DIR", help="another checkout to compare with")
    parser.add_argument("--repeat", type=int, default=9)
    arguments = parser.parse_args()
    trees = [TOP] if arguments.baseline is None else [TOP, arguments.baseline.resolve()]
    cases: dict[str, Case] = {}
    for name, command in COMMANDS.items():
        _, *rounds = ([cpu_s(tree, command) for tree in trees] for _ in range(arguments.repeat + 1))
        ours, *others = (statistics.median(times) for times in zip(*rounds, strict=True))
        peer = others[0] if others else None
        cases[name] = Case(ours, peer, peer and ours / peer, "s")
        print(f"{name:<12}{ours:>8.3f} s" + (f"{peer:>8.3f} s{ours / peer:>7.2f} x" if peer else ""))
    write_cases(arguments.json, cases)


if __name__ == "__main__":
    main()
