"""What becomes of the files that the user's code has written into its sandbox, told in a line, and kept where asked."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from trainfare.sandbox import join_names
from trainfare.user_process.messages import WrittenFile
from trainfare_core.errors import TargetError

_DATA_BYTES: Final = 2**20
"""Bytes of new files from which `--keep-data` is named. Chosen: no log is as large, few data sets are smaller."""

_MB: Final = 10**6


def keep_new(written: Iterable[WrittenFile], process: int) -> tuple[WrittenFile, ...]:
    """
    Copy new files and folders out of the sandbox of a running process, and return them; no file that exists changes.

    Raises:
        TargetError: one cannot be copied.
    """
    new = tuple(item for item in written if item.is_new)
    for item in new:
        path, source = Path(item.path), Path(item.view)
        if source == path:  # which is another file for the process
            source = Path(f"/proc/{process}/root") / path.relative_to("/")
        try:
            if source.is_dir() and not source.is_symlink():
                shutil.copytree(source, path, symlinks=True, dirs_exist_ok=True)
            elif not path.exists():
                shutil.copy2(source, path, follow_symlinks=False)
        except (OSError, shutil.Error) as error:
            raise TargetError(f"--keep-data: {item.path} could not be kept: {error}") from error
    return new


def describe_written(written: Sequence[WrittenFile], kept: Sequence[WrittenFile], target: str) -> list[str]:
    """Return what a command says of the files that a TARGET has written, a line each."""
    lines: list[str] = []
    if kept:
        lines.append(f"{target} wrote {_join(kept)} before its training, {_sum_bytes(kept)}: kept")
    folders = [Path(item.path) for item in kept]
    gone = [item for item in written if not any(Path(item.path).is_relative_to(folder) for folder in folders)]
    if gone:
        new_bytes = sum(item.bytes for item in gone if item.is_new)
        way = (
            "; --keep-data keeps the new files that it writes before its training"
            if new_bytes >= _DATA_BYTES
            else ""
        )
        lines.append(
            f"{target} wrote {_join(gone)}, {_sum_bytes(gone)}: thrown away, as nothing is to stay before launch{way}"
        )
    return lines


def _join(written: Iterable[WrittenFile]) -> str:
    return join_names([item.path.removeprefix(f"{Path.cwd()}/") for item in written])


def _sum_bytes(written: Iterable[WrittenFile]) -> str:
    size_bytes = sum(item.bytes for item in written)
    return f"{size_bytes:,} bytes" if size_bytes < _MB else f"{size_bytes / _MB:,.1f} MB"
