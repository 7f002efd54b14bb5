"""
Measure the CPU seconds (user + system) of the pull-request gate on the example image classifier.

    python -m benchmarks.speed.gate_cpu [--repeat 5] [--json OUT]

The gate is `trainfare check image_classifier.py:job --compare-to REF` in a repository of its own, in fresh processes:

    first         no trace is kept, as on the first pull request: both commits are traced; the limit is 15 s
    untouched     both commits were traced before, and a pull request changes another file; the limit is 2 s
    touched       the pull request changes the job: its commit is traced, the other is not; the limit is 15 s
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from benchmarks.cases import Case, case_parser, write_cases
from benchmarks.speed.command_cpu import TOP, cpu_s

LIMITS_S = {"first": 15.0, "untouched": 2.0, "touched": 15.0}
GATE = ("check", "image_classifier.py:job", "--max-usd", "100", "--compare-to", "HEAD~1")


def main() -> None:
    """Run the command line."""
    parser = case_parser(__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    times_s: dict[str, list[float]] = {name: [] for name in LIMITS_S}
    for _ in range(arguments.repeat):
        for name, seconds in one_round().items():
            times_s[name].append(seconds)
    cases: dict[str, Case] = {}
    for name, limit_s in LIMITS_S.items():
        median_s = statistics.median(times_s[name])
        cases[name] = Case(median_s, limit_s, median_s / limit_s, "s")
        print(f"{name:<12}{median_s:>8.2f} s of CPU; the limit is {limit_s:g} s")
    write_cases(arguments.json, cases)


def one_round() -> dict[str, float]:
    """Return the CPU seconds of each case, in a new repository with an empty cache."""
    with tempfile.TemporaryDirectory() as name:
        repository = Path(name, "project")
        repository.mkdir()
        os.environ["TRAINFARE_TRACE_CACHE"] = str(Path(name, "traces"))
        job = repository / "image_classifier.py"
        shutil.copy(TOP / "examples" / job.name, job)
        _git(repository, "init", "--quiet")
        _commit(repository, "a job")
        (repository / "README.md").write_text("one\n", encoding="utf-8")
        _commit(repository, "words")
        seconds = {"first": cpu_s(TOP, GATE, repository)}
        (repository / "README.md").write_text("two\n", encoding="utf-8")
        _commit(repository, "other words")
        seconds["untouched"] = cpu_s(TOP, GATE, repository)
        job.write_text(
            job.read_text(encoding="utf-8").replace("width: int = 64", "width: int = 96"), encoding="utf-8"
        )
        _commit(repository, "a wider network")
        seconds["touched"] = cpu_s(TOP, GATE, repository)
        return seconds


def _commit(repository: Path, message: str) -> None:
    _git(repository, "add", "--all")
    _git(repository, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", message)


def _git(repository: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=repository, check=True)


if __name__ == "__main__":
    main()
