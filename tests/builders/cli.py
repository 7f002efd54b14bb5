"""Commands as tests run them: in the process of the test, or in a process of their own on real pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class CliResult:
    """How a command ended, and what it wrote."""

    exit_code: int
    stdout: str
    stderr: str


def run_python(
    *arguments: object,
    cwd: Path | None = None,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    check: bool = False,
    python: str | None = None,
) -> CliResult:
    """Run Python in a process of its own, with variables besides those of the test; `check` that it ends with 0."""
    done = subprocess.run(
        [python or sys.executable, *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not (check and done.returncode), done.stdout + done.stderr
    return CliResult(done.returncode, done.stdout, done.stderr)


def run_cli(*arguments: object, **how: Any) -> CliResult:
    """Run a command of trainfare in a process of its own, as `run_python` does."""
    return run_python("-m", "trainfare", *arguments, **how)


def run_main(*arguments: object) -> int:
    """Run a command of trainfare in this process and return its exit code; `capsys` has what it prints."""
    from trainfare.cli import main

    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    return int(str(end.value.code or 0))


def capture_main(capsys: pytest.CaptureFixture[str], *arguments: object) -> CliResult:
    """Run a command of trainfare in this process and return how it ended, with what it printed and no more."""
    capsys.readouterr()
    return CliResult(run_main(*arguments), *capsys.readouterr())
