"""
Read Parquet that others wrote, in a process of its own.

One wrong byte of a page header makes polars ask for more memory than any machine has, and the standard library of Rust
then ends the process: no exception can be caught. Price files of ours have a checksum and are read where they are used.
"""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Final

import polars as pl

from trainfare_core.errors import PricesUnavailableError
from trainfare_core.prices.parquet import read_table

_BOOT: Final = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from trainfare_providers.disk.foreign_parquet import main; main()"
)
_NOT_THERE, _REFUSED = 3, 4
"""Exit codes; Python itself ends with 1 or 2."""


def read_foreign_table(where: str, *, limit_s: float | None = None) -> pl.DataFrame:
    """
    Return the rows of Parquet files.

    Args:
        where: a path, or an address or pattern that polars can read. It goes through a pipe: others can see arguments.
        limit_s: seconds to wait; None waits for as long as it takes.

    Raises:
        PricesUnavailableError: nothing is there, it is no Parquet or damaged, or there was no answer in time; the text
            says which, and does not quote the address.
    """
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, without a shell
            [sys.executable, "-c", _BOOT, *sys.path],
            input=where.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # of polars: it may quote the address
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PricesUnavailableError(f"no answer within {limit_s:g} s") from None
    if done.returncode == _NOT_THERE:
        raise PricesUnavailableError("nothing is there")
    if done.returncode == _REFUSED:
        raise PricesUnavailableError(f"it cannot be read ({done.stdout.decode()})")
    if done.returncode:
        code = done.returncode
        raise PricesUnavailableError(
            f"it cannot be read (its reader ended with code {code}: it may be damaged)"
        )
    return pl.read_ipc_stream(io.BytesIO(done.stdout))


def main() -> None:
    """Read what standard input names and write its rows to standard output, as an Arrow stream."""
    where = sys.stdin.buffer.read().decode()
    try:
        rows = read_table(where)
    except FileNotFoundError:
        sys.exit(_NOT_THERE)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        sys.stdout.write(type(error).__name__)
        sys.exit(_REFUSED)
    rows.write_ipc_stream(sys.stdout.buffer)
