"""
Fuzz one target in this process: `python -m fuzz.worker TARGET FINDINGS [libFuzzer options]`.

Whatever a reader raises besides an error of ours is written to the folder FINDINGS, once for each place it came from, and
fuzzing goes on; what hangs, or fills the memory, ends the process, and libFuzzer writes the input there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import traceback
from pathlib import Path
from random import Random
from typing import Final

import atheris

os.environ.setdefault(
    "POLARS_MAX_THREADS", "1"
)  # tables of a few rows: threads would only wait for each other
_OURS: Final = ("trainfare_core", "trainfare_providers", "trainfare")

with atheris.instrument_imports(
    include=[*_OURS, "yaml", "tomllib", "csv", "json"], enable_loader_override=False
):
    from fuzz.mutations import mutate
    from fuzz.run import launcher
    from fuzz.target import refusal
    from fuzz.targets import TARGETS, inputs_of


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    target, findings = TARGETS[sys.argv[1]], Path(sys.argv[2])
    logging.disable()
    known: set[str] = set()

    def one_input(data: bytes) -> None:
        try:
            refusal(target, data)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever it is, it is a finding
            where = _place_of(error)
            if where not in known:
                known.add(where)
                _keep(findings, data, where, error)

    def change(data: bytes, max_bytes: int, seed: int) -> bytes:
        return mutate(target.form, data, max_bytes, Random(seed), atheris.Mutate)

    # Once without the fuzzer: what is imported late is imported before the memory and the time are watched.
    for _, data in inputs_of(target):
        one_input(data)
    again = launcher(findings.parent / "again", [sys.executable, "-m", "fuzz.worker", *sys.argv[1:3]])
    atheris.Setup([again, *sys.argv[3:]], one_input, custom_mutator=change)
    atheris.Fuzz()


def _place_of(error: BaseException) -> str:
    """Return the kind of an error and the last line of ours that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if any(f"/{name}/" in frame.filename for name in (*_OURS, "fuzz"))]
    last = ours[-1] if ours else frames[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


def _keep(findings: Path, data: bytes, where: str, error: BaseException) -> None:
    name = hashlib.sha256(where.encode()).hexdigest()[:12]
    (findings / f"found-{name}").write_bytes(data)
    text = "".join(traceback.format_exception(error))
    (findings / f"found-{name}.txt").write_text(
        f"{where}\n\n{text}", encoding="utf-8", errors="backslashreplace"
    )


if __name__ == "__main__":
    main()
