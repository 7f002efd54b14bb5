"""What every runner that measures speed or memory does alike: its options, its figures, and the file that it writes."""

from __future__ import annotations

import argparse
import json
import resource
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")

WORKLOADS: Final[Mapping[str, str]] = yaml.safe_load(
    Path(__file__).with_name("workloads.yaml").read_text(encoding="utf-8")
)
"""Training scripts, by name."""


@dataclass(frozen=True)
class Case:
    """Our figure, that of a peer (or the limit) for the same work where there is one, and the ratio of the two."""

    ours: float
    peer: float | None
    ratio: float | None
    unit: str


def case_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with `--json`, and `description` printed as it is written."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there")
    return parser


def write_cases(path: Path | None, cases: Mapping[str, Case]) -> None:
    """Write the cases by name; nothing where no path was given."""
    write_json(path, {"cases": {name: asdict(case) for name, case in cases.items()}})


def write_json(path: Path | None, document: dict[str, Any]) -> None:
    """Write a document; nothing where no path was given."""
    if path is not None:
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def in_a_fresh_process(work: Callable[[_Argument], _Result], argument: _Argument) -> _Result:
    """Return what a function of a module returns in a new interpreter, whose memory holds nothing of this one's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, argument).result()


def peak_resident_bytes() -> int:
    """Return the largest resident memory of this process so far; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
