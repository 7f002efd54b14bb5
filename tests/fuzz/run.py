"""
Fuzz the readers one after the other: `python -m fuzz.run [--seconds 600] [--keep] [TARGET ...]`.

Each target runs in a process of its own (`fuzz.worker`). What it found lies in `.cache/fuzz/TARGET/findings`, what it
learned in `.cache/fuzz/TARGET/corpus`, from where the next run goes on; `--keep` writes the smallest inputs that reach the
same, and those of findings, into the corpus in the repository. The outcome goes to `tests/evidence/fuzz.json`; the exit code is 1 after a finding.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from fuzz.target import Target
from fuzz.targets import TARGETS, corpus_of

TOP: Final = Path(__file__).parents[2]
RESULTS: Final = TOP / "tests" / "evidence" / "fuzz.json"
WORK: Final = TOP / ".cache" / "fuzz"
INPUT_S: Final = 20
"""An input that takes longer is a finding: chosen, many times the slowest seed under instrumentation on a busy machine."""
MEMORY_MIB: Final = 3072
"""Memory beyond which an input is a finding. Torch, polars and the instrumentation take a third of it."""
STARTS: Final = 4
"""A target whose process ends early, for a hang or full memory, is started again so often in one run."""
KEPT_FILES: Final = 24
KEPT_BYTES: Final = 32 * 1024
"""Most of one target's corpus in the repository: all together stay below 1 MB, and the replay below a minute."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What a run of one target came to.

    Attributes:
        seconds: for which it ran.
        executions: inputs that were read.
        findings: places where something else than an error of ours came up, in words.
        date: of the run, YYYY-MM-DD.
        python, atheris: versions.
    """

    target: str
    seconds: int
    executions: int
    findings: tuple[str, ...]
    date: str
    python: str
    atheris: str


def main(arguments: list[str] | None = None) -> int:
    """Run the targets and return the exit code."""
    parser = argparse.ArgumentParser(prog="fuzz.run", description=__doc__.splitlines()[1])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; none is all")
    parser.add_argument("--seconds", type=int, default=600, help="for each target (600)")
    parser.add_argument("--keep", action="store_true", help="write the corpus in the repository")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to write the outcome to")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.targets) - set(TARGETS))
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    number = 0
    for name in options.targets or TARGETS:
        outcome = fuzz(TARGETS[name], options.seconds)
        print(
            f"{name}: {outcome.executions:,} inputs in {outcome.seconds} s, {len(outcome.findings)} findings",
            flush=True,
        )
        for finding in outcome.findings:
            print(f"  {finding} (see {WORK / name / 'findings'})", flush=True)
        number += len(outcome.findings)
        options.results.parent.mkdir(parents=True, exist_ok=True)
        before = options.results.read_text(encoding="utf-8") if options.results.is_file() else "[]"
        options.results.write_text(with_outcomes(before, [outcome]), encoding="utf-8")
        if options.keep:
            keep(TARGETS[name])
    return int(number > 0)


def with_outcomes(before: str, outcomes: list[Outcome]) -> str:
    """Return the JSON of all outcomes, sorted by target, a new one in place of the last of its target."""
    known = {load["target"]: load for load in json.loads(before)}
    known |= {outcome.target: asdict(outcome) for outcome in outcomes}
    lines = ",\n".join(json.dumps(known[name]) for name in sorted(known) if name in TARGETS)
    return f"[\n{lines}\n]\n"


def fuzz(target: Target, seconds: int) -> Outcome:
    """Fuzz one target for some seconds."""
    corpus, findings = WORK / target.name / "corpus", WORK / target.name / "findings"
    shutil.rmtree(findings, ignore_errors=True)
    findings.mkdir(parents=True)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    began, executions = datetime.now(timezone.utc), 0
    for _ in range(STARTS):
        left = seconds - _seconds_since(began)
        if left <= 0:
            break
        done = _worker(
            target,
            findings,
            f"-max_total_time={left}",
            f"-artifact_prefix={findings}/",
            *_folders(target, corpus),
        )
        counts = re.findall(r"^#(\d+)", done, re.MULTILINE)
        executions += int(counts[-1]) if counts else 0
    return Outcome(
        target.name,
        _seconds_since(began),
        executions,
        _find_job(findings),
        began.date().isoformat(),
        platform.python_version(),
        importlib.metadata.version("atheris"),
    )


def _seconds_since(began: datetime) -> int:
    return int((datetime.now(timezone.utc) - began).total_seconds())


def _folders(target: Target, corpus: Path) -> list[str]:
    """Return the folders to read inputs from; libFuzzer writes new ones to the first."""
    return [str(corpus), *([str(corpus_of(target))] if corpus_of(target).is_dir() else [])]


def launcher(path: Path, command: list[str]) -> str:
    """Write an executable that runs a command with more arguments: a merge starts its own process again."""
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def limits_of(target: Target) -> tuple[str, ...]:
    """Return libFuzzer's limits of one input. It calls half of the time-out slow where nothing is said, and keeps a file."""
    return (
        f"-max_len={target.max_bytes}", f"-timeout={INPUT_S}", f"-report_slow_units={INPUT_S}",
        f"-rss_limit_mb={MEMORY_MIB}", "-print_final_stats=1",
    )  # fmt: skip


def _worker(target: Target, findings: Path, *options: str) -> str:
    """Run libFuzzer on a target and return what it says."""
    command = [sys.executable, "-m", "fuzz.worker", target.name, str(findings), *limits_of(target), *options]
    path = os.pathsep.join([str(TOP / "tests"), os.environ.get("PYTHONPATH", "")])
    log = findings.parent / "log.txt"
    with log.open("w", encoding="utf-8") as output:
        subprocess.run(
            command,
            cwd=TOP,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )
    return log.read_text(encoding="utf-8", errors="replace")


def _find_job(findings: Path) -> tuple[str, ...]:
    """Return a line for each finding: what was raised, and the inputs that ended the process."""
    raised = [
        path.read_text(encoding="utf-8").splitlines()[0] for path in sorted(findings.glob("found-*.txt"))
    ]
    ended = [path.name for path in sorted(findings.iterdir()) if not path.name.startswith("found-")]
    return (*raised, *ended)


def keep(target: Target) -> None:
    """Write the smallest inputs that reach what all known ones reach into the repository, up to the limits."""
    merged = WORK / target.name / "merged"
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir(parents=True)
    folders = _folders(target, WORK / target.name / "corpus")
    _worker(target, WORK / target.name / "findings", "-merge=1", str(merged), *folders)
    folder = corpus_of(target)
    folder.mkdir(parents=True, exist_ok=True)
    keep_findings(WORK / target.name / "findings", folder)
    keep_inputs(merged, folder)


def keep_inputs(merged: Path, folder: Path) -> None:
    """Put the inputs of a merge in place of a corpus; a merge that was stopped has none, and changes nothing."""
    inputs = sorted((path.read_bytes() for path in merged.iterdir()), key=lambda data: (len(data), data))
    if not inputs:
        return
    size_bytes = 0
    for path in folder.glob("*"):
        if not path.name.startswith("found-"):  # what once was a finding stays
            path.unlink()
    for number, data in enumerate(inputs[:: max(1, len(inputs) // KEPT_FILES)]):
        size_bytes += len(data)
        if number >= KEPT_FILES or size_bytes > KEPT_BYTES:
            break
        (folder / f"{number:02}").write_bytes(data)


def keep_findings(findings: Path, folder: Path) -> None:
    """Copy the inputs of findings into a corpus as `found-...`, whose replay fails until the reader is mended."""
    for path in sorted(findings.iterdir()):
        if path.suffix != ".txt":
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            (folder / f"found-{digest[:12]}").write_bytes(path.read_bytes())


if __name__ == "__main__":
    raise SystemExit(main())
