"""What the commands that fit coefficients and score fits do alike: options, digests, and the files they write."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from trainfare_core.documents import Document
from trainfare_research.data import TABLES
from trainfare_research.fits import path_of
from trainfare_research.fitting.table_lines import Line
from trainfare_research.truth_table import find_table, write_json, write_rows

MEASUREMENTS: Final = TABLES / "calibration"
"""Our own tables of steps, kernels and links."""


def fit_parser(description: str | None, calibration: str, record: str) -> argparse.ArgumentParser:
    """
    Return a parser of the options that these fits share.

    Args:
        description: of the command.
        calibration: name of the file of coefficients that ships.
        record: name of what benchmarks read of the fit.
    """
    shipped = Path(f"core/trainfare_core/data/{calibration}.json")
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--data", type=Path, default=MEASUREMENTS, help="folder of the measurements; else our own"
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder of traces")
    parser.add_argument("--date", required=True, help="written into the file; the fit itself reads no clock")
    parser.add_argument("--out", type=Path, default=shipped, help="the coefficients")
    parser.add_argument(
        "--record", type=Path, default=path_of(record), help="what benchmarks read of the fit"
    )
    return parser


def digest(files: Iterable[Path]) -> str:
    """Return one SHA-256 over files, in this order."""
    return hashlib.sha256(b"".join(find_table(path).read_bytes() for path in files)).hexdigest()


def write_fit(arguments: argparse.Namespace, coefficients: dict[str, Any], record: Document) -> None:
    """Write the coefficients that ship and what benchmarks read of the fit, where the options say."""
    write_json(arguments.out, coefficients, sort_keys=True)
    arguments.record.write_text(record.to_json(), encoding="utf-8")
    print(f"wrote {arguments.out} and {arguments.record}")


def table_command(
    description: str, lines_of: Callable[[Path, Path], Iterable[Line]], argv: Sequence[str] | None = None
) -> None:
    """
    Run a command that prints a table line by line, and writes it as CSV where `--out` says.

    Args:
        description: of the command.
        lines_of: makes the lines of the folder of measurements and the folder of traces.
        argv: arguments; those of the process where it is None.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--data", type=Path, default=MEASUREMENTS, help="folder of the measurements; else our own"
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder of traces")
    parser.add_argument("--out", type=Path, help="write the table here as CSV")
    arguments = parser.parse_args(argv)
    lines = []
    for line in lines_of(arguments.data, arguments.cache):
        lines.append(line)
        print("  ".join(line.values()), flush=True)
    if arguments.out:
        write_rows(arguments.out, lines)
