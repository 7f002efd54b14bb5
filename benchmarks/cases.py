"""What every runner that measures speed or memory does alike: its options, its figures, and the file that it writes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


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
